"""
Facts about this host that Salt's own modules do not tell, and what they do not do well there.
"""

import contextlib
import fcntl
import glob
import hashlib
import ipaddress
import os
import socket
import time

import salt.utils.atomicfile
import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError

# systemd's words, in microseconds since the host booted.
_STARTED = "ExecMainStartTimestampMonotonic"
_CHANGED = "StateChangeTimestampMonotonic"
UNITS = "/etc/systemd/system"
HOSTNAME = "/etc/hostname"
DPKG_JOURNAL = "/var/lib/dpkg/updates"
# apt holds the first one, dpkg both, as long as it is at work.
DPKG_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
# Seconds that dpkg or apt may take to finish; a package starts its service meanwhile.
FINISH_TIMEOUT = 60 * 60
# How the program timeout ends where it had to end what it ran: with TERM, and with KILL.
_TIMED_OUT = (124, 137)
UNFINISHED = (["half-installed"], ["unpacked"], ["half-configured"])


def readiness(names):
    """
    Tell which versions of the project's modules this minion has, and whether it is free.

    names
        List of file names below the minion's ``extension_modules``, such as
        ``modules/rabbitmqctl.py``.

    Returns a mapping with ``modules`` (mapping from name to the file's SHA-256 digest,
    None for a file that is not there) and ``jobs``: a list of the jobs that run here,
    mappings with ``fun`` (a name, or a list of names), ``jid`` and ``pid``.

    See https://docs.saltproject.io/en/latest/ref/modules/all/salt.modules.saltutil.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.readiness '[modules/rabbitmqctl.py]'
    """
    digests = {}
    for name in names:
        path = os.path.join(__opts__["extension_modules"], name)
        try:
            with salt.utils.files.fopen(path, "rb") as handle:
                digests[name] = hashlib.sha256(handle.read()).hexdigest()
        except FileNotFoundError:
            digests[name] = None
    jobs = [
        {key: job[key] for key in ("fun", "jid", "pid")} for job in __salt__["saltutil.running"]()
    ]
    return {"modules": digests, "jobs": jobs}


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
    return _since(unit_properties(service, "ActiveState", _STARTED), _STARTED)


def runs_since_before(service, path):
    """
    Tell whether a systemd service was started before a file was last written.

    service
        Name of the service.
    path
        Of the file.

    Returns a boolean; False where the service does not run, or the file is not there.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.runs_since_before rabbitmq-server /etc/rabbitmq/rabbitmq.conf
    """
    started, written = service_start_time(service), last_written([path])
    return started is not None and written is not None and started < written


def service_load_time(service, workers=False, patience=30, interval=0.1):
    """
    Tell when a systemd service read its configuration: at its start or last reload.

    A reload that is under way is waited for: HAProxy says that it begins with one only
    after systemd counts it as done.

    service
        Name of the service.
    workers : False
        Whether each reload that succeeds starts a new child of its main process, as
        HAProxy's does: HAProxy tells systemd of one that failed, as where a port is
        taken, what it tells of a good one.
    patience : 30
        Seconds to wait.
    interval : 0.1
        Seconds between two looks.

    Returns seconds since 1970 (float), or None where it does not run.

    Raises CommandExecutionError when it still reloads then.

    See https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html
    (``StateChangeTimestamp``, ``ReloadResult``).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.service_load_time haproxy
    """
    names = ("ActiveState", "ReloadResult", "MainPID", _STARTED, _CHANGED)
    deadline = time.monotonic() + patience
    while (properties := unit_properties(service, *names))["ActiveState"] == "reloading":
        if time.monotonic() >= deadline:
            raise CommandExecutionError(f"{service} is still reloading after {patience} s")
        time.sleep(interval)
    # A reload that failed is a change of state too.
    loaded = _since(properties, _CHANGED if properties["ReloadResult"] == "success" else _STARTED)
    newest = _newest_child(properties["MainPID"]) if workers and loaded is not None else None
    return loaded if newest is None else min(loaded, newest)


def _newest_child(process):
    """Tell when the newest child of a process was started; None without any."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = []
    with contextlib.suppress(OSError):
        path = f"/proc/{process}/task/{process}/children"
        with salt.utils.files.fopen(path, encoding="ascii") as handle:
            children = handle.read().split()
        for child in children:
            with (
                contextlib.suppress(OSError),
                salt.utils.files.fopen(f"/proc/{child}/stat", encoding="utf-8") as handle,
            ):
                # After the name in brackets, which may hold anything: see proc(5), starttime.
                ticks = int(handle.read().rpartition(")")[2].split()[19])
                started.append(booted + ticks / os.sysconf("SC_CLK_TCK"))
    return max(started, default=None)


def _since(properties, timestamp):
    """Read one of a running unit's monotonic timestamps as seconds since 1970, else None."""
    microseconds = int(properties[timestamp] or 0)
    if properties["ActiveState"] != "active" or not microseconds:
        return None
    return time.time() - time.monotonic() + microseconds / 1e6


