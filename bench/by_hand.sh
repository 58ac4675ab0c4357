#!/bin/bash
# The article's steps as one types them, over the lab's hosts: bin/lab exec is
# this lab's ssh. Packages are installed and the brokers run. Usage:
#   by_hand.sh LAB SEED-HOST SEED-ADDRESS "NAME=ADDRESS …" "NAME=ADDRESS …" ADDRESS
#              (lab, seed, other brokers, load balancers, virtual address)
set -euo pipefail
lab=$1 seed=$2 seed_address=$3 others=$4 balancers=$5 virtual=$6
on() { local host=$1; shift; "$(dirname "$0")/../bin/lab" --name "$lab" exec "$host" -- "$@"; }

hosts="$seed_address $seed"
for pair in $others $balancers; do hosts+=$'\n'"${pair#*=} ${pair%=*}"; done
for host in "$seed" $(printf '%s\n' $others $balancers | cut -d= -f1); do
    on "$host" sh -c 'cat >>/etc/hosts' <<<"$hosts"
done

version=$(on "$seed" dpkg-query --show --showformat '${Version}' rabbitmq-server)
cookie=/var/lib/rabbitmq/.erlang.cookie
for pair in $others; do
    host=${pair%=*}
    on "$host" sh -c "cp $cookie $cookie.bak; systemctl stop rabbitmq-server; chmod 600 $cookie"
    on "$seed" cat $cookie | on "$host" sh -c "cat >$cookie; chmod 400 $cookie"
    on "$host" systemctl start rabbitmq-server
done
for pair in $others; do
    host=${pair%=*}
    on "$host" rabbitmqctl stop_app
    # join_cluster resets by itself; two resets are too many for Khepri (rabbitmq-server#14748).
    [[ $version == 4.3* ]] || on "$host" rabbitmqctl reset
    on "$host" rabbitmqctl join_cluster "rabbit@$seed"
    on "$host" rabbitmqctl start_app
done
for host in "$seed" $(printf '%s\n' $others | cut -d= -f1); do
    on "$host" rabbitmq-plugins enable rabbitmq_management
done
on "$seed" rabbitmqctl set_cluster_name rabbitmq_cluster1
# RabbitMQ 4.0 and newer refuse it: they have no mirrored queues.
[[ $version == 4.* ]] || on "$seed" rabbitmqctl set_policy ha-all "^" '{"ha-mode":"all"}'
on "$seed" rabbitmqctl cluster_status

servers="    server $seed $seed_address:5672 check inter 5000 rise 2 fall 2 weight 1"
for pair in $others; do
    servers+=$'\n'"    server ${pair%=*} ${pair#*=}:5672 check inter 5000 rise 2 fall 2 weight 1"
done
for pair in $balancers; do
    on "${pair%=*}" sh -c 'mkdir -p /usr/local/haproxy; cat >/etc/haproxy/haproxy.cfg' <<END
global
    log 127.0.0.1 local0 info
    maxconn 4096
    chroot /usr/local/haproxy
    user haproxy
    group haproxy
    daemon
    pidfile /var/run/haproxy.pid
defaults
    log global
    mode tcp
    option tcplog
    option dontlognull
    retries 3
    maxconn 2000
    timeout connect 5s
    timeout client 120s
    timeout server 120s
listen rabbitmq_cluster
    bind 0.0.0.0:5672
    mode tcp
    balance roundrobin
$servers
listen monitor
    bind :8100
    mode http
    option httplog
    stats enable
    stats uri /rabbitmq-stats
    stats refresh 5s
END
    on "${pair%=*}" systemctl restart haproxy
done

state=MASTER priority=100
for pair in $balancers; do
    host=${pair%=*}
    interface=$(on "$host" sh -c "ip -o addr | awk '/ ${pair#*=}\//{print \$2}'")
    on "$host" sh -c 'cat >/etc/keepalived/haproxy_check.sh; chmod +x /etc/keepalived/haproxy_check.sh' <<'END'
#!/bin/bash
if [ `ps -C haproxy --no-header |wc -l` -eq 0 ] ; then
    systemctl start haproxy
    sleep 3
    if [ `ps -C haproxy --no-header |wc -l` -eq 0 ] ; then
        systemctl stop keepalived
    fi
fi
END
    on "$host" sh -c 'cat >/etc/keepalived/keepalived.conf' <<END
global_defs {
   router_id $host
}
vrrp_script chk_haproxy {
    script "/etc/keepalived/haproxy_check.sh"
    interval 5
    weight -20
}
vrrp_instance VI_1 {
    state $state
    interface $interface
    virtual_router_id 1
    priority $priority
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass 123456
    }
    track_script {
        chk_haproxy
    }
    virtual_ipaddress {
        $virtual
    }
}
END
    on "$host" systemctl start keepalived
    state=BACKUP priority=$((priority - 10))
done
