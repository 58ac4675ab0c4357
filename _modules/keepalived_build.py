"""
Build keepalived from source: fetch and verify, extract, compile, install.

A build lives in a folder of its own, such as ``/usr/local/keepalived-2.2.7-1a2b3c4d``,
and is used once the link ``/usr/local/sbin/keepalived`` leads to it. See
docs/source-builds.md.
"""

PREFIX = "/usr/local/keepalived"


def plan(version=None, url=None, checksum=None, options=None):
    """
    Work out what is to be built: pillar completed by what is known of the version.

    version
        Version of keepalived.
    url : that of the preset
        ``https://…``, ``salt://…`` or a path on this host.
    checksum : that of the preset
        ``sha256=…`` or ``sha512=…``.
    options
        Mapping of options of ``configure`` without their dashes, such as
        ``sysconfdir: /etc``; one that takes no value has ``true``, one that is
        false is left out. ``prefix`` is what the builds' names begin with.

    Returns a mapping with ``version``, ``url``, ``checksum``, ``options`` (mapping
    of strings, empty for one without a value), ``prefix``, ``path`` (where the
    build will be) and ``dependencies`` (packages that building it needs).

    Raises SaltInvocationError when something is missing, and for a prefix that is no
    absolute path.

    See https://github.com/acassen/keepalived/blob/master/INSTALL.

    CLI Example:

    .. code-block:: bash

        salt-call keepalived_build.plan 2.2.7
    """
    data = __utils__["source_build.read_data"](__salt__["cp.get_file_str"], "keepalived")
    said = {"version": version, "url": url, "checksum": checksum, "options": options}
    wanted = __utils__["source_build.source"]("keepalived", data["presets"], said)
    given = {"sysconfdir": "/etc", **(options or {})}
    prefix = str(given.pop("prefix", None) or PREFIX).rstrip("/")
    complete = {
        name: "" if value is True else str(value)
        for name, value in sorted(given.items())
        if value not in (None, False)
    }
    path = __utils__["source_build.build_path"](
        prefix, wanted["version"], wanted["checksum"], complete
    )
    packages = data["dependencies"].get(__grains__.get("os_family"), {})
    return {
        **wanted,
        "options": complete,
        "prefix": prefix,
        "path": path,
        "dependencies": list(packages.get("always", [])),
    }


def fetch_source(url, checksum):
    """
    Get keepalived's source archive and verify it.

    url
        ``https://…``, ``salt://…`` or a path on this host.
    checksum
        ``sha256=…`` or ``sha512=…``.

    Returns the path of the archive on this host.

    Raises CommandExecutionError when it cannot be had or is another one,
    SaltInvocationError for a URL or a checksum of another form.

    CLI Example:

    .. code-block:: bash

        salt-call keepalived_build.fetch_source /opt/src/keepalived-2.2.7.tar.gz sha256=c619…
    """
    return __utils__["source_build.fetch"](url, checksum, __salt__["cp.cache_file"])


def extract_source(archive, folder):
    """
    Unpack keepalived's source.

    archive
        Path of the archive.
    folder
        Folder to unpack it in.

    Returns the path of the folder with the source.

    Raises CommandExecutionError for a broken archive or a full disk.

    CLI Example:

    .. code-block:: bash

        salt-call keepalived_build.extract_source /tmp/keepalived-2.2.7.tar.gz /tmp
    """
    return __utils__["source_build.extract"](archive, folder)


def compile_source(source, options, path):
    """
    Configure and compile keepalived.

    source
        Folder with its source.
    options
        Mapping of options of ``configure``, as :func:`plan` returns them.
    path
        Folder that it will be installed in.

    Raises CommandExecutionError with the end of the log.

    CLI Example:

    .. code-block:: bash

        salt-call keepalived_build.compile_source /tmp/keepalived-2.2.7 '{sysconfdir: /etc}' /opt/k
    """
    flags = [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]
    __utils__["source_build.run"](["./configure", f"--prefix={path}", *flags], source)
    jobs = __grains__.get("num_cpus") or 1
    __utils__["source_build.run"](["make", f"-j{jobs}"], source)


def install_build(source, path, version, checksum, options):
    """
    Install keepalived as compiled: complete, or not at all.

    Only what goes below ``path`` is installed; the samples that keepalived has for
    ``/etc`` are not.

    source
        Folder that it was compiled in; on the same file system as ``path``.
    path
        Folder to install it in.
    version, checksum, options
        What it was built from; goes into the build's record.

    Returns ``path``.

    Raises CommandExecutionError when what was built does not run.

    CLI Example:

    .. code-block:: bash

        salt-call keepalived_build.install_build /opt/src/keepalived-2.2.7 /opt/k 2.2.7 sha256=… {}
    """
    return __utils__["source_build.install"](
        "keepalived", ["make", "install"], source, path, version, checksum, options
    )


def build(version=None, url=None, checksum=None, options=None):
    """
    Do all steps in a folder that is gone afterwards; what is in use is not touched.

    version, url, checksum, options
        As :func:`plan` takes them.

    Returns the path of the build.

    Raises CommandExecutionError from the step that failed.

    CLI Example:

    .. code-block:: bash

        salt-call keepalived_build.build 2.2.7
    """
    wanted = plan(version, url, checksum, options)
    # By their names in Salt's loader: only so they find there what they call.
    steps = ("cp.cache_file", "keepalived_build.compile_source", "keepalived_build.install_build")
    return __utils__["source_build.build"](wanted, *(__salt__[step] for step in steps))
