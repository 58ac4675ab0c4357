# Written before RabbitMQ is installed, so that its first start has it.
{%- set rabbitmq = salt['rabbit_topology.settings']().rabbitmq %}
{%- set path = rabbitmq.config_dir ~ '/rabbitmq.conf' %}
{%- set reached_at = salt['rabbit_topology.reached_at']() %}
{%- set secret = none in salt['rabbit_topology.rabbitmq_config']().values() %}
RabbitMQ has a group that may read its configuration:
  group.present:
    - name: {{ rabbitmq.service_group | json }}
    - system: true

RabbitMQ's clients reach it as it expects them:
  rabbit_node.proxy_protocol_settled:
    - name: {{ path }}
    - service: {{ rabbitmq.service | json }}
    - expected: {{ salt['rabbit_topology.proxy_protocol']() is not none }}

RabbitMQ's clients reach it where it listens:
  rabbit_node.listeners_settled:
    - name: {{ path }}
    - service: {{ rabbitmq.service | json }}
    - ports: {{ reached_at.ports | json }}
    - left_to_haproxy: {{ reached_at.left_to_haproxy }}

RabbitMQ would boot with its configuration:
  rabbit_configuration.accepted:
    - name: {{ path }}
    - source: salt://rabbit_ha/rabbitmq/files/rabbitmq.conf.j2

A configuration of RabbitMQ that others wrote is kept:
  rabbit_configuration.kept:
    - name: {{ path }}
    - require:
      - rabbit_configuration: RabbitMQ would boot with its configuration

RabbitMQ has its configuration:
  file.managed:
    - name: {{ path }}
    - source: salt://rabbit_ha/rabbitmq/files/rabbitmq.conf.j2
    - template: jinja
    - makedirs: true
    - user: root
    - group: {{ rabbitmq.service_group | json }}
    - mode: '0640'
    # The folder belongs to RabbitMQ's account: a link there would be that account's.
    - follow_symlinks: false
    # With a secret in the old file or in the new one, the difference would show it.
    - show_changes: {{ not (secret or salt['rabbit_host.holds_secret'](path)) }}
    - require:
      - group: RabbitMQ has a group that may read its configuration
      - rabbit_node: RabbitMQ's clients reach it as it expects them
      - rabbit_node: RabbitMQ's clients reach it where it listens
      - rabbit_configuration: A configuration of RabbitMQ that others wrote is kept
{%- if not salt['service.status'](rabbitmq.service) %}

# A node that runs without a list would not notice it.
RabbitMQ knows its plugins before its first start:
  file.managed:
    - name: {{ rabbitmq.config_dir }}/enabled_plugins
    - contents: '[{{ salt['rabbit_topology.plugins']() | join(',') }}].'
    - makedirs: true
    - mode: '0644'
    - follow_symlinks: false
    # An existing list is not replaced but added to further on.
    - replace: false
{%- endif %}
