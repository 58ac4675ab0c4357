"""Membership on real nodes: types, names, and members that were lost, forgotten or emptied."""

import contextlib
import json

import pytest

from tests.integration.amqp import consume, publish
from tests.integration.lab import BROKERS, NODES, wait_until

SEED, SECOND, THIRD = BROKERS
DATA = "/var/lib/rabbitmq/mnesia"
MEMBER = "RabbitMQ is a member of the cluster"


def _membership(lab, host):
    """Have a broker find its place; returns the state that sees to it."""
    return lab.applied(host, "clustered")[MEMBER]


def _settled(lab, host):
    """
    Have a broker find its place in test mode, for real, and once more.

    Returns the state of the run that was for real.
    """
    planned = lab.applied(host, "clustered", "test=true")[MEMBER]
    assert planned["result"] is None and planned["changes"], planned
    done = _membership(lab, host)
    assert done["result"] is True, done["comment"]
    again = _membership(lab, host)
    assert (again["result"], again["changes"]) == (True, {}), again
    return done


def _joined(lab, host, contacts, mode):
    """Apply the state alone, without what comes before it; returns its return."""
    arguments = {"contacts": contacts, "service": "rabbitmq-server", "timeout": 60}
    given = [f"{key}={json.dumps(value)}" for key, value in arguments.items()]
    state = ("state.single", "rabbit_cluster.joined", f"name={contacts[0]}", mode)
    (ret,) = lab.salt(host, *state, *given)[host].values()
    return ret


def _refused_alone(lab, host, contacts, *phrases):
    """As :func:`_refused`, by the state alone."""
    for mode in ("test=true", "test=false"):
        state = _joined(lab, host, contacts, mode)
        assert (state["result"], state["changes"]) == (False, {}), state
        assert all(phrase in state["comment"] for phrase in phrases), state["comment"]


def _start(lab, *hosts):
    """Start brokers at the same time, as those of 4.3 wait for each other, and until they run."""
    # Started as often as in these tests, systemd might refuse it.
    start = "systemctl reset-failed rabbitmq-server; systemctl start --no-block rabbitmq-server"
    for host in hosts:
        lab.exec(host, "sh", "-c", start)

    def runs(host):
        return lab.exec(host, "rabbitmqctl", "cluster_status", check=False).returncode == 0

    for host in hosts:
        wait_until(lambda host=host: runs(host), 180, lambda host=host: f"{host} does not boot")


def _members(lab, host=SEED):
    """The members that a broker lists, and which of them are RAM nodes; None without such."""
    status = lab.rabbitmqctl(host, "cluster_status")
    ram = status.get("ram_nodes")
    return sorted(status["disk_nodes"] + (ram or [])), ram


def _changed(states):
    """What states changed or failed at."""
    return {name: s["comment"] for name, s in states.items() if s["changes"] or not s["result"]}


def test_a_member_becomes_a_ram_node_and_a_disc_node_again(healthy, quorum_queue):
    ram_node = {"hosts": {THIRD: {"node_type": "ram"}}}
    has_ram_nodes = _members(healthy)[1] is not None
    with healthy.pillar_changed(ram_node):
        if not has_ram_nodes:
            said = healthy.salt(THIRD, "state.apply", "rabbit_ha.rabbitmq.clustered")[THIRD]
            assert "node_type: found 'ram', which RabbitMQ 4.3 (forky) no longer has" in str(said)
            return
        changes = healthy.applied(THIRD, "clustered")["RabbitMQ is a ram node"]["changes"]
        assert changes["node_type"] == {"old": "disc", "new": "ram"}
        # RabbitMQ resets the node for it.
        assert changes["quorum_queues"] == [f"{quorum_queue} in /"]
        _has_all_replicas(healthy, quorum_queue)
        assert _members(healthy) == (NODES, [NODES[2]])
        assert _changed(healthy.applied(THIRD, "clustered")) == {}
        # It joins as what pillar says, too.
        healthy.exec(SEED, "rabbitmq-queues", "shrink", NODES[2])
        _rabbitmqctl(healthy, THIRD, "stop_app", "reset", "start_app")
        states = healthy.applied(THIRD, "clustered")
        assert states[MEMBER]["changes"]["cluster"] == {"old": "alone", "new": f"with {NODES[0]}"}
        assert states["RabbitMQ is a ram node"]["changes"] == {}
        assert _members(healthy) == (NODES, [NODES[2]])
    # A type that pillar does not name stays.
    assert _changed(healthy.applied(THIRD, "clustered")) == {}
    with healthy.pillar_changed({"hosts": {THIRD: {"node_type": "disc"}}}):
        state = healthy.applied(THIRD, "clustered")["RabbitMQ is a disc node"]
        assert state["changes"]["node_type"] == {"old": "ram", "new": "disc"}, state
        healthy.exec(SEED, "rabbitmq-queues", "grow", NODES[2], "all")
    _has_all_replicas(healthy, quorum_queue)
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


