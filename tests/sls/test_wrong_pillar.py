"""A pillar with errors stops highstate, every SLS and the orchestration before any state."""

import pytest

from tests.sls.conftest import pillar_of
from tests.support import ROOT

WRONG = {"errors": ["rabbit_ha:seed: found 'x'; expected y", "second error"], "warnings": []}
SLS = sorted(
    str(path.relative_to(ROOT / "salt"))
    .removesuffix(".sls")
    .replace("/", ".")
    .removesuffix(".init")
    for path in (ROOT / "salt" / "rabbit_ha").rglob("*.sls")
)


def rendered(compiled, minion, matches, findings=WRONG):
    """Render SLS files as Salt does; returns the states and the errors."""
    extra = {"rabbit_ha_findings": findings} if findings else {}
    host = compiled(minion, pillar_of(), **extra)
    if not findings:
        del host.pillar["rabbit_ha_findings"]
    highstate = host._highstate()
    matches = matches or highstate.top_matches(highstate.get_top())
    return highstate.render_highstate(matches)


@pytest.mark.parametrize("minion", ["rabbitmq-node1", "haproxy-keeplive-node1"])
def test_the_highstate_has_no_state_but_all_errors(compiled, minion):
    high, errors = rendered(compiled, minion, None)
    assert high == {}
    [error] = errors
    assert "nothing was done, pillar is wrong" in error
    assert all(sentence in error for sentence in WRONG["errors"])


@pytest.mark.parametrize("sls", SLS)
def test_every_sls_stops_with_all_errors(compiled, sls):
    minion = "rabbitmq-node1" if "rabbitmq" in sls else "haproxy-keeplive-node1"
    _, errors = rendered(compiled, minion, {"base": [sls]})
    assert errors
    assert all(sentence in errors[0] for sentence in WRONG["errors"])


def test_a_pillar_that_nothing_checked_stops_the_highstate_and_says_how_to_have_it_checked(
    compiled,
):
    high, errors = rendered(compiled, "rabbitmq-node1", None, findings=None)
    assert high == {}
    assert "ext_pillar: [{rabbit_ha_findings: {}}]" in errors[0]


def test_the_orchestration_has_one_step_that_fails_with_all_errors(compiled):
    [step] = compiled("master", pillar_of(), rabbit_ha_findings=WRONG).low("orch.rabbit_ha")
    assert (step["state"], step["fun"], step["failhard"]) == ("rabbit_ha", "ready", True)
    assert step["errors"] == WRONG["errors"]


def test_with_a_right_pillar_the_step_has_no_error_of_its_own(compiled):
    assert compiled("master").low("orch.rabbit_ha")[0]["errors"] == []
