"""
Two VRRP instances, unicast and version 3: both load balancers serve, each an address.

HAProxy is from source on both, keepalived on the first, before any package was there. HAProxy's
build is brought there, keepalived is built by the deployment itself.
"""

import contextlib
import json
import time

import pytest
import yaml

from tests.integration.builds import PROGRAMS, on_hosts, path_of, source_of
from tests.integration.lab import wait_until

RELEASE = "bookworm"
SOURCE = {
    program: {"install": "source", "source": source_of(RELEASE, program)} for program in PROGRAMS
}
ADDRESSES = {"lb1": "10.30.0.101", "lb2": "10.30.0.102"}
FAST = {"version": 3, "advert_int": 0.2, "unicast": True, "fall": 1, "rise": 1}
ANOTHER_OPTION = {"disable-lvs": True}
SECOND = {"virtual_router_id": 2, "virtual_addresses": ["10.30.0.102/24 label host0:mq"]}


def built_with(**options):
    """What pillar says of a keepalived from source with more options."""
    source = SOURCE["keepalived"]["source"]
    return {
        **SOURCE["keepalived"],
        "source": {**source, "options": {**source["options"], **options}},
    }


def topology(state, **options):
    """One broker and two load balancers, each the first for one of two addresses."""
    first = {"state": state, "priority": 100}
    return {
        "network": "10.30.0.0/24",
        "virtual_address": ADDRESSES["lb1"],
        "hosts": {
            "mq1": {"address": "10.30.0.1", "roles": ["broker"]},
            "lb1": {
                "address": "10.30.0.11",
                "roles": ["load_balancer"],
                "keepalived": {**built_with(**options), "instances": {"VI_1": first}},
            },
            "lb2": {
                "address": "10.30.0.12",
                "roles": ["load_balancer"],
                "keepalived": {"instances": {"VI_2": first}},
            },
        },
    }


@pytest.fixture(scope="module")
def both(another_lab_for_a_module):
    """Two load balancers that both serve."""
    described = {"topology": topology("MASTER"), "haproxy": {"haproxy": SOURCE["haproxy"]}}
    described["keepalived"] = keepalived(instances={"VI_2": SECOND})
    lab = another_lab_for_a_module(RELEASE, described)
    # What builds is there before the first deployment brings it.
    lab.salt("lb*", "saltutil.sync_all")
    lab.haproxy = on_hosts(lab, tuple(ADDRESSES), "haproxy")
    lab.deploy()
    return lab


def keepalived(**options):
    """What pillar says of keepalived."""
    return {"keepalived": {**FAST, **options}}


def keepalived_build(lab, **options):
    """Where lb1's keepalived with more options is, or will be."""
    return path_of(lab, "lb1", "keepalived", built_with(**options)["source"])


def running(lab, host, program):
    """The program that a service runs."""
    return lab.salt(host, "rabbit_failover.running_program", program)[host]


def say(lab, **described):
    """Have pillar's files say something else from now on."""
    for name, said in described.items():
        path = lab.pillar / "rabbit_ha" / f"{name}.sls"
        path.write_text(yaml.safe_dump({"rabbit_ha": said}, sort_keys=False))


@contextlib.contextmanager
def without_haproxy(lab, host):
    """A load balancer whose HAProxy is gone, until it is not."""
    lab.exec(host, "systemctl", "mask", "--now", "haproxy")
    try:
        yield
    finally:
        lab.exec(host, "systemctl", "unmask", "haproxy")


def holders(lab):
    """Map each virtual address to the load balancers that hold it."""
    running = [host for host in ADDRESSES if lab.status()["hosts"][host]["state"] == "running"]
    shown = {host: lab.exec(host, "ip", "-o", "addr").stdout for host in running}
    return {
        address: [host for host in running if f" {address}/" in shown[host]]
        for address in ADDRESSES.values()
    }


def at(**hosts):
    """What :func:`holders` is to return."""
    return {ADDRESSES[name]: [host] for name, host in hosts.items()}


def messages_go_through(lab, address):
    """Tell whether messages come back through an address, however the rest is."""
    done = lab.salt_run("rabbit_ha.verify", "messages=10", "patience=0", "--out=json")
    seen = {one["address"]: one["consumed"] for one in json.loads(done.stdout)["messages"]}
    return seen[f"{address}:5672"] == 10


def test_each_load_balancer_holds_its_address_and_messages_go_through_each(both):
    assert holders(both) == at(lb1="lb1", lb2="lb2")
    done = both.salt_run("rabbit_ha.verify", "messages=100", "--out=json")
    assert done.returncode == 0, done.stdout
    seen = json.loads(done.stdout)
    assert {host: lb["vrrp"] for host, lb in seen["load_balancers"].items()} == {
        "lb1": {"VI_1": "MASTER", "VI_2": "BACKUP"},
        "lb2": {"VI_1": "BACKUP", "VI_2": "MASTER"},
    }
    assert [(one["address"], one["consumed"]) for one in seen["messages"]] == [
        (f"{ADDRESSES['lb1']}:5672", 100),
        (f"{ADDRESSES['lb2']}:5672", 100),
    ]
    assert both.salt_run("rabbit_ha.plan").stdout.strip() == "OK: nothing to do"


