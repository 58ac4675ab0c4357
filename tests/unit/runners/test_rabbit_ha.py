"""The runner rabbit_ha: minions, pillar and RabbitMQ in memory; files and keys are real."""

import copy
import fcntl
import functools
import hashlib
import inspect
import os
import pathlib
import re
import stat
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock, create_autospec

import pika
import pika.exceptions
import pytest
import salt.client
import salt.config
import salt.key
import salt.runners.pillar
import salt.utils.dictupdate
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from salt.exceptions import CommandExecutionError, SaltClientError
from salt.utils import yaml

from tests.support import ROOT, TOPOLOGY, functions, load, validator

CHECK = validator()[1]
COOKIE_STATE = "The Erlang cookie is the cluster's"
BROKERS = ["rabbitmq-node1", "rabbitmq-node2", "rabbitmq-node3"]
BALANCERS = ["haproxy-keeplive-node1", "haproxy-keeplive-node2"]
NODES = [f"rabbit@{host}" for host in BROKERS]
SECRETS = {
    "rabbitmq": {"users": {"admin": {"password": "S3cretAdmin", "tags": ["administrator"]}}},
    "haproxy": {"monitor": {"password": "S3cretMonitor"}},
    "keepalived": {"authentication": {"auth_pass": "S3cretVr"}},
}
PARTS = {"broker": ["rabbitmq"], "load_balancer": ["haproxy", "keepalived"]}
BROKER_REPORT = {
    "version": "3.10.8",
    "cluster_name": "rabbitmq_cluster1",
    "members": NODES,
    "running": NODES,
    "alarms": [],
    "partitions": [],
    "waits_for_restart": False,
    "under_maintenance": False,
}
BALANCER_REPORT = {
    "haproxy": "running",
    "servers": dict.fromkeys(BROKERS, "UP"),
    "holds": [],
    "vrrp": {"VI_1": "BACKUP"},
}


class Minions:
    """Salt's client to minions which answer by function; ``silent`` ones do not."""

    def __init__(self):
        self._answers = {}
        self._silent = set()
        self._calls = []
        # After how many seconds Salt asks whether the job is still at work.
        self.asked_after = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return False

    def cmd(
        self,
        tgt,
        fun,
        arg=(),
        timeout=None,
        tgt_type="glob",
        ret="",
        jid="",
        full_return=False,
        kwarg=None,
        **kwargs,
    ):
        assert tgt_type == "list" and full_return
        self._calls.append((list(tgt), fun, list(arg), kwarg))
        self.asked_after.append(timeout)
        return {host: self._answer(host, fun) for host in tgt}

    def _answer(self, host, fun):
        if host in self._silent:
            # Both are what Salt's client has for a minion that does not answer.
            return False if host < "r" else {"out": "no_return", "ret": "Minion did not return."}
        if isinstance(fun, list):
            each = {name: self._answer(host, name) for name in fun}
            return {
                "ret": {name: found["ret"] for name, found in each.items()},
                "retcode": {name: found["retcode"] for name, found in each.items()},
            }
        answer = self._answers[fun]
        answer = answer(host) if callable(answer) else answer
        if isinstance(answer, Exception):
            return {"ret": f"ERROR: {answer}", "retcode": 1, "jid": "1"}
        return {"ret": answer, "retcode": 0, "jid": "1"}


class World:
    """A master with a pillar and its minions; ``runner`` is the module under test."""

    def __init__(self, tmp_path, monkeypatch):
        self.pillar = copy.deepcopy(TOPOLOGY)
        self.secrets = copy.deepcopy(SECRETS)
        # Roles to which top.sls does not give what is in the files.
        self.withheld = set()
        self.secrets_dir = str(tmp_path / "pillar")
        self.minions = Minions()
        self.opts = {
            **salt.config.master_config(None),
            "id": "lab_master",
            "root_dir": str(tmp_path),
            "cachedir": str(tmp_path / "cache"),
            "pki_dir": str(tmp_path / "pki"),
            "extension_modules": str(tmp_path / "extmods"),
            "file_roots": {"base": [str(ROOT / "salt")]},
            "pillar_roots": {"base": [self.secrets_dir]},
            "rabbit_ha.secrets_dir": self.secrets_dir,
        }
        show_pillar = create_autospec(salt.runners.pillar.show_pillar, side_effect=self._shown)
        self.runner = load(
            "_runners/rabbit_ha.py",
            salt={"pillar.show_pillar": show_pillar},
            utils=functions("rabbit_settings", load("_utils/rabbit_settings.py"))
            | functions("rabbit_secret_files", load("_utils/rabbit_secret_files.py"))
            | functions("rabbit_run_lock", load("_utils/rabbit_run_lock.py")),
            opts=self.opts,
        )
        monkeypatch.setattr(
            salt.client,
            "get_local_client",
            create_autospec(salt.client.get_local_client, return_value=self.minions),
        )

    def _shown(self, minion="*", **kwargs):
        shown = copy.deepcopy(self.pillar)
        roles = shown.get("hosts", {}).get(minion, {}).get("roles", [])
        for role in roles:
            path = pathlib.Path(self.secrets_dir, "rabbit_ha", "secrets", f"{role}.sls")
            if path.exists() and role not in self.withheld:
                made = yaml.safe_load(path.read_text())["rabbit_ha"]
                salt.utils.dictupdate.update(shown, made)
        for role, parts in PARTS.items():
            if role in roles:
                given = {part: copy.deepcopy(self.secrets.get(part, {})) for part in parts}
                salt.utils.dictupdate.update(shown, given)
        found = CHECK(shown, minion)
        errors, warnings = (
            [one["message"] for one in found if one["severity"] == severity]
            for severity in ("error", "warning")
        )
        return {
            "rabbit_ha": shown,
            "rabbit_ha_findings": {
                "errors": errors,
                "warnings": warnings,
                "missing_secrets": [
                    one["missing_secret"] for one in found if "missing_secret" in one
                ],
            },
        }

    def answers(self, function, answer):
        self.minions._answers[function] = answer

    def silence(self, *hosts):
        self.minions._silent |= set(hosts)

    def calls(self, function):
        """List whom a function was asked for, its arguments and its keyword arguments."""
        return [
            (tgt, arg, kwarg) for tgt, fun, arg, kwarg in self.minions._calls if fun == function
        ]


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def verdict(answer):
    assert answer["outputter"] == "rabbit_ha"
    return answer["data"]["verdict"]


# Pillar


def test_a_complete_pillar_is_valid_and_no_host_is_touched(world):
    answer = world.runner.validate()
    assert verdict(answer) == {
        "result": True,
        "says": "pillar is complete",
        "problems": [],
        "warnings": [],
    }
    assert "retcode" not in answer["data"]
    assert world.minions._calls == []


def test_every_missing_secret_is_told_at_once_with_host_and_next_command(world):
    world.secrets = {"rabbitmq": {}, "haproxy": {}, "keepalived": {}}
    answer = world.runner.validate()
    problems = verdict(answer)["problems"]
    assert len(problems) == len(BROKERS) + 2 * len(BALANCERS)
    assert all("Next: salt-run rabbit_ha.secrets" in problem for problem in problems)
    assert answer["data"]["retcode"] == 1


def test_errors_of_the_topology_and_of_each_host_are_told_together_each_once(world):
    world.pillar["virtual_address"] = None
    world.secrets["rabbitmq"] = {}
    problems = verdict(world.runner.validate())["problems"]
    assert len(problems) == len(BROKERS) + 1
    assert problems[-1].startswith("rabbit_ha:virtual_address: found nothing; expected")


def test_warnings_are_shown_and_stop_nothing(world):
    world.pillar["virtual_address"] = "192.168.0.123"
    answer = world.runner.validate()
    [warning] = verdict(answer)["warnings"]
    assert verdict(answer)["result"] is True
    assert "retcode" not in answer["data"]
    assert warning.startswith("rabbit_ha:virtual_address: found '192.168.0.123', which is outside")
    world.answers("rabbit_host.readiness", ready_host(world))
    assert world.runner.ready()["warnings"] == [warning]


def shows(world, pillar):
    """Let the master compile another pillar for everyone."""
    shown = create_autospec(salt.runners.pillar.show_pillar, return_value=pillar)
    world.runner.__salt__["pillar.show_pillar"] = shown


