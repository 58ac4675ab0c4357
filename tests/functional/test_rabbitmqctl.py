"""The modules over a real program ``rabbitmqctl`` that replays what was recorded."""

import getpass
import json

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
        f"p{number}": {"pattern": "^", "definition": {"max-length": number}} for number in range(20)
    }
    [ret] = run_state(minion(test=True, **pillar), defined(policies=policies))
    assert ret["result"] is None
    assert len(ret["changes"]["policies"]) == 20
    assert len(rabbitmqctl.calls) <= 2


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
