"""
RabbitMQ's command line tools, one function a command.

Every call starts an Erlang VM, which is the expensive thing on a broker: what
reads the whole node (:func:`cluster_status`, :func:`export_definitions`) keeps
its answer in ``__context__`` until a command of this module changes something.

See https://www.rabbitmq.com/docs/man/rabbitmqctl.8.
"""

import contextlib
import html
import itertools
import json
import os
import pwd
import re
import socket
import time

import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError, SaltInvocationError

CACHE = "rabbitmqctl.read"
# What the tools use in place of the cookie in the node's file, see rabbit_cookie.lend.
LENT_COOKIE = "rabbitmqctl.lent_cookie"
# What the shell says when the program is not there.
EX_NOT_FOUND = 127
EPMD_PORT = 4369
# Seconds in which a node may say what state it is in.
STATUS_TIMEOUT = 15

RUNNING = "running"
APP_STOPPED = "app stopped"
DOWN = "node not running"
UNREACHABLE = "unreachable"
COOKIE_MISMATCH = "cookie mismatch"

QUEUE_TYPES = ("classic", "quorum", "stream")

_NODE_NAME = re.compile(r"[\w-]+@[\w.-]+")
_WITH_VALUES = ("parameters", "global_parameters")
# Of a command's options: what comes after it is a name, also one that begins with a dash.
_END = "--"
# So much is told of what a failed tool printed.
_CHARACTERS = 600
# A pattern of all names could be longer than an argument may be.
_NAMES_IN_A_PATTERN = 200
# In an expression each byte of a name takes four.
_NAMES_IN_AN_EXPRESSION = 50
# What list_queues prints of the queues of one vhost, for all of them, and processes by their nodes.
# A member without a stream coordinator, as one that was just taken back, does not know which
# replicas of streams run. Without double quotes, backslashes and dollars: Debian's tools hand
# their arguments to a shell.
_EVERY_QUEUE = """
Items = [Item || Item <- [name, type, durable, exclusive, state, pid, synchronised_slave_pids,
                          messages, message_bytes, members, online],
         Item =/= synchronised_slave_pids orelse lists:member(Item, rabbit_amqqueue:info_keys())],
Down = fun(Q) -> [{pid, amqqueue:get_pid(Q)}
                  | rabbit_queue_type:info_down(Q, Items -- [pid], down)]
       end,
Up = fun(Q) -> try rabbit_amqqueue:info(Q, Items)
               catch _:_ -> try rabbit_amqqueue:info(Q, Items -- [online]) catch _:_ -> Down(Q) end
               end
     end,
Plain = fun(Pid) when is_pid(Pid) -> node(Pid);
           ([Pid | _] = Pids) when is_pid(Pid) -> [node(Each) || Each <- Pids];
           ({resource, _, _, Name}) -> Name;
           (Other) -> Other
        end,
[[{vhost, VHost} | [{Item, Plain(Value)} || {Item, Value} <- Queue]]
 || VHost <- rabbit_vhost:list_names(),
    Queue <- [Up(Q) || Q <- rabbit_amqqueue:list(VHost)]
             ++ [Down(Q) || Q <- rabbit_amqqueue:list_down(VHost)]].
"""

# What decides where RabbitMQ starts replicas: also of queues that list_queues does not have, or
# not with their members, as none of them leads. As free of what a shell would read.
_EVERY_REPLICA = """
[#{type => Type, vhost => amqqueue:get_vhost(Q), name => element(4, amqqueue:get_name(Q)),
  members => case Nodes of #{} -> maps:keys(Nodes); _ -> Nodes end}
 || Type <- [quorum, stream], Q <- rabbit_amqqueue:list_by_type(Type),
    #{nodes := Nodes} <- [amqqueue:get_type_state(Q)]].
"""


def _run(arguments, tool="rabbitmqctl", node=None, timeout=120):
    """
    Run a tool without a shell; see :func:`_checked` for the failure side.

    Returns the mapping of ``cmd.run_all``.
    """
    command = [tool, "--silent", *(["--node", node] if node else []), *arguments]
    lent = __context__.get(LENT_COOKIE)
    try:
        return __salt__["cmd.run_all"](
            command,
            python_shell=False,
            timeout=timeout,
            env={
                "LANG": "C.UTF-8",
                "LC_ALL": "C.UTF-8",
                **({"RABBITMQ_ERLANG_COOKIE": lent} if lent else {}),
            },
            ignore_retcode=True,
            output_loglevel="quiet",
            hide_output=False,
        )
    except CommandExecutionError as err:
        raise CommandExecutionError(
            f"{tool} could not be run: {err}. Is RabbitMQ installed? "
            "salt-call state.apply rabbit_ha.rabbitmq.installed"
        ) from err


