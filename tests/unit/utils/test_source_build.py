"""source_build: each step on real archives, and everything that can go wrong in one."""

import errno
import hashlib
import inspect
import os
import pathlib
import subprocess
import sys
import tarfile
import time

import pytest
import salt.modules.cp
from salt.exceptions import CommandExecutionError, MinionError, SaltInvocationError

from tests import fake_source
from tests.support import ROOT, load

SHA256 = "0" * 64


@pytest.fixture
def build():
    return load("_utils/source_build.py")


def no_cache(*args, **kwargs):
    raise AssertionError("a path on this host is not fetched")


def test_the_fake_file_client_takes_what_salt_s_takes():
    for name in ("cache_file", "get_file_str"):
        real, fake = getattr(salt.modules.cp, name), getattr(fake_source, name)
        assert inspect.signature(fake) == inspect.signature(real)


# What is to be built

PRESETS = {"2.6.12": {"url": "https://x", "checksum": f"sha256={SHA256}"}, "1.0": {"url": "y"}}


def source(build, version, url=None, checksum=None, **options):
    said = {"version": version, "url": url, "checksum": checksum, "options": options}
    return build.source("haproxy", PRESETS, said)


def test_a_known_version_needs_nothing_more(build):
    assert source(build, "2.6.12") == {
        "version": "2.6.12",
        "url": "https://x",
        "checksum": f"sha256={SHA256}",
    }


def test_pillar_s_url_is_a_mirror_of_the_preset_s_archive(build):
    assert source(build, "2.6.12", "/a")["checksum"] == f"sha256={SHA256}"


@pytest.mark.parametrize(
    ("version", "url", "checksum", "says"),
    [
        ("1.0", None, None, "haproxy:source:checksum is missing"),
        ("9.9", None, None, "haproxy:source:url is missing, and 9.9 is not among the known"),
        ("9.9", "https://z", None, "haproxy:source:checksum is missing"),
        (None, None, None, "haproxy:source:version is missing"),
        (3.1, None, None, "a version in quotes"),
        ("2.6.12", None, "md5=abc", "sha256= and 64 hexadecimal digits"),
        ("2.6.12", None, 0, "the checksum 0 is not one|checksum is missing"),
    ],
)
def test_what_is_missing_is_named_with_its_place_in_pillar(build, version, url, checksum, says):
    with pytest.raises(SaltInvocationError, match=says):
        source(build, version, url, checksum)


@pytest.mark.parametrize("prefix", ["/", "//", "local/haproxy", "/usr/my builds", "."])
def test_builds_have_a_place_below_the_root(build, prefix):
    with pytest.raises(SaltInvocationError, match="options:PREFIX is .*; expected an absolute"):
        source(build, "2.6.12", PREFIX=prefix)


@pytest.mark.parametrize("prefix", ["/opt", "/opt/haproxy/", None, ""])
def test_a_place_may_be_given_or_left_out(build, prefix):
    assert source(build, "2.6.12", PREFIX=prefix)


def test_all_faults_are_told_at_once(build):
    with pytest.raises(SaltInvocationError) as raised:
        source(build, "1.7.14", TARGET="linux-glibc", PREFIX="x", use_pcre=1)
    assert [
        line.split(" is ")[0].rsplit("source:")[1] for line in str(raised.value).split("\n")
    ] == [
        "url",
        "options:use_pcre",
        "options:PREFIX",
        "version",
        "options:TARGET",
    ]


@pytest.mark.parametrize(
    ("checksum", "expected"),
    [
        (f"sha256={SHA256}", ("sha256", SHA256)),
        (f"SHA256:{'AB' * 32}", ("sha256", "ab" * 32)),
        (SHA256, ("sha256", SHA256)),
        ("f" * 128, ("sha512", "f" * 128)),
    ],
)
def test_checksums_are_taken_as_people_write_them(build, checksum, expected):
    assert build.checksum_parts(checksum) == expected


