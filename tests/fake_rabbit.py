"""
RabbitMQ in memory: nodes that join, stop and forget one another, seen through ``rabbitmqctl``.
"""

import copy
import dataclasses
import json

from salt.exceptions import CommandExecutionError

from tests.support import RABBITMQ_VERSIONS, Breakable, load, recorded

VERSION = "3.10.8"
# By what definitions are known among those of their kind.
_SAME = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "policies": ("name", "vhost"),
    "parameters": ("component", "name", "vhost"),
    "global_parameters": ("name",),
}
BLANKED = load("_modules/rabbitmqctl.py")._without_secrets
STATUS = {
    version: json.loads(recorded(version, "cluster_status")["stdout"])
    for version in RABBITMQ_VERSIONS
}
DEFINITIONS = json.loads(recorded(VERSION, "export_definitions")["stdout"])


def fresh_definitions(version=VERSION):
    """What a node that was never used holds: the default virtual host and ``guest``."""
    user = {**DEFINITIONS["users"][0], "name": "guest"}
    rights = {**DEFINITIONS["permissions"][0], "user": "guest"}
    return {
        **copy.deepcopy(DEFINITIONS),
        "rabbit_version": version,
        "rabbitmq_version": version,
        "users": [user],
        "permissions": [rights],
        "policies": [],
    }


@dataclasses.dataclass
class Node:
    """One broker: ``members`` is what it believes, ``reachable`` what its network does."""

    members: set
    vm: bool = True
    app: bool = True
    suspended: bool = False
    cookie: str = "SAME"
    reachable: bool = True
    cluster_name: str = "rabbitmq_cluster1"
    partitions: dict = dataclasses.field(default_factory=dict)
    definitions: dict = dataclasses.field(default_factory=fresh_definitions)
    queues: list = dataclasses.field(default_factory=list)
    ram: bool = False
    version: str = VERSION
    # Those that RabbitMQ has on its own where it is None.
    listeners: list = None


class Rabbits:
    """
    All brokers, by Erlang node name, and the ``quorum`` queues and ``streams`` they have.

    ``lost`` names the queues that a reset took, and ``emptied`` what counts on a replica which a
    reset emptied: queues, and the stream coordinator, whose members are ``coordinating``.
    """

    def __init__(self, *names, clustered=()):
        self.quorum, self.streams = [], []
        self.lost, self.emptied, self.coordinating = [], [], set()
        self.nodes = {
            name: Node(members=set(clustered) if name in clustered else {name}) for name in names
        }

    def __getitem__(self, name):
        return self.nodes[name]

    def has_quorum_queue(self, name, members, online, vhost="/", state="running"):
        """Let there be a quorum queue: its replicas are on some nodes and run on some."""
        queue = {"vhost": vhost, "name": name, "members": list(members), "online": list(online)}
        self.quorum.append({**queue, "state": state})

    def has_stream(self, name, members, online, vhost="/"):
        """Let there be a stream, as :meth:`has_quorum_queue` does."""
        stream = {"vhost": vhost, "name": name, "members": list(members), "online": list(online)}
        self.streams.append(stream)
        self.coordinating |= set(self.nodes)

    def has_queue(self, name, node, vhost="/", **also):
        """Let there be a classic queue, which a member serves, in a node's cluster."""
        for member in self[node].members:
            self[member].queues.append({"name": name, "vhost": vhost, "node": node, **also})

    def reset(self, node):
        """Empty a member's disk, as RabbitMQ does for another type, and tell what went with it."""
        for member in self[node].members:
            queues = self[member].queues
            gone = [queue for queue in queues if queue["node"] == node]
            queues[:] = [queue for queue in queues if queue not in gone]
            for queue in gone:
                mirrors = [each for each in queue.get("mirrors", []) if each != node]
                if mirrors:
                    queues.append({**queue, "node": mirrors[0], "mirrors": mirrors[1:]})
                elif queue["name"] not in self.lost:
                    self.lost.append(queue["name"])
        for queue in self.quorum + self.streams:
            if node in queue["members"]:
                queue["online"] = [member for member in queue["online"] if member != node]
                self.emptied.append(queue["name"])
                if 2 * len(queue["online"]) <= len(queue["members"]):
                    self.lost.append(queue["name"])
        self.emptied += ["stream coordinator"] if node in self.coordinating else []

    def running(self, name):
        """Name the members of a node's cluster that run and know each other."""
        return {
            other
            for other in self[name].members
            if other in self.nodes
            and self[other].vm
            and self[other].app
            and name in self[other].members
        }


