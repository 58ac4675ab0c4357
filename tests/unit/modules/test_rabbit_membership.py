"""rabbit_membership: who may join, who is a member, and who must not be touched."""

import base64
import io
import json
import re
from http.client import BadStatusLine, IncompleteRead
from types import SimpleNamespace
from unittest.mock import create_autospec
from urllib.request import ProxyHandler

import pytest
from salt.exceptions import CommandExecutionError

from tests.fake_rabbit import Rabbitmqctl, Rabbits
from tests.support import RABBITMQ_VERSIONS, faked, functions, load, not_root, recorded

SEED, ME, THIRD = (f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3))
CONTACTS = [SEED, ME, THIRD]
NEVER = create_autospec(lambda at=None: None, side_effect=AssertionError("starts a VM"))


@pytest.fixture
def judge(topology):
    """Return a function that loads ``rabbit_membership`` on one host of some brokers."""
    real = load("_modules/rabbitmqctl.py")

    def build(rabbits, me=ME, pillar=None, returns_to=None):
        minion = me.split("@")[1]
        notes = create_autospec(load("_modules/rabbit_notes.py"))
        notes.fetch.side_effect = {"returns_to": returns_to}.get
        salt = faked("rabbitmqctl", Rabbitmqctl(rabbits, me), real)
        salt |= {"rabbit_notes.fetch": notes.fetch} | topology(minion=minion, pillar=pillar)
        salt |= functions("rabbit_queues", load("_modules/rabbit_queues.py", salt=salt))
        return load("_modules/rabbit_membership.py", salt=salt, grains={"id": minion})

    return build


def test_two_sides_that_list_each_other_are_joined(judge):
    found = judge(Rabbits(*CONTACTS, clustered=CONTACTS)).verdict(CONTACTS)
    assert found["verdict"] == "joined"
    assert found["contact"] == SEED
    assert found["members"] == sorted(CONTACTS)


def _all(**changes):
    """A cluster of all, in which the local node is otherwise than it was."""
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    for name, value in changes.items():
        setattr(rabbits[ME], name, value)
    return rabbits


def _forgotten():
    rabbits = _all()
    for name in (SEED, THIRD):
        rabbits[name].members = {SEED, THIRD}
    return rabbits


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
@pytest.mark.parametrize(
    ("rabbits", "me", "expected"),
    [
        (_all(), ME, "joined"),
        (_all(), SEED, "seed"),
        (Rabbits(*CONTACTS, clustered=[SEED, THIRD]), ME, "standalone, empty"),
        (_all(members={ME}), ME, "ghost in the cluster"),
        (_all(app=False), ME, "app stopped, member"),
        (_all(vm=False), ME, "node not running"),
        (_all(reachable=False), ME, "running, but not answering"),
        (_all(cookie="OTHER"), ME, "cookie mismatch"),
        (_forgotten(), ME, "forgotten by the cluster"),
        (_all(members={ME, "rabbit@elsewhere"}), ME, "other cluster"),
    ],
)
def test_a_verdict_is_the_same_from_the_status_of_each_version(
    judge, version, rabbits, me, expected
):
    for node in rabbits.nodes.values():
        node.version = version
    assert judge(rabbits, me=me).verdict(CONTACTS)["verdict"] == expected


def test_node1_is_no_member_because_node10_is(judge):
    ten = "rabbit@rabbitmq-node10"
    rabbits = Rabbits(SEED, ten, "rabbit@rabbitmq-node2", clustered=[SEED, ten])
    one = "rabbit@rabbitmq-node"
    rabbits.nodes[one] = Rabbits(one)[one]
    assert judge(rabbits, me=one).verdict([SEED, one])["verdict"] == "standalone, empty"


def test_a_fresh_node_may_join(judge):
    found = judge(Rabbits(*CONTACTS, clustered=[SEED, THIRD])).verdict(CONTACTS)
    assert found["verdict"] == "standalone, empty"
    assert found["contact"] == SEED
    assert found["members"] == [SEED, THIRD]


def test_a_seed_on_its_way_back_returns_to_the_only_one_who_is_left(judge):
    rabbits = Rabbits(SEED, ME)
    rabbits[ME].definitions["users"].append({"name": "bob", "tags": []})
    contacts = [SEED, ME]
    assert judge(rabbits, me=SEED).verdict(contacts)["verdict"] == "seed"
    found = judge(rabbits, me=SEED, returns_to=[ME]).verdict(contacts)
    assert (found["verdict"], found["contact"]) == ("standalone, empty", ME)
    rabbits[ME].vm = False
    found = judge(rabbits, me=SEED, returns_to=[ME]).verdict(contacts)
    assert found["verdict"] == "seed unreachable"


