"""
What HAProxy and keepalived have in common when they are built from source.

A build lives in a folder of its own, ``PREFIX-VERSION-HASH``, where the hash
stands for the source's checksum and the options; a record in it says what it was
built from. One symbolic link says which build is used. A build is made and
installed beside its place and renamed to it when complete, so that nothing half
done is ever found there, whenever the work is interrupted.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zlib

import salt.utils.files
import salt.utils.yaml
from salt.exceptions import CommandExecutionError, MinionError, SaltInvocationError

DATA = "salt://rabbit_ha/source_builds.yaml"
RECORD = ".rabbit_ha_build.json"
# How much of a build's log an error shows.
LOG_LINES = 30
# Seconds that one command of a build may take: slow machines compile for long.
COMMAND_TIMEOUT = 2 * 60 * 60
# Each program's options in pillar: what their names look like and are called, and which
# of them says what the builds' names begin with.
OPTIONS = {
    "haproxy": (r"[A-Z][A-Z0-9_]*", "the name of a make variable, such as USE_PCRE2", "PREFIX"),
    "keepalived": (
        r"[a-z][a-z0-9-]*",
        "an option of configure without its dashes, such as disable-lvs",
        "prefix",
    ),
}
# The first version of HAProxy with the master that waits for systemd.
FIRST_VERSION = (1, 8)
# TARGETs on Linux, as the Makefiles of these versions of HAProxy know them.
_TARGETS_BEFORE_2_0 = ("linux22", "linux24", "linux24e", "linux26", "linux2628")
_TARGETS_FROM_2_0 = {
    "linux-glibc": (2, 0),
    # Backported from 2.1 and 2.2.
    "linux-glibc-legacy": (2, 0, 13),
    "linux-musl": (2, 1, 5),
}
_TARGETS_ANYWHERE = ("generic", "custom")
REMOTE = ("https://", "salt://")
_DIGITS = {"sha256": 64, "sha512": 128}
# As nice, make and the shell put it.
_MISSING_PROGRAM = re.compile(
    r"^(?:nice: |make(?:\[\d+\])?: |(?:/bin/)?sh: (?:line )?\d+: )'?([\w.+/-]+)'?: "
    r"(?:No such file or directory|(?:command )?not found)",
    re.M,
)
_BROKEN = (tarfile.TarError, EOFError, zlib.error, ValueError)


# What is to be built


def read_data(get_file_str, program):
    """
    Read what is known of a program's versions and of what building it needs.

    get_file_str
        Salt's ``cp.get_file_str``.
    program
        ``haproxy`` or ``keepalived``.

    Returns a mapping with ``presets`` and ``dependencies``.

    Raises CommandExecutionError when the file server does not serve it.
    """
    text = get_file_str(DATA)
    if not text:
        raise CommandExecutionError(
            f"{DATA} is not served; file_roots of the master must hold this project's salt/ "
            "folder (see docs/production.md)"
        )
    return salt.utils.yaml.safe_load(text)[program]


def source(program, presets, said, kernel=None):
    """
    Complete what pillar says of a source with what is known of that version.

    program
        ``haproxy`` or ``keepalived``.
    presets
        Mapping from version to a mapping with ``url`` and ``checksum``.
    said
        Mapping with ``version``, ``url``, ``checksum`` and ``options`` as pillar gives
        them; None for what it does not give.
    kernel : None
        Release of the kernel that HAProxy is built for.

    Returns a mapping with ``version``, ``url`` and ``checksum``.

    Raises SaltInvocationError with all that :func:`faults` finds.
    """
    found = faults(program, presets, said, kernel)
    if found:
        lines = [
            f"rabbit_ha:{program}:source:{one['key']} is "
            f"{'missing' if one['value'] is None else one['value']}"
            f"{one['why'] and ', '}{one['why']}; expected {one['expected']}"
            for one in found
        ]
        raise SaltInvocationError("\n".join(lines))
    version = str(said["version"])
    preset = presets.get(version, {})
    checksum = preset.get("checksum") if said["checksum"] is None else said["checksum"]
    return {
        "version": version,
        "url": said["url"] or preset.get("url"),
        "checksum": "=".join(checksum_parts(checksum)),
    }


def faults(program, presets, said, kernel=None):
    """
    List what is wrong with a source and its options; all of it is known before a build.

    program, presets, said, kernel
        As :func:`source` takes them.

    Returns a list of mappings: ``key`` is the place below ``source`` (``url``,
    ``options:TARGET``), ``value`` what is there, ``why`` and ``expected`` are strings.
    """
    version = said["version"]
    if not version or isinstance(version, float):
        expected = f"a version in quotes, such as '{next(iter(presets))}'"
        return [_fault("version", version or None, "", expected)]
    version = str(version)
    return [
        *_origin_faults(program, presets, version, said),
        *_options_faults(program, said["options"] or {}),
        *(_haproxy_faults(version, said["options"] or {}, kernel) if program == "haproxy" else ()),
    ]


def _fault(key, value, why, expected):
    return {"key": key, "value": value, "why": why, "expected": expected}


def _origin_faults(program, presets, version, said):
    """Find what is missing of where an archive comes from and what it is to be."""
    preset = presets.get(version, {})
    if not said["url"] and not preset.get("url"):
        why = f"and {version} is not among the known versions ({', '.join(presets)})"
        yield _fault("url", None, why, "https://…, salt://… or a path, and its checksum")
    elif not (preset.get("checksum") if said["checksum"] is None else said["checksum"]):
        why = f"and the project knows none of {program} {version}"
        yield _fault("checksum", None, why, "sha256=… or sha512=… of the archive")


def _options_faults(program, options):
    """Find names that are none of options, and a place where no build can be."""
    pattern, called, prefix = OPTIONS[program]
    for name, value in options.items():
        if not re.fullmatch(pattern, str(name)):
            yield _fault(f"options:{name}", value, "", called)
    place = options.get(prefix)
    # Of what make and a shell leave as it is.
    if place and not re.fullmatch(r"(/[A-Za-z0-9._@+-]+)+/*", str(place)):
        expected = (
            f"an absolute path below /, such as /usr/local/{program}, of letters, digits and "
            ". _ / @ + -"
        )
        yield _fault(f"options:{prefix}", place, "", expected)


def _haproxy_faults(version, options, kernel):
    """Find what this version of HAProxy cannot do."""
    if version_number(version) < FIRST_VERSION:
        why = "which has no master process that systemd could run"
        yield _fault("version", version, why, "1.8 or newer")
    wanted = options.get("TARGET")
    known = known_targets(version)
    if wanted and wanted not in known:
        usual = haproxy_target(version, kernel)
        expected = f"{usual} (known: {', '.join(known)})" if usual else f"one of {', '.join(known)}"
        yield _fault("options:TARGET", wanted, f"which HAProxy {version} does not know", expected)


def known_targets(version):
    """
    List the TARGETs that a version of HAProxy knows on Linux.

    version
        Version of HAProxy.

    Returns a list of strings.
    """
    number = version_number(version)
    if number < (2, 0):
        return [*_TARGETS_BEFORE_2_0, *_TARGETS_ANYWHERE]
    since = [name for name, first in _TARGETS_FROM_2_0.items() if number >= first]
    return [*since, *_TARGETS_ANYWHERE]


def haproxy_target(version, kernel):
    """
    Choose the TARGET for a version of HAProxy and a kernel.

    version
        Version of HAProxy.
    kernel
        Release of the kernel, as ``uname -r`` prints it; None where it is not known.

    Returns a string; None where it depends on the kernel and that is not known.
    """
    if version_number(version) >= (2, 0):
        return "linux-glibc"
    if not kernel:
        return None
    running = tuple(int(part) for part in re.findall(r"\d+", kernel)[:3])
    if running >= (2, 6, 28):
        return "linux2628"
    if running >= (2, 6):
        return "linux26"
    return "linux24" if running >= (2, 4) else "linux22"


def make_value(name, value):
    """
    Write an option as HAProxy's Makefile takes it: empty turns it off, any word on.

    name
        Name of the make variable.
    value
        As pillar gives it.

    Returns a string.
    """
    if value is True:
        return "1"
    text = "" if value in (None, False, 0, "0") else str(value)
    return "" if name.startswith("USE_") and text.lower() in ("no", "off", "false") else text


def version_number(version):
    """
    Make a version comparable.

    version
        String such as ``2.6.12`` or ``3.1-dev2``.

    Returns a tuple of integers.
    """
    return tuple(int(number) for number in re.findall(r"\d+", version.split("-", 1)[0]))


def checksum_parts(checksum):
    """
    Take a checksum apart.

    checksum
        String such as ``sha512=…`` or ``sha256=…``; the bare digest is understood too.

    Returns a tuple of the algorithm and the digest in lower case.

    Raises SaltInvocationError for any other algorithm or length.
    """
    algorithm, separator, digest = str(checksum).strip().lower().replace(":", "=").partition("=")
    if not separator:
        digest = algorithm
        algorithm = next((name for name, size in _DIGITS.items() if size == len(digest)), None)
    if len(digest) != _DIGITS.get(algorithm) or re.search(r"[^0-9a-f]", digest):
        raise SaltInvocationError(
            f"the checksum {checksum} is not one; expected sha256= and 64 hexadecimal digits, or "
            "sha512= and 128"
        )
    return algorithm, digest


def build_path(prefix, version, checksum, options):
    """
    Name the folder of a build.

    prefix
        What the name begins with, such as ``/usr/local/haproxy``.
    version, checksum, options
        What it is built from.

    Returns a path such as ``/usr/local/haproxy-2.6.12-1a2b3c4d``.
    """
    identity = json.dumps([version, checksum_parts(checksum), options], sort_keys=True)
    return f"{prefix.rstrip('/')}-{version}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


# The steps


def fetch(url, checksum, cache_file):
    """
    Get an archive and verify it.

    url
        ``https://…``, ``salt://…``, or a path on this host.
    checksum
        As :func:`checksum_parts` takes it.
    cache_file
        Salt's ``cp.cache_file``.

    Returns the path of the archive on this host.

    Raises CommandExecutionError when it cannot be had or is not what it should be,
    SaltInvocationError for a URL or a checksum of another form.
    """
    algorithm, wanted = checksum_parts(checksum)
    path = url.removeprefix("file://")
    if url.startswith(REMOTE):
        try:
            path = cache_file(url, source_hash=f"{algorithm}={wanted}")
        except (MinionError, OSError) as err:
            raise CommandExecutionError(f"{url} could not be fetched: {err}") from err
        if not path:
            raise CommandExecutionError(f"{url} could not be fetched")
    elif not path.startswith("/"):
        raise SaltInvocationError(f"the URL {url} is not https://…, salt://… or a path")
    found = hashlib.new(algorithm)
    try:
        with salt.utils.files.fopen(path, "rb") as handle:
            while chunk := handle.read(1 << 20):
                found.update(chunk)
    except OSError as err:
        raise CommandExecutionError(f"{path} cannot be read: {err.strerror}") from err
    if found.hexdigest() != wanted:
        if url.startswith(REMOTE):
            # The next attempt shall fetch it again.
            os.remove(path)
        raise CommandExecutionError(
            f"{url} is not what it should be: its {algorithm} is {found.hexdigest()}; expected "
            f"{wanted}. It was not unpacked"
        )
    return path


def extract(archive, folder):
    """
    Unpack a source archive.

    archive
        Path of a tar archive, compressed as tar knows it.
    folder
        Folder to unpack it in.

    Returns the path of the one folder that the archive holds.

    Raises CommandExecutionError for a broken archive or a full disk.
    """
    try:
        with tarfile.open(archive) as tar:
            names = [name.split("/") for name in tar.getnames()]
            tops = {name[0] for name in names}
            if len(tops) != 1 or tops & {"", "."} or any(".." in name for name in names):
                raise CommandExecutionError(
                    f"{archive} is no source archive: it holds {', '.join(sorted(tops)[:5])} at "
                    "its top, expected one folder with all in it"
                )
            # Older patch releases of Python 3.11 do not have the filters.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(folder, **safely)
    except _BROKEN as err:
        raise CommandExecutionError(f"{archive} is broken: {err or type(err).__name__}") from err
    except OSError as err:
        if err.errno is None:
            # gzip and its like have no errno for what they cannot decode.
            raise CommandExecutionError(f"{archive} is broken: {err}") from err
        raise disk_error(err, folder) from err
    return os.path.join(folder, tops.pop())


def run(argv, folder):
    """
    Run one command of a build, giving way to whatever else runs on this host.

    argv
        List of the program and its arguments.
    folder
        Folder to run it in.

    Returns what it printed.

    Raises CommandExecutionError with the end of the log when it fails, or takes longer
    than :data:`COMMAND_TIMEOUT`.
    """
    try:
        process = subprocess.Popen(
            ["nice", "-n", "19", *argv],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as err:
        raise disk_error(err, folder) from err
    with process:
        try:
            log = process.communicate(timeout=COMMAND_TIMEOUT)[0].decode(errors="replace")
        except subprocess.TimeoutExpired as err:
            _end(process)
            log = (err.output or b"").decode(errors="replace")
            raise CommandExecutionError(
                f"{' '.join(argv)} was ended, as it took longer than {COMMAND_TIMEOUT} s. Next: "
                f"uptime on this host, then run again. {_end_of(log)}"
            ) from err
        except BaseException:
            # The job itself is being ended, as by saltutil.term_job.
            _end(process)
            raise
    if process.returncode:
        raise CommandExecutionError(
            f"{' '.join(argv)} failed with exit code {process.returncode}."
            f"{_hint(log, folder)} {_end_of(log)}"
        )
    return log


def _end(process):
    """End a command with all that it has started, as make its compilers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end_of(log):
    """Show the last lines of a command's log."""
    end = "\n".join(log.rstrip().splitlines()[-LOG_LINES:])
    return f"The end of its log:\n{end}"


