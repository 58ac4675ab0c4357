{%- set keepalived = salt['rabbit_topology.keepalived']() %}
include:
  - rabbit_ha.keepalived.installed
  - rabbit_ha.haproxy.running

A check of HAProxy that others wrote is kept:
  rabbit_configuration.kept:
    - name: {{ keepalived.script }}

keepalived has its check of HAProxy:
  file.managed:
    - name: {{ keepalived.script }}
    - source: salt://rabbit_ha/keepalived/files/haproxy_check.sh.j2
    - template: jinja
    - makedirs: true
    # A script that others could write would be disabled, silently.
    - user: root
    - group: root
    - mode: '0755'
    - require:
      - rabbit_configuration: A check of HAProxy that others wrote is kept
      # What it asks for, an adopted HAProxy does not know before that.
      - rabbit_failover: HAProxy has read its configuration

keepalived tells its state:
  file.managed:
    - name: {{ keepalived.notify_script }}
    - source: salt://rabbit_ha/keepalived/files/vrrp_state.sh.j2
    - template: jinja
    - makedirs: true
    - user: root
    - group: root
    - mode: '0755'

keepalived can judge its configuration:
  file.managed:
    - name: {{ keepalived.judge }}
    - source: salt://rabbit_ha/keepalived/files/check_configuration.sh
    - user: root
    - group: root
    - mode: '0755'

keepalived has its configuration:
  rabbit_configuration.checked:
    - name: {{ keepalived.config_file }}
    - source: salt://rabbit_ha/keepalived/files/keepalived.conf.j2
    - folder: {{ keepalived.config_dir }}
    - suffix: .conf
    - snippets: rabbit_ha:keepalived:snippets
    - check: {{ salt['rabbit_topology.keepalived_check']('{root}') | json }}
    - require:
      - sls: rabbit_ha.keepalived.installed
      - file: keepalived has its check of HAProxy
      - file: keepalived tells its state
      - file: keepalived can judge its configuration
