"""
Replicas of quorum queues and streams that this node has: taken out, noted, and given back.

A node that begins anew while a queue counts on its replica would vote without knowing what the
one before had confirmed. So what counts on a replica is noted, then the replica is taken out; once
the node is a member again, it gets back what was noted.

See https://www.rabbitmq.com/docs/quorum-queues#replica-management and
https://www.rabbitmq.com/docs/streams#replica-management.
"""

import time

from salt.exceptions import CommandExecutionError


def here(contact):
    """
    List what counts on a replica on this node.

    contact
        Erlang node name of the member that is asked.

    Returns a list of mappings with ``vhost``, ``name``, and, for streams, ``type``: ``stream``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.here rabbit@rabbitmq-node1
    """
    me = __salt__["rabbit_topology.node_name"]()
    recorded = __salt__["rabbitmqctl.queues_with_replicas"](contact)
    mine = [queue for queue in recorded if me in queue["members"]]
    quorum, streams = (_bare(q for q in mine if q["type"] == kind) for kind in ("quorum", "stream"))
    return quorum + _as_streams(streams)


def by_type(replicas):
    """
    Split replicas into those of quorum queues and those of streams.

    replicas
        List as :func:`here` returns it.

    Returns a mapping with ``quorum_queues`` and ``streams``, lists of the same.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.by_type '[{vhost: /, name: orders}]'
    """
    streams = [replica for replica in replicas if replica.get("type") == "stream"]
    queues = [replica for replica in replicas if replica not in streams]
    return {"quorum_queues": queues, "streams": streams}


def _bare(queues):
    """Cut from listed queues what names them."""
    return [{"vhost": queue["vhost"], "name": queue["name"]} for queue in queues]


def _names(queues):
    """Name queues for people."""
    return __utils__["rabbit_names.of_queues"](queues)


def _as_streams(queues):
    """Mark queues as streams, as a note has them; those that it does not mark are quorum queues."""
    return [{**queue, "type": "stream"} for queue in queues]


def note(replicas):
    """
    Note which quorum queues and streams are to have a replica here.

    replicas
        List as :func:`here` returns it.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.note '[{vhost: /, name: orders}]'
    """
    noted = __salt__["rabbit_notes.fetch"]("replicas_to_return") or []
    new = [replica for replica in replicas if replica not in noted]
    if new:
        __salt__["rabbit_notes.write"]("replicas_to_return", noted + new)


def require_none(contact, predict=False):
    """
    Have no quorum queue or stream count on a replica of this node, which is about to join.

    Where one does, RabbitMQ starts an empty replica here, which votes without knowing what the one
    before had confirmed: with another one that lags behind it can drop messages. That does no harm
    where at most one other has a replica, as no leader is elected without that one; nor can
    streams be helped before RabbitMQ 4, which gives them their replicas back by itself. What is
    taken out is noted, to be returned.

    contact
        Erlang node name of a member.
    predict : False
        Boolean: change nothing, and raise where a run could not take the replicas out now.

    Starts one VM where no one counts on this node. Neither this node nor its app may run.

    Raises CommandExecutionError when one counts on this node still.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.require_none rabbit@rabbitmq-node1 predict=true
    """
    me = __salt__["rabbit_topology.node_name"]()
    counting = _counting_on(me, contact)
    queues, streams = (
        [queue for queue in counting if queue["type"] == kind] for kind in ("quorum", "stream")
    )
    # RabbitMQ tries each for up to 20 s.
    _refuse_where_counted(me, contact, [q for q in queues if not _can_shrink(me, q)])
    if predict:
        return
    failure = ""
    if queues:
        note(_bare(queues))
        failure = shrink_or_forget(me, contact)
        queues = _quorum_queues_counting_on(me, contact)
    if streams:
        said = _taken_out_of(streams, me, contact)
        # Before RabbitMQ 4 the node has to run for it.
        if not said or "node_not_running" in said:
            streams, said = [], ""
        failure = failure or said
    _refuse_where_counted(me, contact, queues + streams, failure)


def _taken_out_of(streams, me, contact):
    """Take this node's replicas out of streams, and note them; returns why that failed."""
    streams = _bare(streams)
    try:
        failure = __salt__["rabbitmqctl.delete_replicas"](me, streams, contact)
    except CommandExecutionError as err:
        return str(err)
    if not failure:
        note(_as_streams(streams))
    return failure


def _counting_on(me, contact):
    """List the queues that would be in danger if this node's replica of them began anew."""
    recorded = __salt__["rabbitmqctl.queues_with_replicas"](contact)
    return _with_state(
        [queue for queue in recorded if me in queue["members"] and len(queue["members"]) > 2],
        contact,
    )


