"""rabbit_host: what systemd and the network say of this host."""

import hashlib
import time
from unittest.mock import create_autospec

import pytest
import salt.modules.cmdmod
import salt.modules.network
from salt.exceptions import CommandExecutionError

from tests.support import load

# As systemctl 252 printed them in the lab.
ACTIVE = "ActiveState=active\nExecMainStartTimestampMonotonic=1000000"
INACTIVE = "ActiveState=inactive\nExecMainStartTimestampMonotonic=0"
DEAD_SINCE = "ActiveState=failed\nExecMainStartTimestampMonotonic=5000000"


@pytest.fixture
def run():
    return create_autospec(salt.modules.cmdmod.run_all)


@pytest.fixture
def rabbit_host(run, tmp_path):
    network = salt.modules.network
    return load(
        "_modules/rabbit_host.py",
        salt={
            "cmd.run_all": run,
            "network.ip_addrs": create_autospec(network.ip_addrs, return_value=["192.0.2.1"]),
            "network.ip_addrs6": create_autospec(network.ip_addrs6, return_value=["2001:db8::1"]),
        },
        opts={"extension_modules": str(tmp_path)},
    )


def printed(text, retcode=0, stderr=""):
    return {"retcode": retcode, "stdout": text, "stderr": stderr, "pid": 1}


def test_a_service_s_start_is_told_in_seconds_since_1970(rabbit_host, run):
    run.return_value = printed(ACTIVE)
    booted = time.time() - time.monotonic()
    assert rabbit_host.service_start_time("haproxy") == pytest.approx(booted + 1, abs=0.5)


@pytest.mark.parametrize("text", [INACTIVE, DEAD_SINCE])
def test_a_service_that_does_not_run_has_no_start(rabbit_host, run, text):
    run.return_value = printed(text)
    assert rabbit_host.service_start_time("haproxy") is None


@pytest.mark.parametrize(("answer", "needs"), [("yes", True), ("no", False)])
def test_systemd_tells_whether_a_unit_s_files_changed(rabbit_host, run, answer, needs):
    run.return_value = printed(f"NeedDaemonReload={answer}")
    assert rabbit_host.unit_needs_reload("haproxy") is needs
    assert run.call_args.args[0][-1] == "haproxy"


def test_a_systemctl_that_fails_names_host_and_service(rabbit_host, run):
    run.return_value = printed("", retcode=1, stderr="Failed to connect to bus")
    with pytest.raises(
        CommandExecutionError, match="rabbitmq-node2: systemctl show haproxy failed: Failed to"
    ):
        rabbit_host.service_start_time("haproxy")


def test_held_addresses_are_those_of_both_families_in_the_order_asked(rabbit_host):
    asked = ["192.0.2.9", "2001:db8::1", "192.0.2.1"]
    assert rabbit_host.held_addresses(asked) == ["2001:db8::1", "192.0.2.1"]


def test_files_are_told_by_their_digest_and_missing_ones_by_none(rabbit_host, tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "a.py").write_bytes(b"x = 1\n")
    assert rabbit_host.synced_files(["modules/a.py", "modules/b.py"]) == {
        "modules/a.py": hashlib.sha256(b"x = 1\n").hexdigest(),
        "modules/b.py": None,
    }
