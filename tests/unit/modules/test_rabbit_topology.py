"""rabbit_topology: a host's own view of what pillar describes."""

import copy

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import TOPOLOGY, functions, load

BALANCER = "haproxy-keeplive-node1"
INTERFACE = {"ip4_interfaces": {"ens33": ["192.168.123.11"]}}
FQDN = {
    **TOPOLOGY,
    "seed": None,
    "hosts": {f"{name}.example.org": host for name, host in TOPOLOGY["hosts"].items()},
}
BOTH = {
    "virtual_address": "192.0.2.200",
    "hosts": {
        f"both{number}": {"address": f"192.0.2.{number}", "roles": ["broker", "load_balancer"]}
        for number in (1, 2)
    },
}


def test_a_host_sees_its_own_roles(topology):
    assert topology("rabbitmq-node1")["rabbit_topology.roles"]() == ["broker"]
    assert topology("both1", BOTH)["rabbit_topology.roles"]() == ["broker", "load_balancer"]


def test_a_minion_that_the_topology_does_not_name_has_no_role(topology):
    stranger = topology("stranger")
    assert stranger["rabbit_topology.roles"]() == []
    assert stranger["rabbit_topology.host"]() == {}
    assert stranger["rabbit_topology.is_seed"]() is False


def test_a_minion_without_pillar_has_no_role(topology):
    assert topology("stranger", {})["rabbit_topology.roles"]() == []


def test_hosts_have_their_full_and_their_short_name_once(topology):
    [first, *_] = topology("x", FQDN)["rabbit_topology.host_addresses"]()
    assert first == {
        "address": "192.168.123.36",
        "names": ["rabbitmq-node1.example.org", "rabbitmq-node1"],
    }
    [first, *_] = topology()["rabbit_topology.host_addresses"]()
    assert first["names"] == ["rabbitmq-node1"]


def test_contacts_are_all_brokers_the_seed_first(topology):
    pillar = {**TOPOLOGY, "seed": "rabbitmq-node3"}
    assert topology("rabbitmq-node1", pillar)["rabbit_topology.contacts"]() == [
        "rabbit@rabbitmq-node3",
        "rabbit@rabbitmq-node1",
        "rabbit@rabbitmq-node2",
    ]


def test_brokers_join_in_the_order_of_pillar_but_for_the_seed(topology):
    pillar = {**TOPOLOGY, "seed": "rabbitmq-node2"}
    assert topology(pillar=pillar)["rabbit_topology.brokers_in_join_order"]() == [
        "rabbitmq-node2",
        "rabbitmq-node1",
        "rabbitmq-node3",
    ]


def test_the_seed_knows_that_it_is(topology):
    assert topology("rabbitmq-node1")["rabbit_topology.is_seed"]() is True
    assert topology("rabbitmq-node2")["rabbit_topology.is_seed"]() is False
    fqdn = topology("rabbitmq-node1.example.org", FQDN)
    assert fqdn["rabbit_topology.is_seed"]() is True
    assert fqdn["rabbit_topology.seed_node"]() == "rabbit@rabbitmq-node1"


def test_settings_hold_no_secret(topology):
    secrets = {
        "rabbitmq": {
            "erlang_cookie": "S3CRETCOOKIE",
            "users": {
                "admin": {"password": "s3cret1", "tags": ["administrator"]},
                "orders": {"password_hash": "s3cret5"},
            },
            "parameters": {"up": {"component": "shovel", "value": {"uri": ["s3cret6"]}}},
            "global_parameters": {"x": {"value": "s3cret7"}, "y": {"absent": True}},
            "config": {"default_pass": "s3cret4", "heartbeat": 30},
        },
        "haproxy": {"monitor": {"password": "s3cret2"}},
        "keepalived": {"authentication": {"auth_pass": "s3cret3"}},
    }
    functions = topology("haproxy-keeplive-node1", pillar={**TOPOLOGY, **secrets})
    names = ("settings", "haproxy", "rabbitmq_config")
    shown = [functions[f"rabbit_topology.{name}"]() for name in names]
    assert "s3cret" not in str(shown).lower()
    assert shown[0]["rabbitmq"]["users"]["admin"]["tags"] == ["administrator"]
    assert (shown[2]["default_pass"], shown[2]["heartbeat"]) == (None, 30)


def test_a_function_can_work_with_pillar_as_it_is_now(topology):
    now = copy.deepcopy(TOPOLOGY) | {"virtual_address": "192.168.123.200"}
    functions = topology(now=now)
    assert functions["rabbit_topology.settings"]()["virtual_address"] == "192.168.123.123"
    functions["rabbit_topology.use_current_pillar"]()
    assert functions["rabbit_topology.settings"]()["virtual_address"] == "192.168.123.200"


