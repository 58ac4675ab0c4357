"""
A load balancer's services run what is installed and have read what is written.
"""

import os
import time

from salt.exceptions import CommandExecutionError

# Seconds in which a reload starts the new child of a service that has workers.
PATIENCE = 15


def unit_in_use(name, unit):
    """
    Let systemd know of a unit file that comes before the one it has read.

    name
        Name of the service.
    unit
        Path of the unit file.

    Returns a state's return: ``changes`` maps ``unit`` to ``old`` and ``new``, paths. Raises
    nothing: what failed is in ``comment``.

    See https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        before = __salt__["rabbit_failover.unit_file"](name)
        if before == unit:
            ret["comment"] = f"systemd already uses {unit}"
            return ret
        ret["changes"] = {"unit": {"old": before or None, "new": unit}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"systemd would have read {unit}")
            return ret
        __salt__["service.systemctl_reload"]()
        after = __salt__["rabbit_failover.unit_file"](name)
        if after != unit:
            raise CommandExecutionError(
                f"systemd uses {after or 'no unit file'}, which comes before {unit}; remove it or "
                "move what it says to a drop-in"
            )
        ret["comment"] = f"systemd uses {unit}"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], name, err)
    return ret


def program_in_use(name, program, check=None, arguments=None):
    """
    Restart a service that runs another program than the installed one, such as an older build.

    So is one that was started to read other files: a reload keeps its arguments.

    Where this host holds the address, another load balancer serves it meanwhile. A
    service that does not run is left to ``service.running``.

    name
        Name of HAProxy's or keepalived's service.
    program
        Path of the program that it is to run.
    check
        List of a command and its arguments that judges the configuration first.
    arguments : None
        List of arguments that must be among those it was started with, in this order.

    Returns a state's return: ``changes`` maps ``program`` and ``arguments`` to ``old`` and
    ``new``. Raises nothing: what failed is in ``comment``.

    See docs/source-builds.md.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        running = __salt__["rabbit_failover.running_program"](name)
        wanted = (__opts__["test"] and _foreseen_build(program)) or os.path.realpath(program)
        if running is None:
            ret["comment"] = f"{name} does not run and will start with {program}"
            return ret
        ret["changes"] = _not_as_wanted(name, running, wanted, arguments)
        if not ret["changes"]:
            ret["comment"] = f"{name} already runs {wanted}"
            return ret
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} would have been restarted to run {program}")
            return ret
        __salt__["rabbit_failover.restart"](name, check)
        running = __salt__["rabbit_failover.running_program"](name)
        if running is None or _not_as_wanted(name, running, wanted, arguments):
            raise CommandExecutionError(f"it was restarted, yet runs {_called(name, running)}")
        ret["comment"] = f"{name} has been restarted to run {wanted}"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], name, err)
    return ret


def _foreseen_build(program):
    """Tell which program a link would lead to by what test mode has foreseen; None as it does."""
    for ret in __running__.values():
        if ret.get("name") == program:
            for change in ret["changes"].values():
                if isinstance(change, dict) and change.get("new"):
                    return os.path.join(change["new"], "sbin", os.path.basename(program))
    return None


def _not_as_wanted(name, running, wanted, arguments):
    """Tell how a running program differs from what it is to be, as a state's changes."""
    changes = {} if running == wanted else {"program": {"old": running, "new": wanted}}
    if arguments:
        given = __salt__["rabbit_failover.running_arguments"](name) or []
        starts = range(len(given) - len(arguments) + 1)
        if not any(given[at : at + len(arguments)] == arguments for at in starts):
            changes["arguments"] = {"old": " ".join(given), "new": " ".join(arguments)}
    return changes


def _called(name, running):
    """Describe what a service runs."""
    given = __salt__["rabbit_failover.running_arguments"](name) or []
    return " ".join([running, *given]) if running else "no more"


