"""
Build HAProxy from source: fetch and verify, extract, compile, install.

A build lives in a folder of its own, such as ``/usr/local/haproxy-2.6.12-1a2b3c4d``,
and is used once the link ``/usr/local/sbin/haproxy`` leads to it. See
docs/source-builds.md.
"""

import os

PREFIX = "/usr/local/haproxy"
# The article's options, on by default.
_OPTIONS = ("USE_PCRE2", "USE_OPENSSL", "USE_ZLIB", "USE_SYSTEMD", "USE_CPU_AFFINITY")
# From which version on one is left to the Linux TARGETs, which all set it; pillar still may.
_LEFT_TO_TARGET = {"USE_CPU_AFFINITY": (2, 6)}
# From which version on there is no such option.
_GONE = {"USE_SYSTEMD": (3, 1)}
# Options that make no sense beside one another: the default gives way to pillar's.
_INSTEAD = {"USE_PCRE2": ("USE_PCRE", "USE_PCRE_JIT", "USE_STATIC_PCRE")}


def target(version, kernel=None):
    """
    Choose the TARGET for a version of HAProxy and a kernel.

    version
        Version of HAProxy.
    kernel : the running one
        Release of the kernel, as ``uname -r`` prints it.

    Returns ``linux-glibc`` from 2.0 on. Before: ``linux2628`` from kernel 2.6.28
    on, ``linux26``, ``linux24`` or ``linux22`` on older ones. ``linux24e``, for
    2.4 with a working epoll, cannot be told from the kernel's release: pillar may
    name it.

    See https://github.com/haproxy/haproxy/blob/master/INSTALL.

    CLI Example:

    .. code-block:: bash

        salt-call haproxy_build.target 2.6.12
    """
    return __utils__["source_build.haproxy_target"](version, kernel or _kernel())


def _kernel():
    """Tell the release of the running kernel."""
    return __grains__.get("kernelrelease") or os.uname().release


def known_targets(version):
    """
    List the TARGETs that a version of HAProxy knows on Linux.

    version
        Version of HAProxy.

    Returns a list of strings.

    CLI Example:

    .. code-block:: bash

        salt-call haproxy_build.known_targets 2.1.4
    """
    return __utils__["source_build.known_targets"](version)


def plan(version=None, url=None, checksum=None, options=None):
    """
    Work out what is to be built: pillar completed by what is known of the version.

    version
        Version of HAProxy.
    url : that of the preset
        ``https://…``, ``salt://…`` or a path on this host.
    checksum : that of the preset
        ``sha256=…`` or ``sha512=…``.
    options
        Mapping of make variables, such as ``TARGET``, ``USE_PCRE`` and ``PREFIX``;
        they come over the default set of that version. A value that is false, 0 or
        empty turns an option off, and so does ``no`` or ``off`` for one of ``USE_…``.

    Returns a mapping with ``version``, ``url``, ``checksum``, ``options`` (all of
    them, mapping of strings), ``left_out`` (options from pillar that this version
    has no more), ``prefix`` (what the builds' names begin with), ``path`` (where
    the build will be), ``dependencies`` (packages that building it needs) and
    ``systemd`` (whether it tells systemd when it is ready).

    Raises SaltInvocationError when something is missing, and for a PREFIX that is no
    absolute path, a version before 1.8 and a TARGET that the version does not know.

    See https://github.com/haproxy/haproxy/blob/master/INSTALL.

    CLI Example:

    .. code-block:: bash

        salt-call haproxy_build.plan 2.6.12
    """
    data = __utils__["source_build.read_data"](__salt__["cp.get_file_str"], "haproxy")
    said = {"version": version, "url": url, "checksum": checksum, "options": options}
    wanted = __utils__["source_build.source"]("haproxy", data["presets"], said, _kernel())
    number = __utils__["source_build.version_number"](wanted["version"])
    given = dict(options or {})
    prefix = str(given.pop("PREFIX", None) or PREFIX).rstrip("/")
    complete, left_out = _options(wanted["version"], given)
    path = __utils__["source_build.build_path"](
        prefix, wanted["version"], wanted["checksum"], complete
    )
    needed = data["dependencies"].get(__grains__.get("os_family"), {})
    packages = [
        package
        for option, packages in needed.items()
        if option == "always" or complete.get(option)
        for package in packages
    ]
    return {
        **wanted,
        "options": complete,
        "left_out": left_out,
        "prefix": prefix,
        "path": path,
        "dependencies": list(dict.fromkeys(packages)),
        "systemd": number >= _GONE["USE_SYSTEMD"] or bool(complete.get("USE_SYSTEMD")),
    }