def test_a_pillar_that_does_not_compile_is_an_error(world):
    shows(world, {"_errors": ["Rendering SLS 'rabbit_ha.topology' failed"]})
    assert verdict(world.runner.validate())["problems"] == [
        "pillar of lab_master: Rendering SLS 'rabbit_ha.topology' failed"
    ]


def test_a_pillar_that_nothing_checked_is_an_error(world):
    shows(world, {"rabbit_ha": TOPOLOGY})
    [problem] = verdict(world.runner.validate())["problems"]
    assert "pillar was not checked" in problem


def test_a_master_without_the_topology_is_told_so(world):
    shows(world, {"other": "pillar"})
    [problem] = verdict(world.runner.validate())["problems"]
    assert problem.startswith("rabbit_ha:hosts: found nothing in the pillar of lab_master")


def test_a_master_that_does_not_serve_this_project_is_told_so(world, tmp_path):
    world.opts["file_roots"] = {"base": [str(tmp_path / "nothing")]}
    [problem] = verdict(world.runner.status())["problems"]
    assert "is not served; file_roots of the master" in problem


PUBLIC = [
    name.removeprefix("rabbit_ha.")
    for name in functions("rabbit_ha", load("_runners/rabbit_ha.py"))
    if name != "rabbit_ha.keep_others_out"
]


def problems_of(answer):
    """List the problems in what a public function returned; salt-run exits with 1."""
    data = answer.get("data", answer)
    assert data["retcode"] == 1
    return data.get("verdict", data)["problems"]


@pytest.mark.parametrize("function", PUBLIC)
@pytest.mark.parametrize(
    ("pillar", "says"),
    [
        ({"other": "pillar"}, "rabbit_ha:hosts: found nothing in the pillar of lab_master"),
        ({"_errors": ["Rendering SLS 'x' failed"]}, "pillar of lab_master: Rendering SLS 'x' f"),
    ],
)
def test_every_function_tells_what_keeps_it_from_the_topology(world, function, pillar, says):
    os.makedirs(world.opts["cachedir"])
    shows(world, pillar)
    [problem] = problems_of(getattr(world.runner, function)())
    assert problem.startswith(says)
    assert world.minions._calls == []


@pytest.mark.parametrize("function", ["ready", "plan", "sync_cookie", "status", "verify"])
def test_a_master_that_does_not_run_is_told_with_the_next_command(world, monkeypatch, function):
    os.makedirs(world.opts["cachedir"])
    refused = SaltClientError("Salt request timed out. The master is not responding.")
    monkeypatch.setattr(salt.client, "get_local_client", Mock(side_effect=refused))
    [problem] = problems_of(getattr(world.runner, function)())
    assert (
        "(Salt request timed out. The master is not responding.). Next, on the master: " in problem
    )


# Secrets


@pytest.fixture
def bare(world):
    """A master whose pillar has no secret yet."""
    world.secrets = {}
    return world


def secret_files(world):
    """Read the files of secrets, by role."""
    folder = pathlib.Path(world.secrets_dir, "rabbit_ha", "secrets")
    return {
        path.stem: yaml.safe_load(path.read_text())["rabbit_ha"] for path in folder.glob("*.sls")
    }


