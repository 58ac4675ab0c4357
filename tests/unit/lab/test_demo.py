"""The demo follows an orchestration by the master's events, and tells where everything is."""

import pathlib
import re
from types import SimpleNamespace

import pytest

from lab.demo import MASTER_STEPS, Follower, _summary, main
from lab.progress import Progress

SYNC = ["saltutil.sync_utils", "saltutil.sync_modules"]
EACH = {function: [] for function in SYNC}


@pytest.fixture
def screen(capsys):
    """Return a Follower and a function that tells what it showed."""
    return Follower(Progress()), lambda: capsys.readouterr().err


def ran(follower, function, arguments, code, answer):
    """Feed the events of one job on one host."""
    follower.handle("salt/job/1/new", {"fun": function, "arg": arguments, "minions": ["a"]})
    follower.handle("salt/job/1/ret/a", {"fun": function, "retcode": code, "return": answer})


def test_each_step_that_runs_on_the_master_has_words_for_people():
    steps = pathlib.Path(__file__).parents[3] / "_states" / "rabbit_ha.py"
    called = re.findall(r'runner"\]\("rabbit_ha\.(\w+)"', steps.read_text())
    assert set(called) == MASTER_STEPS.keys()


def test_the_readme_shows_each_step_that_runs_on_the_master():
    readme = (pathlib.Path(__file__).parents[3] / "README.md").read_text()
    shown = re.findall(r"^    ok (.+) \(", readme, re.M)
    assert [step for step in shown if step in MASTER_STEPS.values()] == [*MASTER_STEPS.values()]


def test_modules_that_are_brought_in_one_call_are_one_line(screen):
    follower, shown = screen
    ran(follower, SYNC, [[], []], dict.fromkeys(SYNC, 0), EACH)
    assert "ok a: gets the project's modules" in shown()


def test_modules_that_could_not_be_brought_are_shown_as_failed(screen):
    follower, shown = screen
    ran(follower, SYNC, [[], []], {SYNC[0]: 0, SYNC[1]: 1}, EACH)
    assert "failed a: gets the project's modules" in shown()


def test_states_are_counted(screen):
    follower, shown = screen
    states = {"x": {"changes": {"a": 1}}, "y": {"changes": {}}}
    ran(follower, "state.apply", ["rabbit_ha.prepared"], 0, states)
    assert "ok a: rabbit_ha.prepared: 1 of 2 states" in shown()


def test_a_plan_with_problems_is_shown_as_failed(screen):
    follower, shown = screen
    follower.handle("salt/run/1/new", {"fun": "runner.rabbit_ha.plan"})
    data = {"verdict": {"result": False, "problems": ["a: is off"]}, "changes": {}}
    follower.handle("salt/run/1/ret", {"return": {"data": data, "outputter": "rabbit_ha"}})
    assert "failed what differs from pillar" in shown()


@pytest.mark.parametrize(
    ("name", "says"), [("default", "`make clean`"), ("other", "`RABBIT_HA_LAB=other make clean`")]
)
def test_it_ends_with_addresses_and_credentials(capsys, tmp_path, name, says):
    folder = tmp_path / "rabbit_ha/secrets"
    folder.mkdir(parents=True)
    (folder / "broker.sls").write_text("rabbit_ha: {rabbitmq: {users: {admin: {password: p1}}}}\n")
    (folder / "load_balancer.sls").write_text("rabbit_ha: {haproxy: {monitor: {password: p2}}}\n")
    paths = SimpleNamespace(secrets=tmp_path)
    lab = SimpleNamespace(
        name=name, pillar=None, paths=paths, command=lambda verb: f"bin/lab {verb}"
    )
    _summary(lab, changed=True, seconds=12)
    shown = capsys.readouterr().out
    assert "192.168.123.123:5672  (the virtual address)" in shown
    assert "http://192.168.123.36:15672/  (rabbitmq-node1)" in shown
    assert "user admin, password p1" in shown
    assert "http://192.168.123.11:8100/rabbitmq-stats  (haproxy-keeplive-node1)" in shown
    assert "user stats, password p2" in shown
    assert f"{says} takes the lab down" in shown


def test_a_name_that_no_lab_can_have_is_told_in_a_line(capsys):
    assert main(["--name", "a b"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("make demo: 'a b' cannot be a lab's name")
    assert told.out == ""
