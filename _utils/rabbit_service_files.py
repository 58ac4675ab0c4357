"""
Files that root reads and writes in a folder which a service's account may write to.

Whoever has that account may put a link there at any moment: none is followed, and what is
given away is the file that was opened, whatever has its name by then.
"""

import contextlib
import os
import pwd
import stat


def read(path):
    """
    Read a file.

    path
        Of the file; that its folder is a link is its own affair.

    Returns what is in it, as bytes.

    Raises OSError for a link, a file that has other names too, and where it cannot be read.
    """
    with os.fdopen(_opened(path), "rb") as handle:
        return handle.read()


def create(path, content, mode, user=None):
    """
    Write a file that has nothing to do with what was there, and have it on the disk.

    path
        Of the file; what is there is removed first.
    content
        Bytes.
    mode
        Of the file from its first byte on, an integer.
    user : None
        Name of the account that it is given to, with that account's group; else it stays root's.

    Raises OSError when it cannot be written, LookupError where there is no such account.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(descriptor)
        _give(descriptor, mode, user)


def protect(path, mode, user):
    """
    Give a file to an account and take the rights of others away.

    path, mode, user
        As :func:`create` takes them.

    Raises OSError as :func:`read` does, LookupError where there is no such account.
    """
    descriptor = _opened(path)
    try:
        _give(descriptor, mode, user)
    finally:
        os.close(descriptor)


def _opened(path):
    """Open a file of this one name to read it; a pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise OSError(f"{path} is no file, or one that has other names too")


def _give(descriptor, mode, user):
    """Set mode and owner of what is open; the account's group may have another name."""
    if user:
        entry = pwd.getpwnam(user)
        os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
    os.fchmod(descriptor, mode)
