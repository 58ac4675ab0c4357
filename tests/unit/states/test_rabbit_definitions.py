"""rabbit_definitions: one read, one write, one check; no password or hash in any return."""

import base64
import copy
import hashlib
import json
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from salt.exceptions import CommandExecutionError

from tests.fake_rabbit import DEFINITIONS, Rabbitmqctl, Rabbits, fresh_definitions
from tests.support import RABBITMQ_VERSIONS, faked, functions, hashed, load, recorded

SEED = "rabbit@rabbitmq-node1"
PASSWORD = "correct horse"
VHOSTS = {"/": {}}
USERS = {
    "admin": {
        "tags": ["administrator"],
        "permissions": {"/": {"configure": ".*", "write": ".*", "read": ".*"}},
    },
    "guest": {"absent": True},
}
HASHING = "rabbit_password_hashing_sha256"
BACKUP = "/var/backups/rabbit_ha/definitions-1.json"


@pytest.fixture
def kept():
    """Stands for ``rabbit_backup.write_definitions``."""
    write = load("_modules/rabbit_backup.py").write_definitions
    return create_autospec(write, return_value=BACKUP)


@pytest.fixture
def broker(kept):
    """Return a function that loads the state on a host whose node holds some definitions."""

    def build(node=None, version="3.10.8", test=False, installed=True, password=PASSWORD):
        if node is None:
            node = Rabbits(SEED)[SEED]
            node.definitions = fresh_definitions(version)
        rabbits = Rabbits(SEED)
        rabbits.nodes[SEED] = node
        rabbitmqctl = Rabbitmqctl(rabbits, SEED, installed)
        users = {"admin": {"password": password}} if password else {}
        state = load(
            "_states/rabbit_definitions.py",
            salt=faked("rabbitmqctl", rabbitmqctl, load("_modules/rabbitmqctl.py"))
            | {"rabbit_backup.write_definitions": kept},
            grains={"id": "rabbitmq-node1"},
            pillar={"rabbit_ha": {"rabbitmq": {"users": users}}},
            opts={"test": test},
            utils=functions("rabbit_definitions", load("_utils/rabbit_definitions.py")),
        )
        state.time = SimpleNamespace(sleep=lambda seconds: None)
        return state, rabbitmqctl, node

    return build


def present(state, vhosts=VHOSTS, users=USERS, policies=None, ha="auto"):
    return state.present("as described", vhosts, users, policies or {}, ha=ha)


def names(node, kind):
    return sorted(item["name"] for item in node.definitions[kind])


def test_a_fresh_node_gets_its_admin_and_mirroring_and_loses_guest(broker):
    state, rabbitmqctl, node = broker()
    ret = present(state)
    assert ret["result"] is True
    assert names(node, "users") == ["admin"]
    assert node.definitions["policies"] == DEFINITIONS["policies"]
    assert node.definitions["permissions"] == DEFINITIONS["permissions"]
    assert [write[0] for write in rabbitmqctl.writes] == ["import_definitions", "delete_user"]
    assert set(ret["changes"]) == {"users", "permissions", "policies", "backup"}


def test_in_test_mode_the_same_changes_are_predicted_and_nothing_is_written(broker):
    done = present(broker()[0])
    state, rabbitmqctl, _ = broker(test=True)
    ret = present(state)
    assert ret["result"] is None
    assert ret["comment"] == "The definitions would have been written"
    assert {**ret["changes"], "backup": BACKUP} == done["changes"]
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_a_second_run_writes_nothing(broker, test):
    state, _, node = broker()
    present(state)
    state, rabbitmqctl, _ = broker(node=node, test=test)
    ret = present(state)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["comment"] == "The definitions are already as described"
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize("test", [False, True])
def test_neither_password_nor_hash_is_in_the_return(broker, test):
    state, rabbitmqctl, node = broker(test=test)
    shown = str(present(state))
    assert PASSWORD not in shown
    assert "password_hash" not in shown
    for user in node.definitions["users"] + fresh_definitions()["users"]:
        assert user["password_hash"] not in shown


def test_the_password_that_is_written_is_hashed_as_rabbitmq_documents(broker):
    state, _, node = broker()
    present(state)
    [admin] = node.definitions["users"]
    salt = base64.b64decode(admin["password_hash"])[:4]
    assert admin["password_hash"] == hashed(PASSWORD, salt)
    assert admin["hashing_algorithm"] == HASHING


def test_two_users_with_one_password_get_different_hashes(broker):
    state, _, one = broker()
    present(state)
    state, _, other = broker()
    present(state)
    [mine], [theirs] = one.definitions["users"], other.definitions["users"]
    assert mine["password_hash"] != theirs["password_hash"]


@pytest.mark.parametrize(
    ("algorithm", "digest"), [(HASHING, hashlib.sha256), (HASHING[:-3] + "512", hashlib.sha512)]
)
def test_a_password_that_fits_its_hash_is_left_as_it_is(broker, algorithm, digest):
    node = Rabbits(SEED)[SEED]
    node.definitions = copy.deepcopy(DEFINITIONS)
    node.definitions["users"][0].update(
        password_hash=hashed(PASSWORD, digest=digest), hashing_algorithm=algorithm
    )
    state, rabbitmqctl, _ = broker(node=node)
    assert present(state)["changes"] == {}
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize(
    "change",
    [
        {"password_hash": hashed("another")},
        {"password_hash": ""},
        {"hashing_algorithm": "of_their_own"},
    ],
)
def test_a_password_that_does_not_fit_is_replaced_and_the_change_does_not_show_it(broker, change):
    node = Rabbits(SEED)[SEED]
    node.definitions = copy.deepcopy(DEFINITIONS)
    node.definitions["users"][0].update(password_hash=hashed(PASSWORD), hashing_algorithm=HASHING)
    node.definitions["users"][0].update(change)
    state, _, _ = broker(node=node)
    ret = present(state)
    assert ret["result"] is True
    assert list(ret["changes"]) == ["users"]
    assert ret["changes"]["users"]["admin"]["new"]["password"] == "another"
    present_again = broker(node=node)[0]
    assert present(present_again)["changes"] == {}


