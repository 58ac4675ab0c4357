"""
Files that RabbitMQ keeps beside the data of a node, which need not run.
"""

import os
import stat

from salt.exceptions import CommandExecutionError


def read(path):
    """
    Read a file.

    path
        Of the file; that its folder is a link is its own affair.

    Returns what is in it, as bytes; None where there is none, as with a queue that was just
    deleted.

    Raises CommandExecutionError for a link and for a pipe, and where it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            # One that RabbitMQ's account may have put there would be waited for.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is no file")
            return handle.read()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise CommandExecutionError(
            f"{path} cannot be read: {err.strerror or err}. Next: ls -l {path}; let Salt's minion "
            "run as root"
        ) from err
