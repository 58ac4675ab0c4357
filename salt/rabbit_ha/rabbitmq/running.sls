{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
include:
  - rabbit_ha.rabbitmq.cookie

RabbitMQ is running and starts at boot:
  rabbit_node.running:
    - name: {{ rabbitmq.service | json }}
    - contacts: {{ salt['rabbit_topology.contacts']() | json }}
    - timeout: {{ rabbitmq.join_timeout }}
    - require:
      - sls: rabbit_ha.rabbitmq.cookie

Clients wait until RabbitMQ is a member of the cluster:
  rabbit_node.clients_wait:
    - name: {{ rabbitmq.service | json }}
    - require:
      - rabbit_node: RabbitMQ is running and starts at boot
