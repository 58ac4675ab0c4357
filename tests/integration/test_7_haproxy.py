"""HAProxy with all its options at once, with keepalived's snippets, and back to the article's."""

import contextlib
import csv
import functools
import io
import json
import pathlib
import shutil
import socket
import time

import pika.exceptions
import pytest

from tests.integration.lab import (
    BROKERS,
    HOLDER,
    STANDBY,
    VIRTUAL_ADDRESS,
    fetched,
    wait_until,
)
from tests.sls.conftest import BOTH, FQDN, SECRETS, Compiled, numbered, pillar_of

BALANCERS = {HOLDER: "192.168.123.11", STANDBY: "192.168.123.220"}
ADDRESSES = {
    BROKERS[0]: "192.168.123.36",
    BROKERS[1]: "192.168.123.162",
    BROKERS[2]: "192.168.123.104",
}
FILES = "/etc/haproxy/haproxy.cfg /etc/haproxy/conf/*"
EXTRA = "listen extra\n    bind :7000\n    server one 192.168.123.36:5672\n"
SERVED = "listen served\n    bind :7002\n    server one 192.168.123.36:5672\n"
STATIC = "198.51.100.9/32"
EXTRA_OF_KEEPALIVED = f"static_ipaddress {{\n    {STATIC} dev lo\n}}\n"
OPTIONS = {
    "global": {"hard-stop-after": "5s"},
    "defaults": {"timeout": {"tunnel": "1h"}},
    "rabbitmq_cluster": {
        "balance": "leastconn",
        "probe": "management",
        "on-marked-down": "shutdown-sessions",
        "check": {"inter": 1000},
        "bind": f"{VIRTUAL_ADDRESS}:5672",
    },
    "management": {"enabled": True, "bind": f"{VIRTUAL_ADDRESS}:15672"},
    "prometheus": {"enabled": True},
}
PASSWORD = {"monitor": {"password": SECRETS["monitor"]}}
# What HAProxy is to judge: load balancer and pillar.
JUDGED = {
    "default": (HOLDER, pillar_of()),
    "both roles": ("both1", pillar_of(BOTH)),
    "domain": (f"{HOLDER}.example.org", pillar_of(FQDN)),
    "seven brokers": ("balancer1", pillar_of(numbered(7, 3))),
    "all options": (HOLDER, pillar_of(haproxy={**OPTIONS, **PASSWORD})),
    **{
        f"{probe}, {version}": (
            HOLDER,
            pillar_of(
                haproxy={
                    **PASSWORD,
                    "rabbitmq_cluster": {"probe": probe, "proxy_protocol": version},
                }
            ),
        )
        for probe, version in (("amqp", None), ("connect", "v1"), ("management", "v2"))
    },
}


@pytest.fixture(scope="module")
def optioned(deployed):
    """The hosts with all options; with the article's values again afterwards."""
    before = {host: digests(deployed, host) for host in BALANCERS}
    served = pathlib.Path(deployed.status()["master"]["states_dir"], "our", "snippets")
    served.mkdir(parents=True)
    (served / "served.cfg").write_text(SERVED)
    snippets = {"text": {"extra": EXTRA}, "source": "salt://our/snippets"}
    said = {
        "haproxy": {**OPTIONS, "snippets": snippets},
        "keepalived": {"snippets": {"text": {"extra": EXTRA_OF_KEEPALIVED}}},
        "rabbitmq": {"prometheus": {"enabled": True}},
    }
    with deployed.pillar_changed(said):
        deployed.deploy()
        yield deployed
    shutil.rmtree(served.parent)
    deployed.deploy()
    # What pillar does not name stays.
    for broker in BROKERS:
        deployed.exec(broker, "rabbitmq-plugins", "disable", "--offline", "rabbitmq_prometheus")
    assert {host: digests(deployed, host) for host in BALANCERS} == before
    assert not any(has_static_address(deployed, host) for host in BALANCERS)
    deployed.wait_until_well()


def has_static_address(lab, host):
    """Tell whether keepalived set the address that its snippet names."""
    return STATIC in lab.exec(host, "ip", "-o", "addr", "show", "dev", "lo").stdout


def digests(lab, host):
    """HAProxy's files, without what is in them."""
    return lab.exec(host, "sh", "-c", f"sha256sum {FILES} 2>/dev/null", check=False).stdout


def asked(lab, host, command):
    """What HAProxy answers at its socket."""
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); "
        "s.connect('/run/haproxy-rabbit_ha.sock'); "
        f"s.sendall(b'{command}\\n'); print(s.makefile().read())"
    )
    return lab.exec(host, "python3", "-c", script).stdout


