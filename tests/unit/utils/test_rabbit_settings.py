"""rabbit_settings: pillar over defaults, and what its check found."""

import copy
import functools
import json

import pytest

from tests.support import TOPOLOGY, load, secret_places


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


def test_an_os_family_comes_over_the_defaults_and_below_pillar(rabbit_settings):
    defaults = {"a": {"b": 1, "c": 2}, "os_families": {"RedHat": {"a": {"b": 3, "c": 4}}}}
    assert rabbit_settings.merged(defaults, {}) == {"a": {"b": 1, "c": 2}}
    assert rabbit_settings.merged(defaults, {}, "Debian") == {"a": {"b": 1, "c": 2}}
    assert rabbit_settings.merged(defaults, {}, "RedHat") == {"a": {"b": 3, "c": 4}}
    assert rabbit_settings.merged(defaults, {"a": {"c": 5}}, "RedHat") == {"a": {"b": 3, "c": 5}}
    assert "os_families" in defaults


def test_default_rights_in_a_vhost_that_is_to_be_absent_are_gone_with_it(settings):
    def rights(rabbitmq):
        return settings({"rabbitmq": rabbitmq})["rabbitmq"]["users"]["admin"]["permissions"]

    assert list(rights({"vhosts": {"orders": {}}})) == ["/"]
    assert list(rights({"vhosts": {"/": {"absent": False}}})) == ["/"]
    gone = {"vhosts": {"/": {"absent": True}}}
    assert rights(gone) == {}
    # What pillar says itself is pillar's to mend.
    said = {"users": {"admin": {"permissions": {"/": {"read": ".*"}}}}}
    assert rights({**gone, **said}) == {"/": {"read": ".*"}}


@pytest.mark.parametrize(
    ("said", "absent"),
    [
        (None, True),
        ({"guest": {}}, True),
        ({"guest": {"absent": True, "tags": []}}, True),
        ({"guest": {"tags": []}}, None),
        ({"guest": {"absent": False}}, False),
    ],
)
def test_a_user_whom_pillar_describes_is_to_be_there(settings, said, absent):
    users = settings({"rabbitmq": {"users": said}} if said else {})["rabbitmq"]["users"]
    assert users["guest"].get("absent") is absent


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


def test_a_load_balancer_has_the_shared_settings_of_keepalived_and_its_own(
    rabbit_settings, settings
):
    pillar = changed(haproxy_keeplive_node2={"keepalived": {"interval": 3}})
    found = rabbit_settings.keepalived_of(settings(pillar), "haproxy-keeplive-node2")
    assert (found["interval"], found["fall"]) == (3, 2)
    assert (found["state"], found["priority"]) == ("BACKUP", 90)
    assert found["router_id"] == "haproxy-keeplive-node2"


def test_a_pillar_has_the_errors_that_its_check_found(rabbit_settings):
    findings = {"errors": ["a", "b"], "warnings": ["c"]}
    pillar = {"rabbit_ha": {}, "rabbit_ha_findings": findings}
    assert rabbit_settings.pillar_errors(pillar) == ["a", "b"]


def test_a_pillar_that_nothing_checked_has_an_error_that_says_how(rabbit_settings):
    [error] = rabbit_settings.pillar_errors({"rabbit_ha": {}})
    assert "was not checked" in error
    assert "ext_pillar_first" in error
    assert "ext_pillar: [{rabbit_ha_findings: {}}]" in error


def test_a_pillar_without_this_project_has_no_error(rabbit_settings):
    assert rabbit_settings.pillar_errors({"other": 1}) == []


def test_secrets_are_what_is_not_shown(rabbit_settings, settings):
    pillar = {
        "rabbitmq": {
            "erlang_cookie": "COOKIE",
            "users": {"admin": {"password": "longer password"}, "app": {"tags": ["management"]}},
        },
        "haproxy": {
            "monitor": {"password": "s3cret"},
            "snippets": {"text": {"b": "more text\n"}},
        },
        "keepalived": {
            "authentication": {"auth_pass": "vrrp"},
            "snippets": {"text": {"a": "text\n"}},
        },
    }
    merged = settings({**TOPOLOGY, **pillar})
    secrets = rabbit_settings.secrets(merged)
    assert secrets == ["longer password", "more text\n", "COOKIE", "s3cret", "text\n", "vrrp"]
    shown = str(rabbit_settings.without_secrets(merged))
    assert not [secret for secret in secrets if repr(secret) in shown]
    assert rabbit_settings.secrets(settings()) == []


