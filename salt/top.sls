{%- set here = 'I@rabbit_ha:hosts:' ~ grains['id'] ~ ':roles:' %}
base:
  {{ here }}broker:
    - match: compound
    - rabbit_ha.hosts
    - rabbit_ha.rabbitmq
  {{ here }}load_balancer:
    - match: compound
    - rabbit_ha.hosts
    - rabbit_ha.haproxy
    - rabbit_ha.keepalived
