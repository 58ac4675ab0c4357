"""rabbit_node: host name, plugins, units and the configuration a node runs with."""

from unittest.mock import create_autospec

import pytest
import salt.modules.file
import salt.modules.network
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.fake_rabbit import Listeners, Rabbitmqctl, Rabbits, Service
from tests.support import Breakable, faked, functions, load, with_systemctl

SEED, ME = "rabbit@rabbitmq-node1", "rabbit@rabbitmq-node2"
SERVICE, CONF = "rabbitmq-server", "/etc/rabbitmq/rabbitmq.conf"
PLUGINS = "/etc/rabbitmq/enabled_plugins"


class Network:
    """Salt's ``network``, of a host with a name."""

    def __init__(self, units):
        self._units = units

    def get_hostname(self):
        return self._units.hostname


class Files:
    """Salt's ``file``: what RabbitMQ keeps."""

    def __init__(self, found=()):
        self._found = list(found)

    def find(self, path, *args, **kwargs):
        assert (path, kwargs["name"]) == ("/var/lib/rabbitmq", "rabbit@*")
        return self._found


class Units(Breakable):
    """``rabbit_host``: when a unit was started, and when its configuration was written."""

    def __init__(self, started, written, needs_reload=False, unfinished=()):
        super().__init__()
        self._started, self._written, self._needs_reload = started, written, needs_reload
        self._unfinished = list(unfinished)
        # What rabbitmq.conf says.
        self.settings = {}
        # What packages are like once the package manager that is at work has done it.
        self.at_work = None

    def rabbitmq_setting(self, path, key):
        assert path == CONF
        return self.settings.get(key)

    def await_package_manager(self, patience=300, interval=1):
        if self.at_work is not None:
            self._unfinished, self.at_work = self.at_work, None

    def unfinished_packages(self):
        return self._unfinished

    def finish_packages(self):
        if self._takes("finish_packages"):
            self._unfinished = []

    def service_start_time(self, service):
        return self._started

    def runs_since_before(self, service, path):
        assert path == CONF
        return None not in (self._started, self._written) and self._started < self._written

    def set_hostname(self, name):
        if self._takes("set_hostname", name):
            self.hostname = name

    def unit_needs_reload(self, service):
        return self._needs_reload

    def service_has_begun(self, service):
        return self.node.vm


class Systemd(Service):
    """Salt's ``service``, which also lets the unit's start time follow."""

    def __init__(self, node, units):
        super().__init__(node)
        self._units = units

    def _turn(self, on):
        super()._turn(on)
        self._units._started = 1000.0

    def systemctl_reload(self):
        if self._takes("systemctl_reload"):
            self._units._needs_reload = False
        return True


class Host:
    """One broker's host with everything the state touches."""

    def __init__(
        self,
        topology,
        hostname="rabbitmq-node2",
        data=(),
        started=200.0,
        written=100.0,
        needs_reload=False,
        unfinished=(),
        clustered=(),
        installed=True,
        test=False,
    ):
        self.rabbits = Rabbits(SEED, ME, clustered=clustered)
        self.units = Units(started, written, needs_reload, unfinished)
        self.units.node, self.units.hostname = self.rabbits[ME], hostname
        self.service = Systemd(self.rabbits[ME], self.units)
        self.rabbitmqctl = Rabbitmqctl(self.rabbits, ME, installed)
        loaded = faked("rabbitmqctl", self.rabbitmqctl, load("_modules/rabbitmqctl.py"))
        loaded |= faked("service", self.service, salt.modules.systemd_service)
        loaded |= faked("network", Network(self.units), salt.modules.network)
        loaded |= faked("file", Files(data), salt.modules.file)
        loaded |= faked("rabbit_host", self.units, load("_modules/rabbit_host.py"))
        self.listeners = Listeners(self.rabbits[ME])
        loaded |= faked("rabbit_listeners", self.listeners, load("_modules/rabbit_listeners.py"))
        loaded = with_systemctl(loaded | topology())
        for name in ("rabbit_queues", "rabbit_membership"):
            loaded |= functions(name, load(f"_modules/{name}.py", salt=loaded))
        self.states = load("_states/rabbit_node.py", salt=loaded, opts={"test": test})

    @property
    def writes(self):
        parts = (self.service, self.units, self.rabbitmqctl, self.listeners)
        return [write for part in parts for write in part.writes]


