"""
How queues, and the hosts of nodes, are named for people; and which queues are among those named.

Queues are mappings with ``vhost`` and ``name``, whatever else they have.
"""


def hosts(nodes):
    """
    Name the hosts of nodes.

    nodes
        Erlang node names, such as ``rabbit@rabbitmq-node1``.

    Returns a text such as ``rabbitmq-node1, rabbitmq-node2``.
    """
    return ", ".join(sorted(node.split("@", 1)[1] for node in nodes))


def of_queues(queues):
    """
    Name queues.

    queues
        List of queues.

    Returns a list of texts such as ``orders in /``.
    """
    return [f"{queue['name']} in {queue['vhost']}" for queue in queues]


def phrases(queues):
    """
    Name queues where something else than a queue may be named, too.

    queues
        List of queues.

    Returns a list of phrases such as ``queue orders in /``.
    """
    return [f"queue {name}" for name in of_queues(queues)]


def without(queues, named):
    """
    Leave out those queues that are named.

    queues
        List of queues.
    named
        List of phrases as :func:`phrases` returns them.

    Returns a list of queues.
    """
    return [queue for queue in queues if phrases([queue])[0] not in named]