@pytest.mark.parametrize("checksum", ["", "sha256=", "sha256=" + "g" * 64, "md5=" + "0" * 32, "0"])
def test_what_is_no_checksum_is_refused(build, checksum):
    with pytest.raises(SaltInvocationError, match="is not one"):
        build.checksum_parts(checksum)


def test_another_option_is_another_build(build):
    one = build.build_path("/opt/haproxy", "2.6.12", SHA256, {"TARGET": "linux-glibc"})
    same = build.build_path(
        "/opt/haproxy/", "2.6.12", f"sha256={SHA256}", {"TARGET": "linux-glibc"}
    )
    other = build.build_path("/opt/haproxy", "2.6.12", SHA256, {"TARGET": "generic"})
    assert one == same != other
    assert one.startswith("/opt/haproxy-2.6.12-")


# Fetch


def test_a_verified_archive_on_this_host_is_used_where_it_is(build, tmp_path):
    path, checksum = fake_source.archive(tmp_path, "haproxy", "2.6.12")
    assert build.fetch(path, checksum, no_cache) == path
    assert build.fetch(f"file://{path}", checksum, no_cache) == path


def test_sha512_is_verified_too(build, tmp_path):
    path, _ = fake_source.archive(tmp_path, "haproxy", "2.6.12")
    digest = hashlib.sha512(pathlib.Path(path).read_bytes()).hexdigest()
    assert build.fetch(path, f"sha512={digest}", no_cache) == path


def test_an_archive_from_elsewhere_is_cached_by_salt_and_verified(build, tmp_path):
    path, checksum = fake_source.archive(tmp_path, "haproxy", "2.6.12")
    asked = []

    def cache_file(url, **kwargs):
        asked.append((url, kwargs))
        return path

    assert build.fetch("salt://haproxy.tar.gz", checksum, cache_file) == path
    assert asked == [("salt://haproxy.tar.gz", {"source_hash": checksum})]


def test_a_wrong_checksum_stops_there_and_the_cached_copy_goes(build, tmp_path):
    path, _ = fake_source.archive(tmp_path, "haproxy", "2.6.12")
    with pytest.raises(CommandExecutionError, match=f"expected {SHA256}. It was not unpacked"):
        build.fetch(path, SHA256, no_cache)
    assert os.path.exists(path)
    with pytest.raises(CommandExecutionError, match="https://x is not what it should be"):
        build.fetch("https://x", SHA256, lambda *_, **__: path)
    assert not os.path.exists(path)


def failing(url, **kwargs):
    raise MinionError("HTTP 404")


@pytest.mark.parametrize(
    ("url", "cache_file", "says"),
    [
        ("https://x", failing, "https://x could not be fetched: HTTP 404"),
        ("salt://x", fake_source.cache_file, "salt://x could not be fetched"),
        ("/nowhere/x", no_cache, "/nowhere/x cannot be read: No such file"),
    ],
)
def test_what_cannot_be_had_is_said(build, url, cache_file, says):
    with pytest.raises(CommandExecutionError, match=says):
        build.fetch(url, SHA256, cache_file)


def test_any_other_kind_of_url_is_refused(build):
    with pytest.raises(SaltInvocationError, match="is not https://"):
        build.fetch("haproxy.tar.gz", SHA256, no_cache)


# Extract


