# Once a cluster, on the seed: the other members have it from there.
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
{%- set host = salt['rabbit_topology.host']() %}
include:
  - rabbit_ha.rabbitmq.clustered

The cluster has its name:
  rabbit_cluster.named:
    - name: {{ rabbitmq.cluster_name | json }}
    - require:
      - sls: rabbit_ha.rabbitmq.clustered

The cluster has its vhosts, users and policies:
  rabbit_definitions.present:
    - vhosts: {{ rabbitmq.vhosts | json }}
    - users: {{ rabbitmq.users | json }}
    - policies: {{ salt['rabbit_topology.policies']() | json }}
    - parameters: {{ rabbitmq.parameters | json }}
    - global_parameters: {{ rabbitmq.global_parameters | json }}
    - ha: {{ rabbitmq.ha }}
    - require:
      - sls: rabbit_ha.rabbitmq.clustered

# It has the hashes of passwords, and a run that was killed could not remove it.
No file is left from writing them:
  file.absent:
    - name: {{ salt['rabbitmqctl.import_file']() }}

{%- if host.get('node_type') %}

The seed is a {{ host.node_type }} node:
  rabbit_cluster.node_type:
    - name: {{ host.node_type }}
    - discard_local_data: {{ host.get('discard_local_data', false) }}
    # Only now there is another disc node; and one that is to be the last may be forgotten below.
    - require:
      - sls: rabbit_ha.rabbitmq.clustered
{%- endif %}
{%- for gone in rabbitmq.absent_members %}

{{ gone }} is no member any more:
  rabbit_cluster.member_absent:
    - name: {{ salt['rabbit_topology.node_name'](gone) }}
    - require:
      - sls: rabbit_ha.rabbitmq.clustered
{%- endfor %}
