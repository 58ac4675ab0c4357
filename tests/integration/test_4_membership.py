"""Membership on real nodes: types, names, and members that were lost, forgotten or emptied."""

import json

import pytest

from tests.integration.amqp import consume, publish
from tests.integration.lab import BROKERS

SEED, SECOND, THIRD = BROKERS
NODES = [f"rabbit@{broker}" for broker in BROKERS]
DATA = "/var/lib/rabbitmq/mnesia"


def _membership(lab, host):
    """Have a broker find its place; returns the state that sees to it."""
    return lab.applied(host, "clustered")["RabbitMQ is a member of the cluster"]


def _members(lab, host=SEED):
    """The members that a broker lists, and which of them are RAM nodes; None without such."""
    status = lab.rabbitmqctl(host, "cluster_status")
    ram = status.get("ram_nodes")
    return sorted(status["disk_nodes"] + (ram or [])), ram


def _changed(states):
    """What states changed or failed at."""
    return {name: s["comment"] for name, s in states.items() if s["changes"] or not s["result"]}


def test_a_member_becomes_a_ram_node_and_a_disc_node_again(healthy):
    ram_node = {"hosts": {THIRD: {"node_type": "ram"}}}
    has_ram_nodes = _members(healthy)[1] is not None
    with healthy.pillar_changed(ram_node):
        if not has_ram_nodes:
            said = healthy.salt(THIRD, "state.apply", "rabbit_ha.rabbitmq.clustered")[THIRD]
            assert "node_type: found 'ram', which RabbitMQ 4.3 (forky) no longer has" in str(said)
            return
        states = healthy.applied(THIRD, "clustered")
        changes = {"node_type": {"old": "disc", "new": "ram"}}
        assert states["RabbitMQ is a ram node"]["changes"] == changes
        assert _members(healthy) == (NODES, [NODES[2]])
        assert _changed(healthy.applied(THIRD, "clustered")) == {}
    states = healthy.applied(THIRD, "clustered")
    assert states["RabbitMQ is a disc node"]["result"] is True
    assert _members(healthy) == (NODES, [])


def test_the_cluster_is_renamed_and_gets_its_name_back(healthy):
    with healthy.pillar_changed({"rabbitmq": {"cluster_name": "orders"}}):
        assert _changed(healthy.applied(SEED, "policies")).keys() == {"The cluster has its name"}
        assert healthy.rabbitmqctl(THIRD, "cluster_status")["cluster_name"] == "orders"
    healthy.applied(SEED, "policies")
    assert healthy.rabbitmqctl(THIRD, "cluster_status")["cluster_name"] == "rabbitmq_cluster1"


@pytest.fixture
def quorum_queue(healthy):
    """A quorum queue with a replica on each broker and a hundred messages; yields its name."""
    name = "test.replicated"
    with healthy.amqp() as connection:
        arguments = {"x-queue-type": "quorum", "x-quorum-initial-group-size": 3}
        connection.channel().queue_declare(name, durable=True, arguments=arguments)
    with healthy.amqp() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(100):
            channel.basic_publish("", name, f"message {number}".encode(), mandatory=True)
    yield name
    with healthy.amqp() as connection:
        assert len(consume(connection, name, 100)) == 100


def _replicas(lab, queue):
    """The brokers that have a replica of a quorum queue."""
    queues = lab.rabbitmqctl(SEED, "list_queues", "name", "members")
    return sorted(next(found["members"] for found in queues if found["name"] == queue))


def test_a_broker_that_lost_its_data_is_a_member_again_with_its_replicas(healthy, quorum_queue):
    healthy.exec(THIRD, "systemctl", "stop", "rabbitmq-server")
    healthy.exec(THIRD, "rm", "-rf", DATA)
    state = _membership(healthy, THIRD)
    assert state["result"] is True, state["comment"]
    assert state["changes"]["quorum_queues"] == [f"{quorum_queue} in /"]
    assert _members(healthy)[0] == _members(healthy, THIRD)[0] == NODES
    assert _replicas(healthy, quorum_queue) == NODES
    assert _changed(healthy.applied(THIRD, "clustered")) == {}


def test_a_member_that_runs_is_not_forgotten(healthy):
    ret = healthy.salt(SEED, "state.single", "rabbit_cluster.member_absent", f"name={NODES[1]}")
    (state,) = ret[SEED].values()
    assert state["result"] is False
    assert "systemctl disable --now rabbitmq-server" in state["comment"]
    assert _members(healthy)[0] == NODES


def test_a_member_is_forgotten_and_joins_anew_with_its_data_set_aside(healthy):
    healthy.exec(SECOND, "systemctl", "stop", "rabbitmq-server")
    ret = healthy.salt(SEED, "state.single", "rabbit_cluster.member_absent", f"name={NODES[1]}")
    (state,) = ret[SEED].values()
    assert state["result"] is True, state["comment"]
    assert _members(healthy)[0] == [NODES[0], NODES[2]]
    backup = healthy.exec(SEED, "stat", "-c", "%U %a", state["changes"]["backup"]).stdout
    assert backup.split() == ["root", "600"]

    state = _membership(healthy, SECOND)
    assert state["result"] is True, state["comment"]
    assert state["changes"]["set_aside"].startswith(f"{DATA}.aside/{NODES[1]}-")
    assert _members(healthy)[0] == NODES


def test_what_a_broker_holds_is_discarded_once_where_pillar_allows_it(healthy):
    for command in ("stop_app", "reset", "start_app"):
        healthy.exec(THIRD, "rabbitmqctl", command)
    healthy.exec(THIRD, "rabbitmqctl", "add_vhost", "kept")
    refused = _membership(healthy, THIRD)
    assert refused["result"] is False
    assert "vhost kept" in refused["comment"]
    assert _members(healthy, THIRD)[0] == [NODES[2]]

    with healthy.pillar_changed({"hosts": {THIRD: {"discard_local_data": True}}}):
        state = _membership(healthy, THIRD)
        assert state["result"] is True, state["comment"]
        assert "vhost kept" in state["changes"]["discarded"]
        kept = json.loads(healthy.exec(THIRD, "cat", state["changes"]["backup"]).stdout)
        assert "kept" in [vhost["name"] for vhost in kept["vhosts"]]
    assert _membership(healthy, THIRD)["changes"] == {}
    assert _members(healthy)[0] == NODES


def test_an_app_that_was_stopped_is_started_and_no_message_is_lost(healthy):
    with healthy.amqp() as connection:
        sent = publish(connection, "test.stopped", 100)
    healthy.exec(SECOND, "rabbitmqctl", "stop_app")
    state = _membership(healthy, SECOND)
    assert state["result"] is True, state["comment"]
    assert state["changes"]["app"] == "started"
    with healthy.amqp() as connection:
        assert consume(connection, "test.stopped", 100) == sent


def test_while_the_seed_is_down_a_member_is_judged_by_another_one(healthy):
    healthy.exec(SEED, "systemctl", "stop", "rabbitmq-server")
    try:
        state = _membership(healthy, THIRD)
        assert (state["result"], state["changes"]) == (True, {}), state["comment"]
        assert NODES[1] in state["comment"]
    finally:
        healthy.exec(SEED, "systemctl", "start", "rabbitmq-server")
