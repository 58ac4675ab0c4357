# The topology goes to all, as the orchestration reads it too; a secret only to
# the roles that need it. A topology that is wrong gets this far too: the check
# that follows tells what is wrong with it (docs/validation.md).
{%- import_yaml 'rabbit_ha/topology.sls' as topology %}
{%- set topology = topology.rabbit_ha if topology.rabbit_ha is mapping else {} %}
{%- set hosts = topology.hosts if topology.hosts is mapping else {} %}
base:
  '*':
    - rabbit_ha.topology
    - rabbit_ha.rabbitmq
    - rabbit_ha.haproxy
    - rabbit_ha.keepalived
{%- for host, described in hosts.items() if described is mapping and described.roles is sequence %}
  {{ host | json }}:
    - match: list
    - ignore_missing: true
  {%- for role in ('broker', 'load_balancer') if role in described.roles %}
    - rabbit_ha.secrets.{{ role }}
  {%- endfor %}
{%- endfor %}