def test_secrets_complete_the_pillar_in_files_that_only_the_master_can_read(bare):
    answer = bare.runner.secrets()
    assert verdict(answer) == {
        "result": True,
        "says": "the secrets are there",
        "problems": [],
        "warnings": [],
    }
    folder = pathlib.Path(bare.secrets_dir, "rabbit_ha", "secrets")
    assert sorted(os.listdir(folder)) == ["broker.sls", "load_balancer.sls"]
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert answer["data"]["files"][str(path)] == {"done": "created"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert verdict(bare.runner.validate())["problems"] == []


def test_secrets_go_to_the_file_of_their_role_and_no_other(bare):
    bare.pillar["rabbitmq"] = {"users": {"one": {"tags": ["monitoring"]}, "two": {"absent": True}}}
    bare.runner.secrets()
    files = secret_files(bare)
    assert {part: list(values) for part, values in files["broker"].items()} == {
        "rabbitmq": ["users"]
    }
    users = files["broker"]["rabbitmq"]["users"]
    assert {name: list(user) for name, user in users.items()} == {
        "admin": ["password"],
        "one": ["password"],
    }
    assert set(files["load_balancer"]) == {"haproxy", "keepalived"}


def test_secrets_that_are_there_stay_as_they_are(bare):
    bare.runner.secrets()
    before = secret_files(bare)
    answer = bare.runner.secrets()
    assert secret_files(bare) == before
    assert {said["done"] for said in answer["data"]["files"].values()} == {
        "already there, left as it is"
    }
    assert verdict(answer)["result"] is True


def test_a_user_described_later_gets_a_password_and_nothing_else_changes(bare):
    bare.runner.secrets()
    before = secret_files(bare)
    bare.pillar["rabbitmq"] = {"users": {"orders": {"tags": ["monitoring"]}}}
    bare.runner.__context__.clear()
    answer = bare.runner.secrets()
    after = secret_files(bare)
    assert len(after["broker"]["rabbitmq"]["users"].pop("orders")["password"]) == 32
    assert after == before
    assert [said["done"] for said in answer["data"]["files"].values()] == [
        "added rabbit_ha:rabbitmq:users:orders:password",
        "already there, left as it is",
    ]


def test_secrets_from_elsewhere_are_enough(world):
    answer = world.runner.secrets()
    assert verdict(answer)["result"] is True
    assert answer["data"]["files"] == {}
    assert not os.path.exists(world.secrets_dir)


def test_secrets_that_top_sls_gives_to_nobody_are_told(bare):
    bare.withheld = {"load_balancer"}
    answer = bare.runner.secrets()
    problems = verdict(answer)["problems"]
    assert len(problems) == 2 and answer["data"]["retcode"] == 1
    assert problems[0].startswith("the pillar of haproxy-keeplive-node")
    assert problems[0].endswith(
        "still lacks rabbit_ha:haproxy:monitor:password. Does pillar's top.sls give "
        "rabbit_ha.secrets.load_balancer to it?"
    )


def test_a_file_written_by_hand_is_left_alone_and_what_it_lacks_is_named(bare):
    path = pathlib.Path(bare.secrets_dir, "rabbit_ha", "secrets", "broker.sls")
    path.parent.mkdir(parents=True)
    text = "# mine\nrabbit_ha: {rabbitmq: {users: {other: {password: S3cret}}}}\n"
    path.write_text(text)
    answer = bare.runner.secrets()
    assert verdict(answer)["problems"] == [
        f"{path}: not made by this command, left as it is; pillar lacks "
        "rabbit_ha:rabbitmq:users:admin:password. Add that there"
    ]
    assert path.read_text() == text
    assert set(secret_files(bare)["load_balancer"]) == {"haproxy", "keepalived"}


def test_secrets_are_random_and_fit_vrrp_s_eight_characters(bare, tmp_path):
    made = []
    for name in ("one", "other"):
        bare.secrets_dir = str(tmp_path / name)
        bare.opts["rabbit_ha.secrets_dir"] = bare.secrets_dir
        bare.opts["pillar_roots"] = {"base": [bare.secrets_dir]}
        bare.runner.__context__.clear()
        bare.runner.secrets()
        files = secret_files(bare)
        made += [
            files["broker"]["rabbitmq"]["users"]["admin"]["password"],
            files["load_balancer"]["haproxy"]["monitor"]["password"],
            files["load_balancer"]["keepalived"]["authentication"]["auth_pass"],
        ]
    assert len(set(made)) == len(made)
    assert [len(secret) for secret in made[:3]] == [32, 32, 8]
    assert all(secret.isalnum() for secret in made)


def test_the_answer_does_not_show_a_secret(bare):
    answer = str(bare.runner.secrets())
    text = str(secret_files(bare))
    secrets = [word for word in re.findall(r"\w+", text) if len(word) in (8, 32)]
    assert len(secrets) >= 3 and not [secret for secret in secrets if f"{secret}'" in answer]


def test_without_a_folder_for_secrets_none_is_made(bare):
    bare.opts["rabbit_ha.secrets_dir"] = None
    answer = bare.runner.secrets()
    assert verdict(answer)["problems"] == [
        "rabbit_ha.secrets_dir is not set in the master's configuration"
    ]


@pytest.mark.parametrize("setting", ["file_roots", "module_dirs"])
def test_where_minions_or_the_checkout_have_it_no_secret_is_made(bare, tmp_path, setting):
    value = [str(tmp_path)]
    bare.opts[setting] = {"base": value} if setting == "file_roots" else value
    [problem] = verdict(bare.runner.secrets())["problems"]
    assert problem.startswith(f"rabbit_ha.secrets_dir is {bare.secrets_dir}, within {tmp_path}: ")
    assert not os.path.exists(bare.secrets_dir)


def test_where_pillar_would_not_see_it_no_secret_is_made(bare, tmp_path):
    bare.opts["pillar_roots"] = {"base": [str(tmp_path)]}
    assert verdict(bare.runner.secrets())["problems"] == [
        f"rabbit_ha.secrets_dir is {bare.secrets_dir}, which is not one of pillar_roots"
    ]


@pytest.mark.parametrize(
    ("pillar", "said"),
    [
        ({"_errors": ["Rendering SLS 'rabbit_ha.secrets.broker' failed"]}, "Rendering SLS"),
        ({"rabbit_ha": TOPOLOGY}, "pillar was not checked"),
        ({"other": 1}, "rabbit_ha:hosts: found nothing"),
        (
            {"rabbit_ha": TOPOLOGY, "rabbit_ha_findings": {"errors": ["no jsonschema"]}},
            "no jsonschema",
        ),
    ],
)
def test_where_pillar_cannot_tell_what_it_lacks_no_secret_is_made(bare, pillar, said):
    shows(bare, pillar)
    answer = bare.runner.secrets()
    assert said in verdict(answer)["problems"][0]
    assert not os.path.exists(bare.secrets_dir)


# Steps of the deployment

SYNC = ["saltutil.sync_utils", "saltutil.sync_modules", "saltutil.sync_states"]


def served_digests(world):
    """Digest the module files as minions get them."""
    return {
        f"{folder}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("modules", "states", "utils")
        for path in (ROOT / f"_{folder}").glob("*.py")
    }


def ready_host(world, jobs=()):
    """What ``rabbit_host.readiness`` returns where modules are up to date."""
    return {"modules": served_digests(world), "jobs": list(jobs)}


def running(function, jid="20260101"):
    return {"fun": function, "jid": jid, "pid": 4711}


def test_ready_asks_all_hosts_once_where_modules_are_up_to_date(world):
    world.answers("rabbit_host.readiness", ready_host(world))
    assert world.runner.ready() == {
        "problems": [],
        "warnings": [],
        "hosts": BROKERS + BALANCERS,
    }
    [(asked, _, _)] = world.calls("rabbit_host.readiness")
    assert asked == BROKERS + BALANCERS
    assert world.calls(SYNC) == []
    assert len(world.minions._calls) == 1


def test_modules_go_only_to_the_hosts_that_lack_them(world):
    missing = CommandExecutionError("'rabbit_host.readiness' is not available.")
    fresh = ready_host(world)
    stale = {**fresh, "modules": {**fresh["modules"], "modules/rabbitmqctl.py": None}}
    # The second of them takes a moment more to load what it got.
    seen = {"rabbitmq-node2": [stale, fresh], "haproxy-keeplive-node1": [missing, missing, fresh]}
    world.answers(
        "rabbit_host.readiness", lambda host: seen[host].pop(0) if host in seen else fresh
    )
    for function in SYNC:
        world.answers(function, ["modules.rabbitmqctl"])
    assert world.runner.ready(interval=0)["problems"] == []
    lacking = ["rabbitmq-node2", "haproxy-keeplive-node1"]
    assert [call[0] for call in world.calls(SYNC)] == [lacking]
    assert [call[0] for call in world.calls("rabbit_host.readiness")] == [
        BROKERS + BALANCERS,
        lacking,
        lacking[1:],
    ]
    assert world.calls("saltutil.running") == []


@pytest.mark.parametrize("hash_type", ["md5", "sha512"])
def test_the_master_s_kind_of_digest_is_of_no_account(world, hash_type):
    world.opts["hash_type"] = hash_type
    world.answers("rabbit_host.readiness", ready_host(world))
    assert world.runner.ready()["problems"] == []
    assert world.calls(SYNC) == []


def test_minions_may_do_without_the_modules_of_others(world, tmp_path):
    for name in ("_modules/other.py", "_modules_old/rabbitmqctl.py", "_utils/other/rabbit_x.py"):
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    world.opts["file_roots"] = {"base": [str(tmp_path / "site"), str(ROOT / "salt")]}
    world.answers("rabbit_host.readiness", ready_host(world))
    assert world.runner.ready()["problems"] == []
    [(_, [names], _)] = world.calls("rabbit_host.readiness")
    assert sorted(names) == sorted(served_digests(world))


def test_modules_that_are_not_there_after_they_were_brought_stop_the_run(world):
    fresh = ready_host(world)
    stale = {**fresh, "modules": {**fresh["modules"], "modules/rabbitmqctl.py": "0" * 64}}
    world.answers(
        "rabbit_host.readiness", lambda host: stale if host == "rabbitmq-node2" else fresh
    )
    for function in SYNC:
        world.answers(function, [])
    [problem] = world.runner.ready(patience=0)["problems"]
    assert problem.startswith("rabbitmq-node2: the modules were brought there, yet they are not")
    assert ": modules/rabbitmqctl.py with other content. Next" in problem
    assert "salt-call state.show_top, which has to name base" in problem
    assert "salt rabbitmq-node2 saltutil.clear_cache" in problem


def test_a_silent_minion_stops_the_deployment_before_any_host_is_touched(world):
    world.answers("rabbit_host.readiness", {"modules": {}, "jobs": []})
    world.silence("rabbitmq-node3", "haproxy-keeplive-node1")
    problems = world.runner.ready()["problems"]
    assert [problem.split(":")[0] for problem in problems] == [
        "rabbitmq-node3",
        "haproxy-keeplive-node1",
    ]
    assert all("does not answer" in problem and "Next: " in problem for problem in problems)
    assert world.calls(SYNC) == []


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("minions_denied", "another key than the one that was accepted, as after the host was"),
        ("minions_pre", "key is not accepted yet"),
        ("minions", "does not answer"),
    ],
)
def test_a_silent_minion_s_key_tells_why(world, folder, says):
    world.answers("rabbit_host.readiness", ready_host(world))
    world.silence("rabbitmq-node3")
    for name in {"minions", folder}:
        path = os.path.join(world.opts["pki_dir"], name)
        os.makedirs(path)
        with open(os.path.join(path, "rabbitmq-node3"), "w") as handle:
            handle.write("a key")
    [problem] = world.runner.ready()["problems"]
    assert says in problem
    assert "no host was touched. Next: " in problem


def test_an_incomplete_pillar_stops_the_deployment_before_any_host_is_asked(world):
    world.secrets["rabbitmq"] = {}
    assert len(world.runner.ready()["problems"]) == len(BROKERS)
    assert world.minions._calls == []


def test_modules_that_cannot_be_brought_to_a_host_are_a_problem(world):
    world.answers("rabbit_host.readiness", {"modules": {}, "jobs": []})
    world.answers(SYNC[0], [])
    world.answers(SYNC[1], CommandExecutionError("disk full"))
    world.answers(SYNC[2], [])
    problems = world.runner.ready()["problems"]
    assert len(problems) == 5
    assert "modules could not be brought there" in problems[0]
    assert "ERROR: disk full" in problems[0]


@pytest.mark.parametrize(
    ("functions", "named"),
    [
        ("state.apply", "state.apply (jid 20260101, PID 4711)"),
        (SYNC, f"{', '.join(SYNC)} (jid 20260101, PID 4711)"),
    ],
)
def test_a_host_that_still_applies_states_is_waited_for_and_named(world, functions, named, caplog):
    busy = iter([[running(functions), running("test.sleep")], []])
    world.answers(
        "rabbit_host.readiness",
        lambda host: ready_host(world, [running(functions)] if host == "rabbitmq-node2" else []),
    )
    world.answers("saltutil.running", lambda host: next(busy))
    found = world.runner.ready(interval=0)
    assert found["problems"] == []
    assert found["warnings"] == [f"rabbitmq-node2: waited for {named}"]
    assert [record.getMessage() for record in caplog.records] == [
        f"rabbitmq-node2 is still at {named}; waiting up to 300 s"
    ]
    assert [call[0] for call in world.calls("saltutil.running")] == [["rabbitmq-node2"]] * 2


