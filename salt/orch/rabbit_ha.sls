# From bare hosts to the cluster behind one address. A step that fails stops the
# run there; a new run goes on from where things stand.
{%- set errors = salt['rabbit_topology.pillar_errors']() %}
All hosts answer and pillar is complete:
  rabbit_ha.ready:
    - errors: {{ errors | json }}
    - failhard: true
{% if not errors %}
{%- set settings = salt['rabbit_topology.settings']() %}
{%- set seed = salt['rabbit_topology.seed_host']() %}

What differs from pillar:
  rabbit_ha.planned:
    - failhard: true

Every host has its names, addresses and packages:
  salt.state:
    - tgt: {{ settings.hosts | list | json }}
    - tgt_type: list
    - sls: rabbit_ha.prepared
    - failhard: true
    - onchanges:
      - rabbit_ha: What differs from pillar

Every broker has the Erlang cookie of {{ seed }}:
  rabbit_ha.cookie_synced:
    - failhard: true
    - onchanges:
      - rabbit_ha: What differs from pillar
{% for broker in salt['rabbit_topology.brokers_in_join_order']() %}
{{ broker }} is a member of the cluster:
  salt.state:
    - tgt: {{ broker | json }}
    - tgt_type: list
    - sls: rabbit_ha.rabbitmq.clustered
    - pillar: {rabbit_ha_orchestrated: true}
    - failhard: true
    - onchanges:
      - rabbit_ha: What differs from pillar
{% endfor %}
The cluster has its name, users and policies:
  salt.state:
    - tgt: {{ seed | json }}
    - tgt_type: list
    - sls: rabbit_ha.rabbitmq.policies
    - pillar: {rabbit_ha_orchestrated: true}
    - failhard: true
    - onchanges:
      - rabbit_ha: What differs from pillar
{%- for group in salt['rabbit_topology.load_balancers_in_start_order']() %}
HAProxy and keepalived are running on {{ group | join(' and ') }}:
  salt.state:
    - tgt: {{ group | json }}
    - tgt_type: list
    - sls:
      - rabbit_ha.haproxy
      - rabbit_ha.keepalived
    - failhard: true
    - onchanges:
      - rabbit_ha: What differs from pillar
{% endfor %}
Messages go through the virtual address, every part is well:
  rabbit_ha.verified:
    - failhard: true
{% endif %}
