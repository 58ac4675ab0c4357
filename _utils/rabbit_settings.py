"""
What pillar and the defaults together say: pure functions over plain data.

Shared by the execution module ``rabbit_topology`` (on minions) and the runner
``rabbit_ha`` (on the master).
"""

import copy

import salt.utils.dictupdate

BROKER = "broker"
LOAD_BALANCER = "load_balancer"


def merged(defaults, pillar):
    """
    Merge the ``rabbit_ha`` pillar over the defaults; lists replace, mappings merge.

    defaults
        Mapping read from ``salt/rabbit_ha/defaults.yaml``.
    pillar
        Mapping below the pillar key ``rabbit_ha``; may be empty.

    Returns a new mapping with the keys of ``defaults.yaml``.
    """
    return salt.utils.dictupdate.merge(
        copy.deepcopy(defaults), copy.deepcopy(dict(pillar or {})), strategy="recurse"
    )


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


def load_balancers_in_start_order(settings):
    """
    Group the load balancers in the order keepalived starts: backups, then the master.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of at most two non-empty lists of host names.
    """
    backups, masters = [], []
    for host in hosts_with_role(settings, LOAD_BALANCER):
        state = settings["hosts"][host].get("keepalived", {}).get("state", "BACKUP")
        (masters if state == "MASTER" else backups).append(host)
    return [group for group in (backups, masters) if group]


def problems(settings):
    """
    List what is wrong with the topology, each a sentence with the pillar path.

    settings
        Mapping as :func:`merged` returns it.

    Returns a list of strings; empty when a deployment can begin.
    """
    found = []
    hosts = settings["hosts"]
    if not hosts:
        return ["rabbit_ha:hosts is empty; expected a mapping from host name to address and roles"]
    for name, host in hosts.items():
        if not host.get("address"):
            found.append(f"rabbit_ha:hosts:{name}:address is missing; expected an IP address")
        roles = host.get("roles") or []
        unknown = sorted(set(roles) - {BROKER, LOAD_BALANCER})
        if unknown or not roles:
            found.append(
                f"rabbit_ha:hosts:{name}:roles is {roles}; expected a list out of "
                f"{BROKER} and {LOAD_BALANCER}"
            )
    brokers = hosts_with_role(settings, BROKER)
    if not brokers:
        found.append(f"rabbit_ha:hosts has no host with the role {BROKER}; expected at least one")
    elif seed_host(settings) not in brokers:
        found.append(
            f"rabbit_ha:seed is {settings['seed']}; expected one of the brokers: "
            f"{', '.join(brokers)}"
        )
    if hosts_with_role(settings, LOAD_BALANCER) and not settings["virtual_address"]:
        found.append(
            "rabbit_ha:virtual_address is missing; expected the address that the load balancers "
            "share"
        )
    return found


def missing_secrets(settings, host):
    """
    List the secrets that a host's roles need and its pillar does not give.

    settings
        Mapping as :func:`merged` returns it, made from that host's own pillar.
    host
        Host name (minion id).

    Returns a list of sentences with the pillar path; no secret is in them.
    """
    roles = settings["hosts"][host].get("roles", [])
    missing = []
    if BROKER in roles:
        missing += [
            f"rabbitmq:users:{name}:password"
            for name, user in settings["rabbitmq"]["users"].items()
            if not user.get("absent") and not user.get("password")
        ]
    if LOAD_BALANCER in roles:
        if not settings["haproxy"]["monitor"]["password"]:
            missing.append("haproxy:monitor:password")
        if not settings["keepalived"]["authentication"]["auth_pass"]:
            missing.append("keepalived:authentication:auth_pass")
    return [
        f"{host}: rabbit_ha:{path} is missing in its pillar. Next: salt-run rabbit_ha.secrets"
        for path in missing
    ]
