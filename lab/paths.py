"""Where things live on the machine."""

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
LOCK_FILE = CHECKOUT / "requirements.lock"

STATE_ROOT = Path("/var/lib/rabbit-ha-lab")
RUN_ROOT = Path("/run/rabbit-ha-lab")


def cache_root():
    """Return the folder of the images, outside the checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rabbit-ha-lab"


@dataclass(frozen=True)
class LabPaths:
    """The places that belong to one lab.

    Parameters:
        name: the lab's name.
    """

    name: str

    @property
    def state(self):
        """What outlives a reboot of the machine: disks, keys, secrets."""
        return STATE_ROOT / self.name

    @property
    def run(self):
        """What does not: sockets. Short, because socket paths have a limit of 107 bytes."""
        return RUN_ROOT / self.name

    @property
    def record(self):
        """What the lab was made of, as JSON."""
        return self.state / "lab.json"

    @property
    def hosts(self):
        """One folder a host."""
        return self.state / "hosts"

    @property
    def master(self):
        """The Salt master's configuration folder."""
        return self.state / "master"

    @property
    def secrets(self):
        """The pillar folder for secrets, readable by root only."""
        return self.state / "secrets"

    @property
    def states(self):
        """A file root beside the project's, for SLS files to try."""
        return self.state / "states"

    @property
    def saltfile(self):
        """Makes plain `salt`, `salt-run`, `salt-key` talk to this lab's master."""
        return self.master / "Saltfile"

    @property
    def namespace_name(self):
        """The network namespace's name for `ip netns`."""
        return f"rabbit-ha-lab-{self.name}"

    @property
    def namespace(self):
        """The file to enter the network namespace by."""
        return Path("/run/netns") / self.namespace_name