@pytest.fixture
def stream(healthy):
    """A stream with a replica on each broker; yields its name."""
    name = "test.stream"
    with healthy.amqp() as connection:
        arguments = {"x-queue-type": "stream", "x-initial-cluster-size": 3}
        connection.channel().queue_declare(name, durable=True, arguments=arguments)
    _has_all_replicas(healthy, name)
    yield name
    with healthy.amqp() as connection:
        connection.channel().queue_delete(name)


def _has_all_replicas(lab, queue):
    """See that a quorum queue or stream has a replica on each broker, and that it runs."""
    _has_replicas(lab, queue, *NODES)


def _has_replicas(lab, queue, *nodes):
    """See that replicas of a quorum queue or stream run on some nodes, at least."""

    def replicas():
        queues = lab.rabbitmqctl(SEED, "list_queues", "name", "online")
        return next(found["online"] or [] for found in queues if found["name"] == queue)

    wait_until(lambda: set(nodes) <= set(replicas()), 60, replicas)


def test_a_broker_that_lost_its_data_is_a_member_again_with_its_replicas(
    healthy, quorum_queue, stream
):
    healthy.exec(THIRD, "systemctl", "stop", "rabbitmq-server")
    healthy.exec(THIRD, "rm", "-rf", DATA)
    state = _settled(healthy, THIRD)
    # With Khepri the others may take it back as it boots, and RabbitMQ its replicas with it.
    if healthy.release != "forky" or state["changes"]:
        assert state["changes"]["quorum_queues"] == [f"{quorum_queue} in /"]
        assert state["changes"]["streams"] == [f"{stream} in /"]
    assert _members(healthy)[0] == _members(healthy, THIRD)[0] == NODES
    _has_all_replicas(healthy, quorum_queue)
    _has_all_replicas(healthy, stream)
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

    state = _settled(healthy, SECOND)
    assert state["changes"]["set_aside"].startswith(f"{DATA}.aside/{NODES[1]}-")
    assert _members(healthy)[0] == NODES


def _queue_on_one(lab, host):
    """Make a quorum queue with a replica and a message on one broker alone; returns its name."""
    name = "test.one_replica"
    with lab.amqp(host=lab.status()["hosts"][host]["address"]) as connection:
        channel = connection.channel()
        arguments = {"x-queue-type": "quorum", "x-quorum-initial-group-size": 1}
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.confirm_delivery()
        channel.basic_publish("", name, b"kept", mandatory=True)
    return name


def test_a_broker_that_alone_has_a_queue_keeps_its_type(healthy):
    if _members(healthy)[1] is None:
        # There is one type only, see the test of RAM nodes.
        return
    name = _queue_on_one(healthy, THIRD)
    with healthy.pillar_changed({"hosts": {THIRD: {"node_type": "ram"}}}):
        for mode in ("test=true", "test=false"):
            state = healthy.applied(THIRD, "clustered", mode)["RabbitMQ is a ram node"]
            assert (state["result"], state["changes"]) == (False, {}), state
            assert f"no other member could serve queue {name} in /" in state["comment"]
    assert _members(healthy) == (NODES, [])
    with healthy.amqp() as connection:
        assert consume(connection, name, 1) == {b"kept"}


