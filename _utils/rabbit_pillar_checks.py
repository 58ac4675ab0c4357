"""
What is wrong with pillar and no schema can say: how values fit one another.

The second half of the validator in ``_pillar/rabbit_ha_findings.py``, after
``rabbit_pillar_shape``.
"""

import difflib
import ipaddress
import itertools
import os
import re

ROOT = "rabbit_ha"
BROKER = "broker"
LOAD_BALANCER = "load_balancer"
# Seconds; what RabbitMQ suggests to clients unless its configuration says otherwise.
HEARTBEAT = 60
# Where the Erlang distribution listens: so much above the AMQP port.
DISTRIBUTION = 20000
EPMD = 4369
# The first port that Linux lets everyone listen on.
UNPRIVILEGED = 1024
# What the distributions' archives hold. On others the version is not known here.
PACKAGED = {
    "bullseye": (3, 8),
    "bookworm": (3, 10),
    "trixie": (4, 0),
    "forky": (4, 3),
    "focal": (3, 8),
    "jammy": (3, 9),
    "noble": (3, 12),
}
RELEASES = {
    "Debian-11": "bullseye",
    "Debian-12": "bookworm",
    "Debian-13": "trixie",
    "Debian-14": "forky",
    "Ubuntu-20.04": "focal",
    "Ubuntu-22.04": "jammy",
    "Ubuntu-24.04": "noble",
}
TAGS = ("administrator", "impersonator", "management", "monitoring", "policymaker", "protected")
OF_BROKERS = ("check", "proxy_protocol", "node_type", "discard_local_data")
ANYWHERE = ("", "*", "0.0.0.0", "::", "[::]")
# On every link, whatever its network is.
LINK_LOCAL = ipaddress.ip_network("fe80::/10")
_UNTOLD = "which HAProxy is not told of"
_CONTENT = "with which a new broker is not empty, and so refuses to join"
_DEFINITIONS = ("rabbitmq:vhosts, users, policies and parameters", _CONTENT)
# Keys of rabbitmq.conf, or how they begin, whose meaning pillar says elsewhere; where, and
# what is wrong with a line of their own.
SAID_ELSEWHERE = {
    "proxy_protocol": ("haproxy:rabbitmq_cluster:proxy_protocol, for both", _UNTOLD),
    "listeners.tcp": ("rabbitmq:amqp_port, for both", "with which HAProxy reaches no broker"),
    "listeners.tcp.default": ("rabbitmq:amqp_port, for both", _UNTOLD),
    "listeners.tcp.host": ("rabbitmq:amqp_port, for both", _UNTOLD),
    "management.tcp.port": ("rabbitmq:management_port, for both", _UNTOLD),
    "management.listener.port": ("rabbitmq:management_port, for both", _UNTOLD),
    "prometheus.tcp.port": ("rabbitmq:prometheus:port", "with which pillar would name two ports"),
    "cluster_name": ("rabbitmq:cluster_name", "with which the cluster would be told two names"),
    "default_user": ("rabbitmq:users", _CONTENT),
    "default_users.": ("rabbitmq:users", _CONTENT),
    "default_vhost": ("rabbitmq:vhosts", _CONTENT),
    "load_definitions": _DEFINITIONS,
    "management.load_definitions": _DEFINITIONS,
    "definitions.import_backend": _DEFINITIONS,
    "definitions.local.path": _DEFINITIONS,
    "definitions.https.url": _DEFINITIONS,
}
# What RabbitMQ's packages have.
FOLDERS = {"config_dir": "/etc/rabbitmq", "data_dir": "/var/lib/rabbitmq"}
# The first version that knows a key of rabbitmq.conf, or how it begins; none before starts with it.
KNOWN_FROM = {
    "cluster_tags.": (3, 11),
    "default_policies.operator.": (3, 11),
    "vhost_max": (3, 11),
    "message_interceptors.": (3, 12),
    "default_queue_type": (3, 13),
    "deprecated_features.permit.": (3, 13),
    "quorum_queue.continuous_membership_reconciliation.": (3, 13),
    "anonymous_login_user": (4, 0),
}
# The first version that knows a key of policies.
DEFINED_FROM = {
    "consumer-timeout": (3, 12),
    "stream-filter-size-bytes": (3, 13),
    "target-group-size": (3, 13),
}
# Global parameters that are RabbitMQ's own.
OWN_PARAMETERS = ("cluster_name", "internal_cluster_id")
# Components whose parameters pillar says elsewhere; RabbitMQ takes no policy as a parameter.
NO_PARAMETERS = {"policy": "policies", "vhost-limits": "vhosts:NAME:limits"}
# Components of parameters that a plugin brings, and what its name has in it.
COMPONENTS = {
    "shovel": "shovel",
    "federation-upstream": "federation",
    "federation-upstream-set": "federation",
}
# Keys of rabbitmq.conf that open one more port.
LISTENER = re.compile(
    r"((mqtt|stomp|stream)\.)?listeners\.(tcp|ssl)\..+"
    r"|(management|prometheus|web_mqtt|web_stomp)\.(tcp|ssl)\.port"
)
# The one of the Erlang distribution's port.
DISTRIBUTION_PORT = "distribution.listener.port_range.min"
# Keys of rabbitmq.conf whose value is an address alone.
ADDRESS = re.compile(r".*\.(tcp|ssl)\.ip")
# A value of rabbitmq.conf in which a # is no comment, and the first version that knows it.
QUOTED = re.compile(r"\s*'[^']*'\s*")
QUOTES_FROM = (3, 13, 7)
# In a value of rabbitmq.conf: the name of another key, whose value RabbitMQ puts there.
TAKEN_OVER = re.compile(r"\$\(\s*(.*?)\s*\)")
# What RabbitMQ's own archive has in its folder of plugins, from 3.10.8 to 4.3.6.
PLUGINS = """
    amqp1_0 amqp_client auth_backend_cache auth_backend_http auth_backend_internal_loopback
    auth_backend_ldap auth_backend_oauth2 auth_mechanism_ssl aws consistent_hash_exchange
    event_exchange exchange_federation federation federation_common federation_management
    federation_prometheus jms_topic_exchange management management_agent mqtt
    peer_discovery_aws peer_discovery_common peer_discovery_consul peer_discovery_etcd
    peer_discovery_k8s prelaunch prometheus queue_federation random_exchange
    recent_history_exchange sharding shovel shovel_management shovel_prometheus stomp stream
    stream_common stream_management top tracing trust_store web_dispatch web_mqtt
    web_mqtt_examples web_stomp web_stomp_examples
"""


def findings(settings, topology, wrong, host=None, grains=None):
    """
    List what does not fit together in settings of the right shape.

    settings
        Mapping as ``rabbit_settings.merged`` returns it, from a pillar without the
        values that are wrong by themselves.
    topology
        Mapping with ``brokers`` and ``load_balancers``, lists of host names;
        ``keepalived``, a mapping from load balancer to its settings of keepalived, from
        None where there is no load balancer; ``left_out``, as
        ``rabbit_settings.addresses_left_out`` lists them; ``policies``, as
        ``rabbit_settings.policies`` returns them; ``ties`` and ``without_mirrors``, as
        ``rabbit_definitions`` finds them among these and what ``ha`` makes; ``expressions``,
        the findings of ``rabbit_pillar_shape`` that only some versions of Erlang make;
        ``secret_lines``, a set of the keys of ``rabbitmq:config`` with a secret;
        ``like_text``, a set of the kinds and keys of parameters whose value
        ``rabbit_definitions.is_like_text``; ``not_json``, a mapping from these, and from those
        of policies, to what ``rabbit_definitions.not_json`` tells of a value or a definition; and
        ``builds``, a mapping from the places of what is built from source to mappings with
        ``version`` (a tuple), ``options`` and ``faults``, as ``source_build.faults`` returns
        them.
    wrong
        Set of the paths of those values; what depends on them is not judged.
    host : None
        Host name (minion id) that the pillar is for.
    grains : None
        Mapping, that host's grains.

    Returns a list of mappings with the strings ``severity``, ``path``, ``expected``
    and ``why``, and either ``value``, what was found, or ``found``, a text that
    describes it. One for a secret that is not there has ``missing_secret``, a list of
    the keys that lead to its place below ``rabbit_ha``.
    """
    view = _View(settings, topology, wrong, host, grains or {})
    checks = (_names, _addresses, _brokers, _load_balancers, _ports, _virtual_addresses)
    checks += (
        _vrrp_group,
        _vrrp_hosts,
        _vrrp_ids,
        _vrrp_version,
        _unicast,
        _timeouts,
        _listeners,
        _connections,
        _log_socket,
        _monitor,
        _server_checks,
        _management,
        _management_page,
        _proxy_protocol,
        _snippet_folders,
        _scripts,
        _builds,
        _promex,
    )
    checks += (_config, _folders_of_rabbitmq, _plugins, _expressions)
    checks += (_users, _permissions, _policies, _mirroring, _ties, _parameters, _plugins_in_use)
    checks += (_ram, _departing, _misplaced, _cookie, _secrets)
    found = (one for check in checks for one in check(view))
    return [one for one in found if one["path"] not in wrong]


