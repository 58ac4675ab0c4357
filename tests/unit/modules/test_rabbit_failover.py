"""rabbit_failover: the address is with another load balancer before anything restarts."""

import os
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import salt.modules.cmdmod
import salt.modules.network
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.support import TOPOLOGY, Breakable, faked, load

ADDRESS = TOPOLOGY["virtual_address"]
CHECK = ["haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"]


class Pair(Breakable):
    """Salt's ``service`` on a load balancer: its keepalived holds the address while it runs."""

    def __init__(self, master=True, other_is_well=True):
        super().__init__()
        self._running = {"haproxy": True, "keepalived": True}
        self._master, self._other_is_well = master, other_is_well
        self._haproxy_answers = True

    def status(self, name, sig=None):
        return self._running[name]

    def start(self, name, no_block=False, unmask=False, unmask_runtime=False):
        if self._takes("start", name):
            self._running[name] = True
        return True

    def stop(self, name, no_block=None):
        if self._takes("stop", name):
            self._running[name] = False
        return not self._running[name]

    def restart(self, name, no_block=None, unmask=False, unmask_runtime=False):
        self._takes("restart", name)
        return True

    def _holds(self):
        return self._master and self._running["keepalived"]


class Network:
    """Salt's ``network``: the address answers here, or on the other load balancer."""

    def __init__(self, pair, near=True):
        self._pair, self._near = pair, near

    def connect(self, host, port=None, **kwargs):
        if host == "127.0.0.1":
            return {"result": self._pair._haproxy_answers, "comment": ""}
        assert (host, str(port)) == (ADDRESS, "5672")
        return {"result": self._pair._holds() or self._pair._other_is_well, "comment": ""}

    def subnets(self, interfaces=None):
        return ["192.168.123.0/24"] if self._near else ["10.0.0.0/8"]

    def subnets6(self):
        return ["fe80::/64"]


class Host:
    """Salt's ``rabbit_host``: which of the addresses this one holds."""

    def __init__(self, pair):
        self._pair = pair

    def held_addresses(self, addresses):
        return list(addresses) if self._pair._holds() else []


@pytest.fixture
def load_balancer(topology):
    """Return a function that loads the module on a load balancer of a pair, or on the only one."""

    def build(pair, near=True, alone=False, check_fails=False):
        judged = {"retcode": int(check_fails), "stdout": "line 7: unknown keyword", "stderr": ""}
        hosts = dict(TOPOLOGY["hosts"])
        if alone:
            del hosts["haproxy-keeplive-node2"]
        here = topology("haproxy-keeplive-node1", {**TOPOLOGY, "hosts": hosts})
        run = create_autospec(salt.modules.cmdmod.run_all, return_value=judged)
        module = load(
            "_modules/rabbit_failover.py",
            salt={"cmd.run_all": run}
            | faked("service", pair, salt.modules.systemd_service)
            | faked("network", Network(pair, near), salt.modules.network)
            | faked("rabbit_host", Host(pair), load("_modules/rabbit_host.py"))
            | here,
            utils=here,
            grains={"id": "haproxy-keeplive-node1"},
        )
        slept = []
        module.time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
        return module

    return build


def test_the_holder_gives_the_address_away_before_haproxy_restarts_and_comes_back(load_balancer):
    pair = Pair()
    load_balancer(pair).restart("haproxy")
    assert pair.writes == [("stop", "keepalived"), ("restart", "haproxy"), ("start", "keepalived")]


def test_keepalived_itself_is_stopped_and_started_with_the_other_serving_meanwhile(load_balancer):
    pair = Pair()
    load_balancer(pair).restart("keepalived")
    assert pair.writes == [("stop", "keepalived"), ("start", "keepalived")]


@pytest.mark.parametrize("service", ["haproxy", "keepalived"])
def test_who_does_not_hold_the_address_simply_restarts(load_balancer, service):
    pair = Pair(master=False)
    load_balancer(pair).restart(service)
    assert pair.writes == [("restart", service)]


@pytest.mark.parametrize("service", ["haproxy", "keepalived"])
def test_the_only_load_balancer_simply_restarts(load_balancer, service):
    pair = Pair()
    load_balancer(pair, alone=True).restart(service)
    assert pair.writes == [("restart", service)]


def test_where_nobody_takes_the_address_it_comes_back_and_nothing_restarts(load_balancer):
    pair = Pair(other_is_well=False)
    with pytest.raises(CommandExecutionError, match=f"no other load balancer served {ADDRESS}"):
        load_balancer(pair).restart("haproxy")
    assert pair.writes == [("stop", "keepalived"), ("start", "keepalived")]
    assert pair._holds()


def test_an_address_this_host_has_no_route_to_need_not_answer_here(load_balancer):
    pair = Pair(other_is_well=False)
    load_balancer(pair, near=False).restart("haproxy")
    assert ("restart", "haproxy") in pair.writes


def test_a_configuration_that_the_new_program_refuses_touches_nothing(load_balancer):
    pair = Pair()
    with pytest.raises(CommandExecutionError, match="not restarted: line 7: unknown keyword"):
        load_balancer(pair, check_fails=True).restart("haproxy", CHECK)
    assert pair.writes == []


def test_a_haproxy_that_does_not_answer_afterwards_leaves_the_address_with_the_other(
    load_balancer,
):
    pair = Pair()
    pair._haproxy_answers = False
    with pytest.raises(CommandExecutionError, match=f"does not answer; {ADDRESS} stays with"):
        load_balancer(pair).restart("haproxy")
    assert ("start", "keepalived") not in pair.writes


def test_a_haproxy_that_does_not_start_leaves_the_address_with_the_other(load_balancer):
    pair = Pair()
    pair.fails["restart"] = CommandExecutionError("Job for haproxy.service failed")
    with pytest.raises(CommandExecutionError, match="Job for haproxy.service failed"):
        load_balancer(pair).restart("haproxy")
    assert ("start", "keepalived") not in pair.writes


def test_a_keepalived_that_does_not_stop_is_an_error_and_nothing_restarts(load_balancer):
    pair = Pair()
    pair.lost.add("stop")
    with pytest.raises(CommandExecutionError, match="keepalived did not stop"):
        load_balancer(pair).restart("haproxy")
    assert pair.writes == [("stop", "keepalived")]


@pytest.fixture
def shown():
    """Load the module over what ``systemctl show`` prints."""

    def build(stdout, retcode=0, stderr=""):
        answer = {"retcode": retcode, "stdout": stdout, "stderr": stderr, "pid": 1}
        run = create_autospec(salt.modules.cmdmod.run_all, return_value=answer)
        return load("_modules/rabbit_failover.py", salt={"cmd.run_all": run})

    return build


def test_a_running_service_s_program_is_told_without_symbolic_links(shown):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = shown(str(process.pid)).running_program("haproxy")
        process.communicate(b"\n")
    assert found == os.path.realpath(sys.executable)


@pytest.mark.parametrize("stdout", ["0", ""])
def test_a_service_that_does_not_run_has_no_program(shown, stdout):
    assert shown(stdout).running_program("haproxy") is None


def test_a_systemctl_that_fails_is_an_error_with_its_words(shown):
    with pytest.raises(CommandExecutionError, match="systemctl show haproxy failed: no bus"):
        shown("", 1, "no bus").running_program("haproxy")
