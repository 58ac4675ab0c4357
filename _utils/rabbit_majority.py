"""
When some members of a cluster, a quorum queue or a stream can decide for all of them.
"""


def is_reached(some, members):
    """
    Tell whether some of the members are their majority.

    some
        List or set of Erlang node names.
    members
        List or set of the Erlang node names of all members.

    Returns a boolean.

    See https://www.rabbitmq.com/docs/quorum-queues#quorum-requirements.
    """
    return 2 * len(some) > len(members)