def with_secrets(secret):
    """Make a pillar that says all secrets of the schema, and nothing else."""
    pillar = {}
    for place in secret_places():
        # In rabbitmq.conf the key tells that the value is a secret.
        *parents, last = ["default_pass" if key == "*" else key for key in place]
        holder = functools.reduce(lambda above, key: above.setdefault(key, {}), parents, pillar)
        holder[last] = secret
    return pillar


@pytest.mark.parametrize("secret", ["FOUND", 98765])
def test_the_settings_are_rid_of_every_secret_that_the_schema_marks(
    rabbit_settings, settings, secret
):
    pillar = with_secrets(secret)
    assert pillar["rabbitmq"]["users"]["default_pass"]["password"] == secret
    merged = settings(pillar)
    before = copy.deepcopy(merged)
    shown = rabbit_settings.without_secrets(merged)
    assert str(secret) not in json.dumps(shown)
    assert merged == before
    assert set(rabbit_settings.secrets(merged)) == {str(secret)}


@pytest.mark.parametrize(
    "key",
    [
        "default_pass",
        "anonymous_login_pass",
        "ssl_options.password",
        "management.ssl.password",
        "auth_ldap.dn_lookup_bind.password",
        "cluster_formation.aws.secret_key",
        "cluster_formation.consul.acl_token",
        "management.oauth_client_secret",
        "config_entry_decoder.passphrase",
    ],
)
def test_a_line_of_rabbitmq_conf_is_a_secret_by_its_key(rabbit_settings, key):
    assert rabbit_settings.is_secret(key, "x")
    assert rabbit_settings.is_secret(key, 5)


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("amqp://name:S3cret@host", True),
        ("amqps://name:S3%2Fcret@host:5671/%2f?heartbeat=5", True),
        ("amqp://name:S3/cret@host", True),
        ("https://:S3cret@host/", True),
        ("amqp://host", False),
        ("amqp://name@host", False),
        ("http://host:15672/api", False),
        ("name:word@host", False),
        (30, False),
    ],
)
def test_a_line_is_a_secret_too_when_it_has_a_password_in_a_url(rabbit_settings, value, secret):
    assert rabbit_settings.is_secret("definitions.https.url", value) is secret


SECOND = {"virtual_router_id": 2, "virtual_addresses": ["192.168.123.124/24 dev eth1"]}


@pytest.fixture
def two(settings):
    """Both load balancers active: each comes first in one of two VRRP instances."""
    own = {"VI_2": {"state": "MASTER", "priority": 120}}
    pillar = changed(haproxy_keeplive_node2={"keepalived": {"instances": own}})
    return settings({**pillar, "keepalived": {"instances": {"VI_2": SECOND}}})


def test_each_instance_has_its_own_addresses_and_leader(rabbit_settings, two):
    assert rabbit_settings.virtual_addresses(two) == ["192.168.123.123", "192.168.123.124"]
    assert rabbit_settings.leader_of(two, "VI_1") == "haproxy-keeplive-node1"
    assert rabbit_settings.leader_of(two, "VI_2") == "haproxy-keeplive-node2"
    taken = rabbit_settings.addresses_taken
    assert taken(two, "haproxy-keeplive-node1") == ["192.168.123.123"]
    assert taken(two, "haproxy-keeplive-node2") == ["192.168.123.124"]


def test_who_holds_an_address_is_worked_on_alone_and_the_first_address_last(rabbit_settings, two):
    order = rabbit_settings.load_balancers_in_start_order(two)
    assert order == [["haproxy-keeplive-node2"], ["haproxy-keeplive-node1"]]


def test_addresses_are_waited_for_by_the_rarest_advertisements(rabbit_settings, settings):
    slow = {**SECOND, "version": 3, "advert_int": 10.1}
    merged = settings({**TOPOLOGY, "keepalived": {"instances": {"VI_2": slow}}})
    assert rabbit_settings.seconds_to_take(merged, "haproxy-keeplive-node1") == 56