@contextlib.contextmanager
def _resting(lab, host, queue):
    """Have a broker's replica of a quorum queue in ``/`` rest for a while; the broker runs."""
    server = f"quorum_queues, {{'%2F_{queue}', node()}}"
    lab.exec(host, "rabbitmqctl", "eval", f"ok = ra:stop_server({server}).")
    try:
        yield
    finally:
        lab.exec(host, "rabbitmqctl", "eval", f"ok = ra:restart_server({server}).")


def test_a_broker_that_lost_its_data_waits_for_queues_that_nobody_leads(healthy, quorum_queue):
    healthy.exec(THIRD, "systemctl", "stop", "rabbitmq-server")
    healthy.exec(THIRD, "rm", "-rf", DATA)
    with _resting(healthy, SECOND, quorum_queue):
        state = _membership(healthy, THIRD)
        assert state["result"] is False, state
        assert f"{quorum_queue} in /" in state["comment"]
        # A failed join leaves the app running.
        _rabbitmqctl(healthy, THIRD, "await_startup")
    _has_replicas(healthy, quorum_queue, NODES[0], NODES[1])
    state = _membership(healthy, THIRD)
    assert state["result"] is True, state["comment"]
    assert state["changes"]["quorum_queues"] == [f"{quorum_queue} in /"]
    _has_all_replicas(healthy, quorum_queue)
    assert _membership(healthy, THIRD)["changes"] == {}


def test_a_forgotten_member_s_replica_is_told_of_until_it_could_be_taken_out(healthy, quorum_queue):
    def forgotten():
        ret = healthy.salt(SEED, "state.single", "rabbit_cluster.member_absent", f"name={NODES[2]}")
        (state,) = ret[SEED].values()
        assert state["result"] is True, state["comment"]
        return state

    healthy.exec(THIRD, "systemctl", "stop", "rabbitmq-server")
    with _resting(healthy, SECOND, quorum_queue):
        first, second = forgotten(), forgotten()
        assert first["changes"].keys() == {NODES[2], "backup"}
        assert second["changes"] == {}
        for state in (first, second):
            [warning] = [each for each in state["warnings"] if "still counts" in each]
            assert warning.startswith(f"{quorum_queue} in /: {NODES[2]}'s replica, which is gone")
    _has_replicas(healthy, quorum_queue, *NODES[:2])
    assert forgotten()["changes"] == {"quorum_queues": [f"{quorum_queue} in /"]}
    again = forgotten()
    assert (again["changes"], "warnings" in again) == ({}, False)
    state = _membership(healthy, THIRD)
    assert state["result"] is True, state["comment"]
    healthy.exec(SEED, "rabbitmq-queues", "grow", NODES[2], "all")
    _has_all_replicas(healthy, quorum_queue)


def test_a_broker_joins_without_a_plugin_that_the_others_run(healthy):
    _rabbitmqctl(healthy, THIRD, "stop_app", "reset", "start_app")
    plugin = "rabbitmq_mqtt"
    for host in (SEED, SECOND):
        healthy.exec(host, "rabbitmq-plugins", "enable", plugin)
    try:
        _rabbitmqctl(healthy, SEED, "enable_feature_flag all")
        state = _settled(healthy, THIRD)
        assert state["changes"]["cluster"]["new"] == f"with {NODES[0]}"
    finally:
        for host in (SEED, SECOND):
            healthy.exec(host, "rabbitmq-plugins", "disable", plugin)


def test_the_last_replica_on_a_forgotten_member_is_let_go_only_where_pillar_allows_it(healthy):
    name = _queue_on_one(healthy, SECOND)
    healthy.exec(SECOND, "systemctl", "stop", "rabbitmq-server")
    ret = healthy.salt(SEED, "state.single", "rabbit_cluster.member_absent", f"name={NODES[1]}")
    (state,) = ret[SEED].values()
    assert state["result"] is True, state["comment"]
    assert any(f"queue {name} in /" in warning for warning in state["warnings"])
    holds = f"holds queue {name} in /"
    if _members(healthy)[1] is not None:
        _refused(healthy, SECOND, "forgotten by the cluster", holds)
    else:
        # Khepri's node tells only once it has started, and waits for the others.
        state = _membership(healthy, SECOND)
        assert state["result"] is False
        assert holds in state["comment"]
    with healthy.pillar_changed({"hosts": {SECOND: {"discard_local_data": True}}}):
        state = _membership(healthy, SECOND)
        assert state["result"] is True, state["comment"]
        assert state["changes"]["discarded"] == [f"queue {name} in /"]
        replica = "/quorum/*/*/config"
        healthy.exec(SECOND, "sh", "-c", f"grep -q {name} {state['changes']['set_aside']}{replica}")
    assert _membership(healthy, SECOND)["result"] is True
    assert _members(healthy)[0] == NODES
    # The others list it until somebody says that it is lost.
    _rabbitmqctl(healthy, SECOND, f"delete_queue {name}")


