"""Before the deployment: predictions, refusals, and what one host does alone."""

import json

import pytest

from tests.integration.lab import BROKERS, HOLDER, HOSTS

PACKAGES = ("rabbitmq-server", "haproxy", "keepalived")


def _installed(lab, host):
    """The product's packages that are on a host."""
    return [
        name for name in PACKAGES if lab.exec(host, "dpkg", "-s", name, check=False).returncode == 0
    ]


def test_bin_lab_does_and_says_what_the_tests_do_and_see_without_starting_it(bare):
    assert json.loads(bare.command("status", "--json").stdout) == bare.status()
    command = (HOLDER, "--", "sh", "-c", "cat /proc/1/cgroup; env; pwd; hostname; exit 3")
    done = bare.command("exec", *command, check=False)
    here = bare.exec(HOLDER, *command[2:], check=False)
    assert (done.returncode, done.stdout) == (here.returncode, here.stdout) == (3, done.stdout)
    asked = ("*", "test.arg_clean", "number=1", "test=True")
    told = bare.command("salt", "--out=json", "--static", *asked).stdout
    assert json.loads(told) == bare.salt(*asked)


def test_highstate_in_test_mode_predicts_on_bare_hosts_and_raises_nothing(bare):
    returns = bare.salt("*", "state.highstate", "test=True")
    assert set(returns) == set(HOSTS)
    for host, states in returns.items():
        assert isinstance(states, dict), (host, states)
        failed = [s["comment"] for s in states.values() if s["result"] is False]
        assert not failed, (host, failed)
        predicted = {s["name"] for s in states.values() if s["result"] is None}
        assert ("rabbitmq-server" if host in BROKERS else "haproxy") in predicted
        assert not any("Traceback" in str(s["comment"]) for s in states.values())
    assert not any(_installed(bare, host) for host in HOSTS)


def test_orchestration_in_test_mode_changes_nothing(bare):
    done = bare.salt_run("state.orchestrate", "orch.rabbit_ha", "test=True")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(_installed(bare, host) for host in HOSTS)


def test_silent_minion_stops_the_run_before_anything_is_touched(bare):
    bare.command("freeze", HOLDER)
    try:
        done = bare.salt_run("state.orchestrate", "orch.rabbit_ha")
    finally:
        bare.command("thaw", HOLDER)
    bare.wait_for_minions()
    assert done.returncode != 0
    assert f"{HOLDER}: the minion does not answer" in done.stdout
    assert not any(_installed(bare, host) for host in HOSTS)


@pytest.mark.parametrize(
    "path",
    [
        "pillar/top.sls",
        "pillar/rabbit_ha/topology.sls",
        "conf/master",
        "tests/conftest.py",
        "../pillar/top.sls",
        "../conf/master",
    ],
)
def test_file_server_serves_no_pillar_test_or_conf_file(bare, path):
    host = BROKERS[1]
    served = bare.salt(host, "cp.get_file_str", "salt://rabbit_ha/defaults.yaml")[host]
    assert served.startswith("# The only defaults")
    assert not bare.salt(host, "cp.get_file_str", f"salt://{path}")[host]


def test_highstate_of_a_joining_broker_alone_leaves_the_cluster_to_the_orchestration(bare):
    host = BROKERS[1]
    states = bare.salt(host, "state.highstate")[host]
    assert isinstance(states, dict), states
    assert all(state["result"] for state in states.values()), states
    comments = " ".join(str(state["comment"]) for state in states.values())
    assert "the orchestration carries the seed's Erlang cookie" in comments
    status = bare.rabbitmqctl(host, "cluster_status")
    assert status["disk_nodes"] == [f"rabbit@{host}"]
