"""
The Erlang cookie of a broker is the cluster's.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

# What is done before the cookie is written.
_BEFORE = ("definitions", "forgotten_by")


def synced(name, service, source, sealed=None, discard_local_data=False):
    """
    Give this broker the cluster's Erlang cookie.

    The node is stopped while its cookie changes, and only if it changes. The file
    belongs to RabbitMQ's user, mode 0400; what was there is kept beside it.

    name
        Says what for; shown in the output only.
    service
        Name of RabbitMQ's service.
    source
        ``pillar``: the cookie is pillar's ``rabbit_ha:rabbitmq:erlang_cookie``;
        ``seed``: the orchestration carries the seed's cookie here; ``self``: this
        is the seed, whose own cookie is the cluster's.
    sealed : None
        With ``seed``, what ``rabbit_cookie.seal`` made on the seed for this
        minion; without it nothing is changed. With ``self`` likewise, made on
        a member of the cluster that a new seed, or one installed anew, joins.
    discard_local_data : False
        Boolean: whether a node that holds anything may be stopped: it has transient messages
        to lose. Allows nothing once it was used up, see ``rabbit_cluster.joined``.

    Where the cluster still lists this node, which was installed anew, it forgets it first.

    Returns a state's return: ``changes`` maps ``erlang_cookie`` to what happened and ``backup`` to
    a path, or None; or ``mode`` to who may read the file now; ``forgotten_by`` to the member that
    forgot this node, if one did, and ``definitions`` to the file with those from before that,
    both after a failure, too. Never the cookie. Raises nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/clustering#erlang-cookie.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    if source == "self" and sealed is None:
        ret["comment"] = "This is the seed: its Erlang cookie is already the cluster's"
        return ret
    try:
        if source == "seed" and sealed is None:
            if __opts__["test"] and not __salt__["rabbitmqctl.installed"]():
                return _would_be_written(ret)
            ret["comment"] = (
                "Nothing to do here: the orchestration carries the seed's Erlang cookie to this "
                "broker, salt-run state.orchestrate orch.rabbit_ha"
            )
            return ret
        if not __salt__["rabbitmqctl.installed"]():
            if not __opts__["test"]:
                raise CommandExecutionError(
                    "RabbitMQ is not installed. Next: state.apply rabbit_ha.rabbitmq.installed"
                )
            return _would_be_written(ret)
        if __salt__["rabbit_cookie.matches"](sealed):
            return _protected(ret)
        used = __salt__["rabbit_notes.fetch"]("local_data_discarded")
        _refuse_where_it_hurts(service, source, discard_local_data and not used)
        if __opts__["test"]:
            return _would_be_written(ret)
        # Before the cookie is here: a run that fails or is killed leaves a node that no one knows
        # by it, and the next run goes on.
        stood_alone = _stands_alone()
        if stood_alone:
            _have_former_self_forgotten(sealed, ret["changes"])
        # One that boots has read its cookie already.
        was_running = __salt__["rabbit_host.service_has_begun"](service)
        if was_running:
            __salt__["rabbit_host.systemctl"]("stop", service)
        left = "with the cookie from before"
        try:
            backup = __salt__["rabbit_cookie.write"](sealed)
            left = "with the cluster's cookie"
        except CommandExecutionError as err:
            left += f" ({err})"
            raise
        finally:
            # Started also after a failed write: a broker that ran goes on running.
            if was_running:
                __salt__["rabbit_host.systemctl"]("start", service, left)
        __salt__["rabbitmqctl.forget_cached_reads"]()
        if not __salt__["rabbit_cookie.matches"](sealed):
            raise CommandExecutionError("the cookie was written, yet reads differently")
        ret["changes"] |= {"erlang_cookie": "replaced by the cluster's", "backup": backup}
        if stood_alone and was_running:
            # It was started again.
            __salt__["rabbit_listeners.suspend"](service)
        ret["comment"] = "The Erlang cookie has been replaced by the cluster's"
    except (CommandExecutionError, SaltInvocationError) as err:
        # What was kept before it has to be found.
        kept = {key: ret["changes"][key] for key in _BEFORE if key in ret["changes"]}
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "cookie sync", err, kept)
    return ret


def _stands_alone():
    """Tell whether the local node runs and knows no other member."""
    status = __salt__["rabbitmqctl.node_state"]()["status"]
    me = __salt__["rabbit_topology.node_name"]()
    return bool(status) and __salt__["rabbit_membership.listed_in"](status) == {me}


