"""
From packages to builds from source and back, while a client publishes through the address.

What is built on a release, and how that is done and kept, is in builds.py.
"""

import json

import pytest

from tests.integration.amqp import Publisher
from tests.integration.builds import VERSIONS, on_hosts, source_of
from tests.integration.lab import HOLDER, STANDBY, wait_until

BALANCERS = (HOLDER, STANDBY)
# Nobody waits longer for a confirm than for the address to move, and to connect again.
LONGEST_GAP = 5


@pytest.fixture(scope="module")
def builds(deployed):
    """Builds on both load balancers, in use nowhere; their paths by program."""
    programs = VERSIONS[deployed.release]
    return {program: on_hosts(deployed, BALANCERS, program) for program in programs}


@pytest.fixture
def from_source(deployed, builds):
    """While it lasts, pillar says that the programs are built from source."""
    said = {
        program: {"install": "source", "source": source_of(deployed.release, program)}
        for program in builds
    }
    with deployed.pillar_changed(said):
        yield builds


def switch(lab):
    """Deploy while a client publishes; nothing confirmed is lost, nobody waits long."""
    with Publisher(lab) as publisher:
        done = lab.salt_run("state.orchestrate", "orch.rabbit_ha")
    assert done.returncode == 0, done.stdout + done.stderr
    publisher.assert_nothing_is_lost()
    assert publisher.gap < LONGEST_GAP
    # It moved away and came back, once each.
    assert publisher.connections <= 3


def programs(lab, host):
    """What both services run, and which unit files say so."""
    found = {}
    for service in ("haproxy", "keepalived"):
        found[service] = (
            lab.salt(host, "rabbit_failover.running_program", service)[host],
            lab.salt(host, "rabbit_failover.unit_file", service)[host],
        )
    return found


def started(lab, builds):
    """When the services of what is built were started last, by host and program."""
    shown = ["systemctl", "show", "-p", "ExecMainStartTimestampMonotonic", "--value"]
    return {
        (host, program): int(lab.exec(host, *shown, program).stdout)
        for host in BALANCERS
        for program in builds
    }


def assert_the_backup_came_first(lab, builds, before):
    """One kernel, one clock: each program was started anew, on the backup before the holder."""
    now = started(lab, builds)
    assert all(now[one] > before[one] for one in before)
    for program in builds:
        assert now[STANDBY, program] < now[HOLDER, program]


def features(lab, host, program):
    """What was compiled into HAProxy, as it says itself."""
    said = lab.exec(host, program, "-vv").stdout
    listed = next(line for line in said.splitlines() if line.startswith("Feature list : "))
    return set(listed.partition(":")[2].split())


def as_built(builds):
    """What ``programs`` shows of them while they are in use."""
    return {
        program: (f"{path}/sbin/{program}", f"/usr/local/lib/systemd/system/{program}.service")
        for program, path in builds.items()
    }


def test_from_package_to_source_the_address_is_served_all_the_time(healthy, from_source):
    before = started(healthy, from_source)
    switch(healthy)
    for host in BALANCERS:
        assert programs(healthy, host).items() >= as_built(from_source).items()
        if "haproxy" in from_source:
            built = features(healthy, host, f"{from_source['haproxy']}/sbin/haproxy")
            assert built >= {"+PCRE2", "+OPENSSL", "+ZLIB", "+CPU_AFFINITY"}
    assert_the_backup_came_first(healthy, from_source, before)
    assert healthy.holders() == [HOLDER]

    again = healthy.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
    (states,) = json.loads(again.stdout)["data"].values()
    assert not [s["__id__"] for s in states.values() if s["changes"] or not s["result"]]


def test_the_build_reloads_and_is_brought_back_as_the_package_is(healthy, from_source):
    before = programs(healthy, STANDBY)
    assert healthy.exec(STANDBY, "systemctl", "reload", *from_source).returncode == 0
    for program in from_source:
        healthy.exec(STANDBY, "pkill", "-KILL", "-x", program)
    wait_until(lambda: programs(healthy, STANDBY) == before, 20, lambda: programs(healthy, STANDBY))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"checksum": "sha256=" + "0" * 64, "options": {"DEBUG": "-g"}},
            "is not what it should be",
        ),
        ({"options": {"TARGET": "linux2628"}}, "expected linux-glibc"),
        ({"options": {"CC": "no-such-cc"}}, "no-such-cc is missing"),
    ],
)
def test_a_build_that_fails_leaves_the_running_one_untouched(healthy, from_source, changed, says):
    if "haproxy" not in from_source:
        pytest.skip(f"the lab's archive has no source of HAProxy for {healthy.release}")
    before = programs(healthy, STANDBY)
    source = source_of(healthy.release, "haproxy") | changed
    arguments = [f"{key}={json.dumps(value)}" for key, value in source.items()]
    done = healthy.salt(
        STANDBY, "state.single", "haproxy_build.installed", "/usr/local/sbin/haproxy", *arguments
    )
    (state,) = done[STANDBY].values()
    assert state["result"] is False
    assert says in state["comment"]
    assert f"in {from_source['haproxy']} goes on untouched" in state["comment"]
    assert programs(healthy, STANDBY) == before
    listed = healthy.exec(STANDBY, "ls", "-a", "/usr/local").stdout
    assert "building" not in listed


def test_back_to_the_package_the_address_is_served_all_the_time(healthy, builds):
    # As a test before this one left it: there has to be something to switch.
    for host in BALANCERS:
        assert programs(healthy, host).items() >= as_built(builds).items()
    before = started(healthy, builds)
    switch(healthy)
    for host in BALANCERS:
        found = programs(healthy, host)
        for program in ("haproxy", "keepalived"):
            exe, unit = found[program]
            assert exe == f"/usr/sbin/{program}"
            assert unit.endswith(f"lib/systemd/system/{program}.service")
            assert "/local/" not in unit
        # One step back takes no time.
        assert healthy.exec(host, "ls", "-d", *builds.values()).returncode == 0
    assert_the_backup_came_first(healthy, builds, before)
    assert healthy.holders() == [HOLDER]
