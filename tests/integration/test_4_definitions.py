"""Definitions on real brokers: policies of each preset, default queue types, rights, secrets."""

import json

import pika.exceptions
import pytest

from tests.integration.amqp import publish
from tests.integration.lab import BROKERS, wait_until
from tests.integration.recorder import (
    assert_nothing_gave_away,
    assert_rabbitmq_has_no_clear_text,
)
from tests.support import hashed

SEED, SECOND, THIRD = BROKERS
STATE = "The cluster has its vhosts, users and policies"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
ADMIN = {"admin": {"permissions": {"test": EVERYTHING}}}
VHOST = {"vhosts": {"/": {}, "test": {}}, "users": ADMIN}
GONE = {"vhosts": {"test": {"absent": True}}}


def _defined(lab, rabbitmq):
    """Have pillar say more of RabbitMQ and apply it once; returns the state's return."""
    with lab.pillar_changed({"rabbitmq": rabbitmq}):
        return lab.applied(SEED, "policies")[STATE]


def _defined_twice(lab, rabbitmq):
    """Apply it, see that it worked and that a second run changes nothing; returns the changes."""
    state = _defined(lab, rabbitmq)
    assert state["result"] is True, state["comment"]
    again = _defined(lab, rabbitmq)
    assert (again["result"], again["changes"]) == (True, {}), again
    return state["changes"]


@pytest.fixture
def vhost(healthy):
    """The virtual host ``test``, which goes with all that is in it; yields its name."""
    yield "test"
    state = _defined(healthy, GONE)
    assert state["result"] is True, state["comment"]
    assert "test" not in [found["name"] for found in healthy.rabbitmqctl(SECOND, "list_vhosts")]


def _has_mirrors(lab):
    status = lab.rabbitmqctl(SEED, "cluster_status")
    return status["versions"][f"rabbit@{SEED}"]["rabbitmq_version"].startswith("3.")


def _declared(lab, vhost, *names):
    """Declare durable queues of no particular type."""
    with lab.amqp(vhost=vhost) as connection:
        for name in names:
            connection.channel().queue_declare(name, durable=True)


def _queues(lab, vhost, *columns):
    """What the brokers say of each queue, by its name; the first column alone where it is one."""
    found = lab.rabbitmqctl(THIRD, "list_queues", "--vhost", vhost, "name", *columns)
    return {queue["name"]: queue[columns[0]] for queue in found}


def _replicas(lab, vhost):
    """On how many brokers each mirrored queue is."""
    mirrors = _queues(lab, vhost, "slave_pids")
    return {name: 1 + len(pids or []) for name, pids in mirrors.items()}


PRESETS = {
    "test-all": {"vhost": "test", "preset": "all", "pattern": "^all$"},
    "test-two": {"vhost": "test", "preset": "exactly", "replicas": 2, "pattern": "^two$"},
    "test-majority": {"vhost": "test", "preset": "exactly", "pattern": "^majority$"},
    "test-some": {"vhost": "test", "preset": "prefix"},
    # Else all others would be mirrored as well.
    "test-none": {"vhost": "test", "name": "ha-all", "absent": True},
}
MIRRORED = {"all": 3, "two": 2, "majority": 2, "ha.orders": 3, "haystack": 1}


def test_queues_have_the_mirrors_of_each_preset_until_it_is_removed(healthy, vhost):
    if not _has_mirrors(healthy):
        with healthy.pillar_changed({"rabbitmq": {**VHOST, "policies": PRESETS}}):
            said = str(healthy.salt(SEED, "state.apply", "rabbit_ha.rabbitmq.policies")[SEED])
        assert "policies:test-all:preset: found 'all', mirrors of classic queues" in said
        return
    # Mirrors of a queue with messages begin without them.
    not_all = {"test-none": PRESETS["test-none"]}
    _defined_twice(healthy, {**VHOST, "policies": not_all})
    with healthy.amqp(vhost=vhost) as connection:
        publish(connection, "two", 10)
    changes = _defined_twice(healthy, {**VHOST, "policies": PRESETS})
    given = {name for name, policy in PRESETS.items() if not policy.get("absent")}
    assert set(changes["policies"]) == {f"{name} in test" for name in given}
    assert "backup" not in changes
    _declared(healthy, vhost, *MIRRORED)

    def has(replicas):
        wait_until(
            lambda: _replicas(healthy, vhost) == replicas, 30, lambda: _replicas(healthy, vhost)
        )

    def synchronised():
        return len(_queues(healthy, vhost, "synchronised_slave_pids")["two"] or []) == 1

    has(MIRRORED)
    wait_until(synchronised, 30, lambda: "the mirror of two has no messages")
    removed = {name: {**policy, "absent": True} for name, policy in PRESETS.items()}
    changes = _defined_twice(healthy, {**VHOST, "policies": removed})
    kept = healthy.exec(SEED, "stat", "-c", "%U %a", changes["backup"]).stdout
    assert kept.split() == ["root", "600"]
    policies = json.loads(healthy.exec(SEED, "cat", changes["backup"]).stdout)["policies"]
    assert given <= {policy["name"] for policy in policies}
    has(dict.fromkeys(MIRRORED, 1))


