# All brokers at the same time, as long as none of them serves.
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
include:
  - rabbit_ha.rabbitmq.installed
  - rabbit_ha.rabbitmq.plugins_listed
  - rabbit_ha.rabbitmq.cookie
  - rabbit_ha.rabbitmq.running

RabbitMQ's plugins are enabled:
  rabbit_node.plugins_enabled:
    - name: {{ rabbitmq.config_dir }}/enabled_plugins
    - plugins: {{ salt['rabbit_topology.plugins']() | json }}
    - require:
      - sls: rabbit_ha.rabbitmq.running

RabbitMQ runs with its configuration:
  rabbit_node.configuration_loaded:
    - name: {{ rabbitmq.config_dir }}/rabbitmq.conf
    - service: {{ rabbitmq.service | json }}
    - require:
      - sls: rabbit_ha.rabbitmq.running
    - watch:
      - file: RabbitMQ has its configuration