def test_a_host_that_goes_on_applying_states_is_told_with_the_way_to_end_it(world):
    world.answers("rabbit_host.readiness", ready_host(world, [running("state.apply")]))
    world.answers("saltutil.running", [running("state.apply")])
    problems = world.runner.ready(patience=0)["problems"]
    assert problems[1] == (
        "rabbitmq-node2: still at state.apply (jid 20260101, PID 4711) after 0 s, perhaps of a run "
        "that was killed; no host was touched. Next: run again later, or end it: "
        "salt rabbitmq-node2 saltutil.kill_job JID"
    )


def test_a_host_that_falls_silent_while_it_is_waited_for_is_a_problem(world):
    def answer(host):
        world.silence("rabbitmq-node2")
        return ready_host(world, [running("state.apply")])

    world.answers("rabbit_host.readiness", answer)
    world.answers("saltutil.running", [])
    problems = world.runner.ready(interval=0)["problems"]
    assert [problem.split(":")[0] for problem in problems] == ["rabbitmq-node2"]
    assert "does not answer" in problems[0]


def test_other_jobs_of_a_host_are_none_of_our_business(world):
    world.answers("rabbit_host.readiness", ready_host(world, [running("test.sleep")]))
    found = world.runner.ready()
    assert (found["problems"], found["warnings"]) == ([], [])


def state_return(result, changes=None, comment=""):
    return {
        "pkg_|-RabbitMQ is installed_|-rabbitmq-server_|-installed": {
            "__id__": "RabbitMQ is installed",
            "result": result,
            "changes": changes or {},
            "comment": comment,
        }
    }


def planned(world):
    """The plan of hosts which were found to be ready just before, as in an orchestration."""
    return world.runner.plan(are_ready=True)


def test_a_plan_brings_the_modules_to_hosts_that_lack_them_or_tells_why_it_cannot(world):
    world.answers("state.apply", state_return(True))
    # As a minion answers that has never had them.
    missing = dict.fromkeys(BROKERS + BALANCERS, CommandExecutionError("is not available"))
    world.answers(
        "rabbit_host.readiness", lambda host: missing.pop(host, None) or ready_host(world)
    )
    for function in SYNC:
        world.answers(function, [])
    assert verdict(world.runner.plan())["says"] == "nothing to do"
    functions = [function for _, function, _, _ in world.minions._calls]
    assert functions.index(SYNC) < functions.index("state.apply")

    world.silence("rabbitmq-node3")
    [problem] = verdict(world.runner.plan())["problems"]
    assert problem.startswith("rabbitmq-node3: the minion does not answer")


def test_plan_asks_all_hosts_in_test_mode_and_names_what_would_change(world, keys):
    world.answers("rabbit_cookie.seal", {})
    would = {"rabbitmq-node2": state_return(None, {"rabbitmq-server": {"new": "installed"}})}
    world.answers("state.apply", lambda host: would.get(host, state_return(True)))
    answer = planned(world)
    assert verdict(answer)["says"] == "1 state on 1 host would change"
    installed = {"RabbitMQ is installed": {"rabbitmq-server": {"new": "installed"}}}
    assert answer["data"]["changes"] == {"rabbitmq-node2": installed}
    (asked, arguments, kwarg), *_ = world.calls("state.apply")
    assert (asked, arguments, kwarg) == (BROKERS + BALANCERS, ["rabbit_ha"], {"test": True})


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (state_return(False, comment="standalone, with content"), "standalone, with content"),
        (["Rendering SLS 'base:rabbit_ha' failed"], "Rendering SLS"),
        (CommandExecutionError("no such function"), "no such function"),
    ],
)
def test_plan_names_the_host_whose_prediction_failed(world, answer, says):
    world.answers(
        "state.apply", lambda host: answer if host == "rabbitmq-node2" else state_return(True)
    )
    [problem] = verdict(planned(world))["problems"]
    assert problem.startswith("rabbitmq-node2: ")
    assert says in problem


@pytest.mark.parametrize(
    "answer",
    [
        state_return(False, comment="rabbitmq-node2: nothing was done"),
        CommandExecutionError("rabbitmq-node2: nothing was done"),
    ],
)
def test_a_problem_names_its_host_once(world, keys, answer):
    world.answers(
        "state.apply", lambda host: answer if host == "rabbitmq-node2" else state_return(True)
    )
    [problem] = verdict(planned(world))["problems"]
    assert re.fullmatch("rabbitmq-node2: [^:]*: nothing was done", problem)

    cannot = CommandExecutionError("rabbitmq-node1: is not there")
    world.answers("rabbit_cookie.seal", cannot)
    assert carried(world)["problems"] == ["rabbitmq-node1: sealing the cookie: is not there"]

    error = {"error": "rabbitmq-node1: rabbitmqctl failed", "state": None}
    world.answers("rabbit_report.host", reports(rabbitmq_node1=error))
    assert verdict(world.runner.status())["problems"] == [
        "rabbitmq-node1: broker: rabbitmqctl failed"
    ]


def test_a_plan_with_nothing_to_do_says_so(world):
    world.answers("state.apply", state_return(True))
    assert verdict(planned(world))["says"] == "nothing to do"
    assert len(world.minions._calls) == 1


def test_a_plan_tells_what_states_warn_of(world):
    warned = state_return(True)
    [state] = warned.values()
    state["warnings"] = ["it waits for a restart"]
    world.answers("state.apply", lambda host: warned if host == BROKERS[1] else state_return(True))
    found = verdict(planned(world))
    assert (found["result"], found["says"]) == (True, "nothing to do")
    assert found["warnings"] == ["rabbitmq-node2: it waits for a restart"]


@pytest.mark.parametrize("there", [True, False])
def test_where_a_broker_would_change_a_plan_carries_the_cookie_in_test_mode(world, keys, there):
    sealed = {"rabbitmq-node2": "sealed 2", "rabbitmq-node3": "sealed 3"}
    world.answers("rabbit_cookie.seal", sealed if there else CommandExecutionError("is not there"))
    world.answers(
        "state.apply", lambda host: state_return(None, {"x": "y"} if host == BROKERS[2] else {})
    )
    assert verdict(planned(world))["problems"] == []
    (_, arguments, _), *carried = world.calls("state.apply")
    assert arguments == ["rabbit_ha"]
    wanted = {"test": True, "pillar": {"rabbit_ha_sealed_cookies": sealed}}
    assert carried == ([(BROKERS, ["rabbit_ha.rabbitmq.cookie"], wanted)] if there else [])
    if not there:
        # The seed makes one when its package is installed; then the others get it.
        told = planned(world)["data"]["changes"]
        assert {host for host, states in told.items() if COOKIE_STATE in states} == {*BROKERS[1:]}


@pytest.mark.parametrize("new", [BROKERS[1:], BROKERS[2:]])
@pytest.mark.parametrize(
    "state_id", ["RabbitMQ is installed", "RabbitMQ runs with its configuration", "Another one"]
)
def test_a_hurried_plan_asks_for_the_cookie_unless_all_brokers_that_get_it_are_new(
    world, keys, new, state_id
):
    world.answers("rabbit_cookie.seal", {})
    changed = state_return(None, {"x": "y"})
    [state] = changed.values()
    state["__id__"] = state_id
    world.answers("state.apply", lambda host: changed if host in new else state_return(True))
    found = world.runner.plan(are_ready=True, in_detail=False)["data"]["changes"]
    assert {*found} == {*new}
    all_new = new == BROKERS[1:] and state_id != "Another one"
    assert bool(world.calls("rabbit_cookie.seal")) is not all_new


def test_a_plan_of_a_wrong_pillar_asks_no_host(world):
    world.secrets["rabbitmq"] = {}
    assert verdict(world.runner.plan())["result"] is False
    assert world.minions._calls == []


def test_a_host_that_falls_silent_is_a_problem_not_a_host_without_changes(world):
    world.answers("state.apply", state_return(True))
    world.silence("rabbitmq-node1", "haproxy-keeplive-node2")
    problems = verdict(planned(world))["problems"]
    assert len(problems) == 2
    assert all("did not answer" in problem for problem in problems)


@pytest.fixture
def keys(world):
    """Accept a key of each broker; returns a mapping from minion to what was written."""
    world.answers("rabbit_report.broker", clustered({}))
    folder = os.path.join(world.opts["pki_dir"], "minions")
    os.makedirs(folder)
    accepted = {
        host: f"-----BEGIN PUBLIC KEY-----\n{host}\n-----END PUBLIC KEY-----" for host in BROKERS
    }
    for host, text in accepted.items():
        with open(os.path.join(folder, host), "w") as handle:
            handle.write(text)
    return accepted