class _View:
    """Settings, with what several checks ask of them."""

    def __init__(self, settings, topology, wrong, host, grains):
        self.settings = settings
        self.hosts = settings["hosts"]
        self.rabbitmq = settings["rabbitmq"]
        self.haproxy = settings["haproxy"]
        self.keepalived = settings["keepalived"]
        self.host = host if host in self.hosts else None
        self.version, self.version_from = _version_of(self.rabbitmq, grains)
        self.brokers = topology["brokers"]
        self.load_balancers = topology["load_balancers"]
        self.policies = topology["policies"]
        self.expressions = topology["expressions"]
        self.builds = topology["builds"]
        self.left_out = topology["left_out"]
        self.secret_lines = topology["secret_lines"]
        self.like_text, self.not_json = topology["like_text"], topology["not_json"]
        self.ties, self.without_mirrors = topology["ties"], topology["without_mirrors"]
        self._vrrp = topology["keepalived"]
        described = [host["instances"] for host in self._vrrp.values()]
        self.instances = list(dict.fromkeys(name for each in described for name in each))
        self.wrong = wrong
        # Where hosts or roles are wrong, counting them would mislead.
        self.roles_known = not any(
            path == f"{ROOT}:hosts"
            or (path.startswith(f"{ROOT}:hosts:") and (path.count(":") == 2 or ":roles" in path))
            for path in wrong
        )
        self.priorities_known = not any(path.endswith(":keepalived:priority") for path in wrong)

    def is_before(self, *version):
        """Tell whether this is a broker whose RabbitMQ is known to be older than a version."""
        return self._is_known() and self.version < version

    def is_from(self, *version):
        """Tell whether this is a broker whose RabbitMQ is known to be of a version, or newer."""
        return self._is_known() and self.version >= version

    def is_unknown(self):
        """Tell whether this is a broker whose version of RabbitMQ is not known."""
        return self.host in self.brokers and self.version is None

    def _is_known(self):
        """Tell whether this is a broker whose version of RabbitMQ is known."""
        return self.host in self.brokers and self.version is not None

    def is_mirrored(self):
        """Tell whether ``ha`` surely mirrors queues here."""
        ha = self.rabbitmq["ha"]
        return ha == "mirrored" or (ha == "auto" and self.is_before(4, 0))

    def is_sound(self, path):
        """Tell whether nothing at a path or below it is wrong by itself."""
        path = f"{ROOT}:{path}"
        return not any(one == path or one.startswith(f"{path}:") for one in self.wrong)

    def vrrp(self, name, host, key):
        """Tell a setting of a VRRP instance on a load balancer, and the path where it is."""
        vrrp = self._vrrp[host]["instances"][name]
        place = vrrp["said_at"].get(key, "keepalived")
        if place == "keepalived" and key in ("priority", "state"):
            place = f"hosts:{host}:keepalived"
        return vrrp.get(key), f"{place}:{key}"

    def members(self, name):
        """List the load balancers that have a VRRP instance."""
        return [host for host in self.load_balancers if name in self._vrrp[host]["instances"]]

    def router_id(self, host):
        """Tell what keepalived calls itself on a load balancer."""
        return self._vrrp[host]["router_id"]

    def virtual_addresses(self, name, host):
        """List the paths and texts of a VRRP instance's virtual addresses."""
        texts, path = self.vrrp(name, host, "virtual_addresses")
        listed = [text for text in self._listed_addresses(name, host) if text]
        extra = [text for text in texts if text not in listed]
        return [("virtual_address", text) for text in extra if text] + [
            (f"{path}:{index}", text) for index, text in enumerate(listed)
        ]

    def _listed_addresses(self, name, host):
        """List an instance's addresses as pillar does, without ``virtual_address``."""
        place = self._vrrp[host]["instances"][name]["said_at"].get("virtual_addresses")
        if not place:
            return []
        at = self.settings
        for part in [*place.split(":"), "virtual_addresses"]:
            at = at[part]
        return at


def _version_of(rabbitmq, grains):
    """
    Tell which RabbitMQ there will be: what pillar says, else what the system packages.

    Returns the version, a tuple of two or three numbers, and where that is from; two None
    where it is not known.
    """
    if rabbitmq["version"]:
        return tuple(map(int, rabbitmq["version"].split("."))), f"{ROOT}:rabbitmq:version"
    release = RELEASES.get(grains.get("osfinger"), grains.get("oscodename"))
    return (PACKAGED[release], release) if release in PACKAGED else (None, None)


def _error(path, found, expected, why=""):
    """Build a finding that stops a deployment."""
    return _finding("error", path, found, expected, why)


def _warning(path, found, expected, why=""):
    """Build a finding that is worth a look."""
    return _finding("warning", path, found, expected, why)


def _finding(severity, path, found, expected, why):
    """Build a finding; ``found`` may be any value that is no secret."""
    return {
        "severity": severity,
        "path": f"{ROOT}:{path}",
        "found" if isinstance(found, _Said) else "value": found,
        "expected": expected,
        "why": why,
    }


class _Said(str):
    """A text that describes what was found, and is not itself what was found."""


def _listed(names):
    """Join names for a sentence."""
    return ", ".join(map(str, names))


# Hosts and addresses


def _names(view):
    """Short names, which Erlang uses, are each host's own."""
    seen = {}
    for host in view.hosts:
        short = host.split(".", 1)[0].lower()
        if short in seen:
            why = f"whose short name {seen[short]} has too"
            yield _error(f"hosts:{host}", host, "a short name of its own", why)
        seen.setdefault(short, host)
        if short == "localhost" or re.fullmatch(r"[0-9]+(\.[0-9]+)+", host):
            why = f"with which its node would be rabbit@{short}"
            yield _error(f"hosts:{host}", host, "a name of its own", why)
        elif re.fullmatch(r"[0-9]+|0x[0-9a-f]+", short) and host in view.brokers:
            why = f"whose node would be rabbit@{short}: Erlang takes a number for an IPv4 address"
            yield _error(f"hosts:{host}", host, "a short name that is no number", why)
        if host != host.lower():
            why = "which Erlang tells from lower case, and DNS does not"
            yield _warning(f"hosts:{host}", host, "lower case", why)


def _addresses(view):
    """Addresses are each host's own, usable, and in the network."""
    network = view.settings["network"] and ipaddress.ip_network(view.settings["network"])
    seen = {}
    for host, data in view.hosts.items():
        if not data.get("address"):
            continue
        path = f"hosts:{host}:address"
        address = _address(data["address"])
        if address in seen:
            why = f"which {seen[address]} has too"
            yield _error(path, data["address"], "an address of its own", why)
        seen.setdefault(address, host)
        if _is_nobodys(address):
            yield _error(path, data["address"], "an address that other hosts reach")
        elif address.version == 6 and address.is_link_local:
            why = "which says nothing without the interface"
            yield _error(path, data["address"], "an address that other hosts reach", why)
        elif network and address.version == network.version and address not in network:
            why = f"which is outside rabbit_ha:network {network}"
            yield _warning(path, data["address"], "an address in that network", why)
        elif network and _is_edge(address, network):
            why = f"which {network} keeps for itself"
            yield _error(path, data["address"], "the address of a host", why)
        usable = not (_is_nobodys(address) or address.is_link_local)
        if address.version == 6 and usable and host in view.brokers:
            why = "with which RabbitMQ boots only where Erlang is told to use IPv6"
            expected = "-proto_dist inet6_tcp in rabbitmq-env.conf (see docs/pillar.md), or IPv4"
            yield _warning(path, data["address"], expected, why)


def _address(text):
    """Read an address; one of IPv4 that is written as IPv6 is the same as without that."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _is_nobodys(address):
    """Tell whether an address is none that one host can have for others."""
    reserved = address.version == 4 and address.is_reserved
    return address.is_loopback or address.is_unspecified or address.is_multicast or reserved


def _is_edge(address, network):
    """Tell whether an address is the network's own or its broadcast address."""
    edges = (network.network_address, network.broadcast_address)
    return network.version == 4 and network.prefixlen < 31 and address in edges


def _brokers(view):
    """There are brokers, an odd number, and the seed is one of them."""
    seed = view.settings["seed"]
    hosts_sound = f"{ROOT}:hosts" not in view.wrong and view.is_sound(f"hosts:{seed}")
    if seed and seed not in view.hosts and hosts_sound:
        near = difflib.get_close_matches(seed, view.brokers, 1, 0.6)
        expected = f"{near[0]}, the nearest broker" if near else "the name of a broker"
        yield _error("seed", seed, expected, "which is no host of rabbit_ha:hosts")
    elif seed in view.hosts and view.roles_known and seed not in view.brokers:
        expected = f"one of {_listed(view.brokers)}" if view.brokers else "the name of a broker"
        yield _error("seed", seed, expected, "which is no broker")
    if not view.roles_known:
        return
    if not view.brokers:
        yield _error("hosts", _Said("no broker"), "at least one host with the role broker")
    elif len(view.brokers) % 2 == 0:
        why = "an even number, which tolerates no more failures than one broker less"
        yield _warning("hosts", _Said(f"{len(view.brokers)} brokers"), "an odd number", why)


