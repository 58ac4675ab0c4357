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


def clients_wait(name):
    """
    Let no client in to a broker that stands alone and empty until it is a member of its cluster.

    That is, while load balancers serve: HAProxy takes one that was installed anew for the member
    that it replaces, while it knows none of the users, and what it confirms is lost when it joins.
    ``rabbit_cluster.joined`` lets clients in; so does a restart of the node.

    name
        Name of RabbitMQ's service.

    Returns a state's return: ``changes`` maps ``clients`` to what happened. Raises nothing: what
    failed is in ``comment``.

    See https://www.rabbitmq.com/docs/man/rabbitmqctl.8#suspend_listeners.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        alone = {__salt__["rabbit_topology.node_name"]()}
        if __salt__["rabbit_listeners.suspended"](name):
            ret["comment"] = "Clients are already kept waiting"
        elif not (_is_not_there_yet() or _waits_for_its_cluster(name, alone)):
            ret["comment"] = "It is a member, holds something or does not run: it is left alone"
        elif not __salt__["rabbit_listeners.matter"]():
            ret["comment"] = "No load balancer serves clients who would come here"
        else:
            ret["changes"] = {"clients": "wait until it is a member"}
            if __opts__["test"]:
                ret.update(result=None, comment="Clients would have been kept waiting")
                return ret
            __salt__["rabbit_listeners.suspend"](name)
            ret["comment"] = "Clients wait until it is a member"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "keeping clients waiting", err)
    return ret


def _is_not_there_yet():
    """Tell whether test mode foresees a broker that is installed anew."""
    return __opts__["test"] and not __salt__["rabbitmqctl.installed"]()


def _waits_for_its_cluster(service, alone):
    """Tell whether the local node runs, has no peers and holds nothing."""
    # Which takes no VM to know of a member of Mnesia's generation.
    if __salt__["rabbit_membership.members_on_disk"]() - alone:
        return False
    if __salt__["rabbit_host.service_start_time"](service) is None:
        return False
    return _stands_alone_and_empty()


def no_broker(name):
    """
    Tell of RabbitMQ on a host that is no broker any more; stops nothing.

    What only this node has is lost to its clients with it, and who moves that is a person.

    name
        Name of RabbitMQ's service.

    Returns a state's return; it has no changes, and a warning while the service runs or starts
    at boot. Raises nothing: what failed is in ``comment``.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if not __salt__["service.status"](name) and not __salt__["service.enabled"](name):
            ret["comment"] = f"{name} is already stopped and does not start at boot"
            return ret
        ret["comment"] = f"{name} is not stopped here"
        ret["warnings"] = [
            f"{name} runs here, or starts at boot, and pillar has this host as no broker. It stays "
            f"a member until it is stopped. Next: systemctl disable --now {name} here, once its "
            "messages are moved; docs/runbook.md, Take a broker out"
        ]
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], f"looking at {name}", err)
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


def listeners_settled(name, service, ports, left_to_haproxy=False):
    """
    Refuse to move a running node's ports away from where HAProxy is going to look for it.

    The node would not listen elsewhere before its next start, whereas HAProxy acts on it at
    once: it would find no broker. A node that serves nobody, or does not listen for a protocol
    at all, is in nobody's way, and one that stands alone and holds nothing is restarted by
    :func:`configuration_loaded`.

    name
        Path of ``rabbitmq.conf``.
    service
        Name of RabbitMQ's service.
    ports
        Mapping from protocols, as RabbitMQ calls them, to the ports that HAProxy looks for them
        on, as ``rabbit_topology.reached_at`` returns it.
    left_to_haproxy : False
        Boolean: whether HAProxy listens for clients on this host, on the same port.

    Returns a state's return; it has no changes. Raises nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/networking.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        found = _listeners(service)
        elsewhere = _elsewhere(found, ports) or _in_the_way(
            found, service, ports["amqp"] if left_to_haproxy else None
        )
        if not elsewhere:
            ret["comment"] = "The node already listens where HAProxy looks for it, or does not run"
        elif _stands_alone_and_empty():
            ret["comment"] = "The node stands alone, holds nothing and is restarted further on"
        else:
            raise SaltInvocationError(elsewhere)
    except (CommandExecutionError, SaltInvocationError) as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "listeners", err)
    return ret


def _listeners(service):
    """List what the local node listens on; nothing where it does not run."""
    begun = __salt__["rabbit_host.service_has_begun"](service)
    if not begun or not __salt__["rabbitmqctl.installed"]():
        return []
    status = __salt__["rabbitmqctl.node_state"]()["status"]
    if status is None:
        # It may be booting: who needs its state further on asks again.
        __salt__["rabbitmqctl.forget_cached_reads"]()
        return []
    return status["listeners"].get(__salt__["rabbit_topology.node_name"](), [])


def _elsewhere(listeners, ports):
    """Tell in a sentence which protocol a node does not listen for where it should; or None."""
    said_at = {"amqp": "amqp_port", "http": "management_port"}
    for protocol, wanted in ports.items():
        found = sorted({one["port"] for one in listeners if one["protocol"] == protocol})
        if found and wanted not in found:
            there = " and ".join(map(str, found))
            return (
                f"the node runs and listens for {protocol} on port {there}, pillar wants {wanted} "
                f"(rabbit_ha:rabbitmq:{said_at[protocol]}). It is not changed while it runs, as "
                "HAProxy would look for it there at once and find no broker. Next: the port that "
                "there is in pillar, or docs/runbook.md, Other ports of brokers, which changes it "
                "without an outage"
            )
    return None


def _in_the_way(listeners, service, port):
    """Tell in a sentence that a node has a port of all addresses that HAProxy needs; or None."""
    everywhere = ("[::]", "::", "0.0.0.0")
    if not any(one["port"] == port and one["interface"] in everywhere for one in listeners):
        return None
    return (
        f"the node runs and listens on port {port} of all addresses, where HAProxy could not "
        "listen for clients beside it, as the role load_balancer wants. Next, one broker at a "
        f"time: systemctl stop {service} here, then salt {__grains__['id']} state.apply "
        "rabbit_ha.rabbitmq.running, which starts it on this host's own addresses only; then run "
        "again"
    )


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
        # See clients_wait.
        __salt__["rabbit_listeners.suspend"](service)
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
