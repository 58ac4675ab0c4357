"""rabbit_failover: the address goes to another load balancer before a service is restarted."""

import copy
import os
from types import SimpleNamespace

import pytest
import salt.modules.cmdmod
import salt.modules.network
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.support import TOPOLOGY, Breakable, faked, functions, load

HOLDER, STANDBY = "haproxy-keeplive-node1", "haproxy-keeplive-node2"
ADDRESS = "192.168.123.123"
SERVICE = "haproxy"
UNIT_FAILED = CommandExecutionError("Job for haproxy.service failed.\nSee there for details.")


class World:
    """The load balancer that the module runs on, and the other one."""

    def __init__(self, holds=True, takes_over=True, near=True):
        self.holds, self.takes_over = holds, takes_over
        self.networks = ["192.168.123.0/24" if near else "192.0.2.0/24"]
        self.keepalived_runs = True
        self.haproxy_answers = True


class Service(Breakable):
    """Salt's ``service``; the address follows keepalived."""

    def __init__(self, world):
        super().__init__()
        self._world = world

    def _does(self, name, service):
        """As Salt on systemd: what fails raises, only ``stop`` returns False."""
        done = self._takes(name, service)
        if done and service in ("keepalived", "own"):
            self._world.keepalived_runs = name != "stop"
            self._world.holds = self._world.holds and self._world.keepalived_runs
        return done

    def stop(self, name, no_block=None):
        return self._does("stop", name)

    def start(self, name, no_block=False, unmask=False, unmask_runtime=False):
        self._does("start", name)
        return True

    def restart(self, name, no_block=None, unmask=False, unmask_runtime=False):
        self._does("restart", name)
        return True


class Network:
    """Salt's ``network``."""

    def __init__(self, world):
        self._world = world

    def connect(self, host, port=None, **kwargs):
        if host == ADDRESS:
            return {"result": self._world.holds or self._world.takes_over}
        return {"result": self._world.haproxy_answers}

    def subnets(self, interfaces=None):
        return self._world.networks

    def subnets6(self):
        return []


class Facts:
    """``rabbit_host``, as far as addresses go."""

    def __init__(self, world):
        self._world = world

    def held_addresses(self, addresses):
        return list(addresses) if self._world.holds else []


class Commands:
    """Salt's ``cmd``: systemctl show."""

    def __init__(self, answers):
        self._answers, self.ran, self.kept = answers, [], []

    def run_all(self, cmd, **kwargs):
        self.ran.append(cmd)
        if kwargs.get("output_loglevel") != "quiet":
            self.kept.append(cmd)
        assert kwargs["python_shell"] is False
        retcode, text = self._answers[" ".join(cmd)]
        return {"retcode": retcode, "stdout": text, "stderr": text}


class Host:
    def __init__(
        self,
        topology,
        world=None,
        minion=HOLDER,
        pillar=None,
        answers=None,
    ):
        self.world = world or World()
        self.service, self.commands = Service(self.world), Commands(answers or {})
        loaded = topology(minion, pillar)
        utils = {name: loaded[name] for name in loaded if name.startswith("rabbit_settings.")}
        loaded |= faked("service", self.service, salt.modules.systemd_service)
        loaded |= faked("network", Network(self.world), salt.modules.network)
        facts = load("_modules/rabbit_host.py", salt=loaded, grains={"id": minion})
        loaded |= functions("rabbit_host", facts)
        loaded |= faked("rabbit_host", Facts(self.world), facts)
        loaded["cmd.run_all"] = self.commands.run_all
        loaded["pillar.get"] = lambda key, default, unmask: {"rabbit_ha": pillar or TOPOLOGY}[key]
        configuration = load("_modules/rabbit_configuration.py", salt=loaded, utils=utils)
        loaded |= functions("rabbit_configuration", configuration)
        self.module = load(
            "_modules/rabbit_failover.py", salt=loaded, grains={"id": minion}, utils=utils
        )
        self.waited = 0
        self.module.time = SimpleNamespace(monotonic=self._now, sleep=lambda seconds: None)

    def _now(self):
        self.waited += 1
        return self.waited