def _checked(arguments, step, secret=False, **kwargs):
    """
    Run a tool and raise when it fails.

    step
        What this is part of, for the error message.
    secret : False
        Whether the document that it prints is secret, and on failure not told.

    Returns what the tool printed, a string.
    """
    answer = _run(arguments, **kwargs)
    if answer["retcode"] != 0:
        if secret:
            answer = {**answer, "stdout": answer["stdout"].partition("{")[0]}
        there = f" on {kwargs['node']}" if kwargs.get("node") else ""
        raise CommandExecutionError(
            f"{step}{there} failed: {arguments[0]} exited with {answer['retcode']}: {_said(answer)}"
        )
    return answer["stdout"]


def _said(answer):
    """Shorten what a failed tool printed to its telling lines."""
    return _all_said(answer)[:_CHARACTERS]


def _all_said(answer):
    """Join the telling lines of what a failed tool printed."""
    lines = [
        line.strip()
        for line in _found_out(answer).splitlines()
        if line.strip() and "warning" not in line.lower()
    ]
    return " ".join(lines)


def _found_out(answer):
    """
    Cut what a failed tool prints on every connection failure: advice and its own details.

    The advice names every possible reason, a wrong Erlang cookie too.
    """
    text = answer["stderr"] + "\n" + answer["stdout"]
    heading, _, diagnostics = text.rpartition("DIAGNOSTICS\n===========\n")
    return diagnostics.partition("Current node details:")[0] if heading else text


def _json(text, step, secret=False):
    """
    Decode the document that a tool printed, warnings before it left out.

    secret : False
        Whether what it printed is not to be told.
    """
    failure = None
    # A warning need not end its line, and may have brackets itself.
    for start in itertools.islice(re.finditer(r"^[\[{]|[\[{]$", text, re.MULTILINE), 20):
        try:
            return json.loads(text[start.start() :])
        except ValueError as err:
            failure = failure or err
    if failure is None:
        found = f"{len(text)} characters" if secret else repr(text[:200])
        raise CommandExecutionError(f"{step}: expected a JSON document, found {found}")
    # Not shown, and its text not kept in the exception: there may be secrets in it.
    raise CommandExecutionError(f"{step}: expected a JSON document, found a broken one: {failure}")


@contextlib.contextmanager
def _changing():
    """Forget what was read, however it ends: a command that fails may have changed something."""
    try:
        yield
    finally:
        forget_cached_reads()


def _change(arguments, step, **kwargs):
    """Run a tool that changes something; see :func:`_checked`."""
    with _changing():
        return _checked(arguments, step, **kwargs)


def forget_cached_reads():
    """
    Forget what was read, because something else than this module changed the node.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.forget_cached_reads
    """
    __context__.pop(CACHE, None)


def installed():
    """
    Tell whether RabbitMQ's tools are on this host, and can be run.

    Returns a boolean.

    Raises CommandExecutionError when dpkg cannot tell.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.installed
    """
    if not salt.utils.path.which("rabbitmqctl"):
        return False
    try:
        pwd.getpwnam(_service_user())
    except KeyError:
        # dpkg unpacks the tools first, and was interrupted before it made their account.
        unfinished = __salt__["rabbit_host.unfinished_packages"]()
        return not any(package.startswith("rabbitmq-server ") for package in unfinished)
    return True


def _settings():
    """Give what pillar says of RabbitMQ."""
    return __salt__["rabbit_topology.settings"]()["rabbitmq"]


def _service_user():
    """Name the account that RabbitMQ and its tools run as."""
    return _settings()["service_user"]


def is_running():
    """
    Tell whether the local node runs.

    Returns a boolean; False also where RabbitMQ is not installed.

    Raises CommandExecutionError as :func:`node_state` does.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.is_running
    """
    return installed() and node_state()["state"] == RUNNING


def node_state(node=None):
    """
    Tell what state a node is in and, where it runs, what it says of the cluster.

    node : the local node
        Erlang node name to ask.

    Returns a mapping with ``state``: ``running``, ``app stopped``, ``node not
    running`` (its host answers), ``unreachable`` (of the local node: it did not
    answer in time, as for a minute after another member lost its power) or ``cookie
    mismatch``;
    ``status``: as :func:`cluster_status` returns it where the state is
    ``running``, else None; ``said``: the tool's words where it is not.

    Raises CommandExecutionError for any other failure.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.node_state rabbit@rabbitmq-node1
    """
    reads = __context__.setdefault(CACHE, {})
    key = ("node_state", node)
    if key not in reads:
        away = _away(node) if node else None
        if away:
            return away
        answer = _run(
            ["cluster_status", "--formatter", "json", "--timeout", str(STATUS_TIMEOUT)],
            node=node,
            timeout=STATUS_TIMEOUT + 30,
        )
        reads[key] = _classified(answer, node)
    return reads[key]


