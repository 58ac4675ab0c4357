"""What operators do to a cluster that serves, as docs/runbook.md has it, and what clients do."""

import contextlib
import socket
import time

import pytest

from tests.integration.amqp import Publisher
from tests.integration.lab import BROKERS, HOLDER, STANDBY, VIRTUAL_ADDRESS, servers_of, wait_until

SEED, SECOND, THIRD = BROKERS
PORT, NEXT_PORT = 5672, 5673
DEFINED = "The cluster has its vhosts, users and policies"
# HAProxy offers a broker that stops for twice 5 s; a client connects again, and may meet the next.
LONGEST_GAP = 25


def ports(lab, broker):
    """The ports on which a broker listens for AMQP."""
    listeners = lab.rabbitmqctl(broker, "status")["listeners"]
    return sorted(one["port"] for one in listeners if one["protocol"] == "amqp")


def restart_one_at_a_time(lab):
    """Restart RabbitMQ on each broker, the next one once the load balancers see all serve."""
    for broker in BROKERS:
        # Restarted as often as in these tests, systemd might refuse it.
        lab.exec(broker, "systemctl", "reset-failed", "rabbitmq-server")
        lab.exec(broker, "systemctl", "restart", "rabbitmq-server")
        lab.wait_until_all_serve()


def test_brokers_get_another_port_without_an_outage_and_the_old_one_while_all_are_stopped(healthy):
    with healthy.pillar_changed({"rabbitmq": {"amqp_port": NEXT_PORT}}):
        refused = healthy.salt_run("state.orchestrate", "orch.rabbit_ha")
    assert refused.returncode != 0
    assert f"listens for amqp on port {PORT}, pillar wants {NEXT_PORT}" in refused.stdout
    try:
        with Publisher(healthy) as publisher:
            both = {"config": {"listeners.tcp.next": NEXT_PORT}}
            with healthy.pillar_changed({"rabbitmq": both}):
                healthy.deploy()
                restart_one_at_a_time(healthy)
            assert [ports(healthy, broker) for broker in BROKERS] == [[PORT, NEXT_PORT]] * 3
            with healthy.pillar_changed({"rabbitmq": {"amqp_port": NEXT_PORT}}):
                healthy.deploy()
                status = healthy.salt_run("rabbit_ha.status")
                assert status.returncode == 0 and "A changed rabbitmq.conf" in status.stdout
        for host in (HOLDER, STANDBY):
            servers = healthy.exec(host, "grep", "server rabbit", "/etc/haproxy/haproxy.cfg").stdout
            assert servers.count(f":{NEXT_PORT} ") == 3
        publisher.assert_nothing_is_lost()
        assert publisher.gap < LONGEST_GAP
    finally:
        for broker in BROKERS:
            healthy.exec(broker, "systemctl", "stop", "rabbitmq-server")
            healthy.exec(broker, "systemctl", "reset-failed", "rabbitmq-server")
        healthy.deploy()
    assert [ports(healthy, broker) for broker in BROKERS] == [[PORT]] * 3


def test_with_all_connections_taken_the_address_stays_and_the_next_client_waits(healthy):
    few = {"global": {"maxconn": 103}, "defaults": {"maxconn": 3}}
    statistics = healthy.secret("load_balancer")["haproxy"]["monitor"]["password"]
    try:
        with healthy.pillar_changed({"haproxy": few}):
            healthy.deploy()
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                taken = socket.create_connection((VIRTUAL_ADDRESS, PORT), timeout=5)
                # RabbitMQ closes one that says nothing.
                taken.sendall(b"AMQP")
                stack.callback(taken.close)
            # Longer than keepalived takes to find it down.
            deadline = time.monotonic() + 12
            while time.monotonic() < deadline:
                assert healthy.holders() == [HOLDER]
                assert set(servers_of(VIRTUAL_ADDRESS, statistics).values()) == {"UP"}
                time.sleep(1)
        with healthy.amqp():
            pass
    finally:
        healthy.deploy()


@pytest.mark.parametrize(("length", "refuses"), [(10, False), (0, True)])
def test_verify_tells_of_a_policy_that_refuses_messages_where_one_does(healthy, length, refuses):
    definition = {"max-length": length, "overflow": "reject-publish"}
    policy = {"pattern": "^rabbit_ha", "apply-to": "queues", "priority": 99}
    said = {"policies": {"test-short": {**policy, "definition": definition}}}
    try:
        with healthy.pillar_changed({"rabbitmq": said}):
            state = healthy.applied(SEED, "policies")[DEFINED]
            assert state["result"] is True, state["comment"]
            found = healthy.salt_run("rabbit_ha.verify")
    finally:
        with healthy.pillar_changed({"rabbitmq": {"policies": {"test-short": {"absent": True}}}}):
            healthy.applied(SEED, "policies")
    # A quorum queue counts what waits for a consumer only.
    refuses = refuses and healthy.release == "bookworm"
    assert found.returncode == int(refuses), found.stdout
    assert ("The policy test-short of / (max-length" in found.stdout) is refuses
    assert healthy.salt_run("rabbit_ha.verify").returncode == 0


def test_a_broker_that_was_drained_by_a_person_stays_so_until_a_person_revives_it(healthy):
    healthy.exec(THIRD, "rabbitmq-upgrade", "drain")
    try:
        states = healthy.applied(THIRD, "clustered")
        assert not any(state["changes"] for state in states.values())
        status = healthy.salt_run("rabbit_ha.status")
        assert status.returncode != 0
        assert f"{THIRD}: is under maintenance" in status.stdout
    finally:
        healthy.exec(THIRD, "rabbitmq-upgrade", "revive")
    wait_until(lambda: ports(healthy, THIRD) == [PORT], 30, lambda: ports(healthy, THIRD))