def test_without_a_password_in_pillar_an_existing_user_keeps_its_own(broker):
    node = Rabbits(SEED)[SEED]
    node.definitions = copy.deepcopy(DEFINITIONS)
    before = node.definitions["users"][0]["password_hash"]
    state, _, _ = broker(node=node, password=None)
    users = {"admin": {**USERS["admin"], "tags": ["monitoring"]}}
    ret = present(state, users=users)
    assert ret["result"] is True
    [admin] = node.definitions["users"]
    assert (admin["password_hash"], admin["tags"]) == (before, ["monitoring"])
    assert ret["changes"]["users"]["admin"]["new"]["password"] == "as it was"


@pytest.mark.parametrize("test", [False, True])
def test_a_new_user_without_a_password_is_refused_with_pillar_path_and_next_command(broker, test):
    state, rabbitmqctl, _ = broker(password=None, test=test)
    ret = present(state)
    assert ret["result"] is False
    assert "rabbit_ha:rabbitmq:users:admin:password" in ret["comment"]
    assert "salt-run rabbit_ha.secrets" in ret["comment"]
    assert rabbitmqctl.writes == []


def test_tags_in_the_old_form_of_a_string_are_the_same_tags(broker):
    node = Rabbits(SEED)[SEED]
    node.definitions = copy.deepcopy(DEFINITIONS)
    node.definitions["users"][0].update(
        tags="monitoring,administrator", password_hash=hashed(PASSWORD)
    )
    state, rabbitmqctl, _ = broker(node=node)
    users = {"admin": {**USERS["admin"], "tags": ["administrator", "monitoring"]}}
    assert present(state, users=users)["changes"] == {}


def test_tags_that_pillar_does_not_name_stay(broker):
    state, _, node = broker()
    present(state)
    users = {"admin": {"permissions": USERS["admin"]["permissions"]}}
    assert present(broker(node=node)[0], users=users)["changes"] == {}
    users["admin"]["tags"] = []
    assert present(broker(node=node)[0], users=users)["result"] is True
    assert node.definitions["users"][0]["tags"] == []


def test_what_pillar_does_not_name_stays(broker):
    state, _, node = broker()
    node.definitions["vhosts"].append({"name": "theirs", "limits": []})
    theirs = {**DEFINITIONS["policies"][0], "name": "theirs", "pattern": "^t", "priority": 1}
    node.definitions["policies"].append(theirs)
    assert present(state)["comment"] == "The definitions have been written"
    assert names(node, "vhosts") == ["/", "theirs"]
    assert names(node, "policies") == ["ha-all", "theirs"]


@pytest.mark.parametrize(
    ("described", "kind", "deletion"),
    [
        ({"vhosts": {"old": {"absent": True}}}, "vhosts", ("delete_vhost", "old")),
        ({"users": {"old": {"absent": True}}}, "users", ("delete_user", "old")),
        (
            {"policies": {"old": {"absent": True, "vhost": "v"}}},
            "policies",
            ("clear_policy", "old", "v"),
        ),
    ],
)
def test_what_pillar_marks_absent_is_deleted_once(broker, described, kind, deletion):
    state, rabbitmqctl, node = broker()
    item = {
        "vhosts": {"name": "old", "limits": []},
        "users": {**DEFINITIONS["users"][0], "name": "old"},
        "policies": {**DEFINITIONS["policies"][0], "name": "old", "vhost": "v"},
    }
    node.definitions[kind].append(item[kind])
    arguments = {"vhosts": {}, "users": {}, "policies": {}, "ha": "quorum"} | described
    ret = present(state, **arguments)
    assert ret["result"] is True
    assert rabbitmqctl.writes == [deletion]
    state, rabbitmqctl, _ = broker(node=node)
    assert present(state, **arguments)["changes"] == {}
    assert rabbitmqctl.writes == []


def test_a_policy_with_all_its_settings_is_stable(broker):
    policies = {
        "lazy": {
            "pattern": "^lazy\\.",
            "definition": {"queue-mode": "lazy", "max-length": 10},
            "priority": 7,
            "apply-to": "queues",
            "vhost": "orders",
        }
    }
    vhosts = {"/": {}, "orders": {}}
    state, _, node = broker()
    assert present(state, vhosts=vhosts, policies=policies)["result"] is True
    state, rabbitmqctl, _ = broker(node=node)
    assert present(state, vhosts=vhosts, policies=policies)["changes"] == {}
    assert rabbitmqctl.writes == []


def test_a_policy_that_differs_in_one_value_is_written_and_no_other(broker):
    state, _, node = broker()
    present(state)
    node.definitions["policies"][0]["definition"] = {"ha-mode": "exactly", "ha-params": 2}
    state, rabbitmqctl, _ = broker(node=node)
    ret = present(state)
    assert list(ret["changes"]) == ["policies"]
    [(_, written)] = rabbitmqctl.writes
    assert list(written) == ["policies"]


def test_the_preset_policy_can_be_overridden_by_name(broker):
    state, _, node = broker()
    definition = {"ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic"}
    present(state, policies={"ha-all": {"pattern": "^ha\\.", "definition": definition}})
    [policy] = node.definitions["policies"]
    assert (policy["pattern"], policy["definition"]) == ("^ha\\.", definition)


def policy(definition, **more):
    return {"p": {"pattern": "^", "definition": definition, **more}}