class Rabbitmqctl(Breakable):
    """The execution module ``rabbitmqctl`` on one host, over :class:`Rabbits`."""

    def __init__(self, rabbits, me, is_installed=True):
        super().__init__()
        self._rabbits, self._me, self._installed = rabbits, me, is_installed
        self._plugins = []
        # As rabbit_cookie.lend has it.
        self.lent_cookie = None

    @property
    def _node(self):
        return self._rabbits[self._me]

    def _app_runs(self):
        if not (self._node.vm and self._node.app):
            raise CommandExecutionError("this command requires the 'rabbit' app to be running")

    def installed(self):
        return self._installed

    def is_running(self):
        return self._installed and self.node_state()["state"] == "running"

    def forget_cached_reads(self):
        """Nothing is cached here."""

    def node_state(self, node=None):
        if not self._installed:
            raise CommandExecutionError("rabbitmqctl is not there")
        name = node or self._me
        asked = self._rabbits.nodes.get(name)
        if asked is None or not asked.reachable:
            return {"state": "unreachable", "status": None, "said": "unable to connect to epmd"}
        if not asked.vm:
            return {"state": "node not running", "status": None, "said": "not running at all"}
        if asked.cookie != (self.lent_cookie or self._node.cookie):
            said = "check if the Erlang cookie is identical"
            return {"state": "cookie mismatch", "status": None, "said": said}
        if not asked.app:
            said = "this command requires the 'rabbit' app to be running on the target node"
            return {"state": "app stopped", "status": None, "said": said}
        status = copy.deepcopy(STATUS.get(asked.version, STATUS[VERSION]))
        described = status["versions"]["rabbit@rabbitmq-node1"]
        running = sorted(self._rabbits.running(name))
        status.update(
            cluster_name=asked.cluster_name,
            disk_nodes=sorted(asked.members - self._ram_nodes()),
            running_nodes=running,
            partitions=asked.partitions,
            # The same for all, or brokers of two series would not fit for their flags.
            feature_flags=copy.deepcopy(STATUS[VERSION]["feature_flags"]),
            versions={
                node: {**described, "rabbitmq_version": self._rabbits[node].version}
                for node in running
            },
        )
        if asked.listeners is not None:
            status["listeners"][name] = asked.listeners
        if "ram_nodes" in status:
            status["ram_nodes"] = sorted(asked.members & self._ram_nodes())
        return {"state": "running", "status": status, "said": ""}

    def _ram_nodes(self):
        return {name for name, node in self._rabbits.nodes.items() if node.ram}

    def await_boot(self, timeout=60, interval=2):
        return self.is_running()

    def known_members(self):
        return set() if self._node.vm and not self._node.app else set(self._node.members)

    def cluster_status(self, node=None):
        found = self.node_state(node)
        if found["status"] is None:
            raise CommandExecutionError(f"is not running: {found['state']}")
        return found["status"]

    def stop_app(self):
        if self._takes("stop_app"):
            self._node.app = False

    def start_app(self, timeout=330):
        if self._takes("start_app"):
            self._node.app, self._node.suspended = True, False

    def join_cluster(self, node, ram=False):
        if not self._takes("join_cluster", node):
            return
        if self._node.app:
            raise CommandExecutionError("Mnesia is still running on this node")
        self._node.ram = ram
        members = self._rabbits[node].members | {self._me}
        self._node.definitions = self._rabbits[node].definitions
        self._node.queues = self._rabbits[node].queues
        self._node.cluster_name = self._rabbits[node].cluster_name
        for member in members:
            if member in self._rabbits.nodes:
                self._rabbits[member].members = set(members)

    def change_cluster_node_type(self, node_type):
        if self._takes("change_cluster_node_type", node_type):
            if self._node.app:
                raise CommandExecutionError("Mnesia is still running on this node")
            if not self._rabbits.running(self._me) - {self._me}:
                raise CommandExecutionError("Could not find any online cluster nodes.")
            self._rabbits.reset(self._me)
            self._node.ram = node_type == "ram"

    def forget_cluster_node(self, node, at=None, offline=False):
        if self._takes("forget_cluster_node", node, at, offline):
            if node in self._rabbits.nodes and self._rabbits[node].app and self._rabbits[node].vm:
                raise CommandExecutionError(f"RabbitMQ on node {node} must be stopped")
            asked = self._rabbits[at or self._me]
            series = tuple(map(int, asked.version.split(".")[:2]))
            was_member = node in asked.members
            for name in asked.members - {node}:
                self._rabbits[name].members = self._rabbits[name].members - {node}
            if was_member or series >= (4, 3):
                self._lose_replicas(node)
                if series >= (4, 0):
                    _take_out(node, self._rabbits.streams)
                    self._rabbits.coordinating.discard(node)
            if not was_member and not offline:
                raise CommandExecutionError("exited with 69: Error: {:not_a_cluster_node, ...}")
            if self.quorum_queues_on(node) and series >= (4, 0):
                raise CommandExecutionError("exited with 69: failed to shrink: Quorum queues")

    def quorum_queues(self, at=None):
        return copy.deepcopy(self._rabbits.quorum)

    def streams(self, at=None):
        return copy.deepcopy(self._rabbits.streams)

    def queues_with_replicas(self, at=None):
        kinds = ("quorum", self._rabbits.quorum), ("stream", self._rabbits.streams)
        return [
            {"type": kind, **_named([queue])[0], "members": list(queue["members"])}
            for kind, queues in kinds
            for queue in queues
        ]

    def quorum_queues_on(self, node, at=None):
        return _on(node, self._rabbits.quorum)

    def shrink(self, node, at=None):
        if not self._takes("shrink", node, at):
            return []
        if self._rabbits[at or self._me].version.startswith("4.3"):
            raise CommandExecutionError(f"exited with 69: Error: {{:node_not_running, :{node}}}")
        here = self.quorum_queues_on(node)
        self._lose_replicas(node)
        return [{**queue, "size": 2, "result": "ok"} for queue in here]

    def _lose_replicas(self, node):
        _take_out(node, [queue for queue in self._rabbits.quorum if queue["state"] != "down"])

    def grow(self, node, vhost, queues):
        # RabbitMQ 3.10 says so of those that got none, too.
        said = [{"vhost": vhost, "name": name, "size": 3, "result": "ok"} for name in queues]
        if self._takes("grow", node, vhost, queues):
            for queue in self._rabbits.quorum:
                if queue["vhost"] == vhost and queue["name"] in queues:
                    # RabbitMQ starts one that is listed already by itself.
                    for where in ("members", "online"):
                        queue[where] += [node] if node not in queue[where] else []
        return said

    def add_replicas(self, node, streams, at=None):
        # RabbitMQ says ok of those that get none, too.
        if self._takes("add_replicas", node, [stream["name"] for stream in streams], at):
            for stream in self._rabbits.streams:
                if {"vhost": stream["vhost"], "name": stream["name"]} in _named(streams):
                    stream["members"].append(node)
                    stream["online"].append(node)
        return ""

    def delete_replicas(self, node, streams, at=None):
        if not self._takes("delete_replicas", node, [stream["name"] for stream in streams]):
            return ""
        runs = self._rabbits[node].vm and self._rabbits[node].app
        if not runs and int(self._rabbits[at or self._me].version.split(".")[0]) < 4:
            return "[{<<47>>,<<101>>,{error,node_not_running}}]"
        _take_out(node, [one for one in self._rabbits.streams if _named([one])[0] in streams])
        return ""

    def forget_stream_coordinator(self, node, at=None):
        # Of no account where there are no streams, or it was forgotten with the node.
        is_there = node in self._rabbits.coordinating
        if is_there and self._takes("forget_stream_coordinator", node, at):
            self._rabbits.emptied = [
                each for each in self._rabbits.emptied if each != "stream coordinator"
            ]
        return ""

    def set_cluster_name(self, name):
        self._app_runs()
        if self._takes("set_cluster_name", name):
            for member in self._node.members:
                self._rabbits[member].cluster_name = name

    def export_definitions(self, at=None, with_secrets=False):
        if at is None:
            self._app_runs()
        definitions = copy.deepcopy(self._rabbits[at or self._me].definitions)
        return definitions if with_secrets else BLANKED(definitions)

    def import_definitions(self, definitions):
        self._app_runs()
        if not self._takes("import_definitions", definitions):
            return
        # What travels is JSON.
        for kind, items in json.loads(json.dumps(definitions, allow_nan=False)).items():
            # A whole export has more, such as its version.
            for item in items if kind in _SAME else ():
                self._import(kind, item)

    def _import(self, kind, item):
        """Put an item in the place of the one that is there, as RabbitMQ does."""
        there = self._node.definitions[kind]
        which = {key: item[key] for key in _SAME[kind]}
        [old] = [one for one in there if which.items() <= one.items()] or [None]
        version = self._node.definitions["rabbitmq_version"]
        major = int(version.split(".", 1)[0])
        if kind == "vhosts":
            metadata = item.setdefault("metadata", {})
            series = tuple(map(int, version.split(".")[:2]))
            if old and series < (3, 11):
                # What type of queues an old vhost has by default stays as it is.
                metadata.pop("default_queue_type", None)
                before = old.get("metadata", {})
                metadata |= {key: before[key] for key in before if key == "default_queue_type"}
            elif old and major < 4:
                metadata.setdefault("default_queue_type", "undefined")
        if kind == "users":
            item["limits"] = {**(old or {}).get("limits", {}), **item.get("limits", {})}
        if kind in ("parameters", "global_parameters") and isinstance(item["value"], dict):
            # As RabbitMQ exports them up to 4.0.
            pairs = kind == "global_parameters" and major < 4
            item["value"] = [[*pair] for pair in item["value"].items()] if pairs else item["value"]
        self._delete(kind, **which)
        there.append(item)

    def _delete(self, kind, **which):
        there = self._node.definitions[kind]
        there[:] = [item for item in there if any(item[key] != which[key] for key in which)]

    def delete_user(self, name):
        self._app_runs()
        if self._takes("delete_user", name):
            self._delete("users", name=name)
            self._delete("permissions", user=name)
            self._delete("topic_permissions", user=name)

    def delete_vhost(self, name):
        self._app_runs()
        if self._takes("delete_vhost", name):
            self._delete("vhosts", name=name)
            self._delete("permissions", vhost=name)
            self._delete("topic_permissions", vhost=name)
            self._delete("policies", vhost=name)
            self._delete("parameters", vhost=name)

    def clear_permissions(self, user, vhost="/"):
        self._app_runs()
        if self._takes("clear_permissions", user, vhost):
            self._delete("permissions", user=user, vhost=vhost)

    def clear_policy(self, name, vhost="/"):
        self._app_runs()
        if self._takes("clear_policy", name, vhost):
            self._delete("policies", name=name, vhost=vhost)

    def clear_topic_permissions(self, user, vhost="/", exchange=""):
        if self._takes("clear_topic_permissions", user, vhost, exchange):
            self._delete("topic_permissions", user=user, vhost=vhost, exchange=exchange)

    def clear_parameter(self, component, name, vhost="/"):
        if self._takes("clear_parameter", component, name, vhost):
            self._delete("parameters", component=component, name=name, vhost=vhost)

    def clear_global_parameter(self, name):
        if self._takes("clear_global_parameter", name):
            self._delete("global_parameters", name=name)

    def clear_vhost_limits(self, vhost="/"):
        if self._takes("clear_vhost_limits", vhost):
            self._delete("parameters", component="vhost-limits", vhost=vhost)

    def clear_user_limits(self, user):
        if self._takes("clear_user_limits", user):
            [found] = [one for one in self._node.definitions["users"] if one["name"] == user]
            found["limits"] = {}

    def set_default_queue_type(self, vhost, queue_type):
        if self._takes("set_default_queue_type", vhost, queue_type):
            [found] = [one for one in self._node.definitions["vhosts"] if one["name"] == vhost]
            found.setdefault("metadata", {})["default_queue_type"] = queue_type

    def list_queues(self, at=None):
        if at is None:
            self._app_runs()
        asked = at or self._me
        found = [
            self._without_its_node(_listed({"node": asked, **queue}))
            for queue in self._rabbits[asked].queues
        ]
        found = [queue for queue in found if queue["state"] != "gone"]
        # One that lost its data and stands alone knows none of the cluster's.
        if len(self._rabbits[asked].members) > 1:
            found += [_listed({"type": "quorum", **queue}) for queue in self._rabbits.quorum]
            found += [_listed({"type": "stream", **queue}) for queue in self._rabbits.streams]
        return sorted(copy.deepcopy(found), key=lambda queue: (queue["vhost"], queue["name"]))

    def _without_its_node(self, queue):
        """See what becomes of a classic queue whose node does not run; a mirror takes over."""
        node = self._rabbits.nodes.get(queue["node"])
        if node is None or (node.vm and node.app):
            return queue
        first, *others = queue["mirrors"] or [None]
        if first:
            return {**queue, "node": first, "mirrors": others}
        lasts = queue["durable"] and not queue["exclusive"]
        return {**queue, "state": "down" if lasts else "gone"}

    def enabled_plugins(self, path):
        return list(self._plugins)

    def enable_plugins(self, names, path, offline=False):
        if self._takes("enable_plugins", names, offline):
            self._plugins += names


