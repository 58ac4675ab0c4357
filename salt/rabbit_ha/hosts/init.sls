include:
  - rabbit_ha.hosts.named
