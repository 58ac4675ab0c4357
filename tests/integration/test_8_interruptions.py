"""A run, a minion or a host is killed at a step of the way; one run more and all is well."""

import dataclasses
import itertools
import json
import os
import threading
import typing

import pika
import pika.exceptions
import pytest

from tests.integration import interruption as killed
from tests.integration.amqp import consume, publish
from tests.integration.interruption import begins, ended, has_file, runs, serves_clients
from tests.integration.lab import BROKERS, HOLDER, NODES, STANDBY, wait_until

SEED, SECOND, THIRD = BROKERS
DATA = "/var/lib/rabbitmq"
OLD_COOKIE = f"{DATA}/.erlang.cookie.*.bak"
# What the steps write beside what they change, secrets in it or not.
TEMPORARY = (
    f"{DATA}/.rabbit_ha-import.json",
    f"{DATA}/.erlang.cookie.new",
    "/etc/haproxy/.*.new",
    "/etc/keepalived/.*.new",
    "/tmp/rabbit_ha.*",
    "/tmp/tmp.*",
)
MESSAGES = {f"message {number}".encode() for number in range(100)}


# Where a run begins.


def deployed(lab):
    """Leave all as it is: the run only looks and verifies."""


def third_without_data(lab):
    """Take the third broker's data and cookie away, as a new disk does."""
    _take_data(lab, THIRD)


def brokers_without_data(lab):
    """Take all brokers back to where their packages were just installed."""
    # The queues' leaders go last, or others would be elected.
    for broker in reversed(BROKERS):
        lab.exec(broker, "systemctl", "stop", "rabbitmq-server")
    for broker in BROKERS:
        _take_data(lab, broker)


def _take_data(lab, broker):
    lab.exec(broker, "systemctl", "stop", "rabbitmq-server")
    lab.exec(broker, "sh", "-c", f"rm -rf {DATA}/mnesia {DATA}/.erlang.cookie*")


def standby_without_configuration(lab):
    """Take a load balancer back to where its packages were just installed."""
    _take_configuration(lab, STANDBY)


def balancers_without_configuration(lab):
    """Take both load balancers back to where their packages were just installed."""
    _take_configuration(lab, STANDBY)
    _take_configuration(lab, HOLDER)


def _take_configuration(lab, balancer):
    lab.exec(balancer, "systemctl", "stop", "keepalived", "haproxy")
    lab.exec(balancer, "rm", "/etc/haproxy/haproxy.cfg", "/etc/keepalived/keepalived.conf")


def third_installed_anew(lab):
    """Give the third broker an empty disk."""
    _install_anew(lab, THIRD)


def standby_installed_anew(lab):
    """Give a load balancer an empty disk."""
    _install_anew(lab, STANDBY)


def _install_anew(lab, host):
    """Give a host an empty disk under its old name, and accept its minion's new key."""
    lab.command("reinstall", host)
    lab.command("salt-key", "--yes", f"--delete={host}")

    def keys():
        return json.loads(lab.command("salt-key", "--out=json").stdout)

    def found():
        log = lab.exec(host, "tail", "-n", "20", "/var/log/salt/minion", check=False)
        return f"{host} shows no key: {keys()}\n{log.stdout}{log.stderr}"

    # On a busy machine the master was once seen to have it accepted already.
    wait_until(lambda: host in [*keys()["minions_pre"], *keys()["minions"]], 120, found)
    if host in keys()["minions_pre"]:
        lab.command("salt-key", "--yes", f"--accept={host}")
    lab.wait_for_minions([host], 120)


# Where it ends.


@dataclasses.dataclass
class Point:
    """
    A point at which an orchestration is interrupted.

    what
        What is killed there: ``killed.run``, ``killed.minion``, ``killed.power``.
    name
        Says where.
    start
        Brings the hosts to where the run begins.
    host
        The host in question.
    moments
        What is waited for, one after another.
    """

    what: typing.Callable
    name: str
    start: typing.Callable
    host: str
    moments: tuple

    def param(self):
        """The point as pytest wants it, its name in the test's."""
        return pytest.param(self, id=f"{self.what.__name__} {self.name}")