@pytest.mark.parametrize(
    ("kind", "item", "phrase"),
    [
        ("vhosts", {"name": "orders"}, "vhost orders"),
        ("users", {"name": "bob", "tags": []}, "user bob"),
        ("exchanges", {"name": "x", "vhost": "/"}, "exchange x in /"),
        ("policies", {"name": "p", "vhost": "/"}, "policy p in /"),
        ("parameters", {"name": "s", "vhost": "/"}, "parameter s in /"),
    ],
)
def test_a_node_with_something_a_join_would_delete_may_not_join(judge, kind, item, phrase):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].definitions[kind].append(item)
    found = judge(rabbits).verdict(CONTACTS)
    assert found["verdict"] == "standalone, with content"
    assert found["content"] == [phrase]
    assert phrase in found["detail"]


def test_a_node_with_a_queue_may_not_join(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].queues.append({"name": "q", "vhost": "/", "messages": 12})
    found = judge(rabbits).verdict(CONTACTS)
    assert found["verdict"] == "standalone, with content"
    assert found["content"] == ["queue q in / (12 messages)"]


def test_a_stopped_node_cannot_be_judged(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].vm = False
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == "node not running"


def test_another_cookie_than_the_seed_s_is_told_from_an_unreachable_seed(judge):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].cookie = "OTHER"
    found = judge(rabbits).verdict(CONTACTS)
    assert (found["verdict"], found["contact"]) == ("cookie mismatch", SEED)


def test_with_no_contact_in_reach_the_seed_is_unreachable(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].reachable = rabbits[THIRD].reachable = False
    found = judge(rabbits).verdict(CONTACTS)
    assert found["verdict"] == "seed unreachable"
    assert found["members"] == [ME]
    assert SEED in found["detail"] and THIRD in found["detail"]


def test_while_the_seed_is_down_another_member_is_the_other_side(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].vm = False
    found = judge(rabbits).verdict(CONTACTS)
    assert (found["verdict"], found["contact"]) == ("joined", THIRD)


def test_a_broker_that_stands_alone_too_is_not_joined_in_the_seed_s_place(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].reachable = False
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == "seed unreachable"


def test_a_member_whose_app_is_stopped_may_start_it(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].app = False
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == "app stopped, member"


def test_a_join_that_was_interrupted_may_be_finished(judge):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].app = False
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == "app stopped, not a member"


def test_a_node_that_remembers_a_cluster_which_forgot_it_is_forgotten(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].members = rabbits[THIRD].members = {SEED, THIRD}
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == "forgotten by the cluster"


def test_a_fresh_node_that_the_cluster_still_lists_is_a_ghost(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].members = {ME}
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == "ghost in the cluster"


def test_a_member_of_a_cluster_without_the_seed_is_left_alone(judge):
    elsewhere = "rabbit@elsewhere"
    rabbits = Rabbits(*CONTACTS, elsewhere, clustered=[ME, elsewhere])
    found = judge(rabbits).verdict(CONTACTS)
    assert found["verdict"] == "other cluster"
    assert elsewhere in found["detail"]


def test_a_node_that_reports_a_partition_is_partitioned(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].partitions = {ME: [SEED]}
    found = judge(rabbits, pillar={"rabbitmq": {"service": "own"}}).verdict(CONTACTS)
    assert found["verdict"] == "partitioned"
    assert "restart own on" in found["detail"]


def test_a_member_that_the_contact_sees_as_gone_is_partitioned(judge, monkeypatch):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    monkeypatch.setattr(rabbits, "running", lambda name: {name})
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == "partitioned"


def series(version, rabbits=None):
    """Brokers of which the joining one runs another version."""
    rabbits = rabbits or Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    rabbits[ME].version = version
    return rabbits


@pytest.mark.parametrize("version", ["3.10.1", "3.10.25", "3.9.29", "3.11.28"])
def test_a_broker_one_series_away_may_join_as_during_an_upgrade(judge, version):
    assert judge(series(version)).verdict(CONTACTS)["verdict"] == "standalone, empty"


