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

# In a build that is or was in use: a link to the one that was before it.
FORMER = ".rabbit_ha_former"


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


def surplus(prefix, link, path=None):
    """
    List what can go: old builds but the one before, and what interrupted ones left.

    The one before is the build that was in use until this one was. What was built since
    then stays: someone builds ahead. Builds of the link's program only are listed, also where
    the one in use, or one that was before it, has another prefix.

    prefix
        What the builds' names begin with.
    link
        Path of the symbolic link to the program of the build in use.
    path : that of the build in use
        A build's folder: what can go once that is in use.

    Returns a list of paths.

    CLI Example:

    .. code-block:: bash

        salt-call source_builds.surplus /usr/local/haproxy /usr/local/sbin/haproxy
    """
    used = current(link)
    before = used and used["path"]
    path = path or before
    prefixes = list(dict.fromkeys([prefix, *_prefixes(before), *_prefixes(path)]))
    old = [build for build in _all_builds(prefixes, link) if build["path"] != path]
    if path and path == before:
        switched = os.lstat(link).st_mtime
        old = [build for build in old if _used(build) <= switched]
        before = _former(path)
    old = [build["path"] for build in old]
    # Two with the package in use: the last one, and the one before that.
    kept = [before] if before in old else old[: 1 if path else 2]
    left = [one for each in prefixes for one in __utils__["source_build.leftovers"](each)]
    return list(dict.fromkeys(left)) + [one for one in old if one not in kept]


def _prefixes(path):
    """List what the names of a build and of those that were in use before it begin with."""
    found, seen = [], set()
    # Those that were switched back and forth lead to one another.
    while path and path not in seen:
        seen.add(path)
        build = __utils__["source_build.record"](path)
        if build:
            found.append(path.rpartition(f"-{build['version']}-")[0])
        path = _former(path)
    return list(filter(None, found))


def _all_builds(prefixes, link):
    """List a program's builds whose names begin with any of these, as :func:`builds` does."""
    program = os.path.join("sbin", os.path.basename(link))
    found = {
        build["path"]: build
        for prefix in prefixes
        for build in builds(prefix)
        # Another program's may begin with the same.
        if os.path.exists(os.path.join(build["path"], program))
    }
    return sorted(found.values(), key=_used, reverse=True)


def _former(path):
    """Tell which build was in use before this one; None where none is remembered."""
    try:
        return os.readlink(os.path.join(path, FORMER))
    except OSError:
        return None


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
    replaced = before and before["path"] != path
    try:
        if os.path.lexists(link) and not os.path.islink(link):
            raise CommandExecutionError(
                f"{link} is there already and is none of this project's links; move it away first"
            )
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if replaced:
            os.utime(before["path"])
            _link(before["path"], os.path.join(path, FORMER))
        _link(program, link)
    except OSError as err:
        raise __utils__["source_build.disk_error"](err, link) from err


def _link(target, place):
    """Have a symbolic link in a place, in one step."""
    temporary = f"{place}.new"
    with contextlib.suppress(FileNotFoundError):
        os.remove(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, place)


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
