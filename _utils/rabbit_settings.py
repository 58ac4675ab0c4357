"""
What pillar and the defaults together say: pure functions over plain data.

Shared by execution modules, ``rabbit_topology`` above all, on minions, and by the runner
``rabbit_ha`` and the check of pillar on the master.
"""

import copy
import ipaddress
import itertools
import math
import re

import salt.utils.dictupdate

BROKER = "broker"
LOAD_BALANCER = "load_balancer"
# As in default_pass, ssl_options.password, aws.secret_key, consul.acl_token.
_SECRET_KEY = re.compile(r"pass|secret|token|cookie", re.IGNORECASE)
# As in amqp://name:password@host; one that was not encoded may hold a slash.
_PASSWORD_IN_URL = re.compile(r"://[^\s@/]*:[^\s@]*@")
# What a program may repeat of a file: a word, with more signs at its ends or without; of a
# long line a part, between "...".
_WORDS = (re.compile(r"""[^\s'"`]{4,}"""), re.compile(r"""[^\s'"`()\[\]{}<>,;:=!?.]{4,}"""))
UNCHECKED = (
    "rabbit_ha: pillar was not checked; expected `ext_pillar: [{rabbit_ha_findings: {}}]`, and no "
    "`ext_pillar_first: true`, in the master's configuration and the module rabbit_ha_findings on "
    "the master. Next, on the master: salt-run saltutil.sync_all (see docs/validation.md)"
)


def merged(defaults, pillar, os_family=None):
    """
    Merge the ``rabbit_ha`` pillar over the defaults; lists replace, mappings merge.

    defaults
        Mapping read from ``salt/rabbit_ha/defaults.yaml``.
    pillar
        Mapping below the pillar key ``rabbit_ha``; may be empty.
    os_family : None
        Salt's grain of that name. What ``os_families`` of the defaults says of it
        comes over the other defaults and below pillar.

    Returns a new mapping with the keys of ``defaults.yaml``, without ``os_families``.
    """
    settings = copy.deepcopy(defaults)
    of_family = settings.pop("os_families", {}).get(os_family, {})
    _take_back(settings, dict(pillar or {}))
    for layer in (of_family, dict(pillar or {})):
        settings = salt.utils.dictupdate.merge(settings, copy.deepcopy(layer), strategy="recurse")
    return settings


def _take_back(defaults, pillar):
    """
    Take out of the defaults what pillar has made pointless, in place.

    Rights in a vhost that is to be absent go with it; a user whom pillar describes is
    to be there.
    """

    def described(kind):
        said = pillar.get("rabbitmq")
        said = said.get(kind) if isinstance(said, dict) else None
        said = said if isinstance(said, dict) else {}
        return {name: one for name, one in said.items() if isinstance(one, dict)}

    users = defaults.get("rabbitmq", {}).get("users", {})
    for vhost, said in described("vhosts").items():
        if said.get("absent") is True:
            for user in users.values():
                user.get("permissions", {}).pop(vhost, None)
    for name, said in described("users").items():
        if said and name in users:
            users[name].pop("absent", None)


def without_secrets(settings):
    """
    Blank the secrets out of settings, so that they can be shown and kept.

    settings
        Mapping as :func:`merged` returns it.

    Returns a copy in which each secret is None.
    """
    shown = copy.deepcopy(settings)
    shown["rabbitmq"]["erlang_cookie"] = None
    shown["rabbitmq"]["config"] = {
        key: None if is_secret(key, value) else value
        for key, value in shown["rabbitmq"]["config"].items()
    }
    shown["haproxy"]["monitor"]["password"] = None
    for described in _authentications(shown):
        described["auth_pass"] = None
    for program in ("haproxy", "keepalived"):
        snippets = shown[program]["snippets"]
        snippets["text"] = dict.fromkeys(snippets["text"])
    for user in shown["rabbitmq"]["users"].values():
        user.pop("password", None)
        user.pop("password_hash", None)
    for parameter in _parameters(shown):
        parameter["value"] = None
    return shown


def _parameters(settings):
    """Yield what pillar says of each runtime parameter, global ones included."""
    yield from settings["rabbitmq"]["parameters"].values()
    yield from settings["rabbitmq"]["global_parameters"].values()


def is_secret(key, value):
    """
    Tell whether a line of ``rabbitmq.conf`` holds a secret.

    key
        As in ``ssl_options.password``.
    value
        What the line gives it: a string or a number.

    Returns a boolean: whether the key is called like a secret, or the value is a URL
    with a password in it.
    """
    return bool(_SECRET_KEY.search(key) or _PASSWORD_IN_URL.search(str(value)))


