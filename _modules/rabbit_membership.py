"""
Where this broker stands towards its cluster, judged from both sides.

A node that may join, one that is a member already, and one that must not be
touched are told apart by what the node itself and another member say; a status
text of one side alone is not enough, since ``join_cluster`` empties the node.

See https://www.rabbitmq.com/docs/clustering.
"""

import re
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError

JOINED = "joined"
SEED = "seed"
STANDALONE_EMPTY = "standalone, empty"
STANDALONE_WITH_CONTENT = "standalone, with content"
APP_STOPPED_MEMBER = "app stopped, member"
APP_STOPPED_NOT_A_MEMBER = "app stopped, not a member"
NODE_NOT_RUNNING = "node not running"
COOKIE_MISMATCH = "cookie mismatch"
SEED_UNREACHABLE = "seed unreachable"
FORGOTTEN = "forgotten by the cluster"
GHOST = "ghost in the cluster"
OTHER_CLUSTER = "other cluster"
PARTITIONED = "partitioned"


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
    ``content`` (a list of what a join would delete, else empty).

    Raises CommandExecutionError when the tools fail in a way not foreseen.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.verdict '[rabbit@rabbitmq-node1, rabbit@rabbitmq-node2]'
    """
    me = __salt__["rabbit_topology.node_name"]()
    local = __salt__["rabbitmqctl.node_state"]()
    if local["state"] in ("node not running", "unreachable", "cookie mismatch"):
        return _verdict(NODE_NOT_RUNNING, detail=f"{me} is {local['state']}: {local['said']}")

    here = (
        set(local["status"]["disk_nodes"]) | set(local["status"].get("ram_nodes", []))
        if local["status"]
        else None
    )
    if here and me not in here:
        raise CommandExecutionError(
            f"{__grains__['id']}: the local node calls itself {sorted(here)}, pillar calls it "
            f"{me}; the host name and the minion id must agree"
        )
    if local["status"] and any(local["status"].get("partitions", {}).values()):
        return _verdict(
            PARTITIONED,
            members=here,
            detail=f"{me} reports partitions: {local['status']['partitions']}",
        )
    if contacts and contacts[0] == me and (not here or len(here) > 1 or len(contacts) == 1):
        return _seed_verdict(me, local, here)

    contact, there, mismatch = _other_side(me, contacts, here or set())
    if there is None:
        if mismatch:
            return _verdict(
                COOKIE_MISMATCH,
                contact=mismatch,
                members=here,
                detail=f"{mismatch} refuses the Erlang cookie of {me}",
            )
        if contacts and contacts[0] == me:
            return _seed_verdict(me, local, here)
        return _verdict(
            SEED_UNREACHABLE,
            members=here,
            detail=f"{me} reaches none of {', '.join(n for n in contacts if n != me)}",
        )
    if contacts[0] == me and me not in there["members"] and len(there["members"]) == 1:
        # The others have not formed a cluster: the seed waits for them.
        return _seed_verdict(me, local, here)
    return _compared(me, here, contact, there)


def _verdict(word, contact=None, members=(), detail="", content=()):
    """Build what :func:`verdict` returns."""
    return {
        "verdict": word,
        "contact": contact,
        "members": sorted(members or ()),
        "detail": detail,
        "content": list(content),
    }


def _seed_verdict(me, local, here):
    """Judge the seed, which others join and which itself joins nobody."""
    if local["state"] == "app stopped":
        return _verdict(
            APP_STOPPED_MEMBER, members=[me], detail=f"the app of the seed {me} is down"
        )
    return _verdict(SEED, contact=me, members=here, detail=f"{me} is the seed")


def _other_side(me, contacts, known):
    """
    Ask the first contact that answers; members that the node runs with go first.

    Returns the contact, a mapping ``members`` and ``running`` (sets) or None, and
    the contact that refused the cookie, or None.
    """
    refused = None
    for contact in sorted((n for n in contacts if n != me), key=lambda n: n not in known):
        found = __salt__["rabbitmqctl.node_state"](contact)
        if found["state"] == "running":
            status = found["status"]
            members = set(status["disk_nodes"]) | set(status.get("ram_nodes", []))
            if members == {contact} and contact not in {contacts[0], *known}:
                # It waits for the seed as this node does: no cluster to join.
                continue
            return contact, {"members": members, "running": set(status["running_nodes"])}, None
        if found["state"] == "cookie mismatch":
            refused = refused or contact
    return None, None, refused


def _compared(me, here, contact, there):
    """Judge from both sides; ``here`` is None where the local app is stopped."""
    listed = me in there["members"]
    common = {"contact": contact, "members": there["members"]}
    if here is None:
        remembered = _remembered_members(me)
        if listed and (remembered is None or contact in remembered):
            return _verdict(
                APP_STOPPED_MEMBER, detail=f"{contact} lists {me}, whose app is down", **common
            )
        if listed:
            return _verdict(
                GHOST, detail=f"{contact} lists {me}, which knows nothing of it", **common
            )
        if remembered and contact in remembered:
            return _verdict(
                FORGOTTEN, detail=f"{me} lists {contact}, which does not list it", **common
            )
        return _verdict(
            APP_STOPPED_NOT_A_MEMBER,
            detail=f"the app of {me} is down and {contact} does not list it",
            **common,
        )
    if listed and contact in here:
        if me in there["running"]:
            return _verdict(JOINED, detail=f"{me} and {contact} list each other", **common)
        return _verdict(PARTITIONED, detail=f"{me} runs, but {contact} sees it as gone", **common)
    if listed:
        return _verdict(GHOST, detail=f"{contact} lists {me}, which knows nothing of it", **common)
    if contact in here:
        return _verdict(FORGOTTEN, detail=f"{me} lists {contact}, which does not list it", **common)
    if here != {me}:
        return _verdict(
            OTHER_CLUSTER, detail=f"{me} is a member of another cluster: {sorted(here)}", **common
        )
    content = local_content()
    if content:
        return _verdict(
            STANDALONE_WITH_CONTENT,
            content=content,
            detail=f"joining would delete from {me}: {', '.join(content)}",
            **common,
        )
    return _verdict(STANDALONE_EMPTY, detail=f"{me} stands alone and is empty", **common)


def _remembered_members(me):
    """
    Read which members a node whose app is stopped remembers (Mnesia only).

    Returns a set of Erlang node names, or None where no such file is kept.
    """
    data_dir = __salt__["rabbit_topology.settings"]()["rabbitmq"]["data_dir"]
    path = f"{data_dir}/mnesia/{me}/cluster_nodes.config"
    try:
        with salt.utils.files.fopen(path, encoding="utf-8") as handle:
            text = handle.read()
    except FileNotFoundError:
        return None
    # {[all members],[disc members]}; an atom with special characters is quoted.
    return set(re.findall(r"[\w-]+@[\w.-]+", text.split("]", 1)[0]))


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
    definitions = __salt__["rabbitmqctl.export_definitions"]()
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
    for vhost in definitions["vhosts"]:
        found += [
            f"queue {queue['name']} in {vhost['name']} ({queue['messages']} messages)"
            for queue in __salt__["rabbitmqctl.list_queues"](vhost["name"])
        ]
    return found


def await_verdict(contacts, timeout=60, interval=3):
    """
    Judge again until the node and a contact can be judged, at most for a while.

    contacts
        As for :func:`verdict`.
    timeout : 60
        Seconds to wait for a contact that cannot be reached.
    interval : 3
        Seconds between two tries.

    Returns what :func:`verdict` returns last.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_membership.await_verdict '[rabbit@rabbitmq-node1]' timeout=30
    """
    deadline = time.monotonic() + timeout
    while True:
        found = verdict(contacts)
        if found["verdict"] != SEED_UNREACHABLE or time.monotonic() >= deadline:
            return found
        time.sleep(interval)
        __salt__["rabbitmqctl.forget_cached_reads"]()