def carried(world, **options):
    """Carry the cookie to hosts which were found to be ready just before, as an orchestration."""
    return world.runner.sync_cookie(are_ready=True, **options)


def clustered(members):
    """Answer ``rabbit_report.broker`` from a mapping of host to the hosts it lists."""
    return lambda host: {
        **BROKER_REPORT,
        "members": [f"rabbit@{member}" for member in members.get(host, [host])],
    }


@pytest.mark.parametrize("known", [BROKERS, BROKERS[1:]])
def test_a_seed_that_is_new_gets_the_cookie_of_the_cluster_that_others_form(world, keys, known):
    old = dict.fromkeys(BROKERS[1:], known)
    world.answers("rabbit_report.broker", clustered(old))
    world.answers("rabbit_cookie.seal", {})
    world.answers("state.apply", {})
    assert carried(world) == {"problems": [], "changes": {}}
    [(asked, [public], _)] = world.calls("rabbit_cookie.seal")
    assert asked == ["rabbitmq-node2"]
    assert list(public) == ["rabbitmq-node1", "rabbitmq-node3"]


@pytest.mark.parametrize(
    "members",
    [
        {},
        dict.fromkeys(BROKERS, BROKERS),
        {BROKERS[2]: BROKERS[1:], **dict.fromkeys(BROKERS[:2], BROKERS[:2])},
    ],
)
def test_otherwise_the_seed_gives_the_cookie(world, keys, members):
    world.answers("rabbit_report.broker", clustered(members))
    world.answers("rabbit_cookie.seal", {})
    world.answers("state.apply", {})
    carried(world)
    assert world.calls("rabbit_cookie.seal")[0][0] == ["rabbitmq-node1"]


def test_brokers_that_hang_are_waited_for_before_anyone_gives_a_cookie(world, keys, monkeypatch):
    slept = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(world.runner, "time", clock)
    old = clustered(dict.fromkeys(BROKERS[1:], BROKERS))
    hangs = {"error": "unreachable: timed out", "state": "unreachable"}
    world.answers(
        "rabbit_report.broker",
        lambda host: hangs if host != BROKERS[0] and len(slept) < 2 else old(host),
    )
    world.answers("rabbit_cookie.seal", {})
    world.answers("state.apply", {})
    assert carried(world)["problems"] == []
    assert world.calls("rabbit_cookie.seal")[0][0] == ["rabbitmq-node2"]
    assert slept == [3, 3]


def test_a_broker_that_goes_on_hanging_keeps_all_cookies_as_they_are(world, keys):
    world.answers("rabbit_report.broker", {"error": "unreachable", "state": "unreachable"})
    problems = carried(world, patience=0)["problems"]
    assert len(problems) == 3
    assert problems[1].startswith("rabbitmq-node2: the broker runs and does not answer")
    assert world.calls("rabbit_cookie.seal") == world.calls("state.apply") == []


@pytest.mark.parametrize("function", ["sync_cookie", "plan"])
def test_a_broker_that_cannot_tell_its_cluster_keeps_all_cookies_as_they_are(world, keys, function):
    cannot = CommandExecutionError("pillar is wrong")
    alone = clustered({})
    world.answers(
        "rabbit_report.broker", lambda host: cannot if host in BROKERS[1:] else alone(host)
    )
    world.answers("state.apply", state_return(None, {"new": "x"}))
    found = getattr(world.runner, function)(are_ready=True)
    problems = found["problems"] if function == "sync_cookie" else verdict(found)["problems"]
    assert problems == [
        f"{host}: looking for the broker that has the cluster's Erlang cookie: "
        "ERROR: pillar is wrong"
        for host in BROKERS[1:]
    ]
    assert world.calls("rabbit_cookie.seal") == []


def test_the_cookie_is_carried_by_hand_as_carefully_as_in_an_orchestration(world, keys):
    world.answers("rabbit_host.readiness", ready_host(world))
    world.answers("rabbit_cookie.seal", {})
    world.answers("state.apply", {})
    lock = pathlib.Path(world.opts["cachedir"], "rabbit_ha.lock")
    lock.parent.mkdir()
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        [problem] = problems_of(world.runner.sync_cookie())
    assert "another run is under way on this master" in problem
    assert world.minions._calls == []

    assert world.runner.sync_cookie() == {"problems": [], "changes": {}}
    assert world.minions._calls[0][:2] == (BROKERS + BALANCERS, "rabbit_host.readiness")
    world.silence("rabbitmq-node3")
    [problem] = problems_of(world.runner.sync_cookie())
    assert problem.startswith("rabbitmq-node3: the minion does not answer; no host was touched.")


def test_the_seed_seals_its_cookie_for_the_keys_that_the_master_accepted(world, keys):
    sealed = {"rabbitmq-node2": "sealed 2", "rabbitmq-node3": "sealed 3"}
    world.answers("rabbit_cookie.seal", sealed)
    world.answers("state.apply", state_return(True))
    assert carried(world) == {"problems": [], "changes": {}}
    [(asked, [public], _)] = world.calls("rabbit_cookie.seal")
    assert asked == ["rabbitmq-node1"]
    assert {host: key.strip() for host, key in public.items()} == {
        host: keys[host] for host in BROKERS[1:]
    }
    [(asked, _, kwarg)] = world.calls("state.apply")
    # The seed too: it has to load its configuration.
    assert asked == BROKERS
    assert kwarg == {"test": False, "pillar": {"rabbit_ha_sealed_cookies": sealed}}


def test_brokers_whose_cookie_changed_are_told(world, keys):
    world.answers("rabbit_cookie.seal", {})
    changed = state_return(True, {"erlang_cookie": "replaced"})
    world.answers("state.apply", lambda host: changed if host == "rabbitmq-node3" else {})
    assert carried(world)["changes"] == {
        "rabbitmq-node3": {"RabbitMQ is installed": {"erlang_cookie": "replaced"}}
    }


def test_a_broker_whose_key_is_not_accepted_is_told_and_nothing_is_sealed(world, keys):
    os.remove(os.path.join(world.opts["pki_dir"], "minions", "rabbitmq-node3"))
    found = carried(world)
    assert found["problems"] == ["rabbitmq-node3: the master has no accepted key"]
    assert world.calls("rabbit_cookie.seal") == world.calls("state.apply") == []


def test_a_seed_that_cannot_seal_stops_the_way_of_the_cookie(world, keys):
    world.answers("rabbit_cookie.seal", CommandExecutionError(".erlang.cookie is not there"))
    [problem] = carried(world)["problems"]
    assert problem.startswith("rabbitmq-node1: sealing the cookie: ")
    assert world.calls("state.apply") == []


def test_a_host_that_lost_its_job_is_found_out_soon(world, keys):
    world.answers("rabbit_cookie.seal", {})
    world.answers("state.apply", {})
    world.runner.plan(are_ready=True)
    carried(world)
    assert max(world.minions.asked_after) <= 15


def test_brokers_that_fail_or_fall_silent_are_each_a_problem(world, keys):
    world.answers("rabbit_cookie.seal", {})
    failure = state_return(False, comment="did not start")
    world.answers("state.apply", lambda host: failure if host == "rabbitmq-node2" else {})
    world.silence("rabbitmq-node3")
    failed, silent = carried(world)["problems"]
    assert failed == "rabbitmq-node2: RabbitMQ is installed: did not start"
    assert silent.startswith("rabbitmq-node3: ") and "did not answer" in silent


@pytest.mark.parametrize("case", ["cookie in pillar", "one broker"])
def test_no_cookie_travels_where_pillar_has_it_or_nobody_needs_it(world, case):
    if case == "one broker":
        world.pillar["hosts"] = {"rabbitmq-node1": TOPOLOGY["hosts"]["rabbitmq-node1"]}
    else:
        world.pillar["rabbitmq"] = {"erlang_cookie": "C"}
    assert carried(world) == {"problems": [], "changes": {}}
    assert world.minions._calls == []


# What is there now