@pytest.fixture
def host(topology):
    def build(**kwargs):
        return Host(topology, **kwargs)

    return build


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(("expected", "said"), [(True, {}), (False, {"proxy_protocol": "true"})])
def test_the_proxy_protocol_is_not_changed_under_a_running_node(host, expected, said, test):
    here = host(test=test)
    here.units.settings = said
    ret = here.states.proxy_protocol_settled(CONF, SERVICE, expected)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].startswith("rabbitmq-node2: PROXY protocol: the node runs")
    assert "docs/haproxy.md" in ret["comment"]


@pytest.mark.parametrize(
    ("expected", "said", "runs"),
    [
        (True, {"proxy_protocol": "true"}, True),
        (False, {}, True),
        (False, {"proxy_protocol": "false"}, True),
        (True, {}, False),
        (False, {"proxy_protocol": "true"}, False),
    ],
)
def test_the_proxy_protocol_is_settled_or_is_with_the_next_start(host, expected, said, runs):
    here = host()
    here.units.settings = said
    here.rabbits[ME].vm = runs
    ret = here.states.proxy_protocol_settled(CONF, SERVICE, expected)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ("already" in ret["comment"]) is runs


def listening(**protocols):
    """What RabbitMQ tells of its listeners, each an address and a port."""
    return [
        {"protocol": protocol, "interface": interface, "port": port}
        for protocol, places in protocols.items()
        for interface, port in places
    ]


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ({"amqp": 5673}, "listens for amqp on port 5672, pillar wants 5673"),
        ({"amqp": 5672, "http": 15673}, "listens for http on port 15672, pillar wants 15673"),
    ],
)
def test_a_port_is_not_moved_away_from_a_node_that_listens_on_another_one(host, ports, said, test):
    here = host(clustered=[SEED, ME], test=test)
    here.rabbits[ME].listeners = listening(amqp=[("[::]", 5672)], http=[("[::]", 15672)])
    ret = here.states.listeners_settled(CONF, SERVICE, ports)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].startswith(f"rabbitmq-node2: listeners: the node runs and {said}")
    assert "docs/runbook.md, Other ports of brokers" in ret["comment"]


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("everywhere", ["[::]", "0.0.0.0"])
def test_a_node_with_the_port_of_all_addresses_is_in_the_way_of_haproxy_there(
    host, everywhere, test
):
    here = host(clustered=[SEED, ME], test=test)
    here.rabbits[ME].listeners = listening(amqp=[(everywhere, 5672)])
    ret = here.states.listeners_settled(CONF, SERVICE, {"amqp": 5672}, left_to_haproxy=True)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert f"systemctl stop {SERVICE} here, then salt rabbitmq-node2 state.apply" in ret["comment"]


OWN_ADDRESSES = listening(amqp=[("192.168.123.101", 5672), ("127.0.0.1", 5672)])


@pytest.mark.parametrize(
    ("listeners", "ports", "left_to_haproxy"),
    [
        (None, {"amqp": 5672}, False),
        # On both while clients go over from the one to the other.
        (listening(amqp=[("[::]", 5672), ("[::]", 5673)]), {"amqp": 5673}, False),
        # A plugin that is not enabled yet, or a node that is drained.
        (listening(amqp=[("[::]", 5672)]), {"amqp": 5672, "http": 15672}, False),
        ([], {"amqp": 5673}, True),
        (OWN_ADDRESSES, {"amqp": 5672}, True),
        # A load balancer no more: HAProxy elsewhere reaches it as before.
        (OWN_ADDRESSES, {"amqp": 5672}, False),
    ],
)
def test_a_node_that_listens_where_haproxy_looks_for_it_may_have_its_configuration(
    host, listeners, ports, left_to_haproxy
):
    here = host(clustered=[SEED, ME])
    here.rabbits[ME].listeners = listeners
    ret = here.states.listeners_settled(CONF, SERVICE, ports, left_to_haproxy)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "already" in ret["comment"]


def test_ports_are_moved_where_nobody_is_served(host):
    here = host()
    for wanted, left_to_haproxy in ((5673, False), (5672, True)):
        ret = here.states.listeners_settled(CONF, SERVICE, {"amqp": wanted}, left_to_haproxy)
        assert ret["result"] is True
        assert "restarted further on" in ret["comment"]


