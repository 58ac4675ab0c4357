# What every host needs before its packages are installed. A minion that pillar does not name
# keeps its name.
{%- if salt['rabbit_topology.host']() %}
This host has its name in the topology:
  rabbit_node.hostname:
    - name: {{ grains['id'] | json }}
{% for host in salt['rabbit_topology.host_addresses']() %}
{{ host.names[0] }} has its address on this host:
  host.present:
    - ip: {{ host.address | json }}
    - names: {{ host.names | json }}
    - clean: true
{% endfor %}

# A run or a host may have been ended while it installed them.
No package is left half installed:
  rabbit_node.packages_finished
{%- endif %}
