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
import glob
import http.client
import json
import os
import re
import time
import urllib.request

from salt.exceptions import CommandExecutionError, SaltInvocationError

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
        if contacts[:1] == [me] and not __utils__["rabbit_majority.is_reached"](apart, on_disk):
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


def other_members_that_run(contacts):
    """
    List the brokers beside the local node, a member, that run as members of its cluster.

    contacts
        As for :func:`verdict`.

    Returns a list of Erlang node names, in the order of the contacts.

    Raises CommandExecutionError when the local node does not run.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.other_members_that_run '[rabbit@rabbitmq-node1]'
    """
    me = __salt__["rabbit_topology.node_name"]()
    running = __salt__["rabbitmqctl.cluster_status"]()["running_nodes"]
    others = [node for node in contacts if node != me]
    # A member that was just taken back may not see the others yet; they see it.
    return [node for node in others if node in running] or [
        node
        for node in others
        if (status := __salt__["rabbitmqctl.node_state"](node)["status"])
        and me in listed_in(status)
    ]


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
    content = __salt__["rabbit_queues.only_on_disk"](contact)
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
    if __utils__["rabbit_majority.is_reached"](here, members):
        advice = f"{sides[0]} are the majority: restart {service} on {sides[1]}"
    elif __utils__["rabbit_majority.is_reached"](there, members):
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


def require_ram_nodes(at=None):
    """
    Raise where a cluster has a store of metadata without RAM nodes, as Khepri.

    at : the local node
        Erlang node name of the member that is asked.

    Raises SaltInvocationError where that is so, CommandExecutionError when the asked node does not
    run.

    See https://www.rabbitmq.com/docs/clustering#ram-nodes.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.require_ram_nodes rabbit@rabbitmq-node1
    """
    status = __salt__["rabbitmqctl.cluster_status"](at)
    flags = {flag["name"]: flag["state"] for flag in status.get("feature_flags", [])}
    if "ram_nodes" in status and flags.get("khepri_db") != "enabled":
        return
    # Of a member that does not answer it is unknown.
    versions = {each["rabbitmq_version"] for each in status["versions"].values()} - {None}
    khepri = " with Khepri" if "ram_nodes" in status else ""
    raise SaltInvocationError(
        f"RabbitMQ {', '.join(sorted(versions))}{khepri} has no RAM nodes. Set "
        f"rabbit_ha:hosts:{__grains__['id']}:node_type to disc"
    )


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
    path = os.path.join(__salt__["rabbit_topology.node_dir"](), "cluster_nodes.config")
    text = (__utils__["rabbit_node_data.read"](path) or b"").decode(errors="replace")
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
    if members_on_disk():
        # Mnesia's, whose wiped nodes no one takes back by itself.
        return None
    me, folder = __salt__["rabbit_topology.node_name"](), __salt__["rabbit_topology.node_dir"]()
    folders = glob.glob(os.path.join(folder, "coordination", me, "*", ""))
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
    replicas = __salt__["rabbit_replicas.here"](contact)
    # From RabbitMQ 4 on forgetting takes the streams' replicas out, too.
    __salt__["rabbit_replicas.note"](replicas)
    # A seed that nobody lists and that stands alone would otherwise take itself for the first.
    __salt__["rabbit_notes.write"]("returns_to", [contact])
    has_quorum_queues = bool(__salt__["rabbit_replicas.by_type"](replicas)["quorum_queues"])
    has_shrunk = False
    if has_quorum_queues:
        # As long as it is a member it stays one, or the next run would find a node to be joined.
        __salt__["rabbit_replicas.require_none"](contact, predict=True)
        has_shrunk = __salt__["rabbit_replicas.shrink"](me, contact)
    if has_shrunk:
        __salt__["rabbit_replicas.require_no_quorum_queues"](contact)
    failure = forget(me, contact)
    if failure:
        __salt__["rabbit_replicas.require_none"](contact)
    elif has_quorum_queues and not has_shrunk:
        # What takes longer than 15 s it does not tell.
        __salt__["rabbit_replicas.require_no_quorum_queues"](contact)


def require_gone(name, offline=False):
    """
    Raise where a member may not be forgotten.

    name
        Erlang node name of the one to be forgotten.
    offline : False
        Boolean: it is to be forgotten by the local node while that is stopped.

    Raises SaltInvocationError for the local node, CommandExecutionError where the member runs, is
    the only disc node, or, with ``offline``, where the local node runs.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.require_gone rabbit@rabbitmq-node3
    """
    me = __salt__["rabbit_topology.node_name"]()
    if name == me:
        raise SaltInvocationError("a node does not forget itself; apply this on another member")
    if offline:
        if __salt__["rabbitmqctl.node_state"]()["state"] != "node not running":
            raise CommandExecutionError(f"{me} runs: offline is for a cluster of which no one does")
        return
    status = __salt__["rabbitmqctl.cluster_status"]()
    service, hosts = _settings()["service"], __utils__["rabbit_names.hosts"]
    if name in status["running_nodes"]:
        raise CommandExecutionError(
            f"it runs. Next, on {hosts([name])}: systemctl disable --now {service}"
        )
    if "ram_nodes" in status and not set(status["disk_nodes"]) - {name}:
        raise CommandExecutionError(
            f"it is the only disc node, beside {hosts(status['ram_nodes'])}: without one the "
            "cluster keeps its metadata nowhere. Make another member a disc node first "
            "(rabbit_ha:hosts:HOST:node_type: disc); should RabbitMQ refuse that, start "
            f"{service} on {hosts([name])} once more for it"
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


def forget_offline(name):
    """
    Have the local node, which is stopped, forget a member.

    Its file of members names that member until the node starts.

    name
        Erlang node name of the one to be forgotten.

    Returns a boolean: True where it had done so before.

    Raises CommandExecutionError when that fails, as with RabbitMQ 4.3.

    See https://www.rabbitmq.com/docs/clustering#forced-removal.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.forget_offline rabbit@rabbitmq-node3
    """
    try:
        __salt__["rabbitmqctl.forget_cluster_node"](name, offline=True)
    except CommandExecutionError as err:
        if "not_a_cluster_node" in str(err):
            return True
        raise
    return False


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
