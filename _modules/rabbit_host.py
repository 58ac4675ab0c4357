"""
Facts about this host that Salt's own modules do not tell.
"""

import hashlib
import os
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError


def synced_files(names):
    """
    Tell which versions of the project's modules this minion has.

    names
        List of file names below the minion's ``extension_modules``, such as
        ``modules/rabbitmqctl.py``.

    Returns a mapping from name to the file's SHA-256 digest, None for a file that
    is not there.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.synced_files '[modules/rabbitmqctl.py]'
    """
    digests = {}
    for name in names:
        path = os.path.join(__opts__["extension_modules"], name)
        try:
            with salt.utils.files.fopen(path, "rb") as handle:
                digests[name] = hashlib.sha256(handle.read()).hexdigest()
        except FileNotFoundError:
            digests[name] = None
    return digests


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
    properties = _unit_properties(service, "ActiveState", "ExecMainStartTimestampMonotonic")
    microseconds = int(properties["ExecMainStartTimestampMonotonic"] or 0)
    if properties["ActiveState"] != "active" or not microseconds:
        return None
    return time.time() - time.monotonic() + microseconds / 1e6


def unit_needs_reload(service):
    """
    Tell whether a unit's files changed since systemd read them.

    service
        Name of the service.

    Returns a boolean; False for a unit that is not there.

    See https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.unit_needs_reload haproxy
    """
    return _unit_properties(service, "NeedDaemonReload")["NeedDaemonReload"] == "yes"


def _unit_properties(service, *names):
    """Read properties of a systemd unit; returns a mapping of strings."""
    shown = __salt__["cmd.run_all"](
        ["systemctl", "show", "-p", ",".join(names), service], python_shell=False
    )
    if shown["retcode"] != 0:
        raise CommandExecutionError(
            f"{__grains__['id']}: systemctl show {service} failed: {shown['stderr']}"
        )
    return dict(line.split("=", 1) for line in shown["stdout"].splitlines())


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
