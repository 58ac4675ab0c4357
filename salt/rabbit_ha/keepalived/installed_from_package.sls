{%- set keepalived = salt['rabbit_topology.keepalived']() %}
include:
  - rabbit_ha.keepalived.installed

keepalived is installed:
  pkg.installed:
    - pkgs: {{ keepalived.packages | json }}
    - require:
      - sls: rabbit_ha.hosts.named
      - file: keepalived has a folder for its configuration

No keepalived from source is in use:
  keepalived_build.absent:
    - name: {{ keepalived.program_as_built }}
    - unit: {{ keepalived.unit_as_built }}
    - require:
      - pkg: keepalived is installed
