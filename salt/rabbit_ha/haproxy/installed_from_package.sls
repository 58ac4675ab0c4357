{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.haproxy.installed

HAProxy is installed:
  pkg.installed:
    - pkgs: {{ haproxy.packages | json }}
    - require:
      - sls: rabbit_ha.hosts.named
      # Then the package finds its user there, and test mode tells the truth.
      - user: HAProxy has a user that nobody can log in as
      # The package starts it at once, with the folder.
      - file: HAProxy has folders for its configuration, and the one that it confines itself to

No HAProxy from source is in use:
  haproxy_build.absent:
    - name: {{ haproxy.program_as_built }}
    - unit: {{ haproxy.unit_as_built }}
    - require:
      - pkg: HAProxy is installed
