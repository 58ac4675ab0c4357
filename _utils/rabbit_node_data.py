"""
Files that RabbitMQ keeps beside the data of a node, which need not run.
"""

import salt.utils.files
from salt.exceptions import CommandExecutionError


def read(path):
    """
    Read a file.

    path
        Of the file.

    Returns what is in it, as bytes; None where there is none, as with a queue that was just
    deleted.

    Raises CommandExecutionError where the minion may not read it.
    """
    try:
        with salt.utils.files.fopen(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return None
    except PermissionError as err:
        raise CommandExecutionError(
            f"{path} cannot be read: {err.strerror}. Next: let Salt's minion run as root"
        ) from err
