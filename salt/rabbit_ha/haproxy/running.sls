{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.haproxy.configured

systemd knows HAProxy's settings:
  rabbit_node.unit_loaded:
    - name: {{ haproxy.service }}
    - require:
      - sls: rabbit_ha.haproxy.configured

HAProxy is running and starts at boot:
  service.running:
    - name: {{ haproxy.service }}
    - enable: true
    # A restart would drop every connection.
    - reload: true
    - require:
      - rabbit_node: systemd knows HAProxy's settings
    - watch:
      - file: HAProxy has its configuration
