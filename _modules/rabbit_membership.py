"""
Where this broker stands towards its cluster, judged from both sides.

A node that may join, one that is a member already, and one that must not be
touched are told apart by what the node itself and another member say; a status
text of one side alone is not enough, since ``join_cluster`` empties the node.

Judging starts at most two Erlang VMs where the first contact that runs is in a cluster: one to
ask this node, one to ask that. More start, as many whatever the number of vhosts and queues is:

- one for each further contact, where those before stand alone too or refuse the cookie, and, on a
  seed, for each member that is away, :data:`STRANGERS_ASKED` brokers that are none and itself
- one where the app is stopped and no file names the members
- two to list what a join would delete (definitions, queues), where no management API tells that
  it is nothing
- two, on a node that was forgotten and has queues on its disk, to ask the contact for these

See https://www.rabbitmq.com/docs/clustering.
"""

import base64
import contextlib
import glob
import http.client
import json
import os
import re
import time
import urllib.request

import salt.utils.files
from salt.exceptions import CommandExecutionError

JOINED = "joined"
SEED = "seed"
STANDALONE_EMPTY = "standalone, empty"
STANDALONE_WITH_CONTENT = "standalone, with content"
APP_STOPPED_MEMBER = "app stopped, member"
APP_STOPPED_NOT_A_MEMBER = "app stopped, not a member"
NODE_NOT_RUNNING = "node not running"
HANGS = "running, but not answering"
COOKIE_MISMATCH = "cookie mismatch"
SEED_UNREACHABLE = "seed unreachable"
FORGOTTEN = "forgotten by the cluster"
NOT_LISTED_BY_A_LONE_NODE = "not listed by a node that stands alone"
GHOST = "ghost in the cluster"
OTHER_CLUSTER = "other cluster"
PARTITIONED = "partitioned"
DOES_NOT_FIT = "older or newer than the cluster allows"
# Global parameters that a node has by itself.
BUILT_IN = ("cluster_name", "cluster_tags", "internal_cluster_id")
# In place of a name.
UNREADABLE = "a vhost that cannot be read"
# Bytes that one message's properties take in a classic queue's index, at most in the usual case.
INDEX_ENTRY = 600
# The queue in what Ra keeps of a replica.
_RESOURCE = re.compile(
    rb"queue_resource\s*=>\s*\{resource,\s*(<<.*?>>),\s*queue,\s*(<<.*?>>)\}", re.S
)
# So many brokers that are no members are asked by a seed that has formed a cluster.
STRANGERS_ASKED = 2


def verdict(contacts):
    """
    Judge where the local node stands, from its own view and a member's.

    contacts
        List of the Erlang node names of the cluster's brokers, the seed first;
        the local node may be among them. The first that answers is the other
        side.

    Returns a mapping with ``verdict`` (one of this module's words), ``contact``
    (the node that was the other side, or None), ``members`` (what that side, or
    with none the local node, counts as members), ``detail`` (one sentence) and
    ``content`` (a list of what would be lost if this node began anew, else empty).

    Raises CommandExecutionError when the tools fail in a way not foreseen.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.verdict '[rabbit@rabbitmq-node1, rabbit@rabbitmq-node2]'
    """
    me = __salt__["rabbit_topology.node_name"]()
    local = __salt__["rabbitmqctl.node_state"]()
    if local["state"] == "cookie mismatch":
        detail = f"{me} runs with another Erlang cookie than the one in its file"
        return _verdict(COOKIE_MISMATCH, contact=me, members=members_on_disk(), detail=detail)
    if local["state"] == "unreachable":
        detail = f"{me} runs and did not answer in time: {local['said']}"
        return _verdict(HANGS, members=members_on_disk(), detail=detail)
    if local["state"] == "node not running":
        return _judge_stopped_node(me, contacts, local)
    if local["status"] is None:
        return _judge_stopped_app(me, contacts)
    return _judge_running(me, contacts, local["status"])


def _settings():
    """Give what pillar says of RabbitMQ."""
    return __salt__["rabbit_topology.settings"]()["rabbitmq"]


def _verdict(word, contact=None, members=(), detail="", content=()):
    """Build what :func:`verdict` returns."""
    return {
        "verdict": word,
        "contact": contact,
        "members": sorted(members or ()),
        "detail": detail,
        "content": list(content),
    }


def _judge_stopped_node(me, contacts, local):
    """Judge a node that does not run; one that was forgotten could not even start."""
    remembered = members_on_disk() - {me}
    if remembered:
        contact, there, _ = _other_side(me, contacts, remembered)
        if contact in remembered and me not in there["members"]:
            return forgotten_by(contact, there["members"])
    return _verdict(NODE_NOT_RUNNING, detail=f"{me} does not run: {local['said']}")


def _judge_stopped_app(me, contacts):
    """Judge a node whose app is stopped: what it holds shows only once it runs."""
    on_disk = members_on_disk()
    contact, there, refused_by = _other_side(me, contacts, on_disk)
    if there is None:
        apart = _out_of_sight(on_disk - {me})
        # A seed that pauses as a minority would serve its side of a partition.
        if contacts[:1] == [me] and not _most(apart, on_disk):
            detail = f"the app of the seed {me} is down"
            return _verdict(APP_STOPPED_MEMBER, members=[me], detail=detail)
        return _no_other_side(me, contacts, on_disk, refused_by)
    common = {"contact": contact, "members": there["members"]}
    if me in there["members"]:
        detail = f"{contact} lists {me}, whose app is down"
        return _verdict(APP_STOPPED_MEMBER, detail=detail, **common)
    if contact in (on_disk or __salt__["rabbitmqctl.known_members"]()):
        return forgotten_by(contact, there["members"])
    detail = f"the app of {me} is down and {contact} does not list it"
    return _verdict(APP_STOPPED_NOT_A_MEMBER, detail=detail, **common)


