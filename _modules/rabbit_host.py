"""
Facts about this host that Salt's own modules do not tell.
"""

import time

from salt.exceptions import CommandExecutionError


def service_start_time(service):
    """
    Tell when a systemd service was started.

    service
        Name of the service.

    Returns seconds since 1970 (float), or None where it does not run.

    See https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.service_start_time rabbitmq-server
    """
    shown = __salt__["cmd.run_all"](
        ["systemctl", "show", "-p", "ActiveState,ExecMainStartTimestampMonotonic", service],
        python_shell=False,
    )
    if shown["retcode"] != 0:
        raise CommandExecutionError(f"systemctl show {service}: {shown['stderr']}")
    properties = dict(line.split("=", 1) for line in shown["stdout"].splitlines())
    microseconds = int(properties["ExecMainStartTimestampMonotonic"] or 0)
    if properties["ActiveState"] != "active" or not microseconds:
        return None
    return time.time() - time.monotonic() + microseconds / 1e6


def held_addresses(addresses):
    """
    Tell which of some addresses this host holds right now.

    addresses
        List of IP addresses.

    Returns a list, in the order given.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.held_addresses '[192.168.123.123]'
    """
    held = set(__salt__["network.ip_addrs"]()) | set(__salt__["network.ip_addrs6"]())
    return [address for address in addresses if address in held]