@pytest.mark.parametrize(
    ("minion", "cookie", "source"),
    [
        ("rabbitmq-node1", None, "self"),
        ("rabbitmq-node2", None, "seed"),
        ("rabbitmq-node1", "C", "pillar"),
        ("rabbitmq-node2", "C", "pillar"),
    ],
)
def test_a_broker_knows_where_its_cookie_comes_from(topology, minion, cookie, source):
    pillar = {**TOPOLOGY, "rabbitmq": {"erlang_cookie": cookie}}
    assert topology(minion, pillar)["rabbit_topology.erlang_cookie_source"]() == source


@pytest.mark.parametrize(
    ("interfaces", "name"),
    [
        ({"ip4_interfaces": {"lo": ["127.0.0.1"], "ens33": ["192.168.123.11"]}}, "ens33"),
        ({"ip4_interfaces": {"a": ["192.168.123.111"], "b": ["10.0.0.1", "192.168.123.11"]}}, "b"),
    ],
)
def test_the_interface_is_the_one_with_the_host_s_address(topology, interfaces, name):
    here = topology("haproxy-keeplive-node1", **interfaces)
    assert here["rabbit_topology.interface"]() == name
    assert here["rabbit_topology.keepalived"]()["instances"]["VI_1"]["interface"] == name


def test_an_ipv6_address_is_found_however_it_is_written(topology):
    host = {"address": "2001:db8:0::1", "roles": ["load_balancer"]}
    pillar = {"virtual_address": "2001:db8::9", "hosts": {"six": host}}
    here = topology("six", pillar, ip6_interfaces={"eth0": ["fe80::1", "2001:db8::1"]})
    assert here["rabbit_topology.interface"]() == "eth0"


def test_an_address_on_no_interface_is_an_error_with_both_ways_out(topology):
    here = topology("haproxy-keeplive-node1", ip4_interfaces={"lo": ["127.0.0.1"]})
    with pytest.raises(SaltInvocationError) as caught:
        here["rabbit_topology.keepalived"]()
    said = str(caught.value)
    assert said.startswith("no interface has 192.168.123.11")
    assert "rabbit_ha:hosts:haproxy-keeplive-node1:address" in said
    assert "rabbit_ha:hosts:haproxy-keeplive-node1:keepalived:interface" in said


def test_an_interface_in_pillar_needs_no_address_on_it(topology):
    hosts = {"lb": {"address": "192.0.2.1", "roles": ["load_balancer"]}}
    hosts["lb"]["keepalived"] = {"interface": "bond0"}
    here = topology("lb", {"virtual_address": "192.0.2.2", "hosts": hosts})
    assert here["rabbit_topology.keepalived"]()["instances"]["VI_1"]["interface"] == "bond0"


def test_a_load_balancer_of_which_pillar_says_nothing_is_a_backup_with_its_own_id(topology):
    hosts = {"lb": {"address": "192.0.2.1", "roles": ["load_balancer"]}}
    here = topology(
        "lb",
        {"virtual_address": "192.0.2.2", "hosts": hosts},
        ip4_interfaces={"e": ["192.0.2.1"]},
    )
    view = here["rabbit_topology.keepalived"]()
    vrrp = view["instances"]["VI_1"]
    assert (vrrp["state"], vrrp["priority"], view["router_id"]) == ("BACKUP", 90, "lb")
    assert vrrp["virtual_addresses"] == ["192.0.2.2"]


def test_on_a_host_of_both_roles_the_two_share_the_port_by_address(topology):
    here = topology("both1", BOTH)
    config = here["rabbit_topology.rabbitmq_config"]()
    assert config["listeners.tcp.host"] == "192.0.2.1:5672"
    assert "listeners.tcp.default" not in config
    binds = here["rabbit_topology.haproxy"]()["binds"]
    assert binds["rabbitmq_cluster"] == ["192.0.2.200:5672 transparent"]
    assert binds["monitor"] == [":8100"]


def test_on_a_host_of_both_roles_haproxy_binds_no_link_local_address(topology):
    instance = {"virtual_router_id": 6, "virtual_addresses": ["fe80::123/64", "2001:db8::123/64"]}
    here = topology("both1", {**BOTH, "keepalived": {"instances": {"VI_6": instance}}})
    assert here["rabbit_topology.haproxy"]()["binds"]["rabbitmq_cluster"] == [
        "192.0.2.200:5672 transparent",
        "2001:db8::123:5672 transparent",
    ]


@pytest.mark.parametrize(
    ("virtual", "bind", "bound"),
    [
        ("192.168.123.123", "192.168.123.123:5672", "192.168.123.123:5672 transparent"),
        ("192.168.123.123", "192.168.123.11:5672", "192.168.123.11:5672"),
        ("192.168.123.123", "*:5672", "*:5672"),
        ("192.168.123.123", "[::]:5672", "[::]:5672"),
        ("2001:db8::9", "[2001:DB8::9]:5672", "[2001:DB8::9]:5672 transparent"),
        ("2001:db8::9", "2001:db8:0::9:5672", "2001:db8:0::9:5672 transparent"),
    ],
)
@pytest.mark.parametrize("listener", ["rabbitmq_cluster", "management", "prometheus", "monitor"])
def test_what_moves_can_be_bound_where_it_is_not(topology, listener, virtual, bind, bound):
    """Without that HAProxy does not start on the backup, though its check finds nothing wrong."""
    said = {"virtual_address": virtual, "haproxy": {listener: {"bind": bind}}}
    here = topology("haproxy-keeplive-node1", {**TOPOLOGY, **said})
    assert here["rabbit_topology.haproxy"]()["binds"][listener] == [bound]


