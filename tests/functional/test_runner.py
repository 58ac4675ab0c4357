"""The runner through Salt's own client: pillar really compiled, files really written."""

import fcntl
import getpass
import os
import pathlib
import stat
import subprocess
import sys

import salt.config
import salt.runner
from salt.utils import yaml


def run(opts, function):
    return salt.runner.RunnerClient(opts).cmd(function, [], print_event=False)


def test_secrets_that_the_runner_makes_complete_the_pillar(master):
    before = run(master, "rabbit_ha.validate")["data"]["verdict"]["problems"]
    assert len(before) == 3 + 2 * 2
    assert run(master, "rabbit_ha.secrets")["data"]["verdict"]["result"] is True
    assert run(master, "rabbit_ha.validate")["data"]["verdict"] == {
        "result": True,
        "says": "pillar is complete",
        "problems": [],
        "warnings": [],
    }


def test_secrets_are_for_the_master_s_user_only_whatever_the_umask(master, tmp_path):
    before = os.umask(0)
    try:
        run(master, "rabbit_ha.secrets")
    finally:
        os.umask(before)
    folder = tmp_path / "secrets" / "rabbit_ha" / "secrets"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"broker.sls": 0o600, "load_balancer.sls": 0o600}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_on_problems_salt_run_shows_each_and_exits_with_1(master, tmp_path):
    config = tmp_path / "conf"
    config.mkdir()
    keys = ["root_dir", "cachedir", "pki_dir", "sock_dir", "file_roots", "pillar_roots"]
    keys += ["module_dirs", "extension_modules", "pillar_dirs", "ext_pillar"]
    keys += ["rabbit_ha.secrets_dir"]
    settings = {key: master[key] for key in keys}
    settings |= {"log_file": str(tmp_path / "log"), "user": getpass.getuser()}
    (config / "master").write_text(yaml.safe_dump(settings))
    program = os.path.join(os.path.dirname(sys.executable), "salt-run")
    ran = subprocess.run(
        [program, "--config-dir", config, "rabbit_ha.validate"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 1, ran.stderr
    assert "NOT OK: 7 problems" in ran.stdout
    assert "rabbit_ha:rabbitmq:users:admin:password: found nothing" in ran.stdout


def test_no_deployment_begins_while_another_is_under_way(master):
    with open(pathlib.Path(master["cachedir"], "rabbit_ha.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 7, since yesterday\n")
        lock.flush()
        [problem] = run(master, "rabbit_ha.keep_others_out")["problems"]
    assert "another run is under way on this master: process 7, since yesterday" in problem
    assert run(master, "rabbit_ha.keep_others_out") == {"problems": []}
    # As the steps of one orchestration may.
    assert run(master, "rabbit_ha.keep_others_out") == {"problems": []}
