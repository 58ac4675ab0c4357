{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.haproxy.configured

HAProxy is running and starts at boot:
  service.running:
    - name: {{ haproxy.service }}
    - enable: true
    # A restart would drop every connection.
    - reload: true
    - require:
      - sls: rabbit_ha.haproxy.configured
    - watch:
      - file: HAProxy has its configuration
