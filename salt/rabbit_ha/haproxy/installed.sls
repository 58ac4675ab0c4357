{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.hosts.named
  - rabbit_ha.haproxy.installed_from_{{ haproxy.install }}

systemd brings a HAProxy that died back:
  file.managed:
    - name: /etc/systemd/system/{{ haproxy.service }}.service.d/rabbit_ha.conf
    - source: salt://rabbit_ha/haproxy/files/haproxy.service.conf.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'
    # They name the program: never one that is not there yet, should a change of
    # rabbit_ha:haproxy:install fail halfway and systemd read them.
{%- if haproxy.install == 'source' %}
    - require:
      - haproxy_build: HAProxy is built from source
{%- elif salt['file.file_exists'](haproxy.unit_as_built) %}
    - require:
      - pkg: HAProxy is installed
{%- else %}
    # The package starts it at once, with these.
    - require_in:
      - pkg: HAProxy is installed
{%- endif %}

HAProxy has a group of its own:
  group.present:
    - name: {{ haproxy.global.group | json }}
    - system: true

HAProxy has a user that nobody can log in as:
  user.present:
    - name: {{ haproxy.global.user | json }}
    # An account that is there already is somebody's, and stays as it is. (Salt loads all
    # modules that there are where a state has `unless`.)
{%- if not salt['user.info'](haproxy.global.user) %}
    - gid: {{ haproxy.global.group | json }}
    - system: true
    - shell: {{ salt['rabbit_topology.settings']().nologin }}
    # As the packages have it; nothing is there.
    - home: /var/lib/haproxy
{%- endif %}
    - createhome: false
    - require:
      - group: HAProxy has a group of its own

HAProxy has folders for its configuration, and the one that it confines itself to:
  file.directory:
    - names:
      - {{ salt['file.dirname'](haproxy.config_file) }}
      - {{ haproxy.config_dir }}
      - {{ haproxy.global.chroot }}
{%- for folder in haproxy.runtime_folders %}
      # systemd makes it at a start, and not when HAProxy is told anew where its socket is.
      - /run/{{ folder }}
{%- endfor %}
    - makedirs: true
