"""
The rendered configuration files, value by value.

They are as in the article (tests/article.py); what differs from it on purpose is
here, with the reason.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile

import pytest
from salt.utils import yaml

from tests import article
from tests.sls.conftest import BOTH, CASES, FQDN, SECRETS, numbered, pillar_of
from tests.support import ROOT, load

# Beyond the article: how `rabbit_ha.status` and keepalived's check ask HAProxy,
# and a password in front of the statistics.
ADDED_HAPROXY = {
    "global": {"stats": ["socket /run/haproxy-rabbit_ha.sock mode 600 level operator"]},
    # Else a client waits for a broker that has just died until it gives up.
    "listen rabbitmq_cluster": {"option": ["redispatch 1"]},
    "listen monitor": {
        # Or clients could keep keepalived's check out.
        "maxconn": ["100"],
        "monitor-uri": ["/haproxy-health"],
        "stats": [f"auth stats:{SECRETS['monitor']}"],
    },
}
# What keepalived has otherwise, or beyond the article.
DIFFERENT_KEEPALIVED = {
    # The article ends with the warning that their absence gives.
    "global_defs": {"enable_script_security": [""], "script_user": ["keepalived_script"]},
    "vrrp_script chk_haproxy": {
        # The article: interval 5, weight -20, with which a move takes 8 s and more.
        "interval": ["1"],
        "weight": ["0"],
        "timeout": ["2"],
        "fall": ["2"],
        "rise": ["2"],
    },
    "vrrp_instance VI_1": {
        # The article: 123456, for everyone to read.
        "authentication": {"auth_type": ["PASS"], "auth_pass": [SECRETS["auth_pass"]]},
        # The article: 192.168.0.123, which is outside its hosts' network.
        "virtual_ipaddress": {"192.168.123.123": [""]},
        # For rabbit_ha.status.
        "notify": ['"/etc/keepalived/vrrp_state.sh" root'],
    },
}


def sections(text):
    """Read haproxy.cfg: a mapping from section to keyword to the rest of its lines."""
    found, section = {}, None
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(None, 1)
        if not words:
            continue
        if not line.startswith(" "):
            section = found.setdefault(line.strip(), {})
        else:
            section.setdefault(words[0], []).append("".join(words[1:]).strip())
    return found


def blocks(text):
    """Read keepalived.conf: nested mappings, a line without a block a list of its rests."""
    root = {}
    stack = [root]
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()
        if line.endswith("{"):
            stack.append(stack[-1].setdefault(line[:-1].strip(), {}))
        elif line == "}":
            stack.pop()
        elif line:
            keyword, _, rest = line.partition(" ")
            stack[-1].setdefault(keyword, []).append(rest.strip())
    assert stack == [root], "braces do not match"
    return root


def settings(text):
    """Read rabbitmq.conf: a mapping from key to value."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split(" = ", 1) for line in lines)


def haproxy(compiled, minion="haproxy-keeplive-node1", pillar=None):
    return sections(compiled(minion, pillar).render("haproxy/files/haproxy.cfg.j2"))


def keepalived(compiled, minion, pillar=None, snippets=False):
    host = compiled(minion, pillar)
    return blocks(host.render("keepalived/files/keepalived.conf.j2", snippets=snippets))


def rabbitmq(compiled, minion, pillar=None):
    return settings(compiled(minion, pillar).render("rabbitmq/files/rabbitmq.conf.j2"))


def test_haproxy_s_defaults_are_the_article_s_and_nothing_else_but_what_is_listed(compiled):
    expected = sections(article.HAPROXY_CFG)
    for name, section in ADDED_HAPROXY.items():
        for keyword, lines in section.items():
            expected[name][keyword] = expected[name].get(keyword, []) + lines
    assert haproxy(compiled) == expected


@pytest.mark.parametrize("case", CASES)
def test_haproxy_balances_over_every_broker_and_no_other_host(compiled, case):
    pillar = CASES[case].pillar
    hosts = pillar.get("rabbit_ha", {}).get("hosts", {})
    balancers = [name for name, host in hosts.items() if "load_balancer" in host["roles"]]
    for minion in balancers[:1]:
        servers = haproxy(compiled, minion, pillar)["listen rabbitmq_cluster"]["server"]
        port = 5673 if case == "other ports" else 5672
        assert [" ".join(server.split()[:2]) for server in servers] == [
            f"{name} {host['address']}:{port}"
            for name, host in hosts.items()
            if "broker" in host["roles"]
        ]


