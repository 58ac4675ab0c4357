# A host that was a broker goes on being a member, and its messages are not Salt's to lose.
{%- if 'broker' not in salt['rabbit_topology.roles']() %}
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
{%- set config = rabbitmq.config_dir ~ '/rabbitmq.conf' %}
{%- if salt['file.contains'](config, 'Written by Salt: pillar rabbit_ha:rabbitmq') %}

RabbitMQ is stopped by hand on a host that is no broker:
  rabbit_node.no_broker:
    - name: {{ rabbitmq.service | json }}
{%- endif %}
{%- endif %}
