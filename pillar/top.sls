# The topology goes to all, as the orchestration reads it too; a secret only to
# the roles that need it.
{%- import_yaml 'rabbit_ha/topology.sls' as topology %}
base:
  '*':
    - rabbit_ha.topology
    - rabbit_ha.rabbitmq
    - rabbit_ha.haproxy
    - rabbit_ha.keepalived
{%- for host, described in topology.rabbit_ha.hosts.items() %}
  {{ host }}:
    - match: list
    - ignore_missing: true
  {%- for role in described.roles %}
    - rabbit_ha.secrets.{{ role }}
  {%- endfor %}
{%- endfor %}