def _judge_running(me, contacts, status):
    """Judge a node that runs."""
    here = listed_in(status)
    if me not in here:
        raise CommandExecutionError(
            f"the local node calls itself {sorted(here)}, pillar calls it "
            f"{me}; the host name and the minion id must agree"
        )
    apart = set().union(*status.get("partitions", {}).values())
    if apart:
        return _partitioned(me, here, set(status["running_nodes"]), apart)
    if contacts[:1] == [me]:
        return _judge_running_seed(me, contacts, here, status)
    contact, there, refused_by = _other_side(me, contacts, here | _returns_to())
    if there is None:
        return _no_other_side(me, contacts, here, refused_by)
    return _compared(me, here, status, contact, there)


def _judge_running_seed(me, contacts, here, status):
    """Judge the seed, which runs: others join it, unless they have a cluster without it."""
    is_seed = _verdict(SEED, contact=me, members=here, detail=f"{me} is the seed")
    if len(here) == 1:
        returns_to = _returns_to()
        contact, there, refused_by = _other_side(me, contacts, here | returns_to)
        if there is None and (refused_by or returns_to):
            return _no_other_side(me, contacts, here, refused_by)
        return _compared(me, here, status, contact, there) if there else is_seed
    running = set(status["running_nodes"])
    strangers = [node for node in contacts if node not in here]
    unknown = not_in_pillar(here, contacts)
    if unknown and strangers and len(strangers) == len(contacts) - 1:
        detail = f"{me} is in a cluster with none of {', '.join(contacts[1:])} but with "
        return _verdict(
            OTHER_CLUSTER,
            contact=me,
            members=here,
            detail=f"{detail}{', '.join(unknown)}, which pillar does not name",
        )
    away = [node for node in contacts if node in here and node not in running]
    refused_by = None
    for contact in away + strangers[:STRANGERS_ASKED]:
        _, there, refused = _other_side(me, [me, contact], here)
        refused_by = refused_by or refused
        if there and contact in here and me in there["members"] and me not in there["running"]:
            return _partitioned(me, here, running, there["running"])
        # One that stands alone has no cluster: it lost its data, and joins when it is its turn;
        # or it holds what the others do not have, and then it is the one that refuses.
        if there and me not in there["members"] and there["members"] != {contact}:
            if contact in here:
                return forgotten_by(contact, there["members"])
            members = ", ".join(sorted(there["members"]))
            detail = f"{me} is in one cluster ({', '.join(sorted(here))}), {contact} in another "
            return _verdict(
                OTHER_CLUSTER,
                contact=contact,
                members=there["members"],
                detail=f"{detail}({members})",
            )
    apart = _out_of_sight(away)
    # They may serve without this node, which then is the side that is cut off.
    if len(apart) > len(running):
        return _no_other_side(me, [me, *apart], here, refused_by)
    return is_seed


def not_in_pillar(members, contacts):
    """
    List the members that are neither among the brokers nor named as gone for good.

    members
        List or set of Erlang node names.
    contacts
        As for :func:`verdict`.

    Returns a sorted list of Erlang node names.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.not_in_pillar '[rabbit@rabbitmq-node9]' '[]'
    """
    absent = _settings()["absent_members"]
    gone = {__salt__["rabbit_topology.node_name"](host) for host in absent}
    return sorted(set(members) - set(contacts) - gone)


def _out_of_sight(members):
    """List the members of which it is not known whether they run; those that are down are not."""
    return [
        node
        for node in sorted(members)
        if __salt__["rabbitmqctl.node_state"](node)["state"] in ("unreachable", COOKIE_MISMATCH)
    ]


def _returns_to():
    """
    Give the members, as a set, to whom this node was on its way back when a run was killed.

    They have forgotten what it was, and one of them may be all that is left.
    """
    return set(__salt__["rabbit_notes.fetch"]("returns_to") or ())


def listed_in(status):
    """
    Give the members that a node's status lists, whether they run or not.

    status
        What ``rabbitmqctl.cluster_status`` returned.

    Returns a set of Erlang node names.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.listed_in '{disk_nodes: [rabbit@rabbitmq-node1]}'
    """
    return set(status["disk_nodes"]) | set(status.get("ram_nodes", []))


def _other_side(me, contacts, known):
    """
    Ask the first contact that answers; members that the node knows go first.

    A contact that stands alone is a cluster to join only where it is the seed. One that
    the node knows as a member, as after it lost its data, counts only where no other answers.

    Returns the contact, a mapping ``members``, ``running`` (sets), ``version`` and
    ``flags`` (the feature flags that it knows) or None, and the contact that refused
    the cookie, or None.
    """
    refused, lone = None, None
    for contact in sorted((n for n in contacts if n != me), key=lambda n: n not in known):
        found = __salt__["rabbitmqctl.node_state"](contact)
        if found["state"] == "running":
            status = found["status"]
            members = listed_in(status)
            view = {
                "members": members,
                "running": set(status["running_nodes"]),
                "version": status["versions"].get(contact, {}).get("rabbitmq_version"),
                "flags": status.get("feature_flags", []),
            }
            if members != {contact} or (contact == contacts[0] and contact not in known):
                return contact, view, None
            # Else it waits for the seed as this node does, or has lost its data.
            if contact in known:
                lone = lone or (contact, view, None)
        if found["state"] == "cookie mismatch":
            refused = refused or contact
    return lone or (None, None, refused)


