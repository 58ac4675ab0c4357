"""rabbit_cluster: joins only where that is safe, says what it would do, checks what it did."""

import re
import time
from types import SimpleNamespace

import pytest
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.fake_rabbit import Rabbitmqctl, Rabbits, Service
from tests.support import faked, functions, load

SEED, ME, THIRD = (f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3))
CONTACTS = [SEED, ME, THIRD]
SYSTEMD = salt.modules.systemd_service
UNIT_FAILED = (
    "Job for rabbitmq-server.service failed because the control process exited with error code."
)


class Broker:
    """One broker's host: the state module, and what it did to RabbitMQ and its service."""

    def __init__(self, rabbits, topology, me=ME, test=False, installed=True):
        minion = me.split("@")[1]
        self.rabbits = rabbits
        self.rabbitmqctl = Rabbitmqctl(rabbits, me, installed)
        self.service = Service(rabbits[me])
        salt = faked("rabbitmqctl", self.rabbitmqctl, load("_modules/rabbitmqctl.py"))
        salt |= faked("service", self.service, SYSTEMD)
        salt |= topology(minion=minion)
        grains = {"id": minion}
        membership = load("_modules/rabbit_membership.py", salt=salt, grains=grains)
        membership.time = SimpleNamespace(monotonic=time.monotonic, sleep=_no_waiting)
        salt |= functions("rabbit_membership", membership)
        self.states = load(
            "_states/rabbit_cluster.py", salt=salt, grains=grains, opts={"test": test}
        )

    def joined(self, **kwargs):
        return self.states.joined(SEED, CONTACTS, "rabbitmq-server", **({"timeout": 0} | kwargs))

    @property
    def writes(self):
        return self.service.writes + self.rabbitmqctl.writes


def _no_waiting(seconds):
    raise AssertionError(f"waits for {seconds} s")


@pytest.fixture
def broker(topology):
    def build(rabbits, **kwargs):
        return Broker(rabbits, topology, **kwargs)

    return build


def test_a_fresh_broker_joins(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    host = broker(rabbits)
    ret = host.joined()
    assert ret["result"] is True
    assert ret["changes"] == {"cluster": {"new": sorted(CONTACTS)}}
    assert rabbits[SEED].members == rabbits[ME].members == set(CONTACTS)
    assert rabbits[ME].app


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


def test_an_interrupted_join_is_finished_without_stopping_the_app_again(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].app = False
    host = broker(rabbits)
    assert host.joined()["result"] is True
    assert host.writes == [("join_cluster", SEED), ("start_app",)]


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
    assert ret["changes"] == {"service": "started"}
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
    assert ret["comment"] == f"rabbitmq-node2: joining {SEED}: {UNIT_FAILED}"


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


def forgotten():
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].members = rabbits[THIRD].members = {SEED, THIRD}
    return rabbits


def ghost():
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].members = {ME}
    return rabbits


def other_cluster():
    return Rabbits(*CONTACTS, "rabbit@elsewhere", clustered=[ME, "rabbit@elsewhere"])


def partitioned():
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].partitions = {ME: [SEED]}
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
        (forgotten, "forgotten by the cluster: .*force_reset"),
        (ghost, f"ghost in the cluster: .*On {SEED}: rabbitmqctl forget_cluster_node {ME}"),
        (other_cluster, "other cluster: .*rabbit@elsewhere.*Correct the topology"),
        (partitioned, "partitioned: .*restart"),
        (another_cookie, "cookie mismatch: .*salt-run state.orchestrate orch.rabbit_ha"),
        (seed_down, f"seed unreachable: .*On .*{SEED}.*: systemctl status rabbitmq-server"),
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


def test_a_member_with_another_cookie_fails_even_if_cookies_are_carried(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].cookie = "OTHER"
    ret = broker(rabbits).joined(cookie_is_carried=True)
    assert ret["result"] is False


def test_a_failed_join_leaves_the_app_running_where_it_ran(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    host = broker(rabbits)
    host.rabbitmqctl.fails["join_cluster"] = CommandExecutionError("joining failed: exited with 70")
    ret = host.joined()
    assert ret["result"] is False
    assert re.search(f"^rabbitmq-node2: joining {SEED}: .*exited with 70", ret["comment"])
    assert rabbits[ME].app
    assert ret["changes"] == {}


def test_a_failed_join_leaves_the_app_stopped_where_it_was_stopped(broker):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].app = False
    host = broker(rabbits)
    host.rabbitmqctl.fails["join_cluster"] = CommandExecutionError("exited with 70")
    assert host.joined()["result"] is False
    assert host.writes == [("join_cluster", SEED)]


@pytest.mark.parametrize("lost", ["join_cluster", "start_app"])
def test_a_step_of_the_join_that_silently_does_nothing_is_noticed(broker, lost):
    host = broker(Rabbits(*CONTACTS, clustered=[SEED, THIRD]))
    host.rabbitmqctl.lost.add(lost)
    ret = host.joined()
    assert ret["result"] is False
    assert "done, yet the node is not a member" in ret["comment"]


def test_a_member_s_app_that_silently_does_not_start_is_noticed(broker):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].app = False
    host = broker(rabbits)
    host.rabbitmqctl.lost.add("start_app")
    assert host.joined()["result"] is False


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