def require_no_quorum_queues(contact):
    """
    Raise where a quorum queue counts on a replica of this node still.

    contact
        Erlang node name of a member.

    Raises CommandExecutionError, as :func:`require_none` does.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.require_no_quorum_queues rabbit@rabbitmq-node1
    """
    me = __salt__["rabbit_topology.node_name"]()
    _refuse_where_counted(me, contact, _quorum_queues_counting_on(me, contact))


def _quorum_queues_counting_on(me, contact):
    """List the quorum queues among those of :func:`_counting_on`."""
    return [queue for queue in _counting_on(me, contact) if queue["type"] == "quorum"]


def _with_state(recorded, at):
    """Add to recorded queues their ``state`` and who of them is ``online``, as it is listed."""
    listed = __salt__["rabbitmqctl.list_queues"](at) if recorded else []
    states = {
        (queue["vhost"], queue["name"]): {key: queue[key] for key in ("state", "online")}
        for queue in listed
    }
    unknown = {"state": "down", "online": []}
    return [{**queue, **states.get((queue["vhost"], queue["name"]), unknown)} for queue in recorded]


def _refuse_where_counted(me, contact, counting, failure=""):
    """Raise where queues count on a replica here, and say what to do."""
    if not counting:
        return
    names = ", ".join(_names(counting))
    away = set().union(*(set(queue["members"]) - set(queue["online"]) for queue in counting)) - {me}
    hosts = __utils__["rabbit_names.hosts"]
    service = __salt__["rabbit_topology.settings"]()["rabbitmq"]["service"]
    start = f"start {service} on {hosts(away)}, or rabbitmq-upgrade revive one that was drained"
    start = start if away else "see that they have a leader"
    raise CommandExecutionError(
        f"joining would empty a replica here that still counts, and messages could be lost: {names}"
        f"{f' ({failure})' if failure else ''}. Next: {start} (rabbitmqctl list_queues --vhost "
        "VHOST name leader online), then run again. As a last resort, on "
        f"{hosts([contact])}: rabbitmq-queues delete_member --vhost VHOST NAME {me}, or "
        "delete the queue"
    )


def take_out(contact, let_go):
    """
    Take this node's replicas out of what counts on them, before it is reset while it is a member.

    Before that, they are noted, to be returned: a run that is killed then has to know it when it
    is run again. See :func:`require_none` for what an emptied one could do. Streams are
    given up while this node's app runs, before RabbitMQ 4 only then.

    contact
        Erlang node name of another member that runs.
    let_go
        List of phrases, as ``rabbit_queues.only_here`` has them, of queues that are lost: they keep
        their replica here and get none back.

    Raises CommandExecutionError when a quorum queue, or a stream that this node's app runs for,
    still counts on a replica here.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.take_out rabbit@rabbitmq-node1 '[]'
    """
    me = __salt__["rabbit_topology.node_name"]()
    without = __utils__["rabbit_names.without"]
    replicas = without(here(contact), let_go)
    note(replicas)
    queues, streams = by_type(replicas).values()
    failure = ""
    if streams:
        failure = __salt__["rabbitmqctl.delete_replicas"](me, _bare(streams), contact)
    if queues:
        __salt__["rabbitmqctl.shrink"](me, contact)
        queues = without(__salt__["rabbitmqctl.quorum_queues_on"](me, contact), let_go)
    failure = "" if "node_not_running" in failure else failure
    if queues or failure:
        counting = [*__utils__["rabbit_names.phrases"](queues), *filter(None, [failure])]
        raise CommandExecutionError(
            f"{', '.join(counting)}: a replica here still counts. Next: rabbitmqctl "
            "list_queues --vhost VHOST name leader members online; see that the other members run "
            "and have caught up, then run again"
        )


def quorum_queues_with_replica(node, at=None):
    """
    List the quorum queues that count on a replica on a node, which may be no member any more.

    node
        Erlang node name.
    at : the local node
        Erlang node name of the member that is asked.

    Returns a list of mappings with ``vhost``, ``name`` and ``can_shrink``: whether the queue seems
    to have a leader, which could take the replica out.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.quorum_queues_with_replica rabbit@rabbitmq-node3
    """
    recorded = __salt__["rabbitmqctl.quorum_queues_on"](node, at)
    return [
        {"vhost": queue["vhost"], "name": queue["name"], "can_shrink": _can_shrink(node, queue)}
        for queue in _with_state(recorded, at)
    ]


def _can_shrink(node, queue):
    """Tell whether a quorum queue seems to have a leader, which takes a node's replica out."""
    return queue["state"] != "down" and bool(set(queue["online"]) - {node})