ALL = {"ha-mode": "all"}
TWO = {"ha-mode": "exactly", "ha-params": 2}
THREE = {"ha-mode": "exactly", "ha-params": 3}
NODES = {"ha-mode": "nodes", "ha-params": ["rabbit@a", "rabbit@b", "rabbit@c"]}
PLAIN = {"max-length": 10}
LOWERS = "before a policy lowers replicas"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (policy(THREE), policy(TWO), LOWERS),
        (policy(ALL), policy(THREE), LOWERS),
        (policy(NODES), policy(TWO), LOWERS),
        (policy(TWO), policy(PLAIN), LOWERS),
        (policy(TWO), {"p": {"absent": True}}, LOWERS),
        (policy(TWO), policy(TWO, pattern="^orders"), LOWERS),
        (policy(TWO), policy(TWO, priority=1), LOWERS),
        (policy({"target-group-size": 5}), policy({"target-group-size": 3}), LOWERS),
        # Another policy takes the queues, as the one with the highest priority counts alone.
        (policy(TWO), {"q": policy(PLAIN)["p"]}, LOWERS),
        (policy(TWO), {"q": policy(PLAIN, vhost="v")["p"]}, None),
        (policy(TWO, priority=5), {"q": policy(PLAIN)["p"]}, None),
        (policy(TWO), {"q": policy(ALL)["p"]}, None),
        (policy(TWO), policy(THREE), None),
        (policy(TWO), policy(ALL), None),
        (policy(TWO), policy({**TWO, "ha-sync-mode": "automatic"}), None),
        (policy(PLAIN), {"p": {"absent": True}}, "before a policy is removed"),
        ({}, policy(PLAIN), None),
    ],
)
def test_definitions_are_kept_before_a_policy_that_lowers_replicas(
    broker, kept, before, after, reason
):
    vhosts = {"/": {}, "v": {}}
    state, _, node = broker()
    assert present(state, vhosts, policies=before, ha="quorum")["result"] is True
    kept.reset_mock()
    state, rabbitmqctl, _ = broker(node=node)
    # Nothing is written before.
    kept.side_effect = lambda reason: rabbitmqctl.writes and pytest.fail("too late") or BACKUP
    ret = present(state, vhosts, policies=after, ha="quorum")
    assert ret["result"] is True
    assert ret["changes"].get("backup") == (BACKUP if reason else None)
    assert [call.args for call in kept.call_args_list] == ([(reason,)] if reason else [])


def test_definitions_are_kept_before_a_vhost_is_deleted_and_not_in_test_mode(broker, kept):
    vhosts = {"old": {"absent": True}}
    state, _, node = broker()
    node.definitions["vhosts"].append({"name": "old", "limits": []})
    assert "backup" not in present(broker(node=node, test=True)[0], vhosts)["changes"]
    kept.assert_not_called()
    assert present(broker(node=node)[0], vhosts)["changes"]["backup"] == BACKUP
    kept.assert_called_once_with("before a vhost is deleted")
    assert present(broker(node=node)[0], vhosts)["changes"] == {}
    kept.assert_called_once()


def test_what_could_not_be_kept_is_not_changed(broker, kept):
    kept.side_effect = CommandExecutionError("no space left")
    state, rabbitmqctl, node = broker()
    node.definitions["policies"] = copy.deepcopy(DEFINITIONS["policies"])
    ret = present(state, policies={"ha-all": {"absent": True}})
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "no space left" in ret["comment"]
    assert rabbitmqctl.writes == []


def test_a_policy_may_have_the_name_of_another_vhost_s(broker):
    vhosts = {"/": {}, "v": {}}
    plain = {"pattern": "^", "definition": PLAIN}
    policies = {"lazy": plain, "lazy-of-v": {**plain, "name": "lazy", "vhost": "v"}}
    state, _, node = broker()
    assert present(state, vhosts, policies=policies, ha="quorum")["result"] is True
    assert [(p["name"], p["vhost"]) for p in node.definitions["policies"]] == [
        ("lazy", "/"),
        ("lazy", "v"),
    ]


def test_a_policy_is_another_one_than_that_whose_name_reads_alike(broker):
    vhosts = {"c": {}, "b in c": {}}
    plain = {"pattern": "^", "definition": PLAIN}
    policies = {
        "one": {**plain, "name": "x", "vhost": "b in c"},
        "other": {**plain, "name": "x in b", "vhost": "c"},
    }
    state, _, node = broker()
    ret = present(state, vhosts, policies=policies, ha="quorum")
    assert list(ret["changes"]["policies"]) == ["x in 'b in c'", "'x in b' in c"]
    assert [(p["name"], p["vhost"]) for p in node.definitions["policies"]] == [
        ("x", "b in c"),
        ("x in b", "c"),
    ]


HA_TWO = {"ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic"}
TWO_VHOSTS = {"/": {}, "orders": {}, "gone": {"absent": True}}


def policies_of(node):
    return sorted(
        f"{policy['name']} in {policy['vhost']}" for policy in node.definitions["policies"]
    )


def test_queues_are_mirrored_in_every_vhost_that_pillar_names_and_keeps(broker):
    state, _, node = broker()
    assert present(state, TWO_VHOSTS)["result"] is True
    assert policies_of(node) == ["ha-all in /", "ha-all in orders"]
    [of_orders] = [one for one in node.definitions["policies"] if one["vhost"] == "orders"]
    assert of_orders == {**DEFINITIONS["policies"][0], "vhost": "orders"}
    assert present(broker(node=node)[0], TWO_VHOSTS)["changes"] == {}


@pytest.mark.parametrize("pattern", ["^", ".*", ""])
@pytest.mark.parametrize("priority", [-1, 0, 5])
def test_a_policy_that_mirrors_all_queues_of_a_vhost_takes_the_place_of_ha_all_there(
    broker, kept, pattern, priority
):
    state, _, node = broker()
    present(state, TWO_VHOSTS)
    kept.reset_mock()
    two = {"ha-two": {"pattern": pattern, "definition": HA_TWO, "priority": priority}}
    state, rabbitmqctl, _ = broker(node=node)
    ret = present(state, TWO_VHOSTS, policies=two)
    assert ret["result"] is True, ret["comment"]
    assert ret["comment"] == "The definitions have been written"
    assert policies_of(node) == ["ha-all in orders", "ha-two in /"]
    # What replaces it is there before it goes.
    assert [write[0] for write in rabbitmqctl.writes] == ["import_definitions", "clear_policy"]
    kept.assert_called_once_with("before a policy lowers replicas")
    assert present(broker(node=node)[0], TWO_VHOSTS, policies=two)["changes"] == {}
    present(broker(node=node)[0], TWO_VHOSTS, policies={"ha-two": {"absent": True}})
    assert policies_of(node) == ["ha-all in /", "ha-all in orders"]


@pytest.mark.parametrize("name", ["ha-all", "other key"])
def test_a_policy_named_ha_all_takes_its_place_and_may_be_absent(broker, name):
    state, _, node = broker()
    present(state, TWO_VHOSTS)
    described = {name: {"name": "ha-all", "vhost": "orders", "absent": True}}
    assert present(broker(node=node)[0], TWO_VHOSTS, policies=described)["result"] is True
    assert policies_of(node) == ["ha-all in /"]
    some = {name: {"name": "ha-all", "pattern": "^ha\\.", "definition": ALL}}
    assert present(broker(node=node)[0], {"/": {}}, policies=some)["result"] is True
    [policy] = node.definitions["policies"]
    assert (policy["name"], policy["pattern"]) == ("ha-all", "^ha\\.")


