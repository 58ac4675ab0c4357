"""rabbit_cookie.synced: stops the node only to change the cookie, and always starts it again."""

from unittest.mock import create_autospec

import pytest
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.fake_rabbit import Listeners, Rabbitmqctl, Rabbits, Service
from tests.support import Breakable, faked, load, with_systemctl

SEED, ME = "rabbit@rabbitmq-node1", "rabbit@rabbitmq-node2"
SERVICE = "rabbitmq-server"
DEFINITIONS = "/var/backups/rabbit_ha/definitions.json"


class Cookie(Breakable):
    """The execution module ``rabbit_cookie`` of one broker; what is sealed is in plain sight."""

    def __init__(self, current, node, rabbitmqctl):
        super().__init__()
        self._current, self._node, self._mode_is_right = current, node, True
        self._rabbitmqctl = rabbitmqctl

    def lend(self, sealed=None):
        assert (sealed or "PILLARS") in ("SEEDS", "MEMBERS", "PILLARS")
        self._rabbitmqctl.lent_cookie = "SAME"

    def take_back(self):
        self._rabbitmqctl.lent_cookie = None

    def matches(self, sealed=None):
        if sealed == "spoilt":
            raise CommandExecutionError("the sealed cookie cannot be opened")
        return self._current == (sealed or "PILLARS")

    def has_right_mode(self):
        return self._mode_is_right

    def protect(self):
        if self._takes("protect"):
            self._mode_is_right = True

    def write(self, sealed=None):
        assert not self._node.vm, "the node must not run while its cookie changes"
        if not self._takes("write"):
            return None
        self._current, self._mode_is_right = sealed or "PILLARS", True
        self._node.cookie = "SAME"
        return "/var/lib/rabbitmq/.erlang.cookie.20261122T190000Z.bak"


class Broker:
    """One broker's host with a cookie; ``node`` is its node."""

    def __init__(self, topology, current="OWN", clustered=(), test=False, installed=True):
        rabbits = Rabbits(SEED, ME, clustered=clustered)
        self.node, self.seed = rabbits[ME], rabbits[SEED]
        self.rabbitmqctl = rabbitmqctl = Rabbitmqctl(rabbits, ME, installed)
        self.cookie = Cookie(current, self.node, rabbitmqctl)
        self.service = Service(self.node)
        self.listeners = Listeners(self.node)
        self.content = []
        membership = load("_modules/rabbit_membership.py")
        content = create_autospec(membership.local_content, side_effect=lambda: self.content)
        self.forgets = create_autospec(membership.forget_former_self, side_effect=self._forgets)
        self.store = None
        self.notes = {}
        notes = create_autospec(load("_modules/rabbit_notes.py"))
        notes.fetch.side_effect = lambda name: self.notes.get(name)
        self.state = load(
            "_states/rabbit_cookie.py",
            salt=with_systemctl(faked("service", self.service, salt.modules.systemd_service))
            | faked("rabbit_cookie", self.cookie, load("_modules/rabbit_cookie.py"))
            | {
                "rabbit_membership.local_content": content,
                "rabbit_membership.listed_in": membership.listed_in,
                "rabbit_membership.metadata_store": lambda: self.store,
                "rabbit_membership.forget_former_self": self.forgets,
                "rabbit_backup.write_definitions": create_autospec(
                    load("_modules/rabbit_backup.py").write_definitions, return_value=DEFINITIONS
                ),
                "rabbit_notes.fetch": notes.fetch,
                "rabbit_host.service_has_begun": lambda service: self.service.status(service),
            }
            | faked("rabbit_listeners", self.listeners, load("_modules/rabbit_listeners.py"))
            | faked("rabbitmqctl", rabbitmqctl, load("_modules/rabbitmqctl.py"))
            | topology(),
            opts={"test": test},
        )

    def _forgets(self, contact):
        assert not self.cookie.matches("SEEDS"), "a node that starts now would be taken back"
        assert self.node.cookie != "SAME", "a member that runs is not forgotten"
        assert self.rabbitmqctl.lent_cookie == "SAME", "the contact refuses the old cookie"
        self.seed.members = {SEED}

    def installed_anew(self, store="rabbitmq_metadata"):
        """Let the seed's cluster still list this node, which knows nothing of it."""
        self.store = store
        self.seed.members = {SEED, ME}
        self.node.cookie = "OTHER"

    def synced(self, source="seed", sealed="SEEDS", **kwargs):
        return self.state.synced("the cluster's", SERVICE, source, sealed, **kwargs)

    @property
    def writes(self):
        return self.service.writes + self.cookie.writes


