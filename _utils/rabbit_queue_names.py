"""
How queues are named for people, and how those are told apart that were named.

Queues are mappings with ``vhost`` and ``name``, whatever else they have.
"""


def names(queues):
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
    return [f"queue {name}" for name in names(queues)]


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
