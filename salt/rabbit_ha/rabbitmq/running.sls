{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
include:
  - rabbit_ha.rabbitmq.cookie

RabbitMQ is running and starts at boot:
  service.running:
    - name: {{ rabbitmq.service }}
    - enable: true
    - require:
      - sls: rabbit_ha.rabbitmq.cookie

RabbitMQ's plugins are enabled:
  rabbit_node.plugins_enabled:
    - name: {{ rabbitmq.config_dir }}/enabled_plugins
    - plugins: {{ rabbitmq.plugins | json }}
    - require:
      - service: RabbitMQ is running and starts at boot
