"""Control groups: how the lab knows, freezes and kills exactly its own processes.

Every process the lab starts is put into a group below `rabbit-ha-lab/NAME`, and its children
stay there. So no process id is ever kept in a file, and none can be mistaken for another.
"""

import contextlib
import os
import time
from pathlib import Path

from lab.errors import LabError

# Joins the group given first, then becomes the command that follows. A shell, because
# joining between fork and exec in Python is not safe once there are threads.
_JOIN = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'


def _hierarchy():
    """Return where the version 2 hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] == "cgroup2":
            return Path(fields.split()[4])
    raise LabError("control groups: no cgroup2 is mounted; mount one at /sys/fs/cgroup/unified")


def group(*parts):
    """Return the Path of a group; the first part is the lab's name, or starts with a dot."""
    return _hierarchy().joinpath("rabbit-ha-lab", *parts)


def leave():
    """Take this process out of whatever group it is in, so that it does not kill itself."""
    (_hierarchy() / "cgroup.procs").write_text(str(os.getpid()))


def command_in(path, command):
    """Return `command` (a list) wrapped so that it runs inside the group, created when missing."""
    path.mkdir(parents=True, exist_ok=True)
    return ["/bin/sh", "-c", _JOIN, "sh", str(path), *command]


def pids(path):
    """Return the ids of the processes in a group and all groups below it."""
    found = []
    for folder, _, _ in os.walk(path):
        try:
            found += [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()]
        except OSError:
            continue  # the group went away meanwhile
    return found


def populated(path):
    """Return whether any process lives in the group or below it."""
    return _event(path, "populated")


def frozen(path):
    """Return whether the group is frozen."""
    return _event(path, "frozen")


def _event(path, key):
    try:
        return f"{key} 1" in (path / "cgroup.events").read_text().splitlines()
    except OSError:
        return False


def freeze(path, wanted, seconds=10):
    """Freeze or thaw everything in a group and below it.

    Parameters:
        path: the group.
        wanted: True to freeze, False to thaw.
        seconds: how long to wait for the kernel.

    Raises:
        LabError: the kernel did not get there in time.
    """
    (path / "cgroup.freeze").write_text("1" if wanted else "0")
    deadline = time.monotonic() + seconds
    while frozen(path) != wanted:
        if time.monotonic() > deadline:
            word = "freeze" if wanted else "thaw"
            raise LabError(f"control group {path} did not {word} within {seconds} s")
        time.sleep(0.01)


def kill(path, seconds=20):
    """Kill everything in a group at once, frozen or not, and remove the group.

    Parameters:
        path: the group; nothing happens when it does not exist.
        seconds: how long to wait for the kernel.

    Raises:
        LabError: something is still alive after that time.
    """
    if not path.is_dir():
        return
    deadline = time.monotonic() + seconds
    while True:
        try:
            (path / "cgroup.kill").write_text("1")
        except FileNotFoundError:
            return
        if not populated(path):
            break
        if time.monotonic() > deadline:
            raise LabError(f"control group {path}: still alive after {seconds} s: {pids(path)}")
        time.sleep(0.02)
    _remove(path, deadline)


def remove_empty():
    """Remove the groups common to all labs when nobody needs them any more."""
    for path in (group(".build"), group()):
        with contextlib.suppress(OSError):
            path.rmdir()


def _remove(path, deadline):
    """Remove a group and those below it; the kernel may need a moment after the last exit."""
    while path.is_dir():
        for folder, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError as err:
                if time.monotonic() > deadline:
                    raise LabError(f"cannot remove control group {folder}: {err}") from err
        time.sleep(0.01)
