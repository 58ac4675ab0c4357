"""The deployment's steps: which hosts, in which order, and that a failure stops it."""

import pytest

from tests.sls.conftest import CASES, numbered, pillar_of


def steps(compiled, pillar=None):
    """List what the orchestration runs on hosts: the SLS and its target."""
    low = compiled("master", pillar).low("orch.rabbit_ha")
    return [
        (sls, chunk["tgt"])
        for chunk in low
        if (chunk["state"], chunk["fun"]) == ("salt", "state")
        for sls in ([chunk["sls"]] if isinstance(chunk["sls"], str) else chunk["sls"])
    ]


def test_brokers_join_one_after_another_the_seed_first(compiled):
    joins = [tgt for sls, tgt in steps(compiled) if sls == "rabbit_ha.rabbitmq.clustered"]
    assert joins == ["rabbitmq-node1", "rabbitmq-node2", "rabbitmq-node3"]


def test_a_seed_that_is_not_the_first_in_pillar_still_comes_first(compiled):
    pillar = pillar_of(numbered(5, 1) | {"seed": "broker3"})
    joins = [tgt for sls, tgt in steps(compiled, pillar) if sls == "rabbit_ha.rabbitmq.clustered"]
    assert joins == ["broker3", "broker1", "broker2", "broker4", "broker5"]


def test_hosts_are_named_by_their_names_whatever_yaml_makes_of_these(compiled):
    names = ["no", "on", "null", "0b101"]
    hosts = {
        name: {"address": f"192.0.2.{at}", "roles": ["broker"]} for at, name in enumerate(names)
    }
    ran = steps(compiled, pillar_of({"virtual_address": None, "hosts": hosts}))
    assert [tgt for sls, tgt in ran if sls == "rabbit_ha.rabbitmq.clustered"] == names
    assert [tgt for sls, tgt in ran if sls == "rabbit_ha.rabbitmq.policies"] == ["no"]


def test_definitions_are_written_once_on_the_seed_after_all_joined(compiled):
    ran = steps(compiled)
    written = [step for step in ran if step[0] == "rabbit_ha.rabbitmq.policies"]
    assert written == [("rabbit_ha.rabbitmq.policies", "rabbitmq-node1")]
    last_join = max(
        index for index, step in enumerate(ran) if step[0] == "rabbit_ha.rabbitmq.clustered"
    )
    assert ran.index(written[0]) > last_join


def test_keepalived_starts_on_the_backups_before_the_master_so_that_the_address_stays(compiled):
    started = [tgt for sls, tgt in steps(compiled) if sls == "rabbit_ha.keepalived"]
    assert started == [["haproxy-keeplive-node2"], ["haproxy-keeplive-node1"]]


def test_a_load_balancer_is_done_with_haproxy_and_keepalived_before_the_next_begins(compiled):
    order = [
        (sls, tgt)
        for sls, tgt in steps(compiled)
        if sls in ("rabbit_ha.haproxy", "rabbit_ha.keepalived")
    ]
    backup, master = ["haproxy-keeplive-node2"], ["haproxy-keeplive-node1"]
    assert order == [
        ("rabbit_ha.haproxy", backup),
        ("rabbit_ha.keepalived", backup),
        ("rabbit_ha.haproxy", master),
        ("rabbit_ha.keepalived", master),
    ]


def test_all_hosts_are_prepared_at_the_same_time(compiled):
    pillar = CASES["seven brokers"].pillar
    [prepared] = [tgt for sls, tgt in steps(compiled, pillar) if sls == "rabbit_ha.prepared"]
    assert prepared == list(pillar["rabbit_ha"]["hosts"])


def test_without_load_balancers_there_is_no_step_for_them(compiled):
    ran = steps(compiled, CASES["no load balancer"].pillar)
    assert not [sls for sls, _ in ran if "haproxy" in sls or "keepalived" in sls]


@pytest.mark.parametrize("case", ["default", "seven brokers"])
def test_every_step_stops_the_run_when_it_fails(compiled, case):
    low = compiled("master", CASES[case].pillar).low("orch.rabbit_ha")
    assert [chunk["__id__"] for chunk in low if chunk.get("failhard") is not True] == []


def test_the_run_begins_with_the_check_of_pillar_and_hosts_and_ends_with_messages(compiled):
    low = compiled("master").low("orch.rabbit_ha")
    assert (low[0]["state"], low[0]["fun"]) == ("rabbit_ha", "ready")
    assert (low[-1]["state"], low[-1]["fun"]) == ("rabbit_ha", "verified")


def test_every_sls_that_the_orchestration_runs_exists_for_its_target(compiled):
    for sls, tgt in steps(compiled):
        for minion in [tgt] if isinstance(tgt, str) else tgt:
            assert compiled(minion).low(sls)
