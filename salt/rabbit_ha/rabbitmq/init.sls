include:
  - rabbit_ha.rabbitmq.installed
  - rabbit_ha.rabbitmq.plugins_listed
  - rabbit_ha.rabbitmq.cookie
  - rabbit_ha.rabbitmq.running
  - rabbit_ha.rabbitmq.configuration_loaded
  - rabbit_ha.rabbitmq.clustered
{%- if salt['rabbit_topology.is_seed']() %}
  - rabbit_ha.rabbitmq.policies
{%- endif %}
