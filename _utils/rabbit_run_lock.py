"""
One deployment at a time on a master.

Two runs would wait for, and fail at, each other's jobs on the hosts. The lock is the
kernel's, on an open file: it goes with the process that took it, however that ends.
"""

import fcntl
import os
import time

from salt.exceptions import CommandExecutionError


def acquire(path):
    """
    Keep other runs out until this process ends.

    path
        The lock file; it stays, and says who took the lock last and when.

    Raises CommandExecutionError, naming the other process, when another one has the
    lock, and naming the file where it cannot be opened or written. This process may
    take it again.
    """
    try:
        _acquire(path)
    except OSError as err:
        folder = os.path.dirname(path)
        raise CommandExecutionError(
            f"{path}, with which other runs are kept out, cannot be written: {err.strerror}; no "
            f"host was touched. Next, on the master: ls -ld {folder}; df -h {folder}"
        ) from err


def _acquire(path):
    """Take the lock and write down who has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        if said.startswith(f"process {os.getpid()},"):
            return
        raise CommandExecutionError(
            f"another run is under way on this master: {said or 'it has just begun'}; no host was "
            f"touched. Next: wait for it and run again"
        ) from None
    os.truncate(handle, 0)
    os.write(handle, f"process {os.getpid()}, since {time.strftime('%F %T')}\n".encode())
    # Never closed: that would give the lock away.
