"""rabbit_listeners: says what RabbitMQ was told, and whether its port shows it."""

import errno
import itertools
import socket
from unittest.mock import MagicMock, create_autospec

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import TOPOLOGY, functions, load

SERVICE = "rabbitmq-server"


class Node:
    """A node whose port takes connections, unless its listeners are suspended."""

    def __init__(self):
        self.started, self.open, self.obeys, self.commands = 100.0, True, True, []
        self.balanced = True
        # Of the service's start, as it is computed from two clocks.
        self.inaccuracy = itertools.cycle([1e-6, -1e-6, 0.0])

    def command(self, is_open):
        def run():
            self.commands.append("resume" if is_open else "suspend")
            self.open = is_open if self.obeys else self.open

        return run

    def connect(self, address, timeout=None):
        is_open = {("127.0.0.1", 5673): self.open, ("192.168.123.123", 5672): self.balanced}
        if not is_open[address]:
            raise OSError(errno.ECONNREFUSED, "Connection refused")
        return MagicMock(spec=socket.socket)


@pytest.fixture
def node(monkeypatch):
    here = Node()
    monkeypatch.setattr(socket, "create_connection", here.connect)
    return here


@pytest.fixture
def listeners(node, topology, tmp_path):
    pillar = {**TOPOLOGY, "rabbitmq": {"amqp_port": 5673, "backup_dir": str(tmp_path)}}
    salt = topology(pillar=pillar)
    salt |= functions("rabbit_notes", load("_modules/rabbit_notes.py", salt=salt))
    real = load("_modules/rabbitmqctl.py")
    for name, is_open in (("suspend", False), ("resume", True)):
        command = getattr(real, f"{name}_listeners")
        salt[f"rabbitmqctl.{name}_listeners"] = create_autospec(
            command, side_effect=node.command(is_open)
        )
    start_time = load("_modules/rabbit_host.py").service_start_time
    salt["rabbit_host.service_start_time"] = create_autospec(
        start_time, side_effect=lambda service: node.started + next(node.inaccuracy)
    )
    utils = {name: salt[name] for name in salt if name.startswith("rabbit_settings.")}
    return load("_modules/rabbit_listeners.py", salt=salt, utils=utils)


def test_they_are_suspended_until_they_are_resumed(node, listeners):
    assert not listeners.suspended(SERVICE)
    listeners.suspend(SERVICE)
    assert listeners.suspended(SERVICE) and not node.open
    listeners.resume(SERVICE)
    assert not listeners.suspended(SERVICE) and node.open
    assert node.commands == ["suspend", "resume"]


def test_those_of_the_only_broker_are_not_suspended(node, listeners):
    assert listeners.matter()
    listeners.__salt__["rabbit_topology.contacts"] = lambda: ["rabbit@rabbitmq-node2"]
    assert not listeners.matter()
    listeners.suspend(SERVICE)
    assert node.commands == [] and not listeners.suspended(SERVICE)


def test_nor_are_they_before_a_load_balancer_serves(node, listeners):
    node.balanced = False
    assert not listeners.matter()
    listeners.suspend(SERVICE)
    assert node.commands == [] and not listeners.suspended(SERVICE)


def test_a_node_that_was_started_again_is_suspended_no_more(node, listeners):
    listeners.suspend(SERVICE)
    node.started, node.open = 200.0, True
    assert not listeners.suspended(SERVICE)


def test_nor_is_one_whose_app_was_started_again(node, listeners):
    listeners.suspend(SERVICE)
    node.open = True
    assert not listeners.suspended(SERVICE)


def test_who_suspended_them_by_hand_is_somebody_else(node, listeners):
    node.open = False
    assert not listeners.suspended(SERVICE)


def test_a_run_that_is_killed_after_the_command_has_noted_it(node, listeners):
    node.obeys = False
    listeners.__salt__["rabbitmqctl.suspend_listeners"].side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        listeners.suspend(SERVICE)
    node.open = False
    assert listeners.suspended(SERVICE)


def test_a_port_that_goes_on_is_told(node, listeners):
    node.obeys = False
    with pytest.raises(CommandExecutionError, match="yet clients can connect"):
        listeners.suspend(SERVICE)


def test_a_port_that_stays_closed_is_told_with_what_to_type(node, listeners):
    listeners.suspend(SERVICE)
    node.obeys = False
    with pytest.raises(CommandExecutionError, match="Next: systemctl restart rabbitmq-server here"):
        listeners.resume(SERVICE)
    assert listeners.suspended(SERVICE)