def test_a_further_virtual_address_moves_too(topology):
    said = {
        "haproxy": {"management": {"bind": "192.168.123.124:15672"}},
        "keepalived": {"virtual_addresses": ["192.168.123.124/24 dev eth1"]},
    }
    here = topology("haproxy-keeplive-node1", {**TOPOLOGY, **said})
    assert here["rabbit_topology.haproxy"]()["binds"]["management"] == [
        "192.168.123.124:15672 transparent"
    ]


def test_settings_of_haproxy_are_not_changed_by_computing_its_view(topology):
    here = topology("haproxy-keeplive-node1")
    here["rabbit_topology.haproxy"]()["servers"].clear()
    assert len(here["rabbit_topology.haproxy"]()["servers"]) == 3
    assert "servers" not in here["rabbit_topology.settings"]()["haproxy"]


def test_haproxy_judges_its_main_file_and_its_folder_wherever_they_lie(topology):
    check = topology(BALANCER)["rabbit_topology.haproxy_check"]
    files = ["-f", "/etc/haproxy/haproxy.cfg", "-f", "/etc/haproxy/conf"]
    assert check() == ["/usr/sbin/haproxy", "-c", *files]
    staged = [word.replace("/etc", "{root}/etc") for word in files]
    assert check("{root}") == ["/usr/sbin/haproxy", "-c", *staged]


def test_keepalived_judges_its_configuration_by_a_script_beside_it(topology):
    pillar = {**TOPOLOGY, "keepalived": {"config_file": "/srv/ka/main.conf", "install": "source"}}
    here = topology(BALANCER, pillar, **INTERFACE)
    files = ["/srv/ka/main.conf", "/etc/keepalived/conf"]
    judge, program = "/srv/ka/check_configuration.sh", "/usr/local/sbin/keepalived"
    assert here["rabbit_topology.keepalived_check"]() == [judge, *files, program]
    staged = ["{root}" + path for path in files]
    assert here["rabbit_topology.keepalived_check"]("{root}") == [judge, *staged, program]


@pytest.mark.parametrize(
    ("config_file", "needed"),
    [
        ("/etc/keepalived/keepalived.conf", []),
        ("/srv/ka/main.conf", ["--dont-fork", "--use-file", "/srv/ka/main.conf"]),
    ],
)
def test_keepalived_needs_to_be_told_of_another_file_than_its_own(topology, config_file, needed):
    pillar = {**TOPOLOGY, "keepalived": {"config_file": config_file}}
    view = topology(BALANCER, pillar, **INTERFACE)["rabbit_topology.keepalived"]()
    assert view["needed_arguments"] == needed


def test_defaults_that_are_not_served_are_an_error_that_says_where_they_belong():
    module = load(
        "_modules/rabbit_topology.py",
        salt={"cp.get_file_str": lambda path: ""},
        utils=functions("rabbit_settings", load("_utils/rabbit_settings.py")),
    )
    with pytest.raises(CommandExecutionError, match="file_roots of the master"):
        functions("rabbit_topology", module)["rabbit_topology.settings"]()


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ({"rabbit_ha_findings": {"errors": ["a: 1", "b: 2"], "warnings": []}}, "a: 1\nb: 2"),
        ({}, "rabbit_ha: pillar was not checked; expected `ext_pillar:"),
    ],
)
def test_no_setting_is_told_of_a_pillar_with_errors(findings, said):
    module = load(
        "_modules/rabbit_topology.py",
        pillar={"rabbit_ha": TOPOLOGY, **findings},
        utils=functions("rabbit_settings", load("_utils/rabbit_settings.py")),
    )
    with pytest.raises(SaltInvocationError) as caught:
        functions("rabbit_topology", module)["rabbit_topology.settings"]()
    assert str(caught.value).startswith("nothing was done, pillar is wrong")
    assert said in str(caught.value)
    assert "salt rabbitmq-node2 saltutil.refresh_pillar" in str(caught.value)


def test_policies_are_as_pillar_says_with_what_presets_stand_for(topology):
    pillar = {**TOPOLOGY, "rabbitmq": {"policies": {"ha-two": {"preset": "exactly"}}}}
    [policy] = topology("rabbitmq-node1", pillar)["rabbit_topology.policies"]().values()
    assert policy["definition"]["ha-params"] == 2
