{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
include:
  - rabbit_ha.hosts.named
  - rabbit_ha.rabbitmq.configured

RabbitMQ is installed:
  pkg.installed:
    - pkgs: {{ rabbitmq.packages | json }}
    - require:
      - sls: rabbit_ha.hosts.named
      - sls: rabbit_ha.rabbitmq.configured