@pytest.mark.parametrize("stopped", ["vm", "app"])
def test_a_node_that_does_not_run_is_in_nobody_s_way(host, stopped):
    here = host(clustered=[SEED, ME])
    setattr(here.rabbits[ME], stopped, False)
    assert here.states.listeners_settled(CONF, SERVICE, {"amqp": 5673}, True)["result"] is True


def test_listeners_are_settled_where_rabbitmq_is_not_installed(host):
    here = host(installed=False)
    assert here.states.listeners_settled(CONF, SERVICE, {"amqp": 5673})["result"] is True


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(("runs", "at_boot"), [(True, True), (True, False), (False, True)])
def test_rabbitmq_on_a_host_that_is_no_broker_is_told_and_not_stopped(host, runs, at_boot, test):
    here = host(test=test)
    here.rabbits[ME].vm, here.service.at_boot = runs, at_boot
    ret = here.states.no_broker(SERVICE)
    assert (ret["result"], ret["changes"]) == (True, {})
    [warning] = ret["warnings"]
    assert "Next: systemctl disable --now rabbitmq-server here" in warning
    assert here.writes == []


def test_rabbitmq_that_was_stopped_for_good_is_not_told(host):
    here = host()
    here.rabbits[ME].vm = here.service.at_boot = False
    ret = here.states.no_broker(SERVICE)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "already" in ret["comment"] and "warnings" not in ret


def test_a_host_with_another_name_is_named(host):
    here = host(hostname="localhost")
    ret = here.states.hostname("rabbitmq-node2")
    assert ret["result"] is True
    assert ret["changes"] == {"hostname": {"old": "localhost", "new": "rabbitmq-node2"}}
    assert here.states.hostname("rabbitmq-node2")["changes"] == {}
    assert here.writes == [("set_hostname", "rabbitmq-node2")]


def test_in_test_mode_a_host_would_be_named(host):
    here = host(hostname="localhost", test=True)
    ret = here.states.hostname("rabbitmq-node2")
    assert ret["result"] is None
    assert ret["changes"]
    assert here.writes == []


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("node2", "node2.example.org"), ("node2.example.org", "node2"), ("node2", "node2")],
)
def test_a_domain_more_or_less_is_the_same_name_as_erlang_uses_the_short_one(host, hostname, name):
    here = host(hostname=hostname)
    assert here.states.hostname(name)["changes"] == {}
    assert here.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_host_whose_rabbitmq_has_data_under_its_name_is_not_renamed(host, test):
    here = host(hostname="old", data=["/var/lib/rabbitmq/mnesia/rabbit@old"], test=test)
    ret = here.states.hostname("rabbitmq-node2")
    assert ret["result"] is False
    assert ret["changes"] == {}
    assert "/var/lib/rabbitmq/mnesia/rabbit@old" in ret["comment"]
    assert "Use the name that its data has in the topology" in ret["comment"]
    assert here.writes == []


MINE = "/var/lib/rabbitmq/mnesia/rabbit@rabbitmq-node2"


@pytest.mark.parametrize("also", [[], [f"{MINE}-plugins-expand"], [MINE.replace("node2", "x")]])
def test_a_host_that_lost_its_name_gets_it_back_and_finds_its_data(host, also):
    here = host(hostname="localhost", data=[*also, MINE])
    here.rabbits[ME].vm = False
    assert here.states.hostname("rabbitmq-node2")["result"] is True
    assert here.writes == [("set_hostname", "rabbitmq-node2")]


def test_what_was_set_aside_or_belongs_to_plugins_is_no_node_s_data(host):
    aside = "/var/lib/rabbitmq/mnesia.aside/rabbit@old-20261127T000000"
    here = host(hostname="localhost", data=[aside, "/var/lib/rabbitmq/rabbit@old-plugins-expand"])
    assert here.states.hostname("rabbitmq-node2")["result"] is True


@pytest.mark.parametrize("test", [False, True])
def test_a_node_that_runs_under_the_wrong_name_is_stopped_first(host, test):
    here = host(hostname="localhost", data=[MINE, "/x/rabbit@localhost"], test=test)
    ret = here.states.hostname("rabbitmq-node2")
    assert ret["result"] is False
    assert "Next: systemctl stop rabbitmq-server here" in ret["comment"]
    assert here.writes == []


def stopped(host, forgotten=False, **kwargs):
    here = host(clustered=[SEED, ME], **kwargs)
    here.rabbits[ME].vm = here.rabbits[ME].app = False
    if forgotten:
        here.rabbits[SEED].members = {SEED}
        here.states.__salt__["rabbit_membership.verdict"] = lambda contacts: {
            "verdict": "forgotten by the cluster"
        }
    return here


