"""rabbit_failover.program_in_use: restarts only what runs another program."""

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import Breakable, faked, load

OLD, NEW = "/opt/haproxy-2.6.12/sbin/haproxy", "/opt/haproxy-2.8.0/sbin/haproxy"


class Failover(Breakable):
    """The execution module ``rabbit_failover`` of a host with one service."""

    def __init__(self, running):
        super().__init__()
        self._running = running

    def running_program(self, service):
        return self._running

    def restart(self, service, check=None):
        if self._takes("restart", service, check):
            self._running = NEW


@pytest.fixture
def host():
    def build(running, test=False):
        failover = Failover(running)
        salt = faked("rabbit_failover", failover, load("_modules/rabbit_failover.py"))
        return load("_states/rabbit_failover.py", salt=salt, opts={"test": test}), failover

    return build


def test_a_service_with_an_older_program_restarts_once(host):
    state, failover = host(OLD)
    ret = state.program_in_use("haproxy", NEW, ["check"])
    assert ret["result"] is True
    assert ret["changes"] == {"program": {"old": OLD, "new": NEW}}
    assert state.program_in_use("haproxy", NEW, ["check"])["changes"] == {}
    assert failover.writes == [("restart", "haproxy", ["check"])]


def test_a_program_that_was_replaced_in_its_place_is_another_one(host):
    state, failover = host(f"{NEW} (deleted)")
    assert state.program_in_use("haproxy", NEW)["result"] is True
    assert failover.writes == [("restart", "haproxy", None)]


def test_in_test_mode_it_would_be_restarted(host):
    state, failover = host(OLD, test=True)
    ret = state.program_in_use("haproxy", NEW)
    assert ret["result"] is None
    assert ret["changes"]
    assert failover.writes == []


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("running", [NEW, None])
def test_the_right_program_and_a_service_that_does_not_run_are_left_alone(host, running, test):
    state, failover = host(running, test)
    ret = state.program_in_use("haproxy", NEW)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert failover.writes == []


def test_the_program_is_compared_without_symbolic_links(host, tmp_path):
    real = tmp_path / "haproxy-2.8.0"
    real.touch()
    (tmp_path / "haproxy").symlink_to(real)
    state, _ = host(str(real))
    assert state.program_in_use("haproxy", str(tmp_path / "haproxy"))["changes"] == {}


def test_a_restart_that_silently_did_not_happen_is_noticed(host):
    state, failover = host(OLD)
    failover.lost.add("restart")
    ret = state.program_in_use("haproxy", NEW)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert f"yet runs {OLD}" in ret["comment"]


def test_a_restart_that_fails_names_host_and_service(host):
    state, failover = host(OLD)
    failover.fails["restart"] = CommandExecutionError("no other load balancer")
    ret = state.program_in_use("haproxy", NEW)
    assert ret["result"] is False
    assert ret["comment"] == "rabbitmq-node2: haproxy: no other load balancer"