def reports(**changes):
    """Let every host report that all is well, but for some; keys have _ for -."""
    changes = {host.replace("_", "-"): change for host, change in changes.items()}

    def answer(host):
        change = changes.get(host, {})
        if isinstance(change, Exception):
            return change
        if host in BROKERS:
            return {"broker": {**BROKER_REPORT, **change}}
        holds = ["192.168.123.123"] if host == BALANCERS[0] else []
        return {"load_balancer": {**BALANCER_REPORT, "holds": holds, **change}}

    return answer


def test_a_cluster_where_all_is_well_has_no_problem(world):
    world.answers("rabbit_report.host", reports())
    answer = world.runner.status()
    assert verdict(answer)["result"] is True
    assert list(answer["data"]["brokers"]) == BROKERS
    assert list(answer["data"]["load_balancers"]) == BALANCERS
    assert "retcode" not in answer["data"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"rabbitmq_node2": {"members": NODES[1:2], "running": NODES[1:2]}},
            "rabbitmq-node2: sees the members rabbit@rabbitmq-node2; expected .*node1.*node3",
        ),
        (
            {"rabbitmq_node2": {"members": [*NODES, "rabbit@rabbitmq-node9"]}},
            "rabbitmq-node2: sees the members .*rabbitmq-node9.* Next: give rabbitmq-node9 the "
            "role broker below rabbit_ha:hosts, or .* in rabbit_ha:rabbitmq:absent_members",
        ),
        (
            {"rabbitmq_node1": {"running": NODES[:2]}},
            "rabbitmq-node1: sees rabbit@rabbitmq-node3 not running",
        ),
        ({"rabbitmq_node1": {"alarms": ["memory on x"]}}, "rabbitmq-node1: alarms: memory on x"),
        ({"rabbitmq_node1": {"under_maintenance": True}}, "rabbitmq-node1: is under .* revive"),
        ({"rabbitmq_node1": {"partitions": ["x"]}}, "rabbitmq-node1: partitioned from x"),
        ({"rabbitmq_node1": {"error": "app stopped"}}, "rabbitmq-node1: broker: app stopped"),
        (
            {"rabbitmq_node1": {"error": "unreachable: timed out", "state": "unreachable"}},
            "rabbitmq-node1: broker: unreachable: timed out",
        ),
        (
            {"haproxy_keeplive_node2": {"haproxy": "not answering: refused", "servers": {}}},
            r"haproxy-keeplive-node2: HAProxy is down \(not answering: refused\)\. Next: systemctl",
        ),
        (
            {"rabbitmq_node1": CommandExecutionError("no such function")},
            "rabbitmq-node1: broker: .*no such function",
        ),
        (
            {
                "haproxy_keeplive_node2": {
                    "servers": {**BALANCER_REPORT["servers"], BROKERS[0]: "DOWN"}
                }
            },
            "haproxy-keeplive-node2: HAProxy sees rabbitmq-node1 DOWN; expected UP",
        ),
        (
            {"haproxy_keeplive_node2": {"servers": dict.fromkeys(BROKERS[:2], "UP")}},
            "haproxy-keeplive-node2: HAProxy sees rabbitmq-node3 not configured",
        ),
        (
            {"haproxy_keeplive_node1": {"holds": []}},
            "192.168.123.123 is held by no host; expected exactly one",
        ),
        (
            {"haproxy_keeplive_node2": {"holds": ["192.168.123.123"]}},
            "192.168.123.123 is held by haproxy-keeplive-node1, haproxy-keeplive-node2; expected",
        ),
    ],
)
def test_what_is_wrong_is_told_with_host_and_what_was_expected(world, changes, says):
    world.answers("rabbit_report.host", reports(**changes))
    answer = world.runner.status()
    [problem] = verdict(answer)["problems"]
    assert re.match(says, problem)
    assert answer["data"]["retcode"] == 1


def test_a_broker_that_waits_for_a_restart_is_well_and_told(world):
    world.answers("rabbit_report.host", reports(rabbitmq_node2={"waits_for_restart": True}))
    found = verdict(world.runner.status())
    assert (found["result"], found["says"]) == (True, "all is well")
    [warning] = found["warnings"]
    assert warning.startswith("rabbitmq-node2: broker: its configuration was written since")


def test_a_host_that_does_not_answer_is_a_problem_of_each_of_its_roles(world):
    world.answers("rabbit_report.host", reports())
    world.silence("rabbitmq-node3")
    [problem] = verdict(world.runner.status())["problems"]
    assert problem == (
        "rabbitmq-node3: broker: the minion does not answer. Next: on rabbitmq-node3, systemctl "
        "status salt-minion"
    )


def test_a_host_whose_own_pillar_does_not_give_it_its_role_is_told(world):
    answer = reports()
    world.answers("rabbit_report.host", lambda host: {} if host == BROKERS[1] else answer(host))
    [problem] = verdict(world.runner.status())["problems"]
    assert problem.startswith("rabbitmq-node2: broker: its own pillar does not say so. Next: ")


def test_what_others_saw_before_a_silent_host_was_waited_for_is_asked_anew(world):
    asked = []

    def answer(host):
        asked.append(host)
        # The address moves while the holder, which is off, is waited for.
        holds = ["192.168.123.123"] if asked.count(BALANCERS[1]) > 1 else []
        changes = {BALANCERS[1].replace("-", "_"): {"holds": holds}}
        return reports(**changes)(host)

    world.answers("rabbit_report.host", answer)
    world.silence(BALANCERS[0])
    [problem] = verdict(world.runner.status())["problems"]
    assert problem.startswith(
        "haproxy-keeplive-node1: load balancer: the minion does not answer. Next: "
    )


def test_an_address_that_nobody_known_holds_may_be_where_nobody_could_be_asked(world):
    world.answers("rabbit_report.host", reports())
    world.silence(BALANCERS[0])
    problems = verdict(world.runner.status())["problems"]
    assert problems[-1] == (
        "192.168.123.123 is held by no host (haproxy-keeplive-node1 could not be asked); expected "
        "exactly one load balancer"
    )


@pytest.mark.parametrize("function", ["status", "verify"])
@pytest.mark.parametrize(
    "wrong", [{"haproxy": None}, {"keepalived": None}, {"virtual_address": "192.168.123.36"}]
)
def test_with_errors_in_pillar_no_host_is_asked_and_each_is_told(world, function, wrong):
    world.pillar.update(wrong)
    answer = getattr(world.runner, function)()
    [problem] = verdict(answer)["problems"]
    assert problem.startswith(f"rabbit_ha:{next(iter(wrong))}")
    assert (answer["data"]["retcode"], answer["data"]["brokers"]) == (1, {})
    assert world.minions.asked_after == []


def test_a_broker_that_waits_for_one_that_is_gone_is_not_blamed_and_comes_after_it(world):
    waits = {"error": "unreachable: timed out", "state": "unreachable"}
    world.answers("rabbit_report.host", reports(rabbitmq_node1=waits))
    world.silence("rabbitmq-node3")
    first, second = verdict(world.runner.status())["problems"]
    assert first.startswith("rabbitmq-node3: broker: the minion does not answer. Next: ")
    assert second == (
        "rabbitmq-node1: broker: does not answer yet, which is usual for a minute after another "
        "one is gone (rabbitmq-node3)"
    )


def test_a_server_that_is_about_to_go_down_is_still_up(world):
    going = {**BALANCER_REPORT["servers"], "rabbitmq-node1": "UP 1/2"}
    world.answers("rabbit_report.host", reports(haproxy_keeplive_node1={"servers": going}))
    assert verdict(world.runner.status())["result"] is True


# Messages


class Broker:
    """Enough of an AMQP broker; ``loses`` and ``doubles`` by number of the message."""

    def __init__(self):
        self.queues, self.deleted = {}, []
        self.loses, self.doubles, self.refuses = set(), set(), set()
        self.parameters = self.declared = None
        self.never_confirms = set()
        self.consumers, self.most = {}, 0
        self.connections, self.closed = [], []

    def connect(self, parameters):
        self.parameters = parameters
        self.connections.append(len(self.connections))
        close = functools.partial(self.closed.append, self.connections[-1])
        return Connection(self, close)


class Connection:
    """What the runner uses of pika's blocking connection."""

    def __init__(self, broker, close):
        self._broker, self._close = broker, close

    def close(self, reply_code=200, reply_text="Normal shutdown"):
        self._close()

    def channel(self, channel_number=None):
        return Channel(self._broker, self)

    def process_data_events(self, time_limit=0):
        assert time_limit, "would be busy"
        time.sleep(0.001)
        for queue, take in self._broker.consumers.items():
            waiting = self._broker.queues[queue]
            self._broker.most = max(self._broker.most, len(waiting))
            while waiting:
                take(self.channel(), SimpleNamespace(delivery_tag=1), None, waiting.pop(0))


