{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.haproxy.installed

HAProxy has its configuration:
  rabbit_configuration.checked:
    - name: {{ haproxy.config_file }}
    - source: salt://rabbit_ha/haproxy/files/haproxy.cfg.j2
    - folder: {{ haproxy.config_dir }}
    - suffix: .cfg
    - snippets: rabbit_ha:haproxy:snippets
    - check: {{ salt['rabbit_topology.haproxy_check']('{root}') | json }}
    - require:
      - sls: rabbit_ha.haproxy.installed
