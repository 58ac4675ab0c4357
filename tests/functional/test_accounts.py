"""Accounts that a load balancer needs: made where they are missing, and otherwise left alone."""

import copy

import pytest

from tests.sls.conftest import SECRETS, Compiled, pillar_of

# On every Linux, with a home, a shell and a group that the states would not give it.
THERE = "daemon"
MISSING = "rabbit-ha-none"


def foreseen(minion, run_state, folder, name, install="package"):
    """Map what test mode says of each account to whether it would change anything."""
    haproxy = {"install": install, "global": {"user": name, "group": THERE}}
    pillar = pillar_of(
        haproxy={**haproxy, "monitor": {"password": SECRETS["monitor"]}},
        keepalived={
            "script_user": name,
            "authentication": {"auth_pass": SECRETS["auth_pass"]},
        },
    )
    low = Compiled(folder, "haproxy-keeplive-node1", pillar, "Debian").low()
    accounts = [copy.deepcopy(one) for one in low if one["state"] in ("user", "group")]
    returns = run_state(minion("haproxy-keeplive-node1", test=True), *accounts)
    return {ret["__id__"]: bool(ret["changes"] or ret["result"] is None) for ret in returns}


@pytest.mark.parametrize("install", ["package", "source"])
@pytest.mark.parametrize(("name", "made"), [(THERE, False), (MISSING, True)])
def test_an_account_is_made_where_it_is_missing_and_never_changed(
    minion, run_state, tmp_path, install, name, made
):
    assert foreseen(minion, run_state, tmp_path, name, install) == {
        "HAProxy has a group of its own": False,
        "HAProxy has a user that nobody can log in as": made,
        "keepalived has a user without rights for its check": made,
    }