class Channel:
    """What the runner uses of pika's blocking channel."""

    def __init__(self, broker, connection):
        self._broker, self.connection = broker, connection
        self._confirms = False

    def confirm_delivery(self):
        self._confirms = True

    def basic_qos(self, prefetch_size=0, prefetch_count=0, global_qos=False):
        assert prefetch_count > 0

    def queue_declare(
        self,
        queue,
        passive=False,
        durable=False,
        exclusive=False,
        auto_delete=False,
        arguments=None,
    ):
        assert durable and arguments["x-expires"] > 0
        self._broker.queues[queue] = []
        self._broker.declared = arguments

    def queue_delete(self, queue, if_unused=False, if_empty=False):
        del self._broker.queues[queue]
        self._broker.consumers.pop(queue, None)
        self._broker.deleted.append(queue)

    def basic_publish(self, exchange, routing_key, body, properties=None, mandatory=False):
        assert self._confirms and mandatory and properties.delivery_mode == 2
        number = int(body)
        if number in self._broker.never_confirms:
            threading.Event().wait(10)
        if number in self._broker.refuses:
            raise pika.exceptions.NackError([])
        if number not in self._broker.loses:
            copies = 2 if number in self._broker.doubles else 1
            self._broker.queues[routing_key] += [body] * copies

    def basic_consume(
        self,
        queue,
        on_message_callback,
        auto_ack=False,
        exclusive=False,
        consumer_tag=None,
        arguments=None,
    ):
        assert not auto_ack
        self._broker.consumers[queue] = on_message_callback

    def basic_ack(self, delivery_tag=0, multiple=False):
        """Nothing here is delivered twice for want of it."""


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (Channel, BlockingChannel),
        (Connection, BlockingConnection),
        (Minions, salt.client.LocalClient),
    ],
)
def test_what_is_in_memory_takes_what_the_real_one_takes(fake, real):
    for name, method in inspect.getmembers(fake, inspect.isfunction):
        if not name.startswith("_"):
            wanted = inspect.signature(getattr(real, name)).parameters
            assert list(inspect.signature(method).parameters) == list(wanted), name


@pytest.fixture
def broker(world, monkeypatch):
    broker = Broker()
    monkeypatch.setattr(pika, "BlockingConnection", broker.connect)
    world.runner.LOST_AFTER = 0.1
    world.answers("rabbit_report.host", reports())
    return broker


def test_verify_sends_through_the_virtual_address_as_the_administrator(world, broker):
    answer = world.runner.verify(messages=10)
    assert verdict(answer)["result"] is True
    [counted] = answer["data"]["messages"]
    assert (counted["confirmed"], counted["consumed"]) == (10, 10)
    assert (broker.parameters.host, broker.parameters.port) == ("192.168.123.123", 5672)
    assert broker.parameters.credentials.username == "admin"
    assert broker.parameters.virtual_host == "/"
    assert "S3cret" not in str(answer)


EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def test_verify_tells_what_is_wrong_in_the_pillar_of_the_broker_it_sends_as(world, broker):
    whole = world.runner.__salt__["pillar.show_pillar"]
    only = {BROKERS[0]: {"_errors": ["Rendering SLS 'x' failed"]}}
    world.runner.__salt__["pillar.show_pillar"] = lambda minion: only.get(minion) or whole(minion)
    answer = world.runner.verify()
    assert problems_of(answer) == ["pillar of rabbitmq-node1: Rendering SLS 'x' failed"]
    assert list(answer["data"]["brokers"]) == BROKERS


@pytest.mark.parametrize("admin", [{}, {"permissions": {"/": {"absent": True}}}])
def test_verify_sends_in_a_vhost_where_the_administrator_has_permissions(world, broker, admin):
    rights = {**admin.get("permissions", {}), "orders": EVERYTHING, "gone": EVERYTHING}
    vhosts = {"gone": {"absent": True}, "orders": {}} | ({} if admin else {"/": {"absent": True}})
    world.secrets["rabbitmq"]["users"]["admin"]["permissions"] = rights
    world.pillar["rabbitmq"] = {"vhosts": vhosts}
    assert verdict(world.runner.verify(messages=1))["result"] is True
    assert broker.parameters.virtual_host == "orders"


def test_an_administrator_without_permissions_cannot_verify(world, broker):
    world.pillar["rabbitmq"] = {"vhosts": {"/": {"absent": True}, "orders": {}}}
    answer = world.runner.verify(patience=0)
    [problem] = verdict(answer)["problems"]
    assert "gives no administrator permissions" in problem
    assert (verdict(answer)["result"], answer["data"]["messages"]) == (False, [])
    # What was seen before is told.
    assert all(seen["members"] for seen in answer["data"]["brokers"].values())


def test_verify_sends_through_each_virtual_address(world, broker):
    instances = {"VI_2": {"virtual_router_id": 2, "virtual_addresses": ["192.168.123.124/24"]}}
    world.pillar["keepalived"] = {"instances": instances}
    answer = world.runner.verify(messages=5, patience=0)
    assert [(one["address"], one["consumed"]) for one in answer["data"]["messages"]] == [
        ("192.168.123.123:5672", 5),
        ("192.168.123.124:5672", 5),
    ]
    # The reports of this test say nothing of it.
    assert "192.168.123.124 is held by no host" in str(verdict(answer)["problems"])


def test_verify_leaves_no_queue_and_no_connection_behind(world, broker):
    world.runner.verify(messages=1)
    assert (broker.queues, len(broker.deleted)) == ({}, 1)
    assert sorted(broker.closed) == broker.connections


def test_verify_publishes_over_more_connections_than_there_are_brokers(world, broker):
    world.runner.verify(messages=10)
    # One consumes.
    assert len(broker.connections) - 1 > len(BROKERS)


def test_a_message_that_was_confirmed_and_lost_is_a_problem(world, broker):
    broker.loses = {3}
    answer = world.runner.verify(messages=5)
    [problem] = verdict(answer)["problems"]
    assert "5 confirmed, but 4 consumed; expected 5" in problem
    assert answer["data"]["retcode"] == 1
    assert broker.queues == {}


def test_a_message_that_comes_twice_does_not_stand_in_for_a_lost_one(world, broker):
    broker.loses, broker.doubles = {3}, {1}
    assert verdict(world.runner.verify(messages=5))["result"] is False


def test_a_message_that_is_not_confirmed_is_a_problem_and_the_queue_goes(world, broker):
    broker.refuses = {2}
    [problem] = verdict(world.runner.verify(messages=5))["problems"]
    assert "NackError" in problem and "4 of 5 confirmed" in problem
    assert broker.queues == {}


def test_a_confirm_that_never_comes_is_waited_for_but_not_forever(world, broker):
    broker.never_confirms = {2}
    world.runner.UNCONFIRMED = 0.1
    [problem] = verdict(world.runner.verify(messages=5))["problems"]
    assert "TimeoutError no confirm came for 0.1 s; 4 of 5 confirmed, 4 consumed" in problem
    assert broker.queues == {}


@pytest.mark.parametrize("vhost", [{}, {"default_queue_type": "stream"}])
def test_verify_s_queue_is_no_stream_where_others_are(world, broker, vhost):
    world.pillar["rabbitmq"] = {"vhosts": {"/": vhost}}
    assert verdict(world.runner.verify(messages=1))["problems"] == []
    assert broker.declared.get("x-queue-type") == ("quorum" if vhost else None)


def test_no_more_messages_are_under_way_than_a_policy_on_lengths_would_leave(world, broker):
    answer = world.runner.verify(messages=200)
    assert answer["data"]["messages"][0]["consumed"] == 200
    assert broker.most <= 2 * len(BROKERS)


def test_messages_that_are_dropped_all_the_time_end_the_sending(world, broker):
    broker.loses = set(range(1000))
    [problem] = verdict(world.runner.verify(messages=1000))["problems"]
    assert f"{2 * len(BROKERS)} confirmed, but 0 consumed; expected 1000" in problem
    assert broker.queues == {}


def limiting(**policies):
    """Policies with a limit, by name: where they are and what they are for."""
    limit = {"pattern": "", "definition": {"max-length": 1}}
    return {"policies": {name: {**limit, **said} for name, said in policies.items()}}


