"""Brings a lab up and down, and says what state it is in."""

import contextlib
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import (
    cgroup,
    disk,
    faults,
    host,
    image,
    limits,
    master,
    network,
    paths,
    record,
    topology,
)
from lab.command import tail
from lab.errors import LabError

# How long minions may take to answer.
ANSWER_SECONDS = 120


def up(name, release, pillar, with_master, progress):
    """Bring a lab up, or what of it is not up. Hosts powered off on purpose stay off.

    Parameters:
        name: the lab's name.
        release: the Debian release, or None for the lab's own or else bookworm.
        pillar: Path of a pillar folder, or None for the lab's own or else the checkout's.
        with_master: whether to start the Salt master and wait for minions.
        progress: shows the steps.

    Raises:
        LabError: a step failed, or the lab exists and is another than asked for.
    """
    started = time.monotonic()
    lab = record.load(name)
    if lab is None:
        wanted = topology.load(pillar or paths.CHECKOUT / "pillar")
        release = release or image.RELEASES[0]
        folder = image.ensure(release, progress)
        lab = record.Lab(name, release, str(folder), pillar and str(pillar), wanted)
        lab.save()
    else:
        _check_same(lab, release, pillar)
        progress.say(f"Lab {name} exists ({lab.release}); starting what is not running")
    with progress.step("network and keys"):
        limits.raise_for_hosts(progress.say)
        network.create(lab.paths, lab.topology)
        master.prepare(lab)
    if with_master:
        master.start(lab)
    wanted = [each for each in lab.topology.hosts if not host.stays_off(lab, each)]
    for each in set(lab.topology.hosts) - set(wanted):
        remedy = f"{lab.command('boot')} {each}"
        progress.say(f"{each}: was powered off and stays off; start it with: {remedy}")
    _boot_all(lab, wanted, progress)
    if with_master:
        _wait_for_answers(lab, [each for each in wanted if _can_answer(lab, each)], progress)
    progress.say(f"Lab {name} is up ({time.monotonic() - started:.1f} s)")


def _check_same(lab, release, pillar):
    """Refuse to turn a lab into another one."""
    remedy = f"take it down first: {lab.command('down')}"
    if release not in (None, lab.release):
        raise LabError(f"lab {lab.name} runs {lab.release}, not {release}; {remedy}")
    if pillar is not None and str(pillar) != lab.pillar:
        made_from = lab.pillar or "the checkout's"
        raise LabError(f"lab {lab.name} was made from another pillar, {made_from}; {remedy}")
    wanted = topology.load(Path(lab.pillar) if lab.pillar else paths.CHECKOUT / "pillar")
    if wanted.hosts != lab.topology.hosts or wanted.network != lab.topology.network:
        had, now = (
            {*one.hosts.items(), ("network", one.network)} for one in (lab.topology, wanted)
        )
        raise LabError(
            f"lab {lab.name} has {_listed(had - now)}, the topology now says {_listed(now - had)}; "
            f"{remedy}"
        )


def _listed(differing):
    """Name hosts with their addresses."""
    return ", ".join(f"{name} {value}" for name, value in sorted(differing)) or "nothing of these"


def _boot_all(lab, hosts, progress):
    """Boot hosts at the same time."""

    def boot(name):
        if host.leader(lab, name) is not None:
            return
        with progress.step("boot", name):
            host.boot(lab, name)

    with ThreadPoolExecutor(max_workers=20) as pool:
        list(pool.map(boot, hosts))


def _can_answer(lab, name):
    """Return whether a host's minion can be expected to answer: no fault stands in the way."""
    if host.state(lab, name) != host.RUNNING:
        return False
    return network.MASTER not in faults.cut_peers(lab, network.cuts(lab.paths), name)


