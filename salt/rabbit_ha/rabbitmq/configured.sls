# Written before RabbitMQ is installed, so that its first start has it.
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
RabbitMQ has its configuration:
  file.managed:
    - name: {{ rabbitmq.config_dir }}/rabbitmq.conf
    - source: salt://rabbit_ha/rabbitmq/files/rabbitmq.conf.j2
    - template: jinja
    - makedirs: true
    - mode: '0644'

RabbitMQ knows its plugins before its first start:
  file.managed:
    - name: {{ rabbitmq.config_dir }}/enabled_plugins
    - contents: '[{{ rabbitmq.plugins | join(',') }}].'
    - makedirs: true
    - mode: '0644'
    # An existing list is not replaced but added to, online, further on.
    - replace: false
