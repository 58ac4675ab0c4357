"""Salt's own loaders and configuration on this machine, in a folder of their own."""

import copy
import json
import os
import pathlib
import shlex
import shutil
import sys
import tempfile

import pytest
import salt.config
import salt.loader
import salt.state
from salt.utils import yaml

from tests.gpg import Key
from tests.support import NO_FINDINGS, ROOT, TOPOLOGY

CONFIGURATION = yaml.safe_load((ROOT / "conf" / "master").read_text())
# Stands in for rabbitmqctl: replays an answer by the arguments, notes how it was
# called, and exports what was imported.
PROGRAM = """\
import json, os, pathlib, sys
here = pathlib.Path({folder!r})
arguments = [word for word in sys.argv[1:] if word != "--silent"]
node = ""
if arguments[0] == "--node":
    node, arguments = arguments[1], arguments[2:]
imported = None
if arguments[0] == "import_definitions":
    imported = json.loads(pathlib.Path(arguments[1]).read_text())
call = {{"argv": sys.argv, "environment": dict(os.environ), "imported": imported}}
with open(here / "calls", "a") as handle:
    handle.write(json.dumps(call) + "\\n")
answers = json.loads((here / "answers.json").read_text())
answer = answers[(arguments[0] + " " + node).strip()]
if imported:
    held = json.loads(answers["export_definitions"]["stdout"])
    answers["export_definitions"]["stdout"] = json.dumps(held | imported)
    (here / "answers.json").write_text(json.dumps(answers))
sys.stdout.write(answer["stdout"])
sys.stderr.write(answer["stderr"])
sys.exit(answer["retcode"])
"""


class Rabbitmqctl:
    """The program ``rabbitmqctl`` on the path; :meth:`answers` sets what it replays."""

    def __init__(self, folder):
        self._folder = folder
        (folder / "program.py").write_text(PROGRAM.format(folder=str(folder)))
        program = folder / "bin" / "rabbitmqctl"
        program.parent.mkdir()
        command = shlex.join([sys.executable, str(folder / "program.py")])
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
        self.answers({})

    def answers(self, answers):
        """Map a command, and the node where one is asked, to what is recorded for it."""
        (self._folder / "answers.json").write_text(json.dumps(answers))

    @property
    def calls(self):
        path = self._folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def rabbitmqctl(tmp_path, monkeypatch, epmd):
    folder = tmp_path / "rabbitmqctl"
    folder.mkdir()
    program = Rabbitmqctl(folder)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.fixture
def master(tmp_path):
    """A master's options: this project's conf with every folder in a temporary one."""
    (tmp_path / "cache" / "proc").mkdir(parents=True)
    return {
        **salt.config.master_config(None),
        "id": "master",
        "root_dir": str(tmp_path),
        "cachedir": str(tmp_path / "cache"),
        "pki_dir": str(tmp_path / "pki"),
        "extension_modules": str(tmp_path / "extmods"),
        "sock_dir": str(tmp_path / "run"),
        "file_roots": {"base": [str(ROOT / "salt")]},
        "pillar_roots": {"base": [str(ROOT / "pillar"), str(tmp_path / "secrets")]},
        "module_dirs": [str(ROOT / path) for path in CONFIGURATION["module_dirs"]],
        "pillar_dirs": [str(ROOT / path) for path in CONFIGURATION["pillar_dirs"]],
        "ext_pillar": CONFIGURATION["ext_pillar"],
        "rabbit_ha.secrets_dir": str(tmp_path / "secrets"),
    }


@pytest.fixture(scope="session")
def key():
    """A throw-away PGP key."""
    # A socket of gpg's agent goes in there, whose path must be short.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rabbit-ha-"))
    made = Key(folder / "gpgkeys")
    yield made
    made.forget()
    shutil.rmtree(folder)


@pytest.fixture
def minion(tmp_path):
    """Return a function that gives a minion's options, ready for Salt's loaders."""

    def build(name="rabbitmq-node1", test=False, **pillar):
        return {
            **salt.config.minion_config(None, minion_id=name),
            "root_dir": str(tmp_path),
            "cachedir": str(tmp_path / "cache"),
            "extension_modules": str(tmp_path / "extmods"),
            "pki_dir": str(tmp_path / "pki" / name),
            "file_client": "local",
            "file_roots": {"base": [str(ROOT / "salt")]},
            "module_dirs": [str(ROOT)],
            "grains": {
                "id": name,
                "kernel": "Linux",
                "os": "Debian",
                "os_family": "Debian",
                "osrelease": "12",
                "init": "systemd",
            },
            "pillar": {
                "rabbit_ha": {**copy.deepcopy(TOPOLOGY), **pillar},
                "rabbit_ha_findings": NO_FINDINGS,
            },
            "test": test,
        }

    return build


@pytest.fixture
def modules():
    """Return a function that loads all execution modules for a minion's options."""

    def load(opts):
        return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))

    return load


@pytest.fixture
def run_state():
    """Return a function that runs states as one run of Salt does; returns their returns."""

    def run(opts, *lows):
        compiler = salt.state.State(opts, initial_pillar=opts["pillar"])
        returns = []
        for number, low in enumerate(lows):
            name = low.get("name", "as described")
            frame = {"__id__": name, "__sls__": "test", "__env__": "base", "order": number}
            returns.append(compiler.call({"name": name, **frame, **low}))
        return returns

    return run
