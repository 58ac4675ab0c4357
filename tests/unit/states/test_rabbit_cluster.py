"""rabbit_cluster: joins only where that is safe, says what it would do, checks what it did."""

import ast
import copy
import errno
import fnmatch
import glob
import os
import pathlib
import re
import time
from types import SimpleNamespace

import pytest
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.fake_rabbit import (
    STATUS,
    VERSION,
    Listeners,
    Rabbitmqctl,
    Rabbits,
    Service,
    fresh_definitions,
)
from tests.support import (
    RABBITMQ_VERSIONS,
    ROOT,
    TOPOLOGY,
    faked,
    functions,
    load,
    recorded,
    with_systemctl,
)

SEED, ME, THIRD = (f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3))
CONTACTS = [SEED, ME, THIRD]
SYSTEMD = salt.modules.systemd_service
# What is not faked beside the states.
REAL = ("rabbit_notes", "rabbit_queues", "rabbit_replicas", "rabbit_membership", "rabbit_backup")
UNIT_FAILED = (
    "Job for rabbitmq-server.service failed because the control process exited with error code."
)


class Disk(Service):
    """Salt's ``service`` on a host with a disk: a node that finds no data begins anew."""

    def __init__(self, node, me, node_dir):
        super().__init__(node)
        self._me, self._node_dir = me, node_dir

    def _turn(self, on):
        super()._turn(on)
        if on and not self._node_dir.exists():
            self._node_dir.mkdir(parents=True)
            self._node.members = {self._me}
            self._node.definitions, self._node.queues = fresh_definitions(), []


class Broker:
    """One broker's host: the state module, and what it did to RabbitMQ and its service."""

    def __init__(self, rabbits, topology, folder, me=ME, test=False, installed=True):
        minion = me.split("@")[1]
        self.rabbits = rabbits
        self.node_dir = folder / "data" / "mnesia" / me
        self.node_dir.mkdir(parents=True, exist_ok=True)
        self.rabbitmqctl = Rabbitmqctl(rabbits, me, installed)
        self.service = Disk(rabbits[me], me, self.node_dir)
        salt = faked("rabbitmqctl", self.rabbitmqctl, load("_modules/rabbitmqctl.py"))
        salt |= with_systemctl(faked("service", self.service, SYSTEMD))
        salt["rabbit_host.service_has_begun"] = lambda service: rabbits[me].vm
        self.listeners = Listeners(rabbits[me])
        salt |= faked("rabbit_listeners", self.listeners, load("_modules/rabbit_listeners.py"))
        rabbitmq = {"data_dir": str(folder / "data"), "backup_dir": str(folder / "backups")}
        salt |= topology(minion=minion, pillar={**TOPOLOGY, "rabbitmq": rabbitmq})
        grains = {"id": minion}
        modules = {}
        for name in REAL:
            modules[name] = load(f"_modules/{name}.py", salt=salt, grains=grains)
            salt |= functions(name, modules[name])
        self.membership = modules["rabbit_membership"]
        self.membership.time = SimpleNamespace(monotonic=time.monotonic, sleep=_no_waiting)
        self.queues, self.replicas = modules["rabbit_queues"], modules["rabbit_replicas"]
        self.waits(SimpleNamespace(sleep=_no_waiting))
        self.notes = {name: salt[name] for name in salt if name.startswith("rabbit_notes.")}
        self.backup = functions("rabbit_backup", load("_modules/rabbit_backup.py", salt=salt))
        self.states = load(
            "_states/rabbit_cluster.py", salt=salt, grains=grains, opts={"test": test}
        )

    def joined(self, **kwargs):
        return self.states.joined(SEED, CONTACTS, "rabbitmq-server", **({"timeout": 0} | kwargs))

    def waits(self, clock):
        """Have queues and replicas waited for by this clock."""
        self.queues.time = self.replicas.time = clock

    def remembers(self, *members):
        """Write what Mnesia's generation keeps of its members."""
        names = ",".join(f"'{name}'" for name in members)
        (self.node_dir / "cluster_nodes.config").write_text(f"{{[{names}],[{names}]}}.\n")

    def keeps_queue(self, name, messages="messages"):
        """Write what a classic queue leaves on the disk."""
        folder = self.node_dir / "msg_stores" / "vhosts" / "A" / "queues" / name.upper()
        folder.mkdir(parents=True)
        (folder / ".queue_name").write_text(f"VHOST: /\nQUEUE: {name}\n")
        (folder / "journal.jif").write_text(messages)

    def keeps_replica(self, name, vhost="/"):
        """Write what a quorum queue's replica leaves on the disk."""
        folder = self.node_dir / "quorum" / self.node_dir.name / f"2F_{name.upper()}QUID"
        folder.mkdir(parents=True)
        config = recorded(VERSION, "quorum_queue_config")["stdout"]
        config = config.replace('<<"invoices">>', f'<<"{name}">>')
        (folder / "config").write_text(config.replace('<<"/">>', f'<<"{vhost}">>'))

    @property
    def writes(self):
        return self.service.writes + self.rabbitmqctl.writes

    @property
    def backups(self):
        return self.backup["rabbit_backup.list_definitions"]()


def _no_waiting(seconds):
    raise AssertionError(f"waits for {seconds} s")


@pytest.fixture
def broker(topology, tmp_path):
    def build(rabbits, **kwargs):
        return Broker(rabbits, topology, tmp_path, **kwargs)

    return build


def test_a_fresh_broker_joins(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    host = broker(rabbits)
    ret = host.joined()
    assert ret["result"] is True
    assert ret["changes"]["cluster"] == {"old": "alone", "new": f"with {SEED}"}
    assert ret["changes"]["members"] == sorted(CONTACTS)
    assert host.backups == [ret["changes"]["backup"]]
    assert rabbits[SEED].members == rabbits[ME].members == set(CONTACTS)
    assert rabbits[ME].app
    # No reset: join_cluster does that by itself.
    assert host.writes == [("stop_app",), ("join_cluster", SEED), ("start_app",)]


def test_a_broker_that_joined_lets_clients_in(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].suspended = True
    host = broker(rabbits)
    assert host.joined()["result"] is True
    assert not rabbits[ME].suspended
    # Its app was started for the join.
    assert host.listeners.writes == []


def test_a_seed_lets_clients_in_once(broker):
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].suspended = True
    planned = broker(rabbits, me=SEED, test=True)
    ret = planned.joined()
    assert (ret["result"], ret["changes"]) == (None, {"clients": "let in"})
    assert planned.listeners.writes == []

    host = broker(rabbits, me=SEED)
    ret = host.joined()
    assert (ret["result"], ret["changes"]) == (True, {"clients": "let in"})
    assert host.joined()["changes"] == {}
    assert host.listeners.writes == [("resume",)]


def test_a_seed_that_cannot_let_clients_in_fails(broker):
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].suspended = True
    host = broker(rabbits, me=SEED)
    host.listeners.fails["resume"] = CommandExecutionError("resume")
    ret = host.joined()
    assert ret["result"] is False
    assert "resume" in ret["comment"]


def test_who_suspends_a_member_s_listeners_on_purpose_is_not_overruled(broker):
    host = broker(Rabbits(*CONTACTS, clustered=CONTACTS))
    host.notes["rabbit_notes.write"]("listeners_suspended", 1.0)
    assert host.joined()["changes"] == {}
    assert host.notes["rabbit_notes.fetch"]("listeners_suspended") is None


def test_in_test_mode_a_fresh_broker_would_join_and_nothing_is_written(broker):
    host = broker(Rabbits(*CONTACTS), test=True)
    ret = host.joined()
    assert ret["result"] is None
    assert "would have joined" in ret["comment"]
    assert ret["changes"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_second_run_writes_nothing(broker, test):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    broker(rabbits).joined()
    again = broker(rabbits, test=test)
    ret = again.joined()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["comment"].startswith("already a member")
    assert again.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_the_seed_joins_nobody(broker, test):
    host = broker(Rabbits(*CONTACTS), me=SEED, test=test)
    ret = host.joined()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert host.writes == []


def test_an_interrupted_join_is_finished_once_it_shows_what_the_node_holds(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].app = False
    host = broker(rabbits)
    assert host.joined()["result"] is True
    join = [("stop_app",), ("join_cluster", SEED), ("start_app",)]
    assert host.writes == [("start_app",), *join]


def test_a_stopped_app_hides_no_content_from_a_join(broker):
    rabbits = with_content()
    rabbits[ME].app = False
    host = broker(rabbits)
    ret = host.joined()
    assert ret["result"] is False
    assert "queue q in / (12 messages)" in ret["comment"]
    assert host.writes == [("start_app",)]


@pytest.mark.parametrize(("test", "writes"), [(False, [("start_app",)]), (True, [])])
def test_a_member_whose_app_is_stopped_is_started_not_joined(broker, test, writes):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].app = False
    host = broker(rabbits, test=test)
    ret = host.joined()
    assert ret["result"] is (None if test else True)
    assert ret["changes"]
    assert host.writes == writes


def test_a_stopped_service_is_started_before_membership_is_judged(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].vm = False
    host = broker(rabbits)
    ret = host.joined()
    assert ret["result"] is True
    assert ret["changes"] == {"service": "started", "members": sorted(CONTACTS)}
    assert host.writes == [("start", "rabbitmq-server")]


def test_in_test_mode_a_stopped_service_would_be_started(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].vm = False
    host = broker(rabbits, test=True)
    ret = host.joined()
    assert ret["result"] is None
    assert "would have been started" in ret["comment"]
    assert host.writes == []


def test_a_node_that_is_down_again_right_after_its_start_fails_with_the_next_command(broker):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].vm = False
    host = broker(rabbits)
    host.service.lost.add("start")
    ret = host.joined()
    assert ret["result"] is False
    assert "node not running" in ret["comment"]
    assert "journalctl -u rabbitmq-server" in ret["comment"]


def test_a_service_that_systemd_cannot_start_fails_with_systemd_s_words(broker):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].vm = False
    host = broker(rabbits)
    host.service.fails["start"] = CommandExecutionError(UNIT_FAILED)
    ret = host.joined()
    assert ret["result"] is False
    assert ret["comment"] == (
        f"rabbitmq-node2: joining {SEED}: systemctl start rabbitmq-server failed: "
        f"{UNIT_FAILED.rstrip('.')}. Next: journalctl -u rabbitmq-server, then run again"
    )


def test_on_a_bare_host_test_mode_predicts_and_a_real_run_says_what_is_missing(broker):
    predicted = broker(Rabbits(*CONTACTS), installed=False, test=True).joined()
    assert predicted["result"] is None
    host = broker(Rabbits(*CONTACTS), installed=False)
    ret = host.joined()
    assert ret["result"] is False
    assert "RabbitMQ is not installed. Next: state.apply" in ret["comment"]
    assert host.writes == []


def with_content():
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].queues.append({"name": "q", "vhost": "/", "messages": 12})
    return rabbits


def other_cluster():
    return Rabbits(*CONTACTS, "rabbit@elsewhere", clustered=[ME, "rabbit@elsewhere"])


def partitioned():
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].partitions = {ME: [SEED]}
    return rabbits


def too_new():
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].version = "4.0.5"
    return rabbits


def another_cookie():
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].cookie = "OTHER"
    return rabbits


