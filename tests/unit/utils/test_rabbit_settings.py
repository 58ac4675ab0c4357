"""rabbit_settings: pillar over defaults, and what is wrong with it in sentences."""

import copy

import pytest

from tests.support import TOPOLOGY, load


@pytest.fixture
def rabbit_settings():
    return load("_utils/rabbit_settings.py")


def changed(**hosts):
    """Describe the topology with changes to hosts; None takes one out."""
    pillar = copy.deepcopy(TOPOLOGY)
    for name, change in hosts.items():
        name = name.replace("_", "-")
        if change is None:
            del pillar["hosts"][name]
        else:
            pillar["hosts"].setdefault(name, {}).update(change)
    return pillar


def test_pillar_wins_over_the_defaults_value_by_value(settings):
    merged = settings({"rabbitmq": {"amqp_port": 5673}})
    assert merged["rabbitmq"]["amqp_port"] == 5673
    assert merged["rabbitmq"]["management_port"] == 15672


def test_a_list_in_pillar_takes_the_place_of_the_default_s(settings):
    merged = settings({"rabbitmq": {"plugins": ["rabbitmq_prometheus"]}})
    assert merged["rabbitmq"]["plugins"] == ["rabbitmq_prometheus"]


@pytest.mark.parametrize("pillar", [None, {}])
def test_without_pillar_the_defaults_stand(rabbit_settings, pillar):
    assert rabbit_settings.merged({"a": {"b": 1}}, pillar) == {"a": {"b": 1}}


def test_merging_changes_neither_pillar_nor_defaults(rabbit_settings):
    defaults, pillar = {"a": {"b": 1}}, {"a": {"c": [2]}}
    rabbit_settings.merged(defaults, pillar)["a"]["c"].append(3)
    assert (defaults, pillar) == ({"a": {"b": 1}}, {"a": {"c": [2]}})


def test_hosts_of_a_role_come_in_the_order_of_pillar(rabbit_settings, settings):
    found = rabbit_settings.hosts_with_role(settings(), "broker")
    assert found == ["rabbitmq-node1", "rabbitmq-node2", "rabbitmq-node3"]


@pytest.mark.parametrize(
    ("seed", "expected"), [("rabbitmq-node3", "rabbitmq-node3"), (None, "rabbitmq-node1")]
)
def test_the_seed_is_the_one_in_pillar_else_the_first_broker(
    rabbit_settings, settings, seed, expected
):
    assert rabbit_settings.seed_host(settings({**TOPOLOGY, "seed": seed})) == expected


def test_without_brokers_there_is_no_seed(rabbit_settings, settings):
    assert rabbit_settings.seed_host(settings({})) is None


@pytest.mark.parametrize("host", ["node1", "node1.example.org"])
def test_a_node_is_named_after_the_short_host_name(rabbit_settings, host):
    assert rabbit_settings.node_name(host) == "rabbit@node1"


def test_virtual_addresses_come_without_prefix_length_and_device(rabbit_settings, settings):
    more = ["192.0.2.7/24 dev eth1", "2001:db8::1/64"]
    merged = settings({**TOPOLOGY, "keepalived": {"virtual_addresses": more}})
    assert rabbit_settings.virtual_addresses(merged) == [
        "192.168.123.123",
        "192.0.2.7",
        "2001:db8::1",
    ]


def test_backups_start_before_the_master(rabbit_settings, settings):
    assert rabbit_settings.load_balancers_in_start_order(settings()) == [
        ["haproxy-keeplive-node2"],
        ["haproxy-keeplive-node1"],
    ]


def test_without_load_balancers_there_is_nothing_to_start(rabbit_settings, settings):
    pillar = changed(haproxy_keeplive_node1=None, haproxy_keeplive_node2=None)
    assert rabbit_settings.load_balancers_in_start_order(settings(pillar)) == []


def test_the_article_s_topology_has_no_problem(rabbit_settings, settings):
    assert rabbit_settings.problems(settings()) == []


@pytest.mark.parametrize(
    ("pillar", "path", "says"),
    [
        ({}, "rabbit_ha:hosts", "is empty"),
        (
            changed(rabbitmq_node2={"address": None}),
            "rabbit_ha:hosts:rabbitmq-node2:address",
            "missing",
        ),
        (
            changed(rabbitmq_node2={"roles": ["borker"]}),
            "rabbit_ha:hosts:rabbitmq-node2:roles",
            "broker and load_balancer",
        ),
        (
            changed(rabbitmq_node2={"roles": []}),
            "rabbit_ha:hosts:rabbitmq-node2:roles",
            "broker and load_balancer",
        ),
        ({**TOPOLOGY, "seed": "nobody"}, "rabbit_ha:seed", "expected one of the brokers"),
        (
            {**TOPOLOGY, "seed": "haproxy-keeplive-node1"},
            "rabbit_ha:seed",
            "expected one of the brokers",
        ),
        ({**TOPOLOGY, "virtual_address": None}, "rabbit_ha:virtual_address", "missing"),
    ],
)
def test_a_problem_names_the_pillar_path_and_what_was_expected(
    rabbit_settings, settings, pillar, path, says
):
    [problem] = rabbit_settings.problems(settings(pillar))
    assert problem.startswith(f"{path} ")
    assert says in problem


def test_a_topology_without_a_broker_is_a_problem(rabbit_settings, settings):
    pillar = changed(rabbitmq_node1=None, rabbitmq_node2=None, rabbitmq_node3=None)
    [problem] = rabbit_settings.problems(settings(pillar))
    assert "no host with the role broker" in problem


def test_without_load_balancers_no_virtual_address_is_needed(rabbit_settings, settings):
    pillar = changed(haproxy_keeplive_node1=None, haproxy_keeplive_node2=None)
    assert rabbit_settings.problems(settings({**pillar, "virtual_address": None})) == []


def test_all_problems_are_told_at_once(rabbit_settings, settings):
    pillar = changed(rabbitmq_node1={"address": None}, rabbitmq_node2={"roles": ["x"]})
    assert len(rabbit_settings.problems(settings({**pillar, "virtual_address": None}))) == 3


@pytest.mark.parametrize(
    ("host", "paths"),
    [
        ("rabbitmq-node1", ["rabbitmq:users:admin:password"]),
        (
            "haproxy-keeplive-node1",
            ["haproxy:monitor:password", "keepalived:authentication:auth_pass"],
        ),
    ],
)
def test_each_role_lacks_its_own_secrets_only(rabbit_settings, settings, host, paths):
    found = rabbit_settings.missing_secrets(settings(), host)
    assert [problem.split(" ")[1] for problem in found] == [f"rabbit_ha:{path}" for path in paths]
    assert all(problem.startswith(f"{host}: ") for problem in found)


@pytest.mark.parametrize("host", ["rabbitmq-node1", "haproxy-keeplive-node1"])
def test_with_its_secrets_a_host_lacks_nothing(rabbit_settings, settings, host):
    pillar = {
        **TOPOLOGY,
        "rabbitmq": {"users": {"admin": {"password": "a"}}},
        "haproxy": {"monitor": {"password": "b"}},
        "keepalived": {"authentication": {"auth_pass": "c"}},
    }
    assert rabbit_settings.missing_secrets(settings(pillar), host) == []


def test_a_user_who_is_to_be_absent_needs_no_password(rabbit_settings, settings):
    users = {"admin": {"absent": True}, "guest": {"absent": True}}
    pillar = {**TOPOLOGY, "rabbitmq": {"users": users}}
    assert rabbit_settings.missing_secrets(settings(pillar), "rabbitmq-node1") == []
