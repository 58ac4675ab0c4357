"""
Membership, node types and name of the RabbitMQ cluster.
"""

import contextlib
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

# What an operator can do where nothing safe is left to do here.
_WAY_OUT = {
    "standalone, with content": (
        "Move what is needed off this node (rabbitmqctl export_definitions), then delete it "
        "here; or let it go: rabbit_ha:hosts:{host}:discard_local_data: true allows that once"
    ),
    "forgotten by the cluster": (
        "Save what is needed; rabbit_ha:hosts:{host}:discard_local_data: true then allows, once, "
        "to set this node's data aside and to join anew"
    ),
    "not listed by a node that stands alone": (
        "If {contact} lost its data, this node's counts: stop {service} there, start it "
        "here, then salt-run state.orchestrate orch.rabbit_ha has it join. Only if {contact} has "
        "what counts: rabbit_ha:hosts:{host}:discard_local_data: true sets this node's data "
        "aside, once, and has it join anew"
    ),
    "other cluster": (
        "Correct the topology in pillar, name the members that are gone for good in "
        "rabbit_ha:rabbitmq:absent_members, or take this node out of its cluster by hand"
    ),
    "partitioned": "Then run again",
    "cookie mismatch": "Next: {cookie_step}, then run again",
    "seed unreachable": "Next, on {others}: systemctl status {service}",
    "node not running": "Next: journalctl -u {service}",
    "running, but not answering": (
        "Next: rabbitmq-diagnostics ping here, then run again; if it goes on, "
        "systemctl restart {service} here"
    ),
    "older or newer than the cluster allows": (
        "Install on this host the RabbitMQ that the others run, or upgrade them first"
    ),
}
_PREDICTED = {
    "app stopped, member": "the app would have been started",
    "app stopped, not a member": "the app would have been started, then judged again",
    "node not running": "{service} would have been started, then judged again",
    "standalone, empty": "would have joined {contact}",
    "standalone, with content": "would have joined {contact} and discarded what is here",
    "ghost in the cluster": "would have had {contact} forget the old node, then joined",
    "forgotten by the cluster": "would have set this node's data aside and joined {contact}",
    "not listed by a node that stands alone": (
        "would have set this node's data aside and joined {contact}"
    ),
}


