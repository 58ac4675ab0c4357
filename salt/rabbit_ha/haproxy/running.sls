{%- set haproxy = salt['rabbit_topology.haproxy']() %}
{%- set snippets = salt['rabbit_configuration.has_snippets'](
      haproxy.config_dir, '.cfg', 'rabbit_ha:haproxy:snippets') %}
include:
  - rabbit_ha.haproxy.configured

systemd knows HAProxy's settings:
  rabbit_node.unit_loaded:
    - name: {{ haproxy.service | json }}
    - require:
      - sls: rabbit_ha.haproxy.configured
    - watch:
      - file: systemd brings a HAProxy that died back

HAProxy runs the program that is installed:
  rabbit_failover.program_in_use:
    - name: {{ haproxy.service | json }}
    - program: {{ haproxy.program }}
    # One that was started without the folder reads all there is while that is empty.
    - arguments: {{ (haproxy.arguments if snippets else haproxy.arguments[:2]) | json }}
    - check: {{ salt['rabbit_topology.haproxy_check']() | json }}
    - require:
      - rabbit_node: systemd knows HAProxy's settings

HAProxy is running and starts at boot:
  service.running:
    - name: {{ haproxy.service | json }}
    - enable: true
    - require:
      - rabbit_failover: HAProxy runs the program that is installed

HAProxy has read its configuration:
  rabbit_failover.configuration_in_use:
    - name: {{ haproxy.service | json }}
    - files: {{ [haproxy.config_file, haproxy.config_dir] | json }}
    - workers: true
    - require:
      - service: HAProxy is running and starts at boot
    - watch:
      - rabbit_configuration: HAProxy has its configuration
