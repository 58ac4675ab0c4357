"""rabbit_secret_files: real files, whose modes count as much as what is in them."""

import fcntl
import os
import stat
import threading

import pytest
from salt.exceptions import CommandExecutionError
from salt.utils import yaml

from tests.support import load

PASSWORD = ["rabbitmq", "users", "admin", "password"]
OTHER = ["rabbitmq", "users", "a:b", "password"]


@pytest.fixture
def module():
    return load("_utils/rabbit_secret_files.py")


@pytest.fixture
def complete(module):
    return module.complete


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pillar" / "rabbit_ha" / "secrets" / "broker.sls"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def secret(path, place=PASSWORD):
    found = yaml.safe_load(path.read_text())["rabbit_ha"]
    for key in place:
        found = found[key]
    return found


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_file_and_folders_are_for_their_owner_alone_whatever_the_umask(complete, path, umask):
    before = os.umask(umask)
    try:
        assert complete(str(path), [PASSWORD]) == "created"
        complete(str(path), [OTHER])
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    for folder in (path.parent, path.parents[1], path.parents[2]):
        assert mode(folder) == 0o700


def test_a_folder_and_a_file_that_others_could_read_are_made_private(complete, path):
    complete(str(path), [PASSWORD])
    made = secret(path)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    told = "already there, left as it is; others could read it, and no longer can"
    assert complete(str(path), []) == told
    assert (mode(path), mode(path.parent), secret(path)) == (0o600, 0o700, made)
    assert complete(str(path), []) == "already there, left as it is"


def test_what_is_in_the_file_stays_and_what_is_missing_comes_beside_it(complete, path):
    complete(str(path), [PASSWORD])
    made = secret(path)
    assert complete(str(path), [PASSWORD, OTHER]) == "added rabbit_ha:rabbitmq:users:a:b:password"
    assert secret(path) == made != secret(path, OTHER)
    assert complete(str(path), [PASSWORD, OTHER]) == "already there, left as it is"


def test_a_secret_that_was_left_empty_is_filled(complete, path):
    path.parent.mkdir(parents=True)
    path.write_text(
        "# Made by: salt-run rabbit_ha.secrets\nrabbit_ha: {rabbitmq: {users: {admin: }}}\n"
    )
    complete(str(path), [PASSWORD])
    assert len(secret(path)) == 32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rabbit_ha: {}", "not made by this command, left as it is; pillar lacks rabbit_ha:rabb"),
        ("#!yaml|gpg\nrabbit_ha: {}", "not made by this command"),
        ("# Made by: salt-run rabbit_ha.secrets\n{% if", "no longer YAML, left as it is"),
        (
            "# Made by: salt-run rabbit_ha.secrets\nrabbit_ha: {rabbitmq: {users: {admin: S3c}}}",
            "above password: expected a mapping; left as it is",
        ),
        (
            "# Made by: salt-run rabbit_ha.secrets\n[S3c]",
            "above rabbit_ha: expected a mapping; left as it is",
        ),
    ],
)
def test_a_file_that_cannot_be_added_to_is_left_as_it_is(complete, path, text, said):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(CommandExecutionError, match=said) as raised:
        complete(str(path), [PASSWORD])
    assert str(path) in str(raised.value) and "S3c" not in str(raised.value)
    assert path.read_text() == text


def test_a_folder_that_cannot_be_written_is_an_error_that_says_who_has_to(complete, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandExecutionError, match="The user that runs the master has to be able"):
        complete(str(tmp_path / "file" / "broker.sls"), [PASSWORD])


def test_two_runs_at_once_make_one_secret(complete, path):
    runs = [threading.Thread(target=complete, args=(str(path), [PASSWORD])) for _ in range(4)]
    seen = set()
    for run in runs:
        run.start()
    for run in runs:
        run.join()
        seen.add(secret(path))
    assert len(seen) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_run_that_does_not_end_is_not_waited_for_without_an_end(module, path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.2)
    path.parent.mkdir(parents=True)
    other = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CommandExecutionError, match="has had it locked.*pgrep -af salt-run"):
            module.complete(str(path), [PASSWORD])
    finally:
        os.close(other)
    assert not path.exists()