@pytest.mark.parametrize("test", [False, True])
def test_a_masked_service_is_not_started_and_not_promised_to_be(host, test):
    here = stopped(host, test=test)
    here.service.is_masked = True
    ret = here.states.running(SERVICE, [SEED, ME])
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "Next: systemctl unmask rabbitmq-server" in ret["comment"]
    assert here.writes == []


def test_a_stopped_service_is_started_and_its_node_waited_for(host):
    here = stopped(host)
    ret = here.states.running(SERVICE, [SEED, ME])
    assert (ret["result"], ret["changes"]) == (True, {"running": True})
    assert here.writes == [("start", SERVICE)]
    again = here.states.running(SERVICE, [SEED, ME])
    assert (again["result"], again["changes"]) == (True, {})


def test_in_test_mode_a_stopped_service_would_be_started(host):
    here = stopped(host, test=True)
    ret = here.states.running(SERVICE, [SEED, ME])
    assert (ret["result"], ret["changes"]) == (None, {"running": True})
    assert here.writes == []


def test_on_a_bare_host_test_mode_predicts_a_start(host):
    here = stopped(host, test=True, installed=False)
    assert here.states.running(SERVICE, [SEED, ME])["result"] is None


def test_a_node_that_does_not_boot_in_time_is_left_to_the_next_step(host):
    here = stopped(host)
    here.states.__salt__["rabbitmqctl.await_boot"] = lambda timeout: False
    ret = here.states.running(SERVICE, [SEED, ME], timeout=7)
    assert ret["result"] is True
    assert "has not booted within 7 s" in ret["comment"]


def test_a_service_that_ends_before_its_node_has_booted_is_no_success(host):
    here = stopped(host)
    # As with --no-block: systemd takes the job, and what it starts fails.
    here.service.lost.add("start")
    ret = here.states.running(SERVICE, [SEED, ME], timeout=7)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"] == (
        "rabbitmq-node2: starting rabbitmq-server: it ended again before its node had booted. "
        "Next: journalctl -u rabbitmq-server"
    )


@pytest.mark.parametrize("test", [False, True])
def test_a_node_that_its_cluster_forgot_is_not_started(host, test):
    here = stopped(host, forgotten=True, test=test)
    ret = here.states.running(SERVICE, [SEED, ME])
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "forgotten" in ret["comment"]
    assert here.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_forgotten_node_s_service_is_enabled_for_the_next_boot(host, test):
    here = stopped(host, forgotten=True, test=test)
    here.service.at_boot = False
    ret = here.states.running(SERVICE, [SEED, ME])
    assert (ret["result"], ret["changes"]) == (None if test else True, {"enabled": True})
    assert here.writes == ([] if test else [("enable", SERVICE)])


def test_a_service_that_runs_is_enabled_for_the_next_boot(host):
    here = host()
    here.service.at_boot = False
    ret = here.states.running(SERVICE, [SEED, ME])
    assert (ret["result"], ret["changes"]) == (True, {"enabled": True})
    assert here.writes == [("enable", SERVICE)]


def test_a_service_that_silently_is_not_enabled_is_noticed(host):
    here = host()
    here.service.at_boot = False
    here.service.lost.add("enable")
    ret = here.states.running(SERVICE, [SEED, ME])
    assert (ret["result"], ret["changes"]) == (False, {})


def test_a_service_that_systemd_does_not_start_names_the_next_command(host):
    here = stopped(host)
    here.service.fails["start"] = CommandExecutionError("Job failed")
    ret = here.states.running(SERVICE, [SEED, ME])
    assert ret["result"] is False
    assert "Next: journalctl -u rabbitmq-server" in ret["comment"]
    assert ret["comment"].count("Next:") == 1


def test_a_name_that_silently_is_not_set_is_noticed(host):
    here = host(hostname="localhost")
    here.units.lost.add("set_hostname")
    ret = here.states.hostname("rabbitmq-node2")
    assert ret["result"] is False
    assert "reads as before" in ret["comment"]


def test_a_name_that_cannot_be_set_fails_with_host_and_step(host):
    here = host(hostname="localhost")
    here.units.fails["set_hostname"] = CommandExecutionError("/etc/hostname: access denied")
    ret = here.states.hostname("rabbitmq-node2")
    assert ret["result"] is False
    assert ret["comment"] == "rabbitmq-node2: host name: /etc/hostname: access denied"