def last_written(paths):
    """
    Tell when the newest of some files was written.

    paths
        List of files; a folder stands for itself and the files in it.

    Returns seconds since 1970 (float), or None where none is there. Of a file that is dated
    later than it came there, that counts.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.last_written '[/etc/haproxy/haproxy.cfg]'
    """
    inside = [entry for path in paths for entry in glob.glob(os.path.join(path, "*"))]
    there = [os.stat(path) for path in [*paths, *inside] if os.path.exists(path)]
    return max((min(status.st_mtime, status.st_ctime) for status in there), default=None)


def holds_secret(path):
    """
    Tell whether a configuration file of lines such as ``key = value`` holds a secret.

    path
        Of the file.

    Returns a boolean; False for a file that is not there.

    Raises CommandExecutionError where the minion may not read it.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.holds_secret /etc/rabbitmq/rabbitmq.conf
    """
    return any(
        __utils__["rabbit_settings.is_secret"](key.strip(), value.strip())
        for key, _, value in (line.partition("=") for line in _lines(path))
    )


def _lines(path):
    """Read the lines of a configuration file; none where there is no file."""
    try:
        with salt.utils.files.fopen(path, encoding="utf-8", errors="replace") as handle:
            return list(handle)
    except FileNotFoundError:
        return []
    except PermissionError as err:
        raise CommandExecutionError(
            f"{path} cannot be read: {err.strerror}. Next: let Salt's minion run as root"
        ) from err


def rabbitmq_setting(path, key):
    """
    Read one line of a ``rabbitmq.conf``.

    path
        Of the file.
    key
        Such as ``proxy_protocol``.

    Returns the value as a string; None where the file, or the line, is not there.

    Raises CommandExecutionError where the minion may not read it.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.rabbitmq_setting /etc/rabbitmq/rabbitmq.conf proxy_protocol
    """
    lines = [line.partition("=") for line in _lines(path) if not line.startswith("#")]
    found = [value.strip() for name, _, value in lines if name.strip() == key]
    return found[-1] if found else None


def service_invocation(service):
    """
    Tell which start of a systemd service this is.

    service
        Name of the service.

    Returns a string that is another one after each start, which the service's processes
    have in their environment as ``INVOCATION_ID``; None where it does not run.

    See https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.service_invocation keepalived
    """
    properties = unit_properties(service, "ActiveState", "InvocationID")
    active = properties["ActiveState"] in ("active", "reloading")
    return properties["InvocationID"] if active else None


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
    unit = unit_properties(service, "LoadState", "NeedDaemonReload", "DropInPaths")
    if unit["LoadState"] != "loaded":
        return False
    # systemd 252 does not see a drop-in whose folder was not there when it read its units.
    there = glob.glob(os.path.join(UNITS, f"{glob.escape(service)}.service.d", "*.conf"))
    return unit["NeedDaemonReload"] == "yes" or not set(there) <= set(unit["DropInPaths"].split())


def unit_properties(service, *names):
    """
    Read properties of a systemd unit.

    service
        Name of the service.
    names
        Of the properties, such as ``MainPID``.

    Returns a mapping from name to a string, as systemd prints it; for a unit that is not
    there, what a unit has from the start.

    Raises CommandExecutionError when systemctl fails.

    See https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.unit_properties haproxy MainPID FragmentPath
    """
    shown = __salt__["cmd.run_all"](
        ["systemctl", "show", "-p", ",".join(names), service], python_shell=False
    )
    if shown["retcode"] != 0:
        raise CommandExecutionError(f"systemctl show {service} failed: {shown['stderr']}")
    return dict(line.split("=", 1) for line in shown["stdout"].splitlines())


def unfinished_packages():
    """
    List what dpkg was interrupted in, as by a power failure; until it is finished apt refuses all.

    Returns a list such as ``rabbitmq-server half-installed``; empty where there is no dpkg.

    Raises CommandExecutionError when dpkg cannot tell.

    See https://manpages.debian.org/bookworm/dpkg/dpkg.1.en.html (package states).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.unfinished_packages
    """
    if not salt.utils.path.which("dpkg-query"):
        return []
    listed = __salt__["cmd.run_all"](
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"], python_shell=False
    )
    if listed["retcode"] != 0:
        raise CommandExecutionError(f"dpkg-query failed: {listed['stderr']}")
    found = [line for line in listed["stdout"].splitlines() if line.split()[1:] in UNFINISHED]
    # What apt looks at: changes that dpkg noted and did not merge into its database.
    return found or (["dpkg interrupted"] if glob.glob(f"{DPKG_JOURNAL}/[0-9]*") else [])