def test_haproxy_s_settings_come_from_pillar_a_broker_s_check_of_its_own_too(compiled):
    pillar = pillar_of(
        haproxy={
            "global": {"maxconn": 9999},
            "defaults": {"timeout": {"client": "3h"}},
            "rabbitmq_cluster": {
                "balance": "leastconn",
                "check": {"inter": 1000, "rise": 3, "fall": 4},
            },
        }
    )
    pillar["rabbit_ha"]["hosts"]["rabbitmq-node2"]["check"] = {"weight": 5}
    found = haproxy(compiled, pillar=pillar)
    assert found["global"]["maxconn"] == ["9999"]
    assert found["defaults"]["timeout"] == ["connect 5s", "client 3h", "server 120s"]
    assert found["listen rabbitmq_cluster"]["balance"] == ["leastconn"]
    assert [server.split("check ")[1] for server in found["listen rabbitmq_cluster"]["server"]] == [
        "inter 1000 rise 3 fall 4 weight 1",
        "inter 1000 rise 3 fall 4 weight 5",
        "inter 1000 rise 3 fall 4 weight 1",
    ]


def with_options(**cluster):
    """Pillar with all options of HAProxy."""
    return pillar_of(
        haproxy={
            "global": {"hard-stop-after": "30m"},
            "defaults": {"timeout": {"tunnel": "1h"}},
            "rabbitmq_cluster": {"balance": "leastconn", **cluster},
            "management": {"enabled": True},
            "prometheus": {"enabled": True},
            "monitor": {"password": SECRETS["monitor"]},
        },
    )


def test_haproxy_s_options_are_there_where_they_are_asked_for(compiled):
    asked = {"probe": "management", "on-marked-down": "shutdown-sessions"}
    found = haproxy(compiled, pillar=with_options(**asked))
    assert found["global"]["hard-stop-after"] == ["30m"]
    assert found["defaults"]["timeout"][-1] == "tunnel 1h"
    cluster = found["listen rabbitmq_cluster"]
    assert cluster["balance"] == ["leastconn"]
    assert cluster["option"] == ["redispatch 1", "httpchk GET /"]
    assert cluster["http-check"] == ["expect status 200"]
    line = "check inter 5000 rise 2 fall 2 weight 1"
    assert cluster["server"][0] == (
        f"rabbitmq-node1 192.168.123.36:5672 {line} port 15672 on-marked-down shutdown-sessions"
    )
    management = found["listen rabbitmq_management"]
    assert (management["bind"], management["mode"]) == (["0.0.0.0:15672"], ["tcp"])
    assert management["balance"] == ["source"]
    assert management["server"][2] == f"rabbitmq-node3 192.168.123.104:15672 {line}"
    metrics = found["listen prometheus"]
    assert metrics["bind"] == [":8405"]
    assert metrics["http-request"] == ["use-service prometheus-exporter if { path /metrics }"]


def test_a_check_may_greet_as_a_client_does(compiled):
    cluster = haproxy(compiled, pillar=with_options(probe="amqp"))["listen rabbitmq_cluster"]
    assert cluster["option"] == ["redispatch 1", "tcp-check"]
    assert cluster["tcp-check"] == [
        "send-binary " + b"AMQP\0\0\x09\x01".hex(),
        "expect binary 000a000a",
    ]


@pytest.mark.parametrize(("version", "option"), [("v1", "send-proxy"), ("v2", "send-proxy-v2")])
def test_brokers_expect_the_proxy_protocol_where_haproxy_speaks_it(compiled, version, option):
    pillar = with_options(proxy_protocol=version)
    pillar["rabbit_ha"]["hosts"]["rabbitmq-node2"]["proxy_protocol"] = None
    servers = haproxy(compiled, pillar=pillar)["listen rabbitmq_cluster"]["server"]
    # With a port of its own, a check goes without the header, at which RabbitMQ would crash.
    assert [server.split("weight 1")[1] for server in servers] == [
        f" port 5672 {option}",
        "",
        f" port 5672 {option}",
    ]
    expecting = {
        host: rabbitmq(compiled, host, pillar).get("proxy_protocol")
        for host in ("rabbitmq-node1", "rabbitmq-node2", "rabbitmq-node3")
    }
    assert list(expecting.values()) == ["true", None, "true"]
    for host, said in expecting.items():
        settled = compiled(host, pillar).state("RabbitMQ's clients reach it as it expects them")
        assert settled["expected"] is (said == "true")