def _wait_for_answers(lab, hosts, progress):
    """Wait until every minion answers.

    Raises:
        LabError: the master or a minion did not start; its last log lines are in the message.
    """
    missing = set(hosts)
    with progress.step("Salt minions answer") as step:
        while missing and step.seconds < ANSWER_SECONDS:
            if master.running(lab.paths) is None:
                console = lab.paths.master / "console.log"
                raise LabError(
                    f"master: stopped right after its start; {console} ends with:\n{tail(console)}"
                )
            for name in _answers(lab, sorted(missing), step):
                missing.discard(name)
                progress.say(f"[green]ok[/green] {name}: minion answers ({step.seconds:.1f} s)")
        if missing:
            raise LabError(_silent(lab, sorted(missing)))


def _answers(lab, hosts, step, seconds=10):
    """Ask minions for a while; yield each host as soon as it answers."""
    missing = set(hosts)
    # -P: what Salt imports must not be found among the lab's own files.
    command = [*network.enter(lab.paths), paths.VENV / "bin/python", "-P",
               paths.CHECKOUT / "lab/answers.py", lab.paths.master / "master",
               seconds, *hosts]  # fmt: skip
    with subprocess.Popen(
        cgroup.command_in(cgroup.group(lab.name, "run"), [str(word) for word in command]),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=master.environment(lab.paths),
    ) as process:
        step.note("waiting for " + ", ".join(sorted(missing)))
        for line in process.stdout:
            missing.discard(line.strip())
            step.note(f"waiting for {', '.join(sorted(missing)) or 'nobody'}")
            yield line.strip()


def _silent(lab, missing):
    """Return what to say about minions that do not answer."""
    lines = []
    for name in missing:
        log = lab.host_dir(name) / "root/var/log/salt/minion"
        lines.append(
            f"host {name}: its Salt minion did not answer within {ANSWER_SECONDS} s; "
            f"/var/log/salt/minion ends with:\n{tail(log)}"
        )
    lines.append(f"look inside: {lab.command('exec')} {missing[0]} -- systemctl status salt-minion")
    return "\n".join(lines)


def down(name, progress):
    """Remove a lab with everything that belongs to it; one that does not exist is fine.

    Parameters:
        name: the lab's name.
        progress: shows the steps.

    Raises:
        LabError: something would not go away.
    """
    place = paths.LabPaths(name)
    # The name cannot be a lab's: no lab ever starts from a half-removed folder.
    removing = place.state.with_name(f".{name}.removing")
    with progress.step("processes"):
        # `down` may have been started by `run`, in the very group that goes.
        cgroup.leave()
        # All hosts' processes and the master's, frozen or not, at once.
        cgroup.kill(cgroup.group(name))
    with progress.step("network"):
        network.destroy(place)
    with progress.step("disks") as step:
        host.forget_containers(name, place.hosts)
        shutil.rmtree(place.run, ignore_errors=True)
        for folder in (removing, place.state):
            step.note(f"removing {place.state}")
            if folder.exists():
                disk.unmount_below(folder)
                folder.rename(removing)
                disk.remove(removing)
    # The last lab takes the common folders along.
    limits.restore_without_labs(progress.say)
    cgroup.remove_empty()
    for folder in (paths.RUN_ROOT, paths.STATE_ROOT):
        with contextlib.suppress(OSError):
            folder.rmdir()
    progress.say(f"Lab {name} is gone")


def status(lab):
    """Return the state of a lab, as plain data.

    Parameters:
        lab: the Lab.
    """
    connected = network.exists(lab.paths)
    cuts = network.cuts(lab.paths) if connected else set()
    pid = master.running(lab.paths)
    return {
        "name": lab.name,
        "release": lab.release,
        "pillar": lab.pillar,
        "network": lab.topology.network,
        "namespace": str(lab.paths.namespace) if connected else None,
        "master": {
            "address": lab.topology.master_address,
            "config_dir": str(lab.paths.master),
            "secrets_dir": str(lab.paths.secrets),
            "states_dir": str(lab.paths.states),
            "running": pid is not None,
            "pid": pid,
        },
        "hosts": {
            name: {
                "address": address,
                "state": host.state(lab, name),
                "leader": host.leader(lab, name),
                "root": str(lab.host_dir(name) / "root"),
                "cut": faults.cut_peers(lab, cuts, name),
            }
            for name, address in lab.topology.hosts.items()
        },
    }
