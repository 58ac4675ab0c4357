"""
What the article says, without its prose and comments: commands, and what it puts into files.

docs/article.md has all of it, table by table and in its order (unit/test_article.py); the files
are compared with those that pillar makes (sls/test_files.py, sls/test_source_builds.py).
"""

HAPROXY_UNIT = """\
[Unit]
Description=HAProxy Load Balancer
After=syslog.target network.target

[Service]
ExecStartPre=/usr/sbin/haproxy -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf -c -q
ExecStart=/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf -p /run/haproxy.pid
ExecReload=/bin/kill -USR2 $MAINPID

[Install]
WantedBy=multi-user.target
"""

HAPROXY_CFG = """\
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
    server rabbitmq-node1 192.168.123.36:5672 check inter 5000 rise 2 fall 2 weight 1
    server rabbitmq-node2 192.168.123.162:5672 check inter 5000 rise 2 fall 2 weight 1
    server rabbitmq-node3 192.168.123.104:5672 check inter 5000 rise 2 fall 2 weight 1

listen monitor
    bind :8100
    mode http
    option httplog
    stats enable
    stats uri /rabbitmq-stats
    stats refresh 5s
"""

_KEEPALIVED_CONF = """\
global_defs {
    router_id node1
}

vrrp_script chk_haproxy {
    script "/etc/keepalived/haproxy_check.sh"
    interval 5
    weight -20
}

vrrp_instance VI_1 {
    state MASTER
    interface ens33
    virtual_router_id 1
    priority 100
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass 123456
    }
    track_script {
        chk_haproxy
    }
    virtual_ipaddress {
        192.168.0.123
    }
}
"""
# All that the second load balancer has otherwise.
_ON_THE_SECOND = {
    "router_id node1": "router_id node2",
    "state MASTER": "state BACKUP",
    "priority 100": "priority 90",
}


def _on_the_second(text):
    for line, other in _ON_THE_SECOND.items():
        text = text.replace(line, other)
    return text


KEEPALIVED_CONF = {
    "haproxy-keeplive-node1": _KEEPALIVED_CONF,
    "haproxy-keeplive-node2": _on_the_second(_KEEPALIVED_CONF),
}


def _lines(*texts):
    """List what is in texts, without indentation, braces and the names of a unit's sections."""
    lines = [" ".join(line.split()) for text in texts for line in text.split("\n")]
    lines = [line.removesuffix("{").rstrip() for line in lines]
    return [line for line in lines if line not in ("", "}") and not line.startswith("[")]


# Heading of docs/article.md: the lines that are to be in the table below it.
LINES = {
    "HAProxy from a package": _lines(
        """\
        yum install haproxy
        vim /etc/haproxy/haproxy.cfg
        haproxy -f /etc/haproxy/haproxy.cfg
        systemctl start haproxy.service
        systemctl stop haproxy.service
        """
    ),
    "HAProxy from source": _lines(
        """\
        yum install openssl openssl-devel systemd-devel
        wget https://src.fedoraproject.org/repo/pkgs/haproxy/haproxy-2.1.4.tar.gz/sha512/fd029ac1ec877fa89a9410944439b66795b1392b6c8416aaa7978943170530c3826ba50ea706366f3f7785b7cffed58497cb362fc2480dd6920a99af4f920d98/haproxy-2.1.4.tar.gz
        tar -zxvf haproxy-2.1.4.tar.gz -C /usr/local
        cd /usr/local/haproxy-2.1.4
        uname -r
        make ARCH=x86_64 TARGET=linux-glibc USE_PCRE=1 USE_OPENSSL=1 USE_ZLIB=1 \
            USE_SYSTEMD=1 USE_CPU_AFFINITY=1 PREFIX=/usr/local/haproxy
        make install PREFIX=/usr/local/haproxy
        cp haproxy /usr/sbin/
        Target 'linux2628' was removed from HAProxy 2.0
        linux22
        linux24
        linux24e
        linux26
        linux2628
        groupadd haproxy
        useradd -g haproxy haproxy -s /sbin/nologin
        mkdir /etc/haproxy
        mkdir /etc/haproxy/conf
        cat /etc/haproxy/haproxy.cfg
        vim /usr/lib/systemd/system/haproxy.service
        """,
        HAPROXY_UNIT,
        """\
        systemctl daemon-reload
        systemctl start haproxy
        """,
    ),
    "keepalived from source": _lines(
        """\
        yum install openssl openssl-devel
        wget https://www.keepalived.org/software/keepalived-2.0.20.tar.gz
        tar -zxvf keepalived-2.0.20.tar.gz -C /usr/local/
        cd /usr/local/keepalived-2.0.20
        ./configure --prefix=/usr/local/keepalived
        make && make install
        cp /usr/local/keepalived/sbin/keepalived /usr/sbin/
        mkdir /etc/keepalived
        cp /usr/local/keepalived/etc/keepalived/keepalived.conf /etc/keepalived/
        cp /usr/local/keepalived-2.0.20/keepalived/keepalived.service /usr/lib/systemd/system/
        systemctl daemon-reload
        systemctl start keepalived
        """
    ),
    "The RabbitMQ cluster": _lines(
        """\
        vim /etc/hosts
        192.168.123.36 rabbitmq-node1
        192.168.123.162 rabbitmq-node2
        192.168.123.104 rabbitmq-node3
        http://192.168.123.36:15672
        http://192.168.123.11:8100/rabbitmq-stats
        cp /var/lib/rabbitmq/.erlang.cookie /var/lib/rabbitmq/.erlang.cookie.bak
        chmod 777 /var/lib/rabbitmq/.erlang.cookie
        scp /var/lib/rabbitmq/.erlang.cookie 192.168.123.162:/var/lib/rabbitmq/
        scp /var/lib/rabbitmq/.erlang.cookie 192.168.123.104:/var/lib/rabbitmq/
        chmod 400 /var/lib/rabbitmq/.erlang.cookie
        rabbitmq-server start -detached
        rabbitmqctl stop_app
        rabbitmqctl reset
        rabbitmqctl join_cluster --ram rabbit@node
        rabbitmqctl join_cluster rabbit@rabbitmq-node1
        rabbitmqctl start_app
        rabbitmqctl cluster_status
        rabbitmqctl forget_cluster_node rabbit@rabbitmq-node2
        rabbitmqctl set_cluster_name rabbitmq_cluster1
        rabbitmqctl change_cluster_node_type disc | ram
        rabbitmqctl set_policy ha-all "^" '{"ha-mode":"all"}'
        rabbitmqctl set_policy ha-two "^" \
            '{"ha-mode":"exactly","ha-params":2,"ha-sync-mode":"automatic"}'
        rabbitmqctl set_policy ha-all "^ha\\." '{"ha-mode":"all"}'
        """
    ),
    "haproxy.cfg": _lines("vim /etc/haproxy/haproxy.cfg", HAPROXY_CFG, "systemctl start haproxy"),
    "keepalived.conf": _lines(
        "vim /etc/keepalived/keepalived.conf",
        _KEEPALIVED_CONF,
        # What the script runs, but for its shell.
        """\
        vim /etc/keepalived/haproxy_check.sh
        ps -C haproxy --no-header |wc -l
        systemctl start haproxy
        sleep 3
        systemctl stop keepalived
        chmod +x /etc/keepalived/haproxy_check.sh
        """,
        *_ON_THE_SECOND.values(),
        """\
        systemctl start keepalived
        SECURITY VIOLATION - scripts are being executed but script_security not enabled
        """,
    ),
}