@pytest.mark.parametrize(
    ("minion", "pillar", "ports", "left_to_haproxy"),
    [
        ("rabbitmq-node1", pillar_of(), {"amqp": 5672}, False),
        ("rabbitmq-node1", with_options(), {"amqp": 5672}, False),
        (
            "rabbitmq-node1",
            with_options(probe="management"),
            {"amqp": 5672, "http": 15672},
            False,
        ),
        ("rabbitmq-node1", CASES["other ports"].pillar, {"amqp": 5673}, False),
        ("broker1", pillar_of(numbered(3, 0)), {"amqp": 5672}, False),
        ("both1", pillar_of(BOTH), {"amqp": 5672}, True),
        # HAProxy's port is another one anyway.
        ("both1", pillar_of(BOTH, rabbitmq={"amqp_port": 5673}), {"amqp": 5673}, False),
    ],
)
def test_brokers_listen_where_haproxy_looks_for_them(
    compiled, minion, pillar, ports, left_to_haproxy
):
    settled = compiled(minion, pillar).state("RabbitMQ's clients reach it where it listens")
    assert settled["ports"] == ports
    assert settled["left_to_haproxy"] is left_to_haproxy


def test_where_a_broker_runs_too_haproxy_binds_the_virtual_address_only(compiled):
    assert haproxy(compiled, "both1", pillar_of(BOTH))["listen rabbitmq_cluster"]["bind"] == [
        "192.0.2.200:5672 transparent"
    ]


def test_each_listener_can_bind_an_address_that_moves(compiled):
    said = with_options()
    for number, listener in enumerate(("rabbitmq_cluster", "management", "prometheus", "monitor")):
        said["rabbit_ha"]["haproxy"][listener]["bind"] = f"192.168.123.123:700{number}"
    found = haproxy(compiled, "haproxy-keeplive-node2", said)
    assert {name: found[name]["bind"] for name in found if name.startswith("listen ")} == {
        "listen rabbitmq_cluster": ["192.168.123.123:7000 transparent"],
        "listen rabbitmq_management": ["192.168.123.123:7001 transparent"],
        "listen prometheus": ["192.168.123.123:7002 transparent"],
        "listen monitor": ["192.168.123.123:7003 transparent"],
    }


@pytest.mark.parametrize("minion", article.KEEPALIVED_CONF)
def test_keepalived_is_as_in_the_article_but_for_what_is_listed(compiled, minion):
    expected = blocks(article.KEEPALIVED_CONF[minion])
    for name, block in DIFFERENT_KEEPALIVED.items():
        expected[name] |= block
    assert keepalived(compiled, minion) == expected


def test_each_load_balancer_has_a_router_id_of_its_own_and_one_of_them_is_master(compiled):
    pillar = pillar_of(numbered(3, 3))
    found = [keepalived(compiled, f"balancer{number}", pillar) for number in (1, 2, 3)]
    assert len({one["global_defs"]["router_id"][0] for one in found}) == 3
    states = [one["vrrp_instance VI_1"]["state"] for one in found]
    assert states == [["MASTER"], ["BACKUP"], ["BACKUP"]]


def test_more_virtual_addresses_follow_the_first(compiled):
    pillar = pillar_of(keepalived={"virtual_addresses": ["192.168.123.124/24 dev ens34"]})
    found = keepalived(compiled, "haproxy-keeplive-node1", pillar)["vrrp_instance VI_1"]
    assert found["virtual_ipaddress"] == {
        "192.168.123.123": [""],
        "192.168.123.124/24": ["dev ens34"],
    }


TWO = {"VI_2": {"virtual_router_id": 2, "virtual_addresses": ["192.168.123.124/24 label ens33:1"]}}
OPTIONS = {
    "the article's weighted check": {"interval": 5, "weight": -20},
    "unicast": {"unicast": True},
    "version 3": {"version": 3, "advert_int": 0.1},
    "version 3, unicast": {"version": 3, "advert_int": 0.25, "unicast": True},
    "two instances": {"instances": TWO},
    "two instances, one of version 3": {
        "instances": {"VI_2": {**TWO["VI_2"], "version": 3, "weight": -20}}
    },
    "with prefix and label": {"virtual_addresses": ["192.168.123.123/24 dev ens33 label ens33:v"]},
}


