"""Faults: HAProxy, load balancers and brokers die, hang and come back."""

import json
import time

from tests.integration.amqp import consume, publish
from tests.integration.lab import BROKERS, HOLDER, STANDBY, wait_until


def _moves_to_standby_within_5_seconds(lab):
    """Wait for the address, with AMQP working through it; returns the seconds it took."""
    started = time.monotonic()
    wait_until(lambda: lab.holders() == [STANDBY], 5, lambda: f"held by {lab.holders()}")
    with lab.amqp() as connection:
        sent = publish(connection, "test.moved", 10)
        assert consume(connection, "test.moved", 10) == sent
    assert time.monotonic() - started < 8


def test_killed_haproxy_is_back_by_systemd(healthy):
    before = healthy.exec(HOLDER, "pgrep", "-x", "haproxy").stdout
    healthy.exec(HOLDER, "pkill", "-KILL", "-x", "haproxy")
    wait_until(
        lambda: (
            healthy.exec(HOLDER, "systemctl", "is-active", "haproxy", check=False).stdout
            == "active\n"
        ),
        10,
        lambda: "haproxy is not back",
    )
    assert healthy.exec(HOLDER, "pgrep", "-x", "haproxy").stdout != before


def test_address_moves_when_haproxy_is_gone_for_good_and_returns_with_it(healthy):
    healthy.exec(HOLDER, "systemctl", "mask", "--now", "haproxy")
    try:
        _moves_to_standby_within_5_seconds(healthy)
    finally:
        healthy.exec(HOLDER, "systemctl", "unmask", "haproxy")
    wait_until(lambda: healthy.holders() == [HOLDER], 20, lambda: f"held by {healthy.holders()}")


def test_address_moves_when_haproxy_hangs(healthy):
    healthy.exec(HOLDER, "pkill", "-STOP", "-x", "haproxy")
    try:
        _moves_to_standby_within_5_seconds(healthy)
    finally:
        healthy.exec(HOLDER, "pkill", "-CONT", "-x", "haproxy")
    wait_until(lambda: healthy.holders() == [HOLDER], 20, lambda: f"held by {healthy.holders()}")


def test_address_moves_when_the_holder_loses_power(healthy):
    healthy.command("poweroff", HOLDER)
    try:
        _moves_to_standby_within_5_seconds(healthy)
    finally:
        healthy.command("boot", HOLDER)
    wait_until(lambda: healthy.holders() == [HOLDER], 60, lambda: f"held by {healthy.holders()}")
    healthy.wait_for_minions()


def test_address_moves_for_good_from_a_host_that_is_no_load_balancer_any_more(healthy):
    def applied(mode):
        return healthy.salt(HOLDER, "state.apply", "rabbit_ha.no_load_balancer", mode)[HOLDER]

    with healthy.pillar_changed({"hosts": {HOLDER: {"roles": ["broker"]}}}):
        predicted = applied("test=true").values()
        assert [state["result"] for state in predicted] == [None, None], predicted
        assert healthy.holders() == [HOLDER]
        assert all(state["changes"] for state in applied("test=false").values())
        _moves_to_standby_within_5_seconds(healthy)
        again = applied("test=false").values()
        assert [(state["result"], state["changes"]) for state in again] == [(True, {})] * 2, again
    assert healthy.salt_run("state.orchestrate", "orch.rabbit_ha").returncode == 0
    assert healthy.holders() == [HOLDER]


def test_killed_keepalived_leaves_one_holder(healthy):
    healthy.exec(HOLDER, "pkill", "-KILL", "-x", "keepalived")
    wait_until(lambda: healthy.holders() == [HOLDER], 20, lambda: f"held by {healthy.holders()}")


def test_clients_go_on_with_two_brokers_and_the_third_comes_back_by_itself(healthy):
    with healthy.amqp() as connection:
        before = publish(connection, "test.broker", 100)
    healthy.command("poweroff", BROKERS[2])
    try:
        # At once, while HAProxy still takes it for well: one of so many is meant for it.
        for _ in BROKERS:
            with healthy.amqp():
                pass
        with healthy.amqp() as connection:
            after = publish(connection, "test.broker", 100, start=100)
        status = json.loads(healthy.salt_run("rabbit_ha.status", "--out=json").stdout)
        assert not status["verdict"]["result"]
        assert any(BROKERS[2] in problem for problem in status["verdict"]["problems"])
    finally:
        healthy.command("boot", BROKERS[2])
    healthy.wait_for_minions()
    healthy.wait_until_well()
    with healthy.amqp() as connection:
        assert consume(connection, "test.broker", 200) == before | after


def test_verify_fails_and_says_why_when_a_broker_is_down(healthy):
    healthy.exec(BROKERS[1], "systemctl", "stop", "rabbitmq-server")
    try:
        done = healthy.salt_run("rabbit_ha.verify", "messages=10", "patience=1")
    finally:
        healthy.exec(BROKERS[1], "systemctl", "start", "rabbitmq-server")
    assert done.returncode == 1
    assert f"{BROKERS[1]}: broker: node not running" in done.stdout