@pytest.fixture
def broker(topology):
    def build(*args, **kwargs):
        return Broker(topology, *args, **kwargs)

    return build


@pytest.mark.parametrize(
    ("source", "sealed"), [("seed", "SEEDS"), ("pillar", None), ("self", "MEMBERS")]
)
def test_another_cookie_is_replaced_while_the_node_is_stopped(broker, source, sealed):
    host = broker()
    ret = host.synced(source, sealed)
    assert ret["result"] is True
    assert host.service.writes == [("stop", SERVICE), ("start", SERVICE)]
    assert host.node.vm
    assert ret["changes"]["backup"].endswith(".bak")


def test_a_cluster_with_khepri_forgets_the_node_that_was_installed_anew_before_it_starts(broker):
    host = broker()
    host.installed_anew()
    ret = host.synced()
    assert ret["result"] is True
    host.forgets.assert_called_once_with(SEED)
    assert (ret["changes"]["forgotten_by"], ret["changes"]["definitions"]) == (SEED, DEFINITIONS)
    assert host.node.vm


@pytest.mark.parametrize(("listed", "store"), [(True, None), (False, "rabbitmq_metadata")])
def test_nobody_forgets_a_node_with_mnesia_or_one_that_is_not_listed(broker, listed, store):
    host = broker()
    host.installed_anew(store)
    if not listed:
        host.seed.members = {SEED}
    assert host.synced()["result"] is True
    host.forgets.assert_not_called()


def test_a_node_of_which_it_is_not_known_what_it_holds_is_not_forgotten(broker):
    host = broker()
    host.installed_anew()
    host.node.app = False
    assert host.synced()["result"] is True
    host.forgets.assert_not_called()


def test_a_node_that_cannot_be_forgotten_goes_on_with_its_cookie_and_is_so_by_the_next_run(broker):
    host = broker()
    host.installed_anew()
    host.forgets.side_effect = CommandExecutionError("shrinking failed")
    ret = host.synced()
    assert (ret["result"], ret["changes"]) == (False, {"definitions": DEFINITIONS})
    assert "shrinking failed" in ret["comment"]
    assert (host.node.vm, host.writes) == (True, [])
    assert host.rabbitmqctl.lent_cookie is None
    host.forgets.side_effect = host._forgets
    ret = host.synced()
    assert (ret["result"], ret["changes"]["forgotten_by"]) == (True, SEED)


class Killed(BaseException):
    """The run ends here, and nothing after it is done."""


@pytest.mark.parametrize("step", ["lend", "forgetting", "after forgetting", "stop", "write"])
def test_a_run_that_is_killed_leaves_no_node_that_others_know_by_the_cookie(broker, step):
    host = broker()
    host.installed_anew()

    def killed(*args, **kwargs):
        if step == "after forgetting":
            host._forgets(*args, **kwargs)
        raise Killed

    if step == "lend":
        host.state.__salt__["rabbit_cookie.lend"] = killed
    elif "forgetting" in step:
        host.forgets.side_effect = killed
    elif step == "stop":
        host.service.fails["stop"] = Killed()
    else:
        host.cookie.fails["write"] = Killed()
    with pytest.raises(Killed):
        host.synced()
    assert host.node.cookie == "OTHER" or host.seed.members == {SEED}
    assert not host.cookie.matches("SEEDS")
    if step == "write":
        # The process is gone, and starts nothing.
        host.node.vm = host.node.app = False
    host.service.fails.clear()
    host.cookie.fails.clear()
    host.forgets.side_effect = host._forgets
    host.state.__salt__["rabbit_cookie.lend"] = host.cookie.lend
    host.rabbitmqctl.lent_cookie = None
    ret = host.synced()
    assert ret["result"] is True, ret["comment"]
    assert host.seed.members == {SEED}
    assert host.cookie.matches("SEEDS")


def test_what_was_done_before_a_write_that_failed_is_told(broker):
    host = broker()
    host.installed_anew()
    host.cookie.fails["write"] = CommandExecutionError("no space left on device")
    ret = host.synced()
    assert ret["result"] is False
    assert ret["changes"] == {"definitions": DEFINITIONS, "forgotten_by": SEED}
    host.cookie.fails.clear()
    assert host.synced()["result"] is True
    host.forgets.assert_called_once_with(SEED)


