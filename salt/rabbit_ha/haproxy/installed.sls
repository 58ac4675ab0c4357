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

HAProxy has folders for its configuration, and the one that it confines itself to:
  file.directory:
    - names:
      - {{ salt['file.dirname'](haproxy.config_file) }}
      - {{ haproxy.config_dir }}
      - {{ haproxy.global.chroot }}
    - makedirs: true