def joined(
    name,
    contacts,
    service,
    timeout=60,
    cookie_is_carried=False,
    node_type=None,
    discard_local_data=False,
):
    """
    Make this broker a running member of the cluster, if that is safe.

    What to do is decided from what this node and another member both say, see
    ``rabbit_membership.verdict``. An interrupted join is finished; what a join
    would delete is not deleted unless that is allowed; a failed join leaves the
    app running where it ran. Before a join or a forgetting the definitions are
    kept, see ``rabbit_backup.write_definitions``.

    name
        Erlang node name of the seed.
    contacts
        List of the Erlang node names of all brokers, the seed first.
    service
        Name of RabbitMQ's service.
    timeout : 60
        Seconds to wait for a contact that cannot be reached, or for the node to boot or to
        answer.
    cookie_is_carried : False
        Boolean: True where the orchestration carries the seed's cookie and has not done so
        in this run: then a node that stands alone is left alone, which is no failure.
    node_type : disc at the join
        ``disc`` or ``ram``, as which to join; a member keeps its type here, see
        :func:`node_type`.
    discard_local_data : False
        Boolean: let a join delete what this node holds, once: until the node is a member, of
        the type that ``node_type`` names. To allow it again, it has to be False in a run between,
        or the note ``local_data_discarded`` is deleted (``rabbit_notes.delete``).

    Returns a state's return. Its ``changes`` have what was done of: ``service`` and ``app``
    (``started``), ``cluster`` (``old`` and ``new``), ``members`` (list of Erlang node names),
    ``backup`` (path of the definitions), ``set_aside`` (folder of the data), ``discarded``,
    ``quorum_queues`` and ``streams`` (lists of what was lost, or got its replica back),
    ``discard_local_data`` (what became of the permission) and ``clients`` (``let in``); after a
    failure, too. Raises nothing: what failed is in ``comment``.

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
        used = __salt__["rabbit_notes.fetch"]("local_data_discarded")
        wanted = {
            "contacts": contacts,
            "service": service,
            "timeout": 0 if __opts__["test"] else timeout,
            "timeout_alone": 0 if cookie_is_carried or __opts__["test"] else timeout,
            "ram": node_type == "ram",
            "type": node_type,
            # A permission that was used up is none.
            "may_discard": discard_local_data and not used,
        }
        found = _awaited_verdict(wanted)
        if cookie_is_carried and _waits_for_the_cookie(found):
            comment = (
                f"cannot be judged yet ({found['detail']}): the orchestration carries the seed's "
                "cookie here and then joins. Next: salt-run state.orchestrate orch.rabbit_ha"
            )
            if __opts__["test"]:
                return _predicted(ret, name, comment)
            ret["comment"] = comment
            return ret
        if __opts__["test"] and found["verdict"] == "running, but not answering":
            return _predicted(ret, name, f"would have been judged again: {_refusal(found, wanted)}")
        if __opts__["test"] and _waits_for_others(found):
            return _predicted(ret, name, f"would have been judged again: {found['detail']}")
        _settle(ret, name, found, wanted)
        renews = used and not discard_local_data
        if __opts__["test"]:
            _predict_the_rest(ret, wanted, renews)
        elif ret["result"]:
            _return_to_the_stream_coordinator(ret)
            _replace_member_without_replicas(ret, wanted)
            _return_replicas(ret, wanted["contacts"])
            if wanted["may_discard"] and not _is_to_change_its_type(wanted):
                _use_up_the_permission(ret)
            elif renews:
                __salt__["rabbit_notes.delete"]("local_data_discarded")
                ret["changes"]["discard_local_data"] = "may be allowed anew"
            _let_clients_in(ret, service)
    except (CommandExecutionError, SaltInvocationError) as err:
        __utils__["rabbit_failures.failed"](
            ret, __grains__["id"], f"joining {name}", err, ret["changes"]
        )
    return ret


def _let_clients_in(ret, service):
    """Let clients in to a member that kept them waiting until it was one."""
    if not __salt__["rabbit_listeners.suspended"](service):
        if not __opts__["test"]:
            # Who suspends them from now on does so on purpose.
            __salt__["rabbit_notes.delete"]("listeners_suspended")
        return
    ret["changes"]["clients"] = "let in"
    if __opts__["test"]:
        ret["comment"] += "; clients would have been let in"
        return
    __salt__["rabbit_listeners.resume"](service)
    ret["comment"] += "; clients are let in"


def _use_up_the_permission(ret):
    """Note that ``discard_local_data`` has allowed what it does."""
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    __salt__["rabbit_notes.write"]("local_data_discarded", now)
    ret["changes"]["discard_local_data"] = "used up"


def _is_to_change_its_type(wanted):
    """Tell whether :func:`node_type` is still to reset this member, which may need permission."""
    return wanted["type"] and wanted["type"] != _type_of(__salt__["rabbit_topology.node_name"]())


def _predicted(ret, name, comment):
    """Fill a return for test mode."""
    ret.update(result=None, changes={"cluster": {"new": name}}, comment=comment)
    return ret


def _waits_for_the_cookie(found):
    """
    Tell whether a node cannot be judged before it has the cookie.

    Where it stands alone that is no failure. A member that others refuse is broken, which a
    plan leaves to the run: that carries the cookie before it judges.
    """
    if __opts__["test"] and found["verdict"] == "cookie mismatch" and not _is_me(found["contact"]):
        return True
    verdicts = ("cookie mismatch", "seed unreachable")
    return found["verdict"] in verdicts and len(found["members"]) < 2


def _is_me(node):
    """Tell whether an Erlang node name is the local node's."""
    return node == __salt__["rabbit_topology.node_name"]()


def _waits_for_others(found):
    """
    Tell whether this is a member that can be judged only once another one answers.

    They may hang, for a minute after one lost its power, or be installed anew in this run.
    """
    return found["verdict"] == "seed unreachable" and len(found["members"]) > 1


def _settle(ret, name, found, wanted):
    """Act on the verdict and judge again, until the node is a member or nothing safe is left."""
    seen = set()
    while found["verdict"] not in seen:
        seen.add(found["verdict"])
        if found["verdict"] == "seed":
            _tell_of_members_not_in_pillar(ret, found["members"], wanted)
        if found["verdict"] in ("joined", "seed"):
            if ret["changes"]:
                ret["comment"] = f"has become a member: {found['detail']}"
                ret["changes"]["members"] = found["members"]
            else:
                ret["comment"] = f"already a member: {found['detail']}"
            return
        action = _ACTIONS.get(found["verdict"])
        if action is None or (found["content"] and not wanted["may_discard"]):
            raise CommandExecutionError(_refusal(found, wanted))
        if wanted["ram"] and action in (_join, _replace_ghost):
            # With Khepri it is refused only after this node was reset.
            __salt__["rabbit_membership.require_ram_nodes"](found["contact"])
        if __opts__["test"]:
            if action in (_join, _replace_ghost, _set_aside):
                __salt__["rabbit_replicas.require_none"](found["contact"], predict=True)
            said = _PREDICTED[found["verdict"]].format(**_words(found, wanted))
            _predicted(ret, name, f"{said}: {found['detail']}")
            return
        action(found, wanted, ret["changes"])
        if "discarded" in ret["changes"]:
            _use_up_the_permission(ret)
        __salt__["rabbitmqctl.forget_cached_reads"]()
        found = _awaited_verdict(wanted)
    raise CommandExecutionError(
        f"done what can be done, yet the node is not a member: {_refusal(found, wanted)}"
    )