def seed_down():
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].reachable = False
    return rabbits


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(
    ("situation", "way_out"),
    [
        (with_content, "standalone, with content: .*queue q in /.*export_definitions"),
        (too_new, "older or newer than the cluster allows: .*4.0.5.*3.10.8.*Install on this host"),
        (other_cluster, "other cluster: .*rabbit@elsewhere.*Correct the topology"),
        (partitioned, "partitioned: .*are the majority: restart rabbitmq-server on"),
        (another_cookie, "cookie mismatch: .*Next: salt-run rabbit_ha.sync_cookie, then run"),
        (
            seed_down,
            f"seed unreachable: nothing answers at {SEED}, {THIRD}. Next, on rabbitmq-node1",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_unsafe_is_refused_with_the_reason_and_the_way_out(
    broker, situation, way_out, test
):
    host = broker(situation(), test=test)
    ret = host.joined()
    assert ret["result"] is False
    assert ret["changes"] == {}
    assert re.search(f"^rabbitmq-node2: joining {SEED}: {way_out}", ret["comment"])
    assert host.writes == []


@pytest.mark.parametrize("situation", [another_cookie, seed_down])
def test_before_the_cookie_was_carried_here_a_lone_broker_waits_without_failing(broker, situation):
    host = broker(situation())
    ret = host.joined(cookie_is_carried=True, timeout=60)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "the orchestration carries the seed's cookie" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("situation", [another_cookie, seed_down])
def test_in_test_mode_a_broker_that_waits_for_the_cookie_predicts_a_join(broker, situation):
    ret = broker(situation(), test=True).joined(cookie_is_carried=True)
    assert ret["result"] is None
    assert ret["changes"]


def test_a_member_with_another_cookie_fails_and_a_plan_leaves_it_to_the_run(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].cookie = "OTHER"
    rabbits[ME].app = False
    host = broker(rabbits, test=True)
    host.remembers(*CONTACTS)
    planned = host.joined(cookie_is_carried=True)
    assert planned["result"] is None
    assert "the orchestration carries the seed's cookie" in planned["comment"]
    ret = broker(rabbits).joined(cookie_is_carried=True)
    assert ret["result"] is False
    assert ret["comment"].endswith("Next: salt-run rabbit_ha.sync_cookie, then run again")


def test_another_cookie_than_pillar_s_names_the_step_that_writes_it(broker):
    host = broker(another_cookie())
    host.states.__salt__["rabbit_topology.erlang_cookie_source"] = lambda: "pillar"
    said = host.joined()["comment"]
    assert "Next: salt rabbitmq-node2 state.apply rabbit_ha.rabbitmq.cookie, then run again" in said


@pytest.mark.parametrize("test", [False, True])
def test_a_member_whose_file_has_another_cookie_than_it_runs_with_is_to_restart(broker, test):
    host = broker(Rabbits(*CONTACTS, clustered=CONTACTS), test=test)
    host.remembers(*CONTACTS)
    mismatch = {"state": "cookie mismatch", "status": None, "said": ""}
    for module in (host.states, host.membership):
        module.__salt__["rabbitmqctl.node_state"] = lambda node=None: mismatch
    ret = host.joined(cookie_is_carried=True)
    assert ret["result"] is False
    assert "Next: systemctl restart rabbitmq-server here" in ret["comment"]


def test_a_failed_join_leaves_the_app_running_where_it_ran(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    host = broker(rabbits)
    said = f"joining {SEED} failed: join_cluster exited with 70"
    host.rabbitmqctl.fails["join_cluster"] = CommandExecutionError(said)
    ret = host.joined()
    assert ret["result"] is False
    assert ret["comment"] == f"rabbitmq-node2: {said}"
    assert rabbits[ME].app
    assert list(ret["changes"]) == ["backup"]


# What else than a failed command may come out of a step, a run that is interrupted too.
UNFORESEEN = [
    KeyError("members"),
    SaltInvocationError("no note"),
    SystemExit(1),
    KeyboardInterrupt(),
]


def what_comes_of(function, *args, **kwargs):
    """Give a state's comment, or the exception where it was none that states tell of."""
    try:
        return function(*args, **kwargs)["comment"]
    except BaseException as err:
        return err


@pytest.mark.parametrize("failure", UNFORESEEN, ids=lambda err: type(err).__name__)
@pytest.mark.parametrize(
    ("step", "listed"),
    [("join_cluster", False), ("forget_cluster_node", True), ("join_cluster", True)],
)
def test_whatever_fails_while_the_app_is_stopped_it_is_started_again(broker, failure, step, listed):
    rabbits = ghost() if listed else Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    host = broker(rabbits)
    host.rabbitmqctl.fails[step] = failure
    came = what_comes_of(host.joined)
    assert came is failure or str(failure) in came
    assert host.writes[-1] == ("start_app",)
    assert rabbits[ME].app
    # An app that does not start then is told beside it.
    host.rabbitmqctl.fails["start_app"] = CommandExecutionError("start_app failed")
    came = what_comes_of(host.joined)
    told = came if isinstance(came, str) else came.__notes__[-1]
    assert told.lower().endswith("after that start_app failed")


@pytest.mark.parametrize("failure", UNFORESEEN, ids=lambda err: type(err).__name__)
def test_whatever_keeps_data_from_being_set_aside_the_node_that_ran_runs_again(
    broker, monkeypatch, failure
):
    host = broker(forgotten(vm=True))

    def rename(source, target, **kwargs):
        raise failure

    monkeypatch.setattr(os, "rename", rename)
    came = what_comes_of(host.joined)
    assert came is failure or str(failure) in came
    assert host.service.writes == [("stop", "rabbitmq-server"), ("start", "rabbitmq-server")]


@pytest.mark.parametrize("lost", ["join_cluster", "start_app"])
def test_a_step_of_the_join_that_silently_does_nothing_is_noticed(broker, lost):
    host = broker(Rabbits(*CONTACTS, clustered=[SEED, THIRD]))
    host.rabbitmqctl.lost.add(lost)
    ret = host.joined()
    assert ret["result"] is False
    assert "done what can be done, yet the node is not a member" in ret["comment"]


def test_a_member_s_app_that_silently_does_not_start_is_noticed(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].app = False
    host = broker(rabbits)
    host.rabbitmqctl.lost.add("start_app")
    assert host.joined()["result"] is False


def test_what_a_broker_holds_is_let_go_where_pillar_allows_it(broker):
    rabbits = with_content()
    ret = broker(rabbits).joined(discard_local_data=True)
    assert ret["result"] is True
    assert ret["changes"]["discarded"] == ["queue q in / (12 messages)"]
    assert ret["changes"]["backup"].endswith("before-discarding-local-data.json")
    assert rabbits[ME].members == {SEED, ME}


def test_in_test_mode_what_a_broker_holds_would_be_let_go(broker):
    host = broker(with_content(), test=True)
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is None
    assert "discarded" in ret["comment"]
    assert (host.writes, host.backups) == ([], [])


def stand_alone_with_content(rabbits):
    """Let the broker be what it was before it joined."""
    rabbits[ME].members, rabbits[SEED].members = {ME}, {SEED, THIRD}
    rabbits[ME].definitions = fresh_definitions()
    rabbits[ME].queues = [{"name": "later", "vhost": "/", "messages": 1}]


def test_local_data_is_discarded_once_only(broker):
    rabbits = with_content()
    host = broker(rabbits)
    assert host.joined(discard_local_data=True)["result"] is True
    stand_alone_with_content(rabbits)
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is False
    assert "queue later in /" in ret["comment"]
    assert "discard_local_data was used on" in ret["comment"]
    # As the refusal says; in the plan of an orchestration too.
    assert f"salt {ME.split('@')[1]} rabbit_notes.delete local_data_discarded" in ret["comment"]
    host.states.__salt__["rabbit_notes.delete"]("local_data_discarded")
    assert host.joined(discard_local_data=True)["result"] is True


def test_local_data_that_was_discarded_by_a_run_that_failed_then_uses_the_permission_up(broker):
    rabbits = with_content()
    rabbits[SEED].members = rabbits[THIRD].members = set(CONTACTS)
    rabbits.has_quorum_queue("invoices", CONTACTS, [SEED, THIRD])
    host = broker(rabbits)
    host.rabbitmqctl.fails["grow"] = CommandExecutionError("exited with 70")
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is False
    assert ret["changes"]["discarded"]
    assert host.states.__salt__["rabbit_notes.fetch"]("local_data_discarded")


@pytest.mark.parametrize("test", [False, True])
def test_members_that_pillar_does_not_name_are_told_and_stay(broker, test):
    rabbits = Rabbits(*CONTACTS, "rabbit@old", clustered=[*CONTACTS, "rabbit@old"])
    host = broker(rabbits, me=SEED, test=test)
    ret = host.joined()
    assert (ret["result"], ret["changes"], host.writes) == (True, {}, [])
    [warning] = ret["warnings"]
    assert "rabbit@old: a member of the cluster, and no broker in pillar" in warning
    assert "rabbit_ha:rabbitmq:absent_members" in warning


def test_local_data_may_be_discarded_again_after_pillar_took_that_back(broker):
    rabbits = with_content()
    host = broker(rabbits)
    host.joined(discard_local_data=True)
    host.joined()
    stand_alone_with_content(rabbits)
    assert host.joined(discard_local_data=True)["result"] is True


def test_a_join_that_failed_uses_the_permission_to_discard_not_up(broker):
    host = broker(with_content())
    host.rabbitmqctl.fails["join_cluster"] = CommandExecutionError("exited with 70")
    assert host.joined(discard_local_data=True)["result"] is False
    del host.rabbitmqctl.fails["join_cluster"]
    assert host.joined(discard_local_data=True)["result"] is True


# What a member that lost its data does, which had a replica of one queue.
REJOINS = [
    ("stop_app",),
    ("shrink", ME, SEED),
    ("forget_cluster_node", ME, SEED, False),
    ("join_cluster", SEED),
    ("start_app",),
    ("grow", ME, "/", ["orders"]),
]


# The quorum queues of a ghost, for people.
COUNTING = "orders in /, a b in v"


def ghost():
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].members = {ME}
    for name, vhost in (("orders", "/"), ("a b", "v")):
        rabbits.has_quorum_queue(name, CONTACTS, [SEED, THIRD], vhost)
    return rabbits


def test_a_broker_that_lost_its_data_replaces_what_the_cluster_lists(broker):
    rabbits = ghost()
    host = broker(rabbits)
    ret = host.joined()
    assert ret["result"] is True
    assert rabbits[ME].members == rabbits[SEED].members == set(CONTACTS)
    assert ret["changes"]["quorum_queues"] == ["orders in /", "a b in v"]
    assert host.backups == [ret["changes"]["backup"]]
    assert host.writes == [*REJOINS, ("grow", ME, "v", ["a b"])]


def ghost_with_stream(version="4.0.5", **kwargs):
    """A ghost that had a replica of a stream beside those of quorum queues."""
    rabbits = of_version(ghost(), version)
    rabbits.has_stream("events", CONTACTS, [SEED, THIRD], **kwargs)
    return rabbits


def test_a_stream_gets_the_replica_back_that_forgetting_takes_out(broker):
    rabbits = ghost_with_stream(vhost="v")
    # One that had none here gets none.
    rabbits.has_stream("elsewhere", [SEED, THIRD], [SEED, THIRD])
    host = broker(rabbits)
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["streams"] == ["events in v"]
    assert host.writes[-1] == ("add_replicas", ME, ["events"], SEED)
    assert [sorted(stream["members"]) for stream in rabbits.streams] == [CONTACTS, [SEED, THIRD]]
    assert host.joined()["changes"] == {}


def test_a_stream_that_lists_the_node_still_gets_its_replica_back_by_itself(broker):
    rabbits = ghost_with_stream(VERSION)
    host = broker(rabbits)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        rabbits.streams[0]["online"].append(ME)

    host.waits(SimpleNamespace(sleep=sleep))
    ret = host.joined()
    assert (ret["result"], ret["changes"]["streams"]) == (True, ["events in /"])
    assert slept == [1]
    # Or the stream coordinator would wait for the one that lost its data.
    assert ("forget_stream_coordinator", ME, SEED) in host.writes
    assert "add_replicas" not in [write[0] for write in host.writes]


def test_a_stream_whose_replica_does_not_run_yet_is_told_and_no_failure(broker):
    host = broker(ghost_with_stream(VERSION))
    slept = []
    host.waits(SimpleNamespace(sleep=slept.append))
    ret = host.joined()
    assert (ret["result"], "streams" in ret["changes"]) == (True, False)
    [warning] = ret["warnings"]
    assert "of events in / the replica here does not run yet" in warning
    assert "rabbitmqctl list_queues --vhost VHOST" in warning
    assert slept == [1, 2, 4, 8, 16]
    # It may have been the old one, which RabbitMQ takes out only then.
    host.rabbits.streams[0]["members"].remove(ME)
    ret = host.joined()
    assert (ret["changes"], "warnings" in ret) == ({"streams": ["events in /"]}, False)
    assert host.joined()["changes"] == {}


def test_a_stream_that_gets_no_replica_is_told_until_it_has(broker):
    host = broker(ghost_with_stream())
    slept = []
    host.waits(SimpleNamespace(sleep=slept.append))
    add = host.rabbitmqctl.add_replicas
    host.states.__salt__["rabbitmqctl.add_replicas"] = lambda *asked: "out_of_sync_replica"
    ret = host.joined()
    assert ret["result"] is False
    assert "streams got no replica back: events in / (out_of_sync_replica)" in ret["comment"]
    assert "then run again" in ret["comment"]
    assert slept == [1, 2, 4, 8, 16]
    host.states.__salt__["rabbitmqctl.add_replicas"] = add
    ret = host.joined()
    assert (ret["result"], ret["changes"]["streams"]) == (True, ["events in /"])


def test_a_replica_is_added_again_while_the_old_one_is_still_taken_out(broker):
    host = broker(ghost_with_stream())
    host.rabbitmqctl.lost.add("add_replicas")
    host.waits(SimpleNamespace(sleep=lambda seconds: host.rabbitmqctl.lost.clear()))
    ret = host.joined()
    assert (ret["result"], ret["changes"]["streams"]) == (True, ["events in /"])


def test_a_stream_that_was_deleted_meanwhile_needs_no_replica(broker):
    rabbits = ghost_with_stream()
    host = broker(rabbits)

    def deleted(node, streams, at):
        rabbits.streams.clear()
        return "not_found"

    host.states.__salt__["rabbitmqctl.add_replicas"] = deleted
    assert host.joined()["result"] is True


def test_a_stream_that_is_not_listed_and_not_deleted_keeps_its_note(broker):
    rabbits = ghost_with_stream()
    host = broker(rabbits)
    host.waits(SimpleNamespace(sleep=lambda seconds: None))
    rabbits[SEED].definitions["queues"] = [{"name": "events", "vhost": "/", "type": "stream"}]
    host.states.__salt__["rabbitmqctl.streams"] = lambda at=None: []
    ret = host.joined()
    assert ret["result"] is False
    assert "streams got no replica back: events in /" in ret["comment"]
    host.states.__salt__["rabbitmqctl.streams"] = host.rabbitmqctl.streams
    assert host.joined()["changes"]["streams"] == ["events in /"]


def test_a_stream_that_was_declared_anew_as_another_type_needs_no_replica(broker):
    rabbits = ghost_with_stream()
    host = broker(rabbits)
    rabbits[SEED].definitions["queues"] = [{"name": "events", "vhost": "/", "type": "classic"}]
    host.states.__salt__["rabbitmqctl.streams"] = lambda at=None: []
    assert host.joined()["result"] is True
    assert "add_replicas" not in [write[0] for write in host.writes]


def test_a_note_of_an_older_version_names_quorum_queues(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits.has_quorum_queue("orders", [SEED, THIRD], [SEED, THIRD])
    host = broker(rabbits)
    note = [{"vhost": "/", "name": "orders"}]
    host.states.__salt__["rabbit_notes.write"]("replicas_to_return", note)
    ret = host.joined()
    assert (ret["result"], ret["changes"]) == (True, {"quorum_queues": ["orders in /"]})


def test_a_node_that_its_contact_does_not_see_is_shrunk_by_forgetting_it(broker):
    rabbits = ghost()
    host = broker(rabbits)
    host.rabbitmqctl.fails["shrink"] = CommandExecutionError(
        f"shrink exited with 69: Error: {{:node_not_running, :{ME}}}"
    )
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["quorum_queues"] == ["orders in /", "a b in v"]


def test_a_node_whose_replicas_stay_listed_is_not_joined_anew(broker):
    host = broker(ghost())
    host.rabbitmqctl.fails["shrink"] = CommandExecutionError("Error: {:node_not_running, :x}")
    host.rabbitmqctl._lose_replicas = lambda node: None
    ret = host.joined()
    assert ret["result"] is False
    assert f"still counts, and messages could be lost: {COUNTING}. Next" in ret["comment"]
    assert ("join_cluster", SEED) not in host.writes
    assert host.rabbits[ME].app


def taken_back_without_replicas(broker, online=(SEED, THIRD), **kwargs):
    """A member that lost its data and that RabbitMQ 4.3 has taken back by itself."""
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits.has_quorum_queue("orders", CONTACTS, online)
    host = broker(rabbits, **kwargs)
    store = host.node_dir / "coordination" / ME / "RABBITQUID"
    store.mkdir(parents=True, exist_ok=True)
    return host


def test_a_member_that_was_taken_back_without_its_replicas_joins_anew_once(broker):
    host = taken_back_without_replicas(broker)
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["quorum_queues"] == ["orders in /"]
    assert ret["changes"]["cluster"] == {"old": "without its replicas", "new": f"with {SEED}"}
    assert host.backups == [ret["changes"]["backup"]]
    assert host.writes == REJOINS
    # Asked once in each store of metadata.
    host.rabbits.quorum.clear()
    host.rabbits.has_quorum_queue("orders", CONTACTS, [SEED, THIRD])
    assert host.joined()["changes"] == {}


@pytest.mark.parametrize("sees_the_others", [True, False])
def test_another_member_is_asked_about_replicas_as_this_one_may_not_know_yet(
    broker, sees_the_others
):
    host = taken_back_without_replicas(broker)
    ask = host.states.__salt__["rabbitmqctl.quorum_queues"]
    host.states.__salt__["rabbitmqctl.quorum_queues"] = lambda at=None: (
        ask(at) if at or host.rabbitmqctl.writes else []
    )
    status = host.states.__salt__["rabbitmqctl.cluster_status"]
    host.states.__salt__["rabbitmqctl.cluster_status"] = lambda node=None: {
        **status(node),
        **({} if node or sees_the_others else {"running_nodes": [ME]}),
    }
    assert host.joined()["changes"]["quorum_queues"] == ["orders in /"]


def test_in_test_mode_it_would_join_anew_and_get_its_replicas_back(broker):
    host = taken_back_without_replicas(broker, test=True)
    ret = host.joined()
    assert ret["result"] is None
    assert ret["changes"] == {
        "cluster": {"old": "without its replicas", "new": f"with {SEED}"},
        "quorum_queues": ["orders in /"],
    }
    assert f"would have left the cluster and joined {SEED} anew" in ret["comment"]
    assert host.writes == []
    host.rabbits.has_stream("events", CONTACTS, [SEED, THIRD])
    assert host.joined()["changes"]["streams"] == ["events in /"]


@pytest.mark.parametrize("test", [False, True])
def test_a_replica_that_does_not_run_beside_one_that_does_is_told_and_nothing_is_left(broker, test):
    host = taken_back_without_replicas(broker, test=test)
    host.rabbits.has_quorum_queue("only here", [ME], [ME])
    for _ in range(2):
        ret = host.joined()
        assert (ret["result"], ret["changes"]) == (True, {})
        [warning] = ret["warnings"]
        assert "of orders in / the replica here does not run" in warning
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_member_that_was_drained_has_its_replicas_on_its_disk_and_stays(broker, test):
    host = taken_back_without_replicas(broker, test=test)
    host.keeps_replica("orders")
    ret = host.joined()
    assert (ret["result"], ret["changes"]) == (True, {})
    [warning] = ret["warnings"]
    assert "of orders in / the replica here does not run" in warning
    assert "rabbitmq-upgrade revive" in warning
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_queue_without_a_majority_elsewhere_keeps_the_node_as_it_is(broker, test):
    host = taken_back_without_replicas(broker, online=[SEED], test=test)
    ret = host.joined()
    assert ret["result"] is False
    assert "orders in / has no majority of replicas elsewhere" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_one_that_holds_a_classic_queue_by_now_is_left_as_it_is(broker, test):
    host = taken_back_without_replicas(broker, test=test)
    host.keeps_queue("invoices")
    ret = host.joined()
    assert ret["result"] is False
    assert (
        "orders in / count on replicas here; it has to join anew, but holds queue invoices"
        in (ret["comment"])
    )
    assert host.writes == []


def test_in_test_mode_a_ghost_would_be_forgotten(broker):
    host = broker(ghost(), test=True)
    ret = host.joined()
    assert ret["result"] is None
    assert f"would have had {SEED} forget the old node" in ret["comment"]
    assert (host.writes, host.backups) == ([], [])


@pytest.mark.parametrize("step", ["forget_cluster_node", "join_cluster", "grow", "add_replicas"])
def test_a_replacement_that_was_interrupted_is_finished_with_all_replicas(broker, step):
    rabbits = ghost_with_stream()
    host = broker(rabbits)
    host.rabbitmqctl.fails[step] = CommandExecutionError("killed")
    first = host.joined()
    assert first["result"] is False
    assert rabbits[ME].app
    del host.rabbitmqctl.fails[step]
    ret = host.joined()
    assert ret["result"] is True
    # What was done before the failure was told then.
    done = first if step == "add_replicas" else ret
    assert done["changes"]["quorum_queues"] == ["orders in /", "a b in v"]
    assert ret["changes"]["streams"] == ["events in /"]
    assert host.joined()["changes"] == {}


def test_replicas_are_noted_before_they_are_taken_out(broker):
    host = broker(ghost())
    shrink = host.rabbitmqctl.shrink

    def killed_afterwards(node, at=None):
        shrink(node, at)
        raise CommandExecutionError("killed")

    host.states.__salt__["rabbitmqctl.shrink"] = killed_afterwards
    assert host.joined()["result"] is False
    host.states.__salt__["rabbitmqctl.shrink"] = shrink
    assert host.joined()["changes"]["quorum_queues"] == ["orders in /", "a b in v"]


def test_in_test_mode_a_permission_that_a_killed_run_did_not_use_up_would_be(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    ret = broker(rabbits, test=True).joined(discard_local_data=True)
    assert ret["result"] is None
    assert ret["changes"] == {"discard_local_data": "used up"}
    broker(rabbits).joined(discard_local_data=True)
    again = broker(rabbits, test=True).joined(discard_local_data=True)
    assert (again["result"], again["changes"]) == (True, {})


def test_a_seed_killed_on_its_way_back_to_the_only_other_one_joins_it(broker):
    rabbits = Rabbits(SEED, ME, clustered=[SEED, ME])
    rabbits[SEED].members = {SEED}
    host = broker(rabbits, me=SEED)
    host.rabbitmqctl.fails["join_cluster"] = CommandExecutionError("killed")
    assert host.joined()["result"] is False
    assert rabbits[ME].members == {ME}
    del host.rabbitmqctl.fails["join_cluster"]
    assert host.joined()["changes"]["cluster"] == {"old": "alone", "new": f"with {ME}"}
    assert rabbits[ME].members == {SEED, ME}
    # From here on it is the seed again, should it ever be the first.
    assert host.states.__salt__["rabbit_notes.fetch"]("returns_to") is None


@pytest.mark.parametrize(("carried", "alone"), [(True, 0), (False, 60)])
def test_a_member_is_waited_for_also_where_the_cookie_is_carried(broker, carried, alone):
    host = broker(Rabbits(*CONTACTS, clustered=CONTACTS))
    judge, asked = host.states.__salt__["rabbit_membership.await_verdict"], []

    def recorded_judge(contacts, timeout, timeout_alone):
        asked.append((timeout, timeout_alone))
        return judge(contacts, timeout, timeout_alone=timeout_alone)

    host.states.__salt__["rabbit_membership.await_verdict"] = recorded_judge
    assert host.joined(timeout=60, cookie_is_carried=carried)["result"] is True
    assert asked == [(60, alone)]


def test_in_test_mode_a_member_whose_others_hang_would_be_judged_again(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].reachable = rabbits[THIRD].reachable = False
    ret = broker(rabbits, test=True).joined(timeout=60)
    assert ret["result"] is None
    assert "would have been judged again" in ret["comment"]
    # A run waits, and then fails.
    assert broker(rabbits).joined()["result"] is False


HANGS = f"running, but not answering: {ME} runs and did not answer in time"


@pytest.mark.parametrize("others", [CONTACTS, [SEED, THIRD]])
def test_a_node_that_hangs_is_neither_started_nor_set_aside(broker, others):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].members = rabbits[THIRD].members = set(others)
    rabbits[ME].reachable = False
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    ret = host.joined()
    assert (ret["result"], ret["changes"], host.writes) == (False, {}, [])
    assert HANGS in ret["comment"]
    assert "Next: rabbitmq-diagnostics ping here, then run again" in ret["comment"]
    assert "systemctl restart rabbitmq-server here" in ret["comment"]


def test_in_test_mode_a_node_that_hangs_would_be_judged_again(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].reachable = False
    ret = broker(rabbits, test=True).joined()
    assert ret["result"] is None
    assert f"would have been judged again: {HANGS}" in ret["comment"]
    assert "Next: rabbitmq-diagnostics ping here" in ret["comment"]


def test_in_test_mode_replicas_that_a_killed_run_did_not_return_would_be(broker):
    rabbits = ghost()
    host = broker(rabbits)
    host.rabbitmqctl.fails["grow"] = CommandExecutionError("killed")
    host.joined()
    ret = broker(rabbits, test=True).joined()
    assert ret["result"] is None
    assert ret["changes"] == {"quorum_queues": ["orders in /", "a b in v"]}
    assert "already a member" in ret["comment"]


def test_a_quorum_queue_that_gets_no_replica_is_told(broker):
    host = broker(ghost())
    host.states.__salt__["rabbitmqctl.grow"] = lambda node, vhost, queues: [
        {"vhost": vhost, "name": queues[0], "result": "error: timeout"}
    ]
    ret = host.joined()
    assert ret["result"] is False
    assert "orders in /: error: timeout" in ret["comment"]
    assert "see that their other members run, then run again" in ret["comment"]


def test_a_queue_that_only_is_said_to_have_got_its_replica_is_told_until_it_has(broker):
    host = broker(ghost())
    waited = []
    host.waits(SimpleNamespace(sleep=waited.append))
    host.rabbitmqctl.lost.add("grow")
    ret = host.joined()
    assert ret["result"] is False
    assert "quorum queues got no replica back: orders in /, a b in v" in ret["comment"]
    assert f"rabbitmq-queues delete_member --vhost VHOST NAME {ME}" in ret["comment"]
    assert waited == [1, 2, 4]
    host.rabbitmqctl.lost.clear()
    ret = host.joined()
    assert (ret["result"], ret["changes"]["quorum_queues"]) == (True, ["orders in /", "a b in v"])
    assert host.joined()["changes"] == {}


def without_a_leader(rabbits):
    """Let there be a queue that counts on the joining broker and whose others are still booting."""
    rabbits.has_quorum_queue("orders", CONTACTS, [SEED], state="down")
    return rabbits


def refuses(host, **kwargs):
    """Assert that it does not join, and leaves the cluster and itself as they were."""
    before = [copy.deepcopy(host.rabbits[node].members) for node in CONTACTS]
    ret = host.joined(**kwargs)
    assert ret["result"] is False
    assert "still counts, and messages could be lost: orders in /" in ret["comment"]
    assert (
        "Next: start rabbitmq-server on rabbitmq-node3, or rabbitmq-upgrade revive one"
        in ret["comment"]
    )
    assert "on rabbitmq-node1: rabbitmq-queues delete_member" in ret["comment"]
    assert [host.rabbits[node].members for node in CONTACTS] == before
    assert host.rabbits[ME].app
    return ret


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
@pytest.mark.parametrize("situation", ["ghost", "forgotten by a run that failed"])
def test_a_broker_does_not_join_while_a_queue_without_a_leader_counts_on_it(
    broker, version, situation
):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS if situation == "ghost" else [SEED, THIRD])
    rabbits[ME].members = {ME}
    without_a_leader(of_version(rabbits, version))
    host = broker(rabbits)
    refuses(broker(rabbits, test=True))
    # However often it is run.
    refuses(host)
    refuses(host)
    assert "join_cluster" not in [write[0] for write in host.writes]
    # Its other members have booted.
    rabbits.quorum[0].update(state="running", online=[SEED, THIRD])
    assert broker(rabbits, test=True).joined()["result"] is None
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["quorum_queues"] == ["orders in /"]
    assert host.joined()["changes"] == {}


@pytest.mark.parametrize("test", [False, True])
def test_a_broker_does_not_join_while_a_queue_counts_on_it_that_is_not_even_listed(broker, test):
    host = broker(without_a_leader(Rabbits(*CONTACTS, clustered=[SEED, THIRD])), test=test)
    host.membership.__salt__["rabbitmqctl.list_queues"] = lambda at=None: []
    ret = host.joined()
    assert ret["result"] is False
    assert (
        "orders in /. Next: start rabbitmq-server on rabbitmq-node1, rabbitmq-node3"
        in (ret["comment"])
    )
    assert "join_cluster" not in [write[0] for write in host.writes]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_queue_that_does_not_shrink_though_it_has_a_leader_is_noticed(
    broker, monkeypatch, version
):
    host = broker(of_version(ghost(), version))
    monkeypatch.setattr(host.rabbitmqctl, "_lose_replicas", lambda node: None)
    for _ in range(2):
        ret = host.joined()
        assert ret["result"] is False
        assert f"still counts, and messages could be lost: {COUNTING}" in ret["comment"]
        assert "join_cluster" not in [write[0] for write in host.writes]
    monkeypatch.undo()
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["quorum_queues"] == ["orders in /", "a b in v"]


@pytest.mark.parametrize("others", [[], [SEED]])
def test_a_queue_that_only_one_other_has_cannot_lose_what_it_confirmed(broker, others):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].members = {ME}
    rabbits.has_quorum_queue("orders", [*others, ME], others, state="down")
    host = broker(rabbits)
    host.rabbitmqctl.lost.add("shrink")
    host.states.__salt__["rabbitmqctl.quorum_queues"] = lambda at=None: []
    assert host.joined()["result"] is True


def test_a_first_join_asks_once_who_counts_on_the_broker(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits.has_quorum_queue("orders", [SEED, THIRD], [SEED, THIRD])
    host = broker(rabbits)
    asked = []
    for name in ("queues_with_replicas", "list_queues"):
        read = host.membership.__salt__[f"rabbitmqctl.{name}"]
        host.membership.__salt__[f"rabbitmqctl.{name}"] = lambda at=None, name=name, read=read: (
            asked.append((name, at)) or read(at)
        )
    assert host.joined()["result"] is True
    assert [name for name, at in asked if at] == ["queues_with_replicas"]
    assert host.writes == [("stop_app",), ("join_cluster", SEED), ("start_app",)]


def forgotten_with_a_stream(version):
    """A broker without data that is no member, and that a stream still counts on."""
    rabbits = of_version(Rabbits(*CONTACTS, clustered=[SEED, THIRD]), version)
    rabbits.has_stream("events", CONTACTS, [SEED, THIRD])
    return rabbits


def test_a_stream_that_forgetting_left_as_it_was_loses_the_replica_before_the_join(broker):
    host = broker(forgotten_with_a_stream("4.0.5"))
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["streams"] == ["events in /"]
    assert [write[0] for write in host.writes] == [
        "stop_app",
        "delete_replicas",
        "join_cluster",
        "start_app",
        "add_replicas",
    ]


def test_before_rabbitmq_4_a_stream_has_to_count_on_a_broker_that_joins(broker):
    host = broker(forgotten_with_a_stream(VERSION))
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert "streams" not in ret["changes"]


@pytest.mark.parametrize("situation", ["ghost", "forgotten"])
def test_a_broker_does_not_join_while_no_one_takes_its_replica_out_of_a_stream(
    broker, monkeypatch, situation
):
    rabbits = forgotten_with_a_stream("4.0.5")
    if situation == "ghost":
        rabbits[SEED].members = rabbits[THIRD].members = set(CONTACTS)
    host = broker(rabbits)
    forget = host.membership.__salt__["rabbitmqctl.forget_cluster_node"]

    def forget_cluster_node(node, at=None, offline=False):
        streams = copy.deepcopy(rabbits.streams)
        forget(node, at, offline)
        rabbits.streams[:] = streams
        raise CommandExecutionError("exited with 70: coordinator_unavailable")

    host.membership.__salt__["rabbitmqctl.forget_cluster_node"] = forget_cluster_node
    host.rabbitmqctl.fails["delete_replicas"] = CommandExecutionError("coordinator_unavailable")
    ret = host.joined()
    assert ret["result"] is False
    assert "could be lost: events in / (coordinator_unavailable). Next: see" in ret["comment"]
    assert "join_cluster" not in [write[0] for write in host.writes]
    del host.rabbitmqctl.fails["delete_replicas"]
    ret = host.joined()
    assert (ret["result"], ret["changes"]["streams"]) == (True, ["events in /"])


def test_a_queue_that_was_deleted_meanwhile_needs_no_replica(broker):
    rabbits = ghost()
    host = broker(rabbits)
    grow = host.rabbitmqctl.grow

    def deleted_afterwards(node, vhost, queues):
        rabbits.quorum[:] = [queue for queue in rabbits.quorum if queue["vhost"] != vhost]
        return grow(node, vhost, queues)

    host.states.__salt__["rabbitmqctl.grow"] = deleted_afterwards
    assert host.joined()["result"] is True


def forgotten(vm=False):
    """A broker whose service stopped, and that the others forgot since."""
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].vm = rabbits[ME].app = vm
    rabbits[SEED].members = rabbits[THIRD].members = {SEED, THIRD}
    return rabbits


@pytest.mark.parametrize("runs", [False, True])
def test_a_forgotten_broker_keeps_its_data_aside_and_joins_anew(broker, runs):
    rabbits = forgotten(runs)
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    ret = host.joined()
    assert ret["result"] is True
    assert rabbits[ME].members == rabbits[SEED].members == set(CONTACTS)
    aside = pathlib.Path(ret["changes"]["set_aside"])
    assert (aside / "cluster_nodes.config").exists()
    assert aside.parent.name == "mnesia.aside"
    # The member's before all of it, where this one does not run, and its own before it joined.
    assert ret["changes"]["backup"] in host.backups


@pytest.mark.parametrize("runs", [False, True])
def test_a_forgotten_broker_gets_the_replicas_back_that_its_disk_had(broker, runs):
    rabbits = forgotten(runs)
    others = [SEED, THIRD]
    rabbits.has_quorum_queue("orders", others, others)
    rabbits.has_quorum_queue("elsewhere", others, others)
    rabbits.has_stream("a b", others, others)
    rabbits.has_stream("a c", others, others)
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    host.keeps_replica("orders")
    (host.node_dir / "stream" / "__a_b_1795784621342").mkdir(parents=True)
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["quorum_queues"] == ["orders in /"]
    assert ret["changes"]["streams"] == ["a b in /"]
    assert [ME in queue["online"] for queue in rabbits.quorum] == [True, False]
    assert [ME in stream["online"] for stream in rabbits.streams] == [True, False]
    assert host.joined()["changes"] == {}


def test_replicas_on_the_disk_are_noted_before_it_is_set_aside(broker):
    rabbits = forgotten()
    rabbits.has_quorum_queue("orders", [SEED, THIRD], [SEED, THIRD])
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    host.keeps_replica("orders")
    host.rabbitmqctl.fails["join_cluster"] = CommandExecutionError("killed")
    assert host.joined()["result"] is False
    del host.rabbitmqctl.fails["join_cluster"]
    assert host.joined()["changes"]["quorum_queues"] == ["orders in /"]


@pytest.mark.parametrize(("members", "online"), [(None, None), ([ME], []), (CONTACTS, [SEED])])
def test_what_others_do_not_serve_gets_no_replica_once_it_was_let_go(broker, members, online):
    rabbits = forgotten()
    if members:
        rabbits.has_quorum_queue("orders", members, online)
        rabbits.has_stream("events", members, online)
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    host.keeps_replica("orders")
    (host.node_dir / "stream" / "__events_1795784621342").mkdir(parents=True)
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["discarded"] == ["queue orders in /", "stream __events_1795784621342"]
    assert "streams" not in ret["changes"]
    # One that shrinks before the join has a leader, which gives it its replica back.
    assert ("quorum_queues" in ret["changes"]) is (members == CONTACTS)


def on_another_disk(monkeypatch, *endings):
    """Have folders whose paths end so be on another file system than all others."""
    stat = os.stat

    def stat_of(path, **kwargs):
        found = stat(path, **kwargs)
        if not str(path).endswith(endings):
            return found
        return SimpleNamespace(st_dev=found.st_dev + 1, st_mode=found.st_mode)

    monkeypatch.setattr(os, "stat", stat_of)


def test_data_on_a_disk_of_its_own_is_set_aside_there(broker, monkeypatch):
    host = broker(forgotten())
    on_another_disk(monkeypatch, "mnesia.aside")
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["set_aside"].startswith(f"{host.node_dir.parent}/.aside/{ME}-")


def test_data_that_cannot_be_set_aside_stops_no_node(broker, monkeypatch):
    rabbits = forgotten(vm=True)
    host = broker(rabbits)
    on_another_disk(monkeypatch, ".aside")
    ret = host.joined()
    assert ret["result"] is False
    assert "is a file system of its own, so it cannot be set aside. Next: move" in ret["comment"]
    assert host.service.writes == []


def test_data_is_not_set_aside_through_a_link(broker, tmp_path):
    host = broker(forgotten(vm=True))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    aside = host.node_dir.parent.with_name("mnesia.aside")
    aside.symlink_to(elsewhere)
    ret = host.joined()
    assert ret["result"] is False
    assert f"{aside} is a link; expected a folder. Next: ls -l" in ret["comment"]
    assert host.service.writes == []
    assert list(elsewhere.iterdir()) == []


def test_a_node_that_ran_runs_again_when_its_data_was_not_set_aside(broker, monkeypatch):
    host = broker(forgotten(vm=True))

    def rename(source, target, **kwargs):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rename", rename)
    ret = host.joined()
    assert ret["result"] is False
    assert "could not be set aside: [Errno 16]" in ret["comment"]
    assert host.service.writes == [("stop", "rabbitmq-server"), ("start", "rabbitmq-server")]
    host.rabbits[ME].vm = True
    host.service.fails["start"] = CommandExecutionError(UNIT_FAILED)
    said = host.joined()["comment"]
    assert "could not be set aside: [Errno 16]" in said and UNIT_FAILED.rstrip(".") in said


def test_in_test_mode_a_forgotten_broker_s_data_would_be_set_aside(broker):
    host = broker(forgotten(), test=True)
    host.remembers(*CONTACTS)
    ret = host.joined()
    assert ret["result"] is None
    assert "would have set this node's data aside" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_forgotten_broker_with_a_queue_of_its_own_is_left_alone(broker, test):
    host = broker(forgotten(), test=test)
    host.remembers(*CONTACTS)
    host.keeps_queue("orders")
    ret = host.joined()
    assert ret["result"] is False
    assert "queue orders in /" in ret["comment"]
    assert "discard_local_data: true" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(
    ("members", "online"),
    [
        # Nobody else has it; it lost the majority; it was deleted, or lost with the others' data.
        ([ME], [ME]),
        (CONTACTS, [SEED]),
        (None, None),
    ],
)
def test_a_forgotten_broker_with_the_last_replicas_is_left_alone(broker, test, members, online):
    rabbits = forgotten()
    if members:
        rabbits.has_quorum_queue("orders", members, online)
    host = broker(rabbits, test=test)
    host.remembers(*CONTACTS)
    host.keeps_replica("orders")
    ret = host.joined()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "it holds queue orders in /" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize(("vhost", "result"), [("/", True), ("other", False)])
def test_a_forgotten_broker_s_replica_of_a_queue_that_others_serve_is_no_loss(
    broker, vhost, result
):
    rabbits = forgotten()
    rabbits.has_quorum_queue("orders", CONTACTS, [SEED, THIRD])
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    host.keeps_replica("orders", vhost)
    assert host.joined()["result"] is result


def test_files_that_a_running_node_deletes_meanwhile_hold_nothing(broker, monkeypatch):
    host = broker(forgotten(vm=True))
    # What is listed and then not there.
    host.keeps_queue("orders", "")
    [folder] = host.node_dir.glob("msg_stores/vhosts/*/queues/*")
    (folder / "journal.jif").unlink()
    gone = [
        folder / "journal.jif",
        folder.parent / "GONE" / ".queue_name",
        host.node_dir / "quorum" / "a" / "2F_GONE" / "config",
    ]
    there = glob.glob

    def listed(pattern):
        also = [str(path) for path in gone if fnmatch.fnmatch(path, pattern)]
        return [*there(pattern), *also]

    monkeypatch.setattr(glob, "glob", listed)
    orders = {"name": "orders", "vhost": "/", "messages": 0, "message_bytes": 0}
    host.rabbits[SEED].queues.append(orders)
    ret = host.joined()
    assert ret["result"] is True, ret["comment"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"VHOST: /\nQUEUE: Auftr\xe4ge\n", "queue Auftr\ufffdge in /"),
        (b"", "queue ORDERS in a vhost that cannot be read"),
    ],
)
def test_a_classic_queue_s_name_that_cannot_be_read_is_told_as_far_as_it_can(broker, text, told):
    host = broker(forgotten())
    host.remembers(*CONTACTS)
    host.keeps_queue("orders")
    host.keeps_queue("other")
    [named] = host.node_dir.glob("msg_stores/vhosts/*/queues/ORDERS/.queue_name")
    named.write_bytes(text)
    ret = host.joined()
    assert ret["result"] is False
    assert told in ret["comment"]


