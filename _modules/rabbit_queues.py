"""
Which queues a node has, on its disk or while it runs, and what of them the cluster would lose.

What is only here would go with this node's data; what no member serves is on members that are
down. The disk is read without a VM, whether the node runs or not.

See https://www.rabbitmq.com/docs/queues and https://www.rabbitmq.com/docs/quorum-queues.
"""

import contextlib
import glob
import os
import re
import time

# In place of a name.
UNREADABLE = "a vhost that cannot be read"
# Bytes that one message's properties take in a classic queue's index, at most in the usual case.
INDEX_ENTRY = 600
# The queue in what Ra keeps of a replica.
_RESOURCE = re.compile(
    rb"queue_resource\s*=>\s*\{resource,\s*(<<.*?>>),\s*queue,\s*(<<.*?>>)\}", re.S
)


def only_on_disk(contact):
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

        salt-call rabbit_queues.only_on_disk rabbit@rabbitmq-node1
    """
    classic, quorum, streams = _classic_queues_on_disk(), quorum_queues_on_disk(), _stream_folders()
    if not (classic or quorum or streams):
        return []
    listed = __salt__["rabbitmqctl.list_queues"](contact)
    served = _served_elsewhere(listed)
    folders = {_stream_folder(*stream) for stream in served["stream"]}
    return [
        *_classic_queues_only_here(classic, listed, contact),
        *_phrases(
            {**queue, "vhost": queue["vhost"] or UNREADABLE}
            for queue in quorum
            if (queue["vhost"], queue["name"]) not in served["quorum"]
        ),
        *(f"stream {name}" for name in streams if _without_timestamp(name) not in folders),
    ]


def _classic_queues_on_disk():
    """Map the vhosts of classic queues on the disk to names, and these to how many bytes are."""
    vhosts = {}
    for path in _on_disk("msg_stores", "vhosts", "*", "queues", "*", ".queue_name"):
        text = __utils__["rabbit_node_data.read"](path)
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
    """List the classic queues among those of :func:`only_on_disk`."""
    policies = __salt__["rabbitmqctl.export_definitions"](contact)["policies"] if vhosts else []
    served = {(queue["vhost"], queue["name"]): _most_on_disk(queue) for queue in listed}
    found = []
    for vhost, queues in sorted(vhosts.items()):
        for queue, held in sorted(queues.items()):
            there = served.get((vhost, queue))
            is_mirrored = _is_mirrored(queue, vhost, policies)
            if there is None or (held and not (is_mirrored and held <= there)):
                found.append({"vhost": vhost, "name": queue})
    return _phrases(found)


def _most_on_disk(queue):
    """Tell how many bytes a classic queue's messages take on a disk at most, beside the store."""
    return (queue["message_bytes"] or 0) + INDEX_ENTRY * (queue["messages"] or 0)


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


def replicas_on_disk(contact):
    """
    List what others serve and the local node's disk has a replica of, whether it runs or not.

    A stream is told by its folder's name: of those whose names differ only in what RabbitMQ
    replaces in it (``a.b`` and ``a b``), all are listed.

    contact
        Erlang node name of the member that knows the cluster's queues.

    Returns a list as ``rabbit_replicas.here`` does.

    Raises CommandExecutionError when the contact does not tell.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_queues.replicas_on_disk rabbit@rabbitmq-node1
    """
    queues, folders = quorum_queues_on_disk(), set(map(_without_timestamp, _stream_folders()))
    if not (queues or folders):
        return []
    served = _served_elsewhere(__salt__["rabbitmqctl.list_queues"](contact))
    streams = [
        {"vhost": vhost, "name": name, "type": "stream"}
        for vhost, name in sorted(served["stream"])
        if _stream_folder(vhost, name) in folders
    ]
    return [q for q in queues if (q["vhost"], q["name"]) in served["quorum"]] + streams


