"""rabbit_run_lock: another process is kept out for as long as the first one lives."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import ROOT, load

HOLDER = """\
import sys
sys.path.insert(0, sys.argv[1])
import rabbit_run_lock
rabbit_run_lock.acquire(sys.argv[2])
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def lock():
    return load("_utils/rabbit_run_lock.py")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "rabbit_ha.lock")


@pytest.fixture
def other(path):
    """Another process that has taken the lock."""
    command = [sys.executable, "-c", HOLDER, str(ROOT / "_utils"), path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"taken\n"
        yield process
        process.kill()


def test_another_process_is_named_and_gives_the_lock_up_when_it_is_killed(lock, path, other):
    with pytest.raises(CommandExecutionError, match=f"under way .*: process {other.pid}, since"):
        lock.acquire(path)
    other.kill()
    other.wait()
    lock.acquire(path)


def test_the_same_process_may_take_it_again(lock, path):
    lock.acquire(path)
    lock.acquire(path)
    # The loader may load the file anew in between.
    load("_utils/rabbit_run_lock.py").acquire(path)


def test_the_lock_file_is_for_its_owner_only(lock, path):
    lock.acquire(path)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_lock_file_that_cannot_be_written_is_named_with_what_to_look_at(lock, tmp_path):
    path = tmp_path / "nowhere" / "rabbit_ha.lock"
    with pytest.raises(CommandExecutionError) as raised:
        lock.acquire(str(path))
    assert str(raised.value) == (
        f"{path}, with which other runs are kept out, cannot be written: No such file or "
        f"directory; no host was touched. Next, on the master: ls -ld {path.parent}; df -h "
        f"{path.parent}"
    )


def test_a_full_disk_is_told_as_well(lock, path):
    def write(handle, data):
        raise OSError(28, "No space left on device")

    lock.os = SimpleNamespace(**{**vars(os), "write": write})
    with pytest.raises(CommandExecutionError, match="cannot be written: No space left on device"):
        lock.acquire(path)