def test_while_no_member_runs_one_is_forgotten_where_that_can_be(healthy):
    keeps_a_list = _members(healthy)[1] is not None
    # The third is the last one to stop: the others would wait for it.
    for host in BROKERS:
        healthy.exec(host, "systemctl", "stop", "rabbitmq-server")
    forget = ("state.single", "rabbit_cluster.member_absent", f"name={NODES[2]}", "offline=true")
    try:
        (state,) = healthy.salt(SEED, *forget)[SEED].values()
        (again,) = healthy.salt(SEED, *forget)[SEED].values()
    finally:
        if keeps_a_list:
            # The second still counts the third as a member.
            _start(healthy, SEED)
        _start(healthy, SEED, SECOND)
    if keeps_a_list:
        assert state["changes"] == {NODES[2]: {"old": "member", "new": "forgotten"}}, state
        assert "Start this node before the others" in state["comment"]
        assert (again["result"], again["changes"]) == (True, {})
    else:
        assert state["result"] is False
        assert "Start this node, then apply this without offline" in state["comment"]
    assert _members(healthy)[0] == (NODES[:2] if keeps_a_list else NODES)
    state = _membership(healthy, THIRD)
    assert state["result"] is True, state["comment"]
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
    # Pillar took it back.
    again = {"discard_local_data": "may be allowed anew"}
    assert _membership(healthy, THIRD)["changes"] == again
    assert _membership(healthy, THIRD)["changes"] == {}
    assert _members(healthy)[0] == NODES


def test_an_app_that_was_stopped_is_started_and_no_message_is_lost(healthy):
    with healthy.amqp() as connection:
        sent = publish(connection, "test.stopped", 100)
    healthy.exec(SECOND, "rabbitmqctl", "stop_app")
    assert _settled(healthy, SECOND)["changes"]["app"] == "started"
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


def _rabbitmqctl(lab, host, *commands):
    """Run commands of rabbitmqctl in a host, one after another."""
    for command in commands:
        lab.exec(host, "rabbitmqctl", *command.split(" ", 1))


def _refused(lab, host, *phrases):
    """Have a broker find its place, in test mode and for real; returns the state that refused."""
    for mode in ("test=true", "test=false"):
        state = lab.applied(host, "clustered", mode)[MEMBER]
        assert (state["result"], state["changes"]) == (False, {}), state
        assert all(phrase in state["comment"] for phrase in phrases), state["comment"]
    return state


def test_a_join_that_was_interrupted_is_finished(healthy):
    _rabbitmqctl(healthy, THIRD, "stop_app", "reset")
    state = _settled(healthy, THIRD)
    assert state["changes"]["cluster"] == {"old": "alone", "new": f"with {NODES[0]}"}
    assert _members(healthy)[0] == NODES


def test_a_member_that_does_not_run_is_started(healthy):
    healthy.exec(THIRD, "systemctl", "stop", "rabbitmq-server")
    planned = _joined(healthy, THIRD, NODES, "test=true")
    assert planned["result"] is None, planned
    assert "rabbitmq-server would have been started" in planned["comment"]
    done = _joined(healthy, THIRD, NODES, "test=false")
    assert (done["result"], done["changes"]["service"]) == (True, "started"), done
    again = _joined(healthy, THIRD, NODES, "test=false")
    assert (again["result"], again["changes"]) == (True, {}), again


