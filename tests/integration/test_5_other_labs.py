"""Other releases of Debian, and another topology, each deployed from nothing."""

import json
import os

import pytest

RELEASES = ("bookworm", "trixie", "forky")
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


def _changed(returns):
    """What a highstate changed or failed at: pairs of host and state."""
    return [
        (host, state["__id__"])
        for host, states in returns.items()
        for state in states.values()
        if state["changes"] or not state["result"]
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_other_release_is_deployed_verified_and_left_alone_afterwards(another_lab, release):
    if release == os.environ.get("RELEASE", "bookworm"):
        pytest.skip("the other tests are about this release")
    lab = another_lab(release, {})
    done = lab.salt_run("state.orchestrate", "orch.rabbit_ha")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lab.salt_run("rabbit_ha.verify").returncode == 0
    assert _changed(lab.salt("*", "state.highstate")) == []


def test_highstate_alone_builds_the_cluster_where_pillar_gives_the_cookie(another_lab):
    cookie = {"rabbitmq": {"erlang_cookie": "ACOOKIEFORTHETESTS"}}
    lab = another_lab("bookworm", {"topology": SHARED_HOSTS, "rabbitmq": cookie})
    returns = lab.salt("*", "state.highstate", "--timeout=300")
    failed = [(h, s["comment"]) for h in returns for s in returns[h].values() if not s["result"]]
    assert not failed
    done = lab.salt_run("rabbit_ha.verify", "--out=json")
    assert done.returncode == 0, done.stdout
    seen = json.loads(done.stdout)
    members = ["rabbit@mq1", "rabbit@mq10", "rabbit@mq2"]
    assert all(sorted(broker["members"]) == members for broker in seen["brokers"].values())
    assert _changed(lab.salt("*", "state.highstate", "--timeout=300")) == []