def _load_balancers(view):
    """Load balancers have an address to share, and the address has load balancers."""
    address = view.settings["virtual_address"]
    if view.load_balancers and not address:
        expected = "the address that the load balancers share"
        yield _error("virtual_address", address, expected)
    elif address and not view.load_balancers and view.roles_known:
        why = "which no host holds, as none has the role load_balancer"
        yield _warning("virtual_address", address, "a load balancer, or no address", why)
    if address and _address(address) in LINK_LOCAL:
        why = "which says nothing without the interface"
        yield _error("virtual_address", address, "an address that clients reach", why)


def _virtual_addresses(view):
    """Virtual addresses are nobody's own, and where clients and hosts can reach them."""
    owners = {}
    for host, data in view.hosts.items():
        if data.get("address"):
            owners.setdefault(_address(data["address"]), host)
    told = set()
    for host in view.load_balancers or [None]:
        seen = {}
        for name in view.instances:
            first = None
            if host and host not in view.members(name):
                continue
            for path, text in view.virtual_addresses(name, host):
                interface = ipaddress.ip_interface(text.split()[0])
                first = first or (interface.version, path)
                for one in _virtual_address(view, path, text, first, seen, owners):
                    if path not in told:
                        yield one
                    told.add(path)
                seen.setdefault(_address(interface.ip), path)
            where = f"keepalived:instances:{name}:virtual_addresses"
            if not first and name != view.keepalived["instance"] and where not in told:
                told.add(where)
                yield _error(where, None, "the addresses of this VRRP instance")


def _virtual_address(view, path, text, first, seen, owners):
    """One virtual address is nobody's own, in no other place, and can be reached."""
    interface = ipaddress.ip_interface(text.split()[0])
    address = _address(interface.ip)
    networks = _networks(view, owners)
    known = [interface.network, *(networks if view.settings["network"] else [])]
    edges = [network for network in known if _is_edge(address, network)]
    if _is_nobodys(address):
        yield _error(path, text, "an address that clients reach")
    elif address in owners:
        yield _error(path, text, "an address that no host has", f"the address of {owners[address]}")
    elif address in seen:
        why = f"which is at rabbit_ha:{seen[address]} too"
        yield _error(path, text, "an address of its own", why)
    elif interface.version != first[0]:
        why = f"an address of IPv{interface.version}, whereas rabbit_ha:{first[1]} is not"
        yield _error(path, text, "one family of addresses in one VRRP instance", why)
    elif edges:
        yield _error(path, text, "the address of a host", f"which {edges[0]} keeps for itself")
    elif owners and not any(address in net for net in [*networks, LINK_LOCAL]):
        why = "which is outside the network of every host"
        yield _warning(path, text, "an address beside theirs, or a route to it", why)


def _networks(view, owners):
    """List the hosts' networks: the one in pillar, else what is usual around each address."""
    if view.settings["network"]:
        return [ipaddress.ip_network(view.settings["network"])]
    usual = {4: 24, 6: 64}
    return [
        ipaddress.ip_network(f"{address}/{usual[address.version]}", strict=False)
        for address in owners
    ]


# Ports and listeners


def _ports(view):
    """No two things on a broker want the same port, and none one that is root's."""
    ports = _ports_of_a_broker(view)
    for position, (port, address, path, _) in enumerate(ports):
        whose = [
            words
            for taken, other, _, words in ports[:position]
            if taken == port and _overlap(address, other)
        ]
        if whose and path and path.startswith("rabbitmq:config:"):
            # What becomes of a second listener of HTTP depends on the plugin.
            stops = "" if path.endswith(".port") else ": RabbitMQ would not start"
            expected = "another port, or no such line"
            yield _error(path, _Said("a second listener"), expected, f"on {whose[0]}{stops}")
        elif whose and path:
            yield _error(path, port, "another port", whose[0])
        elif path and port < UNPRIVILEGED:
            why = "which only root may open by default"
            expected = "a higher one, or brokers whose net.ipv4.ip_unprivileged_port_start is lower"
            yield _warning(path, _Said(f"a port below {UNPRIVILEGED}"), expected, why)
    amqp = view.rabbitmq["amqp_port"]
    if amqp + DISTRIBUTION > 65535:
        why = f"with which the Erlang distribution would listen on {amqp + DISTRIBUTION}"
        yield _error("rabbitmq:amqp_port", amqp, f"a port up to {65535 - DISTRIBUTION}", why)


def _ports_of_a_broker(view):
    """
    List what a broker listens on.

    Returns tuples: the port, the address (empty for all), the path of the setting that says
    so (None where none does) and words for whose port it is.
    """
    amqp, prometheus = view.rabbitmq["amqp_port"], view.rabbitmq["prometheus"]
    said = {"amqp_port": amqp, "management_port": view.rabbitmq["management_port"]}
    if prometheus["enabled"]:
        said["prometheus:port"] = prometheus["port"]
    told = _whole_number(_line(view, DISTRIBUTION_PORT, ""))
    of_erlang = amqp + DISTRIBUTION if told is None else told
    path = None if told is None else f"rabbitmq:config:{DISTRIBUTION_PORT}"
    places = [(f"rabbitmq:{key}", "", port) for key, port in said.items()]
    places += [(f"rabbitmq:config:{key}", address, port) for key, address, port in _opened(view)]
    return [
        (EPMD, "", None, "epmd's port"),
        (of_erlang, "", path, "the Erlang distribution's port"),
        *((port, address, where, f"the port of {ROOT}:{where}") for where, address, port in places),
    ]


def _opened(view):
    """List the listeners in rabbitmq.conf: the key, the address (empty for all) and the port."""
    found = []
    for key in view.rabbitmq["config"]:
        address, _, port = _line(view, key, "").rpartition(":")
        address = address or _line(view, f"{key.rpartition('.')[0]}.ip", "")
        number = _whole_number(port.strip())
        if LISTENER.fullmatch(key) and key not in SAID_ELSEWHERE and number is not None:
            found.append((key, address.strip().strip("[]"), number))
    return found


def _overlap(one, other):
    """Tell whether two listeners on one port are in each other's way, by their addresses."""
    of_one_family = (":" in one) == (":" in other)
    return (
        one == other or "" in (one, other) or (of_one_family and bool({one, other} & set(ANYWHERE)))
    )


def _listeners(view):
    """HAProxy's listeners are apart from each other and from RabbitMQ's."""
    cluster = view.haproxy["rabbitmq_cluster"]["bind"]
    if not view.load_balancers:
        return
    both = [host for host in view.load_balancers if host in view.brokers]
    listeners = {"rabbitmq_cluster": cluster, "monitor": view.haproxy["monitor"]["bind"]}
    for name in ("management", "prometheus"):
        if view.haproxy[name]["enabled"]:
            listeners[name] = view.haproxy[name]["bind"]
    for name, other, why in _collisions(view, listeners, both[0] if both else None):
        yield _error(f"haproxy:{name}:bind", other, "another port", why)
    for name, bind in listeners.items():
        yield from _bound(view, f"haproxy:{name}:bind", bind)
    yield from _reached(view, listeners)
    uris = view.haproxy["monitor"]
    if uris["stats_uri"] == uris["health_uri"]:
        why = "which is rabbit_ha:haproxy:monitor:stats_uri too"
        yield _error("haproxy:monitor:health_uri", uris["health_uri"], "another path", why)


def _connections(view):
    """Where clients have all connections that they may have, keepalived's check gets through."""
    # At the limit of the process HAProxy accepts on no listener.
    each = {"defaults": view.haproxy["defaults"], "monitor": view.haproxy["monitor"]}
    for name in ("management", "prometheus"):
        if view.haproxy[name]["enabled"]:
            each[name] = view.haproxy[name]
    together = sum(one["maxconn"] for one in each.values())
    most = view.haproxy["global"]["maxconn"]
    sound = all(view.is_sound(f"haproxy:{name}:maxconn") for name in each)
    if together > most and sound and view.load_balancers:
        shares = _listed(f"{name}:maxconn {one['maxconn']}" for name, one in each.items())
        why = (
            f"which listeners use up ({shares}): HAProxy would answer nobody then, keepalived's "
            "check neither, and the address would go from one load balancer to the other"
        )
        expected = f"at least {together}, or less for the listeners"
        yield _error("haproxy:global:maxconn", most, expected, why)


def _log_socket(view):
    """HAProxy reaches the syslog that it is told of, confined as it is."""
    log = view.haproxy["global"]["log"]
    if log.startswith("/") and view.load_balancers:
        chroot = view.haproxy["global"]["chroot"]
        why = f"which HAProxy looks for below rabbit_ha:haproxy:global:chroot {chroot}"
        expected = "an address such as 127.0.0.1, or a syslog that listens there too"
        yield _warning("haproxy:global:log", log, expected, why)