def _have_former_self_forgotten(sealed, changes):
    """
    Have the cluster forget what this node was before its disk was replaced.

    With Khepri the others would take the node that starts with their cookie for the one that
    they know: it does not boot ("leader_saw_append_entries_rpc_in_same_term"), or votes without
    knowing what it had confirmed. With its own cookie it is none that runs to them.
    """
    if __salt__["rabbit_membership.metadata_store"]() is None:
        return
    me = __salt__["rabbit_topology.node_name"]()
    __salt__["rabbit_cookie.lend"](sealed)
    try:
        for contact in __salt__["rabbit_topology.contacts"]():
            status = _state_of(contact)["status"] if contact != me else None
            if status and me in __salt__["rabbit_membership.listed_in"](status):
                kept = __salt__["rabbit_backup.write_definitions"]("before forgetting", contact)
                changes["definitions"] = kept
                __salt__["rabbit_membership.forget_former_self"](contact)
                changes["forgotten_by"] = contact
                return
    finally:
        __salt__["rabbit_cookie.take_back"]()


def _protected(ret):
    """See that nobody else reads the right cookie; the node goes on running."""
    if __salt__["rabbit_cookie.has_right_mode"]():
        ret["comment"] = "The Erlang cookie is already the cluster's"
        return ret
    ret["changes"] = {"mode": "RabbitMQ's user alone, 0400"}
    if __opts__["test"]:
        ret.update(result=None, comment="The Erlang cookie would have been made private")
        return ret
    __salt__["rabbit_cookie.protect"]()
    if not __salt__["rabbit_cookie.has_right_mode"]():
        raise CommandExecutionError("the cookie file was protected, yet others can read it")
    ret["comment"] = "The Erlang cookie has been made private"
    return ret


def _would_be_written(ret):
    """Fill a return for test mode."""
    ret.update(
        result=None,
        changes={"erlang_cookie": "would be replaced by the cluster's"},
        comment="The Erlang cookie would have been replaced by the cluster's",
    )
    return ret


def _refuse_where_it_hurts(service, source, discard_local_data):
    """Raise where a running member would lose the others, or a node what it holds."""
    # A whole run would start it before it carries the cookie.
    then = "run again" if source == "pillar" else "salt-run rabbit_ha.sync_cookie"
    node = __salt__["rabbitmqctl.node_state"]()
    if node["state"] == "unreachable":
        raise CommandExecutionError(
            f"this broker runs and does not answer ({node['said']}), so it is not known what it "
            "holds, and it stops while its cookie changes. Next: rabbitmq-diagnostics ping here, "
            "then run again"
        )
    if node["state"] == "cookie mismatch" and not discard_local_data:
        raise CommandExecutionError(
            "this broker runs with another cookie than the one in its file, so it is not known "
            "what it holds, and it stops while its cookie changes. If it may stop: systemctl stop "
            f"{service} here, one broker after another, then run again"
        )
    others = _others_with_its_cookie(node)
    if others:
        keep = "take rabbit_ha:rabbitmq:erlang_cookie out of pillar"
        if source != "pillar":
            keep = "name one of them rabbit_ha:seed"
        raise CommandExecutionError(
            f"this broker is a member together with {', '.join(others)}; with another "
            "cookie it would lose them. The cookie of a running cluster changes only while all "
            f"its nodes are stopped: stop {service} on every broker, then {then}, or keep the "
            f"present cookie: {keep}"
        )
    if not node["status"]:
        return
    content = [] if discard_local_data else __salt__["rabbit_membership.local_content"]()
    if content:
        raise CommandExecutionError(
            f"this broker holds {', '.join(content)}, and stops while its cookie changes. If it "
            f"may stop: systemctl stop {service} here, then {then}; if it is to join others "
            f"and all of that may go: rabbit_ha:hosts:{__grains__['id']}:discard_local_data: true"
        )


def _others_with_its_cookie(node):
    """List the members of this broker's cluster that do not refuse its present cookie."""
    me = __salt__["rabbit_topology.node_name"]()
    if node["status"]:
        others = __salt__["rabbit_membership.listed_in"](node["status"]) - {me}
        # Those that may be off for a while would find it changed.
        return [one for one in sorted(others) if _state_of(one)["state"] != "cookie mismatch"]
    found = []
    for other in __salt__["rabbit_topology.contacts"]():
        status = _state_of(other)["status"] if other != me else None
        if status and me in __salt__["rabbit_membership.listed_in"](status):
            found.append(other)
    return found


def _state_of(node):
    """Ask another node with the cookie that this host has."""
    return __salt__["rabbitmqctl.node_state"](node)
