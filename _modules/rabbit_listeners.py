"""
Clients kept away from a broker that is no member of its cluster yet.

HAProxy takes a broker that was installed anew for the member that it replaces. Alone it knows
none of the users, and what it confirms is lost when it joins.
"""

import socket

from salt.exceptions import CommandExecutionError

NOTE = "listeners_suspended"
# Seconds.
SAME_START = 1


def matter():
    """
    Tell whether clients may come to this broker through a load balancer, and find others there.

    Returns a boolean: whether pillar names other brokers and one of the virtual addresses takes
    connections. Starts no VM.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_listeners.matter
    """
    settings = __salt__["rabbit_topology.settings"]()
    if len(__salt__["rabbit_topology.contacts"]()) < 2:
        return False
    bind = settings["haproxy"]["rabbitmq_cluster"]["bind"]
    _, port = __utils__["rabbit_settings.address_and_port"](bind)
    addresses = __utils__["rabbit_settings.virtual_addresses"](settings)
    return any(_takes_connections(address, port) for address in addresses)


def suspended(service):
    """
    Tell whether this node's listeners were suspended here and still are.

    service
        Name of RabbitMQ's service.

    Returns a boolean. Starts no VM.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_listeners.suspended rabbitmq-server
    """
    noted = __salt__["rabbit_notes.fetch"](NOTE)
    if noted is None:
        return False
    started = __salt__["rabbit_host.service_start_time"](service)
    # It is computed from two clocks, and is another one each time.
    if started is None or abs(noted - started) > SAME_START:
        return False
    # They do let clients in once the app was started again, as it is by a join.
    return not _lets_clients_in()


def suspend(service):
    """
    Let no client in until :func:`resume`, or until the node or its app is started again.

    Does nothing where they do not :func:`matter`.

    service
        Name of RabbitMQ's service.

    Raises CommandExecutionError when that fails, or clients are let in all the same.

    See https://www.rabbitmq.com/docs/man/rabbitmqctl.8#suspend_listeners.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_listeners.suspend rabbitmq-server
    """
    if not matter():
        return
    # First: a run that is killed after the command would leave a seed that lets nobody in.
    __salt__["rabbit_notes.write"](NOTE, __salt__["rabbit_host.service_start_time"](service))
    __salt__["rabbitmqctl.suspend_listeners"]()
    if _lets_clients_in():
        raise CommandExecutionError("the listeners were suspended, yet clients can connect")


def resume(service):
    """
    Let clients in again.

    service
        Name of RabbitMQ's service.

    Raises CommandExecutionError when that fails, or clients are not let in all the same.

    See https://www.rabbitmq.com/docs/man/rabbitmqctl.8#resume_listeners.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_listeners.resume rabbitmq-server
    """
    __salt__["rabbitmqctl.resume_listeners"]()
    if not _lets_clients_in():
        raise CommandExecutionError(
            "the listeners were resumed, yet clients cannot connect. Next: systemctl restart "
            f"{service} here"
        )
    __salt__["rabbit_notes.delete"](NOTE)


def _lets_clients_in():
    """Tell whether the port for clients takes connections."""
    port = __salt__["rabbit_topology.settings"]()["rabbitmq"]["amqp_port"]
    return _takes_connections("127.0.0.1", port)


def _takes_connections(address, port):
    """Tell whether something listens there; a network without it does not always say so."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