def test_a_replica_of_which_nothing_can_be_read_is_left_alone(broker):
    host = broker(forgotten())
    host.remembers(*CONTACTS)
    host.keeps_replica("orders")
    [config] = host.node_dir.glob("quorum/*/*/config")
    config.write_text("")
    ret = host.joined()
    assert ret["result"] is False
    assert f"queue {config.parent.name} in a vhost that cannot be read" in ret["comment"]


@pytest.mark.parametrize(
    ("name", "online", "result"),
    [
        ("a b", [SEED, THIRD], True),
        ("a b", [SEED], False),
        # Its folder has another name.
        ("a", [SEED, THIRD], False),
    ],
)
def test_a_forgotten_broker_s_stream_is_no_loss_where_others_serve_it(broker, name, online, result):
    rabbits = forgotten()
    rabbits.has_stream(name, CONTACTS, online)
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    (host.node_dir / "stream" / "__a_b_1795784621342").mkdir(parents=True)
    host.waits(SimpleNamespace(sleep=lambda seconds: None))
    ret = host.joined()
    assert ret["result"] is result
    assert ("holds stream __a_b_1795784621342" in ret["comment"]) is not result


MIRRORED = {
    "name": "ha-all",
    "vhost": "/",
    "pattern": "^",
    "apply-to": "all",
    "priority": 0,
    "definition": {"ha-mode": "all"},
}