def _listed(queue):
    """Complete what a test says of a queue with what is so in the usual case."""
    return {
        "type": "classic",
        "durable": True,
        "exclusive": False,
        "state": "running",
        "node": None,
        "mirrors": [],
        "members": [],
        "online": [],
        "messages": None,
        "message_bytes": None,
        **queue,
    }


def _named(queues):
    return [{"vhost": queue["vhost"], "name": queue["name"]} for queue in queues]


def _on(node, queues):
    return _named(queue for queue in queues if node in queue["members"])


def _take_out(node, queues):
    for queue in queues:
        for where in ("members", "online"):
            queue[where] = [member for member in queue[where] if member != node]


class Listeners(Breakable):
    """The execution module ``rabbit_listeners`` of one host."""

    def __init__(self, node):
        super().__init__()
        self._node = node
        # Whether load balancers serve.
        self.are_served = True

    def matter(self):
        return self.are_served

    def suspended(self, service):
        return self._node.suspended

    def suspend(self, service):
        if self._takes("suspend"):
            self._node.suspended = True

    def resume(self, service):
        if self._takes("resume"):
            self._node.suspended = False


class Service(Breakable):
    """Salt's ``service`` on systemd for one service, which starts and stops a host's node."""

    def __init__(self, node):
        super().__init__()
        self._node = node
        self.at_boot, self.is_masked = True, False

    def masked(self, name, runtime=False, root=None):
        return self.is_masked

    def enabled(self, name, root=None, **kwargs):
        return self.at_boot

    def enable(self, name, no_block=False, unmask=False, unmask_runtime=False, root=None, **kwargs):
        if self._takes("enable", name):
            self.at_boot = True
        return True

    def _turn(self, on):
        self._node.vm = self._node.app = on
        self._node.suspended = False

    def status(self, name, sig=None):
        return self._node.vm

    def start(self, name, no_block=False, unmask=False, unmask_runtime=False):
        if self._takes("start", name):
            self._turn(on=True)
        return True

    def stop(self, name, no_block=None):
        """Unlike its siblings it returns whether systemd did it."""
        if self._takes("stop", name):
            self._turn(on=False)
        return not self._node.vm

    def restart(self, name, no_block=None, unmask=False, unmask_runtime=False):
        if self._takes("restart", name):
            self._turn(on=True)
        return True