@pytest.mark.parametrize("stays", [{"nopreempt": True}, {"preempt_delay": 30}])
def test_addresses_that_stay_are_not_taken_at_once(rabbit_settings, settings, stays):
    merged = settings({**TOPOLOGY, "keepalived": stays})
    assert rabbit_settings.addresses_taken(merged, "haproxy-keeplive-node1") == []


def test_the_virtual_address_may_be_named_again_to_say_more_of_it(rabbit_settings, settings):
    named = ["192.168.123.124", "192.168.123.123/24 dev eth1"]
    merged = settings({**TOPOLOGY, "keepalived": {"virtual_addresses": named}})
    [vrrp] = rabbit_settings.instances_of(merged, "haproxy-keeplive-node1").values()
    assert vrrp["virtual_addresses"] == named


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("0.0.0.0:5672", ["192.168.123.123", "192.168.123.124"]),
        ("192.168.123.124:5672", ["192.168.123.124"]),
        (":5672", ["192.168.123.123", "192.168.123.124"]),
        ("[::]:5672", ["192.168.123.123", "192.168.123.124", "2001:db8::1"]),
    ],
)
def test_clients_use_the_addresses_that_haproxy_listens_on(
    rabbit_settings, settings, bind, expected
):
    six = {"virtual_router_id": 6, "virtual_addresses": ["fe80::5/64", "2001:db8::1/64"]}
    pillar = {
        "keepalived": {"instances": {"VI_2": SECOND, "VI_6": six}},
        "haproxy": {"rabbitmq_cluster": {"bind": bind}},
    }
    merged = settings({**TOPOLOGY, **pillar})
    assert rabbit_settings.client_addresses(merged) == expected
    left_out = {"192.168.123.123", "192.168.123.124", "2001:db8::1"} - set(expected)
    assert set(rabbit_settings.addresses_left_out(merged)) == left_out


def test_ipv6_is_version_3(rabbit_settings, settings):
    merged = settings({**TOPOLOGY, "virtual_address": "2001:db8::1"})
    [vrrp] = rabbit_settings.instances_of(merged, "haproxy-keeplive-node1").values()
    assert vrrp["version"] == 3


def test_every_password_of_vrrp_is_blanked(rabbit_settings, settings):
    def said(name):
        return {"authentication": {"auth_pass": f"SECRET{name}"}}

    own = {**said("c"), "instances": {"VI_2": said("d")}}
    pillar = changed(haproxy_keeplive_node1={"keepalived": own})
    pillar["keepalived"] = {**said("a"), "instances": {"VI_2": {**SECOND, **said("b")}}}
    merged = settings(pillar)
    assert sorted(rabbit_settings.secrets(merged)) == [f"SECRET{name}" for name in "abcd"]
    assert "SECRET" not in str(rabbit_settings.without_secrets(merged))
    # Blanked, it is still known where each stands.
    shown = rabbit_settings.without_secrets(merged)
    found = rabbit_settings.instances_of(shown, "haproxy-keeplive-node1")
    assert [found[name]["said_at"]["auth_pass"] for name in ("VI_1", "VI_2")] == [
        "hosts:haproxy-keeplive-node1:keepalived:authentication",
        "hosts:haproxy-keeplive-node1:keepalived:instances:VI_2:authentication",
    ]


ARTICLE_S = {
    "ha-all": ({"preset": "all"}, "^", {"ha-mode": "all"}),
    "ha-two": (
        {"preset": "exactly", "replicas": 2},
        "^",
        {"ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic"},
    ),
    "ha-some": ({"preset": "prefix"}, r"^ha\.", {"ha-mode": "all"}),
    "ha-more": ({"preset": "prefix", "pattern": r"^more\."}, r"^more\.", {"ha-mode": "all"}),
}


@pytest.mark.parametrize("name", ARTICLE_S)
def test_a_preset_is_the_article_s_policy(rabbit_settings, settings, name):
    said, pattern, definition = ARTICLE_S[name]
    pillar = {**TOPOLOGY, "rabbitmq": {"policies": {name: said}}}
    assert rabbit_settings.policies(settings(pillar)) == {
        name: {
            "name": name,
            "vhost": "/",
            "pattern": pattern,
            "definition": definition,
            "priority": 0,
            "apply-to": "all",
        }
    }


