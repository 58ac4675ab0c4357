"""Which hosts the pillar asks for, and which address is left for the master."""

import pytest

from lab import paths, topology
from lab.errors import LabError


def parse(hosts, **more):
    described = {name: {"address": address} for name, address in hosts.items()}
    return topology.parse({"rabbit_ha": {"hosts": described, **more}}, "topology.sls")


def test_reads_the_topology_of_the_checkout():
    found = topology.load(paths.CHECKOUT / "pillar")
    assert found.hosts
    assert found.master_address not in found.hosts.values()


def test_keeps_the_order_of_the_pillar():
    assert list(parse({"b": "10.0.0.2", "a": "10.0.0.1"}).hosts) == ["b", "a"]


@pytest.mark.parametrize(
    ("hosts", "network"),
    [
        ({"a": "10.0.0.1"}, "10.0.0.0/24"),
        ({"a": "10.0.0.1", "b": "10.0.1.1"}, "10.0.0.0/23"),
        ({"a": "10.0.3.1", "b": "10.0.4.1"}, "10.0.0.0/21"),
    ],
)
def test_network_is_the_smallest_that_holds_all_hosts(hosts, network):
    assert parse(hosts).network == network


def test_network_of_the_pillar_wins():
    found = parse({"a": "10.0.0.1"}, network="10.0.0.0/16")
    assert (found.network, found.prefix) == ("10.0.0.0/16", 16)


def test_master_gets_the_highest_address_nobody_mentions():
    found = parse(
        {"a": "10.0.0.254"},
        virtual_address="10.0.0.253",
        keepalived={"instances": [{"addresses": ["10.0.0.252/24"]}]},
    )
    assert found.master_address == "10.0.0.251"


def test_no_address_left_for_the_master():
    with pytest.raises(LabError, match="no address left"):
        parse({"a": "10.0.0.1", "b": "10.0.0.2"}, network="10.0.0.0/30")


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ({}, "found 0"),
        ({f"h{number}": f"10.0.0.{number}" for number in range(1, 22)}, "found 21"),
        ({"a": "10.0.0.300"}, "hosts.a.address"),
        ({"a": None}, "hosts.a.address"),
        ({"a": 5}, "hosts.a.address"),
        ({"a": "10.0.0.1", "b": "10.0.0.1"}, "same address"),
        ({"a_b": "10.0.0.1"}, "host name"),
        ({"-a": "10.0.0.1"}, "host name"),
        ({"a" * 64: "10.0.0.1"}, "host name"),
        ({"master": "10.0.0.1"}, "host name"),
        ({7: "10.0.0.1"}, "host name"),
    ],
)
def test_refuses_unusable_hosts(hosts, words):
    with pytest.raises(LabError, match=words):
        parse(hosts)


def test_twenty_hosts_and_names_of_63_characters_are_fine():
    names = [f"{number:02}" + "x" * 61 for number in range(1, 21)]
    hosts = {name: f"10.0.0.{number}" for number, name in enumerate(names, 1)}
    assert len(parse(hosts).hosts) == 20


def test_refuses_a_host_outside_the_network():
    with pytest.raises(LabError, match=r"host a: 10\.1\.0\.1 is outside"):
        parse({"a": "10.1.0.1"}, network="10.0.0.0/24")


@pytest.mark.parametrize("data", [None, [], {}, {"rabbit_ha": None}, {"rabbit_ha": {"hosts": []}}])
def test_refuses_a_pillar_without_hosts(data):
    with pytest.raises(LabError, match="1 to 20 hosts"):
        topology.parse(data, "topology.sls")


def write(folder, text):
    path = folder / "rabbit_ha" / "topology.sls"
    path.parent.mkdir()
    path.write_text(text)
    return folder


def test_says_so_when_the_topology_holds_jinja(tmp_path):
    with pytest.raises(LabError, match="Jinja"):
        topology.load(write(tmp_path, "{% set a = 1 %}\nrabbit_ha: {}\n"))


def test_says_so_when_the_topology_is_not_yaml(tmp_path):
    with pytest.raises(LabError, match="not YAML"):
        topology.load(write(tmp_path, "a: [1\n"))


def test_says_so_when_there_is_no_topology(tmp_path):
    with pytest.raises(LabError, match="cannot read"):
        topology.load(tmp_path)