def _away(node, timeout=3):
    """
    Ask a node's host whether the node runs, without starting a VM.

    A VM that cannot reach a host, or its name, waits much longer than this.

    Returns what :func:`node_state` does, or None for a node that its host knows of.

    See https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html (PORT_PLEASE2_REQ).
    """
    name, host = node.split("@", 1)
    request = b"z" + name.encode()
    try:
        with socket.create_connection((host, EPMD_PORT), timeout=timeout) as connection:
            connection.sendall(len(request).to_bytes(2, "big") + request)
            answer = connection.recv(2)
    except OSError as err:
        said = f"{host}, port {EPMD_PORT} (epmd): {err}"
        return {"state": UNREACHABLE, "status": None, "said": said}
    if answer[:1] == b"w" and answer[1:] not in (b"", b"\0"):
        return {"state": DOWN, "status": None, "said": f"epmd on {host} knows of no node {name}"}
    return None


def _classified(answer, node):
    """Read a state out of what ``cluster_status`` answered; see :func:`node_state`."""
    if answer["retcode"] == 0:
        status = _json(answer["stdout"], "cluster_status")
        return {"state": RUNNING, "status": status, "said": ""}
    text = _found_out(answer)
    said = _said(answer)
    if "'rabbit' app" in text or "rabbit application is not running" in text:
        state = APP_STOPPED
    elif "Erlang cookie" in text or "authentication failed" in text.lower():
        state = COOKIE_MISMATCH
    elif "not running at all" in text or "no other nodes on" in text:
        state = DOWN
    elif "timed out" in text.lower() or "badrpc, :timeout" in text:
        state = UNREACHABLE
    elif any(word in text.lower() for word in ("epmd", "nodedown", "unable to con")):
        state = DOWN if node is None else UNREACHABLE
    elif answer["retcode"] == EX_NOT_FOUND:
        raise CommandExecutionError(
            f"rabbitmqctl is not there ({said}). Next: "
            "salt-call state.apply rabbit_ha.rabbitmq.installed"
        )
    else:
        raise CommandExecutionError(
            f"cluster_status of {node or 'the local node'} exited with {answer['retcode']}: {said}"
        )
    return {"state": state, "status": None, "said": said}


def cluster_status(node=None):
    """
    Fetch what a running node says of its cluster.

    node : the local node
        Erlang node name to ask.

    Returns a mapping with ``cluster_name``, ``disk_nodes`` (the members),
    ``running_nodes``, ``alarms``, ``partitions``, ``versions`` and what else this
    RabbitMQ prints; ``ram_nodes`` is gone in 4.3.

    Raises CommandExecutionError when the node does not run.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.cluster_status
    """
    found = node_state(node)
    if found["state"] != RUNNING:
        raise CommandExecutionError(
            f"{node or 'the local node'} is not running: {found['state']}: "
            f"{found['said']}. Next: systemctl status {_settings()['service']}"
        )
    return found["status"]


def stop_app():
    """
    Stop the RabbitMQ application; the Erlang VM goes on.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.stop_app
    """
    _change(["stop_app"], "stopping the app")


def suspend_listeners():
    """
    Have the local node take no more connections of clients; those that are there stay.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/man/rabbitmqctl.8#suspend_listeners.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.suspend_listeners
    """
    _change(["suspend_listeners"], "suspending the listeners")


def resume_listeners():
    """
    Have the local node take connections of clients again.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/man/rabbitmqctl.8#resume_listeners.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.resume_listeners
    """
    _change(["resume_listeners"], "resuming the listeners")


def start_app(timeout=330):
    """
    Start the RabbitMQ application and wait until it runs.

    timeout : 330
        Seconds to wait.

    Raises CommandExecutionError when it does not run by then.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.start_app
    """
    _change(["start_app"], "starting the app", timeout=timeout)


def join_cluster(node, ram=False):
    """
    Make this node, whose app is stopped, a member of another node's cluster.

    This empties this node. Decide with ``rabbit_membership.verdict`` first.

    node
        Erlang node name of a member.
    ram : False
        Join as a RAM node; with Khepri, and so from RabbitMQ 4.3 on, there are none.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/clustering.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.join_cluster rabbit@rabbitmq-node1
    """
    _change(["join_cluster", node, *(["--ram"] if ram else [])], f"joining {node}", timeout=330)


