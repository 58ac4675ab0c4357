"""
What pillar and the defaults together say: pure functions over plain data.

Shared by the execution module ``rabbit_topology`` (on minions) and the runner
``rabbit_ha`` (on the master).
"""

import copy
import re

import salt.utils.dictupdate

BROKER = "broker"
LOAD_BALANCER = "load_balancer"
# As in default_pass, ssl_options.password, aws.secret_key, consul.acl_token.
_SECRET_KEY = re.compile(r"pass|secret|token|cookie", re.IGNORECASE)
# As in amqp://name:password@host; one that was not encoded may hold a slash.
_PASSWORD_IN_URL = re.compile(r"://[^\s@/]*:[^\s@]*@")
UNCHECKED = (
    "rabbit_ha: pillar was not checked; expected `ext_pillar: [{rabbit_ha_findings: {}}]` in the "
    "master's configuration and the module rabbit_ha_findings on the master. Next, on the "
    "master: salt-run saltutil.sync_all (see docs/validation.md)"
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
    for layer in (of_family, dict(pillar or {})):
        settings = salt.utils.dictupdate.merge(settings, copy.deepcopy(layer), strategy="recurse")
    return settings


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
    shown["keepalived"]["authentication"]["auth_pass"] = None
    snippets = shown["keepalived"]["snippets"]
    snippets["text"] = dict.fromkeys(snippets["text"])
    for user in shown["rabbitmq"]["users"].values():
        user.pop("password", None)
    return shown


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


def secrets(settings):
    """
    List the secrets in settings: what :func:`without_secrets` takes out of them.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of texts, the longest first.
    """
    return sorted(_hidden(settings, without_secrets(settings)), key=len, reverse=True)


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


def virtual_addresses(settings):
    """
    List the addresses that keepalived moves between the load balancers.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of addresses, without a prefix length, the AMQP one first.
    """
    addresses = [settings["virtual_address"], *settings["keepalived"]["virtual_addresses"]]
    return [address.split("/", 1)[0].split(" ", 1)[0] for address in addresses if address]


def keepalived_of(settings, host):
    """
    Tell a load balancer's settings of keepalived: the shared ones, then its own.

    settings
        Mapping as :func:`merged` returns it.
    host
        Host name (minion id).

    Returns a mapping with the keys of ``keepalived`` and ``state``, ``priority``
    and ``router_id``.
    """
    usual = {"state": "BACKUP", "priority": 90, "router_id": host}
    own = settings["hosts"].get(host, {}).get("keepalived", {})
    return {**settings["keepalived"], **usual, **own}


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


def load_balancers_in_start_order(settings):
    """
    Group the load balancers in the order keepalived starts: backups, then the master.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of at most two non-empty lists of host names.
    """
    backups, masters = [], []
    for host in hosts_with_role(settings, LOAD_BALANCER):
        state = keepalived_of(settings, host)["state"]
        (masters if state == "MASTER" else backups).append(host)
    return [group for group in (backups, masters) if group]
