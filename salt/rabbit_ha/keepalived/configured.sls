{%- set keepalived = salt['rabbit_topology.keepalived']() %}
include:
  - rabbit_ha.keepalived.installed

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

keepalived can judge its configuration:
  file.managed:
    - name: {{ salt['file.dirname'](keepalived.config_file) }}/check_configuration.sh
    - source: salt://rabbit_ha/keepalived/files/check_configuration.sh
    - user: root
    - group: root
    - mode: '0755'

keepalived has its configuration:
  file.managed:
    - name: {{ keepalived.config_file }}
    - source: salt://rabbit_ha/keepalived/files/keepalived.conf.j2
    - template: jinja
    # It holds the VRRP password.
    - user: root
    - group: root
    - mode: '0600'
    - show_changes: false
    # keepalived judges the new file before it replaces the running one.
    - check_cmd: {{ salt['file.dirname'](keepalived.config_file) }}/check_configuration.sh
    - require:
      - sls: rabbit_ha.keepalived.installed
      - file: keepalived has its check of HAProxy
      - file: keepalived can judge its configuration