@pytest.mark.parametrize(
    "policies",
    [
        policy(PLAIN),
        policy(PLAIN, **{"apply-to": "exchanges"}),
        policy(TWO, priority=1) | {"q": policy(PLAIN, pattern="^q", priority=1)["p"]},
    ],
)
def test_a_policy_that_does_not_mirror_is_written_beside_one_that_does(broker, policies):
    state, rabbitmqctl, _ = broker()
    assert present(state, policies=policies)["result"] is True


@pytest.mark.parametrize(
    "policies",
    [
        policy(TWO, pattern="^orders"),
        policy(TWO, pattern="^q") | {"ha-all": policy(THREE, pattern="^q")["p"]},
        policy(TWO, **{"apply-to": "queues"})
        | {"q": policy(TWO, pattern="^q", **{"apply-to": "classic_queues"})["p"]},
    ],
)
def test_policies_of_which_it_is_open_which_one_mirrors_are_refused(broker, policies):
    state, rabbitmqctl, _ = broker()
    ret = present(state, policies=policies)
    assert ret["result"] is False
    assert "RabbitMQ leaves open which one it applies" in ret["comment"]
    assert "rabbit_ha:rabbitmq:policies" in ret["comment"]
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize(
    "policies",
    [
        policy(TWO, pattern="^orders", priority=1),
        policy(TWO, pattern="^orders", priority=-1),
        policy(TWO) | {"q": policy(PLAIN, **{"apply-to": "exchanges"})["p"] | {"priority": 1}},
        policy(TWO, **{"apply-to": "queues"})
        | {"q": policy(PLAIN, **{"apply-to": "exchanges"})["p"]},
        policy(TWO, vhost="v", pattern="^") | {"q": policy(TWO)["p"]},
    ],
)
def test_policies_of_which_it_is_clear_which_one_mirrors_are_written(broker, policies):
    assert present(broker()[0], {"/": {}, "v": {}}, policies=policies)["result"] is True


@pytest.mark.parametrize("priority", [-1, 0, 5])
def test_beside_a_policy_that_mirrors_all_and_that_pillar_does_not_name_ha_all_is_not_added(
    broker, priority
):
    state, _, node = broker()
    theirs = {**DEFINITIONS["policies"][0], "name": "theirs", "definition": HA_TWO}
    node.definitions["policies"] = [{**theirs, "priority": priority}]
    ret = present(state, TWO_VHOSTS)
    assert ret["result"] is True
    assert policies_of(node) == ["ha-all in orders", "theirs in /"]
    assert (
        "policy ha-all in / is not added: theirs, which pillar does not name" in ret["warnings"][0]
    )
    # One that is there already stays, and what comes of it is told.
    node.definitions["policies"].append(copy.deepcopy(DEFINITIONS["policies"][0]))
    again = present(broker(node=node)[0], TWO_VHOSTS)
    assert (again["result"], again["changes"]) == (True, {})
    assert ("leaves open which one" in str(again.get("warnings"))) is (priority == 0)


@pytest.mark.parametrize("test", [False, True])
def test_a_policy_that_pillar_does_not_name_and_that_is_in_the_way_is_told_of(broker, test):
    state, _, node = broker(test=test)
    theirs = {"name": "theirs", "vhost": "/", "pattern": ".*", "apply-to": "queues"}
    node.definitions["policies"].append({**theirs, "priority": 0, "definition": PLAIN})
    ret = present(state)
    assert ret["result"] is (None if test else True)
    assert (
        "policy theirs in /, which pillar does not name, has the priority 0" in ret["warnings"][0]
    )
    node.definitions["policies"][0]["priority"] = 1
    assert "theirs" not in present(broker(node=node)[0])["comment"]


@pytest.mark.parametrize("test", [False, True])
def test_with_quorum_ha_all_goes_as_soon_as_no_lasting_queue_has_its_mirrors_from_it(
    broker, kept, test
):
    state, _, node = broker()
    present(state, TWO_VHOSTS)
    kept.reset_mock()
    node.definitions["queues"] = [CLASSIC, {**CLASSIC, "vhost": "orders", "type": "quorum"}]
    predicted = present(broker(node=copy.deepcopy(node), test=True)[0], TWO_VHOSTS, ha="quorum")
    kept.assert_not_called()
    ret = present(broker(node=node)[0], TWO_VHOSTS, ha="quorum")
    assert ret["result"] is True
    assert predicted["changes"]["policies"] == ret["changes"]["policies"]
    assert ret["changes"]["policies"] == {"ha-all in orders": {"old": "present", "new": "absent"}}
    kept.assert_called_once_with("before a policy lowers replicas")
    [stays] = [said for said in ret["warnings"] if said.startswith("policy ha-all in / stays")]
    assert "as classic queues" in stays and "(1: q)" in stays
    node.definitions["queues"] = []
    assert present(broker(node=node)[0], TWO_VHOSTS, ha="quorum")["result"] is True
    assert policies_of(node) == []


def test_with_quorum_a_policy_ha_all_of_another_making_stays_and_this_is_told(broker):
    state, _, node = broker()
    node.definitions["policies"] = [{**DEFINITIONS["policies"][0], "priority": 2}]
    ret = present(state, ha="quorum")
    assert ret["result"] is True
    assert policies_of(node) == ["ha-all in /"]
    assert ret["warnings"] == [
        "policy ha-all in / stays: it is not as rabbit_ha:rabbitmq:ha makes it"
    ]


def test_where_rabbitmq_no_longer_mirrors_ha_all_is_only_in_the_way_and_goes(broker):
    state, _, node = broker(version="4.0.5")
    node.definitions["policies"] = copy.deepcopy(DEFINITIONS["policies"])
    node.definitions["queues"] = [CLASSIC]
    assert present(state)["result"] is True
    assert policies_of(node) == []


