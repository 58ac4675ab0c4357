"""
A cluster that was built by hand as in the article is adopted: nothing restarts, nothing is lost.

Clients publish all the while, over connections that must not break.
"""

import contextlib
import json
import os
import threading
import time

import pika
import pytest
import yaml

from bench import bed, deployment
from tests.integration.amqp import publish
from tests.integration.lab import (
    BROKERS,
    CHECKOUT,
    HOLDER,
    HOSTS,
    NODES,
    STANDBY,
    VIRTUAL_ADDRESS,
    announced,
    changed,
    wait_until,
)

FIRST, SEED, THIRD = BROKERS
BALANCERS = (HOLDER, STANDBY)
COOKIE = "/var/lib/rabbitmq/.erlang.cookie"
PASSWORD = "by-hand-pa55word"
# The article's, as by_hand.sh has it.
AUTH_PASS = {"keepalived": {"authentication": {"auth_pass": "123456"}}}
WAITING = 300


class Client(threading.Thread):
    """Publishes until it is told to stop, each message confirmed, over one connection."""

    def __init__(self, lab, host):
        super().__init__(daemon=True)
        self._lab, self._host, self._stop_it = lab, host, threading.Event()
        self.sent, self.failure, self.connected = set(), None, threading.Event()

    def run(self):
        try:
            with self._lab.amqp("shop", PASSWORD, host=self._host) as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
                self.connected.set()
                while not self._stop_it.is_set():
                    body = f"{self._host} {len(self.sent)}".encode()
                    channel.basic_publish("", "orders", body, persistent, mandatory=True)
                    self.sent.add(body)
                    # Answers heartbeats meanwhile.
                    connection.sleep(0.2)
        except Exception as err:  # Whatever it is, a client noticed something.
            self.failure = err

    def finish(self):
        """Stop it; returns what it sent."""
        self._stop_it.set()
        self.join(timeout=20)
        assert self.failure is None, f"{self._host}: {self.failure!r} after {len(self.sent)}"
        return self.sent


@pytest.fixture(scope="module")
def by_hand(another_lab_for_a_module):
    """The article's cluster with what its owner made of it; pillar names another seed."""
    topology = yaml.safe_load((CHECKOUT / "pillar/rabbit_ha/topology.sls").read_text())["rabbit_ha"]
    release = os.environ.get("RELEASE", "bookworm")
    lab = another_lab_for_a_module(release, {"topology": {**topology, "seed": SEED}})
    bed.install_packages(lab.name)
    deployment.by_hand(lab.name)
    for command in (
        ("set_cluster_name", "by_hand"),
        ("add_vhost", "shop"),
        ("add_user", "shop", PASSWORD),
        ("set_user_tags", "shop", "management"),
        ("set_permissions", "shop", ".*", ".*", ".*"),
        ("set_permissions", "-p", "shop", "shop", ".*", ".*", ".*"),
        ("set_policy", "-p", "shop", "short", "^", '{"max-length": 100000}'),
    ):
        lab.exec(FIRST, "rabbitmqctl", *command)
    with lab.network(), lab.amqp("shop", PASSWORD) as connection:
        channel = connection.channel()
        for name, more in (("orders", {}), ("ledger", {"x-queue-type": "quorum"})):
            channel.queue_declare(name, durable=True, arguments=more)
        lab.waiting = {name: _published(connection, name, WAITING) for name in ("orders", "ledger")}
    with lab.network(), lab.amqp("shop", PASSWORD, "shop") as connection:
        publish(connection, "in shop", WAITING)
    with lab.pillar_changed(AUTH_PASS, role="load_balancer"):
        yield lab


def _published(connection, queue, count):
    channel = connection.channel()
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    bodies = [f"waiting {number}".encode() for number in range(count)]
    for body in bodies:
        channel.basic_publish("", queue, body, persistent, mandatory=True)
    return set(bodies)


# Programs with the time they started at, and how often RabbitMQ booted in one of them.
PROCESSES = """
services='haproxy keepalived rabbitmq-server'
pids=$(systemctl show -p MainPID --value $services | grep -x '[1-9][0-9]*' | paste -sd,)
ps --no-headers -o comm,pid,lstart -p $pids
cat /var/log/rabbitmq/rabbit@*.log 2>/dev/null | grep -c 'Server startup complete'
"""
# Where a deployment writes to, with the time of each file.
FILES = """
find /etc /usr/local /var/backups /var/lib/rabbitmq/.erlang.cookie* -printf '%p %T@ %s %m %u\\n'
"""


def _shown(lab, *scripts):
    """What shell scripts print on each host."""
    script = "\n".join(scripts)
    return {host: lab.exec(host, "sh", "-c", script, check=False).stdout for host in HOSTS}


def _definitions(lab):
    exported = lab.exec(FIRST, "rabbitmqctl", "--silent", "export_definitions", "-").stdout
    return json.loads(exported[exported.index("{") :])


def _messages(lab, vhost="/"):
    found = lab.rabbitmqctl(FIRST, "list_queues", "--vhost", vhost, "name", "messages")
    return {queue["name"]: queue["messages"] for queue in found}


