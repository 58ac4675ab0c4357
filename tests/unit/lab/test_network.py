"""Names that must fit where the kernel is strict."""

from lab import network
from lab.topology import Topology

HOSTS = {f"{number:02}" + "x" * 61: f"10.0.0.{number}" for number in range(1, 21)}
TOPOLOGY = Topology(HOSTS, "10.0.0.0/24", "10.0.0.254")


def ports(lab):
    return [network.port(lab, TOPOLOGY, name) for name in [*HOSTS, network.MASTER]]


def test_ports_fit_the_limit_for_interface_names():
    assert max(len(port) for port in ports("x" * 31)) <= 15


def test_ports_differ():
    assert len(set(ports("one"))) == 21


def test_labs_do_not_share_container_names():
    assert network.machine_name(0, "one") != network.machine_name(0, "two")