COOKIE = begins("state.apply", "rabbit_ha.rabbitmq.configuration_loaded")
COOKIE_DONE = ended("state.apply", "rabbit_ha.rabbitmq.configuration_loaded")
JOIN = begins("state.sls", "rabbit_ha.rabbitmq.clustered")
BALANCING = begins("state.sls", "rabbit_ha.haproxy")
JUDGING = runs("keepalived", "--config-test")
SECOND_JOINED = ended("state.sls", "rabbit_ha.rabbitmq.clustered", on=SECOND)
# The points of one are met one after another, each by a run after the one that was killed before.
IN_A_ROW = {
    "of a broker with an empty disk": (third_installed_anew, [
        Point(killed.power, "while RabbitMQ is unpacked", third_installed_anew, THIRD,
              (runs("dpkg", "--unpack"),)),
        Point(killed.minion, "while RabbitMQ is stopped for its cookie", third_without_data, THIRD,
              (COOKIE, has_file(OLD_COOKIE))),
        Point(killed.power, "while the member forgets what it was", third_without_data, THIRD,
              (runs("rabbitmqctl", "forget_cluster_node"),)),
        Point(killed.minion, "before the quorum queues have their replicas back",
              third_without_data, THIRD, (runs("rabbitmq-queues", "grow"),)),
    ]),
    "of a broker that is installed and joins": (third_installed_anew, [
        Point(killed.power, "while packages are configured", third_installed_anew, THIRD,
              (runs("dpkg", "--configure"),)),
        Point(killed.power, "while it joins", third_without_data, THIRD,
              (runs("rabbitmqctl", "join_cluster"),)),
    ]),
    "of a cluster": (brokers_without_data, [
        Point(killed.run, "before the first step", brokers_without_data, THIRD,
              (begins("rabbit_host.readiness"),)),
        Point(killed.run, "between two joins", brokers_without_data, SECOND, (SECOND_JOINED,)),
        Point(killed.power, "of the seed while definitions are imported", brokers_without_data,
              SEED, (runs("rabbitmqctl", "import_definitions"),)),
    ]),
    "of the load balancers": (balancers_without_configuration, [
        Point(killed.minion, "while HAProxy judges, on the backup", standby_without_configuration,
              STANDBY, (BALANCING, runs("haproxy", "-c"))),
        Point(killed.power, "while keepalived judges, on the master",
              balancers_without_configuration, HOLDER, (BALANCING, JUDGING)),
        Point(killed.run, "while messages are sent", deployed, HOLDER,
              (begins("rabbit_report.host"), serves_clients)),
    ]),
}  # fmt: skip
MORE_POINTS = [
    Point(killed.minion, "while packages are configured", standby_installed_anew, STANDBY,
          (runs("dpkg", "--configure"),)),
    Point(killed.run, "between packages and cookie", third_without_data, THIRD,
          (ended("state.sls", "rabbit_ha.prepared"),)),
    Point(killed.minion, "while it predicts", third_without_data, THIRD,
          (begins("state.apply", "rabbit_ha"),)),
    Point(killed.run, "while apt is at work", third_installed_anew, THIRD,
          (runs("apt-get", "install"),)),
    Point(killed.power, "while RabbitMQ is stopped for its cookie", third_without_data, THIRD,
          (COOKIE, has_file(OLD_COOKIE))),
    Point(killed.run, "between cookie and join", third_without_data, THIRD, (COOKIE_DONE,)),
    Point(killed.minion, "while it joins", third_without_data, THIRD,
          (runs("rabbitmqctl", "join_cluster"),)),
    Point(killed.power, "between join and start of the app", third_without_data, THIRD,
          (JOIN, runs("rabbitmqctl", "start_app"))),
    Point(killed.power, "of the seed while another one joins", brokers_without_data, SEED,
          (SECOND_JOINED,)),
    Point(killed.minion, "of the seed while definitions are imported", brokers_without_data, SEED,
          (runs("rabbitmqctl", "import_definitions"),)),
    Point(killed.run, "after the definitions", brokers_without_data, SEED,
          (ended("state.sls", "rabbit_ha.rabbitmq.policies"),)),
    Point(killed.run, "between backup and master", balancers_without_configuration, STANDBY,
          (ended("state.sls", "rabbit_ha.haproxy"),)),
]  # fmt: skip
# See CONTRIBUTING.md.
WANTED = os.environ.get("INTERRUPTIONS")
ALL = WANTED == "all"


@pytest.mark.parametrize("name", IN_A_ROW if WANTED else list(IN_A_ROW)[:1])
def test_runs_that_are_killed_one_after_another_converge_in_the_end(deployed_with_messages, name):
    _killed(deployed_with_messages, *IN_A_ROW[name])