def _tell_of_members_not_in_pillar(ret, members, wanted):
    """Warn of members that nobody takes out by himself."""
    unknown = __salt__["rabbit_membership.not_in_pillar"](members, wanted["contacts"])
    if unknown:
        ret.setdefault("warnings", []).append(
            f"{', '.join(unknown)}: a member of the cluster, and no broker in pillar. Next: add it "
            "to rabbit_ha:hosts with the role broker, or name it in "
            "rabbit_ha:rabbitmq:absent_members to have it forgotten"
        )


def _awaited_verdict(wanted):
    """Judge, once there is another side, if it is worth waiting for."""
    return __salt__["rabbit_membership.await_verdict"](
        wanted["contacts"], wanted["timeout"], timeout_alone=wanted["timeout_alone"]
    )


def _words(found, wanted):
    """Give what the sentences for people are filled with."""
    return {
        "contact": found["contact"],
        "others": _hosts([node for node in wanted["contacts"] if not _is_me(node)]),
        "cookie_step": _cookie_step(),
        "service": wanted["service"],
        "host": __grains__["id"],
    }


def _cookie_step():
    """Say what brings the cluster's Erlang cookie to this broker, and nothing else."""
    if __salt__["rabbit_topology.erlang_cookie_source"]() == "pillar":
        return f"salt {__grains__['id']} state.apply rabbit_ha.rabbitmq.cookie"
    return "salt-run rabbit_ha.sync_cookie"


def _refusal(found, wanted):
    """Say what was found and what to do."""
    said = f"{found['verdict']}: {found['detail']}"
    if found["content"] and not said.endswith(", ".join(found["content"])):
        said += f"; it holds {', '.join(found['content'])}"
    if found["content"]:
        said += _used_up()
    way_out = _WAY_OUT.get(found["verdict"], "Next: rabbitmqctl cluster_status on each broker")
    if found["verdict"] == "cookie mismatch" and _is_me(found["contact"]):
        way_out = "Next: systemctl restart {service} here, one broker after another, then run again"
    return f"{said}. {way_out.format(**_words(found, wanted))}"


def _used_up():
    """Say how to allow what was allowed once, and used."""
    used = __salt__["rabbit_notes.fetch"]("local_data_discarded")
    if not used:
        return ""
    return (
        f". discard_local_data was used on {used}: to allow it again, "
        f"salt {__grains__['id']} rabbit_notes.delete local_data_discarded"
    )


def _start_service(found, wanted, changes):
    """Start the service and wait until the node has booted, or can be judged otherwise."""
    __salt__["rabbit_host.systemctl"]("start", wanted["service"], no_block=True)
    changes["service"] = "started"
    __salt__["rabbitmqctl.await_boot"](wanted["timeout"])


def _start_app(found, wanted, changes):
    """Start the app; what the node holds shows only then."""
    try:
        __salt__["rabbitmqctl.start_app"](timeout=wanted["timeout"])
    except CommandExecutionError as err:
        # One that waits in vain for members which do not list it knows them by now.
        known = __salt__["rabbitmqctl.known_members"]()
        is_member = found["verdict"] == "app stopped, member"
        if is_member or found["contact"] not in known:
            way_out = (
                f"It may only be slow (rabbit_ha:rabbitmq:join_timeout is {wanted['timeout']} s). "
                f"Next: journalctl -u {wanted['service']}, then run again"
            )
            # What the others say, if they cannot be judged, is not why the app did not start.
            with contextlib.suppress(CommandExecutionError):
                way_out = (
                    is_member and _waits_for_members_away(wanted["service"], known)
                ) or way_out
            raise CommandExecutionError(f"{found['verdict']}: {err}. {way_out}") from err
        forgotten = __salt__["rabbit_membership.forgotten_by"](found["contact"], found["members"])
        if forgotten["content"] and not wanted["may_discard"]:
            raise CommandExecutionError(_refusal(forgotten, wanted)) from None
        _set_aside(forgotten, wanted, changes)
    changes["app"] = "started"