def test_in_test_mode_nobody_is_forgotten(broker):
    host = broker(test=True)
    host.installed_anew()
    assert host.synced()["result"] is None
    host.forgets.assert_not_called()


def test_the_return_does_not_show_a_cookie(broker):
    assert not {"OWN", "SEEDS"} & set(str(broker().synced()).replace("'", " ").split())


def test_in_test_mode_the_cookie_would_be_replaced(broker):
    host = broker(test=True)
    ret = host.synced()
    assert ret["result"] is None
    assert ret["changes"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_second_run_touches_nothing(broker, test):
    host = broker(current="SEEDS", test=test)
    ret = host.synced()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(("source", "sealed"), [("self", None), ("seed", None)])
def test_the_seed_and_a_broker_to_which_nothing_was_carried_keep_their_cookie(
    broker, source, sealed, test
):
    host = broker(test=test)
    ret = host.synced(source, sealed)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert host.writes == []


def test_a_node_that_boots_is_stopped_as_one_that_runs(broker):
    host = broker()
    host.node.app = False
    # Not active for Salt, but its VM has read the cookie.
    host.service.status = lambda name, sig=None: False
    host.state.__salt__["service.status"] = host.service.status
    host.state.__salt__["rabbit_host.service_has_begun"] = lambda service: True
    assert host.synced()["result"] is True
    assert host.writes == [("stop", SERVICE), ("start", SERVICE), ("write",)]


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("state", ["stopped", "boots"])
def test_a_member_that_is_off_keeps_the_cookie_of_those_that_run(broker, state, test):
    host = broker(clustered=[SEED, ME], test=test)
    host.node.app, host.node.vm = False, state == "boots"
    ret = host.synced(source="pillar", sealed=None)
    assert ret["result"] is False
    assert f"is a member together with {SEED}" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("runs", [False, True])
def test_a_member_that_the_others_refuse_gets_their_cookie(broker, runs):
    host = broker(clustered=[SEED, ME])
    host.node.app = runs
    host.node.cookie = "OTHER"
    assert host.synced()["result"] is True


def test_a_node_that_did_not_run_is_not_started(broker):
    host = broker()
    host.node.vm = host.node.app = False
    assert host.synced()["result"] is True
    assert host.service.writes == []
    assert host.cookie.writes == [("write",)]


def test_the_right_cookie_is_made_private_while_the_node_goes_on_running(broker):
    host = broker(current="SEEDS", clustered=[SEED, ME])
    host.cookie._mode_is_right = False
    ret = host.synced()
    assert (ret["result"], list(ret["changes"])) == (True, ["mode"])
    assert host.writes == [("protect",)]


def test_in_test_mode_the_right_cookie_would_be_made_private(broker):
    host = broker(current="SEEDS", test=True)
    host.cookie._mode_is_right = False
    ret = host.synced()
    assert (ret["result"], list(ret["changes"])) == (None, ["mode"])
    assert host.writes == []


def test_a_mode_that_silently_stays_as_it_was_is_noticed(broker):
    host = broker(current="SEEDS")
    host.cookie._mode_is_right = False
    host.cookie.lost = {"protect"}
    ret = host.synced()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "others can read it" in ret["comment"]


def test_a_broker_that_does_not_answer_is_not_stopped(broker):
    host = broker(clustered=[SEED, ME])
    # As for a minute after another member lost its power.
    host.node.reachable = False
    ret = host.synced()
    assert ret["result"] is False
    assert "runs and does not answer" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("other", ["disc", "ram"])
def test_a_running_member_is_not_cut_off_from_its_cluster(broker, other, test):
    host = broker(clustered=[SEED, ME], test=test)
    host.seed.ram = other == "ram"
    ret = host.synced()
    assert ret["result"] is False
    assert f"a member together with {SEED}" in ret["comment"]
    assert "stop rabbitmq-server on every broker" in ret["comment"]
    assert host.writes == []


# A whole run would start a stopped broker before it carries the seed's cookie.
THEN = {"pillar": "run again", "seed": "salt-run rabbit_ha.sync_cookie"}


@pytest.mark.parametrize("source", THEN)
@pytest.mark.parametrize("test", [False, True])
def test_a_node_that_holds_something_is_not_stopped(broker, test, source):
    host = broker(test=test)
    host.content = ["queue orders in / (12 messages)"]
    ret = host.synced(source, "SEEDS" if source == "seed" else None)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "holds queue orders in / (12 messages), and stops while" in ret["comment"]
    assert f"systemctl stop rabbitmq-server here, then {THEN[source]};" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_node_that_runs_with_another_cookie_than_its_file_is_not_stopped(broker, test):
    host = broker(test=test)
    mismatch = {"state": "cookie mismatch", "status": None, "said": "check the Erlang cookie"}
    host.state.__salt__["rabbitmqctl.node_state"] = lambda node=None: mismatch
    ret = host.synced()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "not known what it holds" in ret["comment"]
    assert host.writes == []
    assert host.synced(discard_local_data=True)["result"] is (None if test else True)


def test_a_permission_that_was_used_up_does_not_let_a_node_be_stopped(broker):
    host = broker()
    host.content = ["queue orders in / (12 messages)"]
    host.notes["local_data_discarded"] = "2026-11-27 12:00:00 +0000"
    ret = host.synced(discard_local_data=True)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "holds queue orders" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("way", ["allowed", "stopped"])
def test_a_node_that_may_stop_or_was_stopped_gets_the_cookie(broker, way):
    host = broker()
    host.content = ["queue orders in / (12 messages)"]
    if way == "stopped":
        host.node.vm = host.node.app = False
    assert host.synced(discard_local_data=way == "allowed")["result"] is True
    assert host.cookie.writes == [("write",)]


def test_on_a_bare_host_test_mode_predicts_and_a_real_run_says_what_is_missing(broker):
    bare = broker(installed=False, test=True)
    # Also before there is any to carry: the one that its package makes is not the seed's.
    assert bare.synced()["result"] is bare.synced(sealed=None)["result"] is None
    host = broker(installed=False)
    ret = host.synced()
    assert ret["result"] is False
    assert "rabbitmq-node2: cookie sync: RabbitMQ is not installed. Next:" in ret["comment"]
    assert host.writes == []


def test_a_cookie_that_silently_is_not_written_is_noticed(broker):
    host = broker()
    host.cookie.lost.add("write")
    ret = host.synced()
    assert ret["result"] is False
    assert "written, yet reads differently" in ret["comment"]
    assert ret["changes"] == {}


def test_after_a_failed_write_a_node_that_ran_runs_again(broker):
    host = broker()
    host.cookie.fails["write"] = CommandExecutionError("no space left on device")
    ret = host.synced()
    assert ret["result"] is False
    assert ret["comment"] == "rabbitmq-node2: cookie sync: no space left on device"
    assert host.node.vm


def test_a_node_that_does_not_stop_keeps_its_cookie(broker):
    host = broker()
    host.service.lost.add("stop")
    ret = host.synced()
    assert ret["result"] is False
    assert "systemctl stop rabbitmq-server failed. Next: journalctl" in ret["comment"]
    assert host.cookie.writes == []


def test_a_node_that_does_not_start_again_fails_with_systemd_s_words(broker):
    host = broker()
    host.service.fails["start"] = CommandExecutionError("Job for rabbitmq-server.service failed")
    ret = host.synced()
    assert ret["result"] is False
    assert "with the cluster's cookie: Job for rabbitmq-server.service failed" in ret["comment"]


def test_a_write_and_then_a_start_that_fail_are_both_told(broker):
    host = broker()
    host.cookie.fails["write"] = CommandExecutionError("no space left on device")
    host.service.fails["start"] = CommandExecutionError("Job for rabbitmq-server.service failed")
    said = host.synced()["comment"]
    assert "with the cookie from before (no space left on device): Job for rabbitmq" in said
    assert said.count("Next:") == 1


def test_a_seal_that_cannot_be_opened_fails_without_a_change(broker):
    host = broker()
    ret = host.synced(sealed="spoilt")
    assert ret["result"] is False
    assert host.writes == []


def test_clients_wait_for_a_broker_that_is_started_again_alone(broker):
    host = broker()
    assert host.synced()["result"] is True
    assert host.node.suspended
    assert host.listeners.writes == [("suspend",)]


def test_clients_of_one_that_does_not_run_do_not_wait(broker):
    host = broker()
    host.node.vm = host.node.app = False
    assert host.synced()["result"] is True
    assert host.listeners.writes == []
