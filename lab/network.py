"""The lab's own network: a namespace with a bridge and no uplink, and who may talk to whom.

Each host and the Salt master's side have one port on the bridge. A cut is a pair of ports
between which the bridge forwards nothing: not IP, not ARP, not VRRP.
"""

import hashlib
import json
import os
import time

from lab.command import run
from lab.errors import LabError

BRIDGE = "lab"
MASTER = "master"
# The two ends of the master's cable: in the bridge, and with the address.
_MASTER_PORT, _MASTER_INTERFACE = "port-master", "salt0"

_RULES = """
add table bridge lab
add set bridge lab cut { type ifname . ifname; }
add chain bridge lab forward { type filter hook forward priority 0; policy accept; }
flush chain bridge lab forward
add rule bridge lab forward iifname . oifname @cut drop
"""


def exists(paths):
    """Return whether the lab's namespace exists; a file left by an interrupted `up` is none."""
    try:
        return paths.namespace.stat().st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


def require(lab):
    """Refuse a lab whose network is not there, as after a reboot of the machine.

    Raises:
        LabError: it is not there.
    """
    if not exists(lab.paths):
        raise LabError(f"lab {lab.name} is not up; bring it up with: {lab.command('up')}")


def create(paths, topology):
    """Create the namespace and what is in it, or complete it.

    Parameters:
        paths: the lab's LabPaths.
        topology: the lab's Topology.
    """
    if not exists(paths):
        destroy(paths)
        run(["ip", "netns", "add", paths.namespace_name], "network: namespace")
    commands = [
        f"link add {BRIDGE} type bridge forward_delay 0 stp_state 0",
        f"link set {BRIDGE} up",
        f"link add {_MASTER_INTERFACE} type veth peer name {_MASTER_PORT}",
        f"link set {_MASTER_PORT} master {BRIDGE}",
        f"link set {_MASTER_PORT} up",
        f"address replace {topology.master_address}/{topology.prefix} dev {_MASTER_INTERFACE}",
        f"link set {_MASTER_INTERFACE} up",
        "link set lo up",
    ]
    present = _links(paths)
    for command in commands:
        words = command.split()
        if words[:2] == ["link", "add"] and words[2] in present:
            continue
        _in_namespace(paths, ["ip", *words], "network")
    _in_namespace(paths, ["nft", "-f", "-"], "network: rules", input=_RULES)


def destroy(paths):
    """Remove the namespace; what is in it goes with it."""
    if exists(paths):
        run(["ip", "netns", "delete", paths.namespace_name], "network: removing the namespace")
    paths.namespace.unlink(missing_ok=True)


def machine_name(position, lab_name):
    """Return the name systemd-nspawn knows a host by.

    Short, because the bridge port is named after it and has a limit of 15 characters; unique
    on the machine, because systemd-nspawn keeps files by it.

    Parameters:
        position: the host's place in the topology, or "*" for a pattern.
        lab_name: the lab's name.
    """
    return f"h{position}-{hashlib.sha256(lab_name.encode()).hexdigest()[:6]}"


def port(lab, topology, name):
    """Return the bridge port of a host, or of the Salt master's side for `master`."""
    if name == MASTER:
        return _MASTER_PORT
    return f"vb-{machine_name(list(topology.hosts).index(name), lab)}"


def unplug(paths, port_name, seconds=10):
    """Take a host's port away at once, before its kernel can say goodbye to anyone.

    Parameters:
        paths: the lab's LabPaths.
        port_name: the bridge port; nothing happens when it does not exist.
        seconds: how long to wait until it is gone.

    Raises:
        LabError: the port is still there after that time.
    """
    deadline = time.monotonic() + seconds
    while port_name in _links(paths):
        _in_namespace(paths, ["ip", "link", "delete", port_name], "network", check=False)
        if time.monotonic() > deadline:
            raise LabError(f"network: port {port_name} is still there after {seconds} s")


def cuts(paths):
    """Return the pairs of ports that are cut, as a set of (from, to)."""
    listed = _in_namespace(paths, ["nft", "-j", "list", "set", "bridge", "lab", "cut"], "cuts")
    found = set()
    for item in json.loads(listed.stdout)["nftables"]:
        for element in item.get("set", {}).get("elem", []):
            found.add(tuple(element["concat"]))
    return found


def cut(paths, pairs):
    """Stop all packets between pairs of ports, both ways."""
    _change(paths, "add", {way for a, b in pairs for way in ((a, b), (b, a))})


def heal(paths, pairs):
    """Let packets pass again between pairs of ports, both ways."""
    both = {way for a, b in pairs for way in ((a, b), (b, a))}
    _change(paths, "delete", both & cuts(paths))


def _change(paths, verb, ways):
    if not ways:
        return
    elements = ", ".join(f'"{a}" . "{b}"' for a, b in sorted(ways))
    text = f"{verb} element bridge lab cut {{ {elements} }}\n"
    _in_namespace(paths, ["nft", "-f", "-"], "network: cuts", input=text)


def _links(paths):
    """Return the names of the interfaces in the namespace."""
    listed = _in_namespace(paths, ["ip", "-json", "link"], "network")
    return {link["ifname"] for link in json.loads(listed.stdout)}


def enter(paths):
    """Return the command prefix that runs a program in the namespace."""
    return ["nsenter", f"--net={paths.namespace}", "--"]


def _in_namespace(paths, command, step, **options):
    return run([*enter(paths), *command], step, **options)