@pytest.mark.parametrize("version", ["3.8.34", "3.12.14", "4.0.5", "4.3.6"])
def test_a_broker_further_away_does_not_fit(judge, version):
    found = judge(series(version)).verdict(CONTACTS)
    assert found["verdict"] == "older or newer than the cluster allows"
    assert version in found["detail"] and "3.10.8" in found["detail"]


@pytest.mark.parametrize(
    ("one", "other", "fit"),
    [
        ("3.13.7", "4.0.5", True),
        ("3.13.7", "4.2.1", True),
        ("3.12.14", "4.0.5", False),
        ("4.0.5", "4.2.1", True),
        ("4.2.1", "4.3.6", True),
        ("4.1.0", "4.3.6", False),
        ("3.13.7", "4.3.6", False),
    ],
)
def test_series_that_may_mix_are_those_of_the_upgrade_paths(judge, one, other, fit):
    rabbits = series(one)
    rabbits[SEED].version = other
    expected = "standalone, empty" if fit else "older or newer than the cluster allows"
    assert judge(rabbits).verdict(CONTACTS)["verdict"] == expected


def _flag(name, state="enabled", stability="stable", provided_by="rabbit"):
    return {"name": name, "state": state, "stability": stability, "provided_by": provided_by}


@pytest.mark.parametrize(
    ("version", "node", "flags", "said"),
    [
        ("3.10.8", SEED, [_flag("new"), _flag("other", "disabled")], f"{SEED} .* enabled: new$"),
        ("3.10.8", SEED, [_flag("other", "disabled")], None),
        ("3.10.8", ME, [_flag("new"), _flag("other", "disabled")], f"{ME} .* enabled: new$"),
        # It is reset first from 4.1 on.
        ("4.0.5", ME, [_flag("new")], f"{ME} .* enabled: new$"),
        ("4.3.6", ME, [_flag("new")], None),
        ("4.3.6", ME, [_flag("new", stability="required")], f"{ME} .* enabled: new$"),
        ("4.3.6", SEED, [_flag("new")], f"{SEED} .* enabled: new$"),
        # A plugin that only one of them runs keeps nobody apart.
        ("3.10.8", SEED, [_flag("new", provided_by="rabbitmq_mqtt")], None),
        ("3.10.8", ME, [_flag("new", provided_by="rabbitmq_mqtt")], None),
    ],
)
def test_enabled_feature_flags_that_the_other_side_does_not_know(judge, version, node, flags, said):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    for broker in rabbits.nodes.values():
        broker.version = version
    module = judge(rabbits)
    ask = module.__salt__["rabbitmqctl.node_state"]

    def node_state(asked=None):
        found = ask(asked)
        if (asked or ME) == node:
            found["status"]["feature_flags"] += flags
        return found

    module.__salt__["rabbitmqctl.node_state"] = node_state
    found = module.verdict(CONTACTS)
    assert found["verdict"] == (
        "older or newer than the cluster allows" if said else "standalone, empty"
    )
    assert re.search(said or "", found["detail"])


def test_what_does_not_fit_is_refused_before_anyone_looks_at_content(judge):
    rabbits = series("4.0.5")
    rabbits[ME].queues.append({"name": "q", "vhost": "/", "messages": 12})
    found = judge(rabbits).verdict(CONTACTS)
    assert found["verdict"] == "older or newer than the cluster allows"


@pytest.mark.parametrize(
    ("running", "apart", "advice"),
    [
        ([SEED, ME], [THIRD], f"the majority: restart rabbitmq-server on {THIRD}"),
        ([ME], [SEED, THIRD], f"{SEED}, {THIRD} are the majority: restart rabbitmq-server on {ME}"),
        # The third is down and on nobody's side.
        ([ME], [SEED], "neither side is the majority"),
    ],
)
def test_a_partition_names_the_side_with_the_majority(judge, monkeypatch, running, apart, advice):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].partitions = {ME: apart}
    monkeypatch.setattr(rabbits, "running", lambda name: set(running))
    assert advice in judge(rabbits).verdict(CONTACTS)["detail"]


def test_a_partition_without_a_majority_leaves_the_choice(judge, monkeypatch):
    rabbits = Rabbits(SEED, ME, clustered=[SEED, ME])
    rabbits[ME].partitions = {ME: [SEED]}
    monkeypatch.setattr(rabbits, "running", lambda name: {ME})
    found = judge(rabbits).verdict([SEED, ME])
    assert "neither side is the majority" in found["detail"]