def shrink_or_forget(node, at=None):
    """
    Take the replicas of a node that does not run out of the quorum queues, as far as it goes.

    RabbitMQ 4.3 only does it where it forgets a node, also one that is no member any more: so the
    node is to be no member.

    node
        Erlang node name.
    at : the local node
        Erlang node name of the member that is told so.

    Returns why that failed, a string, empty where it did not: which queues count on the node is
    to be looked at in any case, as RabbitMQ says ok of those that do, too.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.shrink_or_forget rabbit@rabbitmq-node3
    """
    try:
        if not shrink(node, at):
            __salt__["rabbitmqctl.forget_cluster_node"](node, at)
    except CommandExecutionError as err:
        return "" if "not_a_cluster_node" in str(err) else str(err)
    return ""


def shrink(node, at=None):
    """
    Take the replicas of a node that does not run out of the quorum queues.

    node
        Erlang node name.
    at : the local node
        Erlang node name of the member that is told so.

    Returns False where RabbitMQ only does that where it forgets the node, else True; for which
    queues count on the node then, see :func:`shrink_or_forget`.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.shrink rabbit@rabbitmq-node3
    """
    try:
        __salt__["rabbitmqctl.shrink"](node, at)
    except CommandExecutionError as err:
        if "node_not_running" not in str(err):
            raise
        return False
    return True


def give_back_to_quorum_queues():
    """
    Give quorum queues back the replicas here that were noted, and note them no more.

    Returns a list of those that have one now, as :func:`here` lists them. One that was deleted
    meanwhile is not among them.

    Raises CommandExecutionError when one gets no replica; then the note stays.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.give_back_to_quorum_queues
    """
    queues, streams = _noted()
    if not queues:
        return []
    me = __salt__["rabbit_topology.node_name"]()
    for vhost in sorted({queue["vhost"] for queue in queues}):
        names = [queue["name"] for queue in queues if queue["vhost"] == vhost]
        failed = [
            f"{queue['name']} in {vhost}: {queue['result']}"
            for queue in __salt__["rabbitmqctl.grow"](me, vhost, names)
            if queue["result"] != "ok"
        ]
        if failed:
            raise CommandExecutionError(_no_replicas(me, failed))
    given, without = _await_replicas(me, queues)
    if without:
        raise CommandExecutionError(_no_replicas(me, _names(without)))
    _note_alone(streams)
    return given


def give_back_to_streams(contacts):
    """
    Give streams back the replicas here that were noted, and note them no more.

    Those that count on a replica here still, as before RabbitMQ 4, get it back by themselves;
    they are waited for, for half a minute.

    contacts
        List of the Erlang node names of the cluster's brokers, of which another one is asked.

    Returns a mapping with ``streams``, a list of those that have one now, and ``silent``, a list of
    those whose replica does not run yet: these stay noted. Both are as :func:`here` lists them. One
    that was deleted meanwhile is in neither.

    Raises CommandExecutionError when one gets no replica; then the note stays.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.give_back_to_streams '[rabbit@rabbitmq-node1]'
    """
    queues, streams = _noted()
    if not streams:
        return {"streams": [], "silent": []}
    given, silent = _add_to_streams(streams, contacts)
    # It may be the old one, which RabbitMQ is still to take out: the next run looks again.
    _note_alone(queues + silent)
    return {"streams": given, "silent": silent}


def _noted():
    """List the quorum queues and the streams that were noted."""
    return by_type(__salt__["rabbit_notes.fetch"]("replicas_to_return") or []).values()


def _note_alone(replicas):
    """Have nothing noted but some replicas."""
    if replicas:
        __salt__["rabbit_notes.write"]("replicas_to_return", replicas)
    else:
        __salt__["rabbit_notes.delete"]("replicas_to_return")


def _await_replicas(me, queues):
    """Give the replicas here a moment to start; returns the queues that have one, and others."""
    for wait in (1, 2, 4, None):
        running = {
            (queue["vhost"], queue["name"]): me in queue["members"] and me in queue["online"]
            for queue in __salt__["rabbitmqctl.quorum_queues"]()
        }
        # One that was deleted meanwhile is in neither, and needs none.
        given, without = (
            [queue for queue in queues if running.get((queue["vhost"], queue["name"])) is runs]
            for runs in (True, False)
        )
        if wait is None or not without:
            return given, without
        time.sleep(wait)