def _no_other_side(me, contacts, here, refused_by):
    """Judge a node that no contact answers."""
    if refused_by:
        detail = f"{refused_by} refuses the Erlang cookie of {me}"
        return _verdict(COOKIE_MISMATCH, contact=refused_by, members=here, detail=detail)
    others = ", ".join(n for n in contacts if n != me)
    detail = f"nothing answers at {others}"
    return _verdict(SEED_UNREACHABLE, members=here, detail=detail)


def forgotten_by(contact, members):
    """
    Judge the local node, which counts a contact as a member and is not listed by it.

    A contact that stands alone proves nothing: it may be the one that lost its data. Then
    all that the local node has counts as content.

    contact
        Erlang node name of the contact.
    members
        The members that the contact lists.

    Returns what :func:`verdict` returns.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.forgotten_by rabbit@rabbitmq-node1 '[rabbit@rabbitmq-node1]'
    """
    me = __salt__["rabbit_topology.node_name"]()
    content = queues_on_disk(contact)
    if set(members) == {contact}:
        return _verdict(
            NOT_LISTED_BY_A_LONE_NODE,
            contact=contact,
            members=members,
            detail=f"{me} lists {contact}, which stands alone: it lost its data, or forgot {me}",
            content=[*content, f"what {contact} lost, if it did"],
        )
    return _verdict(
        FORGOTTEN,
        contact=contact,
        members=members,
        detail=f"{me} lists {contact}, which does not list it",
        content=content,
    )


def _compared(me, here, status, contact, there):
    """Judge a running node from both sides."""
    listed = me in there["members"]
    common = {"contact": contact, "members": there["members"]}
    if listed and contact in here:
        if me in there["running"]:
            return _verdict(JOINED, detail=f"{me} and {contact} list each other", **common)
        return _partitioned(me, here, set(status["running_nodes"]), there["running"])
    if contact in here:
        return forgotten_by(contact, there["members"])
    if here != {me}:
        return _verdict(
            OTHER_CLUSTER, detail=f"{me} is a member of another cluster: {sorted(here)}", **common
        )
    misfit = _misfit(me, status, contact, there)
    if misfit:
        return _verdict(DOES_NOT_FIT, detail=misfit, **common)
    content = local_content()
    if content:
        return _verdict(
            STANDALONE_WITH_CONTENT,
            content=content,
            detail=f"joining would delete from {me}: {', '.join(content)}",
            **common,
        )
    if listed:
        return _verdict(GHOST, detail=f"{contact} lists {me}, which knows nothing of it", **common)
    return _verdict(STANDALONE_EMPTY, detail=f"{me} stands alone and is empty", **common)


def _partitioned(me, members, running_here, apart):
    """
    Judge a node on one side of a partition, and tell which side has the majority.

    A member that is on neither side is down, and counts for nobody.
    """
    here = running_here & members
    there = (apart - here or apart) & members
    sides = [", ".join(sorted(side)) for side in (here, there)]
    service = _settings()["service"]
    if _most(here, members):
        advice = f"{sides[0]} are the majority: restart {service} on {sides[1]}"
    elif _most(there, members):
        advice = f"{sides[1]} are the majority: restart {service} on {sides[0]}"
    else:
        advice = f"neither side is the majority: restart {service} on the one you can do without"
    return _verdict(
        PARTITIONED,
        members=members,
        detail=f"{me} runs together with {sides[0]} and apart from {sides[1]}; {advice}",
    )


def _misfit(me, status, contact, there):
    """Tell why a node's version or feature flags do not fit a contact's; None where they do."""
    own = status["versions"].get(me, {}).get("rabbitmq_version")
    if own and there["version"] and not _mix(_series(own), _series(there["version"])):
        return f"{me} runs RabbitMQ {own}, {contact} runs {there['version']}"
    mine, theirs = status.get("feature_flags", []), there["flags"]
    unknown = _enabled_and_unknown(theirs, to=mine)
    if unknown:
        return (
            f"{me} (RabbitMQ {own}) does not know feature flags that {contact} "
            f"({there['version']}) has enabled: {', '.join(unknown)}"
        )
    if own and _series(own) >= (4, 1):
        # It is reset before it joins, and begins with these.
        mine = [flag for flag in mine if flag["stability"] == "required"]
    unknown = _enabled_and_unknown(mine, to=theirs)
    if unknown:
        return (
            f"{contact} (RabbitMQ {there['version']}) does not know feature flags that {me} "
            f"({own}) has enabled: {', '.join(unknown)}"
        )
    return None


def _enabled_and_unknown(flags, to):
    """
    List the enabled ones of a node's feature flags that keep it apart from another node.

    RabbitMQ lets pass what comes from a plugin that does not run on the other, and of which
    ``to``, the flags that the other knows, has none therefore.
    """
    known = {flag["name"] for flag in to}
    applications = {flag["provided_by"] for flag in to}
    return sorted(
        flag["name"]
        for flag in flags
        if flag["state"] == "enabled"
        and flag["provided_by"] in applications
        and flag["name"] not in known
    )