def _hint(log, folder):
    """Say in a sentence what a failed command was missing, where its log tells."""
    header = re.search(r"fatal error: (\S+): No such file or directory", log)
    if header:
        return f" The header {header[1]} is missing."
    if os.strerror(errno.ENOSPC) in log:
        return f" The disk of {folder} is full."
    program = _MISSING_PROGRAM.search(log)
    if program:
        return f" The program {program[1]} is missing."
    return ""


def disk_error(err, path):
    """
    Put an OSError into words.

    err
        The OSError.
    path
        What was being written.

    Returns a CommandExecutionError to raise.
    """
    if err.errno == errno.ENOSPC:
        return CommandExecutionError(f"the disk of {path} is full")
    return CommandExecutionError(f"{err.filename or path}: {err.strerror or err}")


def install(program, argv, source, path, version, checksum, options):
    """
    Install what was compiled beside its place, try it, and rename it to its place.

    program
        The program's file name.
    argv
        The command that installs, without ``DESTDIR``.
    source
        The folder it was compiled in; on the same file system as ``path``.
    path
        As :func:`build_path` names it.
    version, checksum, options
        What it was built from; goes into the record.

    Returns ``path``.

    Raises CommandExecutionError when it cannot be installed, or what was installed
    does not run or is another version.
    """
    staging = f"{source.rstrip('/')}.staged"
    staged = os.path.join(staging, path.lstrip("/"))
    run([*argv, f"DESTDIR={staging}"], source)
    says = run([os.path.join(staged, "sbin", program), "-v"], source)
    if not re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", says):
        raise CommandExecutionError(
            f"{program} was built, but says of itself: {says.strip().partition(chr(10))[0]}; "
            f"expected version {version}"
        )
    built = {"version": version, "checksum": checksum, "options": options, "built": time.time()}
    try:
        with salt.utils.files.fopen(os.path.join(staged, RECORD), "w") as handle:
            json.dump(built, handle, indent=2)
        os.sync()
        if os.path.lexists(path):
            # Without a record of ours, or damaged: it was not taken for a build.
            shutil.rmtree(path)
        os.rename(staged, path)
    except OSError as err:
        raise disk_error(err, path) from err
    return path


