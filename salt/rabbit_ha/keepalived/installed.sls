{%- set keepalived = salt['rabbit_topology.keepalived']() %}
include:
  - rabbit_ha.hosts.named
  - rabbit_ha.keepalived.installed_from_{{ keepalived.install }}

systemd brings a keepalived that died back:
  file.managed:
    - name: /etc/systemd/system/{{ keepalived.service }}.service.d/rabbit_ha.conf
    - source: salt://rabbit_ha/keepalived/files/keepalived.service.conf.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'
    # They name the program: never one that is not there yet, should a change of
    # rabbit_ha:keepalived:install fail halfway and systemd read them.
{%- if keepalived.install == 'source' %}
    - require:
      - keepalived_build: keepalived is built from source
{%- elif salt['file.file_exists'](keepalived.unit_as_built) %}
    - require:
      - pkg: keepalived is installed
{%- else %}
    # The package starts it at once, with these.
    - require_in:
      - pkg: keepalived is installed
{%- endif %}

keepalived has a folder for its configuration:
  file.directory:
    - name: {{ salt['file.dirname'](keepalived.config_file) }}
    - makedirs: true

keepalived has a user without rights for its check:
  user.present:
    - name: {{ keepalived.script_user | json }}
    # An account that is there already is somebody's, and stays as it is. (Salt loads all
    # modules that there are where a state has `unless`.)
{%- if not salt['user.info'](keepalived.script_user) %}
    - system: true
    - usergroup: true
    - shell: {{ salt['rabbit_topology.settings']().nologin }}
    - home: /nonexistent
{%- endif %}
    - createhome: false