def test_extract_tells_the_folder(build, tmp_path):
    path, _ = fake_source.archive(tmp_path, "haproxy", "2.6.12")
    source = build.extract(path, str(tmp_path))
    assert source == str(tmp_path / "haproxy-2.6.12")
    assert (tmp_path / "haproxy-2.6.12" / "Makefile").exists()


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "garbled"])
def test_a_broken_archive_is_said_to_be_broken(build, tmp_path, kind):
    path, _ = fake_source.archive(
        tmp_path, "haproxy", "2.6.12", big="x" * 10000 + os.urandom(9).hex()
    )
    data = pathlib.Path(path).read_bytes()
    broken = {
        "cut": data[: len(data) // 2],
        "text": b"<html>404</html>",
        "empty": b"",
        "garbled": data[:40] + b"\xff" * 40 + data[80:],
    }
    pathlib.Path(path).write_bytes(broken[kind])
    with pytest.raises(CommandExecutionError, match=f"{path} is broken"):
        build.extract(path, str(tmp_path))


def test_an_archive_that_is_not_one_folder_is_refused(build, tmp_path):
    path = tmp_path / "two.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("one"))
        tar.addfile(tarfile.TarInfo("two"))
    with pytest.raises(CommandExecutionError, match="it holds one, two at its top"):
        build.extract(str(path), str(tmp_path))


def test_nothing_is_written_outside_of_the_folder(build, tmp_path):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("haproxy/../../evil"))
    with pytest.raises(CommandExecutionError, match="no source archive"):
        build.extract(str(path), str(tmp_path / "in"))
    assert not (tmp_path / "evil").exists()


def test_a_full_disk_is_said_to_be_full(build, tmp_path, monkeypatch):
    path, _ = fake_source.archive(tmp_path, "haproxy", "2.6.12")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(CommandExecutionError, match=f"the disk of {tmp_path} is full"):
        build.extract(path, str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_really_full_disk_is_said_to_be_full(build, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        big = os.urandom(100_000).hex()
        path, _ = fake_source.archive(tmp_path, "haproxy", "2.6.12", big=big)
        with pytest.raises(CommandExecutionError, match=f"the disk of {disk} is full"):
            build.extract(path, str(disk))
        with pytest.raises(CommandExecutionError, match=f"The disk of {disk} is full"):
            build.run(["dd", "if=/dev/zero", "of=big", "bs=64k", "count=1"], str(disk))
    finally:
        subprocess.run(["umount", disk], check=True)


# Run


def test_a_failed_command_shows_the_end_of_its_log(build, tmp_path):
    script = "for i in $(seq 100); do echo line $i; done; echo oops >&2; exit 3"
    with pytest.raises(CommandExecutionError) as caught:
        build.run(["sh", "-c", script], str(tmp_path))
    assert "failed with exit code 3" in str(caught.value)
    assert str(caught.value).endswith("line 100\noops")
    assert "line 50\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("a.c:1:10: fatal error: openssl/ssl.h: No such file or directory", "header openssl/ssl.h"),
        ("make: cc: No such file or directory\nmake: *** [x] Error 127", "program cc is missing"),
        ("/bin/sh: 1: gcc: not found", "program gcc is missing"),
        ("cc: error: closing a.o: No space left on device", "disk of .* is full"),
    ],
)
def test_what_is_missing_is_named(build, tmp_path, log, says):
    with pytest.raises(CommandExecutionError, match=says):
        build.run(["sh", "-c", f"cat; echo '{log}'; exit 2"], str(tmp_path))


def is_alive(process):
    try:
        stat = pathlib.Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def gone(process):
    """Wait until a process is gone; returns whether it is."""
    for _ in range(100):
        if not is_alive(process):
            return True
        time.sleep(0.05)
    return False


STARTS_ANOTHER = "echo begun; sleep 600 & echo $! > child; wait"


def test_a_command_that_takes_too_long_is_ended_with_all_it_has_started(
    build, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "COMMAND_TIMEOUT", 2)
    with pytest.raises(CommandExecutionError) as caught:
        build.run(["sh", "-c", STARTS_ANOTHER], str(tmp_path))
    assert "was ended, as it took longer than 2 s. Next: uptime" in str(caught.value)
    assert str(caught.value).endswith("The end of its log:\nbegun")
    assert gone((tmp_path / "child").read_text().strip())


