"""
What this host sees right now of the brokers, of HAProxy and of the address.
"""

import csv
import io
import os
import socket

import salt.utils.files
from salt.exceptions import CommandExecutionError

# What a broker's state means to a person; rabbitmqctl's own words are about its options.
_MEANS = {
    "app stopped": "it is booting, or was stopped. Next: rabbitmqctl start_app",
    "node not running": "it was stopped, or has failed. Next: systemctl status {service}",
    "unreachable": "it runs and did not answer in time. Next: rabbitmq-diagnostics ping",
    "cookie mismatch": (
        "it runs with another Erlang cookie than its file has. Next: salt-run rabbit_ha.plan"
    ),
}


def host():
    """
    Report everything that this host's roles let it see.

    Returns a mapping with ``broker`` (see :func:`broker`) and ``load_balancer``
    (see :func:`load_balancer`), each only where the host has that role.

    CLI Example:

    .. code-block:: bash

        salt '*' rabbit_report.host
    """
    __salt__["rabbit_topology.use_current_pillar"]()
    reports = {"broker": _broker, "load_balancer": load_balancer}
    return {role: reports[role]() for role in __salt__["rabbit_topology.roles"]()}


def broker():
    """
    Report what the local broker sees of its cluster.

    Returns a mapping with ``version``, ``members``, ``running`` (node names),
    ``alarms`` and ``partitions`` (lists of strings), ``cluster_name``,
    ``waits_for_restart`` (boolean: its configuration was written since it started) and
    ``under_maintenance`` (boolean: somebody drained it);
    where the node does not run, ``error`` and ``state`` (as ``rabbitmqctl.node_state``
    has it) instead.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_report.broker
    """
    __salt__["rabbit_topology.use_current_pillar"]()
    return _broker()


def _broker():
    """Do what :func:`broker` does, with the pillar this job works with."""
    try:
        found = __salt__["rabbitmqctl.node_state"]()
    except CommandExecutionError as err:
        return {"error": str(err), "state": None}
    rabbitmq = __salt__["rabbit_topology.settings"]()["rabbitmq"]
    if found["status"] is None:
        means = _MEANS[found["state"]].format(service=rabbitmq["service"])
        return {"error": f"{found['state']}: {means}", "state": found["state"]}
    status = found["status"]
    me = __salt__["rabbit_topology.node_name"]()
    if me not in status["versions"]:
        names = ", ".join(sorted(status["versions"]))
        error = f"the node that runs here is none of the topology's: {names}, not {me}"
        return {"error": f"{error}. Next: hostname", "state": None}
    # RabbitMQ 3.10 colours it in JSON, too.
    maintenance = status["maintenance_status"].get(me, "")
    return {
        "version": status["versions"][me]["rabbitmq_version"],
        "cluster_name": status["cluster_name"],
        "members": sorted(__salt__["rabbit_membership.listed_in"](status)),
        "running": sorted(status["running_nodes"]),
        "alarms": [_alarm(alarm) for alarm in status["alarms"]],
        "partitions": sorted({peer for peers in status["partitions"].values() for peer in peers}),
        "waits_for_restart": __salt__["rabbit_host.runs_since_before"](
            rabbitmq["service"], f"{rabbitmq['config_dir']}/rabbitmq.conf"
        ),
        "under_maintenance": "marked for maintenance" in maintenance,
    }


def _alarm(alarm):
    """Put an alarm into words."""
    if isinstance(alarm, dict):
        return f"{alarm.get('resource', alarm.get('type'))} on {alarm.get('node')}"
    return str(alarm)


def load_balancer():
    """
    Report what HAProxy here sees of the brokers, and whether this host holds the address.

    Returns a mapping with ``haproxy`` (``running`` or what is wrong), ``servers``
    (mapping from broker to HAProxy's word, such as ``UP``), ``vrrp`` (as
    :func:`vrrp_states`) and ``holds`` (list of virtual addresses).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_report.load_balancer
    """
    settings = __salt__["rabbit_topology.settings"]()
    report = {"haproxy": "running", "servers": {}}
    try:
        report["servers"] = haproxy_servers(settings["haproxy"]["runtime_socket"])
    except OSError as err:
        report["haproxy"] = f"not answering: {err}"
    report["holds"] = __salt__["rabbit_host.held_addresses"](
        __utils__["rabbit_settings.virtual_addresses"](settings)
    )
    report["vrrp"] = vrrp_states()
    return report


def haproxy_servers(path="/run/haproxy-rabbit_ha.sock", timeout=5):
    """
    Ask HAProxy's runtime socket what it sees of the brokers.

    path : /run/haproxy-rabbit_ha.sock
        The socket.
    timeout : 5
        Seconds to wait for an answer.

    Returns a mapping from server name to status, such as ``UP`` or ``DOWN``.

    Raises OSError when HAProxy does not answer.

    See http://docs.haproxy.org/2.6/management.html#9.3 (show stat).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_report.haproxy_servers
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(b"show stat\n")
        with connection.makefile(encoding="utf-8") as answer:
            text = answer.read()
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return {
        row["svname"]: row["status"]
        for row in rows
        if row["pxname"] == "rabbitmq_cluster" and row["svname"] not in ("FRONTEND", "BACKEND")
    }


def vrrp_states():
    """
    Tell the state of this load balancer in each VRRP instance.

    keepalived tells it whenever it enters one. One that was running before it was asked
    to has told nothing until then: it is ``MASTER`` where it holds the instance's
    addresses, and else ``unknown``.

    Returns a mapping from the instance's name to ``MASTER``, ``BACKUP``, ``FAULT``,
    ``unknown`` or ``keepalived not running``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_report.vrrp_states
    """
    settings = __salt__["rabbit_topology.settings"]()
    keepalived = __utils__["rabbit_settings.keepalived_of"](settings, __grains__["id"])
    invocation = __salt__["rabbit_host.service_invocation"](keepalived["service"])
    found = {}
    for name, vrrp in keepalived["instances"].items():
        addresses = __utils__["rabbit_settings.addresses_of"](vrrp)
        if not invocation:
            found[name] = "keepalived not running"
            continue
        told = _told_state(os.path.join(keepalived["state_dir"], name), invocation)
        holds = __salt__["rabbit_host.held_addresses"](addresses) == addresses
        found[name] = told or ("MASTER" if holds else "unknown")
    return found


def _told_state(path, invocation):
    """Read the state that this start of keepalived told last; None where it told none."""
    try:
        with salt.utils.files.fopen(path, encoding="utf-8") as handle:
            state, _, told_by = handle.read().strip().partition(" ")
    except FileNotFoundError:
        return None
    return state if told_by == invocation else None