def test_missing_plugins_are_enabled_and_others_stay(host):
    here = host()
    here.rabbitmqctl._plugins = ["rabbitmq_shovel"]
    names = ["rabbitmq_management", "rabbitmq_shovel"]
    ret = here.states.plugins_enabled(PLUGINS, names)
    assert ret["result"] is True
    assert ret["changes"] == {"plugins": {"enabled": ["rabbitmq_management"]}}
    assert here.rabbitmqctl._plugins == ["rabbitmq_shovel", "rabbitmq_management"]


LISTED = (PLUGINS, ["rabbitmq_management"], CONF, SERVICE)


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("case", ["has it", "serves", "alone", "not installed"])
def test_only_a_node_that_is_restarted_for_its_configuration_has_plugins_listed(host, case, test):
    here = host(
        started=200.0 if case == "has it" else 50.0,
        clustered=(SEED, ME) if case == "serves" else (),
        installed=case != "not installed",
        test=test,
    )
    changes = {"plugins": {"enabled": ["rabbitmq_management"]}} if case == "alone" else {}
    listed = here.states.plugins_listed(*LISTED)
    assert listed["changes"] == changes
    assert listed["result"] is (None if changes and test else True)
    # What one of the two foresees or does is not the other's.
    rest = here.states.plugins_enabled(PLUGINS, ["rabbitmq_management"])
    assert bool(rest["changes"]) is not bool(changes)
    offline = case == "alone"
    writes = [] if test else [("enable_plugins", ["rabbitmq_management"], offline)]
    assert here.writes == writes
    assert bool(here.states.configuration_loaded(CONF, SERVICE)["changes"]) is offline


@pytest.mark.parametrize(
    ("situation", "foretold"),
    [({}, True), ({"started": None}, False), ({"clustered": [SEED, ME]}, False)],
)
def test_plugins_are_foretold_by_the_state_that_lists_them(host, situation, foretold):
    here = host(written=None, test=True, **situation)
    assert here.states.plugins_listed(*LISTED)["changes"] == {}
    # What Salt calls where the state that writes the configuration has changes.
    arguments = dict(zip(("name", "plugins", "config", "service"), LISTED, strict=True))
    ret = here.states.mod_watch(sfun="plugins_listed", order=1, **arguments)
    assert ret["result"] is (None if foretold else True)
    rest = here.states.plugins_enabled(PLUGINS, ["rabbitmq_management"])
    assert bool(rest["changes"]) is not foretold
    assert here.writes == []


def test_plugins_that_are_listed_already_are_not_listed_again(host):
    here = host(started=50.0)
    here.states.plugins_listed(*LISTED)
    assert here.states.plugins_listed(*LISTED)["changes"] == {}
    assert len(here.writes) == 1


def test_plugins_that_silently_are_not_listed_are_noticed(host):
    here = host(started=50.0)
    here.rabbitmqctl.lost.add("enable_plugins")
    ret = here.states.plugins_listed(*LISTED)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "rabbitmq_management did not become enabled" in ret["comment"]


def test_in_test_mode_missing_plugins_would_be_enabled(host):
    here = host(test=True)
    ret = here.states.plugins_enabled(PLUGINS, ["rabbitmq_management"])
    assert ret["result"] is None
    assert here.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_enabled_plugins_are_left_alone(host, test):
    here = host(test=test)
    here.rabbitmqctl._plugins = ["rabbitmq_management"]
    ret = here.states.plugins_enabled(PLUGINS, ["rabbitmq_management"])
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.writes == []


def test_plugins_that_silently_are_not_enabled_are_noticed(host):
    here = host()
    here.rabbitmqctl.lost.add("enable_plugins")
    ret = here.states.plugins_enabled(PLUGINS, ["rabbitmq_management"])
    assert ret["result"] is False
    assert "rabbitmq_management did not become enabled" in ret["comment"]


def test_plugins_that_cannot_be_enabled_fail_with_host_and_step(host):
    here = host()
    here.rabbitmqctl.fails["enable_plugins"] = CommandExecutionError("plugins not found")
    ret = here.states.plugins_enabled(PLUGINS, ["rabbitmq_managment"])
    assert ret["comment"] == "rabbitmq-node2: plugins: plugins not found"
    assert (ret["result"], ret["changes"]) == (False, {})