def _series(version):
    """Turn ``3.10.8`` into ``(3, 10)``."""
    return tuple(int(part) for part in version.split(".")[:2])


def _mix(one, other):
    """
    Tell whether nodes of two series may be in one cluster, as they are during an upgrade.

    See https://www.rabbitmq.com/docs/upgrade#rabbitmq-version-upgradability.
    """
    low, high = sorted((one, other))
    if (4, 0) <= high <= (4, 2):
        return low == (3, 13) or low >= (4, 0)
    return low == high or (low[0], low[1] + 1) == high


def members_on_disk():
    """
    List the members the local node remembers, from the file that Mnesia's generation keeps.

    Starts no VM; the node need not run.

    Returns a set of Erlang node names; empty where there is no such file.

    Raises CommandExecutionError where the minion may not read it.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.members_on_disk
    """
    path = os.path.join(_node_dir(__salt__["rabbit_topology.node_name"]()), "cluster_nodes.config")
    text = (_read(path) or b"").decode(errors="replace")
    # {[all members],[disc members]}; an atom with special characters is quoted.
    return set(re.findall(r"[\w-]+@[\w.-]+", text.split("]", 1)[0]))


def metadata_store():
    """
    Tell which store of metadata the local node has, where that is Khepri (RabbitMQ 4.3).

    Starts no VM; the node need not run.

    Returns a string that is another one once the node began anew; None where there is no
    such store.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.metadata_store
    """
    me = __salt__["rabbit_topology.node_name"]()
    if members_on_disk():
        # Mnesia's, whose wiped nodes no one takes back by itself.
        return None
    folders = glob.glob(os.path.join(_node_dir(me), "coordination", me, "*", ""))
    return " ".join(sorted(os.path.basename(path.rstrip("/")) for path in folders)) or None


def forget_former_self(contact):
    """
    Have a member forget this node as it was before it lost its data.

    Before that, who is to be joined and which replicas are to be returned here are noted: a run
    that is killed then has to know it when it is run again. Neither this node nor its app may
    run, as a member that runs is not forgotten; but where it has another cookie than the member.

    contact
        Erlang node name of the member.

    Raises CommandExecutionError when this node is still a member, or a quorum queue still counts
    on a replica here.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.forget_former_self rabbit@rabbitmq-node1
    """
    me = __salt__["rabbit_topology.node_name"]()
    replicas = replicas_here(contact)
    # From RabbitMQ 4 on forgetting takes the streams' replicas out, too.
    note_replicas(replicas)
    # A seed that nobody lists and that stands alone would otherwise take itself for the first.
    __salt__["rabbit_notes.write"]("returns_to", [contact])
    has_quorum_queues = any("type" not in replica for replica in replicas)
    has_shrunk = False
    if has_quorum_queues:
        # As long as it is a member it stays one, or the next run would find a node to be joined.
        require_no_replicas(contact, predict=True)
        has_shrunk = _has_shrunk(me, contact)
    if has_shrunk:
        _refuse_where_counted(me, contact, _quorum_queues_counting_on(me, contact))
    failure = forget(me, contact)
    if failure:
        require_no_replicas(contact)
    elif has_quorum_queues and not has_shrunk:
        # What takes longer than 15 s it does not tell.
        _refuse_where_counted(me, contact, _quorum_queues_counting_on(me, contact))


def require_no_replicas(contact, predict=False):
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

        salt-call rabbit_membership.require_no_replicas rabbit@rabbitmq-node1 predict=true
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
        note_replicas(_names(queues))
        failure = shrink(me, contact)
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
    streams = _names(streams)
    try:
        failure = __salt__["rabbitmqctl.delete_replicas"](me, streams, contact)
    except CommandExecutionError as err:
        return str(err)
    if not failure:
        note_replicas(_as_streams(streams))
    return failure


def _counting_on(me, contact):
    """List the queues that would be in danger if this node's replica of them began anew."""
    recorded = __salt__["rabbitmqctl.queues_with_replicas"](contact)
    return _with_state(
        [queue for queue in recorded if me in queue["members"] and len(queue["members"]) > 2],
        contact,
    )


def _with_state(recorded, at):
    """Add to recorded queues their ``state`` and who of them is ``online``, as it is listed."""
    listed = __salt__["rabbitmqctl.list_queues"](at) if recorded else []
    states = {
        (queue["vhost"], queue["name"]): {key: queue[key] for key in ("state", "online")}
        for queue in listed
    }
    unknown = {"state": "down", "online": []}
    return [{**queue, **states.get((queue["vhost"], queue["name"]), unknown)} for queue in recorded]


def _quorum_queues_counting_on(me, contact):
    """List the quorum queues among those of :func:`_counting_on`."""
    return [queue for queue in _counting_on(me, contact) if queue["type"] == "quorum"]


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

        salt-call rabbit_membership.quorum_queues_with_replica rabbit@rabbitmq-node3
    """
    recorded = __salt__["rabbitmqctl.quorum_queues_on"](node, at)
    return [
        {"vhost": queue["vhost"], "name": queue["name"], "can_shrink": _can_shrink(node, queue)}
        for queue in _with_state(recorded, at)
    ]


def _can_shrink(node, queue):
    """Tell whether a quorum queue seems to have a leader, which takes a node's replica out."""
    return queue["state"] != "down" and bool(set(queue["online"]) - {node})