def _waits_for_members_away(service, known):
    """
    Say what to do where a node waits for other members and none of them can be there.

    known
        Set of the members as the node counts them where no file names them.

    Returns None where one of them runs, or the node has no others.
    """
    on_disk = __salt__["rabbit_membership.members_on_disk"]()
    others = sorted(node for node in on_disk or known if not _is_me(node))
    states = {__salt__["rabbitmqctl.node_state"](node)["state"] for node in others}
    if not others or not states <= {"node not running", "unreachable"}:
        return None
    said = (
        f"It waits for {', '.join(others)}, of which none runs or can be reached. Next: start "
        f"{service} on {_hosts(others)}, then run again"
    )
    if not on_disk:
        return f"{said}; from RabbitMQ 4.3 on it needs a majority of the members"
    host = __grains__["id"]
    forget = f"salt {host} state.single rabbit_cluster.member_absent offline=true name="
    return (
        f"{said}. If they are gone for good, and none runs where this node does not see it: "
        f"salt {host} service.stop {service}, then {', '.join(forget + node for node in others)}, "
        f"then salt {host} service.start {service}, before any other starts; what only they have "
        "is lost (docs/runbook.md, All brokers were off)"
    )


@contextlib.contextmanager
def _app_stopped():
    """
    Stop the app for a while; it is started again however that goes.

    Also where a state is interrupted: while RabbitMQ still does what it was told before,
    ``start_app`` is refused and does no harm, and the next run starts the app. A job that Salt
    kills gets no chance to.
    """
    try:
        __salt__["rabbitmqctl.stop_app"]()
        yield
    except BaseException as err:
        try:
            __salt__["rabbitmqctl.start_app"]()
        except CommandExecutionError as second:
            if isinstance(err, (CommandExecutionError, SaltInvocationError)):
                raise CommandExecutionError(f"{err}; after that {second}") from err
            err.add_note(f"After that {second}")
        raise
    __salt__["rabbitmqctl.start_app"]()


def _join(found, wanted, changes):
    """Join the contact; on failure leave the app running."""
    reason = "before discarding local data" if found["content"] else "before joining"
    changes["backup"] = __salt__["rabbit_backup.write_definitions"](reason)
    if __salt__["rabbit_topology.node_name"]() in found["members"]:
        _replace_ghost(found, wanted, changes)
        return
    _discard(wanted, changes)
    with _app_stopped():
        # A run that failed may have had this node forgotten while queues still counted on it.
        __salt__["rabbit_replicas.require_none"](found["contact"])
        __salt__["rabbitmqctl.join_cluster"](found["contact"], wanted["ram"])
    changes["cluster"] = {"old": "alone", "new": f"with {found['contact']}"}


def _discard(wanted, changes):
    """Look once more at what the node holds, right before that is deleted."""
    content = __salt__["rabbit_membership.local_content"]()
    if content and not wanted["may_discard"]:
        way_out = _WAY_OUT["standalone, with content"].format(host=__grains__["id"])
        raise CommandExecutionError(
            f"a client has just made what joining would delete: {', '.join(content)}. {way_out}"
        )
    if content:
        changes["discarded"] = content


def _replace_ghost(found, wanted, changes):
    """Have the contact forget this node as it was before it lost its data, then join."""
    contact = found["contact"]
    backup = __salt__["rabbit_backup.write_definitions"]("before forgetting", contact)
    changes.setdefault("backup", backup)
    _discard(wanted, changes)
    _rejoin(contact, wanted)
    changes["cluster"] = {"old": "listed, but without its data", "new": f"with {contact}"}


def _rejoin(contact, wanted):
    """Have the contact forget this node as it was, and join it again."""
    # A member that runs is not forgotten.
    with _app_stopped():
        __salt__["rabbit_membership.forget_former_self"](contact)
        __salt__["rabbitmqctl.join_cluster"](contact, wanted["ram"])