def test_several_vrrp_instances_share_what_they_do_not_say_themselves(compiled):
    found = keepalived(compiled, "haproxy-keeplive-node1", pillar_of(keepalived={"instances": TWO}))
    first, second = found["vrrp_instance VI_1"], found["vrrp_instance VI_2"]
    assert (first.pop("virtual_router_id"), second.pop("virtual_router_id")) == (["1"], ["2"])
    assert first.pop("virtual_ipaddress") == {"192.168.123.123": [""]}
    assert second.pop("virtual_ipaddress") == {"192.168.123.124/24": ["label ens33:1"]}
    assert first == second


def test_a_host_s_own_word_on_an_instance_is_the_last(compiled):
    pillar = pillar_of(keepalived={"instances": {"VI_2": {**TWO["VI_2"], "priority": 70}}})
    balancer = pillar["rabbit_ha"]["hosts"]["haproxy-keeplive-node1"]["keepalived"]
    balancer["instances"] = {"VI_2": {"state": "BACKUP", "priority": 50, "advert_int": 2}}
    second = keepalived(compiled, "haproxy-keeplive-node1", pillar)["vrrp_instance VI_2"]
    assert (second["state"], second["priority"], second["advert_int"]) == (
        ["BACKUP"],
        ["50"],
        ["2"],
    )


def test_unicast_goes_to_the_other_load_balancers_and_to_nobody_else(compiled):
    pillar = pillar_of(numbered(1, 3), keepalived={"unicast": True})
    vrrp = keepalived(compiled, "balancer2", pillar)["vrrp_instance VI_1"]
    assert vrrp["unicast_src_ip"] == ["192.0.2.102"]
    assert vrrp["unicast_peer"] == {"192.0.2.101": [""], "192.0.2.103": [""]}


@pytest.mark.parametrize("case", ["version 3", "ipv6"])
def test_version_3_has_no_authentication(compiled, case):
    topology = numbered(1, 2) | ({"virtual_address": "2001:db8::9"} if case == "ipv6" else {})
    options = {} if case == "ipv6" else OPTIONS[case]
    text = compiled("balancer1", pillar_of(topology, keepalived=options)).render(
        "keepalived/files/keepalived.conf.j2"
    )
    vrrp = blocks(text)["vrrp_instance VI_1"]
    assert vrrp["version"] == ["3"]
    assert "authentication" not in vrrp and SECRETS["auth_pass"] not in text


@pytest.mark.parametrize("key", ["nopreempt", "preempt_delay"])
def test_an_address_can_stay_where_it_went(compiled, key):
    pillar = pillar_of(numbered(1, 2), keepalived={key: 30 if key == "preempt_delay" else True})
    pillar["rabbit_ha"]["hosts"]["balancer1"]["keepalived"]["state"] = "BACKUP"
    host = compiled("balancer1", pillar)
    assert key in keepalived(compiled, "balancer1", pillar)["vrrp_instance VI_1"]
    # Nothing waits for what is not to come.
    assert "This host holds the virtual address" not in host.ids()


def test_a_password_may_be_a_host_s_or_an_instance_s_own(compiled):
    pillar = pillar_of(keepalived={"instances": TWO})
    own = pillar["rabbit_ha"]["hosts"]["haproxy-keeplive-node1"]["keepalived"]
    own["authentication"] = {"auth_pass": "SECRETho"}
    own["instances"] = {"VI_2": {"authentication": {"auth_pass": "SECRETin"}}}
    found = keepalived(compiled, "haproxy-keeplive-node1", pillar)
    passwords = [found[f"vrrp_instance {name}"]["authentication"] for name in ("VI_1", "VI_2")]
    assert [one["auth_pass"] for one in passwords] == [["SECRETho"], ["SECRETin"]]
    assert "SECRET" not in str(compiled("haproxy-keeplive-node1", pillar).low())