def _no_replicas(me, failed):
    """Say what to do about quorum queues that have no replica here."""
    return (
        f"the node is a member, but quorum queues got no replica back: {', '.join(failed)}. Next: "
        "see that their other members run, then run again; of one that lists this node and does "
        f"not run here: rabbitmq-queues delete_member --vhost VHOST NAME {me} first"
    )


def _add_to_streams(streams, contacts):
    """
    Give streams a replica here where they do not count on one still, or raise.

    Returns those whose replica runs, and those whose replica does not run yet.
    """
    said = ""
    # RabbitMQ first takes the old replica out, which it tries every 10 s, and till then says ok.
    for wait in (1, 2, 4, 8, 16, None):
        at = _other_member(contacts)
        found = _streams_by_replica(streams, at)
        if found["without"]:
            me = __salt__["rabbit_topology.node_name"]()
            said = __salt__["rabbitmqctl.add_replicas"](me, found["without"], at)
            found = _streams_by_replica(streams, at)
        if wait is None and found["without"]:
            raise CommandExecutionError(
                "the node is a member, but streams got no replica back: "
                f"{', '.join(_names(found['without']))}{f' ({said})' if said else ''}. Next: see "
                "that their other members run (rabbitmqctl list_queues --vhost VHOST name type "
                "members online) and have caught up, then run again"
            )
        if wait is None or not (found["without"] or found["silent"]):
            return found["running"], found["silent"]
        time.sleep(wait)


def _streams_by_replica(streams, at):
    """
    Split streams into those ``without`` a replica here, and those where it is ``silent``.

    streams
        List of mappings with ``vhost`` and ``name``: the ones that are looked at.
    at
        Erlang node name of the member that is asked.

    Returns a mapping from those words, and ``running``, to lists. One that was deleted is nowhere.
    """
    me = __salt__["rabbit_topology.node_name"]()
    there = {(one["vhost"], one["name"]): one for one in __salt__["rabbitmqctl.streams"](at)}
    # One without a leader is not listed.
    defined = {
        (queue["vhost"], queue["name"])
        for queue in __salt__["rabbitmqctl.export_definitions"](at).get("queues", [])
        # One that was declared anew as another type needs no replica.
        if queue.get("type", "stream") == "stream"
    }
    found = {"without": [], "silent": [], "running": []}
    for stream in streams:
        key = (stream["vhost"], stream["name"])
        replicas = there.get(key, {"members": [], "online": []})
        if me in replicas["members"]:
            found["running" if me in replicas["online"] else "silent"].append(stream)
        elif key in there.keys() | defined:
            found["without"].append(stream)
    return found


def lost_and_silent(contacts):
    """
    List the quorum queues whose replica here is lost, and those where it only does not run.

    For the lost ones this member has to join anew: they count on replicas that do not answer.
    One that has other replicas, or these on its disk, did not lose its data. Looked for once in
    each store of metadata that the node has had, see :func:`note_as_seen`: RabbitMQ 4.3's other
    members take one back that lost its data, without its replicas.

    contacts
        As for :func:`give_back_to_streams`.

    Returns a mapping with ``lost`` and ``silent``, lists as ``rabbitmqctl.quorum_queues`` returns
    them; one of them at least is empty.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.lost_and_silent '[rabbit@rabbitmq-node1, rabbit@rabbitmq-node2]'
    """
    store = __salt__["rabbit_membership.metadata_store"]()
    if store is None or store == __salt__["rabbit_notes.fetch"]("replicas_seen_in"):
        return {"lost": [], "silent": []}
    me = __salt__["rabbit_topology.node_name"]()
    recorded = __salt__["rabbitmqctl.quorum_queues"](_other_member(contacts))
    mine = [queue for queue in recorded if me in queue["members"]]
    dead = [queue for queue in mine if me not in queue["online"]]
    on_disk = __salt__["rabbit_queues.quorum_queues_on_disk"]() if dead else []
    kept = [queue for queue in on_disk if queue["vhost"] is None]
    kept += [queue for queue in _bare(dead) if queue in on_disk]
    is_lost = len(dead) == len(mine) and not kept
    return {"lost": dead if is_lost else [], "silent": [] if is_lost else dead}


def note_as_seen():
    """
    Note that :func:`lost_and_silent` has looked in the store of metadata that the node has now.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_replicas.note_as_seen
    """
    store = __salt__["rabbit_membership.metadata_store"]()
    if store != __salt__["rabbit_notes.fetch"]("replicas_seen_in"):
        __salt__["rabbit_notes.write"]("replicas_seen_in", store)


def _other_member(contacts):
    """Name another member that runs: one that was just taken back does not know of all queues."""
    others = __salt__["rabbit_membership.other_members_that_run"](contacts)
    return next(iter(others), None)