@pytest.mark.parametrize(("brokers", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
@pytest.mark.parametrize("replicas", [{}, {"replicas": "majority"}])
def test_a_majority_is_more_than_half_of_the_brokers(
    rabbit_settings, settings, brokers, majority, replicas
):
    hosts = {f"mq{number}": {"roles": ["broker"]} for number in range(brokers)}
    hosts["lb"] = {"roles": ["load_balancer"]}
    policies = {"p": {"preset": "exactly", **replicas}}
    found = rabbit_settings.policies(settings({"hosts": hosts, "rabbitmq": {"policies": policies}}))
    assert found["p"]["definition"]["ha-params"] == majority


def test_what_stands_beside_a_preset_comes_over_it(rabbit_settings, settings):
    said = {
        "name": "mine",
        "preset": "exactly",
        "replicas": 3,
        "vhost": "orders",
        "priority": 7,
        "apply-to": "queues",
        "definition": {"ha-sync-mode": "manual", "max-length": 5},
    }
    [policy] = rabbit_settings.policies(settings({"rabbitmq": {"policies": {"p": said}}})).values()
    assert policy == {
        "name": "mine",
        "vhost": "orders",
        "pattern": "^",
        "definition": {
            "ha-mode": "exactly",
            "ha-params": 3,
            "ha-sync-mode": "manual",
            "max-length": 5,
        },
        "priority": 7,
        "apply-to": "queues",
    }


def test_a_policy_that_is_to_go_is_named_with_its_vhost(rabbit_settings, settings):
    policies = {"p": {"absent": True, "preset": "all", "vhost": "v"}}
    found = rabbit_settings.policies(settings({"rabbitmq": {"policies": policies}}))
    assert found == {"p": {"name": "p", "vhost": "v", "absent": True}}


@pytest.mark.parametrize(
    "bind, expected",
    [
        ("0.0.0.0:5672", ("0.0.0.0", 5672)),
        ("*:5672", ("*", 5672)),
        (":8100", ("", 8100)),
        ("[2001:db8::1]:5672", ("2001:db8::1", 5672)),
        (":::5672", ("::", 5672)),
    ],
)
def test_what_a_listener_binds_to_is_an_address_and_a_port(rabbit_settings, bind, expected):
    assert rabbit_settings.address_and_port(bind) == expected


def test_secrets_are_blanked_out_of_a_text(rabbit_settings, settings):
    parameters = {"up": {"component": "shovel", "value": {"uri": ["amqp://s3cret"], "no": 3}}}
    pillar = {
        **TOPOLOGY,
        "haproxy": {"monitor": {"password": "s3cret"}},
        "rabbitmq": {"parameters": parameters},
    }
    redacted = functools.partial(rabbit_settings.redacted, settings=settings(pillar))
    assert redacted("line 3: stats:s3cret is not known") == "line 3: stats:… is not known"
    assert redacted("line 3: amqp://s3cret is not known") == "line 3: … is not known"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "[ALERT] parsing [/etc/haproxy/conf/people.cfg:3] : unknown keyword 'pa55:word' in "
            "'userlist' section",
            "[ALERT] parsing [/etc/haproxy/conf/people.cfg:3] : unknown keyword '…' in '…' section",
        ),
        ("(Line 3) Unknown keyword pa55:word.", "(Line 3) Unknown keyword …:…."),
        ("unknown keyword pa55:word", "unknown keyword …"),
        ("(pa55:wo=rd;)", "(…:wo=rd;)"),
        ('unmatched quote:\n  ...5ecret" "and-m...', 'unmatched quote:\n  ...…" "…...'),
        ("unknown keyword 'a:b:c:d'", "unknown keyword '…'"),
        ("what says nothing of it", "what says nothing of it"),
    ],
)
def test_of_a_snippet_no_word_and_no_part_of_one_is_told(rabbit_settings, settings, said, told):
    text = """userlist people
    user clerk insecure-password pa55:word
    a:b:c:d "a-5ecret" "and-more-of-it"
"""
    pillar = {**TOPOLOGY, "haproxy": {"snippets": {"text": {"people": text}}}}
    assert rabbit_settings.redacted(said, settings(pillar)) == told