def _return_to_the_stream_coordinator(ret):
    """Have RabbitMQ add this member anew that is back, where it waits for what it was before."""
    contacts = __salt__["rabbit_notes.fetch"]("returns_to")
    if not contacts:
        return
    me, contact = __salt__["rabbit_topology.node_name"](), contacts[0]
    try:
        refused = __salt__["rabbitmqctl.forget_stream_coordinator"](me, contact)
    except CommandExecutionError as err:
        refused = str(err)
    if refused:
        ret.setdefault("warnings", []).append(
            f"the stream coordinator may wait for {me} as it was ({refused}). Next, once all "
            f"members run: salt {__grains__['id']} rabbitmqctl.forget_stream_coordinator {me} "
            f"{contact}; RabbitMQ then adds it anew"
        )
    __salt__["rabbit_notes.delete"]("returns_to")


def _set_aside(found, wanted, changes):
    """Keep the data of a node that was forgotten under another name, and start anew."""
    contact = found["contact"]
    # One that does not run cannot tell its own.
    asked = None if __salt__["rabbitmqctl.is_running"]() else contact
    changes["backup"] = __salt__["rabbit_backup.write_definitions"]("before setting aside", asked)
    # The cluster does not count them any more, so no one else knows of them.
    replicas = __salt__["rabbit_queues.replicas_on_disk"](contact)
    __salt__["rabbit_replicas.note"](replicas)
    changes["set_aside"] = __salt__["rabbit_backup.set_data_aside"](wanted["service"])
    if found["content"]:
        changes["discarded"] = found["content"]
    _start_service(found, wanted, changes)


def _predict_the_rest(ret, wanted, renews):
    """Tell what a run that was killed after the join, or what pillar says, has left to do."""
    if ret["changes"]:
        return
    dead = __salt__["rabbit_replicas.lost_and_silent"](wanted["contacts"])
    _tell_of_silent_replicas(ret, dead["silent"])
    replicas = dead["lost"]
    if replicas:
        contact = _contact_to_join_anew_with(replicas, wanted)
        ret["changes"]["cluster"] = {"old": "without its replicas", "new": f"with {contact}"}
        ret["comment"] += f"; would have left the cluster and joined {contact} anew"
        replicas = __salt__["rabbit_replicas.here"](contact)
    replicas = __salt__["rabbit_notes.fetch"]("replicas_to_return") or replicas
    for kind, queues in __salt__["rabbit_replicas.by_type"](replicas).items():
        if queues:
            ret["changes"][kind] = _names(queues)
            said = kind.replace("_", " ")
            ret["comment"] += f"; {said} would have got their replicas here back"
    if wanted["may_discard"] and not _is_to_change_its_type(wanted):
        ret["changes"]["discard_local_data"] = "used up"
        ret["comment"] += "; discard_local_data would have been used up"
    if renews:
        ret["changes"]["discard_local_data"] = "may be allowed anew"
        ret["comment"] += "; discard_local_data might have been allowed anew"
    _let_clients_in(ret, wanted["service"])
    if ret["changes"]:
        ret["result"] = None


def _names(queues):
    """Name queues for people."""
    return __utils__["rabbit_names.of_queues"](queues)


def _tell_of_silent_replicas(ret, silent):
    """Warn of replicas here that do not run."""
    if silent:
        ret.setdefault("warnings", []).append(
            f"of {', '.join(_names(silent))} the replica here does not run. Next: journalctl -u "
            f"{_service()}, and rabbitmq-queues quorum_status --vhost VHOST NAME; on a node that "
            "was drained: rabbitmq-upgrade revive"
        )


def _contact_to_join_anew_with(lost, wanted):
    """Name the member to leave and join again, or raise where something would be lost."""
    others = __salt__["rabbit_membership.other_members_that_run"](wanted["contacts"])
    content = __salt__["rabbit_queues.only_on_disk"](others[0]) if others else []
    # Without a majority elsewhere, what there may be on this disk is all there is.
    is_reached = __utils__["rabbit_majority.is_reached"]
    alone = [queue for queue in lost if not is_reached(queue["online"], queue["members"])]
    if others and not alone and (not content or wanted["may_discard"]):
        return others[0]
    why = "is the only one that runs"
    if others and alone:
        why = f"{', '.join(_names(alone))} has no majority of replicas elsewhere"
    elif others:
        why = f"holds {', '.join(content)}"
    raise CommandExecutionError(
        f"this node lost its data, and {', '.join(_names(lost))} count on replicas here; "
        f"it has to join anew, but {why}. Move what is needed elsewhere, then run again"
    )