def _served_elsewhere(queues):
    """Give, as pairs of vhost and name by type, those that other members' replicas suffice for."""
    me = __salt__["rabbit_topology.node_name"]()
    return {
        kind: {
            (queue["vhost"], queue["name"])
            for queue in queues
            if queue["type"] == kind and _are_most(set(queue["online"]) - {me}, queue["members"])
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

        salt-call rabbit_queues.quorum_queues_on_disk
    """
    found = []
    for path in sorted(_on_disk("quorum", "*", "*", "config")):
        text = __utils__["rabbit_node_data.read"](path)
        if text is None:
            continue
        resource = _RESOURCE.search(text)
        if resource:
            vhost, name = (_erlang_binary(part) for part in resource.groups())
        else:
            vhost, name = None, os.path.basename(os.path.dirname(path))
        found.append({"vhost": vhost, "name": name})
    return found


def _erlang_binary(text):
    """Read an Erlang binary as Erlang prints it: strings, or the numbers of its bytes."""
    strings = re.findall(rb'"((?:[^"\\]|\\.)*)"', text)
    if not strings:
        return bytes(int(number) for number in re.findall(rb"\d+", text)).decode(errors="replace")
    return re.sub(rb"\\(.)", rb"\1", b"".join(strings)).decode(errors="replace")


def _stream_folders():
    """List the names of the folders that streams have on the local node's disk."""
    return sorted(os.path.basename(path) for path in _on_disk("stream", "*") if os.path.isdir(path))


def _stream_folder(vhost, name):
    """Tell how RabbitMQ names a stream's folder, but for the timestamp that it puts at the end."""
    return re.sub(r"[^\w=-]", "_", f"{vhost}_{name}", flags=re.ASCII)


def _without_timestamp(folder):
    """Cut what makes the folder of a stream that is declared anew another one."""
    return re.sub(r"_\d+$", "", folder)


def _on_disk(*below):
    """List the paths that match a pattern in the folder of the node's own data."""
    folder = glob.escape(__salt__["rabbit_topology.node_dir"]())
    return glob.glob(os.path.join(folder, *below))


def only_here(contact):
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

        salt-call rabbit_queues.only_here rabbit@rabbitmq-node1
    """
    me = __salt__["rabbit_topology.node_name"]()
    listed = __salt__["rabbitmqctl.list_queues"](contact)
    return _phrases(queue for queue in listed if _is_only_on(me, queue))


def _is_only_on(me, queue):
    """Tell whether a listed queue would be lost with a node's data."""
    if queue["members"]:
        elsewhere = set(queue["online"]) - {me}
        return me in queue["members"] and not _are_most(elsewhere, queue["members"])
    lasts = queue["durable"] and not queue["exclusive"]
    return lasts and queue["node"] == me and not set(queue["mirrors"]) - {me}


def not_served(at=None):
    """
    List the queues that no member serves now: what they hold is on members that are down.

    at : the local node
        Erlang node name to ask.

    Returns a list of phrases such as ``queue orders in /``.

    Raises CommandExecutionError when the asked node does not run.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_queues.not_served
    """
    definitions = __salt__["rabbitmqctl.export_definitions"](at)
    served = {
        (queue["vhost"], queue["name"]): _is_served(queue)
        for queue in __salt__["rabbitmqctl.list_queues"](at)
    }
    # RabbitMQ 3.10 lists no quorum queue or stream of which no replica runs.
    named = {(queue["vhost"], queue["name"]) for queue in definitions.get("queues", [])}
    return _phrases(
        {"vhost": vhost, "name": name}
        for vhost, name in sorted(named | served.keys())
        if not served.get((vhost, name))
    )


def _is_served(queue):
    """Tell whether a listed queue has a leader: its state, and of replicas most of them, run."""
    members = queue["members"]
    return queue["state"] != "down" and (not members or _are_most(queue["online"], members))


def await_served(contact, known):
    """
    Give queues that no member serves any more a moment: mirrors may be on their way to take over.

    contact
        Erlang node name to ask.
    known
        List of phrases, as :func:`not_served` has them, of queues that are not waited for.

    Returns a list of phrases of those, of the others, that no member serves after 7 s.

    Raises CommandExecutionError when the contact does not run.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_queues.await_served rabbit@rabbitmq-node1 '[]'
    """
    for wait in (1, 2, 4, None):
        late = [queue for queue in not_served(contact) if queue not in known]
        if wait is None or not late:
            return late
        time.sleep(wait)
        __salt__["rabbitmqctl.forget_cached_reads"]()


def _phrases(queues):
    """Name queues for people."""
    # A generator would run without this module's dunders.
    return __utils__["rabbit_names.phrases"](list(queues))


def _are_most(some, members):
    """Tell whether some of the members are their majority."""
    return __utils__["rabbit_majority.is_reached"](some, members)
