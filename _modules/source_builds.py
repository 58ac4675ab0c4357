"""
What has been built from source on this host: which builds there are, which is in use.

``haproxy_build`` and ``keepalived_build`` make builds; nothing here is particular to
one of them. See docs/source-builds.md.
"""

import contextlib
import glob
import os
import shutil

from salt.exceptions import CommandExecutionError


def builds(prefix):
    """
    List the complete builds of a program, the one built or last taken out of use first.

    prefix
        What their names begin with.

    Returns a list of mappings as :func:`current` returns them.

    CLI Example:

    .. code-block:: bash

        salt-call source_builds.builds /usr/local/haproxy
    """
    found = map(__utils__["source_build.record"], glob.glob(f"{glob.escape(prefix)}-*"))
    return sorted(filter(None, found), key=_used, reverse=True)


def _used(build):
    """Tell when a build was made, or last went out of use: its folder's time says so."""
    return os.stat(build["path"]).st_mtime


def current(link):
    """
    Tell which build is in use.

    link
        Path of the symbolic link to the build's program.

    Returns a mapping with ``path``, ``version``, ``checksum`` and ``options``; None
    when no build is in use.

    CLI Example:

    .. code-block:: bash

        salt-call source_builds.current /usr/local/sbin/haproxy
    """
    if not os.path.islink(link) or not os.path.exists(link):
        return None
    program = os.path.realpath(link)
    return __utils__["source_build.record"](os.path.dirname(os.path.dirname(program)))


def surplus(prefix, link):
    """
    List what can go: builds older than the one before, and what interrupted ones left.

    prefix
        What the builds' names begin with.
    link
        Path of the symbolic link to the program of the build in use.

    Returns a list of paths.

    CLI Example:

    .. code-block:: bash

        salt-call source_builds.surplus /usr/local/haproxy /usr/local/sbin/haproxy
    """
    used = current(link)
    others = [build["path"] for build in builds(prefix) if not used or build != used]
    return __utils__["source_build.leftovers"](prefix) + others[1 if used else 2 :]


def use(path, link):
    """
    Let a build be the one in use, in one step; a running program goes on as it is.

    path
        The build's folder.
    link
        Path of the link; its name is the program's.

    Raises CommandExecutionError when a file that is not this project's is in the
    link's place.

    CLI Example:

    .. code-block:: bash

        salt-call source_builds.use /usr/local/haproxy-2.6.12-1a2b3c4d /usr/local/sbin/haproxy
    """
    before = current(link)
    program = os.path.join(path, "sbin", os.path.basename(link))
    try:
        if os.path.lexists(link) and not os.path.islink(link):
            raise CommandExecutionError(
                f"{link} is there already and is none of this project's links; move it away first"
            )
        os.makedirs(os.path.dirname(link), exist_ok=True)
        temporary = f"{link}.new"
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        os.symlink(program, temporary)
        if before:
            os.utime(before["path"])
        os.replace(temporary, link)
    except OSError as err:
        raise __utils__["source_build.disk_error"](err, link) from err


def unuse(link):
    """
    Let no build be in use; all of them stay.

    link
        Path of the link. One that leads to no build of this project stays.

    Returns whether one was.

    Raises CommandExecutionError when the link cannot be removed.

    CLI Example:

    .. code-block:: bash

        salt-call source_builds.unuse /usr/local/sbin/haproxy
    """
    before = current(link)
    if not before:
        return False
    try:
        os.utime(before["path"])
        os.remove(link)
    except OSError as err:
        raise __utils__["source_build.disk_error"](err, link) from err
    return True


def remove(path):
    """
    Remove a build, or what an interrupted one left.

    path
        As :func:`surplus` lists it.

    Raises CommandExecutionError when it cannot be removed.

    CLI Example:

    .. code-block:: bash

        salt-call source_builds.remove /usr/local/haproxy-2.1.4-1a2b3c4d
    """
    try:
        shutil.rmtree(path)
    except OSError as err:
        raise __utils__["source_build.disk_error"](err, path) from err