def _authentications(settings):
    """Yield what each place that may have VRRP's password says of authentication."""
    places = [settings["keepalived"]]
    places += [host.get("keepalived", {}) for host in settings["hosts"].values()]
    places += [vrrp for said in places for vrrp in said.get("instances", {}).values()]
    for said in places:
        if "auth_pass" in said.get("authentication", {}):
            yield said["authentication"]


def secrets(settings):
    """
    List the secrets in settings: what :func:`without_secrets` takes out of them.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of texts, the longest first. Of parameters' values these are texts of
    four characters and more: numbers and short words are in any other text too.
    """
    others = {**settings["rabbitmq"], "parameters": {}, "global_parameters": {}}
    found = [*_hidden({**settings, "rabbitmq": others}, without_secrets(settings))]
    for parameter in _parameters(settings):
        found += [text for text in texts(parameter.get("value")) if len(text) > 3]
    return sorted(found, key=len, reverse=True)


def redacted(text, settings):
    """
    Blank secrets out of a text.

    text
        What a program said of a file that holds them, for instance.
    settings
        Mapping as :func:`merged` returns it.

    Returns the text with ``…`` in place of each secret, and of each word of four
    characters and more that is in one: of a snippet, programs repeat single words.
    """
    hidden = secrets(settings)
    for secret in hidden:
        text = text.replace(secret, "…")

    def blanked(found):
        return "…" if any(found[0] in secret for secret in hidden) else found[0]

    for words in _WORDS:
        text = words.sub(blanked, text)
    return text


def texts(data):
    """
    List the texts in nested data, keys of mappings left out.

    data
        Anything that YAML or JSON can hold.

    Returns a list of strings.
    """
    if isinstance(data, str):
        return [data]
    below = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [text for one in below for text in texts(one)]


def _hidden(node, shown):
    """Yield the texts of nested mappings that a copy of them does not have."""
    if isinstance(node, dict):
        for key, below in node.items():
            yield from _hidden(below, shown.get(key) if isinstance(shown, dict) else None)
    elif isinstance(node, str | int | float) and str(node) and shown is None:
        yield str(node)


def hosts_with_role(settings, role):
    """
    Name the hosts that have a role, in the order of pillar.

    settings
        Mapping as :func:`merged` returns it.
    role
        ``broker`` or ``load_balancer``.

    Returns a list of host names (minion ids).
    """
    return [name for name, host in settings["hosts"].items() if role in host.get("roles", [])]


def seed_host(settings):
    """
    Name the broker that the others join: the one pillar names, else the first.

    settings
        Mapping as :func:`merged` returns it.

    Returns a host name, or None when there is no broker.
    """
    brokers = hosts_with_role(settings, BROKER)
    return settings["seed"] or (brokers[0] if brokers else None)


def node_name(host):
    """
    Tell the Erlang node name of a broker: ``rabbit@`` and the host's short name.

    host
        Host name (minion id), with or without a domain.

    Returns a string such as ``rabbit@rabbitmq-node1``.
    """
    return "rabbit@" + host.split(".", 1)[0]


def policies(settings):
    """
    Tell what each policy sets, its preset and ``replicas`` included.

    settings
        Mapping as :func:`merged` returns it.

    Returns a mapping from the keys of ``rabbitmq:policies`` to mappings with ``name``,
    ``vhost``, ``pattern``, ``definition``, ``priority`` and ``apply-to``, or with
    ``name``, ``vhost`` and ``absent``.
    """
    brokers = len(hosts_with_role(settings, BROKER))
    return {
        key: _policy({"name": key, "vhost": "/", **said}, brokers)
        for key, said in settings["rabbitmq"]["policies"].items()
    }


# What each preset's pattern is unless pillar names one.
_PATTERNS = {"all": "^", "exactly": "^", "prefix": r"^ha\."}


def _policy(said, brokers):
    """Put a policy's defaults and what its preset stands for below what it says itself."""
    if said.get("absent"):
        return {key: said[key] for key in ("name", "vhost", "absent")}
    definition = {}
    if said.get("preset") in ("all", "prefix"):
        definition = {"ha-mode": "all"}
    elif said.get("preset") == "exactly":
        replicas = said.get("replicas", "majority")
        definition = {
            "ha-mode": "exactly",
            "ha-params": brokers // 2 + 1 if replicas == "majority" else replicas,
            "ha-sync-mode": "automatic",
        }
    return {
        "name": said["name"],
        "vhost": said["vhost"],
        "pattern": said.get("pattern", _PATTERNS.get(said.get("preset"))),
        "definition": {**definition, **said.get("definition", {})},
        "priority": said.get("priority", 0),
        "apply-to": said.get("apply-to", "all"),
    }


