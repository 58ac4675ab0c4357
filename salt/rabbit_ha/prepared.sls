# What a host needs before the roles work together; nothing here depends on
# another host, so all hosts do it at the same time.
{%- set roles = salt['rabbit_topology.roles']() %}
include:
  - rabbit_ha.hosts
  - rabbit_ha.no_load_balancer
{%- if 'broker' in roles %}
  - rabbit_ha.rabbitmq.running
{%- endif %}
{%- if 'load_balancer' in roles %}
  - rabbit_ha.haproxy.installed
  - rabbit_ha.keepalived.installed
{%- endif %}