def _reached(view, listeners):
    """Clients that connect to the virtual addresses find HAProxy there."""
    path, bind = "haproxy:rabbitmq_cluster:bind", listeners["rabbitmq_cluster"]
    # In HAProxy's or keepalived's own words there may be a way from the one to the other.
    snippets = [view.settings[name]["snippets"] for name in ("haproxy", "keepalived")]
    if any(any(told.values()) for told in snippets) or any(_bound(view, path, bind)):
        return
    virtual = view.settings["virtual_address"]
    others = [one for one in view.left_out if one != virtual]
    # Such an address is for something else.
    others = [one for one in others if not any(_is_at(one, at) for at in listeners.values())]
    everywhere = "none: all of the host's"
    if any(":" in one for one in view.left_out):
        everywhere = f"'[::]:{_split(bind)[1]}'"
    if virtual in view.left_out:
        expected = everywhere if ":" in virtual else f"{virtual}, or {everywhere}"
        yield _error(path, bind, expected, f"which leaves out {virtual}")
    if others:
        yield _warning(path, bind, everywhere, f"which leaves out {_listed(others)}")


def _is_at(address, bind):
    """Tell whether a listener binds an address and no other."""
    text = _split(bind)[0].strip("[]")
    return text not in ANYWHERE and _address(text) == _address(address)


def _bound(view, path, bind):
    """HAProxy listens on an address that each load balancer can have."""
    text = _split(bind)[0].strip("[]")
    if text in ANYWHERE:
        return
    address = _address(text)
    expected = "a virtual address, or none: all of the host's"
    if address in LINK_LOCAL:
        why = "which HAProxy cannot bind without the interface"
        yield _error(path, bind, expected, why)
        return
    # What keepalived is told in its own words may be an address; so may a second interface
    # of the only load balancer have one.
    if any(view.keepalived["snippets"].values()) or len(view.load_balancers) < 2:
        return
    shared = [
        _address(ipaddress.ip_interface(virtual.split()[0]).ip)
        for name in view.instances
        for host in view.members(name)
        for _, virtual in view.virtual_addresses(name, host)
    ]
    if address not in shared and not address.is_loopback:
        owners = [
            host
            for host in view.load_balancers
            if view.hosts[host].get("address") and _address(view.hosts[host]["address"]) == address
        ]
        why = f"which only {owners[0]} has" if owners else "which is no virtual address"
        yield _error(path, bind, expected, why)


def _monitor(view):
    """keepalived's check asks the HAProxy of its own host."""
    bind = view.haproxy["monitor"]["bind"]
    address = _split(bind)[0].strip("[]")
    moving = {
        ipaddress.ip_interface(text.split()[0]).ip
        for name in view.instances
        for host in view.members(name)
        for _, text in view.virtual_addresses(name, host)
    }
    if address not in ANYWHERE and ipaddress.ip_address(address) in moving:
        why = "which moves: on a backup keepalived's check would ask another host's HAProxy"
        expected = f"an address that each load balancer has, such as :{_split(bind)[1]}"
        yield _error("haproxy:monitor:bind", bind, expected, why)


def _collisions(view, listeners, broker):
    """
    Find listeners of HAProxy whose port something else has.

    Yields the listener, what it binds to, and whose port that is; each listener once.
    ``broker`` is a load balancer that is a broker too, or None.
    """
    # A listener of RabbitMQ on an address of its own leaves the port of others alone.
    taken = {
        port: words
        for port, address, _, words in reversed(_ports_of_a_broker(view))
        if broker is not None and address in ANYWHERE
    }
    for position, (name, bind) in enumerate(listeners.items()):
        address, port = _split(bind)
        others = [
            other
            for other in list(listeners)[:position]
            if _split(listeners[other])[1] == port
            and (address == _split(listeners[other])[0] or _anywhere(address, listeners[other]))
        ]
        if others:
            yield name, bind, f"the port of rabbit_ha:haproxy:{others[0]}:bind"
        # On its own address RabbitMQ leaves the AMQP port to the listener that brings clients.
        elif port in taken and (name, port) != ("rabbitmq_cluster", view.rabbitmq["amqp_port"]):
            yield name, bind, f"{taken[port]} on {broker}"


def _anywhere(address, bind):
    """Tell whether one of two listeners binds all addresses."""
    return bool({address, _split(bind)[0]} & set(ANYWHERE))


def _split(bind):
    """Split ``address:port``; returns the address and the port as a number."""
    address, port = bind.rsplit(":", 1)
    return address, int(port)


def _timeouts(view):
    """HAProxy does not cut connections that only have heartbeats to say."""
    heartbeat = _whole_number(_line(view, "heartbeat", HEARTBEAT))
    if heartbeat is None:
        found = _Said("no whole number of seconds")
        yield _error("rabbitmq:config:heartbeat", found, "seconds as a whole number, 0 for none")
        return
    timeouts = view.haproxy["defaults"]["timeout"]
    # It takes the place of the others once both sides have spoken.
    for event in ("tunnel",) if timeouts.get("tunnel") else ("client", "server"):
        limit = timeouts.get(event)
        if not limit or not view.load_balancers:
            continue
        path = f"haproxy:defaults:timeout:{event}"
        if heartbeat == 0:
            why = "and no heartbeat (rabbit_ha:rabbitmq:config): connections without traffic break"
            yield _warning(path, limit, "a heartbeat below it", why)
        elif _seconds(limit) < heartbeat:
            why = f"which is below the heartbeat of {heartbeat} s"
            expected = f"at least {heartbeat}s, better {2 * heartbeat}s"
            yield _error(path, limit, expected, why)


def _line(view, key, default):
    """Tell what RabbitMQ reads in a line of its configuration, as a text: without a comment."""
    text = str(view.rabbitmq["config"].get(key, default)).strip()
    return text[1:-1] if _is_quoted(view, text) else text.split("#", 1)[0].strip()


def _is_quoted(view, text):
    """Tell whether quotes are around a value: an older RabbitMQ takes them for a part of it."""
    return not view.is_before(*QUOTES_FROM) and bool(QUOTED.fullmatch(text))


def _whole_number(text):
    """Turn what RabbitMQ takes for a whole number into one; None where it is none."""
    return int(text) if re.fullmatch(r"\+?[0-9]+", text) else None


def _seconds(duration):
    """Turn a time as HAProxy takes it into seconds; a bare number is milliseconds."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
    number = str(duration).rstrip("usmhd")
    return int(number) * units[str(duration)[len(number) :] or "ms"]


def _server_checks(view):
    """HAProxy's checks are in the unit they are meant in, and some broker gets traffic."""
    places = {"haproxy:rabbitmq_cluster:check": view.haproxy["rabbitmq_cluster"]["check"]}
    for host in view.brokers:
        places[f"hosts:{host}:check"] = view.hosts[host].get("check", {})
    for path, check in places.items():
        inter = check.get("inter")
        if isinstance(inter, int) and inter < 100:
            why = "milliseconds"
            yield _warning(f"{path}:inter", inter, "100 at least, or a unit: 5s", why)
    usual = places["haproxy:rabbitmq_cluster:check"]["weight"]
    weights = [view.hosts[host].get("check", {}).get("weight", usual) for host in view.brokers]
    if weights and view.load_balancers and not any(weights):
        path = "haproxy:rabbitmq_cluster:check:weight"
        yield _error(path, _Said("0 on every broker"), "a broker that gets connections")


def _management(view):
    """What asks brokers' management UI finds one."""
    if not view.load_balancers or "rabbitmq_management" in view.rabbitmq["plugins"]:
        return
    why = "without the plugin rabbitmq_management"
    expected = "it among rabbit_ha:rabbitmq:plugins"
    if view.haproxy["rabbitmq_cluster"]["probe"] == "management":
        yield _error("haproxy:rabbitmq_cluster:probe", "management", expected, why)
    if view.haproxy["management"]["enabled"]:
        yield _error("haproxy:management:enabled", True, expected, why)


def _management_page(view):
    """The page that HAProxy's check asks for is where it asks, and not on two listeners."""
    config = view.rabbitmq["config"]
    said = _Said("a line of its own")
    prefix = str(config.get("management.path_prefix", "")).strip("/ ")
    asked = view.load_balancers and view.haproxy["rabbitmq_cluster"]["probe"] == "management"
    if prefix and asked:
        why = "with rabbit_ha:haproxy:rabbitmq_cluster:probe: management, which asks for /"
        expected = "no such line, or probe: connect or amqp"
        yield _error("rabbitmq:config:management.path_prefix", said, expected, why)
    loopback = re.match(r"127\.|::1$|localhost$", _line(view, "management.tcp.ip", ""))
    if loopback and (asked or (view.load_balancers and view.haproxy["management"]["enabled"])):
        found = _Said("an address within the broker")
        why = "where rabbit_ha:haproxy finds no management UI"
        expected = "no such line, or neither probe: management nor management:enabled"
        yield _error("rabbitmq:config:management.tcp.ip", found, expected, why)


def _proxy_protocol(view):
    """HAProxy and brokers agree on the PROXY protocol, and HAProxy's checks fit it."""
    cluster = view.haproxy["rabbitmq_cluster"]
    said = {"haproxy:rabbitmq_cluster:proxy_protocol": cluster["proxy_protocol"]}
    for host in view.brokers:
        said[f"hosts:{host}:proxy_protocol"] = view.hosts[host].get("proxy_protocol")
    said = {path: version for path, version in said.items() if version}
    if said and not view.load_balancers and view.roles_known:
        path, version = next(iter(said.items()))
        why = "without which nobody speaks it"
        yield _error(path, version, "a load balancer, or nothing", why)
    if said and cluster["probe"] == "amqp":
        why = f"with the PROXY protocol (rabbit_ha:{next(iter(said))}), which checks cannot speak"
        yield _error("haproxy:rabbitmq_cluster:probe", "amqp", "management or connect", why)