def test_the_seed_of_a_cluster_asks_nobody_else(judge):
    module = judge(Rabbits(*CONTACTS, clustered=CONTACTS), me=SEED)
    ask, asked = module.__salt__["rabbitmqctl.node_state"], []

    def node_state(node=None):
        asked.append(node)
        return ask(node)

    module.__salt__["rabbitmqctl.node_state"] = node_state
    assert module.verdict(CONTACTS)["verdict"] == "seed"
    assert asked == [None]


def test_a_node_that_runs_with_another_cookie_than_its_file_has_is_told(judge):
    rabbits = Rabbits(*CONTACTS)
    module = judge(rabbits)
    said = {"state": "cookie mismatch", "status": None, "said": ""}
    module.__salt__["rabbitmqctl.node_state"] = lambda node=None: said
    found = module.verdict(CONTACTS)
    assert (found["verdict"], found["contact"]) == ("cookie mismatch", ME)
    assert "another Erlang cookie than the one in its file" in found["detail"]


def test_the_seed_of_no_cluster_yet_joins_nobody(judge):
    found = judge(Rabbits(*CONTACTS), me=SEED).verdict(CONTACTS)
    assert (found["verdict"], found["members"]) == ("seed", [SEED])


def test_the_seed_alone_in_reach_is_the_seed(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].reachable = rabbits[THIRD].reachable = False
    assert judge(rabbits, me=SEED).verdict(CONTACTS)["verdict"] == "seed"


def test_the_only_broker_is_the_seed(judge):
    assert judge(Rabbits(SEED), me=SEED).verdict([SEED])["verdict"] == "seed"


def test_a_seed_whose_app_is_stopped_may_start_it(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].app = False
    assert judge(rabbits, me=SEED).verdict(CONTACTS)["verdict"] == "app stopped, member"


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        # It may have stopped because it is cut off from those that serve.
        ({"reachable": False}, "seed unreachable"),
        ({"cookie": "OTHER"}, "cookie mismatch"),
        ({"app": False}, "app stopped, member"),
        ({"vm": False}, "app stopped, member"),
    ],
)
def test_a_seed_whose_app_is_stopped_starts_it_only_where_the_others_do_not_serve(
    judge, tmp_path, others, verdict
):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].app = False
    for name, value in others.items():
        setattr(rabbits[ME], name, value)
        setattr(rabbits[THIRD], name, value)
    pillar = remembering(tmp_path, SEED, CONTACTS)
    found = judge(rabbits, me=SEED, pillar=pillar).verdict(CONTACTS)
    assert found["verdict"] == verdict


@pytest.mark.parametrize("others", [{"reachable": False}, {"cookie": "OTHER"}])
def test_a_seed_that_runs_and_does_not_see_the_majority_is_told(judge, others):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    for name, value in others.items():
        setattr(rabbits[ME], name, value)
        setattr(rabbits[THIRD], name, value)
    rabbits.running = lambda name: {name}
    found = judge(rabbits, me=SEED).verdict(CONTACTS)
    assert found["verdict"] == ("cookie mismatch" if "cookie" in others else "seed unreachable")
    assert found["members"] == CONTACTS


