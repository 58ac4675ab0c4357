# yaml-language-server: $schema=../../salt/rabbit_ha/pillar.schema.json
# Which hosts there are and what each is for. Host names are minion ids.
# Nothing else in this repository names a host, an address or a role.
rabbit_ha:
  network: 192.168.123.0/24
  virtual_address: 192.168.123.123
  seed: rabbitmq-node1
  hosts:
    rabbitmq-node1:
      address: 192.168.123.36
      roles: [broker]
    rabbitmq-node2:
      address: 192.168.123.162
      roles: [broker]
    rabbitmq-node3:
      address: 192.168.123.104
      roles: [broker]
    haproxy-keeplive-node1:
      address: 192.168.123.11
      roles: [load_balancer]
      keepalived: {router_id: node1, state: MASTER, priority: 100}
    haproxy-keeplive-node2:
      address: 192.168.123.220
      roles: [load_balancer]
      keepalived: {router_id: node2, state: BACKUP, priority: 90}
