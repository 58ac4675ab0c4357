"""source_builds: which build is in use, switched in one step, and what can go."""

import os
import pathlib
import shutil
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from tests.fake_source import archive, build_module, builds_module


@pytest.fixture
def source_builds():
    return builds_module()


@pytest.fixture
def prefix(tmp_path):
    return str(tmp_path / "local" / "haproxy")


@pytest.fixture
def build(tmp_path, prefix):
    """Return a function that really builds a version; it returns the build's path."""

    def build(version):
        url, checksum = archive(tmp_path, "haproxy", version)
        return build_module("haproxy").build(version, url, checksum, {"PREFIX": prefix})

    return build


@pytest.fixture
def link(tmp_path):
    return str(tmp_path / "sbin" / "haproxy")


def test_the_link_switches_and_the_one_before_stays_but_none_older(
    source_builds, build, prefix, link
):
    first = build("2.6.10")
    source_builds.use(first, link)
    second = build("2.6.11")
    source_builds.use(second, link)
    assert source_builds.current(link)["path"] == second
    assert subprocess.run([link], capture_output=True, text=True, check=True).stdout.split()[2] == (
        "2.6.11"
    )
    assert source_builds.surplus(prefix, link) == []
    third = build("2.6.12")
    source_builds.use(third, link)
    assert source_builds.surplus(prefix, link) == [first]
    source_builds.use(second, link)
    assert source_builds.surplus(prefix, link) == [first]


def test_what_is_built_ahead_displaces_neither_the_one_before_nor_itself(
    source_builds, build, prefix, link
):
    first, second = build("2.6.10"), build("2.6.11")
    source_builds.use(first, link)
    source_builds.use(second, link)
    ahead = build("2.6.12")
    assert source_builds.surplus(prefix, link) == []
    assert source_builds.surplus(prefix, link, ahead) == [first]
    source_builds.use(ahead, link)
    assert source_builds.surplus(prefix, link) == [first]


def test_the_one_before_is_known_by_name_however_old_it_looks(source_builds, build, prefix, link):
    first, second, third = build("2.6.10"), build("2.6.11"), build("2.6.12")
    source_builds.use(first, link)
    source_builds.use(third, link)
    os.utime(first, (0, 0))
    os.utime(second, (1, 1))
    assert source_builds.surplus(prefix, link) == [second]
    # Set again, as after an interrupted run, it is not its own.
    source_builds.use(third, link)
    assert source_builds.surplus(prefix, link) == [second]


def test_the_one_before_is_still_known_after_a_time_with_the_package(
    source_builds, build, prefix, link
):
    first, second, third = build("2.6.10"), build("2.6.11"), build("2.6.12")
    source_builds.use(first, link)
    source_builds.use(third, link)
    source_builds.unuse(link)
    assert source_builds.surplus(prefix, link, second) == [first]
    source_builds.use(third, link)
    assert source_builds.surplus(prefix, link) == [second]


def test_with_the_package_in_use_the_last_two_builds_stay(source_builds, build, prefix, link):
    path = build("2.6.12")
    source_builds.use(path, link)
    assert source_builds.unuse(link) is True
    assert source_builds.unuse(link) is False
    assert source_builds.current(link) is None
    assert source_builds.surplus(prefix, link) == []


def test_what_an_interrupted_build_left_is_found_and_goes_with_the_next(
    source_builds, build, prefix, link
):
    local = pathlib.Path(prefix).parent
    left = local / ".haproxy.building.abc"
    (left / "haproxy-2.6.12").mkdir(parents=True)
    assert source_builds.surplus(prefix, link) == [str(left)]
    path = build("2.6.12")
    assert os.listdir(local) == [os.path.basename(path)]


def test_a_program_that_others_put_there_is_not_replaced(source_builds, build, link):
    path = build("2.6.12")
    pathlib.Path(link).parent.mkdir()
    pathlib.Path(link).write_text("mine")
    with pytest.raises(CommandExecutionError, match="is none of this project's links"):
        source_builds.use(path, link)
    assert pathlib.Path(link).read_text() == "mine"
    assert source_builds.current(link) is None
    assert source_builds.unuse(link) is False


def test_a_link_to_a_build_that_is_gone_is_not_in_use(source_builds, build, link):
    path = build("2.6.12")
    source_builds.use(path, link)
    shutil.rmtree(path)
    assert source_builds.current(link) is None
    source_builds.use(build("2.6.12"), link)
    assert source_builds.current(link)["path"] == path