def test_a_seed_and_a_member_that_both_run_and_see_each_other_as_gone_are_partitioned(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits.running = lambda name: {SEED} if name == SEED else {ME, THIRD}
    found = judge(rabbits, me=SEED).verdict(CONTACTS)
    assert found["verdict"] == "partitioned"
    assert f"{ME}, {THIRD} are the majority: restart rabbitmq-server on {SEED}" in found["detail"]


@pytest.mark.parametrize(
    ("absent", "verdict"), [([], "other cluster"), (["prod-a", "prod-b"], "seed")]
)
def test_a_seed_in_a_cluster_with_none_of_pillar_s_brokers_is_refused(judge, absent, verdict):
    others = ["rabbit@prod-a", "rabbit@prod-b"]
    rabbits = Rabbits(*CONTACTS, *others, clustered=[SEED, *others])
    pillar = {"rabbitmq": {"absent_members": absent}}
    found = judge(rabbits, me=SEED, pillar=pillar).verdict(CONTACTS)
    assert found["verdict"] == verdict
    if not absent:
        assert "but with rabbit@prod-a, rabbit@prod-b, which pillar" in found["detail"]


def test_a_seed_that_lost_its_data_is_not_taken_for_a_new_cluster(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[SEED].members = {SEED}
    assert judge(rabbits, me=SEED).verdict(CONTACTS)["verdict"] == "ghost in the cluster"


def test_a_seed_that_was_replaced_joins_the_cluster_that_forgot_it(judge):
    rabbits = Rabbits(*CONTACTS, clustered=[ME, THIRD])
    found = judge(rabbits, me=SEED).verdict(CONTACTS)
    assert (found["verdict"], found["contact"]) == ("standalone, empty", ME)


def test_a_node_that_calls_itself_otherwise_than_pillar_is_an_error(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].members = {"rabbit@localhost"}
    with pytest.raises(CommandExecutionError, match="calls itself.*rabbit@localhost.*pillar"):
        judge(rabbits).verdict(CONTACTS)


def remembering(tmp_path, node, members):
    """Have a node's disk list members; returns the pillar that says where that is."""
    file = tmp_path / "mnesia" / node / "cluster_nodes.config"
    file.parent.mkdir(parents=True)
    names = ",".join(f"'{name}'" for name in members)
    file.write_text(f"{{[{names}],[{names}]}}.\n")
    hosts = {node.split("@")[1]: {"address": "192.0.2.1", "roles": ["broker"]} for node in CONTACTS}
    return {"hosts": hosts, "rabbitmq": {"data_dir": str(tmp_path)}}


@pytest.mark.parametrize(
    ("listed", "remembered", "verdict"),
    [
        (True, [SEED, ME], "app stopped, member"),
        # What it lost shows once it runs.
        (True, [ME], "app stopped, member"),
        (False, [SEED, ME], "forgotten by the cluster"),
        (False, [ME], "app stopped, not a member"),
    ],
)
def test_a_stopped_app_s_own_file_of_members_is_read(judge, tmp_path, listed, remembered, verdict):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS if listed else [SEED, THIRD])
    rabbits[ME].app = False
    pillar = remembering(tmp_path, ME, remembered)
    assert judge(rabbits, pillar=pillar).verdict(CONTACTS)["verdict"] == verdict


@pytest.mark.parametrize("app", [False, True])
def test_without_contacts_no_node_is_taken_for_the_seed(judge, app):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].app = app
    assert judge(rabbits).verdict([])["verdict"] == "seed unreachable"


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_fresh_node_of_each_version_holds_nothing_that_a_join_would_delete(judge, version):
    rabbits = Rabbits(*CONTACTS)
    exported = recorded(version, "export_definitions_of_a_fresh_node")["stdout"]
    rabbits[ME].definitions = json.loads(exported)
    assert judge(rabbits).local_content() == []


def answering(module, monkeypatch, definitions, queues):
    """Have the local management API answer, and note what it is asked as whom."""
    asked = []

    def urlopen(opener, request, timeout):
        assert not any(isinstance(one, ProxyHandler) for one in opener.handlers)
        asked.append((request.full_url, request.get_header("Authorization")))
        document = queues if request.full_url.endswith("/queues") else definitions
        return io.StringIO(json.dumps(document))

    monkeypatch.setattr(module.urllib.request.OpenerDirector, "open", urlopen)
    monkeypatch.setitem(module.__salt__, "rabbitmqctl.export_definitions", NEVER)
    return asked


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_fresh_node_is_known_by_its_management_api_without_a_vm(judge, monkeypatch, version):
    # It could not reach the minion's own host.
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    module = judge(Rabbits(*CONTACTS))
    exported = json.loads(recorded(version, "export_definitions_of_a_fresh_node")["stdout"])
    asked = answering(module, monkeypatch, exported, [])
    assert module.local_content() == []
    guest = "Basic " + base64.b64encode(b"guest:guest").decode()
    assert asked[0] == ("http://127.0.0.1:15672/api/definitions", guest)


@pytest.mark.parametrize("error", [BadStatusLine("\x15"), IncompleteRead(b""), OSError("refused")])
def test_a_node_whose_management_port_answers_otherwise_is_asked_itself(judge, monkeypatch, error):
    rabbits = Rabbits(*CONTACTS)
    module = judge(rabbits)

    def urlopen(opener, request, timeout):
        raise error

    monkeypatch.setattr(module.urllib.request.OpenerDirector, "open", urlopen)
    assert module.local_content() == []