def _names(queues):
    """Cut from listed queues what names them."""
    return [{"vhost": queue["vhost"], "name": queue["name"]} for queue in queues]


def _refuse_where_counted(me, contact, counting, failure=""):
    """Raise where queues count on a replica here, and say what to do."""
    if not counting:
        return
    names = ", ".join(f"{queue['name']} in {queue['vhost']}" for queue in counting)
    away = set().union(*(set(queue["members"]) - set(queue["online"]) for queue in counting))
    hosts = ", ".join(sorted(node.split("@", 1)[1] for node in away - {me}))
    start = f"start {_settings()['service']} on {hosts}" if hosts else "see that they have a leader"
    raise CommandExecutionError(
        f"joining would empty a replica here that still counts, and messages could be lost: {names}"
        f"{f' ({failure})' if failure else ''}. Next: {start} (rabbitmqctl list_queues --vhost "
        "VHOST name leader online), then run again. As a last resort, on "
        f"{contact.split('@', 1)[1]}: rabbitmq-queues delete_member --vhost VHOST NAME {me}, or "
        "delete the queue"
    )


def shrink(node, at=None):
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

        salt-call rabbit_membership.shrink rabbit@rabbitmq-node3
    """
    try:
        if not _has_shrunk(node, at):
            __salt__["rabbitmqctl.forget_cluster_node"](node, at)
    except CommandExecutionError as err:
        return "" if "not_a_cluster_node" in str(err) else str(err)
    return ""


def _has_shrunk(node, at):
    """Take a node's replicas out; False where RabbitMQ does that only where it forgets the node."""
    try:
        __salt__["rabbitmqctl.shrink"](node, at)
    except CommandExecutionError as err:
        if "node_not_running" not in str(err):
            raise
        return False
    return True


def replicas_here(contact):
    """
    List what counts on a replica on this node.

    contact
        Erlang node name of the member that is asked.

    Returns a list of mappings with ``vhost``, ``name``, and, for streams, ``type``: ``stream``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.replicas_here rabbit@rabbitmq-node1
    """
    me = __salt__["rabbit_topology.node_name"]()
    recorded = __salt__["rabbitmqctl.queues_with_replicas"](contact)
    here = [queue for queue in recorded if me in queue["members"]]
    quorum, streams = (
        _names(q for q in here if q["type"] == kind) for kind in ("quorum", "stream")
    )
    return quorum + _as_streams(streams)


def _as_streams(queues):
    """Mark queues as streams, as a note has them; those that it does not mark are quorum queues."""
    return [{**queue, "type": "stream"} for queue in queues]


def note_replicas(replicas):
    """
    Note which quorum queues and streams are to have a replica here.

    replicas
        List as :func:`replicas_here` returns it.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.note_replicas '[{vhost: /, name: orders}]'
    """
    noted = __salt__["rabbit_notes.fetch"]("replicas_to_return") or []
    new = [replica for replica in replicas if replica not in noted]
    if new:
        __salt__["rabbit_notes.write"]("replicas_to_return", noted + new)


def take_replicas_out(contact, let_go):
    """
    Take this node's replicas out of what counts on them, before it is reset while it is a member.

    Before that, they are noted, to be returned: a run that is killed then has to know it when it
    is run again. See :func:`require_no_replicas` for what an emptied one could do. Streams are
    given up while this node's app runs, before RabbitMQ 4 only then.

    contact
        Erlang node name of another member that runs.
    let_go
        List of phrases, as :func:`queues_only_here` has them, of queues that are lost: they keep
        their replica here and get none back.

    Raises CommandExecutionError when a quorum queue, or a stream that this node's app runs for,
    still counts on a replica here.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.take_replicas_out rabbit@rabbitmq-node1 '[]'
    """
    me = __salt__["rabbit_topology.node_name"]()
    replicas = [replica for replica in replicas_here(contact) if _phrase(replica) not in let_go]
    note_replicas(replicas)
    queues = [replica for replica in replicas if "type" not in replica]
    streams = _names(replica for replica in replicas if "type" in replica)
    failure = ""
    if streams:
        failure = __salt__["rabbitmqctl.delete_replicas"](me, streams, contact)
    if queues:
        __salt__["rabbitmqctl.shrink"](me, contact)
        here = map(_phrase, __salt__["rabbitmqctl.quorum_queues_on"](me, contact))
        queues = [queue for queue in here if queue not in let_go]
    if queues or (failure and "node_not_running" not in failure):
        raise CommandExecutionError(
            f"{', '.join(queues) or failure}: a replica here still counts. Next: rabbitmqctl "
            "list_queues --vhost VHOST name leader members online; see that the other members run "
            "and have caught up, then run again"
        )


def forget(name, at=None):
    """
    Have a member forget another one.

    name
        Erlang node name of the one to be forgotten.
    at : the local node
        Erlang node name of the member.

    Returns None, or, in a sentence, why that failed where the other one is no member any more all
    the same, as RabbitMQ 4.3 does it with one that has the only replica of a queue.

    Raises CommandExecutionError when it is still a member.

    See https://www.rabbitmq.com/docs/clustering#removing-nodes.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.forget rabbit@rabbitmq-node3
    """
    try:
        __salt__["rabbitmqctl.forget_cluster_node"](name, at)
    except CommandExecutionError as err:
        __salt__["rabbitmqctl.forget_cached_reads"]()
        status = __salt__["rabbitmqctl.cluster_status"](at)
        if name in listed_in(status):
            raise
        return str(err)
    return None


