"""
Pillar files with random secrets, which only their owner can read.

Used by the runner function ``rabbit_ha.secrets``.
"""

import contextlib
import fcntl
import os
import secrets
import string
import time

import salt.utils.files
import salt.utils.yaml
from salt.exceptions import CommandExecutionError

MADE_BY = "# Made by: salt-run rabbit_ha.secrets"
# VRRP's PASS authentication takes eight characters.
LENGTHS = {"auth_pass": 8}
LENGTH = 32
# Seconds in which another run, which only writes a file or two, has to be done.
LOCK_TIMEOUT = 60


def complete(path, missing):
    """
    Add random secrets to a pillar file, below the key ``rabbit_ha``.

    A secret that is in the file stays as it is. The file and its folder are made
    private where others could read them.

    path
        Of the file; it is created where it is not there.
    missing
        List of lists of keys: where pillar lacks a secret.

    Returns what was done, a string; no secret is in it.

    Raises CommandExecutionError for a file that something else has written and
    that lacks any of them, for one that cannot be read or written, and where another
    run does not end.
    """
    folder = os.path.dirname(path)
    try:
        with salt.utils.files.set_umask(0o077):
            os.makedirs(folder, exist_ok=True)
            with _locked(folder):
                was_open = [place for place in (folder, path) if _made_private(place)]
                done = _completed(path, missing)
                return f"{done}; others could read it, and no longer can" if was_open else done
    except OSError as err:
        raise CommandExecutionError(
            f"{path}: {err.strerror}. The user that runs the master has to be able to write there"
        ) from err


@contextlib.contextmanager
def _locked(folder):
    """Hold a folder's lock, so that one run at a time adds to what is in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while not _is_taken(descriptor):
            if time.monotonic() >= deadline:
                raise CommandExecutionError(
                    f"{folder}: another run has had it locked for {LOCK_TIMEOUT} s, so no secret "
                    "was added there. Next, on the master: pgrep -af salt-run"
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _is_taken(descriptor):
    """Take the lock of what is open; tell whether that worked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _made_private(path):
    """Take the rights of others away; tell whether there were any."""
    try:
        mode = os.stat(path).st_mode & 0o777
    except FileNotFoundError:
        return False
    if mode & 0o077:
        os.chmod(path, mode & ~0o077)
    return bool(mode & 0o077)


def _completed(path, missing):
    """Add what a file lacks; returns what was done."""
    if not missing:
        return "already there, left as it is"
    text = _read(path)
    if text and not text.startswith(MADE_BY):
        raise CommandExecutionError(
            f"{path}: not made by this command, left as it is; pillar lacks {_named(missing)}. "
            "Add that there"
        )
    try:
        pillar = salt.utils.yaml.safe_load(text) or {}
    except salt.utils.yaml.YAMLError:
        raise CommandExecutionError(f"{path}: no longer YAML, left as it is") from None
    added = [place for place in missing if _add(path, pillar, place)]
    if not added:
        return "already there, left as it is"
    _write(path, pillar)
    return f"added {_named(added)}" if text else "created"


def _named(places):
    """Join places for a sentence."""
    return ", ".join(":".join(["rabbit_ha", *place]) for place in places)


def _read(path):
    """Read a file; an empty string where it is not there."""
    try:
        with salt.utils.files.fopen(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""


def _add(path, pillar, place):
    """Put a random secret at a place below ``rabbit_ha``, unless one is there; tell whether."""
    holder, last = {"": pillar}, ""
    for key in ("rabbit_ha", *place):
        if holder[last] is None:
            holder[last] = {}
        holder, last = holder[last], key
        if not isinstance(holder, dict):
            raise CommandExecutionError(f"{path}: above {key}: expected a mapping; left as it is")
        holder.setdefault(last)
    if holder[last] is not None:
        return False
    holder[last] = _random(LENGTHS.get(last, LENGTH))
    return True


def _random(length):
    """Make a random password of letters and digits."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _write(path, pillar):
    """Write a pillar file: whole, or not at all."""
    fresh = f"{path}.new"
    with salt.utils.files.fopen(fresh, "w", encoding="utf-8") as handle:
        handle.write(f"{MADE_BY}, which adds to it what pillar comes to need\n")
        salt.utils.yaml.safe_dump(pillar, handle, default_flow_style=False)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(fresh, path)