def test_changed_units_are_read_again_once(host):
    here = host(needs_reload=True)
    assert here.states.unit_loaded("haproxy")["changes"] == {"systemd": "units read again"}
    assert here.states.unit_loaded("haproxy")["changes"] == {}
    assert here.writes == [("systemctl_reload",)]


def test_in_test_mode_changed_units_would_be_read_again(host):
    here = host(needs_reload=True, test=True)
    assert here.states.unit_loaded("haproxy")["result"] is None
    # systemd reads all of them at once.
    assert here.states.unit_loaded("keepalived")["result"] is True
    assert here.states.mod_watch("keepalived", sfun="unit_loaded")["changes"] == {}
    assert here.writes == []


@pytest.mark.parametrize(("there", "result"), [(True, None), (False, True)])
def test_what_would_be_written_of_a_service_that_is_there_would_be_read(host, there, result):
    here = host(test=True)
    available = create_autospec(salt.modules.systemd_service.available, return_value=there)
    here.states.__salt__["service.available"] = available
    ret = here.states.mod_watch("haproxy", sfun="unit_loaded")
    assert (ret["result"], bool(ret["changes"])) == (result, there)
    assert here.writes == []


def test_a_real_run_has_read_what_was_written(host):
    ret = host().states.mod_watch("haproxy", sfun="unit_loaded")
    assert (ret["result"], ret["changes"]) == (True, {})


def test_watching_anything_else_is_refused(host):
    assert host().states.mod_watch("haproxy", sfun="hostname")["result"] is False


def test_units_that_silently_are_not_read_are_noticed(host):
    here = host(needs_reload=True)
    here.service.lost.add("systemctl_reload")
    ret = here.states.unit_loaded("haproxy")
    assert ret["result"] is False
    assert ret["comment"] == "rabbitmq-node2: unit haproxy: systemctl daemon-reload had no effect"


def test_a_node_older_than_its_configuration_restarts_while_it_is_alone_and_empty(host):
    here = host(started=50.0)
    ret = here.states.configuration_loaded(CONF, SERVICE)
    assert ret["result"] is True
    assert ret["changes"] == {"service": "restarted to load its configuration"}
    assert here.states.configuration_loaded(CONF, SERVICE)["changes"] == {}
    # It stands alone as before.
    assert here.writes == [("restart", SERVICE), ("suspend",)]


def test_in_test_mode_such_a_node_would_be_restarted(host):
    here = host(started=50.0, test=True)
    ret = here.states.configuration_loaded(CONF, SERVICE)
    assert ret["result"] is None
    assert here.writes == []


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(
    "situation",
    [{"started": 200.0}, {"started": None}, {"started": None, "written": None}],
    ids=["node is newer", "node does not run", "no configuration"],
)
def test_a_node_that_has_its_configuration_is_not_restarted(host, situation, test):
    here = host(**situation, test=test)
    ret = here.states.configuration_loaded(CONF, SERVICE)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.writes == []


def watched(here):
    """What Salt calls where the state that writes the file has changes."""
    return here.states.mod_watch(CONF, sfun="configuration_loaded", service=SERVICE, order=1)


def test_a_node_whose_configuration_would_be_written_would_be_restarted(host):
    here = host(written=None, test=True)
    assert here.states.configuration_loaded(CONF, SERVICE)["changes"] == {}
    assert watched(here)["result"] is None
    assert here.writes == []


def test_one_that_would_be_started_would_not(host):
    ret = watched(host(started=None, written=None, test=True))
    assert (ret["result"], ret["changes"]) == (True, {})


def test_a_node_that_serves_and_whose_configuration_would_be_written_is_foretold(host):
    here = host(written=None, clustered=[SEED, ME], test=True)
    ret = watched(here)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "would be newer than the running node" in ret["warnings"][0]


def test_a_real_run_tells_of_the_node_that_serves_and_restarts_nothing(host):
    here = host(started=50.0, clustered=[SEED, ME])
    assert watched(here) == here.states.configuration_loaded(CONF, SERVICE)
    assert here.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_node_that_serves_is_told_of_not_restarted(host, test):
    member = host(started=50.0, clustered=[SEED, ME], test=test)
    beside_ram = host(started=50.0, clustered=[SEED, ME], test=test)
    beside_ram.rabbits[SEED].ram = True
    holder = host(started=50.0, test=test)
    holder.rabbits[ME].queues.append({"name": "q", "vhost": "/", "messages": 1})
    for here in (member, beside_ram, holder):
        ret = here.states.configuration_loaded(CONF, SERVICE)
        assert (ret["result"], ret["changes"]) == (True, {})
        assert "its next restart takes the file in" in ret["warnings"][0]
        assert here.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_host_without_rabbitmq_needs_no_restart(host, test):
    here = host(started=None, installed=False, test=test)
    assert here.states.configuration_loaded(CONF, SERVICE)["changes"] == {}


