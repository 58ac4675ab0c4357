"""rabbit_names: queues and hosts as people read them."""

import pytest

from tests.support import load

rabbit_names = load("_utils/rabbit_names.py")
QUEUES = [{"vhost": "/", "name": "orders", "type": "quorum"}, {"vhost": "v", "name": "a b"}]


def test_queues_are_named_with_their_vhosts():
    assert rabbit_names.of_queues(QUEUES) == ["orders in /", "a b in v"]
    assert rabbit_names.phrases(QUEUES) == ["queue orders in /", "queue a b in v"]


@pytest.mark.parametrize(
    ("named", "left"),
    [
        ([], QUEUES),
        (["queue orders in /"], QUEUES[1:]),
        # It is in another vhost, or no queue.
        (["queue orders in v", "stream orders in /"], QUEUES),
    ],
)
def test_queues_that_are_named_are_left_out(named, left):
    assert rabbit_names.without(QUEUES, named) == left


def test_hosts_of_nodes_are_told_in_order():
    nodes = {"rabbit@rabbitmq-node3", "rabbit@rabbitmq-node1"}
    assert rabbit_names.hosts(nodes) == "rabbitmq-node1, rabbitmq-node3"
    assert rabbit_names.hosts([]) == ""