def _replace_member_without_replicas(ret, wanted):
    """Join anew where RabbitMQ 4.3 took a member back that had lost its data."""
    dead = __salt__["rabbit_replicas.lost_and_silent"](wanted["contacts"])
    _tell_of_silent_replicas(ret, dead["silent"])
    if dead["lost"]:
        contact = _contact_to_join_anew_with(dead["lost"], wanted)
        ret["changes"]["backup"] = __salt__["rabbit_backup.write_definitions"]("before joining")
        _rejoin(contact, wanted)
        ret["changes"]["cluster"] = {"old": "without its replicas", "new": f"with {contact}"}
        __salt__["rabbit_notes.delete"]("returns_to")
        found = _awaited_verdict(wanted)
        if found["verdict"] not in ("joined", "seed"):
            raise CommandExecutionError(_refusal(found, wanted))
    if not dead["silent"]:
        __salt__["rabbit_replicas.note_as_seen"]()


def _return_replicas(ret, contacts):
    """Give the queues back the replicas that this node held before it lost its data."""
    queues = __salt__["rabbit_replicas.give_back_to_quorum_queues"]()
    if queues:
        ret["changes"]["quorum_queues"] = _names(queues)
    given = __salt__["rabbit_replicas.give_back_to_streams"](contacts)
    if given["streams"]:
        ret["changes"]["streams"] = _names(given["streams"])
    if given["silent"]:
        ret.setdefault("warnings", []).append(
            f"of {', '.join(_names(given['silent']))} the replica here does not run yet; "
            "RabbitMQ starts it by itself. Next: rabbitmqctl list_queues --vhost VHOST name type "
            "members online, then run again"
        )


_ACTIONS = {
    "node not running": _start_service,
    "app stopped, member": _start_app,
    "app stopped, not a member": _start_app,
    "standalone, empty": _join,
    "standalone, with content": _join,
    "ghost in the cluster": _replace_ghost,
    "forgotten by the cluster": _set_aside,
    "not listed by a node that stands alone": _set_aside,
}