def virtual_addresses(settings):
    """
    List the addresses that keepalived moves between the load balancers.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of addresses, without a prefix length, the AMQP one first.
    """
    hosts = hosts_with_role(settings, LOAD_BALANCER) or [None]
    found = [addresses_of(vrrp) for host in hosts for vrrp in instances_of(settings, host).values()]
    return list(dict.fromkeys(itertools.chain(*found)))


def addresses_of(vrrp):
    """
    List the addresses of a VRRP instance.

    vrrp
        Mapping as one of those that :func:`instances_of` returns.

    Returns a list of addresses, without a prefix length and what else keepalived takes.
    """
    return [text.split()[0].split("/", 1)[0] for text in vrrp["virtual_addresses"] if text]


def address_and_port(bind):
    """
    Tell what a listener of HAProxy binds to.

    bind
        As in ``haproxy:rabbitmq_cluster:bind``: ``0.0.0.0:5672``, ``[::]:5672``, ``:5672``.

    Returns the address, a text without brackets, empty or ``*`` for all of the host's
    IPv4 ones, and the port, a number.
    """
    address, port = bind.rsplit(":", 1)
    return address.strip("[]"), int(port)


def client_addresses(settings):
    """
    List the virtual addresses on which HAProxy takes AMQP clients.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of addresses: those that ``haproxy:rabbitmq_cluster:bind`` covers, without
    link-local ones, to which nobody connects by the address alone.
    """
    bind, _ = address_and_port(settings["haproxy"]["rabbitmq_cluster"]["bind"])
    balancers = hosts_with_role(settings, LOAD_BALANCER)
    found = [address for address in virtual_addresses(settings) if not is_link_local(address)]
    # On a host of both roles HAProxy binds each of them, whatever it says.
    if bind == "::" or set(balancers) <= set(hosts_with_role(settings, BROKER)):
        return found
    if bind in ("", "*", "0.0.0.0"):
        return [address for address in found if ":" not in address]
    wanted = ipaddress.ip_address(bind)
    return [address for address in found if ipaddress.ip_address(address) == wanted]


def addresses_left_out(settings):
    """
    List the virtual addresses on which clients find no HAProxy.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of addresses, without link-local ones.
    """
    served = client_addresses(settings)
    found = virtual_addresses(settings)
    return [one for one in found if one not in served and not is_link_local(one)]


def is_link_local(address):
    """
    Tell whether an address is one of IPv6 that says nothing without the interface.

    address
        A text, without a prefix length.

    Returns a boolean.
    """
    read = ipaddress.ip_address(address)
    return read.version == 6 and read.is_link_local


def keepalived_of(settings, host):
    """
    Tell a load balancer's settings of keepalived: the shared ones, then its own.

    settings
        Mapping as :func:`merged` returns it.
    host
        Host name (minion id).

    Returns a mapping with the keys of ``keepalived``; ``instances`` is what
    :func:`instances_of` returns.
    """
    own = settings["hosts"].get(host, {}).get("keepalived", {})
    shared = copy.deepcopy(settings["keepalived"])
    view = salt.utils.dictupdate.merge(shared, copy.deepcopy(own), strategy="recurse")
    return {
        **view,
        "router_id": view["router_id"] or host,
        "instances": instances_of(settings, host),
    }


def instances_of(settings, host):
    """
    Tell a load balancer's VRRP instances.

    The first one is named by ``keepalived:instance`` and has ``virtual_address``; others
    are what ``instances`` names, and have the addresses that they name themselves. Of
    what several places say the last one counts: ``keepalived``, its ``instances:NAME``,
    the host's ``keepalived``, its ``instances:NAME``.

    settings
        Mapping as :func:`merged` returns it.
    host
        Host name (minion id); None for what no host says otherwise.

    Returns a mapping from name to a mapping with the keys of ``keepalived``, and with
    ``said_at``, a mapping from each key, those of ``authentication`` too, to the place
    below ``rabbit_ha`` that says it. ``version`` is 3 where the addresses need it.
    """
    shared = settings["keepalived"]
    own = settings["hosts"].get(host, {}).get("keepalived", {})
    names = dict.fromkeys([shared["instance"], *shared["instances"], *own.get("instances", {})])
    return {name: _instance(settings, host, name) for name in names}