def test_the_other_one_holds_both_within_a_second_of_a_power_failure(both):
    both.command("poweroff", "lb2")
    try:
        started = time.monotonic()
        wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb1"), 5, lambda: holders(both))
        assert time.monotonic() - started < 4
        assert messages_go_through(both, ADDRESSES["lb2"])
    finally:
        both.command("boot", "lb2")
    wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb2"), 60, lambda: holders(both))
    both.wait_for_minions()
    both.wait_until_well()


def test_a_host_that_never_had_the_package_serves_from_source(both):
    haproxy = f"{both.haproxy}/sbin/haproxy"
    programs = {
        "lb1": {"haproxy": haproxy, "keepalived": f"{keepalived_build(both)}/sbin/keepalived"},
        "lb2": {"haproxy": haproxy, "keepalived": "/usr/sbin/keepalived"},
    }
    for host, expected in programs.items():
        for program, path in expected.items():
            assert running(both, host, program) == path
            packaged = both.exec(host, "test", "-e", f"/usr/sbin/{program}", check=False)
            assert (packaged.returncode == 0) is path.startswith("/usr/sbin/")


@pytest.mark.parametrize("host", ADDRESSES)
def test_programs_run_as_those_whom_pillar_names(both, host):
    """No package made the account of HAProxy here."""
    account = both.exec(host, "getent", "passwd", "haproxy").stdout.strip()
    assert account.endswith("/nologin")
    shown = both.exec(host, "ps", "-o", "user=", "-C", "haproxy").stdout.split()
    # The master process keeps root for its reloads.
    assert sorted(shown) == ["haproxy", "root"]
    said = both.exec(host, "journalctl", "--no-pager", "--unit", "keepalived").stdout
    assert "Starting Keepalived" in said
    assert "SECURITY VIOLATION" not in said


def test_another_option_is_built_by_the_deployment_and_one_step_back_is_not(both):
    first = keepalived_build(both)
    say(both, topology=topology("MASTER", **ANOTHER_OPTION))
    both.deploy()
    second = keepalived_build(both, **ANOTHER_OPTION)
    assert running(both, "lb1", "keepalived") == f"{second}/sbin/keepalived"
    assert "--disable-lvs" in both.exec("lb1", f"{second}/sbin/keepalived", "--version").stderr

    before = both.exec("lb1", "stat", "--format=%W %n", first, second).stdout
    say(both, topology=topology("MASTER"))
    both.deploy()
    assert running(both, "lb1", "keepalived") == f"{first}/sbin/keepalived"
    assert both.exec("lb1", "stat", "--format=%W %n", first, second).stdout == before
    wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb2"), 20, lambda: holders(both))


def test_fault_is_told_by_keepalived_itself(both):
    with without_haproxy(both, "lb2"):
        wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb1"), 10, lambda: holders(both))
        done = both.salt_run("rabbit_ha.status")
        assert done.returncode == 1
        assert "lb2: VRRP instance VI_2: FAULT; expected MASTER or BACKUP" in done.stdout
    both.wait_until_well()


def test_an_address_stays_where_it_went_for_good_or_for_a_while(both):
    """VI_1 with nopreempt, VI_2 with preempt_delay."""
    waits = {"VI_1": {"nopreempt": True}, "VI_2": {**SECOND, "preempt_delay": 8}}
    say(both, topology=topology("BACKUP"), keepalived=keepalived(instances=waits))
    both.deploy()
    assert holders(both) == at(lb1="lb1", lb2="lb2")
    with without_haproxy(both, "lb1"):
        wait_until(lambda: holders(both) == at(lb1="lb2", lb2="lb2"), 10, lambda: holders(both))
    both.wait_until_well()
    # Preempting, it would be back within a second.
    time.sleep(5)
    assert holders(both) == at(lb1="lb2", lb2="lb2")
    assert messages_go_through(both, ADDRESSES["lb1"])
    with without_haproxy(both, "lb2"):
        wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb1"), 10, lambda: holders(both))
    started = time.monotonic()
    wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb2"), 40, lambda: holders(both))
    assert time.monotonic() - started >= 8


def test_with_the_article_s_interval_and_weight_the_address_moves_and_returns(both):
    weighted = {"interval": 5, "weight": -20}
    say(both, keepalived=keepalived(**weighted, instances={"VI_2": SECOND}))
    both.deploy()
    assert holders(both) == at(lb1="lb1", lb2="lb2")
    with without_haproxy(both, "lb2"):
        wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb1"), 15, lambda: holders(both))
        # It is well but for its HAProxy: 80 is below 90.
        shown = both.exec("lb2", "cat", "/run/rabbit_ha/vrrp/VI_2").stdout
        assert shown.startswith("BACKUP ")
        assert messages_go_through(both, ADDRESSES["lb2"])
    wait_until(lambda: holders(both) == at(lb1="lb1", lb2="lb2"), 30, lambda: holders(both))
