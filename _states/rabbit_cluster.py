"""
Membership and name of the RabbitMQ cluster.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

# What an operator can do where a join would be unsafe.
_WAY_OUT = {
    "standalone, with content": (
        "Move what is needed off this node (rabbitmqctl export_definitions), then delete it here"
    ),
    "forgotten by the cluster": (
        "If nothing on this node is needed: rabbitmqctl stop_app && rabbitmqctl force_reset, "
        "then run again"
    ),
    "ghost in the cluster": (
        "On {contact}: rabbitmqctl forget_cluster_node {node} (stop rabbitmq-server here "
        "first), then run again"
    ),
    "other cluster": "Correct the topology in pillar, or take this node out of its cluster by hand",
    "partitioned": (
        "Find the side with the majority (rabbitmqctl cluster_status on each broker) and restart "
        "rabbitmq-server on the other side"
    ),
    "cookie mismatch": "salt-run state.orchestrate orch.rabbit_ha",
    "seed unreachable": "On {contacts}: systemctl status rabbitmq-server",
    "node not running": "journalctl -u rabbitmq-server",
}


def joined(name, contacts, service, timeout=60, cookie_is_carried=False):
    """
    Make this broker a running member of the cluster, if that is safe.

    What to do is decided from what this node and another member both say, see
    ``rabbit_membership.verdict``. An interrupted join is finished; what a join
    would delete is never deleted; a failed join leaves the app running where it
    ran.

    name
        Erlang node name of the seed.
    contacts
        List of the Erlang node names of all brokers, the seed first.
    service
        Name of RabbitMQ's service.
    timeout : 60
        Seconds to wait for a contact that cannot be reached.
    cookie_is_carried : False
        True where the orchestration carries the seed's cookie here and has not
        done so in this run: then a node that the others do not know yet is left
        alone, which is no failure.

    See https://www.rabbitmq.com/docs/clustering.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if not __salt__["rabbitmqctl.installed"]():
            if not __opts__["test"]:
                raise CommandExecutionError(
                    "RabbitMQ is not installed. Next: state.apply rabbit_ha.rabbitmq.installed"
                )
            return _predicted(ret, name, f"would have joined {name}")
        if cookie_is_carried or __opts__["test"]:
            timeout = 0
        found = __salt__["rabbit_membership.await_verdict"](contacts, timeout)
        if found["verdict"] == "node not running":
            if __opts__["test"]:
                return _predicted(ret, name, f"{service} would have been started")
            found = _started(service, contacts, timeout)
            ret["changes"]["service"] = "started"
        _settle(ret, name, found, contacts, cookie_is_carried)
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=f"{__grains__['id']}: joining {name}: {err}")
    return ret


def _predicted(ret, name, comment):
    """Fill a return for test mode."""
    ret.update(result=None, changes={"cluster": {"new": name}}, comment=comment)
    return ret


def _started(service, contacts, timeout):
    """Start the service and judge again, now that membership can be judged."""
    __salt__["service.start"](service)
    __salt__["rabbitmqctl.forget_cached_reads"]()
    return __salt__["rabbit_membership.await_verdict"](contacts, timeout)


def _settle(ret, name, found, contacts, cookie_is_carried):
    """Do what the verdict asks for, or refuse."""
    verdict = found["verdict"]
    alone = len(found["members"]) < 2
    if verdict in ("joined", "seed"):
        ret["comment"] = f"already a member: {found['detail']}"
    elif cookie_is_carried and verdict in ("cookie mismatch", "seed unreachable") and alone:
        comment = (
            f"not a member yet ({found['detail']}): the orchestration carries the seed's cookie "
            "here and then joins. Next: salt-run state.orchestrate orch.rabbit_ha"
        )
        if __opts__["test"]:
            _predicted(ret, name, comment)
        else:
            ret["comment"] = comment
    elif verdict == "app stopped, member":
        if __opts__["test"]:
            _predicted(ret, name, f"the app would have been started: {found['detail']}")
            return
        __salt__["rabbitmqctl.start_app"]()
        _verify(contacts)
        ret["changes"]["app"] = "started"
        ret["comment"] = "the app has been started; the node is a member"
    elif verdict in ("standalone, empty", "app stopped, not a member"):
        if __opts__["test"]:
            _predicted(ret, name, f"would have joined {found['contact']}: {found['detail']}")
            return
        _join(found["contact"], app_runs=verdict == "standalone, empty")
        members = _verify(contacts)
        ret["changes"]["cluster"] = {"new": members}
        ret["comment"] = f"has joined {found['contact']}"
    else:
        way_out = _WAY_OUT[verdict].format(
            contact=found["contact"],
            contacts=", ".join(contacts),
            node=__salt__["rabbit_topology.node_name"](),
        )
        raise CommandExecutionError(f"{verdict}: {found['detail']}. {way_out}")


def _join(contact, app_runs):
    """Join a contact; on failure leave the app running where it ran."""
    if app_runs:
        __salt__["rabbitmqctl.stop_app"]()
    try:
        __salt__["rabbitmqctl.join_cluster"](contact)
    except CommandExecutionError:
        if app_runs:
            __salt__["rabbitmqctl.start_app"]()
        raise
    __salt__["rabbitmqctl.start_app"]()


def _verify(contacts):
    """Read both sides again; return the members, or raise where they disagree."""
    found = __salt__["rabbit_membership.verdict"](contacts)
    if found["verdict"] not in ("joined", "seed"):
        raise CommandExecutionError(
            f"done, yet the node is not a member: {found['verdict']}: {found['detail']}"
        )
    return found["members"]


def named(name):
    """
    Name the cluster.

    name
        The cluster's name.

    See https://www.rabbitmq.com/docs/clustering#cluster-name.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if __opts__["test"] and not __salt__["rabbitmqctl.is_running"]():
            ret.update(
                result=None,
                changes={"cluster_name": {"new": name}},
                comment=f"The cluster would have been named {name}",
            )
            return ret
        current = __salt__["rabbitmqctl.cluster_status"]()["cluster_name"]
        if current == name:
            ret["comment"] = f"The cluster is already named {name}"
            return ret
        ret["changes"] = {"cluster_name": {"old": current, "new": name}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"The cluster would have been named {name}")
            return ret
        __salt__["rabbitmqctl.set_cluster_name"](name)
        if __salt__["rabbitmqctl.cluster_status"]()["cluster_name"] != name:
            raise CommandExecutionError(
                "set_cluster_name reported success, yet the name is as it was"
            )
        ret["comment"] = f"The cluster has been named {name}"
    except CommandExecutionError as err:
        ret.update(
            result=False, changes={}, comment=f"{__grains__['id']}: naming the cluster: {err}"
        )
    return ret
