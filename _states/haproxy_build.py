"""
HAProxy built from source.
"""


def installed(name, version=None, url=None, checksum=None, options=None):
    """
    Have a version of HAProxy, built with these options, in use.

    Does nothing when it is; builds it when it is not there, and makes it the one
    that the link leads to. The build that was in use before stays, older ones go.
    Until the new one is complete, nothing of the old one is touched.

    name
        The link that leads to the program in use.
    version
        Version of HAProxy.
    url : that of the preset
        ``https://…``, ``salt://…`` or a path on the host.
    checksum : that of the preset
        ``sha256=…`` or ``sha512=…`` of the archive.
    options
        Mapping of make variables over the version's default set.

    Returns a state's return: ``changes`` maps ``HAProxy`` to ``old`` and ``new``, paths of
    builds, and ``removed`` to a list of paths. Raises nothing: what failed is in ``comment``.

    See docs/source-builds.md.
    """
    wanted = {"version": version, "url": url, "checksum": checksum, "options": options}
    return __utils__["source_build_state.installed"](name, "haproxy", __opts__["test"], wanted)


def absent(name, unit):
    """
    Have no HAProxy from source in use, so that the package's is. The builds stay.

    name
        The link that leads to the program in use.
    unit
        The unit that runs it.

    Returns a state's return: ``changes`` maps the link to ``old`` and ``new``, and the unit
    to ``removed``. Raises nothing: what failed is in ``comment``.

    See docs/source-builds.md.
    """
    return __utils__["source_build_state.absent"](name, "haproxy", __opts__["test"], unit)