def node_type(name, discard_local_data=False):
    """
    Make this member a disc or a RAM node.

    RabbitMQ does that by a reset and a join: what this node has on its disk is gone then. So it
    is done as a join is: definitions are kept before, see ``rabbit_backup.write_definitions``; a
    node with queues that no other member serves is refused, see
    ``rabbit_queues.only_here``; quorum queues and streams get their replicas here
    back, after a run that was killed by the next :func:`joined`. The last disc node that runs
    does not become a RAM node. With Khepri, and so from RabbitMQ 4.3 on, there are disc nodes only.

    name
        ``disc`` or ``ram``.
    discard_local_data : False
        Boolean: let what only this node serves be deleted, once; see :func:`joined`.

    Returns a state's return. Its ``changes`` have what was done of: ``backup`` (path of the
    definitions), ``node_type`` (``old`` and ``new``), ``discarded`` (list of queues that were
    lost), ``quorum_queues`` and ``streams`` (lists of what got its replica back) and
    ``discard_local_data`` (what became of the permission); after a failure, too. Raises
    nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/clustering#ram-nodes.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    me = __salt__["rabbit_topology.node_name"]()
    try:
        if name not in ("disc", "ram"):
            raise SaltInvocationError(f"expected disc or ram, found {name!r}")
        if __opts__["test"] and not __salt__["rabbitmqctl.is_running"]():
            # It joins as what it shall be.
            ret["comment"] = f"{me} would be a {name} node"
            return ret
        current = _type_of(me)
        if current == name:
            ret["comment"] = f"{me} is already a {name} node"
            return ret
        _require_another_disc_node(me, name)
        change = {"old": current, "new": name}
        used = __salt__["rabbit_notes.fetch"]("local_data_discarded")
        may_discard = discard_local_data and not used
        if __opts__["test"]:
            _predict_the_change(ret, me, change, may_discard)
            return ret
        contact, content = _what_a_reset_takes(me, may_discard)
        _change_type(ret, name, contact, content, may_discard)
        if _type_of(me) != name:
            raise CommandExecutionError(f"changed, yet it still is a {current} node")
        ret["changes"]["node_type"] = change
        _return_to_the_stream_coordinator(ret)
        members = __salt__["rabbit_membership.listed_in"](__salt__["rabbitmqctl.cluster_status"]())
        _return_replicas(ret, sorted(members))
        ret["comment"] = f"{me} has become a {name} node"
    except (CommandExecutionError, SaltInvocationError) as err:
        __utils__["rabbit_failures.failed"](
            ret, __grains__["id"], f"becoming a {name} node", err, ret["changes"]
        )
    return ret


def _predict_the_change(ret, me, change, may_discard):
    """Fill the return of :func:`node_type` for test mode."""
    said, kinds = f"{me} would have become a {change['new']} node", {}
    if __salt__["rabbit_membership.listed_in"](__salt__["rabbitmqctl.cluster_status"]()) != {me}:
        contact, content = _what_a_reset_takes(me, may_discard)
        said += f": it would have been reset, and have joined {contact} anew"
        replicas = __salt__["rabbit_replicas.here"](contact)
        replicas = __utils__["rabbit_names.without"](replicas, content)
        replicas = __salt__["rabbit_replicas.by_type"](replicas)
        kinds = {"discarded": content} | {kind: _names(replicas[kind]) for kind in replicas}
    if may_discard:
        kinds["discard_local_data"] = "used up"
    ret["changes"] = {"node_type": change, **{kind: what for kind, what in kinds.items() if what}}
    ret.update(result=None, comment=said)


def _what_a_reset_takes(me, may_discard):
    """
    Name the member to join again and list what a reset would lose, or raise.

    Returns an Erlang node name and a list of phrases.
    """
    status = __salt__["rabbitmqctl.cluster_status"]()
    others = sorted(set(status["running_nodes"]) - {me})
    if not others:
        away = __salt__["rabbit_membership.listed_in"](status) - {me}
        raise CommandExecutionError(
            f"it takes another member that runs: {me} is reset for it, and joins again. Next: "
            f"start {_service()} on {_hosts(away)}, then run again"
        )
    content = __salt__["rabbit_queues.only_here"](others[0])
    if content and not may_discard:
        raise CommandExecutionError(
            f"{me} is reset for it, and no other member could serve {', '.join(content)}"
            f"{_used_up()}. Have others serve that too (mirrors, replicas), or take out what is "
            f"needed and delete it; or let it go: rabbit_ha:hosts:{__grains__['id']}:"
            "discard_local_data: true allows that once"
        )
    return others[0], content


def _change_type(ret, name, contact, content, may_discard):
    """Reset this node and have it join again as what it shall be; it gets its app back."""
    backup = __salt__["rabbit_backup.write_definitions"](f"before becoming a {name} node")
    ret["changes"]["backup"] = backup
    known = [*content, *__salt__["rabbit_queues.not_served"](contact)]
    __salt__["rabbit_replicas.take_out"](contact, content)
    # Killed between reset and join, a seed would otherwise take itself for the first.
    __salt__["rabbit_notes.write"]("returns_to", [contact])
    with _app_stopped():
        late = __salt__["rabbit_queues.await_served"](contact, known)
        if late and not may_discard:
            raise CommandExecutionError(
                f"a client has just made what would be lost: {', '.join(late)}. Next: see that "
                "none is connected to this host, then run again"
            )
        content = [*content, *late]
        __salt__["rabbit_replicas.take_out"](contact, content)
        if content:
            ret["changes"]["discarded"] = content
        __salt__["rabbitmqctl.change_cluster_node_type"](name)
        if may_discard:
            _use_up_the_permission(ret)


def _type_of(me):
    """Tell what kind of node the local one is, as its cluster sees it."""
    status = __salt__["rabbitmqctl.cluster_status"]()
    return "ram" if me in status.get("ram_nodes", []) else "disc"


def _require_another_disc_node(me, wanted):
    """Raise where a RAM node may not be, or would leave the cluster's metadata on no disc."""
    if wanted != "ram":
        return
    __salt__["rabbit_membership.require_ram_nodes"]()
    status = __salt__["rabbitmqctl.cluster_status"]()
    others = set(status["disk_nodes"]) - {me}
    if others & set(status["running_nodes"]):
        return
    members = sorted(__salt__["rabbit_membership.listed_in"](status))
    if __opts__["test"] and members == [me]:
        # A run joins it, or the others join it, before this is its turn.
        return
    way_out = "Make another member a disc node first"
    if others:
        way_out = f"Start {_service()} on {_hosts(others)}, or make another member a disc node"
    raise CommandExecutionError(
        f"{me} is the only disc node of {members}{' that runs' if others else ''}: without one the "
        f"cluster keeps its metadata nowhere. {way_out}"
    )


def _service():
    """Name RabbitMQ's service."""
    return __salt__["rabbit_topology.settings"]()["rabbitmq"]["service"]


def _hosts(nodes):
    """Name the hosts of nodes."""
    return __utils__["rabbit_names.hosts"](nodes)


