# On a host that was a load balancer keepalived would still take the address, and HAProxy
# the ports that a broker's RabbitMQ listens on.
{%- if 'load_balancer' not in salt['rabbit_topology.roles']() %}
{%- set settings = salt['rabbit_topology.balancing']() %}
{%- for program, title in [('keepalived', 'keepalived'), ('haproxy', 'HAProxy')] %}
{%- set own = settings[program] %}
{%- if salt['file.contains'](own.config_file, 'Written by Salt: pillar rabbit_ha:' ~ program) %}

{{ title }} is stopped on a host that is no load balancer:
  service.dead:
    - name: {{ own.service | json }}
    - enable: false
{%- endif %}
{%- endfor %}
{%- endif %}