@pytest.fixture
def queue_in_both(healthy, vhost):
    """Queues ``first`` and ``ha.first`` in ``/`` and in ``test``, which go again."""
    described = {**VHOST, "vhosts": {"test": {}, "/": {}}}
    _defined_twice(healthy, described)
    for name in ("/", vhost):
        _declared(healthy, name, "first", "ha.first")
    yield described
    with healthy.amqp() as connection:
        for name in ("first", "ha.first"):
            connection.channel().queue_delete(name)
    gone = {name: {"absent": True} for name in ("ha-two", "ha-all-of-test")}
    gone["ha-all-of-test"] |= {"name": "ha-all", "vhost": vhost}
    _defined_twice(healthy, {**described, "policies": gone})


def _policies(lab):
    exported = _exported(lab)["policies"]
    return sorted(f"{policy['name']} in {policy['vhost']}" for policy in exported)


def test_ha_all_is_in_every_vhost_and_gives_way_to_the_article_s_others(healthy, queue_in_both):
    if not _has_mirrors(healthy):
        assert _policies(healthy) == []
        return

    def has(vhost, *replicas):
        expected = dict(zip(("first", "ha.first"), replicas, strict=True))

        def found():
            there = _replicas(healthy, vhost)
            return {name: there[name] for name in expected}

        wait_until(lambda: found() == expected, 30, found)

    assert _policies(healthy) == ["ha-all in /", "ha-all in test"]
    has("/", 3, 3)
    has("test", 3, 3)
    two = {"ha-two": {"preset": "exactly", "replicas": 2}}
    changes = _defined_twice(healthy, {**queue_in_both, "policies": two})
    assert set(changes["policies"]) == {"ha-two in /", "ha-all in /"}
    assert "backup" in changes
    assert _policies(healthy) == ["ha-all in test", "ha-two in /"]
    has("/", 2, 2)
    has("test", 3, 3)
    some = {"ha-all-of-test": {"name": "ha-all", "vhost": "test", "preset": "prefix"}}
    changes = _defined_twice(healthy, {**queue_in_both, "policies": two | some})
    assert set(changes["policies"]) == {"ha-all in test"}
    has("test", 1, 3)
    tie = {"ha-some": {"preset": "prefix"}}
    with healthy.pillar_changed({"rabbitmq": {**queue_in_both, "policies": tie}}):
        said = str(healthy.salt(SEED, "state.apply", "rabbit_ha.rabbitmq.policies")[SEED])
    assert "policies:ha-some:priority: found 0, as ha-all in /" in said


def test_with_quorum_ha_all_stays_as_long_as_classic_queues_rely_on_it(healthy, queue_in_both):
    if not _has_mirrors(healthy):
        pytest.skip("RabbitMQ 4 mirrors no classic queues")
    quorum = {**queue_in_both, "ha": "quorum"}
    quorum["vhosts"] = dict.fromkeys(("/", "test"), {"default_queue_type": "classic"})
    state = _defined(healthy, quorum)
    assert (state["result"], state["changes"]) == (True, {}), state
    stays = "policy ha-all in test stays, as classic queues have their mirrors"
    assert stays in str(state["warnings"])
    with healthy.amqp(vhost="test") as connection:
        for name in ("first", "ha.first"):
            connection.channel().queue_delete(name)
    changes = _defined_twice(healthy, quorum)
    assert changes["policies"] == {"ha-all in test": {"old": "present", "new": "absent"}}
    assert "backup" in changes
    assert _policies(healthy) == ["ha-all in /"]


def test_a_vhost_s_default_queue_type_changes_while_no_queue_is_in_the_way(healthy, vhost):
    classic = {**VHOST, "vhosts": {"test": {"default_queue_type": "classic"}}}
    quorum = {**VHOST, "vhosts": {"test": {"default_queue_type": "quorum"}}}
    _defined_twice(healthy, classic)
    _defined_twice(healthy, quorum)
    _declared(healthy, vhost, "first")
    assert _queues(healthy, vhost, "type") == {"first": "quorum"}
    state = _defined(healthy, classic)
    assert state["result"] is False
    assert "vhost test keeps its default queue type quorum" in state["comment"]
    # Who declares it again is not refused.
    _declared(healthy, vhost, "first")


