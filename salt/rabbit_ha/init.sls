# All that pillar's roles ask of this host.
{%- set roles = salt['rabbit_topology.roles']() %}
include:
  - rabbit_ha.hosts
  - rabbit_ha.no_load_balancer
  - rabbit_ha.no_broker
{%- if 'broker' in roles %}
  - rabbit_ha.rabbitmq
{%- endif %}
{%- if 'load_balancer' in roles %}
  - rabbit_ha.haproxy
  - rabbit_ha.keepalived
{%- endif %}