@pytest.mark.parametrize(
    ("policies", "elsewhere", "here", "result"),
    [
        ([MIRRORED], 3, "messages", True),
        # Nothing is on this disk that could be lost.
        ([], 0, "", True),
        ([MIRRORED], 0, "", True),
        # Declared anew by a client, or a mirror that was not synchronised.
        ([], 3, "messages", False),
        ([MIRRORED], 0, "messages", False),
        ([MIRRORED], 3, "message" * 1000, False),
        ([{**MIRRORED, "pattern": "^ha"}], 3, "messages", False),
        ([MIRRORED, {**MIRRORED, "name": "x", "priority": 1, "definition": {}}], 3, "more", False),
        ([{**MIRRORED, "vhost": "other"}], 3, "messages", False),
        # Erlang's own: Python has no such expression.
        ([{**MIRRORED, "pattern": r"^\Qorders\E"}], 3, "messages", False),
    ],
)
def test_a_forgotten_broker_s_mirror_of_a_queue_that_others_serve_is_no_loss(
    broker, policies, elsewhere, here, result
):
    rabbits = forgotten()
    orders = {"name": "orders", "vhost": "/", "messages": elsewhere, "message_bytes": elsewhere}
    rabbits[SEED].queues.append(orders)
    rabbits[SEED].definitions["policies"] += policies
    host = broker(rabbits)
    host.remembers(*CONTACTS)
    host.keeps_queue("orders", here)
    assert host.joined()["result"] is result