def test_quorum_is_the_default_queue_type_with_ha_quorum(healthy, vhost):
    ha = {"ha": "quorum"} if _has_mirrors(healthy) else {}
    # What tests before left in / may be in the way there, which is told and no failure.
    _defined_twice(healthy, {**VHOST, **ha})
    _declared(healthy, vhost, "orders")
    assert _queues(healthy, vhost, "type") == {"orders": "quorum"}


def test_everything_else_that_pillar_describes_is_there_and_goes_again(healthy, vhost):
    rights = {"amq.topic": {"write": "^orders", "read": ".*"}}
    operator = {"pattern": "^", "definition": {"max-length": 9}, "apply-to": "queues"}
    described = {
        "vhosts": {
            "test": {
                "description": "Orders, for the test",
                "tags": ["one", "two"],
                "limits": {"max-queues": 9, "max-connections": 99},
            }
        },
        "users": {
            **ADMIN,
            "tester": {
                "password_hash": hashed("secret-0f-the-tester"),
                "permissions": {"test": EVERYTHING},
                "topic_permissions": {"test": rights},
                "limits": {"max-connections": 9},
            },
        },
        "parameters": {
            "test": {
                "component": "operator_policy",
                "vhost": "test",
                "value": {"priority": 0, **operator},
            }
        },
        "global_parameters": {"test": {"value": {"some": "thing", "more": {"a": 1}}}},
    }
    assert "backup" not in _defined_twice(healthy, described)
    found, value = _exported(healthy), _global_parameter(healthy)
    [here] = [one for one in found["vhosts"] if one["name"] == "test"]
    assert here["metadata"]["description"] == "Orders, for the test"
    assert here["metadata"]["tags"] == ["one", "two"]
    [tester] = [one for one in found["users"] if one["name"] == "tester"]
    assert tester["limits"] == {"max-connections": 9}
    [topic] = found["topic_permissions"]
    assert topic == {
        "user": "tester",
        "vhost": "test",
        "exchange": "amq.topic",
        **rights["amq.topic"],
    }
    values = {one["component"]: one["value"] for one in found["parameters"]}
    assert values == {
        "operator_policy": {"priority": 0, **operator},
        "vhost-limits": {"max-queues": 9, "max-connections": 99},
    }
    with healthy.amqp("tester", "secret-0f-the-tester", vhost) as connection:
        _publish_to_topic(connection, "orders.new")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="403"):
            _publish_to_topic(connection, "invoices.new")

    gone = {"absent": True}
    removal = {
        "vhosts": {"test": {"description": "", "tags": [], "limits": gone}},
        "users": {
            **ADMIN,
            "tester": {
                "password_hash": hashed("secret-0f-the-tester"),
                "permissions": {"test": gone},
                "topic_permissions": {"test": {"amq.topic": gone}},
                "limits": gone,
                "tags": ["management"],
            },
        },
        "parameters": {"test": {"component": "operator_policy", "vhost": "test", "absent": True}},
        "global_parameters": {"test": gone},
    }
    kept = _defined_twice(healthy, removal)["backup"]
    found = _exported(healthy)
    assert (found["parameters"], found["topic_permissions"]) == ([], [])
    assert "test" not in [one["name"] for one in found["global_parameters"]]
    assert [one["user"] for one in found["permissions"] if one["vhost"] == "test"] == ["admin"]
    [tester] = [one for one in found["users"] if one["name"] == "tester"]
    assert tester["limits"] == {}
    last = _defined_twice(healthy, {"users": {"tester": gone}})["backup"]
    users = json.loads(healthy.exec(SEED, "cat", last).stdout)["users"]
    assert tester in users

    # What was kept before the first of it went brings all of it back.
    assert healthy.salt(SEED, "rabbit_backup.import_definitions", kept) == {SEED: None}
    state = _defined(healthy, described)
    assert (state["result"], state["changes"]) == (True, {}), state
    assert _global_parameter(healthy) == value
    with healthy.amqp("tester", "secret-0f-the-tester", vhost) as connection:
        _publish_to_topic(connection, "orders.new")
    removal["users"]["tester"] = gone
    assert "backup" in _defined_twice(healthy, removal)


def _global_parameter(lab):
    """Show the term that RabbitMQ holds of the global parameter ``test``."""
    return lab.exec(
        SEED, "rabbitmqctl", "eval", "rabbit_runtime_parameters:value_global(test)."
    ).stdout


def _exported(lab):
    exported = lab.exec(SECOND, "rabbitmqctl", "--silent", "export_definitions", "-").stdout
    return json.loads(exported[exported.index("{") :])


