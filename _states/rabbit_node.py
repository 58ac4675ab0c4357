"""
One host: its name, packages and units; of a broker also its node, plugins and configuration.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError


def hostname(name):
    """
    Give this host the name that its Erlang node name is made of.

    name
        The host name, with or without a domain.

    Refuses where RabbitMQ keeps data under other names only: under the new name it would
    start empty. A node that runs is stopped first.

    Returns a state's return: ``changes`` maps ``hostname`` to ``old`` and ``new``. Raises
    nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/clustering#issues-hostname.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        current = __salt__["network.get_hostname"]()
        if current.split(".", 1)[0] == name.split(".", 1)[0]:
            ret["comment"] = f"The host is already named {current}"
            return ret
        _refuse_to_lose_data(current, name)
        ret["changes"] = {"hostname": {"old": current, "new": name}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"The host would have been named {name}")
            return ret
        __salt__["rabbit_host.set_hostname"](name)
        if __salt__["network.get_hostname"]() != name:
            raise CommandExecutionError("the host name was set, yet reads as before")
        ret["comment"] = f"The host has been named {name}"
    except (CommandExecutionError, SaltInvocationError) as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "host name", err)
    return ret


def _refuse_to_lose_data(current, name):
    """Raise where RabbitMQ would not find its data under another host name, or uses it now."""
    rabbitmq = __salt__["rabbit_topology.settings"]()["rabbitmq"]
    found = __salt__["file.find"](rabbitmq["data_dir"], name="rabbit@*", type="d", maxdepth=2)
    # Beside a node's folder are those of its plugins, and what was set aside.
    found = [
        path for path in found if not path.endswith("-plugins-expand") and ".aside/" not in path
    ]
    wanted = f"rabbit@{name.split('.', 1)[0]}"
    if found and wanted not in [os.path.basename(path) for path in found]:
        raise SaltInvocationError(
            f"this host is named {current} and RabbitMQ has data under another name than the "
            f"topology's ({found[0]}); named {name} it would start empty. Use the name that its "
            "data has in the topology, or move the data away first"
        )
    if found and __salt__["rabbit_host.service_has_begun"](rabbitmq["service"]):
        raise CommandExecutionError(
            f"this host is named {current} and its RabbitMQ runs under that name, while the data "
            f"of {wanted} is there. Next: systemctl stop {rabbitmq['service']} here, then run again"
        )


def running(name, contacts, timeout=60):
    """
    Have RabbitMQ's service running, and started at boot.

    A node that its cluster has forgotten is not started: it could not boot, or come
    back with what the others gave up. ``rabbit_cluster.joined`` sees to it, and to
    one that has not booted in time.

    name
        Name of the service.
    contacts
        List of the Erlang node names of all brokers, the seed first.
    timeout : 60
        Seconds to wait until the node has booted.

    Returns a state's return: ``changes`` maps ``enabled`` and ``running`` to True. One that has
    not booted in time and goes on with it is a success, one that ended is none. Raises nothing:
    what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/clustering#restarting.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if not __salt__["service.enabled"](name):
            ret["changes"]["enabled"] = True
        starts = not __salt__["service.status"](name)
        if starts and _was_forgotten(contacts):
            ret["comment"] = "The cluster has forgotten this node; the next step joins it anew"
            if ret["changes"] and __opts__["test"]:
                ret["result"] = None
            elif ret["changes"]:
                __salt__["rabbit_host.systemctl"]("enable", name)
            return ret
        if starts:
            ret["changes"]["running"] = True
        if not ret["changes"]:
            ret["comment"] = f"{name} is already running"
            return ret
        if __salt__["service.masked"](name):
            raise CommandExecutionError(f"somebody masked it. Next: systemctl unmask {name}, first")
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} would have been started and enabled")
            return ret
        if "enabled" in ret["changes"]:
            __salt__["rabbit_host.systemctl"]("enable", name)
        ret["comment"] = f"{name} has been enabled"
        if starts:
            __salt__["rabbit_host.systemctl"]("start", name, no_block=True)
            booted = __salt__["rabbitmqctl.await_boot"](timeout)
            ret["comment"] = f"{name} has been started"
            if not booted and not __salt__["rabbit_host.service_has_begun"](name):
                raise CommandExecutionError("it ended again before its node had booted")
            if not booted:
                ret["comment"] += f"; its node has not booted within {timeout} s"
        elif not __salt__["service.enabled"](name):
            raise CommandExecutionError("it was enabled, yet is not")
    except CommandExecutionError as err:
        said = str(err)
        if "Next: " not in said:
            said = f"{said}. Next: journalctl -u {name}"
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], f"starting {name}", said)
    return ret


def _was_forgotten(contacts):
    """Tell whether the node's cluster no longer lists it."""
    if not __salt__["rabbitmqctl.installed"]():
        return False
    found = __salt__["rabbit_membership.verdict"](contacts)
    return found["verdict"] == "forgotten by the cluster"


