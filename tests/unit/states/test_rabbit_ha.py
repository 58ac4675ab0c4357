"""rabbit_ha: what the runner found becomes a state's result, comment and changes."""

from unittest.mock import create_autospec

import pytest
import salt.modules.saltutil

from tests.support import load

RUNNER = load("_runners/rabbit_ha.py")
# What an exception in a runner comes back as.
FAILED = "Exception occurred in runner rabbit_ha.ready: Traceback ..."


@pytest.fixture
def states():
    """Return a function that loads the states over one answer of the runner."""

    def build(answer, test=False):
        runner = create_autospec(salt.modules.saltutil.runner, return_value=answer)
        module = load("_states/rabbit_ha.py", salt={"saltutil.runner": runner}, opts={"test": test})
        return module, runner

    return build


def verdict(problems=()):
    """What ``rabbit_ha.verify`` returns."""
    return RUNNER._answer(list(problems), "5 messages went through and came back")


def plan(changes, problems=(), warnings=()):
    """What ``rabbit_ha.plan`` returns."""
    says = "1 states on 1 hosts would change"
    return RUNNER._answer(list(problems), says, warnings, changes=changes)


@pytest.mark.parametrize("test", [False, True])
def test_ready_passes_when_all_hosts_answer(states, test):
    module, _ = states({"problems": [], "hosts": ["a", "b"]}, test)
    ret = module.ready("all")
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["comment"] == "2 hosts answer, pillar is complete"


def test_ready_keeps_other_runs_out_but_not_in_test_mode(states):
    for test, asked in (
        (False, ["rabbit_ha.keep_others_out", "rabbit_ha.ready"]),
        (True, ["rabbit_ha.ready"]),
    ):
        module, runner = states({"problems": [], "hosts": []}, test)
        module.ready("all")
        assert [call.args[0] for call in runner.call_args_list] == asked


def test_ready_asks_no_host_while_another_run_is_under_way(states):
    module, runner = states({"problems": ["another run is under way: process 7"]})
    ret = module.ready("all")
    assert (ret["result"], ret["comment"]) == (False, "another run is under way: process 7")
    runner.assert_called_once_with("rabbit_ha.keep_others_out")


def test_ready_shows_warnings(states):
    module, _ = states({"problems": [], "warnings": ["x: found y"], "hosts": ["a"]})
    ret = module.ready("all")
    assert ret["result"] is True
    assert ret["comment"] == "1 hosts answer, pillar is complete"
    assert ret["warnings"] == ["x: found y"]


def test_ready_fails_with_the_errors_that_the_orchestration_was_made_from(states):
    module, _ = states({"problems": [], "hosts": ["a"]})
    ret = module.ready("all", errors=["x: found y", "z: found w"])
    assert (ret["result"], ret["comment"]) == (False, "x: found y\nz: found w")


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("state", ["ready", "planned"])
def test_problems_fail_with_all_of_them_in_the_comment(states, state, test):
    problems = ["a: is off", "b: is off"]
    answers = {"ready": {"problems": problems, "hosts": []}, "planned": plan({}, problems)}
    module, _ = states(answers[state], test)
    ret = getattr(module, state)("all")
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"] == "a: is off\nb: is off"


@pytest.mark.parametrize("state", ["ready", "planned", "cookie_synced", "verified"])
def test_a_runner_that_broke_fails_with_its_words(states, state):
    module, _ = states(FAILED)
    ret = getattr(module, state)("all")
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"] == FAILED


def test_a_plan_without_changes_has_none_so_that_later_steps_are_skipped(states):
    module, _ = states(plan({}))
    ret = module.planned("plan")
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["comment"] == "already as described"


@pytest.mark.parametrize(("test", "result"), [(False, True), (True, None)])
def test_a_plan_with_changes_names_them(states, test, result):
    module, runner = states(plan({"a": {"X is installed": {"x": "y"}}}), test)
    ret = module.planned("plan")
    # What the cookie's step would do costs time, and comes next in a real run.
    runner.assert_called_once_with("rabbit_ha.plan", are_ready=True, in_detail=test)
    assert ret["result"] is result
    assert ret["changes"] == {"a": {"X is installed": {"x": "y"}}}


def test_what_waits_for_a_person_is_told_first_and_last_and_changes_nothing(states):
    waits = ["a: waits for a restart"]
    module, _ = states(plan({}, warnings=waits))
    ret = module.planned("plan")
    assert (ret["result"], ret["changes"], ret["warnings"]) == (True, {}, waits)
    module, _ = states(RUNNER._answer([], "5 messages went through", waits))
    ret = module.verified("well")
    assert (ret["result"], ret["changes"], ret["warnings"]) == (True, {}, waits)


def test_the_cookie_s_way_shows_which_brokers_changed(states):
    module, runner = states({"problems": [], "changes": {"b": ["The cookie"]}})
    ret = module.cookie_synced("cookie")
    assert ret["result"] is True
    assert ret["changes"] == {"b": ["The cookie"]}
    runner.assert_called_once_with("rabbit_ha.sync_cookie", are_ready=True)


@pytest.mark.parametrize("state", ["cookie_synced", "verified"])
def test_in_test_mode_no_cookie_travels_and_no_message_is_sent(states, state):
    module, runner = states(FAILED, test=True)
    ret = getattr(module, state)("x")
    assert ret["result"] is not False
    assert ret["changes"] == {}
    runner.assert_not_called()


def test_verified_tells_what_went_through(states):
    module, runner = states(verdict())
    ret = module.verified("well", messages=5)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["comment"] == "5 messages went through and came back"
    assert runner.call_args.kwargs["messages"] == 5


def test_verified_fails_with_every_problem(states):
    module, _ = states(verdict(["a: alarms: memory", "b: partitioned"]))
    ret = module.verified("well")
    assert ret["result"] is False
    assert ret["comment"] == "a: alarms: memory\nb: partitioned"
