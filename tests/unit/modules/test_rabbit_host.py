"""rabbit_host: what systemd and the network say of this host."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from unittest.mock import create_autospec

import pytest
import salt.modules.cmdmod
import salt.modules.network
import salt.modules.saltutil
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.support import functions, load, not_root

# As systemctl 252 printed them in the lab.
ACTIVE = "ActiveState=active\nExecMainStartTimestampMonotonic=1000000"
INACTIVE = "ActiveState=inactive\nExecMainStartTimestampMonotonic=0"
DEAD_SINCE = "ActiveState=failed\nExecMainStartTimestampMonotonic=5000000"


@pytest.fixture
def run():
    return create_autospec(salt.modules.cmdmod.run_all)


@pytest.fixture
def jobs():
    return create_autospec(salt.modules.saltutil.running, return_value=[])


@pytest.fixture
def rabbit_host(run, jobs, tmp_path):
    network = salt.modules.network
    return load(
        "_modules/rabbit_host.py",
        salt={
            "cmd.run_all": run,
            "saltutil.running": jobs,
            "network.ip_addrs": create_autospec(network.ip_addrs, return_value=["192.0.2.1"]),
            "network.ip_addrs6": create_autospec(network.ip_addrs6, return_value=["2001:db8::1"]),
        },
        opts={"extension_modules": str(tmp_path)},
        utils=functions("rabbit_settings", load("_utils/rabbit_settings.py")),
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


@pytest.mark.parametrize(("reload", "since"), [("success", 9), ("exit-code", 1)])
def test_a_service_s_last_load_is_its_last_good_reload_or_its_start(
    rabbit_host, run, reload, since
):
    changed = "StateChangeTimestampMonotonic=9000000"
    run.return_value = printed(f"{ACTIVE}\nReloadResult={reload}\n{changed}")
    booted = time.time() - time.monotonic()
    assert rabbit_host.service_load_time("haproxy") == pytest.approx(booted + since, abs=0.5)


def test_a_reload_that_is_under_way_is_waited_for(rabbit_host, run):
    tail = "\nReloadResult=success\nStateChangeTimestampMonotonic=9000000"
    under_way = printed(ACTIVE.replace("=active", "=reloading") + tail)
    run.side_effect = [under_way, under_way, printed(ACTIVE + tail)]
    booted = time.time() - time.monotonic()
    loaded = rabbit_host.service_load_time("haproxy", interval=0)
    assert loaded == pytest.approx(booted + 9, abs=0.5)
    run.side_effect = None
    run.return_value = under_way
    with pytest.raises(CommandExecutionError, match="haproxy is still reloading after 0 s"):
        rabbit_host.service_load_time("haproxy", patience=0)


def test_a_reload_that_started_no_new_worker_was_none(rabbit_host, run):
    """HAProxy tells systemd of a reload that failed what it tells of a good one."""
    since = "ReloadResult=success\nStateChangeTimestampMonotonic=9000000\nMainPID={}"
    child = subprocess.Popen(["sleep", "60"])
    try:
        now = time.time()
        later = int((time.monotonic() + 100) * 1e6)
        told = since.replace("9000000", str(later)).format(os.getpid())
        run.return_value = printed(f"{ACTIVE}\n{told}")
        loaded = rabbit_host.service_load_time("haproxy", workers=True)
        assert loaded == pytest.approx(now, abs=1)
        assert rabbit_host.service_load_time("haproxy") == pytest.approx(now + 100, abs=1)
    finally:
        child.kill()
        child.wait()


SAID = (
    "Job for haproxy.service failed because the control process exited with error code.\n"
    'See "systemctl status haproxy.service" and "journalctl -xeu haproxy.service" for details.'
)


@pytest.mark.parametrize("action", ["start", "restart", "reload", "enable"])
def test_what_systemd_does_not_do_is_told_with_what_is_left_and_what_to_do(rabbit_host, action):
    named = "reload_" if action == "reload" else action
    function = getattr(salt.modules.systemd_service, named)
    does = create_autospec(function, side_effect=CommandExecutionError(SAID))
    rabbit_host.__salt__[f"service.{action}"] = does
    with pytest.raises(CommandExecutionError) as raised:
        rabbit_host.systemctl(action, "haproxy", "and the address is elsewhere")
    assert str(raised.value) == (
        f"systemctl {action} haproxy failed, and the address is elsewhere: Job for haproxy.service "
        "failed because the control process exited with error code. Next: journalctl -u haproxy, "
        "then run again"
    )
    does.assert_called_once_with("haproxy")
    does.side_effect = None
    rabbit_host.systemctl(action, "haproxy", no_block=True)
    does.assert_called_with("haproxy", no_block=True)


def test_a_stop_that_fails_is_told_though_salt_only_returns_false(rabbit_host):
    stop = create_autospec(salt.modules.systemd_service.stop, return_value=False)
    rabbit_host.__salt__["service.stop"] = stop
    with pytest.raises(CommandExecutionError, match="^systemctl stop haproxy failed. Next: journ"):
        rabbit_host.systemctl("stop", "haproxy")


@pytest.mark.parametrize(
    ("state", "expected"),
    [("active", True), ("activating", True), ("reloading", True), ("inactive", False)],
)
def test_a_service_that_boots_has_begun(rabbit_host, run, state, expected):
    run.return_value = printed(f"ActiveState={state}")
    assert rabbit_host.service_has_begun("rabbitmq-server") is expected


def test_an_address_of_ipv6_is_held_however_it_is_spelt(rabbit_host):
    spelt = ["2001:DB8::1", "2001:db8:0:0::1", "2001:db8::2", "192.0.2.1"]
    assert rabbit_host.held_addresses(spelt) == [spelt[0], spelt[1], spelt[3]]


def test_the_newest_of_files_and_of_what_is_in_folders_counts(rabbit_host, tmp_path):
    (tmp_path / "conf").mkdir()
    for name in ("main.cfg", "conf/one.cfg"):
        (tmp_path / name).write_text("")
    for number, name in enumerate(("main.cfg", "conf/one.cfg", "conf")):
        os.utime(tmp_path / name, (0, 1000 - number))
    files = [str(tmp_path / name) for name in ("main.cfg", "conf", "none.cfg")]
    assert rabbit_host.last_written(files) == 1000
    os.utime(tmp_path / "conf" / "one.cfg", (0, 2000))
    assert rabbit_host.last_written(files) == 2000
    assert rabbit_host.last_written([files[2]]) is None
    ahead = time.time() + 3600
    os.utime(tmp_path / "conf" / "one.cfg", (0, ahead))
    assert rabbit_host.last_written(files) < ahead - 1800


def unit_as_read(reload="no", drop_ins="", load="loaded"):
    """What ``systemctl show`` prints of a unit."""
    return printed(f"LoadState={load}\nNeedDaemonReload={reload}\nDropInPaths={drop_ins}")


@pytest.mark.parametrize(
    ("text", "written", "expected"),
    [(ACTIVE, 10, True), (ACTIVE, -10, False), (ACTIVE, None, False), (INACTIVE, 10, False)],
)
def test_a_service_that_runs_since_before_a_file_was_written_is_known(
    rabbit_host, run, tmp_path, text, written, expected
):
    run.return_value = printed(text)
    path = tmp_path / "rabbitmq.conf"
    if written is not None:
        path.touch()
        started = time.time() - time.monotonic() + 1
        os.utime(path, (0, started + written))
    assert rabbit_host.runs_since_before("rabbitmq-server", str(path)) is expected


@pytest.mark.parametrize(("answer", "needs"), [("yes", True), ("no", False)])
def test_systemd_tells_whether_a_unit_s_files_changed(rabbit_host, run, answer, needs):
    run.return_value = unit_as_read(answer)
    assert rabbit_host.unit_needs_reload("haproxy") is needs
    assert run.call_args.args[0][-1] == "haproxy"


def test_a_drop_in_that_systemd_has_not_seen_is_one_to_read(
    rabbit_host, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(rabbit_host, "UNITS", str(tmp_path))
    folder = tmp_path / "haproxy.service.d"
    folder.mkdir()
    for name in ("one.conf", "two.conf"):
        (folder / name).touch()
    run.return_value = unit_as_read(drop_ins=f"{folder}/one.conf")
    assert rabbit_host.unit_needs_reload("haproxy") is True
    run.return_value = unit_as_read(drop_ins=f"/lib/a.conf {folder}/one.conf {folder}/two.conf")
    assert rabbit_host.unit_needs_reload("haproxy") is False


def test_a_unit_that_is_not_there_needs_no_reading(rabbit_host, run):
    run.return_value = unit_as_read(reload="yes", load="not-found")
    assert rabbit_host.unit_needs_reload("haproxy") is False


def test_a_systemctl_that_fails_names_the_service(rabbit_host, run):
    run.return_value = printed("", retcode=1, stderr="Failed to connect to bus")
    with pytest.raises(CommandExecutionError, match="^systemctl show haproxy failed: Failed to"):
        rabbit_host.service_start_time("haproxy")


def test_held_addresses_are_those_of_both_families_in_the_order_asked(rabbit_host):
    asked = ["192.0.2.9", "2001:db8::1", "192.0.2.1"]
    assert rabbit_host.held_addresses(asked) == ["2001:db8::1", "192.0.2.1"]


@pytest.fixture
def named(rabbit_host, monkeypatch, tmp_path):
    """Keep the name of this machine: the file that has it, and what the kernel was told."""
    told = []
    monkeypatch.setattr(rabbit_host, "HOSTNAME", str(tmp_path / "hostname"))
    monkeypatch.setattr(rabbit_host.socket, "sethostname", told.append)
    return tmp_path / "hostname", told


@pytest.mark.parametrize("before", ["localhost\n", None])
def test_a_host_is_named_for_now_and_for_its_next_boot(rabbit_host, named, before):
    file, told = named
    if before:
        file.write_text(before)
    rabbit_host.set_hostname("rabbitmq-node2")
    assert (file.read_text(), told) == ("rabbitmq-node2\n", ["rabbitmq-node2"])
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["hostname"]


def test_a_name_that_the_kernel_does_not_take_is_an_error_with_the_next_command(
    rabbit_host, named, monkeypatch
):
    def refuse(name):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(rabbit_host.socket, "sethostname", refuse)
    with pytest.raises(CommandExecutionError, match="not permitted. Next: hostnamectl set-host"):
        rabbit_host.set_hostname("rabbitmq-node2")


def test_files_are_told_by_their_digest_and_missing_ones_by_none(rabbit_host, tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "a.py").write_bytes(b"x = 1\n")
    assert rabbit_host.readiness(["modules/a.py", "modules/b.py"])["modules"] == {
        "modules/a.py": hashlib.sha256(b"x = 1\n").hexdigest(),
        "modules/b.py": None,
    }


def test_running_jobs_are_told_without_their_arguments(rabbit_host, jobs):
    jobs.return_value = [{"fun": "state.apply", "jid": "1", "pid": 7, "arg": ["x"], "user": "root"}]
    assert rabbit_host.readiness([])["jobs"] == [{"fun": "state.apply", "jid": "1", "pid": 7}]


@pytest.fixture
def dpkg(rabbit_host, run, monkeypatch, tmp_path):
    """A host with dpkg: what it lists, and its journal."""

    class Dpkg:
        listed = ["adduser installed", "libc-bin triggers-pending", "ed config-files"]
        journal = tmp_path / "updates"
        # What is listed once a command has run.
        after = {}
        commands = []
        retcode = 1

        def run(self, command, **kwargs):
            if command[0] == "dpkg-query":
                return printed("\n".join(self.listed))
            assert kwargs["python_shell"] is False
            assert command[:3] == ["timeout", "--kill-after=60", "3600"]
            command = command[3:]
            self.commands.append(command)
            self.listed = self.after.get(command[0], self.listed)
            if self.journal.exists() and command[0] == "dpkg":
                (self.journal / "0001").unlink()
            return printed("dependency problems", retcode=self.retcode)

    host = Dpkg()
    host.commands = []
    run.side_effect = host.run
    monkeypatch.setattr(rabbit_host, "DPKG_JOURNAL", str(host.journal))
    monkeypatch.setattr(rabbit_host.salt.utils.path, "which", lambda program: program)
    return host


# As dpkg-query 1.21.22 listed them in the lab after dpkg was killed while it unpacked.
KILLED = ["erlang-asn1 unpacked", "rabbitmq-server half-installed"]


def test_packages_that_were_installed_or_removed_are_finished(rabbit_host, dpkg):
    assert rabbit_host.unfinished_packages() == []


def test_packages_that_were_interrupted_are_listed(rabbit_host, dpkg):
    dpkg.listed = [*dpkg.listed, *KILLED, "erlang-base half-configured"]
    assert rabbit_host.unfinished_packages() == [*KILLED, "erlang-base half-configured"]


def test_a_journal_alone_is_enough_for_apt_to_refuse(rabbit_host, dpkg):
    dpkg.journal.mkdir()
    (dpkg.journal / "0001").write_text("")
    assert rabbit_host.unfinished_packages() == ["dpkg interrupted"]
    rabbit_host.finish_packages()
    assert rabbit_host.unfinished_packages() == []


def test_where_there_is_no_dpkg_nothing_is_unfinished(rabbit_host, run, dpkg, monkeypatch):
    monkeypatch.setattr(rabbit_host.salt.utils.path, "which", lambda program: None)
    assert rabbit_host.unfinished_packages() == []
    run.assert_not_called()


def test_packages_are_finished_by_dpkg_and_then_by_apt_which_removes_none(rabbit_host, dpkg):
    dpkg.listed = KILLED
    dpkg.after = {"dpkg": KILLED[1:], "apt-get": ["rabbitmq-server installed"]}
    rabbit_host.__context__["pkg.list_pkgs"] = {}
    said = rabbit_host.finish_packages()
    assert "--configure -a exited with 1: dependency problems" in said
    first, second = dpkg.commands
    assert first[0] == "dpkg" and first[-2:] == ["--configure", "-a"]
    assert second[0] == "apt-get" and {"--fix-broken", "--no-remove"} <= set(second)
    assert "pkg.list_pkgs" not in rabbit_host.__context__


@pytest.mark.parametrize("retcode", [124, 137])
def test_packages_that_do_not_get_finished_are_not_waited_for_without_an_end(
    rabbit_host, dpkg, retcode
):
    dpkg.retcode = retcode
    said = rabbit_host.finish_packages()
    assert "dpkg --force-confdef --force-confold --configure -a was ended, as it took" in said
    assert said.endswith("Next: dpkg --configure -a on this host, to see what it waits for")
    assert len(dpkg.commands) == 1


def test_a_package_manager_that_is_at_work_is_waited_for(rabbit_host, monkeypatch, tmp_path):
    lock = tmp_path / "lock"
    monkeypatch.setattr(rabbit_host, "DPKG_LOCKS", (str(lock), str(tmp_path / "none")))
    rabbit_host.await_package_manager(patience=0)
    lock.touch()
    rabbit_host.await_package_manager(patience=0)
    program = (
        "import fcntl, sys\nlock = open(sys.argv[1], 'w')\nfcntl.lockf(lock, fcntl.LOCK_EX)\n"
        "print(flush=True)\ninput()"
    )
    command = [sys.executable, "-c", program, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(CommandExecutionError, match="still at work after 0 s"):
            rabbit_host.await_package_manager(patience=0)
        threading.Timer(0.2, other.communicate, args=[b"\n"]).start()
        rabbit_host.await_package_manager(patience=20, interval=0.05)
    assert other.returncode == 0


def test_a_disk_that_became_read_only_is_an_error_with_the_next_command(rabbit_host, monkeypatch):
    def opened(path, mode):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(rabbit_host, "open", opened, raising=False)
    with pytest.raises(CommandExecutionError, match="cannot be opened: Read-only.*Next: dmesg"):
        rabbit_host.await_package_manager(patience=0)


def test_a_dpkg_that_cannot_tell_is_an_error(rabbit_host, run, dpkg):
    run.side_effect = None
    run.return_value = printed("", retcode=2, stderr="database is locked")
    with pytest.raises(CommandExecutionError, match="dpkg-query failed: database is locked"):
        rabbit_host.unfinished_packages()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("# Written by Salt\nheartbeat = 30\n", False),
        ("heartbeat = 30\nssl_options.password = S3cret\n", True),
        ("ssl_options.password=S3cret", True),
        ("auth_http.user_path = http://a:S3cret@host/user", True),
        ("", False),
        ("caf\xe9", False),
    ],
)
def test_a_configuration_file_holds_a_secret_or_none(rabbit_host, tmp_path, text, holds):
    (tmp_path / "rabbitmq.conf").write_text(text, encoding="latin-1")
    assert rabbit_host.holds_secret(str(tmp_path / "rabbitmq.conf")) is holds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("proxy_protocol = true\n", "true"),
        ("#proxy_protocol = true\nmqtt.proxy_protocol = true\n", None),
        # RabbitMQ takes the last one.
        ("proxy_protocol=true\nproxy_protocol = false\n", "false"),
        ("caf\xe9", None),
    ],
)
def test_a_line_of_rabbitmq_conf_is_read(rabbit_host, tmp_path, text, value):
    (tmp_path / "rabbitmq.conf").write_text(text, encoding="latin-1")
    assert rabbit_host.rabbitmq_setting(f"{tmp_path}/rabbitmq.conf", "proxy_protocol") == value
    assert rabbit_host.rabbitmq_setting(f"{tmp_path}/none.conf", "proxy_protocol") is None


def test_a_configuration_file_that_is_not_there_holds_none(rabbit_host, tmp_path):
    assert rabbit_host.holds_secret(str(tmp_path / "rabbitmq.conf")) is False


@pytest.mark.parametrize(
    ("state", "expected"),
    [("active", "f00d"), ("reloading", "f00d"), ("inactive", None), ("failed", None)],
)
def test_a_service_s_start_has_an_identity(rabbit_host, run, state, expected):
    run.return_value = printed(f"ActiveState={state}\nInvocationID=f00d")
    assert rabbit_host.service_invocation("keepalived") == expected


def test_a_minion_that_may_not_read_says_so(rabbit_host, monkeypatch):
    not_root(monkeypatch)
    for question in (rabbit_host.holds_secret, rabbit_host.rabbitmq_setting):
        arguments = ["/etc/rabbitmq/rabbitmq.conf", "proxy_protocol"][
            : question.__code__.co_argcount
        ]
        with pytest.raises(CommandExecutionError, match="denied. Next: let Salt's minion run as"):
            question(*arguments)
