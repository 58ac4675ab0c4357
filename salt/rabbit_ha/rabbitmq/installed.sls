include:
  - rabbit_ha.hosts.named
  - rabbit_ha.rabbitmq.configured

RabbitMQ is installed:
  pkg.installed:
    - name: rabbitmq-server
    - require:
      - sls: rabbit_ha.hosts.named
      - sls: rabbit_ha.rabbitmq.configured