def _drained(lab, queue, vhost="/"):
    """All messages of a queue."""
    with lab.network(), lab.amqp("shop", PASSWORD, vhost) as connection:
        channel = connection.channel()
        got = iter(lambda: channel.basic_get(queue, auto_ack=True)[2], None)
        return set(got)


@contextlib.contextmanager
def _untouched(lab):
    """See that nothing that a deployment changes was changed meanwhile."""
    shown, definitions = _shown(lab, PROCESSES, FILES), _definitions(lab)
    yield
    for host, lines in _shown(lab, PROCESSES, FILES).items():
        assert set(lines.splitlines()) ^ set(shown[host].splitlines()) == set(), host
    assert _definitions(lab) == definitions


def test_another_cookie_in_pillar_is_refused_before_anything_is_touched(by_hand):
    another = {"rabbitmq": {"erlang_cookie": "ANOTHERCOOKIE"}}
    with _untouched(by_hand), by_hand.pillar_changed(another, role="broker"):
        for arguments in (["rabbit_ha.plan"], ["state.orchestrate", "orch.rabbit_ha"]):
            done = by_hand.salt_run(*arguments)
            assert done.returncode == 1, done.stdout
            for broker in BROKERS:
                said = f"{broker}: The Erlang cookie is the cluster's: cookie sync: this broker is"
                assert f"{said} a member together" in done.stdout
            assert "take rabbit_ha:rabbitmq:erlang_cookie out of pillar" in done.stdout


def test_it_is_adopted_as_planned_while_all_goes_on(by_hand):
    with _untouched(by_hand):
        plan = by_hand.salt_run("rabbit_ha.plan", "--out=json")
    assert plan.returncode == 0, plan.stdout
    said = json.loads(plan.stdout)
    for broker in BROKERS:
        assert "RabbitMQ has its configuration" in said["changes"][broker]
        assert _warned(said, broker), said["verdict"]["warnings"]
    definitions = said["changes"][SEED]["The cluster has its vhosts, users and policies"]
    assert definitions["users"] == {
        "admin": {"old": None, "new": definitions["users"]["admin"]["new"]},
        "guest": {"old": "present", "new": "absent"},
    }
    name = said["changes"][SEED]["The cluster has its name"]
    assert name == {"cluster_name": {"old": "by_hand", "new": "rabbitmq_cluster1"}}

    before = _shown(by_hand, PROCESSES)
    assert all("beam.smp" in before[broker] for broker in BROKERS), before
    assert all({"haproxy", "keepalived"} <= set(before[host].split()) for host in BALANCERS), before
    cookie = by_hand.exec(FIRST, "cat", COOKIE).stdout
    found = _definitions(by_hand)
    with by_hand.network():
        clients = [Client(by_hand, host) for host in ("192.168.123.104", VIRTUAL_ADDRESS)]
        for client in clients:
            client.start()
            assert client.connected.wait(10), client.failure
    done = by_hand.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
    assert done.returncode == 0, done.stdout + done.stderr
    time.sleep(5)
    sent = set.union(*(client.finish() for client in clients))

    assert changed(done) == announced(plan)
    assert _shown(by_hand, PROCESSES) == before
    assert {by_hand.exec(broker, "cat", COOKIE).stdout for broker in BROKERS} == {cookie}
    assert by_hand.holders() == [HOLDER]
    status = by_hand.rabbitmqctl(THIRD, "cluster_status")
    assert (sorted(status["running_nodes"]), status["cluster_name"]) == (
        NODES,
        "rabbitmq_cluster1",
    )
    after = _definitions(by_hand)
    for kind in ("vhosts", "users", "permissions", "policies", "queues"):
        gone = [one for one in found[kind] if one not in after[kind]]
        assert {one.get("user", one.get("name")) for one in gone} <= {"guest"}, gone
    wait_until(
        lambda: _messages(by_hand) == {"orders": WAITING + len(sent), "ledger": WAITING},
        10,
        lambda: _messages(by_hand),
    )
    assert _messages(by_hand, "shop") == {"in shop": WAITING}
    assert _drained(by_hand, "orders") == by_hand.waiting["orders"] | sent
    assert _drained(by_hand, "ledger") == by_hand.waiting["ledger"]


def _warned(said, broker):
    """Tell whether a broker's pending restart is told."""
    waits = f"{broker}: /etc/rabbitmq/rabbitmq.conf"
    return any(one.startswith(waits) for one in said["verdict"]["warnings"])


def test_a_second_run_changes_nothing_and_what_waits_for_a_restart_is_told(by_hand):
    done = by_hand.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
    assert done.returncode == 0, done.stdout
    (states,) = json.loads(done.stdout)["data"].values()
    assert not [state["__id__"] for state in states.values() if state["changes"]]
    warned = [said for state in states.values() for said in state.get("warnings", [])]
    for broker in BROKERS:
        assert any(said.startswith(f"{broker}: ") for said in warned), warned

    by_hand.exec(THIRD, "systemctl", "restart", "rabbitmq-server")
    by_hand.wait_until_well()
    plan = json.loads(by_hand.salt_run("rabbit_ha.plan", "--out=json").stdout)
    assert (plan["verdict"]["says"], plan["changes"]) == ("nothing to do", {})
    assert [_warned(plan, broker) for broker in BROKERS] == [True, True, False]
