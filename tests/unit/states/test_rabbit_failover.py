"""rabbit_failover, the states: unit read, program restarted, addresses awaited."""

import time

import pytest
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.support import Breakable, faked, load, with_systemctl

FILES = ["/etc/haproxy/haproxy.cfg", "/etc/haproxy/conf"]
READS = ["-f", FILES[0], "-f", FILES[1]]
UNIT = "/usr/local/lib/systemd/system/haproxy.service"
ADDRESS = "192.168.123.123"


class Failover(Breakable):
    """``rabbit_failover``: one service, and the addresses of one host."""

    def __init__(self, running, unit, held, installed):
        super().__init__()
        self._running, self._unit, self._held, self._installed = running, unit, held, installed
        self.arguments = ["-Ws", "-f", "/etc/haproxy/haproxy.cfg", "-p", "/run/haproxy.pid"]

    def running_program(self, service):
        return self._running

    def running_arguments(self, service):
        return self.arguments if self._running else None

    def unit_file(self, service):
        return self._unit

    def restart(self, service, check=None):
        if self._takes("restart", service, check):
            self._running = self._installed
            # As after a reload, too: HAProxy keeps what it was started with.
            self.arguments = ["-Ws", *READS, "-S", "/run/haproxy-master.sock", "-sf", "12"]

    def await_addresses(self, addresses, seconds=15):
        if self._takes("await_addresses", seconds):
            self._held = list(addresses)
        return self._held


class Facts:
    """``rabbit_host``, as far as addresses go."""

    def __init__(self, failover):
        self._failover = failover

    def held_addresses(self, addresses):
        return [address for address in addresses if address in self._failover._held]


class Files:
    """``rabbit_host``: when a service read its configuration, and when that was written."""

    def __init__(self, loaded, written):
        self._loaded, self._written = loaded, written

    def service_load_time(self, service, workers=False, patience=30, interval=0.1):
        return self._loaded

    def last_written(self, paths):
        assert paths == FILES
        return self._written


class Systemd(Breakable):
    """Salt's ``service``, as far as units and configurations are read again."""

    def __init__(self, failover, files):
        super().__init__()
        self._failover, self._files = failover, files
        self.reloaded_at = lambda: self._files._written + 1

    def reload_(self, name, no_block=False, unmask=False, unmask_runtime=False):
        if self._takes("reload", name):
            self._files._loaded = self.reloaded_at()
        return True

    def systemctl_reload(self):
        if self._takes("systemctl_reload"):
            self._failover._unit = UNIT
        return True


class Host:
    def __init__(
        self, program, running=None, unit="", held=(), test=False, loaded=None, written=None
    ):
        self.failover = Failover(running, unit, list(held), program)
        files = Files(loaded, written)
        self.systemd = Systemd(self.failover, files)
        known = faked("rabbit_failover", self.failover, load("_modules/rabbit_failover.py"))
        known |= faked("rabbit_host", Facts(self.failover), load("_modules/rabbit_host.py"))
        known |= faked("rabbit_host", files, load("_modules/rabbit_host.py"))
        known |= faked("service", self.systemd, salt.modules.systemd_service)
        # As the loader names it.
        known["service.reload"] = known.pop("service.reload_")
        known = with_systemctl(known)
        # What Salt has of the states that ran before.
        self.before = {}
        self.states = load(
            "_states/rabbit_failover.py", salt=known, opts={"test": test}, running=self.before
        )

    def loaded(self):
        return self.states.configuration_in_use("haproxy", FILES)


@pytest.fixture
def host(tmp_path):
    """A host whose installed program is a link to a build's."""
    built = tmp_path / "built"
    built.write_text("")
    link = tmp_path / "haproxy"
    link.symlink_to(built)

    def build(**kwargs):
        here = Host(str(built), **kwargs)
        here.link, here.built = str(link), str(built)
        return here

    return build


def test_a_service_that_runs_another_program_is_restarted_once(host):
    here = host(running="/usr/sbin/haproxy")
    ret = here.states.program_in_use("haproxy", here.link, ["check"])
    assert ret["result"] is True
    assert ret["changes"] == {"program": {"old": "/usr/sbin/haproxy", "new": here.built}}
    again = here.states.program_in_use("haproxy", here.link, ["check"])
    assert (again["result"], again["changes"]) == (True, {})
    assert here.failover.writes == [("restart", "haproxy", ["check"])]


