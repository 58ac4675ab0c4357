{%- set haproxy = salt['rabbit_topology.haproxy']() %}
include:
  - rabbit_ha.hosts.named

HAProxy is installed:
  pkg.installed:
    - name: haproxy
    - require:
      - sls: rabbit_ha.hosts.named

HAProxy has the folder that it confines itself to:
  file.directory:
    - name: {{ haproxy.global.chroot }}
    - makedirs: true

systemd brings a HAProxy that died back:
  file.managed:
    - name: /etc/systemd/system/{{ haproxy.service }}.service.d/rabbit_ha.conf
    - source: salt://rabbit_ha/files/always_restarted.conf
    - makedirs: true
    - mode: '0644'
