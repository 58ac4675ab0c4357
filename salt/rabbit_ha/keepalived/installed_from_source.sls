{%- set keepalived = salt['rabbit_topology.keepalived']() %}
{%- set plan = salt['keepalived_build.plan'](**keepalived.source) %}
include:
  - rabbit_ha.keepalived.installed

keepalived has what building it needs:
  pkg.installed:
    - pkgs: {{ plan.dependencies | json }}
    - require:
      - sls: rabbit_ha.hosts.named

keepalived is built from source:
  keepalived_build.installed:
    - name: {{ keepalived.program_as_built }}
    - version: {{ keepalived.source.version | json }}
    - url: {{ keepalived.source.url | json }}
    - checksum: {{ keepalived.source.checksum | json }}
    - options: {{ keepalived.source.options | json }}
    - require:
      - pkg: keepalived has what building it needs

systemd runs keepalived as built:
  file.managed:
    - name: {{ keepalived.unit_as_built }}
    - source: salt://rabbit_ha/keepalived/files/keepalived.service.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'
    - require:
      - keepalived_build: keepalived is built from source
      - file: keepalived has a folder for its configuration
      - file: systemd brings a keepalived that died back

systemd uses the unit of keepalived as built:
  rabbit_failover.unit_in_use:
    - name: {{ keepalived.service | json }}
    - unit: {{ keepalived.unit_as_built }}
    - require:
      - file: systemd runs keepalived as built