def test_a_queue_that_the_management_api_shows_is_content(judge, monkeypatch):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].queues.append({"name": "transient", "vhost": "/", "messages": 0})
    module = judge(rabbits)
    ask = module.__salt__["rabbitmqctl.export_definitions"]
    answering(module, monkeypatch, ask(), [{"name": "transient", "vhost": "/"}])
    monkeypatch.setitem(module.__salt__, "rabbitmqctl.export_definitions", ask)
    assert module.local_content() == ["queue transient in / (0 messages)"]


def counting(module, *functions):
    """Have calls of rabbitmqctl's functions counted that start a VM each."""
    calls = []
    for function in functions:
        ask = module.__salt__[f"rabbitmqctl.{function}"]

        def counted(*args, ask=ask, function=function, **kwargs):
            calls.append(function)
            return ask(*args, **kwargs)

        module.__salt__[f"rabbitmqctl.{function}"] = counted
    return calls


def test_what_many_vhosts_hold_is_listed_by_as_many_vms_as_what_one_holds(judge):
    rabbits = Rabbits(*CONTACTS)
    for number in range(300):
        vhost = f"v{number:03}"
        rabbits[ME].definitions["vhosts"].append({"name": vhost})
        rabbits[ME].queues.append({"name": "q", "vhost": vhost, "messages": 1})
    module = judge(rabbits)
    calls = counting(module, "export_definitions", "list_queues")
    content = module.local_content()
    assert (len(content), content[-1]) == (600, "queue q in v299 (1 messages)")
    assert calls == ["export_definitions", "list_queues"]


@pytest.mark.parametrize(
    ("kind", "item", "asked"),
    [
        (None, None, ["export_definitions", "list_queues"]),
        ("vhosts", {"name": "orders"}, ["export_definitions"]),
        ("queues", {"name": "q", "vhost": "/"}, ["export_definitions"]),
        ("transient", {"name": "q", "vhost": "/"}, ["export_definitions", "list_queues"]),
    ],
)
def test_whether_a_node_is_empty_is_asked_for_no_further_than_until_it_is_known(
    judge, kind, item, asked
):
    rabbits = Rabbits(*CONTACTS)
    if kind == "transient":
        rabbits[ME].queues.append(item)
    elif kind:
        rabbits[ME].definitions.setdefault(kind, []).append(item)
    module = judge(rabbits)
    calls = counting(module, "export_definitions", "list_queues")
    assert module.is_empty() is (kind is None)
    assert calls == asked


def test_a_fresh_node_is_known_to_be_empty_without_a_vm(judge, monkeypatch):
    module = judge(Rabbits(*CONTACTS))
    answering(module, monkeypatch, Rabbits(ME)[ME].definitions | {"queues": []}, [])
    assert module.is_empty() is True


def test_an_exchange_that_is_built_in_is_no_content(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[ME].definitions["exchanges"].append({"name": "amq.rabbitmq.event", "vhost": "/"})
    assert judge(rabbits).local_content() == []


def test_waiting_ends_when_the_seed_appears(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].reachable = rabbits[THIRD].reachable = False
    module = judge(rabbits)

    def sleep(seconds):
        rabbits[SEED].reachable = True

    module.time = SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep)
    assert module.await_verdict(CONTACTS, timeout=60)["verdict"] == "standalone, empty"


def test_waiting_ends_after_its_timeout(judge):
    rabbits = Rabbits(*CONTACTS)
    rabbits[SEED].reachable = rabbits[THIRD].reachable = False
    module = judge(rabbits)
    slept = []
    module.time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    assert module.await_verdict(CONTACTS, timeout=60)["verdict"] == "seed unreachable"
    assert sum(slept) == 60


def test_the_seed_of_one_cluster_is_told_of_another_one(judge):
    four = "rabbit@rabbitmq-node4"
    rabbits = Rabbits(*CONTACTS, four, clustered=[SEED, four])
    rabbits[ME].members = rabbits[THIRD].members = {ME, THIRD}
    found = judge(rabbits, me=SEED).verdict([*CONTACTS, four])
    assert (found["verdict"], found["contact"]) == ("other cluster", ME)
    assert f"({SEED}, {four}), {ME} in another ({ME}, {THIRD})" in found["detail"]