def change_cluster_node_type(node_type):
    """
    Make this member, whose app is stopped, a disc or a RAM node; RabbitMQ 4.3 cannot.

    node_type
        ``disc`` or ``ram``.

    Raises SaltInvocationError for another word, CommandExecutionError when the
    change fails, as where no other disc node runs.

    See https://www.rabbitmq.com/docs/clustering#ram-nodes.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.change_cluster_node_type ram
    """
    if node_type not in ("disc", "ram"):
        raise SaltInvocationError(f"node_type must be disc or ram, found {node_type!r}")
    _change(["change_cluster_node_type", node_type], f"becoming a {node_type} node", timeout=330)


def forget_cluster_node(node, at=None, offline=False):
    """
    Remove a stopped member from the cluster.

    node
        Erlang node name of the member to forget.
    at : the local node
        Erlang node name of the member that is told so.
    offline : False
        Tell the local node while it is not running, because no member runs.
        RabbitMQ 4.3 cannot.

    Raises CommandExecutionError when that fails, as when the member runs.

    See https://www.rabbitmq.com/docs/clustering#forced-removal.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.forget_cluster_node rabbit@rabbitmq-node2
    """
    flag = ["--offline"] if offline else []
    _change(["forget_cluster_node", *flag, node], f"forgetting {node}", node=at)


def queues_with_replicas(at=None):
    """
    List the quorum queues and streams as they are recorded, also those without a leader.

    at : the local node
        Erlang node name to ask.

    Returns a list of mappings with ``type`` (``quorum`` or ``stream``), ``vhost``, ``name`` and
    ``members``, a list of the Erlang node names of those where RabbitMQ starts a replica.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.queues_with_replicas
    """
    reads = __context__.setdefault(CACHE, {})
    key = ("replicas", at)
    if key not in reads:
        found = _evaluated(_EVERY_REPLICA, "listing the queues with replicas", at)
        reads[key] = sorted(
            ({**queue, "members": sorted(queue["members"])} for queue in found),
            key=lambda queue: (queue["type"], queue["vhost"], queue["name"]),
        )
    return reads[key]


def quorum_queues_on(node, at=None):
    """
    List the quorum queues that have a replica on a node, which need not run.

    node
        Erlang node name of the member that has the replicas.
    at : the local node
        Erlang node name to ask.

    Returns a list of mappings with ``vhost`` and ``name``.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.quorum_queues_on rabbit@rabbitmq-node2
    """
    return [
        {"vhost": queue["vhost"], "name": queue["name"]}
        for queue in queues_with_replicas(at)
        if queue["type"] == "quorum" and node in queue["members"]
    ]


def quorum_queues(at=None):
    """
    List all quorum queues, and where their replicas are.

    at : the local node
        Erlang node name to ask.

    Returns a list of mappings with ``vhost``, ``name``, ``members`` (the nodes that have a
    replica) and ``online`` (those whose replica runs), both lists of Erlang node names.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.quorum_queues
    """
    return _replicated("quorum", at)


def streams(at=None):
    """
    List all streams, and where their replicas are.

    at : the local node
        Erlang node name to ask.

    Returns what :func:`quorum_queues` returns.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/streams#replication.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.streams
    """
    return _replicated("stream", at)


def _replicated(kind, at):
    """List the queues of a type whose queues have replicas; see :func:`quorum_queues`."""
    return [
        {key: queue[key] for key in ("vhost", "name", "members", "online")}
        for queue in list_queues(at)
        if queue["type"] == kind
    ]


def shrink(node, at=None):
    """
    Take a node's replicas out of the quorum queues that others can do without.

    node
        Erlang node name of the member whose replicas are gone.
    at : the local node
        Erlang node name of the member that is told so.

    Returns a list of mappings with ``vhost``, ``name`` and ``result``, one for each
    quorum queue that had a replica there.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.shrink rabbit@rabbitmq-node2
    """
    arguments = ["shrink", node, "--formatter", "json"]
    step = f"shrinking quorum queues off {node}"
    return _json(_change(arguments, step, tool="rabbitmq-queues", node=at), "shrink")


def grow(node, vhost, queues):
    """
    Give quorum queues a replica on a node; those that have one there stay as they are.

    node
        Erlang node name of a running member.
    vhost
        The virtual host the queues are in.
    queues
        List of their names.

    Returns a list of mappings with ``name`` and ``result``, one for each queue that
    had no replica there. RabbitMQ 3.10 says ``ok`` of one that got none, too: see
    :func:`quorum_queues`.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/quorum-queues#replica-management.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.grow rabbit@rabbitmq-node2 / '[orders]'
    """
    found = []
    for first in range(0, len(queues), _NAMES_IN_A_PATTERN):
        some = queues[first : first + _NAMES_IN_A_PATTERN]
        patterns = ["--vhost-pattern", _matching([vhost]), "--queue-pattern", _matching(some)]
        arguments = ["grow", node, "all", *patterns, "--formatter", "json"]
        text = _change(arguments, f"growing quorum queues onto {node}", tool="rabbitmq-queues")
        found += _json(text, "grow")
    return found