def configuration_in_use(name, files, workers=False):
    """
    Reload a service that has not read its configuration since that was written.

    What counts is what the service has read, not what this run wrote: a run that was
    killed between the two is made good by the next one. A reload drops no connection.

    name
        Name of HAProxy's or keepalived's service.
    files
        List of the files it reads; a folder stands for the files in it. With ``watch``
        on the states that write them, test mode predicts the reload.
    workers : False
        Whether each reload that succeeds starts a new child of its main process, for
        which it waits.

    Returns a state's return: ``changes`` maps ``service`` to what happened. Raises nothing:
    what failed is in ``comment``.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        loaded = __salt__["rabbit_host.service_load_time"](name, workers)
        if loaded is None:
            if not __opts__["test"]:
                raise CommandExecutionError(f"it no longer runs. Next: journalctl -u {name}")
            ret["comment"] = f"{name} does not run and will start with its configuration"
            return ret
        if not _written_since(loaded, files):
            ret["comment"] = f"{name} has already read its configuration"
            return ret
        if __opts__["test"]:
            return _would_be_reloaded(ret)
        ret["changes"] = {"service": "reloaded"}
        asked = time.time()
        __salt__["rabbit_host.systemctl"]("reload", name, "it goes on with what it has read")
        if not _loads(name, files, workers, asked):
            raise CommandExecutionError(
                f"it was reloaded, yet goes on as before. Next: journalctl -u {name}"
            )
        ret["comment"] = f"{name} has been reloaded"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], name, err)
        # Or Salt calls mod_watch, whose answer would take the place of this one.
        ret["skip_watch"] = True
    return ret


def _loads(name, files, workers, asked):
    """Wait until a service has read its configuration since then; tell whether it did in time."""
    deadline = time.monotonic() + (PATIENCE if workers else 0)
    while True:
        loaded = __salt__["rabbit_host.service_load_time"](name, workers)
        if loaded is None:
            return False
        # What is dated in the future is read as well.
        if loaded >= asked or not _written_since(loaded, files):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)


def mod_watch(name, sfun=None, files=(), workers=False, **kwargs):
    """
    Predict the reload after what would be written; a real run looks once more.

    Called by Salt for ``watch`` on :func:`configuration_in_use`.

    name
        Name of HAProxy's or keepalived's service.
    sfun : None
        Name of the function that watches.
    files
        What that function was called with.
    workers : False
        What that function was called with.
    kwargs
        The rest of it; not needed.

    Returns a state's return, as :func:`configuration_in_use` does.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    if sfun != "configuration_in_use":
        ret.update(result=False, comment=f"watch does nothing for rabbit_failover.{sfun}")
    elif __opts__["test"]:
        # Also where it does not run: its package may start it before the file is written.
        return _would_be_reloaded(ret)
    else:
        return configuration_in_use(name, files, workers)
    return ret


def _would_be_reloaded(ret):
    """Fill a return for test mode."""
    ret.update(
        result=None,
        changes={"service": "would be reloaded"},
        comment=f"{ret['name']} would have been reloaded",
    )
    return ret


def _written_since(loaded, files):
    """Tell whether a file is newer than what a service has read."""
    written = __salt__["rabbit_host.last_written"](files)
    return written is not None and min(written, time.time()) > loaded


def addresses_held(name, addresses, seconds=15):
    """
    Have this load balancer hold the virtual addresses that it takes as soon as it can.

    keepalived takes some seconds to take them from a backup; what comes next would
    lose its connections in the middle of that.

    name
        Says what for; shown in the output only.
    addresses
        List of addresses.
    seconds : 15
        How long to wait for them.

    Returns a state's return: ``changes`` maps ``holds`` to ``old`` and ``new``, lists of
    addresses. Raises nothing: what failed is in ``comment``.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        before = __salt__["rabbit_host.held_addresses"](addresses)
        if before == addresses:
            ret["comment"] = f"This host already holds {' '.join(addresses)}"
            return ret
        ret["changes"] = {"holds": {"old": before, "new": addresses}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{' '.join(addresses)} would have been awaited here")
            return ret
        __salt__["rabbit_failover.await_addresses"](addresses, seconds)
        ret["comment"] = f"{' '.join(addresses)} has come here"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=f"{__grains__['id']}: {err}")
    return ret