@pytest.fixture
def host(topology):
    def build(**kwargs):
        return Host(topology, **kwargs)

    return build


def test_arguments_are_those_of_the_main_process(host):
    shown = f"systemctl show -p MainPID {SERVICE}"
    here = host(answers={shown: (0, f"MainPID={os.getpid()}")})
    with open("/proc/self/cmdline", encoding="utf-8") as handle:
        own = handle.read().split("\0")
    assert here.module.running_arguments(SERVICE) == own[1:-1]


@pytest.mark.parametrize("process", ["0", "999999999"])
def test_a_service_that_does_not_run_has_no_arguments(host, process):
    here = host(answers={f"systemctl show -p MainPID {SERVICE}": (0, f"MainPID={process}")})
    assert here.module.running_arguments(SERVICE) is None


def test_the_holder_gives_the_address_away_before_haproxy_restarts(host):
    here = host()
    here.module.restart("haproxy")
    assert here.service.writes == [
        ("stop", "keepalived"),
        ("restart", "haproxy"),
        ("start", "keepalived"),
    ]


def test_keepalived_itself_is_stopped_until_the_other_one_serves(host):
    here = host()
    here.module.restart("keepalived")
    assert here.service.writes == [("stop", "keepalived"), ("start", "keepalived")]


def test_a_keepalived_that_the_host_calls_otherwise_is_the_one_that_stops(host):
    pillar = copy.deepcopy(TOPOLOGY)
    pillar["hosts"][HOLDER]["keepalived"]["service"] = "own"
    here = host(pillar=pillar)
    here.module.restart("haproxy")
    assert here.service.writes == [("stop", "own"), ("restart", "haproxy"), ("start", "own")]


@pytest.mark.parametrize("service", ["haproxy", "keepalived"])
def test_a_backup_just_restarts(host, service):
    here = host(world=World(holds=False), minion=STANDBY)
    here.module.restart(service)
    assert here.service.writes == [("restart", service)]


@pytest.mark.parametrize("service", ["haproxy", "keepalived"])
def test_the_only_load_balancer_just_restarts(host, service):
    pillar = {
        "virtual_address": ADDRESS,
        "hosts": {HOLDER: {"address": "192.168.123.11", "roles": ["load_balancer"]}},
    }
    here = host(pillar=pillar)
    here.module.restart(service)
    assert here.service.writes == [("restart", service)]


@pytest.mark.parametrize("service", ["haproxy", "keepalived"])
def test_when_no_other_one_takes_the_address_it_stays_and_nothing_is_restarted(host, service):
    here = host(world=World(takes_over=False))
    with pytest.raises(CommandExecutionError, match=f"no other load balancer served {ADDRESS}"):
        here.module.restart(service)
    assert here.service.writes == [("stop", "keepalived"), ("start", "keepalived")]


@pytest.mark.parametrize(("advert_int", "seconds"), [(1, 19), (40, 175)])
def test_a_backup_is_given_the_time_that_its_advertisements_take(host, advert_int, seconds):
    pillar = {**TOPOLOGY, "keepalived": {"version": 3, "advert_int": advert_int}}
    here = host(world=World(takes_over=False), pillar=pillar)
    with pytest.raises(CommandExecutionError, match=f"served {ADDRESS} within {seconds} s"):
        here.module.restart("haproxy")
    assert here.waited >= seconds


def test_an_address_of_another_network_is_not_asked_as_there_may_be_no_way_to_it(host):
    here = host(world=World(takes_over=False, near=False))
    here.module.restart("haproxy")
    assert ("restart", "haproxy") in here.service.writes


def test_a_configuration_that_the_new_program_refuses_stops_it_before_anything_is_touched(host):
    here = host(answers={"haproxy -c": (1, "unknown keyword")})
    with pytest.raises(CommandExecutionError, match="haproxy was not restarted: unknown keyword"):
        here.module.restart("haproxy", ["haproxy", "-c"])
    assert here.service.writes == []