def test_a_build_that_is_ended_from_outside_leaves_nothing_behind(build, tmp_path, monkeypatch):
    def ended(*args, **kwargs):
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
            time.sleep(0.05)
        raise SystemExit

    monkeypatch.setattr(build.subprocess.Popen, "communicate", ended)
    with pytest.raises(SystemExit):
        build.run(["sh", "-c", STARTS_ANOTHER], str(tmp_path))
    assert gone((tmp_path / "child").read_text().strip())


def test_without_make_it_is_make_that_is_missing(build, tmp_path):
    with pytest.raises(CommandExecutionError, match="The program no-such-make is missing"):
        build.run(["no-such-make", "-j2"], str(tmp_path))


# Install


def a_build(build, tmp_path, version, program="haproxy", option="1"):
    """Really build, the way the modules do; returns the build's path."""
    prefix = str(tmp_path / "local" / program)
    archive, checksum = fake_source.archive(tmp_path, program, version)
    options = {"USE_PCRE2": option}
    path = build.build_path(prefix, version, checksum, options)

    def compile_source(source, options, path):
        build.run(["make", f"PREFIX={path}"], source)

    def install_build(source, path, *built_from):
        argv = ["make", "install", f"PREFIX={path}"]
        return build.install(program, argv, source, path, *built_from)

    wanted = {"url": archive, "checksum": checksum, "version": version, "options": options}
    wanted |= {"prefix": prefix, "path": path}
    return build.build(wanted, no_cache, compile_source, install_build)


def test_a_build_is_complete_with_a_record_and_nothing_beside_it(build, tmp_path):
    path = a_build(build, tmp_path, "2.6.12")
    assert build.record(path)["version"] == "2.6.12"
    assert build.record(path)["options"] == {"USE_PCRE2": "1"}
    assert os.listdir(tmp_path / "local") == [os.path.basename(path)]
    assert sorted(os.listdir(path)) == [build.RECORD, "sbin"]


def test_a_program_of_another_version_than_said_is_not_installed(build, tmp_path):
    archive, checksum = fake_source.archive(tmp_path, "haproxy", "2.6.1")
    path = str(tmp_path / "haproxy-2.6.12-x")
    source = build.extract(archive, str(tmp_path))
    build.run(["make", f"PREFIX={path}"], source)
    argv = ["make", "install", f"PREFIX={path}"]
    with pytest.raises(CommandExecutionError, match="version 2.6.1 .*; expected version 2.6.12"):
        build.install("haproxy", argv, source, path, "2.6.12", checksum, {})
    assert not os.path.exists(path)


def test_a_build_without_its_record_is_none_and_is_built_anew(build, tmp_path):
    path = a_build(build, tmp_path, "2.6.12")
    os.remove(os.path.join(path, build.RECORD))
    assert build.record(path) is None
    assert a_build(build, tmp_path, "2.6.12") == path
    assert build.record(path)


def test_a_folder_that_is_built_in_is_nobody_s_leftover(build, tmp_path):
    prefix = str(tmp_path / "local" / "haproxy")
    with build.workspace(prefix) as first:
        assert build.leftovers(prefix) == []
        with build.workspace(prefix) as second:
            assert os.path.isdir(first) and first != second
    assert os.listdir(tmp_path / "local") == []


def test_a_folder_whose_builder_was_killed_is_a_leftover(build, tmp_path):
    prefix = str(tmp_path / "local" / "haproxy")
    builder = (
        f"from tests.support import ROOT, load; b = load('_utils/source_build.py')\n"
        f"with b.workspace({prefix!r}): print('ready', flush=True); input()"
    )
    command = [sys.executable, "-c", builder]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        [left] = (tmp_path / "local").iterdir()
        assert build.leftovers(prefix) == []
        process.kill()
    assert build.leftovers(prefix) == [str(left)]


def test_a_workspace_that_cannot_be_made_is_told(build, tmp_path):
    (tmp_path / "local").write_text("a file")
    with (
        pytest.raises(CommandExecutionError, match="local"),
        build.workspace(str(tmp_path / "local" / "haproxy")),
    ):
        pass
