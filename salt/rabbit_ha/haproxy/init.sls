include:
  - rabbit_ha.haproxy.installed
  - rabbit_ha.haproxy.configured
  - rabbit_ha.haproxy.running
