"""The Salt master of a lab: its configuration, made from the checkout's, and its process."""

import os
import subprocess
from pathlib import Path

import yaml

from lab import cgroup, minion, network
from lab.errors import LabError
from lab.paths import CHECKOUT, VENV

_GROUP = "master"
_PROGRAMS = ("salt", "salt-run", "salt-key", "salt-master", "salt-cp", "salt-ssh")


def config(base, checkout, paths, address, pillar=None):
    """Return the master's settings: the project's own, with this lab's places.

    From production differ only places and sizes, what is logged, and how long hosts are waited
    for, as all of them share this machine's processors.

    Parameters:
        base: what the checkout's conf/master holds, as dict.
        checkout: Path that relative paths in it are relative to.
        paths: the lab's LabPaths.
        address: the master's address.
        pillar: Path of a pillar folder to use instead of the checkout's, or None.
    """
    replaced = {}
    if pillar is not None:
        replaced[str(checkout / "pillar")] = str(pillar)
    if "rabbit_ha.secrets_dir" in base:
        replaced[base["rabbit_ha.secrets_dir"]] = str(paths.secrets)

    def absolute(path):
        path = replaced.get(path, path)
        path = os.path.normpath(checkout / path)
        return replaced.get(path, path)

    settings = dict(base)
    for key in ("file_roots", "pillar_roots"):
        if key in base:
            settings[key] = {
                environment: [absolute(path) for path in folders]
                for environment, folders in base[key].items()
            }
    settings.setdefault("file_roots", {}).setdefault("base", []).append(str(paths.states))
    for key, value in base.items():
        if key.endswith("_dirs") and isinstance(value, list):
            settings[key] = [absolute(path) for path in value]
    if "ext_pillar" in base:
        settings["ext_pillar"] = _absolute_where_present(base["ext_pillar"], checkout)
    if "rabbit_ha.secrets_dir" in base:
        settings["rabbit_ha.secrets_dir"] = str(paths.secrets)
    settings.update(
        {
            "interface": address,
            "root_dir": str(paths.master),
            "pki_dir": str(paths.master / "pki"),
            "cachedir": str(paths.master / "cache"),
            "sock_dir": str(paths.run / "sock"),
            "pidfile": str(paths.run / "salt-master.pid"),
            "log_file": str(paths.master / "log"),
            "key_logfile": str(paths.master / "key.log"),
            "log_level": "warning",
            "log_level_logfile": "warning",
            "worker_threads": 3,
            "timeout": 10,
            "gather_job_timeout": 10,
        }
    )
    return settings


def _absolute_where_present(value, checkout):
    """Return ext_pillar settings with the relative paths that exist made absolute."""
    if isinstance(value, dict):
        return {key: _absolute_where_present(item, checkout) for key, item in value.items()}
    if isinstance(value, list):
        return [_absolute_where_present(item, checkout) for item in value]
    if isinstance(value, str) and value and (checkout / value).exists():
        return str(checkout / value)
    return value


def prepare(lab):
    """Write configuration and keys, accept the hosts' keys.

    Parameters:
        lab: the Lab.
    """
    source = CHECKOUT / "conf" / "master"
    try:
        base = yaml.safe_load(source.read_text()) or {}
    except (OSError, yaml.YAMLError) as err:
        raise LabError(f"master: cannot read {source}: {err}") from err
    paths = lab.paths
    paths.master.mkdir(parents=True, exist_ok=True)
    paths.secrets.mkdir(mode=0o700, exist_ok=True)
    paths.states.mkdir(exist_ok=True)
    (paths.run / "sock").mkdir(parents=True, exist_ok=True, mode=0o700)
    pillar = Path(lab.pillar) if lab.pillar else None
    settings = config(base, CHECKOUT, paths, lab.topology.master_address, pillar)
    (paths.master / "master").write_text(yaml.safe_dump(settings, sort_keys=False))
    saltfile = {program: {"config_dir": str(paths.master)} for program in _PROGRAMS}
    paths.saltfile.write_text(yaml.safe_dump(saltfile))
    pki = paths.master / "pki"
    accepted = pki / "minions"
    accepted.mkdir(parents=True, exist_ok=True)
    for name in lab.topology.hosts:
        (accepted / name).write_text(minion.write_pair(lab.host_dir(name) / "keys", "minion"))
    minion.write_pair(pki, "master")


def public_key(paths):
    """Return the master's public key as str, for minions to know their master by.

    Parameters:
        paths: the lab's LabPaths.
    """
    return (paths.master / "pki" / "master.pub").read_text()


def environment(paths):
    """Return the environment in which Salt's programs talk to this lab's master.

    Parameters:
        paths: the lab's LabPaths.
    """
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return inherited | {
        "PATH": f"{VENV / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(VENV),
        "SALT_SALTFILE": str(paths.saltfile),
        "RABBIT_HA_LAB": paths.name,
    }


def running(paths):
    """Return the process id of the running master, or None."""
    return min(cgroup.pids(cgroup.group(paths.name, _GROUP)), default=None)


def start(lab):
    """Start the master unless it runs.

    Parameters:
        lab: the Lab.
    """
    if running(lab.paths):
        return
    command = [str(VENV / "bin" / "salt-master"), "--config-dir", str(lab.paths.master)]
    with open(lab.paths.master / "console.log", "ab") as console:
        subprocess.Popen(
            cgroup.command_in(
                cgroup.group(lab.name, _GROUP), [*network.enter(lab.paths), *command]
            ),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            cwd="/",
            env=environment(lab.paths),
        )