def _snippet_folders(view):
    """The folder that is read besides a program's main file does not hold that file too."""
    for place, program in [
        ("haproxy", view.haproxy),
        *_keepaliveds(view, "config_file", "config_dir"),
    ]:
        folder = os.path.normpath(program["config_dir"])
        sound = view.is_sound(f"{place}:config_dir") and view.is_sound(f"{place}:config_file")
        if sound and folder == os.path.dirname(os.path.normpath(program["config_file"])):
            why = "the folder of config_file, which would be read twice"
            yield _error(f"{place}:config_dir", program["config_dir"], "another folder", why)


def _keepaliveds(view, *keys):
    """List the places that say any of some keys of keepalived, with all the settings there."""
    said = [("keepalived", view.keepalived)]
    for host in view.load_balancers:
        own = view.hosts[host].get("keepalived", {})
        if own.keys() & set(keys):
            said.append((f"hosts:{host}:keepalived", {**view.keepalived, **own}))
    return said


def _scripts(view):
    """keepalived's check is no other script of ours, which another state would write there."""
    for place, program in _keepaliveds(view, "script", "config_file"):
        script, main = map(os.path.normpath, (program["script"], program["config_file"]))
        others = [
            os.path.join(os.path.dirname(script), "vrrp_state.sh"),
            os.path.join(os.path.dirname(main), "check_configuration.sh"),
            main,
        ]
        if script in others and view.is_sound(f"{place}:script"):
            why = "where another file of keepalived is"
            yield _error(f"{place}:script", program["script"], "a path of its own", why)


def _builds(view):
    """What is built from source can be: it has a place, a checksum and options that exist."""
    for place, build in view.builds.items():
        if view.load_balancers and view.is_sound(place):
            for one in build["faults"]:
                path = f"{place}:{one['key']}"
                yield _error(path, one["value"], one["expected"], one["why"])


def _promex(view):
    """HAProxy's metrics are built in where it is built from source."""
    build = view.builds.get("haproxy:source")
    if not build or not view.load_balancers or not view.haproxy["prometheus"]["enabled"]:
        return
    source = view.haproxy["source"]
    if build["version"] < (2, 4):
        why = f"with HAProxy {source['version']}, which has no USE_PROMEX"
        yield _error("haproxy:prometheus:enabled", True, "version 2.4 at least, or false", why)
    elif not build["options"].get("USE_PROMEX", "1"):
        why = "with rabbit_ha:haproxy:prometheus:enabled"
        value = source["options"]["USE_PROMEX"]
        yield _error("haproxy:source:options:USE_PROMEX", value, "1, or no such option", why)


# VRRP


def _vrrp_group(view):
    """The load balancers agree on what they share, and one of them comes first."""
    for name in view.instances:
        for key in ("virtual_router_id", "advert_int", "version", "unicast"):
            yield from _alike(view, name, key)
        yield from _same_authentication(view, name)
        yield from _same_addresses(view, name)
        priorities = {host: view.vrrp(name, host, "priority") for host in view.members(name)}
        yield from _apart(view, priorities, _error)
        yield from _one_master(view, name)
    ids = {
        host: (view.router_id(host), f"hosts:{host}:keepalived:router_id")
        for host in view.load_balancers
    }
    yield from _apart(view, ids, _warning)


def _alike(view, name, key):
    """A setting of a VRRP instance is the same on all load balancers."""
    first = None
    for host in view.members(name):
        value, path = view.vrrp(name, host, key)
        if not view.is_sound(path):
            continue
        first = first or (value, host)
        if value != first[0]:
            why = f"whereas {first[1]} has {_shown(first[0])}"
            yield _error(path, value, "the same on all load balancers", why)


def _same_authentication(view, name):
    """Load balancers that do not take each other's advertisements all hold the address."""
    first = {}
    for host in view.members(name):
        said = view.vrrp(name, host, "authentication")[0]
        for key in ("auth_type", "auth_pass"):
            path = view.vrrp(name, host, key)[1]
            # A password of another host may be in that host's pillar only.
            if view.vrrp(name, host, "version")[0] != 2 or not said.get(key):
                continue
            value, other = first.setdefault(key, (said[key], host))
            if said[key] != value and view.is_sound(path):
                found = _Said("a password") if key == "auth_pass" else said[key]
                why = f"whereas {other} has another one for {name}"
                yield _error(path, found, "the same on all load balancers", why)


def _shown(value):
    """Write a number or a boolean as pillar does."""
    return str(value).lower()


def _same_addresses(view, name):
    """All load balancers would hold the same addresses; else they drop what the others send."""
    first = None
    for host in view.members(name):
        texts = [text for _, text in view.virtual_addresses(name, host)]
        addresses = {str(ipaddress.ip_interface(text.split()[0]).ip) for text in texts}
        first = first or (addresses, host)
        if addresses != first[0]:
            path = view.vrrp(name, host, "virtual_addresses")[1]
            why = f"whereas {first[1]} has {_listed(sorted(first[0]))}"
            found = _Said(_listed(sorted(addresses)))
            yield _error(path, found, "the same addresses on all load balancers", why)


def _apart(view, values, finding):
    """Each load balancer has a value of its own; ``values`` has it with its path."""
    seen = {}
    for host, (value, path) in values.items():
        if not view.is_sound(path):
            continue
        if value in seen:
            yield finding(path, value, "one of its own", f"which {seen[value]} has too")
        seen.setdefault(value, host)


def _one_master(view, name):
    """One load balancer is MASTER for an instance at most, the one with the highest priority."""
    states = {host: view.vrrp(name, host, "state") for host in view.members(name)}
    masters = [host for host, (state, _) in states.items() if state == "MASTER"]
    for host in masters[1:]:
        yield _error(states[host][1], "MASTER", "one MASTER", f"which {masters[0]} is too")
    if len(masters) == 1 and view.priorities_known:
        priorities = {host: view.vrrp(name, host, "priority")[0] for host in states}
        highest = max(priorities, key=priorities.get)
        own = priorities[masters[0]]
        if own < priorities[highest]:
            path = view.vrrp(name, masters[0], "priority")[1]
            why = f"on the MASTER, whereas {highest} has {priorities[highest]}"
            yield _warning(path, own, "the highest priority on the MASTER", why)


def _vrrp_hosts(view):
    """A failed check moves the address, and comes back with it unless it is to stay."""
    told = set()
    for name, host in itertools.product(view.instances, view.load_balancers):
        if host not in view.members(name):
            continue
        weight, path = view.vrrp(name, host, "weight")
        nopreempt, where = view.vrrp(name, host, "nopreempt")
        yield from _preemption(view, name, host)
        if nopreempt and weight:
            why = f"with weight {weight}: the address would never move"
            yield _error(where, True, "weight 0", why)
        delay, where = view.vrrp(name, host, "preempt_delay")
        if delay and weight:
            why = f"with weight {weight}: a failed check would move the address that much later too"
            yield _error(where, delay, "weight 0, or no delay", why)
        gap = _gap(view, name, host, weight)
        if weight and abs(weight) <= gap and path not in told and view.priorities_known:
            told.add(path)
            why = f"which does not outweigh the gap of {gap} between the priorities"
            yield _error(path, weight, f"0, or more than {gap} either way", why)
        if weight and path not in told and view.priorities_known:
            for one in _limits(view, name, host, weight, path):
                told.add(path)
                yield one


def _preemption(view, name, host):
    """What keeps an address where it is needs the state BACKUP, and is said in one way."""
    nopreempt, path = view.vrrp(name, host, "nopreempt")
    delay, where = view.vrrp(name, host, "preempt_delay")
    if view.vrrp(name, host, "state")[0] == "MASTER":
        why = f"with state MASTER on {host}, where keepalived ignores it"
        if nopreempt:
            yield _error(path, True, "state BACKUP on all load balancers", why)
        if delay:
            yield _error(where, delay, "state BACKUP on all load balancers", why)
    if nopreempt and delay:
        why = "with nopreempt, which leaves the address where it is for good"
        yield _error(where, delay, "one of the two", why)


def _gap(view, name, host, weight):
    """
    Tell by how much priorities differ where a weight has to bridge it.

    A negative weight takes a host below all others, a positive one lifts it over
    the others.
    """
    own = view.vrrp(name, host, "priority")[0]
    others = [view.vrrp(name, other, "priority")[0] for other in view.members(name)]
    return max(own - min(others) if weight < 0 else max(others) - own, 0) if others else 0


def _limits(view, name, host, weight, path):
    """Weighted priorities stay apart at the ends of what keepalived goes to, 1 and 254."""
    own = view.vrrp(name, host, "priority")[0]
    for other in view.members(name):
        priority = view.vrrp(name, other, "priority")[0]
        lifted = priority + max(view.vrrp(name, other, "weight")[0], 0)
        if other == host:
            continue
        if weight > 0 and own + weight >= 254 and lifted >= 254:
            why = f"with which {host} and {other} would both have 254, the most there is"
            most = 253 - min(own, priority)
            yield _error(path, weight, f"0, or at most {most}", why)
            return
        if weight < 0 and own + weight <= 1 and priority == 1:
            why = f"with which {host} would have 1, the least there is, as {other} has"
            yield _error(path, weight, f"0, or priorities above 1 (on {other} too)", why)
            return