def test_a_forgotten_broker_s_queues_are_let_go_where_pillar_allows_it(broker):
    host = broker(forgotten())
    host.remembers(*CONTACTS)
    host.keeps_queue("orders")
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is True
    assert ret["changes"]["discarded"] == ["queue orders in /"]


def app_that_does_not_start(host, rabbits, known, said="timeout_waiting_for_leader"):
    """Have the app of a broker fail to start at first, knowing members meanwhile."""
    tries = []

    def start_app(timeout=330):
        tries.append(timeout)
        if len(tries) == 1:
            host.states.__salt__["rabbitmqctl.known_members"] = lambda: set(known)
            raise CommandExecutionError(said)
        rabbits[ME].app = True

    host.states.__salt__["rabbitmqctl.start_app"] = start_app


@pytest.mark.parametrize(("queue", "result"), [(None, True), ("orders", False)])
def test_an_app_that_waits_for_members_that_forgot_it_is_treated_as_forgotten(
    broker, queue, result
):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].app = False
    rabbits[SEED].members = rabbits[THIRD].members = {SEED, THIRD}
    host = broker(rabbits)
    if queue:
        host.keeps_queue(queue)
    app_that_does_not_start(host, rabbits, CONTACTS)
    ret = host.joined()
    assert ret["result"] is result
    assert ("set_aside" in ret["changes"]) is result


@pytest.mark.parametrize("known", [[], [ME], [ME, "rabbit@elsewhere"]])
def test_an_app_that_is_slow_to_start_is_not_taken_for_forgotten(broker, known):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].app = False
    rabbits[ME].queues.append({"name": "quorum", "vhost": "/", "messages": 1000})
    host = broker(rabbits)
    app_that_does_not_start(host, rabbits, known, "start_app exited with 75: timed out")
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is False
    assert "timed out. It may only be slow" in ret["comment"]
    assert "set_aside" not in ret["changes"]
    assert rabbits[ME].queues


def last_of_a_pair(broker, remembered=(SEED, ME), **away):
    """The seed's host, whose app waits in vain for the other member."""
    rabbits = Rabbits(SEED, ME, clustered=[SEED, ME])
    rabbits[SEED].app = False
    for name, value in away.items():
        setattr(rabbits[ME], name, value)
    host = broker(rabbits, me=SEED)
    if remembered:
        host.remembers(*remembered)
    host.rabbitmqctl.fails["start_app"] = CommandExecutionError("start_app: timed out")
    host.states.__salt__["rabbitmqctl.known_members"] = lambda: {SEED, ME}
    return host


@pytest.mark.parametrize("away", [{"vm": False}, {"reachable": False}])
def test_the_last_broker_says_whom_it_waits_for_and_how_to_go_on_without(broker, away):
    ret = last_of_a_pair(broker, **away).joined()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert f"start_app: timed out. It waits for {ME}, of which none runs" in ret["comment"]
    assert "Next: start rabbitmq-server on rabbitmq-node2, then run again" in ret["comment"]
    assert f"rabbit_cluster.member_absent offline=true name={ME}" in ret["comment"]
    assert "salt rabbitmq-node1 service.stop rabbitmq-server, then" in ret["comment"]
    assert "what only they have is lost" in ret["comment"]


def test_where_no_file_names_the_members_no_one_can_be_forgotten_offline(broker):
    ret = last_of_a_pair(broker, remembered=(), vm=False).joined()
    assert f"It waits for {ME}, of which none runs" in ret["comment"]
    assert "it needs a majority of the members" in ret["comment"]
    assert "member_absent" not in ret["comment"]


def test_what_the_others_say_is_not_told_in_place_of_why_the_app_did_not_start(broker):
    host = last_of_a_pair(broker, vm=False)
    ask = host.states.__salt__["rabbitmqctl.node_state"]

    def node_state(node=None):
        if node == ME and "start_app" not in host.rabbitmqctl.fails:
            raise CommandExecutionError("cluster_status of another one said what nobody knows")
        return ask(node)

    def start_app(timeout=330):
        raise host.rabbitmqctl.fails.pop("start_app")

    host.states.__salt__["rabbitmqctl.node_state"] = node_state
    host.states.__salt__["rabbitmqctl.start_app"] = start_app
    assert "start_app: timed out. It may only be slow" in host.joined()["comment"]


