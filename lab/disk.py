"""Removes folders that something may still be mounted in."""

import shutil
from pathlib import Path

from lab.command import run


def remove(folder):
    """Remove a folder, after all that is mounted in it: what is mounted belongs to others.

    Parameters:
        folder: Path of the folder, which must exist.
    """
    unmount_below(folder)
    shutil.rmtree(folder)


def unmount_below(folder):
    """Unmount all that is mounted below a folder.

    Parameters:
        folder: Path of the folder.

    Raises:
        LabError: something would not be unmounted.
    """
    listed = Path("/proc/self/mountinfo").read_text().splitlines()
    # A space in a path is written as \040 there.
    mounts = [line.split()[4].replace("\\040", " ") for line in listed]
    for mount in reversed(mounts):
        if mount.startswith(f"{folder}/"):
            # Lazily: the mount is gone at once even if something still looks at it.
            run(["umount", "--lazy", mount], f"unmounting {mount}")
