"""rabbit_node_data: files that RabbitMQ's account has put there, whatever they are."""

import os

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import load

read = load("_utils/rabbit_node_data.py").read


def test_what_is_in_a_file_is_read_and_one_that_is_gone_is_none(tmp_path):
    (tmp_path / "config").write_bytes(b"content")
    # As a backup by hard links leaves it.
    os.link(tmp_path / "config", tmp_path / "copy")
    assert read(tmp_path / "config") == b"content"
    assert read(tmp_path / "gone") is None


def a_link(path):
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("kind", [a_link, os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
    path = tmp_path / "config"
    kind(path)
    with pytest.raises(CommandExecutionError, match=f"{path} cannot be read: .*Next: ls -l {path}"):
        read(path)