def packages_finished(name):
    """
    Finish the packages that a killed run or a power failure left half installed.

    The package manager refuses everything else until then, and Salt's ``pkg.installed``
    takes a half installed package for an installed one. One that is still at work is
    waited for, as after the minion that began it was killed.

    name
        Says what for; shown in the output only.

    Returns a state's return: ``changes`` maps ``packages`` to ``old``, a list, and ``new``. Raises
    nothing: what failed is in ``comment``.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if not __opts__["test"]:
            __salt__["rabbit_host.await_package_manager"]()
        unfinished = __salt__["rabbit_host.unfinished_packages"]()
        if not unfinished:
            ret["comment"] = "All packages are already finished"
            return ret
        ret["changes"] = {"packages": {"old": unfinished, "new": "installed"}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{', '.join(unfinished)}: would have been finished")
            return ret
        said = __salt__["rabbit_host.finish_packages"]()
        left = __salt__["rabbit_host.unfinished_packages"]()
        if left:
            raise CommandExecutionError(f"still unfinished: {', '.join(left)}. {said}")
        ret["comment"] = f"{', '.join(unfinished)}: has been finished"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "packages", err)
    return ret


def proxy_protocol_settled(name, service, expected):
    """
    Refuse to change under a running node whether it expects the PROXY protocol.

    It would not read that before its next start, whereas HAProxy acts on it at once: the
    one would say what the other does not understand, and no client would get through.

    name
        Path of ``rabbitmq.conf``.
    service
        Name of RabbitMQ's service.
    expected
        Boolean: whether pillar has HAProxy speak the PROXY protocol to this broker.

    Returns a state's return; it has no changes. Raises nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/networking#proxy-protocol.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        expects = __salt__["rabbit_host.rabbitmq_setting"](name, "proxy_protocol") == "true"
        if expects == expected:
            ret["comment"] = f"The node already expects {_clients(expected)}"
        elif not __salt__["rabbit_host.service_has_begun"](service):
            ret["comment"] = f"{service} does not run and will start expecting {_clients(expected)}"
        else:
            raise SaltInvocationError(
                f"the node runs and expects {_clients(expects)}, pillar wants "
                f"{_clients(expected)}. It is not changed while it runs, as HAProxy's next "
                "connections to it would fail. Next: docs/haproxy.md, PROXY protocol, which "
                "switches one broker after another"
            )
    except (CommandExecutionError, SaltInvocationError) as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "PROXY protocol", err)
    return ret


def _clients(proxied):
    """Say how clients come."""
    return "clients with the PROXY protocol" if proxied else "clients without the PROXY protocol"