def test_in_test_mode_it_would_be_restarted(host):
    here = host(running="/usr/sbin/haproxy", test=True)
    ret = here.states.program_in_use("haproxy", here.link)
    assert ret["result"] is None
    assert ret["changes"]
    assert here.failover.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_service_that_does_not_run_is_left_alone_as_on_a_bare_host(host, test):
    here = host(running=None, test=test)
    ret = here.states.program_in_use("haproxy", "/nowhere/haproxy")
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.failover.writes == []


def test_in_test_mode_a_program_that_is_not_there_yet_is_foreseen(host):
    here = host(running="/usr/sbin/haproxy", test=True)
    ret = here.states.program_in_use("haproxy", "/nowhere/haproxy")
    assert ret["changes"]["program"]["new"] == "/nowhere/haproxy"


@pytest.mark.parametrize("test", [False, True])
def test_a_build_that_would_be_switched_to_would_be_run(host, test):
    here = host(test=test)
    here.failover._running = here.built
    foreseen = {"HAProxy": {"old": "/opt/haproxy-1", "new": "/opt/haproxy-2"}, "removed": ["/x"]}
    here.before["build"] = {"__id__": "HAProxy is built", "name": here.link, "changes": foreseen}
    ret = here.states.program_in_use("haproxy", here.link)
    expected = {"program": {"old": here.built, "new": "/opt/haproxy-2/sbin/haproxy"}}
    assert ret["changes"] == (expected if test else {})
    assert here.failover.writes == []


def test_one_that_was_started_to_read_other_files_is_restarted_once(host):
    here = host(running="/usr/sbin/haproxy")
    here.failover._running = here.built
    ret = here.states.program_in_use("haproxy", here.link, ["check"], READS)
    assert (ret["result"], list(ret["changes"])) == (True, ["arguments"])
    assert ret["changes"]["arguments"]["new"] == " ".join(READS)
    again = here.states.program_in_use("haproxy", here.link, ["check"], READS)
    assert (again["result"], again["changes"]) == (True, {})
    assert here.failover.writes == [("restart", "haproxy", ["check"])]


def test_a_unit_that_goes_on_with_other_arguments_is_noticed(host):
    here = host(running="/usr/sbin/haproxy")
    here.failover._running = here.built
    here.failover.lost = {"restart"}
    ret = here.states.program_in_use("haproxy", here.link, ["check"], READS)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "yet runs" in ret["comment"] and "-p /run/haproxy.pid" in ret["comment"]


def test_a_replaced_program_counts_as_another_one(host):
    here = host(running="(deleted)")
    here.failover._running = f"{here.built} (deleted)"
    assert here.states.program_in_use("haproxy", here.link)["changes"]


def test_a_restart_that_silently_does_nothing_is_noticed(host):
    here = host(running="/usr/sbin/haproxy")
    here.failover.lost = {"restart"}
    ret = here.states.program_in_use("haproxy", here.link)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "it was restarted, yet runs /usr/sbin/haproxy" in ret["comment"]


def test_a_restart_that_fails_names_the_host(host):
    here = host(running="/usr/sbin/haproxy")
    here.failover.fails = {"restart": CommandExecutionError("no other load balancer")}
    ret = here.states.program_in_use("haproxy", here.link)
    assert ret["comment"] == "rabbitmq-node2: haproxy: no other load balancer"


def test_systemd_is_told_of_a_unit_that_comes_first(host):
    here = host(unit="/lib/systemd/system/haproxy.service")
    ret = here.states.unit_in_use("haproxy", UNIT)
    assert ret["changes"] == {"unit": {"old": "/lib/systemd/system/haproxy.service", "new": UNIT}}
    assert here.states.unit_in_use("haproxy", UNIT)["changes"] == {}
    assert here.systemd.writes == [("systemctl_reload",)]


def test_in_test_mode_systemd_would_be_told(host):
    here = host(test=True)
    ret = here.states.unit_in_use("haproxy", UNIT)
    assert (ret["result"], ret["changes"]) == (None, {"unit": {"old": None, "new": UNIT}})
    assert here.systemd.writes == []


def test_a_unit_of_the_administrator_that_comes_before_is_named(host):
    here = host(unit="/etc/systemd/system/haproxy.service")
    here.systemd.lost = {"systemctl_reload"}
    ret = here.states.unit_in_use("haproxy", UNIT)
    assert ret["result"] is False
    assert "systemd uses /etc/systemd/system/haproxy.service, which comes before" in ret["comment"]