def _vrrp_ids(view):
    """VRRP instances are told apart by their ids, and every load balancer has them."""
    told = set()
    for host in view.load_balancers:
        seen, paths = [], set()
        for name in view.instances:
            if host not in view.members(name):
                path = f"hosts:{view.members(name)[0]}:keepalived:instances:{name}"
                if len(view.load_balancers) > 1 and path not in told:
                    told.add(path)
                    why = f"which {host} has not and so never takes over"
                    yield _warning(path, _Said("a VRRP instance"), "it on all load balancers", why)
                continue
            value, path = view.vrrp(name, host, "virtual_router_id")
            others = [
                other for other in seen if view.vrrp(other, host, "virtual_router_id")[0] == value
            ]
            # Those apart keepalived itself takes for two.
            own = _link(view, name, host)
            beside = [other for other in others if _link(view, other, host) == own]
            if others:
                # Where all instances say the same, it is the later one that should differ.
                path = f"keepalived:instances:{name}:virtual_router_id" if path in paths else path
                finding, first = (_error, beside[0]) if beside else (_warning, others[0])
                if path not in told:
                    why = f"which the VRRP instance {first} has too"
                    why += "" if beside else ", on another interface or for another family"
                    yield finding(path, value, "one of its own", why)
                told.add(path)
            seen.append(name)
            paths.add(path)


def _link(view, name, host):
    """Tell on which interface, and for which family of addresses, a VRRP instance is."""
    texts = [text for _, text in view.virtual_addresses(name, host)]
    families = {ipaddress.ip_interface(text.split()[0]).version for text in texts}
    return view.vrrp(name, host, "interface")[0], families


def _vrrp_version(view):
    """Intervals and authentication are what the version of VRRP has."""
    told = set()
    authenticated = not view.instances or not view.load_balancers
    for name, host in itertools.product(view.instances, view.load_balancers):
        if host not in view.members(name):
            continue
        version = view.vrrp(name, host, "version")[0]
        interval, path = view.vrrp(name, host, "advert_int")
        authentication, where = view.vrrp(name, host, "authentication")
        findings = []
        if version == 2:
            authenticated = True
            if not float(interval).is_integer():
                why = "which VRRP version 2 does not know"
                findings.append(_error(path, interval, "a whole number, or version 3", why))
            if (
                authentication["auth_type"] == "AH"
                and view.vrrp(name, host, "state")[0] == "MASTER"
            ):
                why = f"with state MASTER on {host}, which keepalived refuses"
                findings.append(_error(f"{where}:auth_type", "AH", "PASS, or BACKUP", why))
        else:
            # Hundredths of a second, in twelve bits.
            if not interval <= 40.95 or abs(interval * 100 - round(interval * 100)) > 1e-6:
                expected = "hundredths of a second, at most 40.95 s"
                findings.append(_error(path, interval, expected, "with VRRP version 3"))
            own = where.endswith(f":instances:{name}:authentication")
            if own or (where != "keepalived:authentication" and not _authenticates(view, host)):
                why = f"with VRRP version 3 of {name}, which has none"
                findings.append(_error(where, _Said("authentication"), "no authentication", why))
        yield from (one for one in findings if one["path"] not in told)
        told |= {one["path"] for one in findings}
    if not authenticated and view.keepalived["authentication"]["auth_pass"]:
        path = "keepalived:authentication:auth_pass"
        why = "which is not used: no VRRP instance has version 2"
        yield _warning(path, _Said("a password"), "none", why)


def _authenticates(view, host):
    """Tell whether a load balancer has a VRRP instance of version 2, the one with a password."""
    names = [name for name in view.instances if host in view.members(name)]
    return any(view.vrrp(name, host, "version")[0] == 2 for name in names)


def _unicast(view):
    """Unicast has someone to go to, by addresses of the right family."""
    for name in view.instances:
        hosts = [host for host in view.members(name) if view.vrrp(name, host, "unicast")[0]]
        if not hosts:
            continue
        path = view.vrrp(name, hosts[0], "unicast")[1]
        if len(view.load_balancers) < 2 and view.roles_known:
            yield _error(path, True, "a second load balancer, or multicast", "without peers")
        for _, text in view.virtual_addresses(name, hosts[0])[:1]:
            family = ipaddress.ip_interface(text.split()[0]).version
            for host in view.load_balancers:
                address = view.hosts[host].get("address")
                if address and ipaddress.ip_address(address).version != family:
                    why = f"whereas {host} has {address} and {name} is IPv{family}"
                    yield _error(path, True, "addresses of one family", why)


# RabbitMQ


def _config(view):
    """Lines of rabbitmq.conf are none that pillar says elsewhere, or that stop RabbitMQ."""
    for key, value in view.rabbitmq["config"].items():
        path = f"rabbitmq:config:{key}"
        # A comment behind a space is meant as one, but in a secret.
        cut = r"#" if key in view.secret_lines else r"\S#"
        if re.search(cut, str(value)) and not _is_quoted(view, str(value)):
            no_quotes = view.is_before(*QUOTES_FROM)
            expected = "a value without it" if no_quotes else "the value in single quotes"
            why = "which begins a comment: RabbitMQ would read what is before it"
            yield _error(path, _Said("a #"), expected, why)
        yield from _unread(view, key, path, str(value))
        for name, (place, why) in SAID_ELSEWHERE.items():
            if _is_named(key, name):
                yield _error(path, _Said("a line of its own"), f"rabbit_ha:{place}", why)
        owner = _only_host_that_has_it(view, key)
        if owner and len(view.brokers) > 1:
            found, why = _Said(f"an address of {owner}"), "on which other brokers cannot listen"
            yield _error(path, found, "an address that all brokers have, or a port only", why)
        delay = key.startswith("cluster_formation.randomized_startup_delay_range.")
        version_1 = key == "classic_queue.default_version" and _line(view, key, "") == "1"
        if (delay or version_1) and view.is_from(4, 0):
            found = _Said("version 1" if version_1 else "a line")
            why = f"with which RabbitMQ {_version(view)} does not start"
            yield _error(path, found, "the key to be left out", why)
        if any(_is_named(key, name) and view.is_before(*KNOWN_FROM[name]) for name in KNOWN_FROM):
            why = f"which RabbitMQ {_version(view)} does not know, and does not start with"
            yield _error(path, _Said("a line"), "the key to be left out", why)


def _unread(view, key, path, text):
    """A value of rabbitmq.conf is what RabbitMQ's parser takes as it is."""
    secret = key in view.secret_lines
    names = TAKEN_OVER.findall(_line(view, key, ""))
    if any(name not in view.rabbitmq["config"] for name in names):
        why = "which RabbitMQ takes for the name of another line, and does not start without it"
        yield _error(path, _Said("a $(…)"), "a value without it", why)
    beyond_latin_1 = any(ord(one) > 0xFF for one in text)
    if beyond_latin_1 and (secret or view.is_before(3, 11)):
        found = _Said("a character outside of Latin-1")
        yield _error(path, found, "a value without it", "with which RabbitMQ does not start")
    if re.match(r"\s*'[^']*'\s*[^\s#]", text) and view.is_from(*QUOTES_FROM):
        why = f"with which RabbitMQ {_version(view)} does not start"
        expected = "a value that does not begin with a quote, or quotes around all of it"
        yield _error(path, _Said("text behind a value in quotes"), expected, why)
    if secret and text != text.strip(" \t") and not _is_quoted(view, text):
        why = "which RabbitMQ leaves out"
        yield _error(path, _Said("a blank at an end"), "a value without it", why)


def _is_named(key, name):
    """Tell whether a key of rabbitmq.conf is the one named, or begins with it and a dot."""
    return key == name or (name.endswith(".") and key.startswith(name))


def _only_host_that_has_it(view, key):
    """Name the host whose own address a line of rabbitmq.conf listens on; None for another one."""
    text = _line(view, key, "")
    if not ADDRESS.fullmatch(key):
        text = text.rpartition(":")[0] if LISTENER.fullmatch(key) else ""
    owners = {
        _address(host["address"]): name for name, host in view.hosts.items() if host.get("address")
    }
    try:
        return owners.get(_address(text.strip().strip("[]")))
    except ValueError:
        return None


def _folders_of_rabbitmq(view):
    """RabbitMQ's files are where it looks for them unless it is told otherwise."""
    for key, usual in FOLDERS.items():
        if os.path.normpath(view.rabbitmq[key]) != usual:
            why = "of which RabbitMQ is to be told in its rabbitmq-env.conf"
            yield _warning(f"rabbitmq:{key}", view.rabbitmq[key], f"{usual}, or that", why)