def test_what_the_new_program_says_of_a_secret_is_not_told(host):
    said = "[ALERT] : parsing [haproxy.cfg:60] : stats auth stats:s3cret-password"
    pillar = {**TOPOLOGY, "haproxy": {"monitor": {"password": "s3cret-password"}}}
    here = host(answers={"haproxy -c": (1, said)}, pillar=pillar)
    with pytest.raises(CommandExecutionError, match="stats auth stats:…") as raised:
        here.module.restart("haproxy", ["haproxy", "-c"])
    assert "s3cret" not in str(raised.value)
    assert here.commands.kept == []


def test_a_haproxy_that_does_not_start_leaves_the_address_with_the_other_one(host):
    here = host()
    here.service.fails = {"restart": UNIT_FAILED}
    with pytest.raises(CommandExecutionError) as raised:
        here.module.restart("haproxy")
    assert str(raised.value) == (
        f"systemctl restart haproxy failed, {ADDRESS} stays with another load balancer, as "
        "keepalived was stopped here for that and stays so: Job for haproxy.service failed. Next: "
        "journalctl -u haproxy, then run again"
    )
    assert ("start", "keepalived") not in here.service.writes


def test_a_haproxy_that_starts_and_does_not_answer_leaves_it_there_too(host):
    here = host()
    here.world.haproxy_answers = False
    with pytest.raises(CommandExecutionError, match="does not answer, .* stays with another"):
        here.module.restart("haproxy")
    assert ("start", "keepalived") not in here.service.writes


def test_a_keepalived_that_does_not_stop_or_start_is_said(host):
    here = host()
    here.service.lost = {"stop"}
    with pytest.raises(CommandExecutionError, match="stop keepalived failed. Next: journalctl"):
        here.module.restart("haproxy")
    here = host()
    here.service.fails = {"start": UNIT_FAILED}
    with pytest.raises(CommandExecutionError, match=f"start keepalived failed, {ADDRESS} stays"):
        here.module.restart("keepalived")


def test_a_keepalived_that_nobody_stands_in_for_and_that_does_not_start_again_is_said(host):
    here = host(world=World(takes_over=False))
    here.service.fails = {"start": UNIT_FAILED}
    said = f"start keepalived failed, and no other load balancer served {ADDRESS} within"
    with pytest.raises(CommandExecutionError, match=said):
        here.module.restart("haproxy")


def test_the_address_is_waited_for(host):
    assert host().module.await_addresses([ADDRESS]) == [ADDRESS]
    with pytest.raises(CommandExecutionError, match=f"holds none of {ADDRESS} after 15 s"):
        host(world=World(holds=False)).module.await_addresses([ADDRESS])


def test_the_program_of_a_service_is_that_of_its_main_process(host, monkeypatch):
    shown = "systemctl show -p MainPID haproxy"
    here = host(answers={shown: (0, "MainPID=42")})
    monkeypatch.setattr(here.module.os, "readlink", lambda path: f"exe of {path}")
    assert here.module.running_program("haproxy") == "exe of /proc/42/exe"
    assert host(answers={shown: (0, "MainPID=0")}).module.running_program("haproxy") is None
    with pytest.raises(CommandExecutionError, match="systemctl show haproxy failed: oops"):
        host(answers={shown: (1, "oops")}).module.running_program("haproxy")


def test_a_process_that_ended_meanwhile_runs_no_program(host, monkeypatch):
    def gone(path):
        raise FileNotFoundError

    here = host(answers={"systemctl show -p MainPID haproxy": (0, "MainPID=42")})
    monkeypatch.setattr(here.module.os, "readlink", gone)
    assert here.module.running_program("haproxy") is None


def test_the_unit_file_is_what_systemd_says(host):
    shown = "systemctl show -p FragmentPath haproxy"
    assert host(answers={shown: (0, "FragmentPath=/x")}).module.unit_file("haproxy") == "/x"


def test_fakes_are_asked_through_the_loader_s_names(host):
    assert "rabbit_failover.restart" in functions("rabbit_failover", host().module)
