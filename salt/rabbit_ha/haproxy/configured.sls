{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.haproxy.installed

HAProxy has its configuration:
  file.managed:
    - name: {{ haproxy.config_file }}
    - source: salt://rabbit_ha/haproxy/files/haproxy.cfg.j2
    - template: jinja
    # It holds the statistics page's password.
    - user: root
    - group: root
    - mode: '0600'
    - show_changes: false
    # HAProxy judges the new file before it replaces the running one.
    - check_cmd: haproxy -c -q -f
    - require:
      - sls: rabbit_ha.haproxy.installed