def statistics(lab, host, proxy):
    """A proxy's rows of HAProxy's statistics, by server."""
    rows = csv.DictReader(io.StringIO(asked(lab, host, "show stat").removeprefix("# ")))
    return {row["svname"]: row for row in rows if row["pxname"] == proxy}


got = functools.partial(fetched, seconds=10)


def is_lost(connection):
    """Tell whether a connection was closed from the other end."""
    with contextlib.suppress(pika.exceptions.AMQPError, OSError):
        # One that is known to be closed cannot be asked.
        if connection.is_open:
            connection.process_data_events(0)
    return not connection.is_open


@contextlib.contextmanager
def connections(lab, number=3):
    """Connections through the address, closed afterwards as far as they are left."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(number):
            manager = lab.amqp()
            opened.append(manager.__enter__())
            stack.callback(_leave, manager)
        yield opened


def _leave(manager):
    with contextlib.suppress(pika.exceptions.AMQPError, OSError):
        manager.__exit__(None, None, None)


@pytest.mark.parametrize("case", JUDGED)
def test_haproxy_finds_nothing_wrong_with_what_pillar_makes(deployed, tmp_path, case):
    minion, pillar = JUDGED[case]
    text = Compiled(tmp_path, minion, pillar, "Debian").render("haproxy/files/haproxy.cfg.j2")
    folder = pathlib.Path(deployed.status()["hosts"][STANDBY]["root"]) / "root" / "judged"
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    (folder / "haproxy.cfg").write_text(text)
    (folder / "conf" / "extra.cfg").write_text(EXTRA)
    files = ["-f", "/root/judged/haproxy.cfg", "-f", "/root/judged/conf"]
    done = deployed.exec(STANDBY, "haproxy", "-c", *files, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "ALERT" not in said and "WARNING" not in said, said


def test_with_all_options_a_second_run_changes_nothing(optioned):
    done = optioned.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
    assert done.returncode == 0, done.stdout
    (states,) = json.loads(done.stdout)["data"].values()
    assert not [s["__id__"] for s in states.values() if s["changes"] or not s["result"]]
    optioned.wait_until_well()


def test_the_backup_starts_though_it_does_not_hold_the_address_that_it_binds(optioned):
    assert optioned.holders() == [HOLDER]
    optioned.exec(STANDBY, "systemctl", "restart", "haproxy")
    listening = optioned.exec(STANDBY, "ss", "-Hltn").stdout
    for port in (5672, 15672):
        assert f" {VIRTUAL_ADDRESS}:{port} " in listening
    optioned.wait_until_well()


def management(lab, path):
    """Ask the management API, through the address."""
    password = lab.secret("broker")["rabbitmq"]["users"]["admin"]["password"]
    return json.loads(got(f"http://{VIRTUAL_ADDRESS}:15672/api/{path}", "admin", password))


def test_management_answers_at_the_address(optioned):
    assert "RabbitMQ" in got(f"http://{VIRTUAL_ADDRESS}:15672/")
    # The same client stays with the same broker.
    assert len({management(optioned, "overview")["node"] for _ in range(3)}) == 1


def test_metrics_are_those_of_haproxy_and_of_each_broker(optioned):
    for address in BALANCERS.values():
        text = got(f"http://{address}:8405/metrics")
        for broker in BROKERS:
            assert f'haproxy_server_status{{proxy="rabbitmq_cluster",server="{broker}"' in text
    for broker, address in ADDRESSES.items():
        text = got(f"http://{address}:15692/metrics")
        assert f'rabbitmq_identity_info{{rabbitmq_node="rabbit@{broker}"' in text


def test_what_pillar_says_is_in_effect_and_so_are_the_snippets(optioned):
    for host, address in BALANCERS.items():
        assert statistics(optioned, host, "rabbitmq_cluster")["BACKEND"]["algo"] == "leastconn"
        assert statistics(optioned, host, "rabbitmq_management")["BACKEND"]["algo"] == "source"
        for port in (7000, 7002):
            with socket.create_connection((address, port), timeout=5):
                pass
        assert has_static_address(optioned, host)
        # The package's unit reads the folder, and goes on doing so after a reload.
        found = optioned.salt(host, "rabbit_failover.running_arguments", "haproxy")[host]
        assert "/etc/haproxy/conf" in found


def test_a_reload_s_old_process_does_not_outlive_hard_stop_after(optioned):
    with connections(optioned, 1) as [connection]:
        optioned.exec(HOLDER, "systemctl", "reload", "haproxy")
        started = time.monotonic()
        assert not is_lost(connection)
        wait_until(lambda: is_lost(connection), 20, lambda: "it is still open")
        assert time.monotonic() - started > 3


def test_connections_to_a_broker_that_hangs_are_closed_at_once(optioned):
    def states():
        return {name: row["status"] for name, row in rows().items()}

    def rows():
        return statistics(optioned, HOLDER, "rabbitmq_cluster")

    wait_until(
        lambda: all(states()[broker] == "UP" for broker in BROKERS), 20, lambda: str(states())
    )
    with connections(optioned) as opened:
        # As many as there are brokers: leastconn gives one to each.
        assert [rows()[broker]["scur"] for broker in BROKERS] == ["1", "1", "1"]
        optioned.command("freeze", BROKERS[2])
        try:
            started = time.monotonic()
            wait_until(lambda: any(map(is_lost, opened)), 20, lambda: str(states()))
            assert time.monotonic() - started < 10
            assert sum(map(is_lost, opened)) == 1
            assert states()[BROKERS[2]] == "DOWN"
        finally:
            optioned.command("thaw", BROKERS[2])
    optioned.wait_until_well()


def test_a_snippet_that_haproxy_refuses_replaces_nothing(optioned):
    before = digests(optioned, HOLDER), asked(optioned, HOLDER, "show info").split("Pid: ")[1][:8]
    broken = {"broken": "listen broken\n    bind :7001\n    nonsense\n"}
    with optioned.pillar_changed({"haproxy": {"snippets": {"text": broken}}}):
        applied = [
            optioned.salt(HOLDER, "state.apply", "rabbit_ha.haproxy", f"test={test}")[HOLDER]
            for test in (True, False)
        ]
    for states in applied:
        [failed] = [s for s in states.values() if s["__id__"] == "HAProxy has its configuration"]
        assert failed["result"] is False
        # Of a snippet, which may hold secrets, the place is told and no word.
        assert "[/etc/haproxy/conf/broken.cfg:3] : unknown keyword '…'" in failed["comment"]
        assert "nonsense" not in failed["comment"]
        assert "so nothing was replaced" in failed["comment"]
    after = digests(optioned, HOLDER), asked(optioned, HOLDER, "show info").split("Pid: ")[1][:8]
    assert after == before


def test_with_the_proxy_protocol_a_broker_sees_its_clients_addresses(optioned):
    broker = BROKERS[2]
    with optioned.pillar_changed({"hosts": {broker: {"proxy_protocol": "v2"}}}):
        refused = optioned.salt(broker, "state.apply", "rabbit_ha.rabbitmq.configured")[broker]
        failed = {s["__id__"] for s in refused.values() if s["result"] is False}
        assert "RabbitMQ's clients reach it as it expects them" in failed
        switch(optioned, broker)
        assert_sees_its_clients_addresses(optioned, broker)
        # RabbitMQ takes either.
        with optioned.pillar_changed({"hosts": {broker: {"proxy_protocol": "v1"}}}):
            optioned.salt("haproxy-*", "state.apply", "rabbit_ha.haproxy")
            assert_sees_its_clients_addresses(optioned, broker)
        optioned.salt("haproxy-*", "state.apply", "rabbit_ha.haproxy")
        done = optioned.salt_run("rabbit_ha.verify", "messages=100")
        assert done.returncode == 0, done.stdout
    switch(optioned, broker)
    optioned.wait_until_well()


def assert_sees_its_clients_addresses(lab, broker):
    """leastconn gives a connection to each broker; the others take HAProxy for their client."""
    lab.wait_until_well()
    with connections(lab):
        wait_until(lambda: len(peers(lab)) == 3, 20, lambda: str(peers(lab)))
        expected = {f"rabbit@{one}": BALANCERS[HOLDER] for one in BROKERS[:2]}
        assert peers(lab) == {**expected, f"rabbit@{broker}": own_address()}
    # Or they would be there the next time, too.
    wait_until(lambda: not peers(lab), 30, lambda: str(peers(lab)))


def peers(lab):
    """Whom each node takes for its client."""
    return {one["node"]: one.get("peer_host") for one in management(lab, "connections")}


def own_address():
    """The address that this process reaches the virtual one from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((VIRTUAL_ADDRESS, 1))
        return probe.getsockname()[0]


def switch(lab, broker):
    """Have a broker and HAProxy change their protocol together, as docs/haproxy.md says."""
    lab.exec(broker, "systemctl", "stop", "rabbitmq-server")
    for target, sls in (("haproxy-*", "rabbit_ha.haproxy"), (broker, "rabbit_ha.rabbitmq")):
        returns = lab.salt(target, "state.apply", sls)
        failed = [s for r in returns.values() for s in r.values() if s["result"] is False]
        assert not failed, failed
    lab.wait_until_well()
