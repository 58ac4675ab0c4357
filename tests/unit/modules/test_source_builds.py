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

    def build(version, program="haproxy", prefix=prefix):
        url, checksum = archive(tmp_path, program, version)
        key = {"haproxy": "PREFIX", "keepalived": "prefix"}[program]
        return build_module(program).build(version, url, checksum, {key: prefix})

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


def test_builds_below_the_prefix_of_before_go_as_others_do(source_builds, build, tmp_path, link):
    old, new = str(tmp_path / "old" / "haproxy"), str(tmp_path / "new" / "lb-2.6")
    first, second = build("2.6.10", prefix=old), build("2.6.11", prefix=old)
    source_builds.use(first, link)
    source_builds.use(second, link)
    third = build("2.6.12", prefix=new)
    # Foreseen before the switch, and seen after it: the one in use and the one before stay.
    assert source_builds.surplus(new, link, third) == [first]
    source_builds.use(third, link)
    assert source_builds.surplus(new, link) == [first]
    ahead = build("2.6.14", prefix=old)
    fourth = build("2.6.13", prefix=new)
    source_builds.use(fourth, link)
    # Not removed in its time, as by a run that was killed, it is still found.
    assert set(source_builds.surplus(new, link)) == {ahead, second, first}
    left = tmp_path / "old" / ".haproxy.building.abc"
    left.mkdir()
    assert source_builds.surplus(new, link)[0] == str(left)


def test_the_one_before_stays_below_the_prefix_of_before_when_that_is_gone_back_to(
    source_builds, build, tmp_path, link
):
    old, new = str(tmp_path / "old" / "haproxy"), str(tmp_path / "new" / "haproxy")
    first, second = build("2.6.10", prefix=old), build("2.6.11", prefix=new)
    for path in (first, second, first):
        source_builds.use(path, link)
    assert source_builds.surplus(old, link) == source_builds.surplus(new, link) == []
    assert source_builds.surplus(new, link, second) == []


def test_another_program_s_builds_are_no_surplus_whatever_they_are_called(
    source_builds, build, prefix, link
):
    for version in ("2.0.19", "2.0.20", "2.2.7"):
        build(version, "keepalived", prefix)
    source_builds.use(build("2.6.12"), link)
    assert source_builds.surplus(prefix, link) == []
    assert source_builds.surplus(prefix, link, build("2.6.13")) == []


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
