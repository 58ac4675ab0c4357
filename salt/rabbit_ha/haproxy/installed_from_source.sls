{%- set haproxy = salt['rabbit_topology.haproxy']() %}
{%- set plan = salt['haproxy_build.plan'](**haproxy.source) %}
include:
  - rabbit_ha.haproxy.installed

HAProxy has what building it needs:
  pkg.installed:
    - pkgs: {{ plan.dependencies | json }}
    - require:
      - sls: rabbit_ha.hosts.named

HAProxy is built from source:
  haproxy_build.installed:
    - name: {{ haproxy.program_as_built }}
    - version: {{ haproxy.source.version | json }}
    - url: {{ haproxy.source.url | json }}
    - checksum: {{ haproxy.source.checksum | json }}
    - options: {{ haproxy.source.options | json }}
    - require:
      - pkg: HAProxy has what building it needs

systemd runs HAProxy as built:
  file.managed:
    - name: {{ haproxy.unit_as_built }}
    - source: salt://rabbit_ha/haproxy/files/haproxy.service.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'
    - require:
      - haproxy_build: HAProxy is built from source
      - user: HAProxy has a user that nobody can log in as
      - file: HAProxy has folders for its configuration, and the one that it confines itself to
      - file: systemd brings a HAProxy that died back

systemd uses the unit of HAProxy as built:
  rabbit_failover.unit_in_use:
    - name: {{ haproxy.service | json }}
    - unit: {{ haproxy.unit_as_built }}
    - require:
      - file: systemd runs HAProxy as built
