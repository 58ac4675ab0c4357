# Before the cookie: a node that starts again for it, or for its configuration, has them from then on.
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
include:
  - rabbit_ha.rabbitmq.installed

RabbitMQ's plugins are listed where it starts again anyway:
  rabbit_node.plugins_listed:
    - name: {{ rabbitmq.config_dir }}/enabled_plugins
    - plugins: {{ salt['rabbit_topology.plugins']() | json }}
    - config: {{ rabbitmq.config_dir }}/rabbitmq.conf
    - service: {{ rabbitmq.service | json }}
    - require:
      - sls: rabbit_ha.rabbitmq.installed
    - watch:
      - file: RabbitMQ has its configuration