@pytest.mark.parametrize("away", [{"app": False}, {"cookie": "OTHER"}])
def test_one_whose_others_may_be_there_may_only_be_slow(broker, away):
    host = last_of_a_pair(broker, **away)
    verdict = {"verdict": "app stopped, member", "contact": None, "members": [SEED], "detail": ""}
    host.states.__salt__["rabbit_membership.await_verdict"] = lambda *args, **kwargs: {
        **verdict,
        "content": [],
    }
    assert "It may only be slow" in host.joined()["comment"]


def emptied(who, **away):
    """A cluster of which one broker lost its data and stands alone; others may be away."""
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[who].members = {who}
    for name in CONTACTS:
        if away.get(f"node{name[-1]}"):
            rabbits[name].vm = rabbits[name].app = False
    return rabbits


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(
    ("rabbits", "me"),
    [
        (lambda: emptied(SEED, node3=True), ME),
        (lambda: emptied(THIRD, node1=True), ME),
        (lambda: emptied(ME, node1=True, node3=True), SEED),
        (lambda: emptied(SEED, node2=True, node3=True), ME),
    ],
    ids=["seed emptied", "third emptied", "the seed survived", "the survivor is stopped"],
)
def test_a_survivor_keeps_its_data_when_the_one_that_answers_lost_its_own(
    broker, rabbits, me, test
):
    rabbits = rabbits()
    host = broker(rabbits, me=me, test=test)
    host.remembers(*CONTACTS)
    ret = host.joined()
    assert ret["result"] is False
    assert "which stands alone: it lost its data, or forgot" in ret["comment"]
    assert "this node's counts: stop rabbitmq-server there, start it here" in ret["comment"]
    assert (ret["changes"], host.writes) == ({}, [])


def test_a_survivor_is_a_member_while_another_one_lists_it(broker):
    host = broker(emptied(SEED))
    host.remembers(*CONTACTS)
    ret = host.joined()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert THIRD in ret["comment"]


def test_the_emptied_seed_joins_the_survivor(broker):
    rabbits = emptied(SEED, node3=True)
    ret = broker(rabbits, me=SEED).joined()
    assert ret["result"] is True
    assert rabbits[SEED].members == set(CONTACTS)


def test_a_broker_that_its_only_peer_forgot_is_let_go_where_pillar_allows_it(broker):
    rabbits = emptied(SEED, node2=True, node3=True)
    host = broker(rabbits)
    host.remembers(SEED, ME)
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is True
    assert "set_aside" in ret["changes"]


def test_what_a_client_makes_between_the_verdict_and_the_join_is_not_deleted(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    host = broker(rabbits)
    write = host.states.__salt__["rabbit_backup.write_definitions"]

    def write_late(reason, at=None):
        path = write(reason, at)
        rabbits[ME].queues.append({"name": "late", "vhost": "/", "messages": 1})
        return path

    host.states.__salt__["rabbit_backup.write_definitions"] = write_late
    ret = host.joined()
    assert ret["result"] is False
    assert "a client has just made what joining would delete: queue late in /" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("listed", [False, True])
def test_a_stop_that_fails_halfway_leaves_the_app_running(broker, listed):
    rabbits = ghost() if listed else Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    host = broker(rabbits)

    def stop_app():
        rabbits[ME].app = False
        raise CommandExecutionError("stop_app: timed out")

    host.states.__salt__["rabbitmqctl.stop_app"] = stop_app
    ret = host.joined()
    assert ret["result"] is False
    assert ret["comment"].endswith("stop_app: timed out")
    assert rabbits[ME].app


def test_a_join_and_then_a_start_that_fail_are_both_told(broker):
    host = broker(Rabbits(*CONTACTS, clustered=[SEED, THIRD]))
    for step in ("join_cluster", "start_app"):
        host.rabbitmqctl.fails[step] = CommandExecutionError(f"{step} failed")
    assert host.joined()["comment"].endswith("join_cluster failed; after that start_app failed")


def test_an_emptied_broker_that_was_used_since_replaces_its_entry_where_pillar_allows_it(broker):
    rabbits = ghost()
    rabbits[ME].queues.append({"name": "new", "vhost": "/", "messages": 1})
    host = broker(rabbits)
    assert host.joined()["result"] is False
    ret = host.joined(discard_local_data=True)
    assert ret["result"] is True
    assert ret["changes"]["discarded"] == ["queue new in / (1 messages)"]
    assert ("forget_cluster_node", ME, SEED, False) in host.writes
    assert len(host.backups) == 2


def test_tries_that_fail_push_no_backup_out(broker):
    host = broker(with_content())
    host.rabbitmqctl.fails["join_cluster"] = CommandExecutionError("exited with 70")
    for _ in range(3):
        assert host.joined(discard_local_data=True)["result"] is False
    assert len(host.backups) == 1


@pytest.mark.parametrize("kind", ["disc", "ram"])
def test_a_broker_joins_as_the_kind_of_node_it_shall_be(broker, kind):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    assert broker(rabbits).joined(node_type=kind)["result"] is True
    assert rabbits[ME].ram is (kind == "ram")


def of_version(rabbits, version):
    for node in rabbits.nodes.values():
        node.version = version
    return rabbits


def khepri(monkeypatch, version):
    """Let a version's brokers keep their metadata in Khepri, as 4.2 does and 4.0 may."""
    status = copy.deepcopy(STATUS["3.10.8"])
    flag = {"stability": "stable", "provided_by": "rabbit"}
    status["feature_flags"].append({"name": "khepri_db", "state": "enabled", **flag})
    monkeypatch.setitem(STATUS, "3.10.8", status)
    return f"RabbitMQ {version} with Khepri has no RAM nodes"


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("version", ["4.2.1", "4.3.6"])
def test_a_broker_does_not_join_as_a_ram_node_where_there_are_none(
    broker, monkeypatch, version, listed, test
):
    rabbits = ghost() if listed else Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits = of_version(rabbits, version)
    says = "RabbitMQ 4.3.6 has no RAM nodes"
    if version == "4.2.1":
        says = khepri(monkeypatch, version)
    host = broker(rabbits, test=test)
    ret = host.joined(node_type="ram")
    assert ret["result"] is False
    assert f"{says}. Set rabbit_ha:hosts:rabbitmq-node2:node_type to disc" in ret["comment"]
    assert (host.writes, host.backups) == ([], [])
    assert host.joined()["result"] is (None if test else True)


BOTH_WAYS = pytest.mark.parametrize(("old", "new"), [("disc", "ram"), ("ram", "disc")])


def of_type(kind):
    """A cluster of all, with a stream and two quorum queues, of which one has no replica here."""
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].ram = kind == "ram"
    rabbits.has_quorum_queue("orders", CONTACTS, CONTACTS)
    rabbits.has_quorum_queue("elsewhere", [SEED, THIRD], [SEED, THIRD])
    rabbits.has_stream("events", CONTACTS, CONTACTS, vhost="v")
    return rabbits


@BOTH_WAYS
def test_a_member_changes_its_type_and_gets_its_replicas_back(broker, old, new):
    rabbits = of_type(old)
    host = broker(rabbits)
    host.waits(_synchronising(rabbits))
    ret = host.states.node_type(new)
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"] == {
        "backup": host.backups[0],
        "node_type": {"old": old, "new": new},
        "quorum_queues": ["orders in /"],
        "streams": ["events in v"],
    }
    assert f"before-becoming-a-{new}-node" in host.backups[0]
    assert rabbits[ME].app
    # Nothing counted on a replica here when its disk was emptied.
    assert host.writes == [
        ("delete_replicas", ME, ["events"]),
        ("shrink", ME, SEED),
        ("stop_app",),
        ("change_cluster_node_type", new),
        ("start_app",),
        ("forget_stream_coordinator", ME, SEED),
        ("grow", ME, "/", ["orders"]),
        ("add_replicas", ME, ["events"], SEED),
    ]
    assert (rabbits.lost, rabbits.emptied) == ([], [])
    assert [sorted(queue["online"]) for queue in rabbits.quorum] == [CONTACTS, [SEED, THIRD]]
    for name in ("returns_to", "replicas_to_return", "local_data_discarded"):
        assert host.states.__salt__["rabbit_notes.fetch"](name) is None
    again = broker(rabbits)
    assert again.states.node_type(new)["changes"] == {}
    assert again.writes == []


def _synchronising(rabbits, slept=None):
    """A clock that does not wait; meanwhile RabbitMQ starts the streams' replicas."""

    def sleep(seconds):
        if slept is not None:
            slept.append(seconds)
        for stream in rabbits.streams:
            stream["online"] = list(stream["members"])

    return SimpleNamespace(sleep=sleep)


@BOTH_WAYS
def test_in_test_mode_a_member_would_change_its_type(broker, old, new):
    host = broker(of_type(old), test=True)
    ret = host.states.node_type(new)
    assert ret["result"] is None
    assert ret["changes"] == {
        "node_type": {"old": old, "new": new},
        "quorum_queues": ["orders in /"],
        "streams": ["events in v"],
    }
    assert f"it would have been reset, and have joined {SEED} anew" in ret["comment"]
    assert (host.writes, host.backups) == ([], [])


def only_here(rabbits, **classic):
    """Queues that go with this node's data: of each type, and a classic one without messages."""
    for name in ("a", "empty"):
        rabbits.has_queue(name, ME, **classic)
    for has in (rabbits.has_quorum_queue, rabbits.has_stream):
        has(f"last {has.__name__.split('_')[1]}", [ME], [ME])
    rabbits.has_quorum_queue("minority", CONTACTS, [SEED, ME])
    return ["a", "empty", "last quorum", "last stream", "minority"]


@pytest.mark.parametrize("test", [False, True])
@BOTH_WAYS
def test_a_node_with_what_no_one_else_serves_keeps_its_type(broker, old, new, test):
    rabbits = of_type(old)
    lost = [f"queue {name} in /" for name in only_here(rabbits)]
    host = broker(rabbits, test=test)
    ret = host.states.node_type(new)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert f"no other member could serve {', '.join(lost)}. Have others serve" in ret["comment"]
    assert "rabbit_ha:hosts:rabbitmq-node2:discard_local_data: true" in ret["comment"]
    assert (host.writes, host.backups, rabbits.lost) == ([], [], [])


@pytest.mark.parametrize(
    "also",
    [
        {"mirrors": [SEED]},
        {"durable": False},
        {"exclusive": True},
        {"node": SEED},
        # This node has the mirror.
        {"node": SEED, "mirrors": [ME]},
    ],
)
@pytest.mark.parametrize("test", [False, True])
def test_a_queue_that_others_serve_or_that_ends_with_the_app_is_in_no_one_s_way(broker, also, test):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    queue = {"name": "q", "vhost": "/", "node": ME, **also}
    for node in rabbits.nodes.values():
        node.queues.append(dict(queue))
    ret = broker(rabbits, test=test).states.node_type("ram")
    assert ret["result"] is (None if test else True), ret["comment"]
    assert "discarded" not in ret["changes"]


def test_a_mirror_that_is_not_synchronised_does_not_serve(broker):
    # RabbitMQ names the synchronised ones only.
    rabbits = of_type("disc")
    rabbits.has_queue("q", ME, mirrors=[])
    assert "could serve queue q in /" in broker(rabbits).states.node_type("ram")["comment"]


def test_what_no_one_else_serves_is_let_go_once_where_pillar_allows_it(broker):
    rabbits = of_type("disc")
    names = only_here(rabbits)
    lost = [f"queue {name} in /" for name in names]
    planned = broker(rabbits, test=True).states.node_type("ram", discard_local_data=True)
    assert planned["result"] is None
    assert planned["changes"]["discarded"] == lost
    assert planned["changes"]["quorum_queues"] == ["orders in /"]
    assert planned["changes"]["discard_local_data"] == "used up"
    host = broker(rabbits)
    host.waits(_synchronising(rabbits))
    # Nobody takes the last replica out.
    host.rabbitmqctl._lose_replicas = lambda node: rabbits.quorum[0]["members"].remove(node)
    ret = host.states.node_type("ram", discard_local_data=True)
    assert ret["result"] is True, ret["comment"]
    assert ret["changes"]["discarded"] == lost
    assert sorted(rabbits.lost) == sorted(names)
    assert ret["changes"]["discard_local_data"] == "used up"
    assert ret["changes"]["quorum_queues"] == ["orders in /"]
    rabbits.has_queue("later", ME)
    again = host.states.node_type("disc", discard_local_data=True)
    assert again["result"] is False
    assert "queue later in /" in again["comment"]
    assert ". discard_local_data was used on" in again["comment"]
    assert "salt rabbitmq-node2 rabbit_notes.delete local_data_discarded" in again["comment"]


