"""
What a run that is killed has to know when it is run again, in files for root alone.
"""

import json
import os

import salt.utils.atomicfile
import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

NOTES = (
    *("replicas_to_return", "replicas_seen_in", "returns_to", "local_data_discarded"),
    "listeners_suspended",
)


def fetch(name):
    """
    Read a note.

    name
        ``replicas_to_return``, ``replicas_seen_in``, ``returns_to``,
        ``local_data_discarded`` or ``listeners_suspended``.

    Returns what was noted, or None where nothing was.

    Raises SaltInvocationError for another name, CommandExecutionError when the file
    cannot be read or was spoilt.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_notes.fetch replicas_to_return
    """
    try:
        with salt.utils.files.fopen(_path(name), encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        raise CommandExecutionError(
            f"reading {_path(name)}: {err}. Next: look at that file, then "
            f"salt {__grains__['id']} rabbit_notes.delete {name}"
        ) from err


def write(name, value):
    """
    Write a note, in place of an older one of this name.

    name
        As for :func:`fetch`.
    value
        What to note: anything that JSON can hold.

    Raises SaltInvocationError for another name, CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_notes.write replicas_to_return '[]'
    """
    path = _path(name)
    try:
        with salt.utils.files.set_umask(0o077):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with salt.utils.atomicfile.atomic_open(path, "w") as handle:
                json.dump(value, handle)
                # Or a power failure leaves an empty file under this name, which is no note.
                handle.flush()
                os.fsync(handle.fileno())
    except OSError as err:
        raise CommandExecutionError(f"writing {path}: {err}") from err


def delete(name):
    """
    Delete a note, if it is there.

    name
        As for :func:`fetch`.

    Raises SaltInvocationError for another name, CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_notes.delete replicas_to_return
    """
    try:
        os.remove(_path(name))
    except FileNotFoundError:
        return
    except OSError as err:
        raise CommandExecutionError(f"deleting {_path(name)}: {err}") from err


def _path(name):
    """Tell the file of a note."""
    if name not in NOTES:
        raise SaltInvocationError(f"there is no note {name!r}; there are: {', '.join(NOTES)}")
    folder = __salt__["rabbit_topology.settings"]()["rabbitmq"]["backup_dir"]
    return os.path.join(folder, f"{name}.json")