def plugins_listed(name, plugins, config, service):
    """
    List plugins for the next start of a node that :func:`configuration_loaded` restarts.

    Starting them before that, only to stop them again, takes much longer. On any other
    node :func:`plugins_enabled` enables them.

    name
        Path of RabbitMQ's ``enabled_plugins`` file.
    plugins
        List of plugin names.
    config
        Path of ``rabbitmq.conf``.
    service
        Name of RabbitMQ's service. With ``watch`` on the state that writes the
        configuration, test mode predicts what comes of that.

    Returns what :func:`plugins_enabled` does.

    See https://www.rabbitmq.com/docs/plugins.
    """
    return _listed(name, plugins, config, service)


def _listed(name, plugins, config, service, written=False):
    """Do what :func:`plugins_listed` does; ``written``: ``config`` would be written now."""
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        missing = _missing_plugins(name, plugins)
        if not missing:
            ret["comment"] = "The plugins are already enabled"
        elif _starts_again(service, config, written):
            _enable_plugins(ret, missing, offline=True)
        else:
            ret["comment"] = "The node does not start again by itself: they are enabled later on"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "plugins", err)
    return ret


def _starts_again(service, config, written):
    """Tell whether :func:`configuration_loaded` is going to restart the node."""
    if not __salt__["rabbitmqctl.installed"]():
        return False
    late = __salt__["rabbit_host.runs_since_before"](service, config)
    late = late or (written and __salt__["rabbit_host.service_start_time"](service) is not None)
    return late and _stands_alone_and_empty()


def plugins_enabled(name, plugins):
    """
    Enable plugins on the running node; others stay as they are.

    name
        Path of RabbitMQ's ``enabled_plugins`` file.
    plugins
        List of plugin names.

    Returns a state's return: ``changes`` maps ``plugins`` to ``enabled``, a list of names. Raises
    nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/plugins.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        missing = _missing_plugins(name, plugins)
        if missing:
            _enable_plugins(ret, missing)
        else:
            ret["comment"] = "The plugins are already enabled"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "plugins", err)
    return ret


def _missing_plugins(path, plugins):
    """List the plugins that are not enabled, and that test mode has not foreseen to be."""
    foreseen = __context__.get("rabbit_node.plugins_would_be_listed", [])
    return sorted({*plugins} - {*__salt__["rabbitmqctl.enabled_plugins"](path), *foreseen})


def _enable_plugins(ret, missing, offline=False):
    """Enable plugins, or fill the return for test mode."""
    ret["changes"] = {"plugins": {"enabled": missing}}
    if __opts__["test"]:
        if offline:
            __context__["rabbit_node.plugins_would_be_listed"] = missing
        ret.update(result=None, comment=f"{', '.join(missing)} would have been enabled")
        return
    __salt__["rabbitmqctl.enable_plugins"](missing, ret["name"], offline)
    left = _missing_plugins(ret["name"], missing)
    if left:
        raise CommandExecutionError(f"{', '.join(left)} did not become enabled")
    ret["comment"] = f"{', '.join(missing)} has been enabled"
    if offline:
        ret["comment"] += " for the node's next start, which is soon"


def unit_loaded(name):
    """
    Let systemd read a service's unit files again where they changed since.

    name
        Name of the service.

    Returns a state's return: ``changes`` maps ``systemd`` to what happened. Raises nothing: what
    failed is in ``comment``.

    See https://www.freedesktop.org/software/systemd/man/latest/systemctl.html.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if _units_are_foreseen() or not __salt__["rabbit_host.unit_needs_reload"](name):
            ret["comment"] = f"systemd already knows the settings of {name}"
            return ret
        if __opts__["test"]:
            return _units_would_be_read(ret)
        ret["changes"] = {"systemd": "units read again"}
        __salt__["service.systemctl_reload"]()
        if __salt__["rabbit_host.unit_needs_reload"](name):
            raise CommandExecutionError("systemctl daemon-reload had no effect")
        ret["comment"] = "systemd has read its units again"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], f"unit {name}", err)
        # Or Salt calls mod_watch, whose answer would take the place of this one.
        ret["skip_watch"] = True
    return ret