def _plugins(view):
    """Plugins whose names are close to RabbitMQ's own are spelt like these."""
    for index, plugin in enumerate(view.rabbitmq["plugins"]):
        near = difflib.get_close_matches(plugin.removeprefix("rabbitmq_"), PLUGINS.split(), 1, 0.9)
        if near and plugin != f"rabbitmq_{near[0]}":
            why = "which RabbitMQ does not bring with it"
            expected = f"rabbitmq_{near[0]}, the nearest, or a plugin of your own"
            yield _warning(f"rabbitmq:plugins:{index}", plugin, expected, why)


def _expressions(view):
    """Regular expressions are what this RabbitMQ's Erlang takes, as far as that is known."""
    for one in view.expressions:
        newer = one["refused_by"] == "newer"
        why = f"{one['why']}, with Erlang {'28 and newer' if newer else 'up to 27'}"
        # What the archives with RabbitMQ 4.3 have is Erlang 29, the others have 27 at most.
        if view.is_from(4, 3) if newer else view.is_before(4, 3):
            yield {**one, "why": why}
        elif view.is_unknown():
            yield {**one, "severity": "warning", "why": why}


def _users(view):
    """Users can do something, and one of them can do everything."""
    users = view.rabbitmq["users"]
    present = {name: user for name, user in users.items() if not user.get("absent")}
    for name, user in users.items():
        path = f"rabbitmq:users:{name}"
        for key in ("password", "password_hash"):
            # Absent by default. Another user may be, and the password that was made for it be left.
            if name == "guest" and user.get("absent") and user.get(key):
                yield _error(f"{path}:absent", True, "one of the two", f"and a {key}")
        if user.get("password") and user.get("password_hash"):
            found = _Said("a hash, and a password")
            yield _error(f"{path}:password_hash", found, "one of the two")
        if str(user.get("password") or "").endswith(("\n", "\r")):
            why = "which is part of the password: YAML's | keeps it, |- does not"
            found = _Said("a line break at its end")
            yield _warning(f"{path}:password", found, "a password without it", why)
        for index, tag in enumerate(user.get("tags", [])):
            near = difflib.get_close_matches(tag.lower(), TAGS, 1, 0.7)
            if tag not in TAGS and near:
                why = "which RabbitMQ does not know"
                yield _warning(f"{path}:tags:{index}", tag, f"{near[0]}, the nearest", why)
    for name, user in present.items():
        nothing = not any(user.get(key) for key in ("tags", "permissions", "topic_permissions"))
        if nothing and view.is_sound(f"rabbitmq:users:{name}"):
            found = _Said("neither tags nor permissions")
            yield _warning(f"rabbitmq:users:{name}", found, "a user who may do something")
    administrators = [user for user in present.values() if "administrator" in user.get("tags", [])]
    if view.brokers and not administrators and view.is_sound("rabbitmq:users"):
        found = _Said("no administrator")
        yield _error("rabbitmq:users", found, "a user with the tag administrator")
    elif view.brokers and not any(_reaches_a_vhost(view, user) for user in administrators):
        found = _Said("no administrator with permissions in a vhost that is to be there")
        why = "as which `verify` would send messages"
        yield _warning("rabbitmq:users", found, "permissions of one of them", why)


def _reaches_a_vhost(view, user):
    """Tell whether a user has permissions in a vhost that pillar describes."""
    vhosts = view.rabbitmq["vhosts"]
    return any(
        vhost in vhosts and not vhosts[vhost].get("absent") and not rights.get("absent")
        for vhost, rights in user.get("permissions", {}).items()
    )


def _permissions(view):
    """Permissions, policies and parameters are in vhosts that are there."""
    vhosts = view.rabbitmq["vhosts"]
    places = [
        (f"rabbitmq:users:{name}:{kind}:{vhost}", vhost)
        for name, user in view.rabbitmq["users"].items()
        for kind in ("permissions", "topic_permissions")
        for vhost, rights in user.get(kind, {}).items()
        if not user.get("absent") and not rights.get("absent")
    ]
    places += [
        (f"rabbitmq:parameters:{key}:vhost", parameter.get("vhost", "/"))
        for key, parameter in view.rabbitmq["parameters"].items()
        if not parameter.get("absent")
    ]
    places += [
        (f"rabbitmq:policies:{key}:vhost", policy["vhost"])
        for key, policy in view.policies.items()
        if not policy.get("absent")
    ]
    for path, vhost in places:
        if vhosts.get(vhost, {}).get("absent"):
            why = "a vhost that is to be absent"
            yield _error(path, vhost, "a vhost that is to be there", why)
        elif vhost not in vhosts:
            near = difflib.get_close_matches(vhost, vhosts, 1, 0.6)
            expected = f"{near[0]}, the nearest one" if near else f"one of {_listed(vhosts)}"
            why = "a vhost that rabbit_ha:rabbitmq:vhosts does not name"
            yield _warning(path, vhost, expected, why)


def _policies(view):
    """Policies say what they apply to, and what they set fits together."""
    keys = {}
    for key, policy in view.policies.items():
        path = f"rabbitmq:policies:{key}"
        said = view.rabbitmq["policies"][key]
        place = (policy["name"], policy["vhost"])
        if place in keys:
            why = f"as rabbit_ha:rabbitmq:policies:{keys[place]} is the same one in {place[1]}"
            yield _error(path, policy["name"], "each policy of a vhost once", why)
        keys.setdefault(place, key)
        if policy.get("absent"):
            continue
        preset_sound = view.is_sound(f"{path}:preset")
        if policy["pattern"] is None and preset_sound and view.is_sound(f"{path}:pattern"):
            yield _error(f"{path}:pattern", None, "a regular expression")
        if not policy["definition"] and preset_sound and view.is_sound(f"{path}:definition"):
            yield _error(f"{path}:definition", None, "a mapping with what the policy sets")
        if "replicas" in said and said.get("preset") != "exactly":
            yield _error(f"{path}:replicas", said["replicas"], "preset: exactly beside it")
        single = policy["apply-to"] in ("classic_queues", "quorum_queues", "streams")
        if single and view.is_before(3, 12):
            why = f"which RabbitMQ {_version(view)} does not know"
            yield _error(f"{path}:apply-to", policy["apply-to"], "queues", why)
        if ("policies", key) in view.not_json:
            found = _Said(view.not_json["policies", key])
            yield _error(f"{path}:definition", found, "it in quotes", "which JSON does not have")
        yield from _too_new(view, f"{path}:definition", policy["definition"])
        yield from _mirrors(view, path, said, policy["definition"])


def _too_new(view, path, definition):
    """What a policy sets is known to this RabbitMQ."""
    why = f"which RabbitMQ {_version(view)} does not know" if view.version else ""
    for key, version in DEFINED_FROM.items():
        if key in definition and view.is_before(*version):
            yield _error(f"{path}:{key}", _Said("a key"), "the key to be left out", why)
    if definition.get("delivery-limit") == -1 and view.is_before(4, 0):
        yield _error(f"{path}:delivery-limit", -1, "a limit, or no such key", why)


def _parameters(view):
    """Parameters have values that this RabbitMQ can hold, and are described once."""
    keys = {}
    for key, parameter in view.rabbitmq["parameters"].items():
        path = f"rabbitmq:parameters:{key}"
        component = parameter.get("component")
        place = (component, parameter.get("name", key), parameter.get("vhost", "/"))
        if place in keys:
            why = f"as rabbit_ha:rabbitmq:parameters:{keys[place]} is the same one"
            yield _error(path, place[1], "each parameter once", why)
        keys.setdefault(place, key)
        if component in NO_PARAMETERS:
            expected = f"{ROOT}:rabbitmq:{NO_PARAMETERS[component]} in place of it"
            yield _error(f"{path}:component", component, expected)
        listed = isinstance(parameter.get("value"), list) and not parameter.get("absent")
        if listed and view.is_before(4, 0):
            found = _Said("a list")
            why = f"with which RabbitMQ {_version(view)} can no longer export its definitions"
            yield _error(f"{path}:value", found, "a mapping, or a parameter set by hand", why)
    for key in OWN_PARAMETERS:
        if key in view.rabbitmq["global_parameters"]:
            found, why = _Said("a parameter"), "which names or tells apart the cluster itself"
            expected = f"{ROOT}:rabbitmq:cluster_name in place of it"
            yield _error(f"rabbitmq:global_parameters:{key}", found, expected, why)
    for kind in ("parameters", "global_parameters"):
        for key, parameter in view.rabbitmq[kind].items():
            path = f"rabbitmq:{kind}:{key}:value"
            if (kind, key) in view.like_text and view.is_from(4, 3) and not parameter.get("absent"):
                found = _Said("a list with a number up to 255 or a list in it")
                why = f"which RabbitMQ {_version(view)} takes for text"
                yield _error(path, found, "another value, such as the number as text", why)
            if (kind, key) in view.not_json and not parameter.get("absent"):
                found = _Said(view.not_json[kind, key])
                yield _error(path, found, "it in quotes", "which JSON does not have")
            missing = parameter.get("value") is None and not parameter.get("absent")
            # Values may be among the secrets, which only brokers get.
            if missing and view.host in view.brokers and view.is_sound(path):
                yield _error(path, None, "a value as the component takes it")


