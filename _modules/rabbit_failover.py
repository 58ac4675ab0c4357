"""
Restart a load balancer's services while the address is served by another one.
"""

import ipaddress
import os
import pathlib
import time

from salt.exceptions import CommandExecutionError

# Seconds in which a HAProxy that was started answers.
PATIENCE = 10


def running_program(service):
    """
    Tell which program a service runs.

    service
        Name of the service.

    Returns the path of its main process's executable, without symbolic links; None
    where the service does not run. A program that was replaced since it was started
    ends in ``(deleted)``.

    Raises CommandExecutionError when systemctl fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.running_program haproxy
    """
    process = _main_process(service)
    if not process:
        return None
    try:
        return os.readlink(f"/proc/{process}/exe")
    except FileNotFoundError:
        return None


def running_arguments(service):
    """
    Tell which arguments a service's main process was started with.

    service
        Name of the service.

    Returns a list of strings without the program; None where the service does not run.

    Raises CommandExecutionError when systemctl fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.running_arguments haproxy
    """
    process = _main_process(service)
    try:
        command = pathlib.Path(f"/proc/{process}/cmdline").read_bytes() if process else b""
    except FileNotFoundError:
        return None
    return command.decode().split("\0")[1:-1] if command else None


def unit_file(service):
    """
    Tell which unit file systemd has read for a service.

    service
        Name of the service.

    Returns a path; an empty string where there is no such unit.

    Raises CommandExecutionError when systemctl fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.unit_file haproxy
    """
    return __salt__["rabbit_host.unit_properties"](service, "FragmentPath")["FragmentPath"]


def _main_process(service):
    """Tell the id of a service's main process; 0 where it does not run."""
    return int(__salt__["rabbit_host.unit_properties"](service, "MainPID")["MainPID"] or 0)


def _keepalived():
    """Name this host's service of keepalived."""
    return __salt__["rabbit_topology.balancing"]()["keepalived"]["service"]


def restart(service, check=None):
    """
    Restart a service of this load balancer; the address is served all the time.

    Where this host holds the address and there is another load balancer, keepalived
    is stopped first, which hands the address over at once; the restart waits until
    the other one serves it. keepalived is started again afterwards.

    service
        Name of HAProxy's or keepalived's service.
    check
        List of a command and its arguments that judges the configuration with the
        program that is to be started; where it fails, nothing is touched.

    Raises CommandExecutionError when the check fails, when no other load balancer
    takes the address (it stays here then), or when the service does not start (it
    stays with the other one then).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.restart haproxy
    """
    keepalived = _keepalived()
    if check:
        said = __salt__["rabbit_configuration.refusal"](check)
        if said:
            raise CommandExecutionError(
                f"{' '.join(check)} fails, so {service} was not restarted: {said}"
            )
    given_away = hand_over()
    left = ""
    if given_away:
        left = (
            f"{' '.join(given_away)} stays with another load balancer, as {keepalived} was stopped "
            "here for that and stays so"
        )
    if service != keepalived or not given_away:
        __salt__["rabbit_host.systemctl"]("restart", service, left)
    if service != keepalived and given_away:
        _wait_for_haproxy(service, left)
    if given_away:
        __salt__["rabbit_host.systemctl"]("start", keepalived, left)


def _wait_for_haproxy(service, left):
    """Wait until HAProxy answers, so that keepalived finds it well from the start."""
    monitor = __salt__["rabbit_topology.monitor_endpoint"]()
    if not _within(PATIENCE, lambda: _connects(monitor["address"], monitor["port"])):
        raise CommandExecutionError(
            f"{service} was restarted, but does not answer, {left}. Next: journalctl -u {service}, "
            "then run again"
        )


def hand_over():
    """
    Let another load balancer have the addresses that this host holds: stop keepalived.

    Returns the list of addresses; empty when this host held none, or when there is
    no other load balancer, and then nothing was stopped.

    Raises CommandExecutionError when no other one serves them in the time that ``advert_int``
    asks for (``rabbit_topology.seconds_to_take``); keepalived was started again then.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.hand_over
    """
    settings = __salt__["rabbit_topology.settings"]()
    keepalived = _keepalived()
    held = held_addresses()
    others = set(__salt__["rabbit_topology.load_balancers"]()) - {__grains__["id"]}
    if not held or not others:
        return []
    bind = settings["haproxy"]["rabbitmq_cluster"]["bind"]
    _, port = __utils__["rabbit_settings.address_and_port"](bind)
    served = set(__utils__["rabbit_settings.client_addresses"](settings))
    __salt__["rabbit_host.systemctl"]("stop", keepalived)

    def served_elsewhere():
        return not __salt__["rabbit_host.held_addresses"](held) and all(
            _connects(address, port) for address in held if address in served and _is_near(address)
        )

    seconds = __salt__["rabbit_topology.seconds_to_take"]()
    if not _within(seconds, served_elsewhere):
        failed = f"no other load balancer served {' '.join(held)} within {seconds} s"
        __salt__["rabbit_host.systemctl"]("start", keepalived, f"and {failed}")
        raise CommandExecutionError(f"{failed}, so it stays here. Next: salt-run rabbit_ha.status")
    return held


def await_addresses(addresses, seconds=15):
    """
    Wait until this host holds virtual addresses.

    addresses
        List of addresses.
    seconds : 15
        How long to wait.

    Returns the list of addresses.

    Raises CommandExecutionError when it does not hold them in time.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.await_addresses '[192.168.123.123]'
    """

    def held():
        return __salt__["rabbit_host.held_addresses"](addresses)

    if not _within(seconds, lambda: held() == addresses):
        raise CommandExecutionError(
            f"holds {' '.join(held()) or 'none'} of {' '.join(addresses)} after "
            f"{seconds} s. Next: journalctl -u {_keepalived()}"
        )
    return addresses


def virtual_addresses():
    """
    List the addresses that keepalived moves between the load balancers.

    Returns a list of addresses without a prefix length.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.virtual_addresses
    """
    return __utils__["rabbit_settings.virtual_addresses"](__salt__["rabbit_topology.settings"]())


def held_addresses():
    """
    Tell which of the virtual addresses this host holds right now.

    Returns a list of addresses.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_failover.held_addresses
    """
    return __salt__["rabbit_host.held_addresses"](virtual_addresses())


def _connects(address, port):
    return __salt__["network.connect"](address, port=port, timeout=1)["result"]


def _is_near(address):
    """Tell whether an address is in one of this host's networks; to others it may have no route."""
    networks = [*__salt__["network.subnets"](), *__salt__["network.subnets6"]()]
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(net) for net in networks)


def _within(seconds, condition):
    """Try a condition until it holds; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