@pytest.mark.parametrize(
    ("version", "user"), [("2.2.7", "root"), ("2.2.8", None), ("2.3.10", None)]
)
def test_an_old_program_judges_a_copy_whose_scripts_are_root_s(compiled, tmp_path, version, user):
    """keepalived itself judges in integration/test_7_keepalived.py."""
    main, more = tmp_path / "keepalived.conf", tmp_path / "conf"
    main.write_text(
        compiled("haproxy-keeplive-node1").render("keepalived/files/keepalived.conf.j2")
    )
    more.mkdir()
    (more / "more.conf").write_text("vrrp_script x {\n    user nobody\n}\n")
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\n[ $1 != --version ] || {{ echo 'Keepalived v{version} (01/01)'; exit; }}\n"
        'echo "$1 $2"\ncat "$3" "${3%/*}/conf/more.conf"\nexit 4\n'
    )
    program.chmod(0o755)
    script = ROOT / "salt/rabbit_ha/keepalived/files/check_configuration.sh"
    done = subprocess.run(
        ["sh", script, main, more, program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (4, "")
    first, *judged = done.stdout.splitlines()
    assert first == "--config-test --use-file"
    assert f"    script_user {user or 'keepalived_script'}" in judged
    assert f"    user {user or 'nobody'}" in judged
    assert "script_user keepalived_script" in main.read_text()


def test_a_copy_that_a_killed_judge_left_is_discarded_by_the_next_run(tmp_path, monkeypatch):
    main, temporary, program = (tmp_path / name for name in ("main.conf", "tmp", "program"))
    main.write_text("auth_pass SECRET\n")
    temporary.mkdir()
    program.write_text(
        "#!/bin/sh\n[ $1 != --version ] || { echo 'Keepalived v2.0.19 (01/01)'; exit; }\n"
        "kill -9 $PPID\n"
    )
    program.chmod(0o755)
    script = ROOT / "salt/rabbit_ha/keepalived/files/check_configuration.sh"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = ["sh", script, main, tmp_path / "conf", program]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    [left] = temporary.iterdir()
    assert "SECRET" in (left / str(main)[1:]).read_text()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    load("_modules/rabbit_configuration.py")._discard_what_killed_runs_left()
    assert not left.exists()


def test_the_article_s_own_script_settings_can_be_had_from_pillar(compiled):
    script = {"interval": 5, "weight": -20, "timeout": 3, "rise": 4, "fall": 6}
    pillar = pillar_of(keepalived={**script, "interface": "eth7"})
    found = keepalived(compiled, "haproxy-keeplive-node1", pillar)
    for name, value in script.items():
        assert found["vrrp_script chk_haproxy"][name] == [str(value)]
    assert found["vrrp_instance VI_1"]["interface"] == ["eth7"]


@pytest.mark.parametrize(
    ("keepalived_pillar", "pattern"),
    [
        ({}, "conf/*.conf"),
        ({"config_dir": "/srv/more"}, "../../srv/more/*.conf"),
        ({"config_dir": "/srv/ka/conf", "config_file": "/srv/ka/main.conf"}, "conf/*.conf"),
    ],
)
def test_snippets_are_included_from_where_the_main_file_is(compiled, keepalived_pillar, pattern):
    pillar = pillar_of(keepalived=keepalived_pillar)
    found = keepalived(compiled, "haproxy-keeplive-node1", pillar, snippets=True)
    assert found["include"] == [pattern]


@pytest.mark.parametrize(
    ("case", "minion", "expected"),
    [
        (
            "default",
            "rabbitmq-node1",
            {
                "listeners.tcp.default": "5672",
                "management.tcp.port": "15672",
                "cluster_partition_handling": "pause_minority",
            },
        ),
        (
            "one broker",
            "broker1",
            {"listeners.tcp.default": "5672", "management.tcp.port": "15672"},
        ),
        (
            "both roles on each host",
            "both2",
            {
                "listeners.tcp.host": "192.0.2.2:5672",
                "listeners.tcp.local": "127.0.0.1:5672",
                "management.tcp.port": "15672",
                "cluster_partition_handling": "pause_minority",
            },
        ),
        (
            "other ports",
            "rabbitmq-node1",
            {
                "listeners.tcp.default": "5673",
                "management.tcp.port": "15673",
                "cluster_partition_handling": "pause_minority",
            },
        ),
    ],
)
def test_rabbitmq_conf_holds_ports_and_what_to_do_in_a_partition(compiled, case, minion, expected):
    assert rabbitmq(compiled, minion, CASES[case].pillar) == expected


def test_two_brokers_pause_for_no_majority_as_there_is_none(compiled):
    found = rabbitmq(compiled, "broker1", pillar_of(numbered(2, 1)))
    assert "cluster_partition_handling" not in found


def test_rabbitmq_conf_from_pillar_comes_last_and_wins(compiled):
    config = {"cluster_partition_handling": "autoheal", "heartbeat": 30}
    found = rabbitmq(compiled, "rabbitmq-node1", pillar_of(rabbitmq={"config": config}))
    assert found["cluster_partition_handling"] == "autoheal"
    assert found["heartbeat"] == "30"


@pytest.mark.parametrize(("port", "said"), [(15692, None), (9100, "9100")])
def test_rabbitmq_s_metrics_are_where_pillar_says(compiled, port, said):
    pillar = pillar_of(rabbitmq={"prometheus": {"enabled": True, "port": port}})
    # The line of a port that RabbitMQ has anyway would have each broker restarted for nothing.
    assert rabbitmq(compiled, "rabbitmq-node1", pillar).get("prometheus.tcp.port") == said
    plugins = ["rabbitmq_management", "rabbitmq_prometheus"]
    host = compiled("rabbitmq-node1", pillar)
    assert host.state("RabbitMQ's plugins are enabled")["plugins"] == plugins
    before = host.state("RabbitMQ knows its plugins before its first start")
    assert before["contents"] == f"[{','.join(plugins)}]."


def test_rabbitmq_conf_holds_the_secrets_that_pillar_puts_there(compiled):
    pillar = CASES["a secret in rabbitmq.conf"].pillar
    assert rabbitmq(compiled, "rabbitmq-node1", pillar)["ssl_options.password"] == SECRETS["config"]


def test_rabbitmq_conf_holds_no_other_secret(compiled):
    pillar = CASES["cookie from pillar"].pillar
    text = compiled("rabbitmq-node1", pillar).render("rabbitmq/files/rabbitmq.conf.j2")
    assert [secret for secret in SECRETS.values() if secret in text] == []


def check_script(compiled, pillar=None):
    host = compiled("haproxy-keeplive-node1", pillar)
    return host.render("keepalived/files/haproxy_check.sh.j2")


@pytest.mark.parametrize(
    ("bind", "endpoint"),
    [
        (":8100", "127.0.0.1/8100"),
        ("*:81", "127.0.0.1/81"),
        ("192.0.2.9:82", "192.0.2.9/82"),
        # What connects, bash included, takes no brackets.
        ("[::]:8100", "::1/8100"),
        (":::8100", "::1/8100"),
        ("[2001:db8::9]:8100", "2001:db8::9/8100"),
    ],
)
def test_keepalived_s_check_asks_haproxy_s_monitor_where_it_listens(compiled, bind, endpoint):
    pillar = pillar_of(haproxy={"monitor": {"bind": bind, "password": SECRETS["monitor"]}})
    assert f"/dev/tcp/{endpoint} " in check_script(compiled, pillar)


# Each setting that is rendered, with another value than the default.
SAID = {
    "haproxy": {
        "config_dir": "/srv/haproxy/more",
        "config_file": "/srv/haproxy/main.cfg",
        "runtime_socket": "/run/other.sock",
        "global": {
            "log": "192.0.2.5:514 local7 notice",
            "maxconn": 5555,
            "chroot": "/srv/empty",
            "user": "balancing",
            "group": "balancers",
            "pidfile": "/run/balancing.pid",
            "hard-stop-after": "31m",
        },
        "defaults": {
            "log": "192.0.2.6 local6",
            "mode": "http",
            "options": ["tcpka", "redispatch"],
            "retries": 7,
            "maxconn": 3333,
            "timeout": {"connect": "6s", "client": "121s", "server": "122s", "tunnel": "2h"},
        },
        "rabbitmq_cluster": {
            "bind": "192.168.123.123:5670",
            "balance": "leastconn",
            "check": {"inter": 1001, "rise": 4, "fall": 5, "weight": 6},
            "probe": "management",
            "redispatch": 2,
            "on-marked-down": "shutdown-sessions",
            "proxy_protocol": "v1",
        },
        "management": {
            "enabled": True,
            "bind": "127.0.0.1:15670",
            "maxconn": 501,
            "balance": "first",
        },
        "prometheus": {
            "enabled": True,
            "bind": "127.0.0.2:8406",
            "maxconn": 101,
            "uri": "/numbers",
        },
        "monitor": {
            "bind": "127.0.0.3:8101",
            "maxconn": 102,
            "stats_uri": "/seen",
            "stats_refresh": "7s",
            "health_uri": "/well",
            "user": "watcher",
            "password": SECRETS["monitor"],
        },
    },
    "keepalived": {
        "config_dir": "/srv/keepalived/more",
        "config_file": "/srv/keepalived/main.conf",
        "script": "/srv/check.sh",
        "script_user": "checking",
        "interval": 3,
        "timeout": 4,
        "fall": 5,
        "rise": 6,
        "weight": -30,
        "state_dir": "/run/vrrp",
        "router_id": "one",
        "instance": "MQ",
        "state": "MASTER",
        "interface": "eth7",
        "virtual_router_id": 77,
        "priority": 99,
        "advert_int": 2,
        "authentication": {"auth_type": "AH", "auth_pass": SECRETS["auth_pass"]},
        "virtual_addresses": ["192.168.123.124/24 dev eth8"],
        "unicast": True,
        "preempt_delay": 8,
        "nopreempt": True,
        "version": 3,
        "instances": {"MQ2": {"version": 2, "virtual_addresses": ["192.168.123.125"]}},
    },
}
# What is no line of the two files: other tests show that it has its effect. There is one
# mode for AMQP.
ELSEWHERE = {
    "haproxy": {"install", "source", "packages", "service", "snippets"},
    "keepalived": {"install", "source", "packages", "service", "snippets"},
    "haproxy:rabbitmq_cluster": {"mode"},
}


def leaves(node, place):
    """Map the places of settings to their values; a list is one value."""
    if not isinstance(node, dict) or not node:
        return {place: node}
    below = {f"{place}:{key}": value for key, value in node.items()}
    return {key: value for at, one in below.items() for key, value in leaves(one, at).items()}


@pytest.fixture
def all_said(compiled):
    pillar = pillar_of(**SAID)
    # What the host says itself would come last.
    pillar["rabbit_ha"]["hosts"]["haproxy-keeplive-node1"].pop("keepalived")
    return compiled("haproxy-keeplive-node1", pillar)


@pytest.mark.parametrize("program", SAID)
def test_each_setting_is_said_with_another_value_than_its_default(program):
    defaults = yaml.safe_load((ROOT / "salt/rabbit_ha/defaults.yaml").read_text())[program]
    said = leaves(SAID[program], program)
    for place, value in leaves(defaults, program).items():
        *parents, last = place.split(":")
        known = [":".join(place.split(":")[:length]) for length in range(1, len(parents) + 2)]
        if any(at.split(":")[-1] in ELSEWHERE.get(at.rpartition(":")[0], ()) for at in known):
            continue
        changed = [one for at, one in said.items() if at == place or at.startswith(f"{place}:")]
        assert changed and changed != [value], f"{place} is not said, or is as by default"


def test_each_setting_of_haproxy_is_where_it_belongs(all_said):
    line = "check inter 1001 rise 4 fall 5 weight 6"
    first = "rabbitmq-node1 192.168.123.36"
    found = sections(all_said.render("haproxy/files/haproxy.cfg.j2"))
    servers = {name: found[name].pop("server")[0] for name in found if "server" in found[name]}
    assert servers == {
        "listen rabbitmq_cluster": (
            f"{first}:5672 {line} port 15672 on-marked-down shutdown-sessions send-proxy"
        ),
        "listen rabbitmq_management": f"{first}:15672 {line}",
    }
    assert found == {
        "global": {
            "log": ["192.0.2.5:514 local7 notice"],
            "maxconn": ["5555"],
            "chroot": ["/srv/empty"],
            "user": ["balancing"],
            "group": ["balancers"],
            "daemon": [""],
            "pidfile": ["/run/balancing.pid"],
            "hard-stop-after": ["31m"],
            "stats": ["socket /run/other.sock mode 600 level operator"],
        },
        "defaults": {
            "log": ["192.0.2.6 local6"],
            "mode": ["http"],
            "option": ["tcpka", "redispatch"],
            "retries": ["7"],
            "maxconn": ["3333"],
            "timeout": ["connect 6s", "client 121s", "server 122s", "tunnel 2h"],
        },
        "listen rabbitmq_cluster": {
            "bind": ["192.168.123.123:5670 transparent"],
            "mode": ["tcp"],
            "balance": ["leastconn"],
            "option": ["redispatch 2", "httpchk GET /"],
            "http-check": ["expect status 200"],
        },
        "listen rabbitmq_management": {
            "bind": ["127.0.0.1:15670"],
            "mode": ["tcp"],
            "maxconn": ["501"],
            "balance": ["first"],
        },
        "listen prometheus": {
            "bind": ["127.0.0.2:8406"],
            "mode": ["http"],
            "option": ["httplog"],
            "maxconn": ["101"],
            "http-request": ["use-service prometheus-exporter if { path /numbers }"],
        },
        "listen monitor": {
            "bind": ["127.0.0.3:8101"],
            "mode": ["http"],
            "option": ["httplog"],
            "maxconn": ["102"],
            "monitor-uri": ["/well"],
            "stats": ["enable", "uri /seen", "refresh 7s", f"auth watcher:{SECRETS['monitor']}"],
        },
    }
    check = all_said.render("keepalived/files/haproxy_check.sh.j2")
    assert "/dev/tcp/127.0.0.3/8101 " in check and "' '/well' >&3" in check


def test_each_setting_of_keepalived_is_where_it_belongs(all_said):
    found = blocks(all_said.render("keepalived/files/keepalived.conf.j2", snippets=True))
    common = {
        "state": ["MASTER"],
        "interface": ["eth7"],
        "virtual_router_id": ["77"],
        "priority": ["99"],
        "advert_int": ["2"],
        "nopreempt": [""],
        "preempt_delay": ["8"],
        "unicast_src_ip": ["192.168.123.11"],
        "check_unicast_src": [""],
        "unicast_peer": {"192.168.123.220": [""]},
        "track_script": {"chk_haproxy": [""]},
        "notify": ['"/srv/vrrp_state.sh" root'],
    }
    assert found == {
        "global_defs": {
            "router_id": ["one"],
            "enable_script_security": [""],
            "script_user": ["checking"],
        },
        "vrrp_script chk_haproxy": {
            "script": ['"/srv/check.sh"'],
            "interval": ["3"],
            "timeout": ["4"],
            "fall": ["5"],
            "rise": ["6"],
            "weight": ["-30"],
        },
        "vrrp_instance MQ": {
            **common,
            "version": ["3"],
            "virtual_ipaddress": {"192.168.123.123": [""], "192.168.123.124/24": ["dev eth8"]},
        },
        "vrrp_instance MQ2": {
            **common,
            "authentication": {"auth_type": ["AH"], "auth_pass": [SECRETS["auth_pass"]]},
            "virtual_ipaddress": {"192.168.123.125": [""]},
        },
        "include": ["more/*.conf"],
    }
    assert 'cd "/run/vrrp"' in all_said.render("keepalived/files/vrrp_state.sh.j2")


def test_each_path_of_the_two_is_where_pillar_says(all_said):
    assert all_said.state("HAProxy has its configuration")["name"] == "/srv/haproxy/main.cfg"
    assert all_said.state("HAProxy has its configuration")["folder"] == "/srv/haproxy/more"
    assert all_said.state("keepalived has its configuration")["name"] == "/srv/keepalived/main.conf"
    assert all_said.state("keepalived has its configuration")["folder"] == "/srv/keepalived/more"
    assert all_said.state("keepalived has its check of HAProxy")["name"] == "/srv/check.sh"
    assert (
        all_said.state("keepalived has a user without rights for its check")["name"] == "checking"
    )
    assert all_said.state("HAProxy has a user that nobody can log in as")["name"] == "balancing"


def test_keepalived_s_check_starts_and_stops_nothing(compiled):
    commands = re.sub(r"^#.*$", "", check_script(compiled), flags=re.MULTILINE)
    assert "systemctl" not in commands
    assert "service " not in commands
    assert not [secret for secret in SECRETS.values() if secret in commands]


@pytest.mark.skipif(not shutil.which("bash"), reason="the check is a bash script")
@pytest.mark.parametrize(
    "script", ["keepalived/files/haproxy_check.sh.j2", "keepalived/files/check_configuration.sh"]
)
def test_scripts_are_valid_bash(compiled, script):
    text = compiled("haproxy-keeplive-node1").render(script)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_a_host_name_with_a_domain_names_the_server_too(compiled):
    found = haproxy(compiled, "haproxy-keeplive-node1.example.org", pillar_of(FQDN))
    assert found["listen rabbitmq_cluster"]["server"][0].startswith(
        "rabbitmq-node1.example.org 192.168.123.36:5672 "
    )
