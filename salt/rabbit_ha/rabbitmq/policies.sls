# Once a cluster, on the seed: the other members have it from there.
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
include:
  - rabbit_ha.rabbitmq.clustered

The cluster has its name:
  rabbit_cluster.named:
    - name: {{ rabbitmq.cluster_name }}
    - require:
      - sls: rabbit_ha.rabbitmq.clustered

The cluster has its vhosts, users and policies:
  rabbit_definitions.present:
    - vhosts: {{ rabbitmq.vhosts | json }}
    - users: {{ rabbitmq.users | json }}
    - policies: {{ rabbitmq.policies | json }}
    - ha: {{ rabbitmq.ha }}
    - require:
      - sls: rabbit_ha.rabbitmq.clustered