@pytest.mark.parametrize("kind", [None, "disc", "ram"])
@pytest.mark.parametrize("test", [False, True])
def test_a_permission_waits_for_the_change_of_type_that_may_need_it(broker, kind, test):
    rabbits = of_type("disc")
    host = broker(rabbits, test=test)
    ret = host.joined(node_type=kind, discard_local_data=True)
    assert ("discard_local_data" in ret["changes"]) is (kind != "ram")
    if kind == "ram" and not test:
        rabbits.has_queue("q", ME)
        host.waits(_synchronising(rabbits))
        ret = host.states.node_type("ram", discard_local_data=True)
        assert ret["changes"]["discarded"] == ["queue q in /"]
        assert host.joined(node_type="ram", discard_local_data=True)["changes"] == {}


@BOTH_WAYS
@pytest.mark.parametrize("test", [False, True])
def test_without_another_member_that_runs_a_type_stays(broker, old, new, test):
    rabbits = of_type(old)
    for name in (SEED, THIRD):
        rabbits[name].vm = rabbits[name].app = False
    host = broker(rabbits, test=test)
    ret = host.states.node_type(new)
    assert (ret["result"], ret["changes"], host.writes) == (False, {}, [])
    if new == "disc":
        assert "it takes another member that runs" in ret["comment"]
        assert "Next: start rabbitmq-server on rabbitmq-node1, rabbitmq-node3" in ret["comment"]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("change", ["join", "type"])
def test_a_stream_coordinator_that_goes_on_counting_on_this_node_is_told(broker, change, raises):
    rabbits = ghost_with_stream(VERSION) if change == "join" else of_type("disc")
    host = broker(rabbits)
    host.waits(_synchronising(rabbits))

    def forget_stream_coordinator(node, at=None):
        if raises:
            raise CommandExecutionError("{timeout,x}")
        return "{timeout,x}"

    name = "rabbitmqctl.forget_stream_coordinator"
    host.states.__salt__[name] = forget_stream_coordinator
    ret = host.joined() if change == "join" else host.states.node_type("ram")
    assert ret["result"] is True, ret["comment"]
    [warning] = [one for one in ret["warnings"] if "coordinator" in one]
    assert f"may wait for {ME} as it was ({{timeout,x}}). Next, once all members run" in warning
    assert f"salt rabbitmq-node2 rabbitmqctl.forget_stream_coordinator {ME} {SEED}" in warning


@pytest.mark.parametrize(
    ("function", "said"), [("shrink", "queue orders in /"), ("delete_replicas", "timeout")]
)
def test_what_counts_on_a_replica_here_still_keeps_the_node_as_it_is(broker, function, said):
    rabbits = of_type("disc")
    host = broker(rabbits)
    if function == "shrink":
        host.rabbitmqctl._lose_replicas = lambda node: None
    else:
        refused = "rabbitmqctl.delete_replicas"
        host.states.__salt__[refused] = lambda node, streams, at=None: "timeout"
    ret = host.states.node_type("ram")
    assert (ret["result"], list(ret["changes"])) == (False, ["backup"])
    assert f"{said}: a replica here still counts. Next: rabbitmqctl list_queues" in ret["comment"]
    assert ("stop_app",) not in host.writes


def test_what_a_client_makes_before_the_app_stops_is_not_lost(broker):
    rabbits = of_type("disc")
    host = broker(rabbits)
    stop, waited = host.rabbitmqctl.stop_app, []

    def stop_app():
        rabbits.has_queue("late", ME)
        rabbits.has_quorum_queue("late quorum", CONTACTS, CONTACTS)
        # Which RabbitMQ before 4 does not take a replica out of any more.
        rabbits.has_stream("late stream", CONTACTS, CONTACTS)
        stop()

    host.states.__salt__["rabbitmqctl.stop_app"] = stop_app
    host.waits(SimpleNamespace(sleep=waited.append))
    ret = host.states.node_type("ram")
    assert ret["result"] is False
    assert "made what would be lost: queue late in /. Next: see that none" in ret["comment"]
    assert (rabbits[ME].app, rabbits[ME].ram, rabbits.lost) == (True, False, [])
    assert waited == [1, 2, 4]
    # The next run returns what was taken out.
    assert host.joined()["changes"]["quorum_queues"] == ["orders in /"]
    rabbits.streams.pop()
    # Where it may go, it goes, and a new quorum queue's replica is taken out too.
    rabbits.quorum.pop()
    host.waits(_synchronising(rabbits))
    ret = host.states.node_type("ram", discard_local_data=True)
    assert ret["result"] is True, ret["comment"]
    assert "queue late in /" in ret["changes"]["discarded"]
    assert ret["changes"]["quorum_queues"] == ["orders in /", "late quorum in /"]
    assert ret["changes"]["streams"] == ["events in v", "late stream in /"]
    assert rabbits.emptied == ["late stream"]


def test_a_mirror_that_takes_a_moment_to_take_over_is_waited_for(broker):
    rabbits = of_type("disc")
    rabbits.has_queue("q", ME, mirrors=[SEED])
    host = broker(rabbits)
    ask, slow = host.queues.not_served, []

    def not_served(at=None):
        return ask(at) + (["queue q in /"] if not rabbits[ME].app and not slow else [])

    host.queues.not_served = not_served
    host.waits(_synchronising(rabbits, slow))
    ret = host.states.node_type("ram")
    assert ret["result"] is True, ret["comment"]
    assert (slow[0], rabbits.lost) == (1, [])


@BOTH_WAYS
@pytest.mark.parametrize(
    "step", ["shrink", "stop_app", "start_app", "forget_stream_coordinator", "grow"]
)
def test_a_change_of_type_that_was_interrupted_is_finished_by_the_next_run(broker, old, new, step):
    rabbits = of_type(old)
    host = broker(rabbits)
    host.waits(_synchronising(rabbits))
    host.rabbitmqctl.fails[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        host.states.node_type(new)
    host.rabbitmqctl.fails.clear()
    joined = host.joined(node_type=new)
    assert joined["result"] is True, joined["comment"]
    ret = host.states.node_type(new)
    assert ret["result"] is True, ret["comment"]
    assert rabbits[ME].ram is (new == "ram")
    assert sorted(rabbits.quorum[0]["online"]) == CONTACTS
    assert (rabbits.lost, rabbits.emptied) == ([], [])
    assert host.joined(node_type=new)["changes"] == host.states.node_type(new)["changes"] == {}


@pytest.mark.parametrize(("me", "others"), [(ME, [SEED, THIRD]), (SEED, [ME])])
def test_a_node_that_lost_its_power_between_reset_and_join_joins_as_what_it_shall_be(
    broker, me, others
):
    rabbits = Rabbits(me, *others, clustered=[me, *others])
    rabbits.has_quorum_queue("orders", [me, *others], [me, *others])
    if me == SEED:
        # Of two members the other one has no majority.
        rabbits.quorum.clear()
    host = broker(rabbits, me=me)
    host.waits(SimpleNamespace(sleep=lambda seconds: None))

    def change_cluster_node_type(node_type):
        rabbits.reset(me)
        for other in others:
            rabbits[other].members = set(others)
        rabbits[me].members = {me}
        rabbits[me].definitions, rabbits[me].queues = fresh_definitions(), []
        raise KeyboardInterrupt

    change, name = host.rabbitmqctl.change_cluster_node_type, "rabbitmqctl.change_cluster_node_type"
    host.states.__salt__[name] = change_cluster_node_type
    with pytest.raises(KeyboardInterrupt):
        host.states.node_type("ram")
    host.states.__salt__[name] = change
    ret = host.joined(node_type="ram")
    assert ret["result"] is True, ret["comment"]
    assert rabbits[me].ram
    assert rabbits[others[0]].members == {me, *others}
    if rabbits.quorum:
        assert ret["changes"]["quorum_queues"] == ["orders in /"]
    assert host.states.node_type("ram")["changes"] == {}


def test_on_a_bare_host_test_mode_has_no_type_to_change(broker):
    ret = broker(Rabbits(*CONTACTS), installed=False, test=True).states.node_type("ram")
    assert ret["result"] is True


def test_in_test_mode_a_node_that_stands_alone_would_become_a_ram_node_once_it_has_others(broker):
    host = broker(Rabbits(*CONTACTS), test=True)
    ret = host.states.node_type("ram")
    assert ret["result"] is None
    assert ret["changes"] == {"node_type": {"old": "disc", "new": "ram"}}
    assert host.writes == []
    alone = broker(Rabbits(*CONTACTS)).states.node_type("ram")
    assert "is the only disc node" in alone["comment"]


@pytest.mark.parametrize("test", [False, True])
def test_the_last_disc_node_stays_one(broker, test):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].ram = rabbits[THIRD].ram = True
    host = broker(rabbits, test=test)
    ret = host.states.node_type("ram")
    assert ret["result"] is False
    assert f"is the only disc node of {sorted(CONTACTS)}: without" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_the_last_disc_node_that_runs_stays_one(broker, test):
    rabbits = with_a_stopped_third()
    rabbits[SEED].ram = True
    host = broker(rabbits, test=test)
    ret = host.states.node_type("ram")
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "the only disc node" in ret["comment"]
    assert "that runs: without" in ret["comment"]
    assert "Start rabbitmq-server on rabbitmq-node3, or make another" in ret["comment"]
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_beside_another_disc_node_that_runs_a_stopped_one_is_in_no_one_s_way(broker, test):
    host = broker(with_a_stopped_third(), test=test)
    ret = host.states.node_type("ram")
    assert ret["result"] is (None if test else True)
    assert ret["changes"]["node_type"] == {"old": "disc", "new": "ram"}


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("version", ["4.2.1", "4.3.6"])
def test_a_rabbitmq_without_ram_nodes_says_so(broker, monkeypatch, version, test):
    says = "RabbitMQ 4.3.6 has no RAM nodes"
    if version == "4.2.1":
        says = khepri(monkeypatch, version)
    host = broker(of_version(Rabbits(*CONTACTS, clustered=CONTACTS), version), test=test)
    ret = host.states.node_type("ram")
    assert ret["result"] is False
    assert says in ret["comment"]
    assert host.states.node_type("disc")["result"] is True
    assert host.writes == []


def test_a_type_that_silently_does_not_change_is_noticed(broker):
    host = broker(Rabbits(*CONTACTS, clustered=CONTACTS))
    host.rabbitmqctl.lost.add("change_cluster_node_type")
    ret = host.states.node_type("ram")
    assert (ret["result"], ret["changes"]) == (False, {"backup": host.backups[0]})
    assert "changed, yet it still is a disc node" in ret["comment"]


@pytest.mark.parametrize(
    "failure",
    [CommandExecutionError("exited with 69"), *UNFORESEEN],
    ids=lambda err: type(err).__name__,
)
def test_a_failed_change_of_type_leaves_the_app_running(broker, failure):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    host = broker(rabbits)
    host.rabbitmqctl.fails["change_cluster_node_type"] = failure
    came = what_comes_of(host.states.node_type, "ram")
    assert came is failure or str(failure) in came
    assert rabbits[ME].app
    assert len(host.backups) == 1


def test_no_third_type_of_node(broker):
    ret = broker(Rabbits(*CONTACTS, clustered=CONTACTS)).states.node_type("disk")
    assert ret["result"] is False
    assert "disc or ram" in ret["comment"]


def with_a_stopped_third():
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[THIRD].vm = rabbits[THIRD].app = False
    return rabbits