def add_replicas(node, streams, at=None):
    """
    Give streams a replica on a node; those that have one there stay as they are.

    What ``rabbitmq-streams add_replica`` does, which Debian's packages before RabbitMQ 4.3 do
    not have on the path.

    node
        Erlang node name of a running member.
    streams
        List of mappings with ``vhost`` and ``name``.
    at : the local node
        Erlang node name of the member that is told so: one that has just joined answers only
        after some 16 s for each.

    Returns what RabbitMQ said of those that it refused, a string; empty where it refused none.
    One that it took may get its replica later, or not: see :func:`streams`.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/streams#member-addition.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.add_replicas rabbit@rabbitmq-node2 '[{vhost: /, name: events}]'
    """
    return _of_streams("add_replica", node, streams, f"adding replicas of streams on {node}", at)


def delete_replicas(node, streams, at=None):
    """
    Take the replicas of streams on a node out; before RabbitMQ 4 it has to run for that.

    What ``rabbitmq-streams delete_replica`` does.

    node
        Erlang node name, which need be no member.
    streams
        List of mappings with ``vhost`` and ``name``.
    at : the local node
        Erlang node name of the member that is told so.

    Returns what :func:`add_replicas` returns. One that it took does not count any more, though
    it may be listed for a moment.

    Raises CommandExecutionError when that fails, as without a majority of brokers.

    See https://www.rabbitmq.com/docs/streams#member-deletion.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.delete_replicas rabbit@rabbitmq-node2 '[{vhost: /, name: events}]'
    """
    return _of_streams("delete_replica", node, streams, f"taking {node} out of streams", at)


def _of_streams(function, node, streams, step, at):
    """Call a function for streams' replicas on a node; see :func:`add_replicas`."""
    said = []
    for first in range(0, len(streams), _NAMES_IN_AN_EXPRESSION):
        some = streams[first : first + _NAMES_IN_AN_EXPRESSION]
        named = ",".join(f"{{{_binary(one['vhost'])},{_binary(one['name'])}}}" for one in some)
        call = f"rabbit_stream_queue:{function}(V, N, '{node}')"
        expression = f"[{{V, N, E}} || {{V, N}} <- [{named}], E <- [{call}], E =/= ok]."
        said.append(_otherwise(expression, "[]", step, at))
    return " ".join(filter(None, said))[:_CHARACTERS]


def _otherwise(expression, fine, step, at):
    """Have a node do what an expression says; returns what it answers, empty where that is fine."""
    said = _change(["eval", expression], step, node=at).split()
    # A warning may come before it.
    return "" if said[-1:] == [fine] else " ".join(said)[:_CHARACTERS]


def forget_stream_coordinator(node, at=None):
    """
    Take a member that has lost its data out of those that together coordinate the streams.

    RabbitMQ leaves it there when a node is reset, and up to 3.13 also when one is forgotten and
    joins anew at once, and then waits for it forever. One that is not there it is asked to add,
    which it otherwise does within a minute. A member where the coordinator runs stays.

    node
        Erlang node name of the member, which runs.
    at : the local node
        Erlang node name to ask.

    Returns what RabbitMQ said where it refused, a string; empty where it did it, or there was
    nothing to do.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/streams#replication.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.forget_stream_coordinator rabbit@rabbitmq-node2
    """
    expression = (
        f"Gone = {{rabbit_stream_coordinator, '{node}'}}, "
        "Others = [{rabbit_stream_coordinator, Each} || Each <- [node() | nodes()]] -- [Gone], "
        "case ra:members(Others) of "
        "{ok, Members, Leader} -> Said = case lists:member(Gone, Members) "
        f"andalso rpc:call('{node}', erlang, whereis, [rabbit_stream_coordinator]) =:= undefined "
        "andalso ra:remove_member(Others, Gone) "
        "of false -> ok; {ok, _, _} -> ok; Refused -> Refused end, "
        # What it does by itself twice a minute. Until then a client of that node may be refused.
        "ra:cast_aux_command(Leader, maybe_resize_coordinator_cluster), Said; "
        # Where there never was a stream.
        "{error, noproc} -> ok; Unknown -> Unknown end."
    )
    return _otherwise(expression, "ok", f"taking {node} out of the stream coordinator", at)


def _binary(text):
    """Write a text as an Erlang binary of its bytes, which needs no quoting."""
    return f"<<{','.join(map(str, text.encode()))}>>"