def test_another_cookie_than_the_node_s_is_refused_and_the_node_goes_on(healthy):
    cookie = "/var/lib/rabbitmq/.erlang.cookie"
    swap = "cp -p {0} {0}.kept && chmod u+w {0} && echo -n OTHERCOOKIE >{0} && chmod 400 {0}"
    healthy.exec(THIRD, "sh", "-c", swap.format(cookie))
    try:
        said = "runs with another Erlang cookie than the one in its file"
        _refused_alone(healthy, THIRD, NODES, "cookie mismatch", f"{NODES[2]} {said}")
    finally:
        healthy.exec(THIRD, "mv", f"{cookie}.kept", cookie)
    assert _members(healthy, THIRD)[0] == NODES


def test_an_unreachable_seed_is_named_after_the_time_that_pillar_gives(healthy):
    _rabbitmqctl(healthy, THIRD, "stop_app", "reset", "start_app")
    # Less than the default.
    seconds = 20
    with healthy.pillar_changed({"rabbitmq": {"join_timeout": seconds}}):
        for host in (SECOND, SEED):
            healthy.exec(host, "systemctl", "stop", "rabbitmq-server")
        try:
            state = _refused(healthy, THIRD, "seed unreachable", NODES[0], "systemctl status")
            assert seconds * 1000 <= state["duration"] < 60_000
            assert _members(healthy, THIRD)[0] == [NODES[2]]
        finally:
            _start(healthy, SEED, SECOND)
    assert _membership(healthy, THIRD)["result"] is True


def test_a_seed_that_others_have_a_cluster_without_is_refused(healthy):
    for host in (SECOND, THIRD):
        _rabbitmqctl(healthy, host, "stop_app", "reset", "start_app")
    _rabbitmqctl(healthy, THIRD, "stop_app", f"join_cluster {NODES[1]}", "start_app")
    # The seed has content: what the deployment made.
    _refused(healthy, SEED, "standalone, with content", "user admin")
    _rabbitmqctl(healthy, THIRD, "stop_app", "reset", "start_app")
    for host in (SECOND, THIRD):
        assert _membership(healthy, host)["result"] is True
    assert _members(healthy)[0] == NODES


def test_a_member_of_another_cluster_is_refused(healthy):
    for host in (SECOND, THIRD):
        _rabbitmqctl(healthy, host, "stop_app", "reset", "start_app")
    _rabbitmqctl(healthy, THIRD, "stop_app", f"join_cluster {NODES[1]}", "start_app")
    # Of that cluster pillar knows one broker only.
    _refused_alone(healthy, THIRD, [NODES[0], NODES[2]], "other cluster", NODES[1])
    _rabbitmqctl(healthy, THIRD, "stop_app", "reset", "start_app")
    for host in (SECOND, THIRD):
        assert _membership(healthy, host)["result"] is True


def _handle_partitions(lab, host, handling):
    """Have a broker do something else about partitions, until it restarts."""
    _rabbitmqctl(
        lab, host, f"eval application:set_env(rabbit,cluster_partition_handling,{handling})."
    )


def _notice_partitions(lab, hosts, ticktime, handling):
    """Have brokers notice a partition after some seconds, and handle it, until they restart."""
    for host in hosts:
        _rabbitmqctl(lab, host, f"eval net_kernel:set_net_ticktime({ticktime},0).")
        _handle_partitions(lab, host, handling)


def _start_a_member(lab, host):
    """Start a broker whose peers were disturbed; its log tells why it does not start."""
    for _ in range(3):
        started = lab.exec(
            host, "timeout", "90", "systemctl", "restart", "rabbitmq-server", check=False
        )
        if started.returncode == 0:
            return
    log = lab.exec(host, "sh", "-c", "tail -n 60 /var/log/rabbitmq/rabbit@*.log").stdout
    raise AssertionError(f"{host} does not start: {started.stderr}{log}")