def test_a_restart_that_silently_did_not_happen_is_noticed(host):
    here = host(started=50.0)
    here.service.lost.add("restart")
    ret = here.states.configuration_loaded(CONF, SERVICE)
    assert ret["result"] is False
    assert "runs since before" in ret["comment"]


def test_a_restart_that_fails_names_host_and_step(host):
    here = host(started=50.0)
    here.service.fails["restart"] = CommandExecutionError("Job for rabbitmq-server failed")
    ret = here.states.configuration_loaded(CONF, SERVICE)
    assert ret["comment"] == (
        "rabbitmq-node2: configuration: systemctl restart rabbitmq-server failed: Job for "
        "rabbitmq-server failed. Next: journalctl -u rabbitmq-server, then run again"
    )


def test_half_installed_packages_are_finished_once(host):
    here = host(unfinished=["rabbitmq-server half-installed"])
    ret = here.states.packages_finished("packages")
    assert ret["result"] is True
    assert ret["changes"]["packages"]["old"] == ["rabbitmq-server half-installed"]
    assert "has been finished" in ret["comment"]
    again = here.states.packages_finished("packages")
    assert (again["result"], again["changes"]) == (True, {})
    assert "already" in again["comment"]
    assert here.writes == [("finish_packages",)]


def test_packages_that_are_being_installed_are_waited_for(host):
    here = host(unfinished=["rabbitmq-server half-configured"])
    here.units.at_work = []
    ret = here.states.packages_finished("packages")
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.writes == []


def test_in_test_mode_half_installed_packages_would_be_finished(host):
    here = host(unfinished=["rabbitmq-server half-installed"], test=True)
    ret = here.states.packages_finished("packages")
    assert ret["result"] is None
    assert ret["changes"]
    assert here.writes == []


def test_packages_that_stay_unfinished_are_an_error(host):
    here = host(unfinished=["rabbitmq-server half-installed"])
    here.units.lost.add("finish_packages")
    ret = here.states.packages_finished("packages")
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].startswith(
        "rabbitmq-node2: packages: still unfinished: rabbitmq-server half-installed. "
    )


def test_clients_wait_until_a_broker_that_was_installed_anew_is_a_member(host):
    here = host()
    ret = here.states.clients_wait(SERVICE)
    assert (ret["result"], ret["changes"]) == (True, {"clients": "wait until it is a member"})
    again = here.states.clients_wait(SERVICE)
    assert (again["result"], again["changes"]) == (True, {})
    assert "already" in again["comment"]
    assert here.writes == [("suspend",)]


@pytest.mark.parametrize("installed", [False, True])
def test_in_test_mode_clients_would_wait(host, installed):
    here = host(test=True, installed=installed)
    ret = here.states.clients_wait(SERVICE)
    assert (ret["result"], ret["changes"]) == (None, {"clients": "wait until it is a member"})
    assert here.writes == []


def _is_a_member(here):
    here.rabbits[ME].members = {SEED, ME}


def _does_not_run(here):
    here.rabbits[ME].vm = False
    here.units._started = None


def _holds_something(here):
    here.rabbits[ME].definitions["vhosts"].append({"name": "orders"})


@pytest.mark.parametrize("is_so", [_is_a_member, _does_not_run, _holds_something])
@pytest.mark.parametrize("test", [False, True])
def test_clients_of_any_other_broker_do_not_wait(host, is_so, test):
    here = host(test=test)
    is_so(here)
    ret = here.states.clients_wait(SERVICE)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.writes == []


def test_nobody_waits_where_no_load_balancer_serves(host):
    here = host()
    here.listeners.are_served = False
    ret = here.states.clients_wait(SERVICE)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.writes == []


def test_clients_who_cannot_be_kept_waiting_are_told(host):
    here = host()
    here.listeners.fails["suspend"] = CommandExecutionError("no")
    ret = here.states.clients_wait(SERVICE)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].startswith("rabbitmq-node2: keeping clients waiting: ")