def _matching(names):
    """Make a regular expression that matches just these names."""
    return f"^({'|'.join(re.escape(name) for name in names)})$"


def known_members():
    """
    Ask the local node, whose app need not run, which members it remembers.

    Returns a set of Erlang node names; empty where it cannot tell.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.known_members
    """
    # Not there before RabbitMQ 3.12, which keeps them in a file.
    answer = _run(["eval", "rabbit_nodes:list_members()."], timeout=30)
    return set(_NODE_NAME.findall(answer["stdout"])) if answer["retcode"] == 0 else set()


def set_cluster_name(name):
    """
    Name the cluster.

    name
        The new name.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.set_cluster_name rabbitmq_cluster1
    """
    _change(["set_cluster_name", _END, name], "naming the cluster")


def export_definitions(at=None, with_secrets=False):
    """
    Fetch users, vhosts, permissions, policies and parameters.

    at : the local node
        Erlang node name to ask.
    with_secrets : False
        With the hashes of passwords and the values of parameters, which may hold
        credentials. Only for what keeps them to itself: what a function that is
        called by hand returns, Salt keeps with the job.

    Returns the mapping of RabbitMQ's definitions file; a policy's ``definition``
    is a mapping in it. A secret that was not asked for is None.

    Raises CommandExecutionError when the node does not run.

    See https://www.rabbitmq.com/docs/definitions.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.export_definitions
    """
    reads = __context__.setdefault(CACHE, {})
    key = ("definitions", at)
    if key not in reads:
        step = "reading the definitions"
        # Of the document there is a part where the tool was killed.
        text = _checked(["export_definitions", "-"], step, secret=True, node=at)
        reads[key] = _json(text, "export_definitions", secret=True)
    return reads[key] if with_secrets else _without_secrets(reads[key])


def _without_secrets(definitions):
    """Copy definitions with None for each hash and for each parameter's value."""
    secret = {"users": "password_hash", **dict.fromkeys(_WITH_VALUES, "value")}
    hidden = {
        kind: [{**item, key: None} for item in definitions[kind]]
        for kind, key in secret.items()
        if kind in definitions
    }
    return {**definitions, **hidden}


def import_definitions(definitions):
    """
    Write users, vhosts, permissions, policies and parameters in one call.

    What the definitions do not name stays as it is. They travel in a file that
    only RabbitMQ's user can read and that is gone afterwards: nothing of them
    shows in the process list. (RabbitMQ 4.0 hangs when it imports from standard
    input.)

    definitions
        Mapping as :func:`export_definitions` returns it with secrets, or a part of it.
        By hand give no hash: Salt keeps what a function is called with.

    Raises SaltInvocationError for what is no mapping, CommandExecutionError when writing
    fails.

    See https://www.rabbitmq.com/docs/definitions.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.import_definitions '{"vhosts": [{"name": "orders"}]}'
    """
    if not isinstance(definitions, dict):
        raise SaltInvocationError("definitions must be a mapping")
    path = import_file()
    try:
        content = json.dumps(definitions).encode()
        __utils__["rabbit_service_files.create"](path, content, 0o600, _service_user())
        with _changing():
            answer = _run(["import_definitions", path])
        if answer["retcode"] != 0:
            raise CommandExecutionError(
                "writing the definitions failed: import_definitions exited "
                f"with {answer['retcode']}: {_refused(_all_said(answer), definitions)}"
            )
    except (OSError, LookupError) as err:
        raise CommandExecutionError(f"writing the definitions failed: {err}") from err
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _refused(said, definitions):
    """
    Shorten why an import failed by the secrets in it: RabbitMQ repeats what it refuses.

    Of a parameter, whose value may be told in parts (of a URI for instance), only which one.
    The whole text is needed: which one stands at its end.
    """
    # RabbitMQ up to 4.0 writes for HTML.
    said = html.unescape(said.replace('\\"', '"'))
    for item in definitions.get("parameters", []):
        vhost, component, name = item["vhost"], item["component"], item["name"]
        # RabbitMQ up to 4.0, and later.
        places = (
            f"({vhost}/{component}/{name})",
            f'(vhost: "{vhost}" / component: "{component}" / key: "{name}")',
        )
        if any(html.unescape(place) in said for place in places):
            if f"component {html.unescape(component)} not found" in said:
                return (
                    f"component {component} not found, for the parameter {name} in {vhost}: a "
                    "plugin brings it (rabbit_ha:rabbitmq:plugins)"
                )
            return (
                f"the parameter {component} {name} in {vhost} was refused. What RabbitMQ says of "
                "it may repeat its value and is not shown"
            )
    values = [item["value"] for kind in _WITH_VALUES for item in definitions.get(kind, [])]
    if any(map(__utils__["rabbit_settings.texts"], values)):
        return (
            "what RabbitMQ says does not name a parameter, but may repeat the value of one, and is "
            "not shown. Next: to see it, deploy once without parameters and global_parameters in "
            "pillar (those that are there stay)"
        )
    secrets = [user.get("password_hash", "") for user in definitions.get("users", [])]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        said = said.replace(secret, "…")
    return said[:_CHARACTERS]


