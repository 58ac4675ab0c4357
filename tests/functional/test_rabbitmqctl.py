"""The modules over a real program ``rabbitmqctl`` that replays what was recorded."""

import getpass
import json
import time

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import RABBITMQ_VERSIONS, recorded

SEED, PEER = "rabbit@rabbitmq-node1", "rabbit@rabbitmq-node2"
CONTACTS = [f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3)]
# What the recorded hashes are made from.
PASSWORD = "throw-away"
WARNING = "warning: the VM is running with native name encoding of latin1 [see docs]\n"
USERS = {
    "admin": {
        "tags": ["administrator"],
        "permissions": {"/": {"configure": ".*", "write": ".*", "read": ".*"}},
    },
    "guest": {"absent": True},
}
JOINED = {
    "state": "rabbit_cluster",
    "fun": "joined",
    "name": SEED,
    "contacts": CONTACTS,
    "service": "rabbitmq-server",
}
NAMED = {"state": "rabbit_cluster", "fun": "named", "name": "rabbitmq_cluster1"}


def defined(vhosts=None, policies=None):
    return {
        "state": "rabbit_definitions",
        "fun": "present",
        "vhosts": vhosts or {"/": {}},
        "users": USERS,
        "policies": policies or {},
    }


def answers(version, **more):
    """What the tool says on a member of a cluster that is as described."""
    return {
        "cluster_status": recorded(version, "cluster_status"),
        f"cluster_status {SEED}": recorded(version, "cluster_status_of_a_peer"),
        f"cluster_status {PEER}": recorded(version, "cluster_status_of_a_peer"),
        "export_definitions": recorded(version, "export_definitions"),
        **more,
    }


@pytest.fixture
def pillar(tmp_path):
    users = {"admin": {"password": PASSWORD}}
    host = {"data_dir": str(tmp_path), "service_user": getpass.getuser()}
    return {"rabbitmq": {"users": users, **host}}


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_node_s_status_is_read_despite_warnings_on_both_streams(
    minion, modules, rabbitmqctl, version
):
    status = recorded(version, "cluster_status")
    noisy = {**status, "stdout": WARNING + status["stdout"], "stderr": WARNING}
    rabbitmqctl.answers({"cluster_status": noisy})
    assert modules(minion())["rabbitmqctl.node_state"]()["state"] == "running"


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_failed_exit_is_classified_by_what_was_printed(minion, modules, rabbitmqctl, version):
    rabbitmqctl.answers({f"cluster_status {PEER}": recorded(version, "wrong_cookie")})
    assert modules(minion())["rabbitmqctl.node_state"](PEER)["state"] == "cookie mismatch"


def test_a_failed_write_is_an_error_with_the_tool_s_words(minion, modules, rabbitmqctl):
    failed = {"stdout": "", "stderr": "Error:\nUser guest does not exist\n", "retcode": 67}
    rabbitmqctl.answers({"delete_user": failed})
    with pytest.raises(CommandExecutionError, match="exited with 67: .*User guest does not exist"):
        modules(minion())["rabbitmqctl.delete_user"]("guest")


