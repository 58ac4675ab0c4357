include:
  - rabbit_ha.keepalived.installed
  - rabbit_ha.keepalived.configured
  - rabbit_ha.keepalived.running