def import_file():
    """
    Tell which file :func:`import_definitions` uses; a run that is killed leaves it behind.

    Returns a path.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.import_file
    """
    return os.path.join(_settings()["data_dir"], ".rabbit_ha-import.json")


def delete_user(name):
    """
    Delete a user.

    name
        The user's name.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.delete_user guest
    """
    _change(["delete_user", _END, name], f"deleting user {name}")


def delete_vhost(name):
    """
    Delete a virtual host and all that is in it.

    name
        The virtual host's name.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.delete_vhost orders
    """
    _change(["delete_vhost", _END, name], f"deleting vhost {name}")


def clear_permissions(user, vhost="/"):
    """
    Take a user's permissions in a virtual host away.

    user
        The user's name.
    vhost : /
        The virtual host.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.clear_permissions orders vhost=/
    """
    _change(
        ["clear_permissions", f"--vhost={vhost}", _END, user],
        f"clearing permissions of {user} in {vhost}",
    )


def clear_policy(name, vhost="/"):
    """
    Delete a policy.

    name
        The policy's name.
    vhost : /
        The virtual host it is in.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.clear_policy ha-all vhost=/
    """
    _change(["clear_policy", f"--vhost={vhost}", _END, name], f"clearing policy {name} in {vhost}")


def clear_topic_permissions(user, vhost="/", exchange=""):
    """
    Take a user's topic permissions on an exchange away.

    user
        The user's name.
    vhost : /
        The virtual host.
    exchange : the default exchange
        The exchange's name.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/access-control#topic-authorisation.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.clear_topic_permissions orders / amq.topic
    """
    _change(
        ["clear_topic_permissions", f"--vhost={vhost}", _END, user, exchange],
        f"clearing topic permissions of {user} on exchange '{exchange}' in {vhost}",
    )


def clear_parameter(component, name, vhost="/"):
    """
    Delete a runtime parameter.

    component
        What it is a parameter of, such as ``shovel``.
    name
        The parameter's name.
    vhost : /
        The virtual host it is in.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/parameters.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.clear_parameter shovel orders vhost=/
    """
    _change(
        ["clear_parameter", f"--vhost={vhost}", _END, component, name],
        f"clearing parameter {component} {name} in {vhost}",
    )


def clear_global_parameter(name):
    """
    Delete a global runtime parameter.

    name
        The parameter's name.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/parameters.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.clear_global_parameter mqtt_default_vhosts
    """
    _change(["clear_global_parameter", _END, name], f"clearing global parameter {name}")


def clear_vhost_limits(vhost="/"):
    """
    Take all limits of a virtual host away.

    vhost : /
        The virtual host's name.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/vhosts#limits.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.clear_vhost_limits orders
    """
    _change(["clear_vhost_limits", f"--vhost={vhost}"], f"clearing limits of vhost {vhost}")


def clear_user_limits(user):
    """
    Take all limits of a user away.

    user
        The user's name.

    Raises CommandExecutionError when that fails.

    See https://www.rabbitmq.com/docs/user-limits.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.clear_user_limits orders
    """
    _change(["clear_user_limits", _END, user, "all"], f"clearing limits of user {user}")


def set_default_queue_type(vhost, queue_type):
    """
    Set what kind of queue clients get that do not name one; queues that are there stay.

    vhost
        The virtual host's name.
    queue_type
        ``classic``, ``quorum`` or ``stream``.

    Raises SaltInvocationError for another type, CommandExecutionError when it cannot be set.

    See https://www.rabbitmq.com/docs/vhosts#default-queue-type.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.set_default_queue_type orders quorum
    """
    if queue_type not in QUEUE_TYPES:
        raise SaltInvocationError(
            f"queue_type must be one of {', '.join(QUEUE_TYPES)}, found {queue_type!r}"
        )
    step = f"setting the default queue type of vhost {vhost}"
    command = "update_vhost_metadata"
    with _changing():
        answer = _run([command, "--default-queue-type", queue_type, _END, vhost])
    if f"'{command}' not found" in answer["stderr"] + answer["stdout"]:
        # RabbitMQ 3.10 has the setting, and no command for it once the vhost is there.
        change = f'fun(M) -> M#{{default_queue_type => <<"{queue_type}">>}} end'
        update = f"rabbit_vhost:update_metadata({_binary(vhost)}, {change})"
        _change(["eval", f"rabbit_misc:execute_mnesia_transaction(fun() -> {update} end)."], step)
    elif answer["retcode"] != 0:
        raise CommandExecutionError(
            f"{step} failed: {command} exited with {answer['retcode']}: {_said(answer)}"
        )


