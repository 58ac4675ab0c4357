"""What a lab was made of, kept in its state folder so that every verb agrees."""

import fcntl
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from lab.errors import LabError, UsageError
from lab.paths import LabPaths, cache_root
from lab.topology import Topology


@dataclass(frozen=True)
class Lab:
    """One lab.

    Parameters:
        name: the lab's name.
        release: the Debian release of its hosts.
        image: the folder of the image, as str.
        pillar: the pillar folder used instead of the checkout's, as str, or None.
        topology: the Topology.
    """

    name: str
    release: str
    image: str
    pillar: str | None
    topology: Topology

    @property
    def paths(self):
        """The lab's LabPaths."""
        return LabPaths(self.name)

    def command(self, verb):
        """Return how to type a verb for this lab."""
        return f"bin/lab {verb}" + ("" if self.name == "default" else f" --name {self.name}")

    def host_dir(self, host):
        """Return the folder of a host's disk and console."""
        return self.paths.hosts / host

    def check_hosts(self, hosts, also=()):
        """Refuse names that are no hosts of this lab.

        Parameters:
            hosts: the names.
            also: words that are allowed besides.

        Raises:
            UsageError: with the hosts there are.
        """
        for host in hosts:
            if host not in self.topology.hosts and host not in also:
                known = ", ".join([*self.topology.hosts, *also])
                raise UsageError(f"lab {self.name}: no host {host!r}; there are: {known}")

    def save(self):
        """Write the record; it is whole or not there."""
        self.paths.state.mkdir(parents=True, exist_ok=True, mode=0o755)
        partial = self.paths.record.with_suffix(".new")
        partial.write_text(json.dumps(asdict(self), indent=2))
        partial.rename(self.paths.record)


def load(name):
    """Return the Lab of that name, or None when there is none.

    Parameters:
        name: the lab's name.
    """
    try:
        data = json.loads(LabPaths(name).record.read_text())
    except FileNotFoundError:
        return None
    data["topology"] = Topology(**data["topology"])
    return Lab(**data)


def require(name):
    """Return the Lab of that name.

    Raises:
        LabError: there is none.
    """
    lab = load(name)
    if lab is None:
        option = "" if name == "default" else f" --name {name}"
        raise LabError(f"lab {name}: does not exist; start it with: bin/lab up{option}")
    return lab


@contextmanager
def held(what, notify, seconds=300):
    """Let one command at a time do something while the body runs.

    Parameters:
        what: `lab-NAME`, `image-RELEASE`, or `limits` for what all labs share.
        notify: called with a text every few seconds while another command has to be waited for.
        seconds: how long to wait for it.

    Raises:
        LabError: the other command takes longer than that.
    """
    # In the cache: removing a lock's file is never safe, and `down` leaves nothing behind.
    path = cache_root() / "locks" / what
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    started = shown = time.monotonic()
    try:
        while not _locked(handle):
            now = time.monotonic()
            if now - started > seconds:
                raise LabError(f"{what}: another bin/lab command is busy with it for {seconds} s")
            if now - shown > 2:
                notify(f"... {what}: waiting for another bin/lab command ({now - started:.0f} s)")
                shown = now
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _locked(handle):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
