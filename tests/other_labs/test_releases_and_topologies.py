"""Other releases of Debian, and another topology, each deployed from nothing."""

import json
import os

import pytest

from tests.integration.lab import BROKERS
from tests.integration.recorder import Recorder, assert_nothing_gave_away

# The other tests are about that one.
OTHERS = {"bookworm", "trixie", "forky"} - {os.environ.get("RELEASE", "bookworm")}
# Both load balancers are brokers, host names have a domain and one begins like
# another, and pillar gives the cookie.
SHARED_HOSTS = {
    "network": "10.20.0.0/16",
    "virtual_address": "10.20.9.9",
    "seed": "mq1.example.org",
    "hosts": {
        "mq1.example.org": {
            "address": "10.20.0.1",
            "roles": ["broker", "load_balancer"],
            "keepalived": {"state": "MASTER", "priority": 150},
        },
        "mq10.example.org": {"address": "10.20.0.10", "roles": ["broker", "load_balancer"]},
        "mq2.example.org": {"address": "10.20.1.2", "roles": ["broker"]},
    },
}
COOKIE, NEW_COOKIE = "ACOOKIEFORTHETESTS", "ANOTHERONEFORTHETESTS"


def _changed(returns):
    """What a highstate changed or failed at: pairs of host and state."""
    return [
        (host, state["__id__"])
        for host, states in returns.items()
        for state in states.values()
        if state["changes"] or not state["result"]
    ]


@pytest.mark.parametrize("release", sorted(OTHERS))
def test_other_release_is_deployed_verified_and_left_alone_afterwards(another_lab, release):
    lab = another_lab(release, {})
    done = lab.salt_run("state.orchestrate", "orch.rabbit_ha")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lab.salt_run("rabbit_ha.verify").returncode == 0
    assert _changed(lab.salt("*", "state.highstate")) == []
    assert_queues_are_replicated_as_the_release_can(lab)


def assert_queues_are_replicated_as_the_release_can(lab):
    """See that ``auto`` mirrors on 3.x and has quorum queues on 4.x, which refuses mirrors."""
    host = BROKERS[-1]
    vhosts = lab.rabbitmqctl(host, "list_vhosts", "name", "default_queue_type")
    policies = [policy["name"] for policy in lab.rabbitmqctl(host, "list_policies")]
    with lab.pillar_changed({"rabbitmq": {"ha": "mirrored"}}):
        refused = lab.salt_run("rabbit_ha.validate")
    if lab.release == "bookworm":
        assert (policies, refused.returncode) == (["ha-all"], 0)
        return
    assert (vhosts, policies) == ([{"name": "/", "default_queue_type": "quorum"}], [])
    assert refused.returncode == 1
    assert "rabbitmq:ha: found 'mirrored'" in refused.stdout


@pytest.fixture(scope="module")
def shared(another_lab_for_a_module):
    """Hosts of both roles, whose brokers' secrets have the cookie."""
    lab = another_lab_for_a_module("bookworm", {"topology": SHARED_HOSTS})
    with lab.pillar_changed({"rabbitmq": {"erlang_cookie": COOKIE}}, role="broker"):
        yield lab


def test_highstate_alone_builds_the_cluster_where_pillar_gives_the_cookie(shared, tmp_path):
    with Recorder(shared, tmp_path) as recorder:
        returns = shared.salt("*", "state.highstate", timeout=300)
        failed = [
            (host, state["comment"])
            for host, states in returns.items()
            for state in states.values()
            if not state["result"]
        ]
        assert not failed
        done = shared.salt_run("rabbit_ha.verify", "--out=json")
        assert done.returncode == 0, done.stdout
        seen = json.loads(done.stdout)
        members = ["rabbit@mq1", "rabbit@mq10", "rabbit@mq2"]
        assert all(sorted(broker["members"]) == members for broker in seen["brokers"].values())
        again = shared.salt("*", "state.highstate", timeout=300)
        assert _changed(again) == []
        outputs = [str(returns), done.stdout, done.stderr, str(again)]
        assert_nothing_gave_away({"cookie in pillar": COOKIE}, shared, recorder, outputs)


def test_the_cookie_changes_as_the_runbook_says_and_is_given_away_nowhere(shared, tmp_path):
    changed = {"rabbitmq": {"erlang_cookie": NEW_COOKIE}}
    with Recorder(shared, tmp_path) as recorder, shared.pillar_changed(changed, role="broker"):
        refused = shared.salt("mq2*", "state.apply", "rabbit_ha.rabbitmq.cookie")
        assert "with another cookie it would lose them" in str(refused)
        stopped = shared.salt("*", "service.stop", "rabbitmq-server")
        assert set(stopped.values()) == {True}
        done = shared.salt_run("state.orchestrate", "orch.rabbit_ha")
        assert done.returncode == 0, done.stdout + done.stderr
        for host in shared.hosts:
            found = shared.exec(host, "sh", "-c", "cd /var/lib/rabbitmq; head .erlang.cookie*")
            now, _, before = found.stdout.partition("==> .erlang.cookie.")
            assert NEW_COOKIE in now and COOKIE in before
        secrets = {"old cookie": COOKIE, "new cookie": NEW_COOKIE}
        outputs = [str(refused), done.stdout, done.stderr]
        assert_nothing_gave_away(secrets, shared, recorder, outputs)