@pytest.mark.parametrize(
    ("version", "ha", "policies"),
    [
        ("3.10.8", "auto", ["ha-all"]),
        ("3.10.8", "mirrored", ["ha-all"]),
        ("3.10.8", "quorum", []),
        ("3.13.7", "auto", ["ha-all"]),
        ("4.0.5", "auto", []),
        ("4.3.6", "quorum", []),
        ("10.0.0", "auto", []),
    ],
)
def test_queues_are_mirrored_where_rabbitmq_has_mirroring(broker, version, ha, policies):
    state, _, node = broker(version=version)
    assert present(state, ha=ha)["result"] is True
    assert names(node, "policies") == policies


@pytest.mark.parametrize("test", [False, True])
def test_mirroring_where_rabbitmq_has_none_is_refused_before_anything_is_written(broker, test):
    state, rabbitmqctl, _ = broker(version="4.0.5", test=test)
    ret = present(state, ha="mirrored")
    assert ret["result"] is False
    assert "RabbitMQ 4.0.5 no longer has" in ret["comment"]
    assert "set it to quorum or auto" in ret["comment"]
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize("lost", ["import_definitions", "delete_user"])
def test_a_write_that_silently_does_nothing_is_noticed(broker, lost):
    state, rabbitmqctl, _ = broker()
    rabbitmqctl.lost.add(lost)
    ret = present(state)
    assert ret["result"] is False
    assert "written, yet these read as before" in ret["comment"]
    assert PASSWORD not in ret["comment"]
    assert "password_hash" not in ret["comment"]


def test_a_write_that_takes_effect_a_moment_later_is_no_failure(broker):
    state, rabbitmqctl, node = broker()
    later = []
    rabbitmqctl.lost.add("import_definitions")

    def sleep(seconds):
        later.append(seconds)
        if sum(later) >= 1:
            rabbitmqctl.lost.clear()
            rabbitmqctl.import_definitions(rabbitmqctl.writes[0][1])

    state.time = SimpleNamespace(sleep=sleep)
    assert present(state)["result"] is True
    assert names(node, "users") == ["admin"]


def test_a_write_that_fails_names_host_and_step(broker):
    state, rabbitmqctl, _ = broker()
    rabbitmqctl.fails["import_definitions"] = CommandExecutionError("exited with 65")
    ret = present(state)
    assert ret["result"] is False
    assert ret["comment"] == "rabbitmq-node1: definitions: exited with 65"


def test_on_a_bare_host_test_mode_predicts(broker):
    state, rabbitmqctl, _ = broker(test=True, installed=False)
    ret = present(state)
    assert ret["result"] is None
    assert ret["changes"]
    assert rabbitmqctl.writes == []


def test_while_the_node_is_stopped_test_mode_predicts(broker):
    node = Rabbits(SEED)[SEED]
    node.vm = False
    state, _, _ = broker(node=node, test=True)
    assert present(state)["result"] is None


def test_while_the_node_is_stopped_a_real_run_fails(broker):
    node = Rabbits(SEED)[SEED]
    node.vm = False
    assert present(broker(node=node)[0])["result"] is False


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_fresh_node_of_each_version_becomes_as_described_and_stays_so(broker, version):
    node = Rabbits(SEED)[SEED]
    exported = recorded(version, "export_definitions_of_a_fresh_node")["stdout"]
    node.definitions = json.loads(exported)
    assert present(broker(node=node)[0])["result"] is True
    state, rabbitmqctl, _ = broker(node=node)
    assert present(state)["changes"] == {}
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_what_a_deployed_node_of_each_version_exports_needs_no_write(broker, version):
    node = Rabbits(SEED)[SEED]
    node.definitions = json.loads(recorded(version, "export_definitions")["stdout"])
    state, rabbitmqctl, _ = broker(node=node, password="throw-away")
    assert present(state)["changes"] == {}
    assert rabbitmqctl.writes == []


ABSENT = {"absent": True}
ORDERS = {
    "description": "Orders",
    "tags": ["one", "two"],
    "default_queue_type": "quorum",
    "limits": {"max-queues": 9},
}
CLERK = {
    "tags": ["management"],
    "permissions": {"orders": {"configure": "", "write": ".*", "read": ".*"}},
    "topic_permissions": {"orders": {"amq.topic": {"write": "^a", "read": "^b"}}},
    "limits": {"max-connections": 3},
}
PARAMETERS = {"up": {"component": "federation-upstream", "name": "upstream", "vhost": "orders"}}
VALUE = {"uri": "amqp://name:pass-in-a-uri@192.0.2.1", "expires": 5}
GLOBALS = {"mqtt_port_to_vhost_mapping": {}}
EVERYTHING = {
    "vhosts": {"orders": ORDERS},
    "users": {"clerk": CLERK},
    "policies": {},
    "parameters": PARAMETERS,
    "global_parameters": GLOBALS,
    "ha": "quorum",
}
NOTHING = {
    "vhosts": {"orders": {"description": "", "tags": [], "limits": ABSENT}},
    "users": {
        "clerk": {
            "tags": ["management"],
            "permissions": {"orders": ABSENT},
            "topic_permissions": {"orders": {"amq.topic": ABSENT}},
            "limits": ABSENT,
        }
    },
    "policies": {},
    "parameters": {"up": {**PARAMETERS["up"], **ABSENT}},
    "global_parameters": {"mqtt_port_to_vhost_mapping": ABSENT},
    "ha": "quorum",
}


@pytest.fixture
def described(broker):
    """Return a function that applies everything pillar may describe on a node of a version."""

    def apply(what, node=None, version="3.10.8", test=False, lost=(), user=None, value=VALUE):
        state, rabbitmqctl, node = broker(node=node, version=version, test=test)
        state.__pillar__ = {
            "rabbit_ha": {
                "rabbitmq": {
                    "users": {"clerk": {"password": PASSWORD} if user is None else user},
                    "parameters": {"up": {"value": value}},
                    "global_parameters": {"mqtt_port_to_vhost_mapping": {"value": {"a": "b"}}},
                }
            }
        }
        rabbitmqctl.lost.update(lost)
        return state.present("as described", **what), rabbitmqctl, node

    return apply


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_everything_there_may_be_is_written_in_one_import_and_read_back(described, version):
    ret, rabbitmqctl, node = described(EVERYTHING, version=version)
    assert ret["result"] is True, ret["comment"]
    assert [write[0] for write in rabbitmqctl.writes] == ["import_definitions"]
    assert set(ret["changes"]) == {
        *("vhosts", "vhost_limits", "users", "permissions", "topic_permissions"),
        *("parameters", "global_parameters"),
    }
    [vhost] = [vhost for vhost in node.definitions["vhosts"] if vhost["name"] == "orders"]
    assert vhost["metadata"] == {
        key: ORDERS[key] for key in ("description", "tags", "default_queue_type")
    }
    [clerk] = [user for user in node.definitions["users"] if user["name"] == "clerk"]
    assert clerk["limits"] == {"max-connections": 3}
    values = {item["component"]: item["value"] for item in node.definitions["parameters"]}
    assert values == {"federation-upstream": VALUE, "vhost-limits": {"max-queues": 9}}
    again, rabbitmqctl, _ = described(EVERYTHING, node=node)
    assert (again["result"], again["changes"], rabbitmqctl.writes) == (True, {}, [])