def member_absent(name, offline=False):
    """
    Have the cluster forget a member that is gone for good.

    To be applied on another member. A member that runs is not forgotten: it is
    stopped first; nor is the last disc node. Definitions are kept before, see
    ``rabbit_backup.write_definitions``; quorum queues lose the replica there, of which this warns
    where one does not; a classic queue that was only there is lost.

    name
        Erlang node name of the member.
    offline : False
        Boolean: do it while the local node is stopped, because no member runs; RabbitMQ 4.3
        cannot. Other members count it still: one that starts before this node, or
        together with it, brings it back.

    Returns a state's return: ``changes`` maps the node to ``old`` and ``new``, and ``backup`` to
    the path of the definitions, after a failure, too; ``quorum_queues`` to a list of those that
    lost the replica there only afterwards. Raises nothing: what failed is in ``comment``.

    See https://www.rabbitmq.com/docs/clustering#forced-removal.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if __opts__["test"] and not offline and not __salt__["rabbitmqctl.is_running"]():
            ret["comment"] = f"{name} is forgotten where it is a member, once the node runs"
            return ret
        if name not in _listed(offline):
            ret["comment"] = f"{name} is already no member"
            return ret if offline else _without_its_replicas(ret, name)
        __salt__["rabbit_membership.require_gone"](name, offline)
        lost = [] if offline else __salt__["rabbit_queues.not_served"]()
        if lost:
            ret["warnings"] = [
                f"no member serves {', '.join(lost)}: what only {name} has of them is lost with it"
            ]
        ret["changes"] = {name: {"old": "member", "new": "forgotten"}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} would have been forgotten")
            return ret
        forget_offline = __salt__["rabbit_membership.forget_offline"]
        if offline and forget_offline(name):
            ret.update(changes={}, comment=f"{name} is already no member")
            return ret
        if not offline:
            backup = __salt__["rabbit_backup.write_definitions"]("before forgetting")
            ret["changes"]["backup"] = backup
            failure = __salt__["rabbit_membership.forget"](name)
            if failure:
                ret.setdefault("warnings", []).append(f"it is no member any more, yet: {failure}")
        is_gone = forget_offline(name) if offline else name not in _listed(offline)
        if not is_gone:
            raise CommandExecutionError("forgotten, yet it is still listed as a member")
        ret["comment"] = f"{name} has been forgotten"
        if not offline:
            return _without_its_replicas(ret, name)
        ret["comment"] += (
            ". Start this node before the others, who count it still and would bring it back. "
            f"Next: systemctl start {_service()}"
        )
    except (CommandExecutionError, SaltInvocationError) as err:
        # What was kept before it has to be found.
        kept = {key: path for key, path in ret["changes"].items() if key == "backup"}
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], f"forgetting {name}", err, kept)
    return ret


def _without_its_replicas(ret, name):
    """Have no quorum queue count on a node that is no member any more, or warn."""
    queues = __salt__["rabbit_replicas.quorum_queues_with_replica"](name)
    before, failure = _names(queues), ""
    left = _names([queue for queue in queues if not queue["can_shrink"]])
    if left != before and not __opts__["test"]:
        failure = __salt__["rabbit_replicas.shrink_or_forget"](name)
        left = _names(__salt__["rabbit_replicas.quorum_queues_with_replica"](name))
    shrunk = [queue for queue in before if queue not in left]
    if shrunk:
        ret["changes"]["quorum_queues"] = shrunk
        ret["comment"] += "; quorum queues "
        ret["comment"] += "would have lost" if __opts__["test"] else "have lost"
        ret["comment"] += " the replica that they had there"
        ret["result"] = None if __opts__["test"] else ret["result"]
    if left:
        ret.setdefault("warnings", []).append(
            f"{', '.join(left)}: {name}'s replica, which is gone, still counts there"
            f"{f' ({failure})' if failure else ''}. Next: start {_service()} on the brokers that "
            "have the others, then run again; as a last resort rabbitmq-queues delete_member "
            f"--vhost VHOST NAME {name}, or delete the queue"
        )
    return ret


def _listed(offline):
    """List the members as the local node counts them, running or not."""
    if offline:
        members = __salt__["rabbit_membership.members_on_disk"]()
        if not members:
            raise CommandExecutionError(
                "whom a stopped node counts as members is not to be read here, as from RabbitMQ "
                "4.3 on. Start this node, then apply this without offline"
            )
        return members
    return __salt__["rabbit_membership.listed_in"](__salt__["rabbitmqctl.cluster_status"]())


def named(name):
    """
    Name the cluster.

    name
        The cluster's name.

    Returns a state's return: ``changes`` maps ``cluster_name`` to ``old`` and ``new``. Raises
    nothing: what failed is in ``comment``.

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
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "naming the cluster", err)
    return ret