@pytest.mark.parametrize("trouble", ["loses", "refuses"])
def test_a_policy_that_limits_the_queue_is_told_where_messages_do_not_come_back(
    world, broker, trouble
):
    low = {"priority": -1, "definition": {"message-ttl": 1}}
    world.pillar["rabbitmq"] = limiting(short={}, low=low, others={"pattern": "^orders"})
    setattr(broker, trouble, {3})
    [problem] = verdict(world.runner.verify(messages=5))["problems"]
    assert (
        "The policy short of / (max-length) is for this queue too and may have dropped or refused"
    ) in problem


@pytest.mark.parametrize(
    "policies",
    [
        {"other": {"vhost": "orders"}},
        {"other": {"pattern": "^orders"}},
        {"other": {"apply-to": "exchanges"}},
        {"gone": {"absent": True}},
        # RabbitMQ applies this one alone.
        {"low": {}, "high": {"priority": 5, "definition": {"ha-mode": "all"}}},
    ],
)
def test_a_policy_that_is_not_the_queue_s_explains_nothing(world, broker, policies):
    world.pillar["rabbitmq"] = {"vhosts": {"/": {}, "orders": {}}, **limiting(**policies)}
    broker.loses = {3}
    [problem] = verdict(world.runner.verify(messages=5))["problems"]
    assert problem.endswith("4 consumed; expected 5.")


RIGHTS = [
    {**EVERYTHING, "configure": "^orders"},
    {**EVERYTHING, "read": ""},
    {**EVERYTHING, "write": "^rabbit_ha"},
]


@pytest.mark.parametrize("rights", RIGHTS)
def test_verify_is_somebody_whose_permissions_are_for_its_queue(world, broker, rights):
    users = world.secrets["rabbitmq"]["users"]
    users["admin"]["permissions"] = {"/": rights}
    users["second"] = {**users["admin"], "permissions": {"/": EVERYTHING}}
    assert verdict(world.runner.verify(messages=1))["result"] is True
    assert broker.parameters.credentials.username == "second"


def test_expressions_that_only_rabbitmq_takes_are_left_to_it(world, broker):
    rights = {**EVERYTHING, "read": r"\Qrabbit_ha\E(?|.)"}
    world.secrets["rabbitmq"]["users"]["admin"]["permissions"] = {"/": rights}
    assert verdict(world.runner.verify(messages=1))["result"] is True
    assert broker.parameters.credentials.username == "admin"


@pytest.mark.parametrize(
    ("admin", "vhost", "said"),
    [
        ({"permissions": {"/": RIGHTS[0]}}, {}, "admin in /: configure does not allow it"),
        (
            {"permissions": {"/": {**RIGHTS[0], "read": ""}}},
            {},
            "admin in /: configure and read do not allow it",
        ),
        ({"limits": {"max-connections": 1}}, {}, "admin in /: a limit of 1 connections"),
        ({"limits": {"max-channels": 0}}, {}, "admin in /: a limit of 0 connections or channels"),
        ({}, {"limits": {"max-connections": 1}}, "admin in /: a limit of 1 connections"),
        ({}, {"limits": {"max-queues": 0}}, "admin in /: a limit of 0 queues"),
    ],
)
def test_where_no_administrator_may_send_no_messages_are_sent_and_that_is_told(
    world, broker, admin, vhost, said
):
    world.secrets["rabbitmq"]["users"]["admin"] |= admin
    world.pillar["rabbitmq"] = {"vhosts": {"/": vhost}}
    found = verdict(world.runner.verify(messages=1))
    assert (found["result"], found["says"]) == (True, "all is well")
    assert found["warnings"][-1].startswith("no messages were sent: no administrator of pillar may")
    assert said in found["warnings"][-1]
    assert broker.parameters is None


@pytest.mark.parametrize(
    ("limits", "connections"),
    [
        ({"max-connections": 4}, 4),
        ({"max-connections": 4, "absent": True}, 7),
        ({"max-connections": -1}, 7),
        ({"max-connections": 100}, 7),
    ],
)
def test_verify_has_no_more_connections_than_limits_leave(world, broker, limits, connections):
    world.pillar["rabbitmq"] = {"vhosts": {"/": {"limits": limits}}}
    answer = world.runner.verify(messages=20)
    assert answer["data"]["messages"][0]["consumed"] == 20
    assert len(broker.connections) == connections


def test_a_limit_that_others_have_used_up_is_no_loss_of_messages(world, broker, monkeypatch):
    where = "access to vhost '/' refused for user 'admin'"
    said = f"NOT_ALLOWED - {where}: connection limit (9) is reached"

    def full(parameters):
        raise pika.exceptions.ConnectionClosedByBroker(530, said)

    monkeypatch.setattr(pika, "BlockingConnection", full)
    [problem] = verdict(world.runner.verify(messages=5))["problems"]
    assert "connection limit (9) is reached" in problem
    assert "A limit of connections, channels or queues is in the way, nothing is lost." in problem


def test_an_address_that_nobody_answers_is_a_problem_with_the_next_command(
    world, broker, monkeypatch
):
    def refused(parameters):
        raise pika.exceptions.AMQPConnectionError("Connection refused")

    monkeypatch.setattr(pika, "BlockingConnection", refused)
    [problem] = verdict(world.runner.verify(messages=5))["problems"]
    assert problem.startswith("messages through 192.168.123.123:5672: AMQPConnectionError")
    assert problem.endswith("Next: salt-run rabbit_ha.status")


@pytest.mark.parametrize("function", ["status", "verify"])
def test_the_cluster_is_waited_for_to_become_well_but_not_forever(world, broker, function):
    look = functools.partial(getattr(world.runner, function), patience=30)
    bad = reports(rabbitmq_node1={"running": NODES[:1]})
    world.answers("rabbit_report.host", bad)
    slept = []
    world.runner.time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    assert verdict(look())["result"] is False
    assert 30 <= sum(slept) <= 32

    world.runner.time.sleep = lambda seconds: world.answers("rabbit_report.host", reports())
    assert verdict(look())["result"] is True


def test_without_load_balancers_messages_go_to_the_seed(world, broker):
    for host in BALANCERS:
        del world.pillar["hosts"][host]
    world.pillar["virtual_address"] = None
    assert verdict(world.runner.verify(messages=1))["result"] is True
    assert broker.parameters.host == "192.168.123.36"


def test_with_hashes_only_no_messages_are_sent_and_that_is_told(world, broker):
    admin = world.secrets["rabbitmq"]["users"]["admin"]
    admin["password_hash"] = "AAAAABia0BrGUJTyw/lHoO435KAUpCr1bZuraftDBHwofwSN"
    del admin["password"]
    found = verdict(world.runner.verify(messages=1))
    assert (found["result"], found["says"]) == (True, "all is well")
    assert found["warnings"][-1].startswith("no messages were sent: ")
    assert broker.parameters is None


def test_without_load_balancers_messages_go_to_the_brokers_port(world, broker):
    for host in BALANCERS:
        del world.pillar["hosts"][host]
    world.pillar |= {"virtual_address": None, "rabbitmq": {"amqp_port": 5673}}
    assert verdict(world.runner.verify(messages=1))["result"] is True
    assert (broker.parameters.host, broker.parameters.port) == ("192.168.123.36", 5673)


def test_messages_go_where_haproxy_listens(world, broker):
    world.pillar["haproxy"] = {"rabbitmq_cluster": {"bind": "192.168.123.123:5672"}}
    world.pillar["keepalived"] = {"virtual_addresses": ["192.168.123.124/24"]}
    answer = world.runner.verify(messages=1, patience=0)
    assert [sent["address"] for sent in answer["data"]["messages"]] == ["192.168.123.123:5672"]


def test_without_an_administrator_in_pillar_there_is_nobody_to_verify_as(world, broker):
    world.secrets["rabbitmq"] = {"users": {"admin": {"tags": [], "password": "x"}}}
    [problem] = verdict(world.runner.verify(patience=0))["problems"]
    assert "no user with the tag administrator" in problem


def test_another_port_in_pillar_is_the_one_that_is_verified(world, broker):
    world.pillar["haproxy"] = {"rabbitmq_cluster": {"bind": "192.168.123.123:5670"}}
    assert verdict(world.runner.verify(messages=1))["result"] is True
    assert broker.parameters.port == 5670