@pytest.mark.parametrize("what", [EVERYTHING, NOTHING])
def test_test_mode_predicts_what_a_run_does_and_writes_nothing(described, what):
    before = described(EVERYTHING)[2] if what is NOTHING else None
    predicted, rabbitmqctl, node = described(what, node=copy.deepcopy(before), test=True)
    assert (predicted["result"], rabbitmqctl.writes) == (None, [])
    backup = {"backup": BACKUP} if what is NOTHING else {}
    assert {**predicted["changes"], **backup} == described(what, node=before)[0]["changes"]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_everything_goes_again_and_what_is_in_others_goes_first(described, version):
    node = described(EVERYTHING, version=version)[2]
    ret, rabbitmqctl, _ = described(NOTHING, node=node)
    assert ret["result"] is True, ret["comment"]
    assert rabbitmqctl.writes[1:] == [
        ("clear_global_parameter", "mqtt_port_to_vhost_mapping"),
        ("clear_parameter", "federation-upstream", "upstream", "orders"),
        ("clear_topic_permissions", "clerk", "orders", "amq.topic"),
        ("clear_permissions", "clerk", "orders"),
        ("clear_user_limits", "clerk"),
        ("clear_vhost_limits", "orders"),
    ]
    again, rabbitmqctl, _ = described(NOTHING, node=node)
    assert (again["changes"], rabbitmqctl.writes) == ({}, [])


FILLED = {"definition": {"max-length": 1}, "pattern": "^", "vhost": "orders"}
REMOVED = {
    "vhost": ("a vhost is deleted", {"vhosts": {"orders": ABSENT}}),
    "user": ("a user is deleted", {"users": {"clerk": ABSENT}}),
    "policy": ("a policy is removed", {"policies": {"p": {**FILLED, **ABSENT}}}),
    "parameter": (
        "a parameter is removed",
        {"parameters": {"up": {**PARAMETERS["up"], **ABSENT}}},
    ),
    "global parameter": (
        "a global parameter is removed",
        {"global_parameters": dict.fromkeys(GLOBALS, ABSENT)},
    ),
    "permissions": (
        "permissions are removed",
        {"users": {"clerk": {"permissions": {"orders": ABSENT}}}},
    ),
    "topic permissions": (
        "permissions are removed",
        {"users": {"clerk": {"topic_permissions": {"orders": {"amq.topic": ABSENT}}}}},
    ),
    "limits of a vhost": ("limits are removed", {"vhosts": {"orders": {"limits": ABSENT}}}),
    "limits of a user": ("limits are removed", {"users": {"clerk": {"limits": ABSENT}}}),
}


@pytest.mark.parametrize(("reason", "what"), REMOVED.values(), ids=REMOVED)
def test_definitions_are_kept_before_anything_is_removed(described, kept, reason, what):
    everything = {**EVERYTHING, "policies": {"p": FILLED}}
    node = described(everything)[2]
    kept.assert_not_called()
    nothing = {"vhosts": {}, "users": {}, "policies": {}, "ha": "quorum"}
    assert (
        "backup" not in described(nothing | what, node=copy.deepcopy(node), test=True)[0]["changes"]
    )
    kept.assert_not_called()
    ret, rabbitmqctl, _ = described(nothing | what, node=node)
    assert (ret["result"], ret["changes"]["backup"]) == (True, BACKUP), ret["comment"]
    kept.assert_called_once_with(f"before {reason}")
    # It is gone, and nothing is kept for what is not there.
    assert described(nothing | what, node=node)[0]["changes"] == {}
    kept.assert_called_once()


@pytest.mark.parametrize(
    "lost",
    [
        *("clear_global_parameter", "clear_parameter", "clear_topic_permissions"),
        *("clear_permissions", "clear_user_limits", "clear_vhost_limits", "import_definitions"),
    ],
)
def test_a_removal_that_silently_does_nothing_is_noticed(described, lost):
    node = described(EVERYTHING)[2]
    ret, _, _ = described(NOTHING, node=node, lost=[lost])
    assert ret["result"] is False
    assert "written, yet these read as before" in ret["comment"]


def test_no_value_of_a_parameter_and_no_hash_is_in_a_return(described):
    given = hashed("of-the-clerk")
    node = None
    for what, value, lost in (
        (EVERYTHING, VALUE, ["import_definitions"]),
        (EVERYTHING, VALUE, []),
        (EVERYTHING, {**VALUE, "uri": "amqp://name:another-in-a-uri@192.0.2.1"}, []),
        (NOTHING, VALUE, []),
    ):
        user = {"password_hash": given}
        ret, _, node = described(what, node=node, user=user, value=value, lost=lost)
        assert "in-a-uri" not in str(ret)
        assert given not in str(ret)
    [clerk] = [user for user in node.definitions["users"] if user["name"] == "clerk"]
    assert clerk["password_hash"] == given


@pytest.mark.parametrize(
    ("digest", "algorithm"),
    [(hashlib.sha256, "sha256"), (hashlib.sha512, "sha512"), (hashlib.md5, "md5")],
)
def test_a_hash_in_pillar_tells_by_its_size_how_it_was_made(described, digest, algorithm):
    given = hashed("of-the-clerk", digest=digest)
    user = {"password_hash": given}
    _, _, node = described(EVERYTHING, user=user)
    [clerk] = [user for user in node.definitions["users"] if user["name"] == "clerk"]
    assert clerk["hashing_algorithm"] == f"rabbit_password_hashing_{algorithm}"
    assert described(EVERYTHING, node=node, user=user)[0]["changes"] == {}