def test_a_tool_that_is_not_there_is_an_error_with_the_next_command(
    minion, modules, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    functions = modules(minion())
    assert functions["rabbitmqctl.installed"]() is False
    with pytest.raises(CommandExecutionError, match="state.apply rabbit_ha.rabbitmq.installed"):
        functions["rabbitmqctl.node_state"]()


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
@pytest.mark.parametrize(
    ("host", "states"),
    [
        ("rabbitmq-node1", [JOINED, NAMED, defined()]),
        ("rabbitmq-node2", [JOINED]),
    ],
)
def test_a_run_that_changes_nothing_starts_at_most_two_erlang_vms(
    minion, pillar, run_state, rabbitmqctl, host, states, version, test
):
    rabbitmqctl.answers(answers(version))
    returns = run_state(minion(host, test, **pillar), *states)
    assert [(ret["result"], ret["changes"]) for ret in returns] == [(True, {})] * len(states)
    assert len(rabbitmqctl.calls) <= 2


def test_the_number_of_erlang_vms_does_not_grow_with_what_is_described(
    minion, pillar, run_state, rabbitmqctl
):
    rabbitmqctl.answers(answers("3.10.8"))
    policies = {
        f"p{number}": {"pattern": f"^{number}$", "definition": {"ha-mode": "all"}, "priority": 1}
        for number in range(20)
    }
    [ret] = run_state(minion(test=True, **pillar), defined(policies=policies))
    assert ret["result"] is None
    assert len(ret["changes"]["policies"]) == 20
    assert len(rabbitmqctl.calls) <= 2


def test_keeping_the_definitions_before_a_removal_starts_no_erlang_vm(
    minion, pillar, run_state, rabbitmqctl, tmp_path, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    deleted = {"stdout": "", "stderr": "", "retcode": 0}
    rabbitmqctl.answers(answers("3.10.8", delete_user=deleted))
    pillar["rabbitmq"]["backup_dir"] = str(tmp_path / "kept")
    low = {**defined(), "users": {**USERS, "admin": {"absent": True}}}
    run_state(minion(**pillar), low)
    # The first reads, the others check.
    called = [call["argv"][2] for call in rabbitmqctl.calls]
    assert called[:3] == ["export_definitions", "delete_user", "export_definitions"]
    [kept] = (tmp_path / "kept").iterdir()
    assert kept.name.endswith("Z-before-a-user-is-deleted.json")
    assert [user["name"] for user in json.loads(kept.read_text())["users"]] == ["admin"]


SHOVEL = {"src-uri": "amqp://name:s3cretOfAShovel@192.0.2.1", "src-queue": "q"}
CLERK = {
    "password_hash": "AAAAABia0BrGUJTyw/lHoO435KAUpCr1bZuraftDBHwofwSN",
    "hashing_algorithm": "rabbit_password_hashing_sha256",
    "tags": ["management"],
    "limits": {"max-connections": 5},
}
MORE = {
    "vhosts": {"/": {"description": "Default virtual host", "limits": {"max-queues": 9}}},
    "users": {
        "clerk": {
            "tags": ["management"],
            "topic_permissions": {"/": {"amq.topic": {"write": "^a", "read": "^b"}}},
            "limits": CLERK["limits"],
        }
    },
    "parameters": {"s": {"component": "shovel", "value": None}},
    "global_parameters": {"g": {"value": None}},
}


def exported_with_more(version, shovel=SHOVEL):
    """What a node exports that has a bit of everything, as it does on that version."""
    exported = recorded(version, "export_definitions")
    document = json.loads(exported["stdout"])
    rights = {"user": "clerk", "vhost": "/", "exchange": "amq.topic", "write": "^a", "read": "^b"}
    document["users"].append({"name": "clerk", **CLERK})
    document["topic_permissions"].append(rights)
    limits = {"vhost": "/", "component": "vhost-limits", "name": "limits"}
    document["parameters"] += [
        {**limits, "value": {"max-queues": 9}},
        {"vhost": "/", "component": "shovel", "name": "s", "value": shovel},
    ]
    pairs = [["a", "s3cretOfAll"]] if version != "4.3.6" else {"a": "s3cretOfAll"}
    document["global_parameters"].append({"name": "g", "value": pairs})
    return {**exported, "stdout": json.dumps(document)}


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_everything_there_may_be_takes_two_erlang_vms_when_nothing_is_to_do(
    minion, pillar, run_state, rabbitmqctl, version, test
):
    rabbitmqctl.answers(answers(version, export_definitions=exported_with_more(version)))
    pillar["rabbitmq"]["users"]["clerk"] = {"password_hash": CLERK["password_hash"]}
    pillar["rabbitmq"]["parameters"] = {"s": {"value": SHOVEL}}
    pillar["rabbitmq"]["global_parameters"] = {"g": {"value": {"a": "s3cretOfAll"}}}
    low = {**defined(), **MORE, "users": {**USERS, **MORE["users"]}}
    [ret] = run_state(minion(test=test, **pillar), low)
    assert (ret["result"], ret["changes"]) == (True, {}), ret["comment"]
    assert len(rabbitmqctl.calls) <= 2


def test_a_parameter_s_value_is_in_no_argument_log_or_return_also_when_it_is_refused(
    minion, pillar, run_state, rabbitmqctl, caplog
):
    another = {**SHOVEL, "src-queue": "another"}
    said = f'Validation failed\n\n"{SHOVEL["src-uri"]}" not a valid URI\n (//shovel/s)'
    refused = {"stdout": "", "stderr": f"Error:\n{said}\n", "retcode": 69}
    exported = exported_with_more("3.10.8", another)
    rabbitmqctl.answers(answers("3.10.8", export_definitions=exported, import_definitions=refused))
    pillar["rabbitmq"]["parameters"] = {"s": {"value": SHOVEL}}
    caplog.set_level("DEBUG", logger="salt")
    [ret] = run_state(minion(**pillar), {**defined(), "parameters": MORE["parameters"]})
    assert ret["result"] is False
    assert "the parameter shovel s in / was refused" in ret["comment"]
    [sent] = [call["imported"] for call in rabbitmqctl.calls if call["imported"]]
    [parameter] = sent["parameters"]
    assert parameter["value"] == SHOVEL
    arguments = str([(call["argv"], call["environment"]) for call in rabbitmqctl.calls])
    for text in (arguments, str(ret), caplog.text):
        assert "s3cretOfAShovel" not in text


def without_users():
    """What the tool says on a node that has no user yet."""
    exported = recorded("3.10.8", "export_definitions")
    document = {**json.loads(exported["stdout"]), "users": [], "permissions": []}
    return answers(
        "3.10.8",
        export_definitions={**exported, "stdout": json.dumps(document)},
        import_definitions={"stdout": "", "stderr": WARNING, "retcode": 0},
    )


def test_a_password_and_its_hash_are_in_no_argument_environment_log_or_return(
    minion, pillar, run_state, rabbitmqctl, caplog
):
    rabbitmqctl.answers(without_users())
    caplog.set_level("DEBUG", logger="salt")
    [ret] = run_state(minion(**pillar), defined())
    assert ret["result"] is True
    [sent] = [call["imported"] for call in rabbitmqctl.calls if call["imported"]]
    [admin] = sent["users"]
    assert len(admin["password_hash"]) > 40
    for secret in (PASSWORD, admin["password_hash"]):
        assert secret not in str(
            [(call["argv"], call["environment"]) for call in rabbitmqctl.calls]
        )
        assert secret not in str(ret)
        assert secret not in caplog.text


def test_in_test_mode_the_tool_is_asked_and_never_told(minion, pillar, run_state, rabbitmqctl):
    rabbitmqctl.answers(without_users())
    [ret] = run_state(minion(test=True, **pillar), defined())
    assert ret["result"] is None
    asked = {call["argv"][2] for call in rabbitmqctl.calls}
    assert asked == {"cluster_status", "export_definitions"}
