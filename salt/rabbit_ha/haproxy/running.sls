{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.haproxy.configured

systemd knows HAProxy's settings:
  rabbit_node.unit_loaded:
    - name: {{ haproxy.service }}
    - require:
      - sls: rabbit_ha.haproxy.configured
    - watch:
      - file: systemd brings a HAProxy that died back

HAProxy runs the program that is installed:
  rabbit_failover.program_in_use:
    - name: {{ haproxy.service }}
    - program: {{ haproxy.program }}
    - arguments: {{ haproxy.arguments | json }}
    - check: {{ ([haproxy.program, '-c'] + haproxy.arguments) | json }}
    - require:
      - rabbit_node: systemd knows HAProxy's settings

HAProxy is running and starts at boot:
  service.running:
    - name: {{ haproxy.service }}
    - enable: true
    - require:
      - rabbit_failover: HAProxy runs the program that is installed

HAProxy has read its configuration:
  rabbit_failover.configuration_in_use:
    - name: {{ haproxy.service }}
    - files: {{ [haproxy.config_file, haproxy.config_dir] | json }}
    - require:
      - service: HAProxy is running and starts at boot
    - watch:
      - rabbit_configuration: HAProxy has its configuration