def _publish_to_topic(connection, routing_key):
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", routing_key, b"message")


def test_a_password_is_changed_without_dropping_its_user_and_given_away_nowhere(
    healthy, vhost, recorder
):
    old, new, of_uri = "0ld-pa55word-of-the-test", "n3w-pa55word-of-the-test", "pa55word-in-a-uri"
    tester = {"tester": {"permissions": {"test": EVERYTHING}, "tags": ["management"]}}
    described = {"vhosts": {"test": {}}, "users": {**ADMIN, **tester}}
    described["global_parameters"] = {"test": {}}
    # No plugin has this component: RabbitMQ refuses the parameter.
    refused = {"parameters": {"nowhere": {"component": "test", "vhost": "test"}}}
    uri = {"value": {"uri": f"amqp://tester:{of_uri}@192.0.2.1"}}
    outputs = []

    def secrets(password):
        users = {"tester": {"password": password}}
        values = {"global_parameters": {"test": uri}, "parameters": {"nowhere": uri}}
        return healthy.pillar_changed({"rabbitmq": {"users": users, **values}}, role="broker")

    gone = {"parameters": {"nowhere": {"component": "test", "vhost": "test", "absent": True}}}
    hashes = {}
    with secrets(old), healthy.pillar_changed({"rabbitmq": gone}):
        outputs.append(str(_defined_twice(healthy, described)))
        hashes["hash of the old one"] = _hash_of_tester(healthy)
        with healthy.amqp("tester", old, vhost):
            pass
    with secrets(new), healthy.pillar_changed({"rabbitmq": gone}):
        changes = _defined_twice(healthy, described)
        outputs.append(str(changes))
        assert changes["users"]["tester"]["new"]["password"] == "another"
        assert list(changes) == ["users"]
        hashes["hash of the new one"] = _hash_of_tester(healthy)
        with healthy.amqp("tester", new, vhost) as connection:
            connection.channel().queue_declare("tester", exclusive=True)
        refusal = pytest.raises(pika.exceptions.ProbableAuthenticationError)
        with refusal, healthy.amqp("tester", old, vhost):
            pass
    with secrets(new):
        state = _defined(healthy, {**described, **refused})
        outputs.append(str(state))
        assert state["result"] is False
        assert "component test not found, for the parameter nowhere in test" in state["comment"]
    passwords = {"old password": old, "new password": new}
    secret = {**passwords, "password in a URI": of_uri, **hashes}
    assert_nothing_gave_away(secret, healthy, recorder, outputs)
    assert_rabbitmq_has_no_clear_text(passwords, healthy, BROKERS)
    gone = {"users": {"tester": {"absent": True}}, "global_parameters": {"test": {"absent": True}}}
    _defined_twice(healthy, gone)


def _hash_of_tester(lab):
    [tester] = [user for user in _exported(lab)["users"] if user["name"] == "tester"]
    return tester["password_hash"]


def test_the_default_vhost_goes_and_messages_are_verified_in_another(healthy, vhost):
    _defined_twice(healthy, {**VHOST, "vhosts": {"/": {"absent": True}, "test": {}}})
    assert "/" not in [found["name"] for found in _exported(healthy)["vhosts"]]
    without = {"rabbitmq": {**VHOST, "vhosts": {"/": {"absent": True}, "test": {}}}}
    with healthy.pillar_changed(without):
        verified = healthy.salt_run("rabbit_ha.verify", "messages=20")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    _defined_twice(healthy, VHOST)
    assert "/" in [found["name"] for found in _exported(healthy)["vhosts"]]


def test_a_configuration_that_rabbitmq_would_not_boot_with_replaces_nothing(healthy):
    name = "RabbitMQ would boot with its configuration"
    digest = ("sha256sum", "/etc/rabbitmq/rabbitmq.conf")
    before = healthy.exec(SEED, *digest).stdout
    with healthy.pillar_changed({"rabbitmq": {"config": {"hartbeat": 50}}}):
        planned = healthy.salt_run("rabbit_ha.plan")
        refused = healthy.applied(SEED, "configured")[name]
    assert planned.returncode == 1
    for broker in BROKERS:
        assert f"{broker}: {name}: /etc/rabbitmq/rabbitmq.conf: RabbitMQ refuses" in planned.stdout
    assert refused["result"] is False
    assert "set unknown variable: hartbeat" in refused["comment"]
    assert healthy.exec(SEED, *digest).stdout == before
    with healthy.pillar_changed({"rabbitmq": {"config": {"heartbeat": 50}}}):
        accepted = healthy.applied(SEED, "configured", "test=True")[name]
    assert accepted["comment"] == "RabbitMQ finds nothing wrong with it"
