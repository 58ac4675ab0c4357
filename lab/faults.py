"""What can go wrong with hosts: no power, no packets, no answer. Each verb may be repeated."""

from itertools import combinations

from lab import cgroup, host, network


def power_off(lab, name):
    """Kill a host as by pulling its plug; its disk survives."""
    lab.check_hosts([name])
    network.require(lab)
    host.power_off(lab, name)


def boot(lab, name):
    """Start a host that is off."""
    lab.check_hosts([name])
    network.require(lab)
    host.boot(lab, name)


def reinstall(lab, name):
    """Replace a host by a bare one of the same name; its minion has a new key."""
    lab.check_hosts([name])
    network.require(lab)
    host.reinstall(lab, name)


def cut(lab, name, peers):
    """Let no packet pass between a host and others, in either direction.

    Parameters:
        lab: the Lab.
        name: the host, or `master`.
        peers: hosts or `master`; empty for everyone.
    """
    lab.check_hosts([name, *peers], also=[network.MASTER])
    network.require(lab)
    peers = peers or [*lab.topology.hosts, network.MASTER]
    network.cut(lab.paths, _ports(lab, [(name, peer) for peer in peers if peer != name]))


def heal(lab, name=None):
    """Undo every cut of a host, or all cuts.

    Parameters:
        lab: the Lab.
        name: the host, `master`, or None for everyone.
    """
    everyone = [*lab.topology.hosts, network.MASTER]
    pairs = list(combinations(everyone, 2))
    if name is not None:
        lab.check_hosts([name], also=[network.MASTER])
        pairs = [pair for pair in pairs if name in pair]
    network.require(lab)
    network.heal(lab.paths, _ports(lab, pairs))


def freeze(lab, name):
    """Stop all of a host's processes where they are; its kernel still answers pings."""
    lab.check_hosts([name])
    host.require_on(lab, name)
    cgroup.freeze(host.group(lab, name), True)


def thaw(lab, name):
    """Let a frozen host go on."""
    lab.check_hosts([name])
    host.require_on(lab, name)
    cgroup.freeze(host.group(lab, name), False)


def cut_peers(lab, cuts, name):
    """Return the peers a host is cut from, as a list of names.

    Parameters:
        lab: the Lab.
        cuts: what network.cuts returned.
        name: the host.
    """
    own = network.port(lab.name, lab.topology, name)
    everyone = [*lab.topology.hosts, network.MASTER]
    return [peer for peer in everyone if (own, network.port(lab.name, lab.topology, peer)) in cuts]


def _ports(lab, pairs):
    return [tuple(network.port(lab.name, lab.topology, name) for name in pair) for pair in pairs]