def test_the_seed_that_lost_its_data_joins_the_others_and_they_keep_theirs(healthy, quorum_queue):
    healthy.exec(SEED, "sh", "-c", f"systemctl stop rabbitmq-server && rm -rf {DATA}")
    healthy.exec(SEED, "systemctl", "start", "rabbitmq-server")
    if "ram_nodes" not in healthy.rabbitmqctl(SECOND, "cluster_status"):
        # Khepri's other members take it back by themselves, soon or when it has joined.
        state = _membership(healthy, SEED)
        assert state["result"] is True, state["comment"]
        assert _members(healthy, SEED)[0] == _members(healthy, THIRD)[0] == NODES
        _has_all_replicas(healthy, quorum_queue)
        return
    assert (_membership(healthy, SECOND)["result"], _members(healthy, SEED)[0]) == (True, NODES[:1])
    healthy.exec(THIRD, "systemctl", "stop", "rabbitmq-server")
    try:
        # Nobody but the emptied seed is there to be asked.
        _refused(healthy, SECOND, "it lost its data, or forgot", "this node's counts")
    finally:
        # As the refusal says: beside the emptied one, which disagrees, it would not start. A
        # minority of one pauses, and the two then wait for each other for minutes.
        _handle_partitions(healthy, SECOND, "ignore")
        healthy.exec(SEED, "systemctl", "stop", "rabbitmq-server")
        _start_a_member(healthy, THIRD)
        healthy.exec(SEED, "systemctl", "start", "rabbitmq-server")
        _handle_partitions(healthy, SECOND, "pause_minority")
    wait_until(
        lambda: _membership(healthy, SECOND)["result"], 60, lambda: _membership(healthy, SECOND)
    )
    state = _membership(healthy, SEED)
    assert state["result"] is True, state["comment"]
    assert _members(healthy, SEED)[0] == _members(healthy, THIRD)[0] == NODES
    _has_all_replicas(healthy, quorum_queue)


@pytest.mark.parametrize("minority", [THIRD, SEED])
def test_a_minority_that_stands_still_is_left_alone_and_goes_on_by_itself(healthy, minority):
    others = [host for host in BROKERS if host != minority]
    # Khepri's minorities stand still whatever this says.
    _notice_partitions(healthy, BROKERS, 8, "pause_minority")
    try:
        healthy.command("cut", minority, *others)

        def running():
            return healthy.rabbitmqctl(SECOND, "cluster_status")["running_nodes"]

        wait_until(lambda: f"rabbit@{minority}" not in running(), 60, running)
        with healthy.pillar_changed({"rabbitmq": {"join_timeout": 5}}):
            # It remembers the others: a plan leaves it to the run.
            state = _membership(healthy, minority)
        assert (state["result"], state["changes"]) == (False, {}), state
        assert "seed unreachable" in state["comment"]
        nodes = ", ".join(f"rabbit@{host}" for host in others)
        assert f"nothing answers at {nodes}" in state["comment"]
        healthy.command("heal", minority)
        wait_until(lambda: sorted(running()) == NODES, 90, running)
        state = _membership(healthy, minority)
        assert (state["result"], state["changes"]) == (True, {}), state
    finally:
        healthy.command("heal")
        _notice_partitions(healthy, BROKERS, 60, "pause_minority")


def test_both_sides_of_a_partition_are_left_alone(healthy):
    if _members(healthy)[1] is None:
        pytest.skip("Khepri knows no such partitions: a side without majority stops writing")
    # A partition is noticed after seconds, not a minute, and nobody pauses for it.
    _notice_partitions(healthy, BROKERS, 8, "ignore")
    try:
        healthy.command("cut", THIRD, SEED, SECOND)

        def running(host):
            return healthy.rabbitmqctl(host, "cluster_status")["running_nodes"]

        wait_until(lambda: running(THIRD) == [NODES[2]], 120, lambda: running(THIRD))
        wait_until(lambda: NODES[2] not in running(SEED), 120, lambda: running(SEED))
        healthy.command("heal", THIRD)

        def partitions():
            return healthy.rabbitmqctl(THIRD, "cluster_status")["partitions"]

        wait_until(lambda: any(partitions().values()), 120, partitions)
        majority = f"are the majority: restart rabbitmq-server on {NODES[2]}"
        _refused(healthy, THIRD, "partitioned", NODES[0], NODES[1], majority)
    finally:
        healthy.command("heal")
        # As it says.
        healthy.exec(THIRD, "systemctl", "restart", "rabbitmq-server")
        _notice_partitions(healthy, (SEED, SECOND), 60, "pause_minority")
    state = _membership(healthy, THIRD)
    assert (state["result"], state["changes"]) == (True, {})