def test_a_member_that_is_gone_is_forgotten(broker):
    rabbits = with_a_stopped_third()
    host = broker(rabbits, me=SEED)
    ret = host.states.member_absent(THIRD)
    assert ret["result"] is True
    assert ret["changes"][THIRD] == {"old": "member", "new": "forgotten"}
    assert host.backups == [ret["changes"]["backup"]]
    assert rabbits[ME].members == {SEED, ME}
    again = host.states.member_absent(THIRD)
    assert (again["result"], again["changes"]) == (True, {})


def test_in_test_mode_a_member_would_be_forgotten(broker):
    host = broker(with_a_stopped_third(), me=SEED, test=True)
    ret = host.states.member_absent(THIRD)
    assert ret["result"] is None
    assert (host.writes, host.backups) == ([], [])


def test_on_a_bare_host_test_mode_has_nobody_to_forget(broker):
    ret = broker(Rabbits(SEED), me=SEED, installed=False, test=True).states.member_absent(THIRD)
    assert ret["result"] is True


@pytest.mark.parametrize("test", [False, True])
def test_a_member_that_runs_is_not_forgotten(broker, test):
    host = broker(Rabbits(*CONTACTS, clustered=CONTACTS), me=SEED, test=test)
    ret = host.states.member_absent(THIRD)
    assert ret["result"] is False
    assert "On rabbitmq-node3: systemctl disable --now rabbitmq-server".lower() in (
        ret["comment"].lower()
    )
    assert host.writes == []


def test_commands_name_the_service_as_pillar_does(broker):
    host = broker(Rabbits(*CONTACTS, clustered=CONTACTS), me=SEED)
    host.states.__salt__["rabbit_topology.settings"] = lambda: {"rabbitmq": {"service": "own"}}
    said = host.states.member_absent(THIRD)["comment"]
    assert "on rabbitmq-node3: systemctl disable --now own" in said
    host = broker(seed_down())
    said = host.states.joined(SEED, CONTACTS, "own", timeout=0)["comment"]
    assert said.endswith("on rabbitmq-node1, rabbitmq-node3: systemctl status own")


@pytest.mark.parametrize("test", [False, True])
def test_the_last_disc_node_is_not_forgotten(broker, test):
    rabbits = with_a_stopped_third()
    rabbits[SEED].ram = rabbits[ME].ram = True
    host = broker(rabbits, me=SEED, test=test)
    ret = host.states.member_absent(THIRD)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "the only disc node, beside rabbitmq-node1, rabbitmq-node2" in ret["comment"]
    assert "Make another member a disc node first" in ret["comment"]
    assert (host.writes, host.backups) == ([], [])
    rabbits[ME].ram = False
    assert host.states.member_absent(THIRD)["result"] is (None if test else True)


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5", "4.3.6"])
def test_a_member_is_forgotten_whether_there_may_be_ram_nodes_or_not(broker, version):
    rabbits = of_version(with_a_stopped_third(), version)
    assert broker(rabbits, me=SEED).states.member_absent(THIRD)["result"] is True


def test_a_node_does_not_forget_itself(broker):
    ret = broker(Rabbits(*CONTACTS, clustered=CONTACTS), me=SEED).states.member_absent(SEED)
    assert ret["result"] is False


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_forgetting_that_fails_after_the_member_is_gone_has_forgotten_it(broker, is_gone):
    host = broker(with_a_stopped_third(), me=SEED)
    forget = host.states.__salt__["rabbitmqctl.forget_cluster_node"]

    def forget_cluster_node(node, at=None, offline=False):
        if is_gone:
            forget(node, at, offline)
        raise CommandExecutionError("exited with 69: RabbitMQ failed to shrink some entities")

    host.states.__salt__["rabbitmqctl.forget_cluster_node"] = forget_cluster_node
    ret = host.states.member_absent(THIRD)
    assert ret["result"] is is_gone
    assert (THIRD in ret["changes"]) is is_gone
    assert "failed to shrink" in (ret["warnings"][0] if is_gone else ret["comment"])


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_quorum_queues_that_still_count_on_a_member_that_is_gone_are_told_until_they_do_not(
    broker, version
):
    rabbits = of_version(with_a_stopped_third(), version)
    rabbits.has_quorum_queue("orders", CONTACTS, [SEED], state="down")
    rabbits.has_quorum_queue("invoices", CONTACTS, [SEED, ME])
    host = broker(rabbits, me=SEED)
    for _ in range(2):
        ret = host.states.member_absent(THIRD)
        assert ret["result"] is True
        assert ret["warnings"][-1] == (
            f"orders in /: {THIRD}'s replica, which is gone, still counts there. Next: start "
            "rabbitmq-server on the brokers that have the others, then run again; as a last resort "
            f"rabbitmq-queues delete_member --vhost VHOST NAME {THIRD}, or delete the queue"
        )
    assert ret["changes"] == {}
    rabbits.quorum[0]["state"] = "running"
    plan = broker(rabbits, me=SEED, test=True).states.member_absent(THIRD)
    assert (plan["result"], plan["changes"]) == (None, {"quorum_queues": ["orders in /"]})
    assert "would have lost the replica" in plan["comment"]
    ret = host.states.member_absent(THIRD)
    assert (ret["result"], ret["changes"]) == (True, {"quorum_queues": ["orders in /"]})
    assert "warnings" not in ret
    for test in (False, True):
        ret = broker(rabbits, me=SEED, test=test).states.member_absent(THIRD)
        assert (ret["result"], ret["changes"]) == (True, {})


def test_a_quorum_queue_that_lags_behind_a_forgetting_is_shrunk_once_more(broker):
    rabbits = with_a_stopped_third()
    rabbits.has_quorum_queue("orders", CONTACTS, [SEED, ME])
    host = broker(rabbits, me=SEED)
    forget = host.states.__salt__["rabbitmqctl.forget_cluster_node"]

    def forget_cluster_node(node, at=None, offline=False):
        queues = copy.deepcopy(rabbits.quorum)
        forget(node, at, offline)
        # As 3.10, which says ok of it.
        rabbits.quorum[:] = queues

    host.membership.__salt__["rabbitmqctl.forget_cluster_node"] = forget_cluster_node
    ret = host.states.member_absent(THIRD)
    assert ret["changes"]["quorum_queues"] == ["orders in /"]
    assert "warnings" not in ret
    assert ("shrink", THIRD, None) in host.writes


@pytest.mark.parametrize("test", [False, True])
def test_queues_that_are_lost_with_a_member_are_told_before_and_after(broker, test):
    rabbits = with_a_stopped_third()
    down = {"name": "orders", "vhost": "/", "state": "down", "members": "", "online": ""}
    rabbits[SEED].queues.append(down)
    ret = broker(rabbits, me=SEED, test=test).states.member_absent(THIRD)
    assert ret["result"] is (None if test else True)
    [warning] = ret["warnings"]
    assert "no member serves queue orders in /" in warning and THIRD in warning


def test_a_forgetting_that_silently_does_nothing_is_noticed(broker):
    host = broker(with_a_stopped_third(), me=SEED)
    host.rabbitmqctl.lost.add("forget_cluster_node")
    ret = host.states.member_absent(THIRD)
    [backup] = host.backups
    assert (ret["result"], ret["changes"]) == (False, {"backup": backup})


def test_while_no_member_runs_one_is_forgotten_offline(broker):
    rabbits = with_a_stopped_third()
    rabbits[SEED].vm = rabbits[SEED].app = False
    host = broker(rabbits, me=SEED)
    host.remembers(*CONTACTS)
    forget = host.states.__salt__["rabbitmqctl.forget_cluster_node"]

    def forget_on_disk(node, at=None, offline=False):
        # As 3.10.8: its file of members is as it was until the node starts.
        if host.writes:
            raise CommandExecutionError("exited with 69: Error: {:not_a_cluster_node, 'The node")
        forget(node, at, offline)

    host.states.__salt__["rabbitmqctl.forget_cluster_node"] = forget_on_disk
    ret = host.states.member_absent(THIRD, offline=True)
    assert (ret["result"], ret["changes"]) == (True, {THIRD: {"old": "member", "new": "forgotten"}})
    assert "Start this node before the others" in ret["comment"]
    again = host.states.member_absent(THIRD, offline=True)
    assert (again["result"], again["changes"]) == (True, {})
    assert host.writes == [("forget_cluster_node", THIRD, None, True)]


@pytest.mark.parametrize("test", [False, True])
def test_offline_is_refused_where_no_file_names_the_members(broker, test):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    for node in rabbits.nodes.values():
        node.vm = False
    host = broker(rabbits, test=test)
    ret = host.states.member_absent(THIRD, offline=True)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "as from RabbitMQ 4.3 on. Start this node" in ret["comment"]
    assert host.writes == []


def test_offline_is_refused_while_the_local_node_runs(broker):
    host = broker(with_a_stopped_third(), me=SEED)
    host.remembers(*CONTACTS)
    ret = host.states.member_absent(THIRD, offline=True)
    assert ret["result"] is False
    assert host.writes == []


def test_the_cluster_is_named(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    ret = broker(rabbits, me=SEED).states.named("orders")
    assert ret["result"] is True
    assert ret["changes"] == {"cluster_name": {"old": "rabbitmq_cluster1", "new": "orders"}}
    assert rabbits[ME].cluster_name == "orders"


def test_in_test_mode_the_cluster_would_be_named(broker):
    host = broker(Rabbits(*CONTACTS), me=SEED, test=True)
    ret = host.states.named("orders")
    assert ret["result"] is None
    assert ret["changes"] == {"cluster_name": {"old": "rabbitmq_cluster1", "new": "orders"}}
    assert host.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_cluster_that_has_its_name_is_left_alone(broker, test):
    host = broker(Rabbits(*CONTACTS), me=SEED, test=test)
    ret = host.states.named("rabbitmq_cluster1")
    assert (ret["result"], ret["changes"]) == (True, {})
    assert host.writes == []


def test_on_a_bare_host_test_mode_predicts_the_cluster_s_name(broker):
    ret = broker(Rabbits(SEED), me=SEED, installed=False, test=True).states.named("orders")
    assert ret["result"] is None


def test_while_the_node_is_stopped_test_mode_predicts_the_cluster_s_name(broker):
    rabbits = Rabbits(SEED)
    rabbits[SEED].vm = False
    ret = broker(rabbits, me=SEED, test=True).states.named("orders")
    assert ret["result"] is None


def test_a_name_that_silently_does_not_change_is_noticed(broker):
    host = broker(Rabbits(SEED), me=SEED)
    host.rabbitmqctl.lost.add("set_cluster_name")
    ret = host.states.named("orders")
    assert ret["result"] is False
    assert ret["changes"] == {}


def test_naming_that_fails_names_host_and_step(broker):
    host = broker(Rabbits(SEED), me=SEED)
    host.rabbitmqctl.fails["set_cluster_name"] = CommandExecutionError("exited with 69")
    ret = host.states.named("orders")
    assert ret["result"] is False
    assert ret["comment"] == "rabbitmq-node1: naming the cluster: exited with 69"


def _compared_with(key):
    """List the texts that states and modules compare a mapping's ``key`` with."""
    for path in [*ROOT.glob("_states/*.py"), *ROOT.glob("_modules/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            looked_up = [side.slice for side in sides if isinstance(side, ast.Subscript)]
            if any(isinstance(one, ast.Constant) and one.value == key for one in looked_up):
                texts = [each for side in sides for each in getattr(side, "elts", [side])]
                yield from (text.value for text in texts if isinstance(text, ast.Constant))


def _words(module):
    """List the texts that a module has names for."""
    names = vars(load(f"_modules/{module}.py")).items()
    return {value for name, value in names if name.isupper() and isinstance(value, str)}


def test_no_verdict_and_no_state_is_looked_for_that_no_module_says(broker):
    states = broker(Rabbits(*CONTACTS)).states
    verdicts = {*states._WAY_OUT, *states._PREDICTED, *states._ACTIONS, *_compared_with("verdict")}
    assert "seed" in verdicts
    assert verdicts <= _words("rabbit_membership")
    # A queue's state and a feature flag's, not a node's.
    found = {*_compared_with("state")} - {"down", "enabled"}
    assert "unreachable" in found
    assert found <= _words("rabbitmqctl")