def test_a_user_s_rights_and_limits_stay_when_the_password_changes(described):
    node = described(EVERYTHING)[2]
    before = copy.deepcopy(node.definitions)
    ret, rabbitmqctl, _ = described(EVERYTHING, node=node, user={"password": "another one"})
    assert list(ret["changes"]) == ["users"]
    assert [write[0] for write in rabbitmqctl.writes] == ["import_definitions"]
    for kind in ("permissions", "topic_permissions", "parameters"):
        assert node.definitions[kind] == before[kind]
    [clerk] = [user for user in node.definitions["users"] if user["name"] == "clerk"]
    assert clerk["limits"] == {"max-connections": 3}


def test_limits_that_pillar_does_not_name_stay(described):
    node = described(EVERYTHING)[2]
    what = copy.deepcopy(EVERYTHING)
    what["vhosts"]["orders"]["limits"] = {"max-connections": 7}
    what["users"]["clerk"]["limits"] = {"max-channels": 7}
    assert described(what, node=node)[0]["result"] is True
    [limits] = [one for one in node.definitions["parameters"] if one["component"] == "vhost-limits"]
    assert limits["value"] == {"max-queues": 9, "max-connections": 7}
    [clerk] = [user for user in node.definitions["users"] if user["name"] == "clerk"]
    assert clerk["limits"] == {"max-connections": 3, "max-channels": 7}


def test_where_rabbitmq_knows_no_limits_of_users_none_are_written(described):
    node = described(EVERYTHING)[2]
    [clerk] = [user for user in node.definitions["users"] if user["name"] == "clerk"]
    del clerk["limits"]
    what = copy.deepcopy(EVERYTHING)
    del what["users"]["clerk"]["limits"]
    ret, rabbitmqctl, _ = described(what, node=node)
    assert (ret["result"], ret["changes"], rabbitmqctl.writes) == (True, {}, [])
    what["users"]["clerk"]["tags"] = ["monitoring"]
    _, rabbitmqctl, _ = described(what, node=node)
    [(_, written)] = rabbitmqctl.writes
    assert "limits" not in written["users"][0]


def test_limits_that_are_said_not_to_be_absent_are_no_limit_of_that_name(described):
    what = copy.deepcopy(EVERYTHING)
    what["vhosts"]["orders"]["limits"]["absent"] = what["users"]["clerk"]["limits"]["absent"] = (
        False
    )
    what["vhosts"]["none"] = {"limits": {"absent": False}}
    ret, _, node = described(what)
    assert ret["result"] is True
    limits = [one for one in node.definitions["parameters"] if one["component"] == "vhost-limits"]
    assert [one["value"] for one in limits] == [{"max-queues": 9}]
    [clerk] = [user for user in node.definitions["users"] if user["name"] == "clerk"]
    assert clerk["limits"] == {"max-connections": 3}


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_what_pillar_does_not_name_of_a_vhost_stays_when_the_rest_is_written(described, version):
    node = described(EVERYTHING, version=version)[2]
    [vhost] = [vhost for vhost in node.definitions["vhosts"] if vhost["name"] == "orders"]
    vhost["metadata"]["protected_from_deletion"] = True
    what = {**EVERYTHING, "vhosts": {"orders": {"description": "Another"}}}
    described(what, node=node)
    [vhost] = [vhost for vhost in node.definitions["vhosts"] if vhost["name"] == "orders"]
    assert vhost["metadata"] == {
        "description": "Another",
        "tags": ["one", "two"],
        "default_queue_type": "quorum",
        "protected_from_deletion": True,
    }


CLASSIC = {"name": "q", "vhost": "/", "durable": True, "auto_delete": False, "type": "classic"}


@pytest.mark.parametrize(
    ("version", "ha", "queue_type"),
    [
        *(("3.10.8", "auto", "classic"), ("3.10.8", "mirrored", "classic")),
        *(("3.10.8", "quorum", "quorum"), ("4.0.5", "auto", "quorum"), ("4.3.6", "auto", "quorum")),
        ("4.3.6", "quorum", "quorum"),
    ],
)
@pytest.mark.parametrize(
    "queues",
    [
        [],
        [{**CLASSIC, "type": "quorum"}],
        # What is gone with its client, or was never on disk, is classic with any default.
        [{**CLASSIC, "auto_delete": True}, {**CLASSIC, "durable": False}],
        [{**CLASSIC, "vhost": "another"}],
    ],
)
def test_quorum_is_the_default_queue_type_where_queues_are_to_be_so(
    broker, version, ha, queue_type, queues
):
    state, rabbitmqctl, node = broker(version=version)
    node.definitions["queues"] = queues
    ret = present(state, ha=ha)
    assert ret["result"] is True, ret["comment"]
    metadata = node.definitions["vhosts"][0].get("metadata", {})
    assert metadata.get("default_queue_type", "classic") == queue_type
    assert metadata["description"] == "Default virtual host"
    by_command = ("set_default_queue_type", "/", "quorum") in rabbitmqctl.writes
    assert by_command == (version == "3.10.8" and queue_type == "quorum")
    assert "warnings" not in ret
    assert present(broker(node=node)[0], ha=ha)["changes"] == {}


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
@pytest.mark.parametrize("test", [False, True])
def test_a_vhost_with_queues_of_another_type_keeps_its_default_and_this_is_told(
    broker, version, test
):
    state, _, node = broker(version=version, test=test)
    node.definitions["queues"] = [CLASSIC]
    ret = present(state, ha="quorum")
    assert ret["result"] is (None if test else True)
    assert "vhosts" not in ret["changes"]
    [warning] = ret["warnings"]
    assert warning.startswith("vhost / keeps its default queue type classic")
    assert "(1: q)" in warning
    if not test:
        again = present(broker(node=node)[0], ha="quorum")
        assert (again["result"], again["changes"]) == (True, {})
        assert again["warnings"] == [warning]