def _instance(settings, host, name):
    """Put together what a host is told of a VRRP instance."""
    shared = settings["keepalived"]
    own = settings["hosts"].get(host, {}).get("keepalived", {})
    first = name == shared["instance"]
    layers = []
    for place, said in (("keepalived", shared), (f"hosts:{host}:keepalived", own)):
        # Addresses that all instances share could be held by one of them only.
        alike = {key: said[key] for key in said if first or key != "virtual_addresses"}
        layers += [(place, alike)]
        layers += [(f"{place}:instances:{name}", said.get("instances", {}).get(name, {}))]
    vrrp, said_at, authentication = {"virtual_addresses": []}, {}, {}
    for place, said in layers:
        vrrp |= said
        said_at |= dict.fromkeys(said, place)
        authentication |= said.get("authentication", {})
        said_at |= dict.fromkeys(said.get("authentication", {}), f"{place}:authentication")
    vrrp["authentication"] = authentication
    if first:
        addresses = [text for text in vrrp["virtual_addresses"] if text]
        named = settings["virtual_address"] in addresses_of({"virtual_addresses": addresses})
        vrrp["virtual_addresses"] = [*([] if named else [settings["virtual_address"]]), *addresses]
    if any(":" in address for address in addresses_of(vrrp)):
        # IPv6 is in no other version.
        vrrp["version"] = 3
    return {**vrrp, "said_at": said_at}


def leader_of(settings, name):
    """
    Name the load balancer that a VRRP instance's addresses are on when all are well.

    settings
        Mapping as :func:`merged` returns it.
    name
        The instance's name.

    Returns the host name with the highest priority; None when there is no load balancer.
    """
    hosts = hosts_with_role(settings, LOAD_BALANCER)
    return max(
        (host for host in hosts if name in instances_of(settings, host)),
        key=lambda host: instances_of(settings, host)[name]["priority"],
        default=None,
    )


def addresses_taken(settings, host):
    """
    List the virtual addresses that a load balancer takes as soon as it can.

    settings
        Mapping as :func:`merged` returns it.
    host
        Host name (minion id).

    Returns a list of addresses: those of the instances in which it comes first, without
    those that stay where they are for a while (``nopreempt``, ``preempt_delay``).
    """
    found = [
        addresses_of(vrrp)
        for name, vrrp in instances_of(settings, host).items()
        if leader_of(settings, name) == host and not (vrrp["nopreempt"] or vrrp["preempt_delay"])
    ]
    return list(itertools.chain(*found))


def seconds_to_take(settings, host):
    """
    Tell how long to wait for a load balancer to hold the addresses that it takes.

    settings
        Mapping as :func:`merged` returns it.
    host
        Host name (minion id).

    Returns seconds, a whole number: keepalived asks for an address after three
    advertisements that did not come, and is given some time to start.
    """
    intervals = [vrrp["advert_int"] for vrrp in instances_of(settings, host).values()]
    return 15 + math.ceil(4 * max(intervals))


def pillar_errors(pillar):
    """
    List what the check of pillar found wrong, or that there was none.

    pillar
        Mapping, all of a minion's pillar.

    Returns a list of sentences; empty for a pillar that is right or none of ours.
    """
    if "rabbit_ha" not in pillar:
        return []
    if "rabbit_ha_findings" not in pillar:
        return [UNCHECKED]
    return list(pillar["rabbit_ha_findings"]["errors"])


def not_served(path):
    """
    Say that the master's file server lacks one of the project's files.

    path
        ``salt://…``

    Returns the beginning of a sentence, a text.
    """
    return f"{path} is not served; file_roots of the master must hold this project's salt/ folder"


def load_balancers_in_start_order(settings):
    """
    Group the load balancers in the order keepalived starts.

    Those that come first in no VRRP instance go together. The others, which hold an
    address, go one after another; the one that has ``virtual_address`` is the last.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of non-empty lists of host names.
    """
    hosts = hosts_with_role(settings, LOAD_BALANCER)
    names = dict.fromkeys(name for host in hosts for name in instances_of(settings, host))
    leaders = list(dict.fromkeys(leader_of(settings, name) for name in names))
    backups = [host for host in hosts if host not in leaders]
    return [group for group in (backups, *([host] for host in reversed(leaders))) if group]
