{%- set keepalived = salt['rabbit_topology.keepalived']() %}
include:
  - rabbit_ha.keepalived.configured

systemd knows keepalived's settings:
  rabbit_node.unit_loaded:
    - name: {{ keepalived.service | json }}
    - require:
      - sls: rabbit_ha.keepalived.configured
    - watch:
      - file: systemd brings a keepalived that died back

keepalived runs the program that is installed:
  rabbit_failover.program_in_use:
    - name: {{ keepalived.service | json }}
    - program: {{ keepalived.program }}
    # One that was started without them reads its own file.
    - arguments: {{ keepalived.needed_arguments | json }}
    - check: {{ salt['rabbit_topology.keepalived_check']() | json }}
    - require:
      - rabbit_node: systemd knows keepalived's settings

keepalived is running and starts at boot:
  service.running:
    - name: {{ keepalived.service | json }}
    - enable: true
    - require:
      - rabbit_failover: keepalived runs the program that is installed

keepalived has read its configuration:
  rabbit_failover.configuration_in_use:
    - name: {{ keepalived.service | json }}
    - files: {{ [keepalived.config_file, keepalived.config_dir] | json }}
    - require:
      - service: keepalived is running and starts at boot
    - watch:
      - rabbit_configuration: keepalived has its configuration
{%- set addresses = salt['rabbit_topology.addresses_taken']() %}
{%- if addresses %}

This host holds the virtual address:
  rabbit_failover.addresses_held:
    - addresses: {{ addresses | json }}
    - seconds: {{ salt['rabbit_topology.seconds_to_take']() }}
    - require:
      - service: keepalived is running and starts at boot
{%- endif %}