def set_data_aside(service):
    """
    Keep this node's data under another name, so that its next start is a first one.

    service
        Name of RabbitMQ's service; it is stopped and stays so.

    Returns the folder where the data is now.

    Raises CommandExecutionError when that fails; a service that ran goes on then.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.set_data_aside rabbitmq-server
    """
    me = __salt__["rabbit_topology.node_name"]()
    source = _node_dir(me)
    aside = _aside(source)
    kept = os.path.join(aside, f"{me}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    ran = __salt__["rabbit_host.service_has_begun"](service)
    __salt__["rabbit_host.systemctl"]("stop", service)
    try:
        with _opened_folder(aside) as folder:
            os.rename(source, os.path.basename(kept), dst_dir_fd=folder)
            # The feature flags of the cluster it was in lie beside its data.
            for path in glob.glob(f"{glob.escape(source)}-feature_flags"):
                name = f"{os.path.basename(kept)}-feature_flags"
                os.rename(path, name, dst_dir_fd=folder)
    except BaseException as err:
        failed = f"{source} could not be set aside: {err or type(err).__name__}"
        if ran:
            __salt__["rabbit_host.systemctl"]("start", service, f"and {failed}", no_block=True)
        if isinstance(err, OSError):
            raise CommandExecutionError(f"{failed}. Next: see to that, then run again") from err
        raise
    __salt__["rabbitmqctl.forget_cached_reads"]()
    return kept


@contextlib.contextmanager
def _opened_folder(path):
    """Hold a folder itself: RabbitMQ's account may put a link in its place meanwhile."""
    descriptor = os.open(path, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _node_dir(me):
    """Tell the folder of the node's own data."""
    data_dir = _settings()["data_dir"]
    return os.path.join(data_dir, "mnesia", me)


def _aside(source):
    """Make the folder for data that is set aside, on the file system where the data is."""
    beside = os.path.dirname(source)
    try:
        for folder in (f"{beside}.aside", os.path.join(beside, ".aside")):
            with salt.utils.files.set_umask(0o077):
                os.makedirs(folder, exist_ok=True)
            if os.path.islink(folder):
                raise CommandExecutionError(
                    f"{__grains__['id']}: data cannot be set aside: {folder} is a link; expected "
                    f"a folder. Next: ls -l {folder}"
                )
            if os.stat(folder).st_dev == os.stat(source).st_dev:
                return folder
    except OSError as err:
        raise CommandExecutionError(f"no folder for data that is set aside: {err}") from err
    raise CommandExecutionError(
        f"{source} is a file system of its own, so it cannot be set aside. "
        "Next: move what is in it away by hand, then run again"
    )


def queues_on_disk(contact):
    """
    List the queues that only the local node's disk has, whether it runs or not.

    Of quorum queues and streams these are the ones without a majority of replicas on other
    members that run, of classic queues those that are not mirrored, or whose mirror visibly has
    less. One that was deleted, or declared anew, since is listed too: it cannot be told.

    contact
        Erlang node name of the member that knows the cluster's queues.

    Returns a list of phrases such as ``queue orders in /``.

    Raises CommandExecutionError when the contact does not tell.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.queues_on_disk rabbit@rabbitmq-node1
    """
    classic, quorum, streams = _classic_queues_on_disk(), quorum_queues_on_disk(), _stream_folders()
    if not (classic or quorum or streams):
        return []
    listed = __salt__["rabbitmqctl.list_queues"](contact)
    served = _served_elsewhere(listed)
    folders = {_stream_folder(*stream) for stream in served["stream"]}
    return [
        *_classic_queues_only_here(classic, listed, contact),
        *(
            f"queue {queue['name']} in {queue['vhost'] or UNREADABLE}"
            for queue in quorum
            if (queue["vhost"], queue["name"]) not in served["quorum"]
        ),
        *(f"stream {name}" for name in streams if _without_timestamp(name) not in folders),
    ]


def _classic_queues_on_disk():
    """Map the vhosts of classic queues on the disk to names, and these to how many bytes are."""
    vhosts = {}
    for path in _on_disk("msg_stores", "vhosts", "*", "queues", "*", ".queue_name"):
        text = _read(path)
        if text is None:
            continue
        lines = text.decode(errors="replace").splitlines()
        named = dict(line.split(": ", 1) for line in lines if ": " in line)
        held = 0
        for file in glob.glob(os.path.join(glob.escape(os.path.dirname(path)), "*")):
            with contextlib.suppress(FileNotFoundError):
                held += os.path.getsize(file)
        queue = named.get("QUEUE", os.path.basename(os.path.dirname(path)))
        vhosts.setdefault(named.get("VHOST", UNREADABLE), {})[queue] = held
    return vhosts


def _classic_queues_only_here(vhosts, listed, contact):
    """List the classic queues among those of :func:`queues_on_disk`."""
    policies = __salt__["rabbitmqctl.export_definitions"](contact)["policies"] if vhosts else []
    served = {(queue["vhost"], queue["name"]): _most_on_disk(queue) for queue in listed}
    found = []
    for vhost, queues in sorted(vhosts.items()):
        for queue, held in sorted(queues.items()):
            there = served.get((vhost, queue))
            is_mirrored = _is_mirrored(queue, vhost, policies)
            if there is None or (held and not (is_mirrored and held <= there)):
                found.append(f"queue {queue} in {vhost}")
    return found


def _most_on_disk(queue):
    """Tell how many bytes a classic queue's messages take on a disk at most, beside the store."""
    return (queue["message_bytes"] or 0) + INDEX_ENTRY * (queue["messages"] or 0)


def _stream_folders():
    """List the names of the folders that streams have on the local node's disk."""
    return sorted(os.path.basename(path) for path in _on_disk("stream", "*") if os.path.isdir(path))


def _stream_folder(vhost, name):
    """Tell how RabbitMQ names a stream's folder, but for the timestamp that it puts at the end."""
    return re.sub(r"[^\w=-]", "_", f"{vhost}_{name}", flags=re.ASCII)


def _without_timestamp(folder):
    """Cut what makes the folder of a stream that is declared anew another one."""
    return re.sub(r"_\d+$", "", folder)


def replicas_on_disk(contact):
    """
    List what others serve and the local node's disk has a replica of, whether it runs or not.

    A stream is told by its folder's name: of those whose names differ only in what RabbitMQ
    replaces in it (``a.b`` and ``a b``), all are listed.

    contact
        Erlang node name of the member that knows the cluster's queues.

    Returns a list as :func:`replicas_here` does.

    Raises CommandExecutionError when the contact does not tell.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.replicas_on_disk rabbit@rabbitmq-node1
    """
    queues, folders = quorum_queues_on_disk(), set(map(_without_timestamp, _stream_folders()))
    if not (queues or folders):
        return []
    served = _served_elsewhere(__salt__["rabbitmqctl.list_queues"](contact))
    streams = [
        {"vhost": vhost, "name": name}
        for vhost, name in sorted(served["stream"])
        if _stream_folder(vhost, name) in folders
    ]
    return [q for q in queues if (q["vhost"], q["name"]) in served["quorum"]] + _as_streams(streams)


def _served_elsewhere(queues):
    """Give, as pairs of vhost and name by type, those that other members' replicas suffice for."""
    me = __salt__["rabbit_topology.node_name"]()
    return {
        kind: {
            (queue["vhost"], queue["name"])
            for queue in queues
            if queue["type"] == kind and _most(set(queue["online"]) - {me}, queue["members"])
        }
        for kind in ("quorum", "stream")
    }


def quorum_queues_on_disk():
    """
    List the quorum queues of which the local node's disk has a replica, whether it runs or not.

    Starts no VM.

    Returns a list of mappings with ``vhost`` and ``name``; where they cannot be read, the vhost
    is None and the name that of the replica's folder.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.quorum_queues_on_disk
    """
    found = []
    for path in sorted(_on_disk("quorum", "*", "*", "config")):
        text = _read(path)
        if text is None:
            continue
        resource = _RESOURCE.search(text)
        if resource:
            vhost, name = (_erlang_binary(part) for part in resource.groups())
        else:
            vhost, name = None, os.path.basename(os.path.dirname(path))
        found.append({"vhost": vhost, "name": name})
    return found


def _read(path):
    """Read a file, as bytes; None where there is none, as with a queue that was just deleted."""
    try:
        with salt.utils.files.fopen(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return None
    except PermissionError as err:
        raise CommandExecutionError(
            f"{path} cannot be read: {err.strerror}. Next: let Salt's minion run as root"
        ) from err


def _erlang_binary(text):
    """Read an Erlang binary as Erlang prints it: strings, or the numbers of its bytes."""
    strings = re.findall(rb'"((?:[^"\\]|\\.)*)"', text)
    if not strings:
        return bytes(int(number) for number in re.findall(rb"\d+", text)).decode(errors="replace")
    return re.sub(rb"\\(.)", rb"\1", b"".join(strings)).decode(errors="replace")


def _on_disk(*below):
    """List the paths that match a pattern in the folder of the node's own data."""
    folder = glob.escape(_node_dir(__salt__["rabbit_topology.node_name"]()))
    return glob.glob(os.path.join(folder, *below))


def _is_mirrored(queue, vhost, policies):
    """Tell whether the policy that applies to a classic queue is known to mirror it."""
    try:
        applying = [
            policy
            for policy in policies
            if policy["vhost"] == vhost
            and policy["apply-to"] in ("all", "queues", "classic_queues")
            and re.search(policy["pattern"], queue)
        ]
    except re.error:
        # Erlang's expressions can be others than Python's; then none is known to.
        return False
    first = max(applying, key=lambda policy: policy["priority"], default={"definition": {}})
    return "ha-mode" in first["definition"]


def queues_only_here(contact):
    """
    List the queues that the cluster would lose if the local node, a member that runs, was reset.

    Of quorum queues and streams these are the ones without a majority of replicas on other
    members that run, of classic queues those that this node serves and no synchronised mirror
    could, also empty ones: their bindings would go with them. Queues that are not durable, or
    exclusive, end with the app anyway.

    contact
        Erlang node name of another member that runs.

    Returns a list of phrases such as ``queue orders in /``.

    Raises CommandExecutionError when the contact does not tell.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.queues_only_here rabbit@rabbitmq-node1
    """
    me = __salt__["rabbit_topology.node_name"]()
    listed = __salt__["rabbitmqctl.list_queues"](contact)
    return [_phrase(queue) for queue in listed if _is_only_on(me, queue)]


def _is_only_on(me, queue):
    """Tell whether a listed queue would be lost with a node's data."""
    if queue["members"]:
        elsewhere = set(queue["online"]) - {me}
        return me in queue["members"] and not _most(elsewhere, queue["members"])
    lasts = queue["durable"] and not queue["exclusive"]
    return lasts and queue["node"] == me and not set(queue["mirrors"]) - {me}


def _phrase(queue):
    """Name a queue for people."""
    return f"queue {queue['name']} in {queue['vhost']}"


def queues_not_served(at=None):
    """
    List the queues that no member serves now: what they hold is on members that are down.

    at : the local node
        Erlang node name to ask.

    Returns a list of phrases such as ``queue orders in /``.

    Raises CommandExecutionError when the asked node does not run.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.queues_not_served
    """
    definitions = __salt__["rabbitmqctl.export_definitions"](at)
    served = {
        (queue["vhost"], queue["name"]): _is_served(queue)
        for queue in __salt__["rabbitmqctl.list_queues"](at)
    }
    # RabbitMQ 3.10 lists no quorum queue or stream of which no replica runs.
    named = {(queue["vhost"], queue["name"]) for queue in definitions.get("queues", [])}
    return [
        _phrase({"vhost": vhost, "name": name})
        for vhost, name in sorted(named | served.keys())
        if not served.get((vhost, name))
    ]


def _is_served(queue):
    """Tell whether a listed queue has a leader: its state, and of replicas most of them, run."""
    members = queue["members"]
    return queue["state"] != "down" and (not members or _most(queue["online"], members))


def _most(some, members):
    """Tell whether some of the members are their majority."""
    return 2 * len(some) > len(members)


def local_content():
    """
    List what a join would delete from the local node, which runs.

    Returns a list of phrases such as ``queue orders in / (12 messages)``; empty
    for a node that holds nothing but what a fresh one holds.

    Raises CommandExecutionError when the node does not run.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.local_content
    """
    if _is_fresh():
        return []
    return _named(__salt__["rabbitmqctl.export_definitions"]()) + [
        f"queue {queue['name']} in {queue['vhost']} ({queue['messages'] or 0} messages)"
        # The definitions name the durable queues only.
        for queue in __salt__["rabbitmqctl.list_queues"]()
    ]


def is_empty():
    """
    Tell whether the local node, which runs, holds nothing that a join would delete.

    Asks no more than it needs to: queues only where the definitions do not answer it.

    Returns a boolean.

    Raises CommandExecutionError when the node does not run.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.is_empty
    """
    if _is_fresh():
        return True
    definitions = __salt__["rabbitmqctl.export_definitions"]()
    if _named(definitions) or definitions.get("queues"):
        return False
    return not __salt__["rabbitmqctl.list_queues"]()


def _is_fresh():
    """
    Tell whether the management API shows the user of a fresh node a node without content.

    The usual answer before a join; it starts no VM. Any other is left to be asked for.
    """
    try:
        definitions = _api("definitions")
        # What guest may not see among the queues, the definitions have.
        return not (_named(definitions) or definitions["queues"] or _api("queues"))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        # No such plugin, no such user any more, or another program's port.
        return False


def _api(path):
    """Get a document of the local management API, as a fresh node's own user."""
    port = _settings()["management_port"]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/{path}")
    credentials = base64.b64encode(b"guest:guest").decode()
    request.add_header("Authorization", f"Basic {credentials}")
    # Not through a proxy that the minion's environment may name: this is this host's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        return json.load(answer)


def _named(definitions):
    """List what definitions hold beside what a fresh node's do; queues are not among it."""
    found = [f"vhost {v['name']}" for v in definitions["vhosts"] if v["name"] != "/"]
    found += [f"user {u['name']}" for u in definitions["users"] if u["name"] != "guest"]
    for kind, singular in (
        ("exchanges", "exchange"),
        ("policies", "policy"),
        ("parameters", "parameter"),
    ):
        found += [
            f"{singular} {item['name']} in {item['vhost']}"
            for item in definitions.get(kind, [])
            # Built in; 4.3 exports one of them.
            if not (kind == "exchanges" and item["name"].startswith("amq."))
        ]
    found += [
        f"global parameter {item['name']}"
        for item in definitions.get("global_parameters", [])
        if item["name"] not in BUILT_IN
    ]
    return found


def await_verdict(contacts, timeout=60, interval=3, timeout_alone=None):
    """
    Judge again until the node and a contact can be judged, at most for a while.

    contacts
        As for :func:`verdict`.
    timeout : 60
        Seconds to wait for a contact that cannot be reached, or for a node that runs and does
        not answer. Members do not answer for up to a minute after one of them lost its power.
    interval : 3
        Seconds between two tries.
    timeout_alone : None
        Seconds to wait for a contact where this node has no other members; as ``timeout``
        without it.

    Returns what :func:`verdict` returns last.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.await_verdict '[rabbit@rabbitmq-node1]' timeout=30
    """
    started = time.monotonic()
    while True:
        found = verdict(contacts)
        hangs = found["verdict"] == HANGS
        alone = len(found["members"]) < 2 and timeout_alone is not None and not hangs
        waited = time.monotonic() - started
        waits = hangs or found["verdict"] == SEED_UNREACHABLE
        if not waits or waited >= (timeout_alone if alone else timeout):
            return found
        time.sleep(interval)
        __salt__["rabbitmqctl.forget_cached_reads"]()