if ALL:
    EACH = [*itertools.chain(*(points for _, points in IN_A_ROW.values())), *MORE_POINTS]

    @pytest.mark.parametrize("point", [point.param() for point in EACH])
    def test_one_run_more_converges_after_a_kill(deployed_with_messages, point):
        _killed(deployed_with_messages, point.start, [point])


def _killed(deployed_with_messages, start, points):
    """Kill a run at each of some points; then one run more converges."""
    lab = deployed_with_messages(unless=start is brokers_without_data)
    start(lab)
    for point in points:
        with killed.Watch(lab) as watch:
            for moment in point.moments:
                moment(watch, point.host)
            point.what(watch, point.host)
    _run_once(lab)


@pytest.mark.parametrize("host", [SEED, THIRD] if ALL else [SEED])
def test_a_broker_installed_anew_is_a_member_again_after_one_run(deployed_with_messages, host):
    lab = deployed_with_messages()
    _install_anew(lab, host)
    with Newcomers(lab) as newcomers:
        _run_once(lab)
    # While it stands alone it knows no user; HAProxy would send it every third one.
    # Its listeners are open for the seconds between its start and the next state.
    assert newcomers.let_in > 50
    assert len(newcomers.turned_away) <= newcomers.let_in // 20, newcomers.turned_away


@pytest.fixture
def deployed_with_messages(deployed):
    """
    Return a function that returns the deployed hosts, messages waiting in replicated queues.

    It takes whether no messages are wanted. All of them are there after the test.
    """
    lab, queues = deployed, []

    def ready(unless=False):
        if not unless:
            queues.extend(_send(lab))
        return lab

    yield ready
    for queue in queues:
        with lab.amqp() as connection:
            assert consume(connection, queue, len(MESSAGES)) == MESSAGES


def _send(lab):
    """Have confirmed messages in a queue of each kind that survives a broker; names the queues."""
    replicated, mirrored = "test.replicated", "test.mirrored"
    with lab.amqp() as connection:
        channel = connection.channel()
        arguments = {"x-queue-type": "quorum", "x-quorum-initial-group-size": len(BROKERS)}
        channel.queue_declare(replicated, durable=True, arguments=arguments)
        channel.confirm_delivery()
        for message in MESSAGES:
            channel.basic_publish("", replicated, message, mandatory=True)
        if not lab.rabbitmqctl(SEED, "list_policies"):
            return [replicated]
        assert publish(connection, mirrored, len(MESSAGES)) == MESSAGES
    return [replicated, mirrored]


class Newcomers(threading.Thread):
    """
    Clients that connect through the address, one after another.

    ``let_in`` is how many were, ``turned_away`` what RabbitMQ told those whom it did not know.
    """

    def __init__(self, lab):
        super().__init__(daemon=True)
        self._lab, self._stop_it = lab, threading.Event()
        self.let_in, self.turned_away = 0, []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stop_it.set()
        self.join(timeout=60)
        assert not self.is_alive()

    def run(self):
        while not self._stop_it.wait(0.1):
            try:
                with self._lab.amqp(attempts=1):
                    self.let_in += 1
            except pika.exceptions.ProbableAuthenticationError as err:
                self.turned_away.append(str(err))
            except (pika.exceptions.AMQPError, OSError):
                # A broker that went away, or none yet.
                continue


def _short_of_replicas(lab):
    """The quorum queues of which a replica does not run, or is not on a broker."""
    queues = lab.rabbitmqctl(SEED, "list_queues", "name", "type", "members", "online")
    return [
        queue
        for queue in queues
        if queue["type"] == "quorum"
        and not sorted(queue["members"]) == sorted(queue["online"]) == NODES
    ]


def _run_once(lab):
    """Run; nothing is left to do then, and nothing was left behind."""
    done = lab.salt_run("state.orchestrate", "orch.rabbit_ha")
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads(lab.salt_run("rabbit_ha.plan", "--out=json").stdout)
    assert plan["verdict"]["says"] == "nothing to do", plan
    for broker in BROKERS:
        status = lab.rabbitmqctl(broker, "cluster_status")
        assert sorted(status["disk_nodes"]) == sorted(status["running_nodes"]) == NODES
        assert status["cluster_name"] == "rabbitmq_cluster1"
    wait_until(lambda: not _short_of_replicas(lab), 30, lambda: _short_of_replicas(lab))
    assert lab.holders() == [HOLDER]
    for host in lab.hosts:
        found = lab.exec(host, "sh", "-c", f"ls -d {' '.join(TEMPORARY)}", check=False)
        assert found.stdout == "", (host, found.stdout)
