{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
{%- set carried = salt['rabbit_topology.erlang_cookie_source']() != 'pillar' %}
{%- set host = salt['rabbit_topology.host']() %}
{%- set node_type = host.get('node_type') %}
include:
  - rabbit_ha.rabbitmq.configuration_loaded

RabbitMQ is a member of the cluster:
  rabbit_cluster.joined:
    - name: {{ salt['rabbit_topology.seed_node']() }}
    - contacts: {{ salt['rabbit_topology.contacts']() | json }}
    - service: {{ rabbitmq.service | json }}
    - timeout: {{ rabbitmq.join_timeout }}
    - cookie_is_carried: {{ carried and not pillar.get('rabbit_ha_orchestrated', false) }}
    - node_type: {{ node_type | json }}
    - discard_local_data: {{ host.get('discard_local_data', false) }}
    - require:
      - sls: rabbit_ha.rabbitmq.configuration_loaded
{%- if node_type and not salt['rabbit_topology.is_seed']() %}

RabbitMQ is a {{ node_type }} node:
  rabbit_cluster.node_type:
    - name: {{ node_type }}
    - discard_local_data: {{ host.get('discard_local_data', false) }}
    # A change resets the node, so one whose type pillar does not name keeps what it is.
    - require:
      - rabbit_cluster: RabbitMQ is a member of the cluster
{%- endif %}