def mod_watch(name, sfun=None, service=None, plugins=(), config=None, **kwargs):
    """
    Predict what comes of a file that would be written; a real run looks once more.

    Called by Salt for ``watch`` on :func:`unit_loaded`, :func:`configuration_loaded` and
    :func:`plugins_listed`.

    name
        What that function was called with.
    sfun : None
        Name of the function that watches.
    service : None
    plugins : ()
    config : None
        What that function was called with.
    kwargs
        The rest of it; not needed.

    Returns a state's return, as that function does.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    if sfun == "configuration_loaded":
        return _loaded(name, service, written=__opts__["test"])
    if sfun == "plugins_listed":
        return _listed(name, plugins, config, service, written=__opts__["test"])
    if sfun != "unit_loaded":
        ret.update(result=False, comment=f"watch does nothing for rabbit_node.{sfun}")
    elif __opts__["test"] and not _units_are_foreseen() and __salt__["service.available"](name):
        return _units_would_be_read(ret)
    elif not __opts__["test"]:
        return unit_loaded(name)
    else:
        ret["comment"] = f"systemd already knows the settings of {name}, or reads them first"
    return ret


def _units_are_foreseen():
    """Tell whether test mode has foreseen in this run that systemd reads its units, all at once."""
    return __context__.get("rabbit_node.units_would_be_read", False)


def _units_would_be_read(ret):
    """Fill a return for test mode."""
    __context__["rabbit_node.units_would_be_read"] = True
    ret.update(
        result=None,
        changes={"systemd": "units would be read again"},
        comment="systemd would have read its units again",
    )
    return ret


def configuration_loaded(name, service):
    """
    Restart a broker that started before its configuration was written, if that hurts no one.

    A node that stands alone and holds nothing is restarted. One that serves is
    not: a warning says that its next restart takes the configuration in.

    name
        Path of ``rabbitmq.conf``.
    service
        Name of RabbitMQ's service. With ``watch`` on the state that writes the file,
        test mode predicts what comes of that.

    Returns a state's return: ``changes`` maps ``service`` to what happened; a node that serves is
    a warning, not a change. Raises nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/configure.
    """
    return _loaded(name, service)


def _loaded(name, service, written=False):
    """Do what :func:`configuration_loaded` does; ``written``: the file would be written now."""
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if not __salt__["rabbitmqctl.installed"]():
            ret["comment"] = "RabbitMQ is not there yet and will start with it"
            return ret
        if __salt__["rabbit_host.service_start_time"](service) is None:
            ret["comment"] = "The node does not run and will start with its configuration"
            return ret
        if not written and not __salt__["rabbit_host.runs_since_before"](service, name):
            ret["comment"] = "The node already runs with its configuration"
            return ret
        if not _stands_alone_and_empty():
            ret["comment"] = f"{service} serves and is not restarted here"
            ret["warnings"] = [
                f"{name} {'would be' if written else 'is'} newer than the running node, which "
                "serves and is not restarted by itself; its next restart takes the file in: "
                f"systemctl restart {service}, one broker at a time"
            ]
            return ret
        ret["changes"] = {"service": "restarted to load its configuration"}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{service} would have been restarted")
            return ret
        __salt__["rabbit_host.systemctl"]("restart", service)
        __salt__["rabbitmqctl.forget_cached_reads"]()
        if __salt__["rabbit_host.runs_since_before"](service, name):
            raise CommandExecutionError(f"{service} was restarted, yet runs since before")
        ret["comment"] = f"{service} has been restarted"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "configuration", err)
        # Or Salt calls mod_watch, whose answer would take the place of this one.
        ret["skip_watch"] = True
    return ret


def _stands_alone_and_empty():
    """Tell whether the local node runs, has no peers and holds nothing."""
    node = __salt__["rabbitmqctl.node_state"]()
    if node["status"] is None:
        return False
    if len(__salt__["rabbit_membership.listed_in"](node["status"])) > 1:
        return False
    return __salt__["rabbit_membership.is_empty"]()
