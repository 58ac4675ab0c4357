"""One host: a systemd-nspawn container on an overlay of the image."""

import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from lab import archive, cgroup, disk, master, minion, network
from lab.command import run, tail
from lab.errors import LabError

# systemd-nspawn ends with this code when the host reboots, and leaves the restart to others.
_KEEP_UP = 'while "$@"; [ $? -eq 133 ]; do :; done'

# The group below a host's own that systemd-nspawn makes for what runs inside.
PAYLOAD = "payload"

RUNNING, OFF, FROZEN = "running", "off", "frozen"

NETWORK_FILE = """\
[Match]
Name=host0

[Network]
Address={address}/{prefix}
LinkLocalAddressing=no
IPv6AcceptRA=no
LLDP=no
EmitLLDP=no
"""

HOSTS_FILE = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
{master_address} salt
"""


def group(lab, name):
    """Return the control group of a host: systemd-nspawn, the host's processes, `exec`s."""
    return cgroup.group(lab.name, "hosts", name)


def leader(lab, name):
    """Return the id of a host's first process as seen from the machine, or None.

    Parameters:
        lab: the Lab.
        name: the host.
    """
    payload = group(lab, name) / PAYLOAD
    # In init.scope once systemd has sorted itself, right in the payload before that.
    for folder in (payload / "init.scope", payload):
        try:
            candidates = (folder / "cgroup.procs").read_text().split()
        except OSError:
            continue
        for pid in candidates:
            if _is_first(pid):
                return int(pid)
    return None


def _is_first(pid):
    """Return whether a process is number 1 in a process namespace of its own."""
    try:
        status = Path("/proc", pid, "status").read_text()
    except OSError:
        return False
    # "NSpid:", its id here, then its id in its own namespace.
    lines = (line.split() for line in status.splitlines())
    return any(words[0] == "NSpid:" and words[2:] == ["1"] for words in lines if words)


def state(lab, name):
    """Return "running", "off" or "frozen"."""
    path = group(lab, name)
    if not cgroup.populated(path) or leader(lab, name) is None:
        return OFF
    return FROZEN if cgroup.frozen(path) else RUNNING


def stays_off(lab, name):
    """Return whether the host was powered off on purpose, so that `up` leaves it alone."""
    return _off_mark(lab, name).exists()


def _off_mark(lab, name):
    return lab.host_dir(name) / "powered-off"


def _prepare(lab, name):
    """Give a host its disk and, once, its names and keys; return where the disk is mounted."""
    folder = lab.host_dir(name)
    root = _mount(lab, name)
    done = folder / "prepared"
    if done.exists():
        return root
    topology = lab.topology
    names = {"address": topology.hosts[name], "prefix": topology.prefix,
             "master_address": topology.master_address}  # fmt: skip
    pki = "etc/salt/pki/minion"
    files = {
        "etc/hostname": name + "\n",
        "etc/machine-id": uuid.uuid4().hex + "\n",
        "etc/hosts": HOSTS_FILE.format(**names),
        "etc/resolv.conf": "",
        "etc/systemd/network/10-host0.network": NETWORK_FILE.format(**names),
        "etc/salt/minion": minion.config(name, topology.master_address),
        f"{pki}/minion_master.pub": master.public_key(lab.paths),
        f"{pki}/minion.pub": (folder / "keys" / "minion.pub").read_text(),
        f"{pki}/minion.pem": (folder / "keys" / "minion.pem").read_text(),
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / pki).chmod(0o700)
    (root / pki / "minion.pem").chmod(0o400)
    done.touch()
    return root


def _mount(lab, name):
    """Mount a host's disk unless it is mounted; return where."""
    folder = lab.host_dir(name)
    root = folder / "root"
    for path in (root, folder / "upper", folder / "work"):
        path.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(root):
        layers = f"lowerdir={lab.image}/root,upperdir={folder}/upper,workdir={folder}/work"
        run(["mount", "-t", "overlay", "-o", layers, "overlay", root], f"host {name}: disk")
    return root


def boot(lab, name, seconds=30):
    """Start a host unless it runs, and wait until its systemd is there.

    Parameters:
        lab: the Lab.
        name: the host.
        seconds: how long to wait.

    Raises:
        LabError: it did not come up; the last lines of its console are in the message.
    """
    _off_mark(lab, name).unlink(missing_ok=True)
    if leader(lab, name) is not None:
        return
    # What an interrupted start or a shutdown from inside may have left.
    cgroup.kill(group(lab, name))
    network.unplug(lab.paths, network.port(lab.name, lab.topology, name))
    folder = lab.host_dir(name)
    position = list(lab.topology.hosts).index(name)
    command = [
        *network.enter(lab.paths),
        "/bin/sh", "-c", _KEEP_UP, "sh",
        "systemd-nspawn", "--quiet", "--boot", "--settings=no",
        "--register=no", "--keep-unit", "--console=passive",
        "--link-journal=no", "--resolv-conf=off", "--timezone=off",
        f"--machine={network.machine_name(position, lab.name)}", f"--hostname={name}",
        f"--network-bridge={network.BRIDGE}",
        f"--bind-ro={lab.image}/archive:{archive.IN_HOST}",
        f"--directory={_prepare(lab, name)}",
    ]  # fmt: skip
    with open(folder / "console.log", "ab") as console:
        process = subprocess.Popen(
            cgroup.command_in(group(lab, name), command),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            cwd="/",
            # trixie and forky refuse to boot on the old control group layout.
            env={"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
    deadline = time.monotonic() + seconds
    # Until then nothing can enter the host.
    while leader(lab, name) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            cgroup.kill(group(lab, name))
            found = "did not start" if process.poll() is None else "ended"
            raise LabError(
                f"host {name}: boot: systemd-nspawn {found}; {folder / 'console.log'} ends with:\n"
                + tail(folder / "console.log")
            )
        time.sleep(0.05)


def power_off(lab, name):
    """Pull a host's plug: the cable first, so that no packet of its death gets out."""
    _off_mark(lab, name).touch()
    network.unplug(lab.paths, network.port(lab.name, lab.topology, name))
    cgroup.kill(group(lab, name))


def reinstall(lab, name):
    """Give a host an empty disk under its old name and address, as a new installation has.

    Its minion has a new key, which the master does not know; the one it accepted is gone.
    """
    power_off(lab, name)
    disk.remove(lab.host_dir(name))
    minion.write_pair(lab.host_dir(name) / "keys", "minion")
    boot(lab, name)


def require_on(lab, name):
    """Refuse a host that is off.

    Raises:
        LabError: it is off.
    """
    if state(lab, name) == OFF:
        raise LabError(f"host {name} is off; start it with: {lab.command('boot')} {name}")


def forget_containers(lab_name, hosts_dir):
    """Remove what systemd-nspawn keeps of a lab's hosts and cannot remove when it is killed.

    Parameters:
        lab_name: the lab's name.
        hosts_dir: Path of the hosts' folders, their disks still mounted.
    """
    place = Path("/run/systemd/nspawn")
    for folder in place.glob(f"*/{network.machine_name('*', lab_name)}"):
        if os.path.ismount(folder):
            run(["umount", "--lazy", folder], f"unmounting {folder}")
        shutil.rmtree(folder)
    for root in hosts_dir.glob("*/root"):
        disk = root.stat()
        # Named by systemd-nspawn after the disk's device and inode.
        (place / "locks" / f"inode-{disk.st_dev}:{disk.st_ino}").unlink(missing_ok=True)
