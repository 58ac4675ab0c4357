# Pillar gives the Erlang cookie, or the orchestration hands over the seed's,
# sealed for this minion.
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
include:
  - rabbit_ha.rabbitmq.installed

The Erlang cookie is the cluster's:
  rabbit_cookie.synced:
    - service: {{ rabbitmq.service | json }}
    - source: {{ salt['rabbit_topology.erlang_cookie_source']() }}
    - sealed: {{ pillar.get('rabbit_ha_sealed_cookies', {}).get(grains['id']) | json }}
    - discard_local_data: {{ salt['rabbit_topology.host']().get('discard_local_data', false) }}
    - require:
      - sls: rabbit_ha.rabbitmq.installed