@pytest.mark.parametrize("test", [False, True])
def test_a_default_queue_type_that_pillar_names_is_refused_where_queues_are_in_its_way(
    broker, test
):
    state, rabbitmqctl, node = broker(test=test)
    node.definitions["queues"] = [CLASSIC]
    ret = present(state, vhosts={"/": {"default_queue_type": "quorum"}})
    assert ret["result"] is False
    assert "vhost / keeps its default queue type classic" in ret["comment"]
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize("version", ["3.11.0-rc.1", "3.11.28", "3.12.1", "3.13.7"])
@pytest.mark.parametrize("unset", ["undefined", None, ""])
def test_no_default_queue_type_is_not_imported_as_the_word_for_it(broker, version, unset):
    state, rabbitmqctl, node = broker(version=version)
    [vhost] = node.definitions["vhosts"]
    vhost["metadata"] = {"description": "", "tags": [], "default_queue_type": unset}
    node.definitions["queues"] = [CLASSIC]
    vhosts = {"/": {"description": "Shop", "default_queue_type": "classic"}, "new": {}}
    ret = present(state, vhosts=vhosts)
    assert ret["result"] is True, ret["comment"]
    [(_, written), *_] = rabbitmqctl.writes
    types = {one["name"]: one["metadata"].get("default_queue_type") for one in written["vhosts"]}
    # What it has by default is RabbitMQ's own for a new vhost.
    assert types == {"/": "classic", "new": None}
    assert present(broker(node=node)[0], vhosts=vhosts)["changes"] == {}
    # Another type is set as where the vhost has one.
    node.definitions["queues"] = []
    assert present(broker(node=node)[0], vhosts=vhosts, ha="quorum")["result"] is True
    found = {
        one["name"]: one["metadata"]["default_queue_type"] for one in node.definitions["vhosts"]
    }
    assert found["new"] == "quorum"


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_where_rabbitmq_keeps_no_word_for_it_no_default_queue_type_is_imported(broker, version):
    state, rabbitmqctl, _ = broker(version=version)
    assert present(state, vhosts={"new": {}}, ha="mirrored" if version < "4" else "quorum")[
        "result"
    ]
    [(_, written), *_] = rabbitmqctl.writes
    [vhost] = written["vhosts"]
    assert ("default_queue_type" in vhost["metadata"]) is (version >= "4")


def test_a_default_queue_type_in_pillar_comes_before_ha(broker):
    state, _, node = broker(version="4.3.6")
    vhosts = {"/": {"default_queue_type": "classic"}, "new": {"default_queue_type": "stream"}}
    assert present(state, vhosts=vhosts)["result"] is True
    found = {vhost["name"]: vhost["metadata"] for vhost in node.definitions["vhosts"]}
    assert found["new"]["default_queue_type"] == "stream"
    assert found["/"].get("default_queue_type", "classic") == "classic"


def test_a_vhost_s_default_queue_type_that_was_not_set_is_noticed(broker):
    state, rabbitmqctl, _ = broker()
    rabbitmqctl.lost.add("set_default_queue_type")
    ret = present(state, ha="quorum")
    assert ret["result"] is False
    assert "written, yet these read as before" in ret["comment"]


def test_a_policy_with_mirrors_is_refused_where_rabbitmq_has_none(broker):
    state, rabbitmqctl, _ = broker(version="4.0.5")
    ret = present(state, policies={"p": {"pattern": "^", "definition": ALL}})
    assert ret["result"] is False
    assert "policy p is to mirror queues, which RabbitMQ 4.0.5 no longer has" in ret["comment"]
    assert rabbitmqctl.writes == []


@pytest.mark.parametrize(("version", "result"), [("3.10.8", False), ("4.0.5", True)])
def test_a_list_as_a_parameter_is_refused_where_it_breaks_the_export(described, version, result):
    ret, rabbitmqctl, _ = described(EVERYTHING, version=version, value=[{"upstream": "x"}])
    assert ret["result"] is result
    if not result:
        assert "can no longer export its definitions" in ret["comment"]
        assert rabbitmqctl.writes == []


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"x": [1, 2]}, False),
        ({"x": ["a", 1]}, False),
        ({"x": {"y": [["a", "b"]]}}, False),
        ({"x": ["a", "b"]}, True),
        ({"x": ["a", 5672]}, True),
        ({"x": ["a", True, {"b": 1}]}, True),
        ({"x": 1}, True),
    ],
)
def test_a_list_that_rabbitmq_4_3_takes_for_text_is_refused(described, value, result):
    ret, rabbitmqctl, _ = described(EVERYTHING, version="4.3.6", value=value)
    assert ret["result"] is result
    assert bool(rabbitmqctl.writes) is result
    if not result:
        assert "takes for text" in ret["comment"]
        assert described(EVERYTHING, version="4.0.5", value=value)[0]["result"] is True


@pytest.mark.parametrize("value", [{"x": {1883: "orders"}}, {"x": b"y"}, {"x": [float("nan")]}])
def test_a_value_that_is_no_json_is_refused_before_anything_is_written(described, value):
    ret, rabbitmqctl, _ = described(EVERYTHING, value=value)
    assert (ret["result"], rabbitmqctl.writes) == (False, [])
    assert "the value of parameter upstream of federation-upstream has a" in ret["comment"]
    assert "put that in quotes" in ret["comment"] and "orders" not in ret["comment"]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (True, 1, False),
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        (5.0, 5, True),
        ([True], [1], False),
        ({"y": {"z": 1}}, {"y": {"z": True}}, False),
        ([1], [1, 2], False),
        ([["a", "b"]], {"a": "b"}, True),
    ],
)
def test_a_value_is_another_one_as_json_tells_them_apart(described, old, new, same):
    node = described(EVERYTHING, value={"x": old})[2]
    ret, rabbitmqctl, _ = described(EVERYTHING, node=node, value={"x": new})
    assert (ret["result"], bool(rabbitmqctl.writes)) == (True, not same)
    assert described(EVERYTHING, node=node, value={"x": new})[1].writes == []


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
@pytest.mark.parametrize("value", [[{"upstream": "x"}], {"x": [1, 2]}, {1: "x"}])
def test_the_value_beside_absent_is_in_nobody_s_way(broker, version, value):
    state, rabbitmqctl, _ = broker(version=version)
    said = {"up": {**PARAMETERS["up"], **ABSENT, "value": value}}
    policies = {"mirrored": {**policy(ALL)["p"], **ABSENT}}
    globals_ = {"g": {**ABSENT, "value": value}}
    ret = state.present("as described", {}, {}, policies, said, globals_, "quorum")
    assert (ret["result"], rabbitmqctl.writes) == (True, []), ret["comment"]