def _options(version, given):
    """Merge pillar's options over the version's default set; returns them and what was left out."""
    number = __utils__["source_build.version_number"](version)
    given = {
        name: __utils__["source_build.make_value"](name, value) for name, value in given.items()
    }
    over = {name for name, end in (_GONE | _LEFT_TO_TARGET).items() if number >= end}
    complete = {
        name: "1"
        for name in _OPTIONS
        if name not in over and not any(given.get(other) for other in _INSTEAD.get(name, ()))
    }
    gone = [name for name in _GONE if name in over and name in given]
    complete |= {name: value for name, value in given.items() if name not in gone}
    complete["ARCH"] = complete.get("ARCH") or __grains__.get("cpuarch") or os.uname().machine
    complete["TARGET"] = complete.get("TARGET") or target(version)
    return dict(sorted(complete.items())), gone


def fetch_source(url, checksum):
    """
    Get HAProxy's source archive and verify it.

    url
        ``https://…``, ``salt://…`` or a path on this host.
    checksum
        ``sha256=…`` or ``sha512=…``.

    Returns the path of the archive on this host.

    Raises CommandExecutionError when it cannot be had or is another one,
    SaltInvocationError for a URL or a checksum of another form.

    CLI Example:

    .. code-block:: bash

        salt-call haproxy_build.fetch_source https://example.org/haproxy-2.6.12.tar.gz sha256=58f9…
    """
    return __utils__["source_build.fetch"](url, checksum, __salt__["cp.cache_file"])


def extract_source(archive, folder):
    """
    Unpack HAProxy's source.

    archive
        Path of the archive.
    folder
        Folder to unpack it in.

    Returns the path of the folder with the source.

    Raises CommandExecutionError for a broken archive or a full disk.

    CLI Example:

    .. code-block:: bash

        salt-call haproxy_build.extract_source /tmp/haproxy-2.6.12.tar.gz /tmp
    """
    return __utils__["source_build.extract"](archive, folder)


def compile_source(source, options, path):
    """
    Compile HAProxy.

    source
        Folder with its source.
    options
        Mapping of make variables, as :func:`plan` returns them.
    path
        Folder that it will be installed in.

    Raises CommandExecutionError with the end of the log.

    CLI Example:

    .. code-block:: bash

        salt-call haproxy_build.compile_source /opt/src/haproxy-2.6.12 '{USE_ZLIB: 1}' /opt/haproxy
    """
    jobs = __grains__.get("num_cpus") or 1
    __utils__["source_build.run"](["make", f"-j{jobs}", *_variables(options, path)], source)


def _variables(options, path):
    return [*(f"{name}={value}" for name, value in options.items()), f"PREFIX={path}"]


def install_build(source, path, version, checksum, options):
    """
    Install HAProxy as compiled: complete, or not at all.

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

        salt-call haproxy_build.install_build /opt/src/haproxy /opt/haproxy 2.6.12 sha256=… {}
    """
    argv = ["make", "install", *_variables(options, path)]
    return __utils__["source_build.install"](
        "haproxy", argv, source, path, version, checksum, options
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

        salt-call haproxy_build.build 2.6.12
    """
    wanted = plan(version, url, checksum, options)
    # By their names in Salt's loader: only so they find there what they call.
    steps = ("cp.cache_file", "haproxy_build.compile_source", "haproxy_build.install_build")
    return __utils__["source_build.build"](wanted, *(__salt__[step] for step in steps))