@contextlib.contextmanager
def workspace(prefix):
    """
    Have a folder to build in, on the disk that the build will be on; gone at the end.

    prefix
        What the names of this program's builds begin with.

    Removes what earlier, interrupted attempts left. The folder is locked, so that no
    other run takes it for such.

    Raises CommandExecutionError when it cannot be made.
    """
    for left in leftovers(prefix):
        shutil.rmtree(left, ignore_errors=True)
    parent = os.path.dirname(prefix)
    try:
        os.makedirs(parent, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=_workspace_prefix(prefix), dir=parent)
        lock = _lock(folder)
    except OSError as err:
        raise disk_error(err, parent) from err
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder):
    """Lock a folder as long as this process lives; raises BlockingIOError where another has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_locked(folder):
    """Tell whether a build is at work in a folder."""
    try:
        os.close(_lock(folder))
    except BlockingIOError:
        return True
    except OSError:
        # Gone meanwhile, or no folder.
        return False
    return False


def _workspace_prefix(prefix):
    return f".{os.path.basename(prefix)}.building."


def build(wanted, cache_file, compile_source, install_build):
    """
    Do all steps in a folder that is gone afterwards; what is in use is not touched.

    wanted
        Mapping with ``url``, ``checksum``, ``version``, ``options``, ``prefix`` and ``path``, as
        ``plan`` of the program's module returns it.
    cache_file
        Salt's ``cp.cache_file``.
    compile_source, install_build
        The program's own steps: functions of its module, as Salt's loader has them.

    Returns the path of the build.

    Raises CommandExecutionError from the step that failed.
    """
    archive = fetch(wanted["url"], wanted["checksum"], cache_file)
    with workspace(wanted["prefix"]) as folder:
        source = extract(archive, folder)
        compile_source(source, wanted["options"], wanted["path"])
        return install_build(
            source, wanted["path"], wanted["version"], wanted["checksum"], wanted["options"]
        )


def record(path):
    """
    Read what a build was made from.

    path
        The build's folder.

    Returns a mapping with ``path``, ``version``, ``checksum`` and ``options``; None
    when that is no complete build, such as one without a program to run.
    """
    programs = glob.glob(os.path.join(glob.escape(path), "sbin", "*"))
    if not any(os.access(program, os.X_OK) for program in programs):
        return None
    try:
        with salt.utils.files.fopen(os.path.join(path, RECORD)) as handle:
            built = json.load(handle)
        return {"path": path, **{key: built[key] for key in ("version", "checksum", "options")}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def leftovers(prefix):
    """
    List the folders that interrupted builds left; one that is at work keeps its own.

    prefix
        What the names of this program's builds begin with.

    Returns a list of paths.
    """
    folder = os.path.join(os.path.dirname(prefix), _workspace_prefix(os.path.basename(prefix)))
    found = sorted(glob.glob(f"{glob.escape(folder)}*"))
    return [path for path in found if not _is_locked(path)]