def _plugins_in_use(view):
    """What parameters and policies say is for plugins that are enabled."""
    for key, parameter in view.rabbitmq["parameters"].items():
        component = parameter.get("component")
        if component in COMPONENTS and not parameter.get("absent"):
            path = f"rabbitmq:parameters:{key}:component"
            yield from _plugin_in_use(view, path, component, COMPONENTS[component])
    for key, policy in view.policies.items():
        for name in policy.get("definition", {}):
            if name.startswith("federation-"):
                path = f"rabbitmq:policies:{key}:definition:{name}"
                yield from _plugin_in_use(view, path, _Said("a key"), "federation")


def _plugin_in_use(view, path, found, plugin):
    """A plugin, or a part of it, is enabled; by hand it may be too."""
    enabled = any(plugin in name for name in view.rabbitmq["plugins"])
    if not enabled and view.is_sound("rabbitmq:plugins"):
        why = f"which RabbitMQ knows by the plugin rabbitmq_{plugin} only"
        expected = "it among rabbit_ha:rabbitmq:plugins, unless it was enabled by hand"
        yield _warning(path, found, expected, why)


def _mirrors(view, path, said, definition):
    """What a policy says of mirrors fits together."""
    mode, params = definition.get("ha-mode"), definition.get("ha-params")
    where = f"{path}:definition"
    if mode == "exactly" and not isinstance(params, int):
        yield _error(f"{where}:ha-params", params, "a number of nodes, for ha-mode: exactly")
    named = isinstance(params, list) and params and all(isinstance(one, str) for one in params)
    if mode == "nodes" and not named:
        yield _error(f"{where}:ha-params", params, "a list of node names, for ha-mode: nodes")
    if mode == "all" and params is not None:
        yield _error(f"{where}:ha-params", params, "no such key, for ha-mode: all")
    if mode is None and any(key.startswith("ha-") for key in definition):
        yield _error(f"{where}:ha-mode", None, "all, exactly or nodes, beside the other ha- keys")
    if mode == "exactly" and isinstance(params, int) and params > len(view.brokers) > 0:
        preset = "ha-params" not in said.get("definition", {})
        place = f"{path}:replicas" if preset else f"{where}:ha-params"
        yield _warning(place, params, "no more than there are", f"of {len(view.brokers)} brokers")


def _mirroring(view):
    """Mirroring is asked for only where RabbitMQ still has it, and queues are not quorum ones."""
    gone = view.is_from(4, 0)
    why = gone and f"which RabbitMQ {_version(view)} no longer has"
    if gone and view.rabbitmq["ha"] == "mirrored":
        yield _error("rabbitmq:ha", "mirrored", "quorum or auto", why)
    elif view.is_unknown() and view.rabbitmq["ha"] == "mirrored":
        yield _until("rabbitmq:ha", "mirrored", "3.13")
    for key, policy in view.policies.items():
        path = f"rabbitmq:policies:{key}"
        preset = view.rabbitmq["policies"][key].get("preset")
        keys = [name for name in policy.get("definition", {}) if name.startswith("ha-")]
        if preset and keys and (gone or view.rabbitmq["ha"] == "quorum"):
            found = _Said(f"'{preset}', mirrors of classic queues")
            expected = "no preset: rabbit_ha:rabbitmq:ha: quorum makes queues quorum queues"
            beside = "beside rabbit_ha:rabbitmq:ha: quorum"
            yield _error(f"{path}:preset", found, expected, why or beside)
        elif keys and gone:
            found = _Said(_listed(keys))
            expected = "no mirroring: rabbit_ha:rabbitmq:ha: quorum"
            yield _error(f"{path}:definition", found, expected, why)


def _ties(view):
    """It is not left open which policy mirrors a queue, and none undoes another's mirrors."""
    keys = {(policy["name"], policy["vhost"]): key for key, policy in view.policies.items()}

    def path(policy):
        """Tell where pillar has a policy; None for one that is made by ``ha``."""
        key = keys.get((policy["name"], policy["vhost"]))
        return key and f"rabbitmq:policies:{key}"

    def other(first, second):
        """Name the first of two policies; nothing where there is no such or it is not sound."""
        if not view.is_sound(path(second)):
            return None
        if path(first):
            return view.is_sound(path(first)) and f"{ROOT}:{path(first)}"
        made = f"{first['name']} in {first['vhost']}, which {ROOT}:rabbitmq:ha makes,"
        return view.is_mirrored() and made

    for first, second in view.ties:
        name = other(first, second)
        if name:
            mirrors = all("ha-mode" in one["definition"] for one in (first, second))
            expected = "another priority"
            if not path(first):
                expected += f", or the name {first['name']} to take its place"
            why = f"as {name} has: RabbitMQ leaves open which one it applies where both match"
            finding = _error if mirrors else _warning
            yield finding(f"{path(second)}:priority", second["priority"], expected, why)
    for first, second in view.without_mirrors:
        name = other(first, second)
        if name:
            why = f"above {name} whose mirrors its queues lose: RabbitMQ applies one policy alone"
            expected = "ha-mode beside what it sets"
            yield _warning(f"{path(second)}:priority", second["priority"], expected, why)


def _ram(view):
    """A disc node is left, and RAM nodes are asked for only where there are any."""
    ram = [host for host in view.brokers if view.hosts[host].get("node_type") == "ram"]
    if ram and len(ram) == len(view.brokers) and view.roles_known:
        found = _Said("node_type ram on every broker")
        yield _error("hosts", found, "disc on at least one broker")
    path = f"hosts:{view.host}:node_type"
    if view.host in ram and view.is_from(4, 3):
        why = f"which RabbitMQ {_version(view)} no longer has"
        yield _error(path, "ram", "disc", why)
    elif view.host in ram and view.is_from(4, 2):
        why = f"which RabbitMQ {_version(view)} has only in clusters of before, without Khepri"
        yield _warning(path, "ram", "disc", why)
    elif view.host in ram and view.is_unknown():
        yield _until(path, "ram", "4.2")


def _until(path, found, last):
    """Warn of what only versions up to one have, where the version is not known."""
    why = f"which RabbitMQ has up to {last} only, and which one is here is not known"
    return _warning(path, found, f"{ROOT}:rabbitmq:version, which tells it", why)


def _departing(view):
    """What is to go does not also stay."""
    shorts = {host.split(".", 1)[0]: host for host in view.brokers}
    for index, gone in enumerate(view.rabbitmq["absent_members"]):
        stays = shorts.get(gone.split(".", 1)[0])
        if stays:
            path = f"rabbitmq:absent_members:{index}"
            why = f"a broker of rabbit_ha:hosts ({stays})"
            yield _error(path, gone, "a host that is none any more", why)
    for host in view.brokers:
        if view.hosts[host].get("discard_local_data"):
            why = "which lets a join delete what this broker holds"
            path = f"hosts:{host}:discard_local_data"
            yield _warning(path, True, "the key to be left out once that is done", why)


def _version(view):
    """Name the version of RabbitMQ, and where it is from."""
    return f"{'.'.join(map(str, view.version))} ({view.version_from})"


# Roles and secrets


def _misplaced(view):
    """What is said of a host concerns a role that it has."""
    if not view.roles_known:
        return
    owners = {"keepalived": LOAD_BALANCER, **dict.fromkeys(OF_BROKERS, BROKER)}
    for (host, data), (key, role) in itertools.product(view.hosts.items(), owners.items()):
        if key in data and data.get("roles") and role not in data["roles"]:
            found = _Said("settings of another role")
            why = f"as {host} has not the role {role}"
            yield _warning(f"hosts:{host}:{key}", found, f"the role {role}, or no {key}", why)


def _cookie(view):
    """The Erlang cookie is none that a package replaces."""
    cookie = view.rabbitmq["erlang_cookie"]
    if cookie and re.fullmatch(r"[A-Z]{20}", cookie):
        # In rabbitmq-server.postinst of Debian 12 to 14; it restarts the node as well.
        found = _Said("20 capital letters")
        why = "which Debian's package takes for Erlang's own and replaces when it is upgraded"
        expected = "another form, such as what `openssl rand -hex 20` prints"
        yield _warning("rabbitmq:erlang_cookie", found, expected, why)


def _secrets(view):
    """The secrets that the host's roles need are in its pillar."""
    missing = []
    if view.host in view.brokers:
        missing += [
            ["rabbitmq", "users", name, "password"]
            for name, user in view.rabbitmq["users"].items()
            if not any(user.get(key) for key in ("absent", "password", "password_hash"))
        ]
    if view.host in view.load_balancers:
        if not view.haproxy["monitor"]["password"]:
            missing.append(["haproxy", "monitor", "password"])
        if _lacks_vrrp_password(view):
            missing.append(["keepalived", "authentication", "auth_pass"])
    for place in missing:
        found = _Said(f"nothing in the pillar of {view.host}")
        error = _error(":".join(place), found, "a secret. Next: salt-run rabbit_ha.secrets")
        yield {**error, "missing_secret": place}


def _lacks_vrrp_password(view):
    """Tell whether a VRRP instance of this load balancer needs a password and has none."""
    instances = [name for name in view.instances if view.host in view.members(name)]
    return any(
        view.vrrp(name, view.host, "version")[0] == 2
        and not view.vrrp(name, view.host, "authentication")[0].get("auth_pass")
        for name in instances
    )