def await_package_manager(patience=300, interval=1):
    """
    Wait until no apt and no dpkg is at work, as one that outlived the minion that began it.

    patience : 300
        Seconds to wait.
    interval : 1
        Seconds between two looks.

    Raises CommandExecutionError when one still is at work then.

    See https://manpages.debian.org/bookworm/dpkg/dpkg.1.en.html (``DPKG_FRONTEND_LOCKED``).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.await_package_manager patience=60
    """
    deadline = time.monotonic() + patience
    while held := [path for path in DPKG_LOCKS if _is_locked(path)]:
        if time.monotonic() >= deadline:
            raise CommandExecutionError(
                f"apt or dpkg is still at work after {patience} s ({held[0]} is locked). Next: "
                f"fuser -v {held[0]}"
            )
        time.sleep(interval)


def _is_locked(path):
    """Tell whether another process has a file locked; one that is not there is not."""
    try:
        with open(path, "rb+") as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as err:
        raise CommandExecutionError(
            f"{path} cannot be opened: {err.strerror}. Next: dmesg, and mount, to see whether the "
            "disk became read-only"
        ) from err
    return False


def finish_packages():
    """
    Let dpkg and apt finish what they were interrupted in; no package is removed.

    Each of them has an hour; one that takes longer is ended with all that it has started.

    Returns what they said, a string; :func:`unfinished_packages` tells what is left.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.finish_packages
    """
    keep = ("--force-confdef", "--force-confold")
    options = [word for option in keep for word in ("-o", f"Dpkg::Options::={option}")]
    said = []
    # The first ends with 1 where a dependency is half installed, which the second finishes.
    for command in (
        ["dpkg", *keep, "--configure", "-a"],
        ["apt-get", "--yes", "-q", "--fix-broken", "--no-remove", *options, "install"],
    ):
        done = __salt__["cmd.run_all"](
            ["timeout", "--kill-after=60", str(FINISH_TIMEOUT), *command],
            python_shell=False,
            redirect_stderr=True,
            ignore_retcode=True,
            env={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )
        if done["retcode"] in _TIMED_OUT:
            said.append(
                f"{' '.join(command)} was ended, as it took longer than {FINISH_TIMEOUT} s: "
                f"{done['stdout'][-400:]}. Next: dpkg --configure -a on this host, to see what "
                "it waits for"
            )
            break
        said.append(f"{' '.join(command)} exited with {done['retcode']}: {done['stdout'][-400:]}")
    # Salt keeps what it saw before.
    __context__.pop("pkg.list_pkgs", None)
    return "\n".join(said)


def service_has_begun(service):
    """
    Tell whether a systemd service runs or is about to, and so may have read its configuration.

    service
        Name of the service.

    Returns a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.service_has_begun rabbitmq-server
    """
    begun = ("active", "activating", "reloading")
    return unit_properties(service, "ActiveState")["ActiveState"] in begun


def systemctl(action, service, left="", no_block=False):
    """
    Have systemd act on a service; where that fails, say so with what to do.

    Salt's own functions raise systemd's words alone, or return False.

    action
        ``start``, ``stop``, ``restart``, ``reload`` or ``enable``.
    service
        Name of the service.
    left : ""
        How things are left where it fails, for the message.
    no_block : False
        Do not wait until it is done.

    Raises CommandExecutionError when it fails.

    See https://www.freedesktop.org/software/systemd/man/latest/systemctl.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.systemctl restart haproxy
    """
    options = {"no_block": True} if no_block else {}
    said = ""
    try:
        if __salt__[f"service.{action}"](service, **options):
            return
    except CommandExecutionError as err:
        # It ends with advice of its own, which leads to the same place.
        lines = [line for line in str(err).splitlines() if not line.startswith("See ")]
        said = f": {' '.join(lines).rstrip('.')}"
    raise CommandExecutionError(
        f"systemctl {action} {service} failed{f', {left}' if left else ''}{said}. "
        f"Next: journalctl -u {service}, then run again"
    )


def set_hostname(name):
    """
    Name this host, from now on and after each boot; ``/etc/hosts`` stays as it is.

    name
        The host name, with or without a domain.

    Raises CommandExecutionError when that fails.

    See https://www.freedesktop.org/software/systemd/man/latest/hostname.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_host.set_hostname rabbitmq-node1
    """
    # Not by hostnamectl, which needs D-Bus: a minimal host or a container may have none.
    try:
        # The file first: what the kernel says is what the next run looks at.
        with salt.utils.atomicfile.atomic_open(HOSTNAME, "w") as handle:
            handle.write(f"{name}\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(HOSTNAME, 0o644)
        socket.sethostname(name)
    except OSError as err:
        raise CommandExecutionError(
            f"{HOSTNAME} or the kernel does not take the name {name}: {err}. Next: hostnamectl "
            f"set-hostname {name} here, then run again"
        ) from err


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
    here = [*__salt__["network.ip_addrs"](), *__salt__["network.ip_addrs6"]()]
    # One of IPv6 may be spelt in several ways.
    held = {ipaddress.ip_address(address) for address in here}
    return [address for address in addresses if ipaddress.ip_address(address) in held]
