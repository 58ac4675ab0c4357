{%- set keepalived = salt['rabbit_topology.keepalived']() %}
include:
  - rabbit_ha.keepalived.configured

systemd knows keepalived's settings:
  rabbit_node.unit_loaded:
    - name: {{ keepalived.service }}
    - require:
      - sls: rabbit_ha.keepalived.configured

keepalived is running and starts at boot:
  service.running:
    - name: {{ keepalived.service }}
    - enable: true
    # A restart would give the address away for a moment.
    - reload: true
    - require:
      - rabbit_node: systemd knows keepalived's settings
    - watch:
      - file: keepalived has its configuration