def test_a_seed_that_runs_and_that_the_others_forgot_is_forgotten(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].members = rabbits[THIRD].members = {ME, THIRD}
    assert judge(rabbits, me=SEED).verdict(CONTACTS)["verdict"] == "forgotten by the cluster"


@pytest.mark.parametrize("joined", [CONTACTS, CONTACTS[:2]])
def test_a_seed_whose_cluster_is_well_or_grows_is_the_seed(judge, joined):
    rabbits = Rabbits(*CONTACTS, clustered=joined)
    found = judge(rabbits, me=SEED).verdict(CONTACTS)
    assert (found["verdict"], found["members"]) == ("seed", sorted(joined))


def test_a_seed_with_members_that_are_down_is_the_seed(judge):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].vm = False
    rabbits[THIRD].reachable = False
    assert judge(rabbits, me=SEED).verdict(CONTACTS)["verdict"] == "seed"


@pytest.mark.parametrize("contacts", [CONTACTS, CONTACTS[:2]])
def test_a_seed_with_a_member_that_lost_its_data_is_the_seed(judge, contacts):
    rabbits = Rabbits(*contacts, clustered=contacts)
    rabbits[ME].members = {ME}
    found = judge(rabbits, me=SEED).verdict(contacts)
    assert (found["verdict"], found["members"]) == ("seed", contacts)


def test_a_seed_of_many_asks_two_strangers_at_most(judge):
    others = [f"rabbit@other{number}" for number in range(9)]
    rabbits = Rabbits(*CONTACTS, *others, clustered=CONTACTS)
    module = judge(rabbits, me=SEED)
    asked = []
    state = module.__salt__["rabbitmqctl.node_state"]
    module.__salt__["rabbitmqctl.node_state"] = lambda node=None: asked.append(node) or state(node)
    assert module.verdict([*CONTACTS, *others])["verdict"] == "seed"
    assert asked == [None, *others[:2]]


def test_a_global_parameter_is_content(judge):
    rabbits = Rabbits(*CONTACTS, clustered=[SEED, THIRD])
    parameters = rabbits[ME].definitions["global_parameters"]
    parameters += [{"name": "cluster_tags", "value": []}, {"name": "mine", "value": {}}]
    assert judge(rabbits).verdict(CONTACTS)["content"] == ["global parameter mine"]


def test_a_member_with_another_cookie_in_its_file_is_no_node_that_stands_alone(judge, tmp_path):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    module = judge(rabbits, pillar=remembering(tmp_path, ME, CONTACTS))
    mismatch = {"state": "cookie mismatch", "status": None, "said": ""}
    module.__salt__["rabbitmqctl.node_state"] = lambda node=None: mismatch
    found = module.verdict(CONTACTS)
    assert (found["verdict"], found["members"]) == ("cookie mismatch", sorted(CONTACTS))


@pytest.mark.parametrize(("clustered", "waits"), [((), 0), (CONTACTS, 60)])
def test_a_member_waits_for_the_others_where_a_node_alone_would_not(judge, clustered, waits):
    rabbits = Rabbits(*CONTACTS, clustered=clustered)
    # As for a minute after one of them lost its power.
    rabbits[SEED].reachable = rabbits[THIRD].reachable = False
    module = judge(rabbits)
    slept = []
    module.time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    found = module.await_verdict(CONTACTS, timeout=60, timeout_alone=0)
    assert found["verdict"] == "seed unreachable"
    assert sum(slept) == waits


@pytest.mark.parametrize("lasts", [30, 90])
def test_a_node_that_hangs_for_a_minute_is_waited_for_also_where_its_members_are_unknown(
    judge, lasts
):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].reachable = False
    module = judge(rabbits)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        rabbits[ME].reachable = sum(slept) >= lasts

    module.time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=sleep)
    found = module.await_verdict(CONTACTS, timeout=60, timeout_alone=0)
    assert found["verdict"] == ("joined" if lasts < 60 else "running, but not answering")
    assert sum(slept) == min(lasts, 60)


@pytest.mark.parametrize("app", [False, True])
def test_a_minion_that_may_not_read_the_node_s_files_says_so(judge, monkeypatch, app):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].vm = rabbits[ME].app = app
    not_root(monkeypatch)
    with pytest.raises(CommandExecutionError, match="cluster_nodes.config cannot be read: .* root"):
        judge(rabbits).members_on_disk() if app else judge(rabbits).verdict(CONTACTS)
