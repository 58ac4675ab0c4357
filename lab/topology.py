"""Reads from the pillar which hosts the lab has to boot."""

import ipaddress
import re
from dataclasses import dataclass

import yaml

from lab.errors import LabError

MAX_HOSTS = 20
MAX_NAME = 63
HOST_NAME = r"[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9][A-Za-z0-9-]*)*"


@dataclass(frozen=True)
class Topology:
    """The hosts of a lab and the network they share.

    Parameters:
        hosts: host name to address, both str, in the pillar's order.
        network: the network in CIDR notation.
        master_address: the address of the Salt master's side.
    """

    hosts: dict
    network: str
    master_address: str

    @property
    def prefix(self):
        """The network's prefix length."""
        return ipaddress.ip_network(self.network).prefixlen


def load(pillar_dir):
    """Read the topology from a pillar folder.

    Parameters:
        pillar_dir: Path of the folder that holds rabbit_ha/topology.sls.

    Returns:
        A Topology.

    Raises:
        LabError: the file is missing, is not plain YAML, or describes no usable hosts.
    """
    path = pillar_dir / "rabbit_ha" / "topology.sls"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise LabError(f"topology: cannot read {path}: {err.strerror}") from err
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        if "{%" in text or "{{" in text:
            raise LabError(
                f"topology: {path} holds Jinja; the lab reads it as plain YAML. "
                "Write hosts and addresses out, or point --pillar at a folder that does."
            ) from err
        raise LabError(f"topology: {path} is not YAML: {err}") from err
    return parse(data, path)


def parse(data, source):
    """Turn pillar data into a Topology.

    Parameters:
        data: the pillar data, with the key `rabbit_ha`.
        source: what to name in errors.

    Returns:
        A Topology.

    Raises:
        LabError: a key is missing or a value is unusable.
    """
    pillar = data.get("rabbit_ha") if isinstance(data, dict) else None
    described = pillar.get("hosts") if isinstance(pillar, dict) else None
    if not isinstance(described, dict) or not 1 <= len(described) <= MAX_HOSTS:
        found = len(described) if isinstance(described, dict) else "none"
        raise LabError(
            f"topology: {source}: rabbit_ha.hosts must describe 1 to {MAX_HOSTS} hosts, "
            f"found {found}"
        )
    hosts = {}
    for name, host in described.items():
        _check_name(name, source)
        hosts[name] = str(_address(host, name, source))
    if len(set(hosts.values())) < len(hosts):
        raise LabError(f"topology: {source}: two hosts have the same address: {hosts}")
    network = _network(pillar.get("network"), hosts, source)
    return Topology(hosts, str(network), _free_address(network, pillar, source))


def _check_name(name, source):
    """Refuse a name that cannot be a host name."""
    # "master" is the word for the Salt master's side in `cut`.
    plain = isinstance(name, str) and re.fullmatch(HOST_NAME, name)
    if not plain or len(name) > MAX_NAME or name == "master":
        raise LabError(
            f"topology: {source}: {name!r} cannot be a host name: letters, digits, hyphens, dots, "
            f"at most {MAX_NAME}, and not 'master'"
        )


def _address(host, name, source):
    """Return a host's address, checked."""
    value = host.get("address") if isinstance(host, dict) else None
    try:
        return ipaddress.IPv4Address(str(value))
    except ValueError as err:
        raise LabError(
            f"topology: {source}: rabbit_ha.hosts.{name}.address must be an IPv4 address, "
            f"found {value!r}"
        ) from err


def _network(value, hosts, source):
    """Return the network described, or else the smallest that holds all hosts, at least a /24."""
    addresses = [ipaddress.IPv4Address(address) for address in hosts.values()]
    if value is None:
        network = ipaddress.ip_network(f"{addresses[0]}/24", strict=False)
        while any(address not in network for address in addresses):
            network = network.supernet()
        return network
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as err:
        raise LabError(f"topology: {source}: rabbit_ha.network: {err}") from err
    for name, address in hosts.items():
        if ipaddress.IPv4Address(address) not in network:
            raise LabError(f"topology: {source}: host {name}: {address} is outside {network}")
    return network


def _free_address(network, pillar, source):
    """Return the highest address that the pillar does not mention anywhere."""
    taken = set(_addresses_in(pillar))
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    for number in range(last, first - 1, -1):
        address = ipaddress.IPv4Address(number)
        if address not in taken:
            return str(address)
    raise LabError(f"topology: {source}: {network} has no address left for the Salt master")


def _addresses_in(value):
    """Yield every IPv4 address found in the pillar, however deep: hosts, virtual addresses."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _addresses_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _addresses_in(item)
    elif isinstance(value, str):
        try:
            yield ipaddress.IPv4Interface(value).ip
        except ValueError:
            return