def test_the_holder_waits_for_its_addresses(host):
    here = host()
    ret = here.states.addresses_held("all", [ADDRESS], seconds=35)
    assert ret["changes"] == {"holds": {"old": [], "new": [ADDRESS]}}
    assert here.states.addresses_held("all", [ADDRESS])["changes"] == {}
    assert here.failover.writes == [("await_addresses", 35)]


def test_in_test_mode_they_would_be_awaited(host):
    here = host(test=True)
    assert here.states.addresses_held("all", [ADDRESS])["result"] is None
    assert here.failover.writes == []


def test_addresses_that_do_not_come_are_an_error(host):
    here = host()
    here.failover.fails = {"await_addresses": CommandExecutionError("holds none")}
    ret = here.states.addresses_held("all", [ADDRESS])
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"] == "rabbitmq-node2: holds none"


def test_a_configuration_that_is_newer_than_what_the_service_read_is_read_once(host):
    here = host(loaded=100.0, written=100.5)
    ret = here.loaded()
    assert (ret["result"], ret["changes"]) == (True, {"service": "reloaded"})
    assert ret["comment"] == "haproxy has been reloaded"
    again = here.loaded()
    assert (again["result"], again["changes"]) == (True, {})
    assert "already" in again["comment"]
    assert here.systemd.writes == [("reload", "haproxy")]


def test_in_test_mode_it_would_be_read(host):
    here = host(loaded=100.0, written=100.5, test=True)
    ret = here.loaded()
    assert ret["result"] is None
    assert ret["changes"]
    assert ret["comment"] == "haproxy would have been reloaded"
    assert here.systemd.writes == []


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(("loaded", "written"), [(100.0, None), (100.0, 99.0)])
def test_a_service_that_has_read_it_is_left_alone(host, loaded, written, test):
    here = host(loaded=loaded, written=written, test=test)
    ret = here.loaded()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.systemd.writes == []


@pytest.mark.parametrize("written", [None, 100.0])
def test_a_service_that_does_not_run_is_predicted_and_no_success(host, written):
    assert host(written=written, test=True).loaded()["result"] is True
    here = host(written=written)
    ret = here.loaded()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "it no longer runs. Next: journalctl -u haproxy" in ret["comment"]
    assert here.systemd.writes == []


def test_a_reload_that_does_nothing_is_told(host):
    here = host(loaded=100.0, written=100.5)
    here.systemd.lost.add("reload")
    ret = here.loaded()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].startswith("rabbitmq-node2: haproxy: it was reloaded, yet goes on as")


def test_a_reload_that_is_refused_is_told(host):
    here = host(loaded=100.0, written=100.5)
    here.systemd.fails["reload"] = CommandExecutionError("Job for haproxy.service failed.")
    ret = here.loaded()
    assert ret["result"] is False
    assert "reload haproxy failed, it goes on with what it has read: Job for" in ret["comment"]
    assert ret["comment"].endswith("Next: journalctl -u haproxy, then run again")


def test_a_file_that_is_dated_in_the_future_is_read_as_well(host):
    ahead = time.time() + 3600
    here = host(loaded=100.0, written=ahead)
    here.systemd.reloaded_at = time.time
    ret = here.loaded()
    assert (ret["result"], ret["comment"]) == (True, "haproxy has been reloaded")
    here = host(loaded=100.0, written=ahead)
    here.systemd.lost.add("reload")
    assert here.loaded()["result"] is False


@pytest.mark.parametrize("loaded", [None, 100.0])
def test_in_test_mode_a_reload_is_foreseen_also_where_the_package_starts_the_service(host, loaded):
    here = host(test=True, loaded=loaded, written=99.0)
    ret = here.states.mod_watch("haproxy", sfun="configuration_in_use", files=FILES)
    assert (ret["result"], ret["changes"]) == (None, {"service": "would be reloaded"})


def test_what_would_be_written_would_be_read(host):
    watched = {"sfun": "configuration_in_use", "files": FILES}
    predicted = host(test=True, loaded=100.0, written=99.0).states.mod_watch("haproxy", **watched)
    assert (predicted["result"], predicted["name"]) == (None, "haproxy")
    assert predicted["changes"]
    real = host(loaded=100.0, written=99.0).states.mod_watch("haproxy", **watched)
    assert (real["result"], real["changes"]) == (True, {})
    assert host().states.mod_watch("haproxy", **watched)["result"] is False


def test_watching_anything_else_is_refused(host):
    assert host().states.mod_watch("haproxy", sfun="unit_in_use")["result"] is False