def list_queues(at=None):
    """
    List the queues of all virtual hosts, in one call however many there are.

    at : the local node
        Erlang node name to ask.

    Returns a list of mappings, in the order of vhosts and names: ``vhost``, ``name``, ``type``,
    ``durable``, ``exclusive`` and ``state`` as ``rabbitmqctl list_queues`` has them; of a classic
    queue ``node`` (the Erlang name of the one that has it, else None) and ``mirrors`` (those
    that have all of it too, else empty); of one with replicas ``members`` (those that have one) and
    ``online`` (those whose replica runs), else empty; ``messages`` and ``message_bytes``, whole
    numbers or None where the asked node does not know: of a queue with replicas, what it
    learnt last.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.list_queues
    """
    found = [_queue(told) for told in _evaluated(_EVERY_QUEUE, "listing the queues", at)]
    return sorted(found, key=lambda queue: (queue["vhost"], queue["name"]))


def _evaluated(expression, step, at):
    """Have a node evaluate an Erlang expression; returns its value as JSON has it."""
    arguments = ["eval", " ".join(expression.split()), "--formatter", "json"]
    return _json(_checked(arguments, step, node=at), step)["value"]


def _queue(told):
    """Make of what RabbitMQ tells of a queue what :func:`list_queues` returns of it."""
    # What it does not tell is an empty text.
    known = {key: value for key, value in told.items() if value != ""}
    # Of one that is down, it tells the name of the module.
    kind = re.sub(r"^rabbit_(\w+)_queue$", r"\1", known["type"])
    is_classic = kind == "classic"
    # RabbitMQ 4 tells one member of a classic queue, and no online one.
    replicas = {} if is_classic else known
    return {
        "vhost": known["vhost"],
        "name": known["name"],
        "type": kind,
        "durable": known.get("durable", True),
        "exclusive": known.get("exclusive", False),
        "state": known.get("state"),
        "node": known.get("pid") if is_classic else None,
        "mirrors": sorted(known.get("synchronised_slave_pids", [])) if is_classic else [],
        "members": sorted(replicas.get("members", [])),
        "online": sorted(replicas.get("online", [])),
        "messages": known.get("messages"),
        "message_bytes": known.get("message_bytes"),
    }


def enabled_plugins(path):
    """
    List the plugins that are enabled on purpose, from their file; starts no VM.

    path
        The file.

    Returns a list of names; empty where the file is not there.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.enabled_plugins /etc/rabbitmq/enabled_plugins
    """
    try:
        with salt.utils.files.fopen(path, encoding="utf-8") as handle:
            text = re.sub(r"%.*", "", handle.read())
            return [name.strip("'") for name in re.findall(r"'[^']+'|\w+", text)]
    except FileNotFoundError:
        return []


def enable_plugins(names, path, offline=False):
    """
    Enable plugins beside those that are, on the running node and for its next start.

    names
        List of plugin names; those they depend on come with them.
    path
        The file that lists those that are enabled on purpose.
    offline : False
        Leave the running node alone: it has them from its next start on.

    Raises CommandExecutionError when a plugin is not there, or does not start.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.enable_plugins '[rabbitmq_management]' /etc/rabbitmq/enabled_plugins
    """
    before, mode = enabled_plugins(path), ["--offline"] if offline else []
    run = _checked if offline else _change
    try:
        run(["enable", *mode, *names], "enabling plugins", tool="rabbitmq-plugins")
        if not {*names} <= {*enabled_plugins(path)}:
            # That lists none that another one has brought along already.
            wanted = sorted({*before, *names})
            run(["set", *mode, *wanted], "enabling plugins", tool="rabbitmq-plugins")
    except CommandExecutionError:
        # They are listed before they are started: the next run is to try again.
        if enabled_plugins(path) != before:
            _run(["set", "--offline", *before], tool="rabbitmq-plugins")
        raise


def await_boot(timeout=60, interval=2):
    """
    Wait until the local node runs with its app, at most for a while.

    timeout : 60
        Seconds to wait.
    interval : 2
        Seconds between two looks.

    Returns whether it runs.

    CLI Example:

    .. code-block:: bash

        salt-call rabbitmqctl.await_boot timeout=30
    """
    deadline = time.monotonic() + timeout
    while True:
        forget_cached_reads()
        if is_running():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
