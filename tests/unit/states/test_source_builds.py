"""
haproxy_build and keepalived_build, the states: built, rebuilt, switched back, taken out of use.

Sources are small, what is done with them is the real thing.
"""

import hashlib
import os
import pathlib
import subprocess

import pytest
import salt.modules.file
import salt.modules.systemd_service
from salt.exceptions import CommandExecutionError

from tests.fake_source import archive, build_module, builds_module
from tests.support import Breakable, faked, functions, load

UNIT = "# Written by Salt, for a build\n[Service]\n"


class Systemd(Breakable):
    """Salt's ``service``, as far as units are read again."""

    def systemctl_reload(self):
        self._takes("systemctl_reload")
        return True


class Host:
    """A host on which one of the two programs is built."""

    def __init__(self, folder, program, test=False, **broken):
        self.folder, self.program = folder, program
        self.link = str(folder / "sbin" / program)
        self.unit = folder / f"{program}.service"
        self.prefix = str(folder / "local" / program)
        self.systemd = Systemd()
        self.builds = builds_module()
        loaded = functions(f"{program}_build", build_module(program))
        loaded |= functions("source_builds", self.builds) | {
            "file.contains": salt.modules.file.contains,
            "file.remove": os.remove,
        }
        loaded |= faked("service", self.systemd, salt.modules.systemd_service)
        for name, function in broken.items():
            module = f"{program}_build" if name == "build" else "source_builds"
            loaded[f"{module}.{name}"] = function
        shared = load("_utils/source_build_state.py", salt=loaded)
        utils = functions("source_build_state", shared)
        self.states = load(f"_states/{program}_build.py", opts={"test": test}, utils=utils)

    def installed(self, version="2.6.12", files=None, **options):
        url, checksum = archive(self.folder, self.program, version, **(files or {}))
        return self.installed_from(url, checksum, version, **options)

    def installed_from(self, url, checksum, version="2.6.12", **options):
        key = "PREFIX" if self.program == "haproxy" else "prefix"
        return self.states.installed(
            self.link, version, url, checksum, {key: self.prefix, **options}
        )

    def absent(self):
        return self.states.absent(self.link, str(self.unit))

    def current(self):
        return self.builds.current(self.link)

    def there(self):
        local = self.folder / "local"
        return sorted(os.listdir(local)) if local.exists() else []


@pytest.fixture(params=["haproxy", "keepalived"])
def host(request, tmp_path):
    """Return a function that gives the one host, in test mode or not."""

    def build(**kwargs):
        return Host(tmp_path, request.param, **kwargs)

    return build


@pytest.fixture
def haproxy(tmp_path):
    def build(**kwargs):
        return Host(tmp_path, "haproxy", **kwargs)

    return build


def test_on_a_bare_host_it_is_built_and_a_second_run_changes_nothing(host):
    ret = host().installed()
    assert ret["result"] is True
    assert "has been built from" in ret["comment"]
    current = host().current()
    assert current["version"] == "2.6.12"
    assert list(ret["changes"].values()) == [{"old": None, "new": current["path"]}]
    again = host().installed()
    assert (again["result"], again["changes"]) == (True, {})
    assert again["comment"].endswith(f"2.6.12 in {current['path']} is already installed")
    foreseen = host(test=True).installed()
    assert (foreseen["result"], foreseen["changes"]) == (True, {})


def test_in_test_mode_a_bare_host_would_be_built_on_and_nothing_is_fetched(host):
    ret = host(test=True).installed()
    assert ret["result"] is None
    assert "would have been built from" in ret["comment"]
    assert "none is in use" in ret["comment"]
    assert ret["changes"]
    assert host().there() == []
    assert not os.path.lexists(host().link)


@pytest.mark.parametrize("used", [True, False], ids=["in use", "not in use"])
@pytest.mark.parametrize("broken", [os.remove, lambda path: os.chmod(path, 0o644)])
def test_a_build_without_its_program_is_built_again(host, used, broken):
    host().installed()
    path = host().current()["path"]
    if not used:
        host().installed("2.6.13")
    broken(f"{path}/sbin/{host().program}")
    foreseen = host(test=True).installed()
    assert "would have been built from" in foreseen["comment"]
    ret = host().installed()
    assert ret["result"] is True, ret["comment"]
    assert host().current()["path"] == path
    assert os.access(f"{path}/sbin/{host().program}", os.X_OK)
    assert host().installed()["changes"] == {}


def test_another_version_is_built_beside_and_the_one_before_can_be_had_back(host):
    host().installed("2.6.11")
    before = host().current()["path"]
    foreseen = host(test=True).installed("2.6.12")
    assert "version 2.6.11 is in use, 2.6.12 is wanted" in foreseen["comment"]
    assert host().current()["path"] == before
    ret = host().installed("2.6.12")
    assert host().current()["version"] == "2.6.12"
    assert ret["changes"] == foreseen["changes"]
    back = host(test=True).installed("2.6.11")
    assert "would have been switched to, being there already" in back["comment"]
    back = host(build=None).installed("2.6.11")
    assert "has been switched to" in back["comment"]
    assert host().current()["path"] == before


def test_of_older_versions_only_the_one_before_stays(host):
    host().installed("2.6.10")
    oldest = host().current()["path"]
    assert "removed" not in host().installed("2.6.11")["changes"]
    before = host().current()["path"]
    foreseen = host(test=True).installed("2.6.12")
    assert foreseen["result"] is None
    ret = host().installed("2.6.12")
    assert ret["changes"] == foreseen["changes"]
    assert ret["changes"]["removed"] == [oldest]
    kept = [os.path.basename(path) for path in (before, host().current()["path"])]
    assert host().there() == kept


def test_under_another_prefix_too_only_the_one_before_stays(host):
    key = {"haproxy": "PREFIX", "keepalived": "prefix"}[host().program]
    elsewhere = {key: str(host().folder / "elsewhere" / "balancer")}
    host().installed("2.6.10")
    oldest = host().current()["path"]
    host().installed("2.6.11")
    before = host().current()["path"]
    foreseen = host(test=True).installed("2.6.12", **elsewhere)
    ret = host().installed("2.6.12", **elsewhere)
    assert ret["changes"] == foreseen["changes"]
    assert ret["changes"]["removed"] == [oldest]
    assert host().there() == [os.path.basename(before)]
    assert host().installed("2.6.13", **elsewhere)["changes"]["removed"] == [before]
    assert host().there() == []
    assert host().installed("2.6.13", **elsewhere)["changes"] == {}


def test_a_build_made_ahead_does_not_cost_the_one_before(host):
    host().installed("2.6.10")
    host().installed("2.6.11")
    before = host().there()
    here = host()
    url, checksum = archive(here.folder, here.program, "2.6.12")
    key = "PREFIX" if here.program == "haproxy" else "prefix"
    build_module(here.program).build("2.6.12", url, checksum, {key: here.prefix})
    assert host().installed("2.6.11")["changes"] == {}
    assert set(host().there()) > set(before)


def test_a_changed_option_is_a_reason_to_build_and_is_named(haproxy):
    haproxy().installed()
    foreseen = haproxy(test=True).installed(USE_ZLIB=False, DEBUG="-g")
    assert "DEBUG is not set, '-g' is wanted; USE_ZLIB is '1', '' is wanted" in foreseen["comment"]
    assert foreseen["result"] is None
    ret = haproxy().installed(USE_ZLIB=False, DEBUG="-g")
    assert ret["result"] is True
    assert haproxy().current()["options"]["DEBUG"] == "-g"


def test_another_archive_of_the_same_version_is_a_reason_too(host):
    host().installed()
    ret = host().installed(files={"patched": "yes"})
    assert "a source with another checksum" in ret["comment"]


def test_an_option_that_the_version_has_no_more_is_mentioned(haproxy):
    ret = haproxy().installed("3.2.26", USE_SYSTEMD=1)
    assert ret["result"] is True
    assert "this version has no USE_SYSTEMD to choose" in ret["comment"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"haproxy__in": None}, "No rule to make target"),
        (
            {"Makefile": "all:\n\t@echo 'cc: error: a.o: No space left on device'; exit 1\n"},
            "The disk of ",
        ),
        (
            {
                "Makefile": "all:\n\t@echo 'x.c:1:9: fatal error: pcre2.h: "
                "No such file or directory'; exit 1\n"
            },
            "The header pcre2.h is missing",
        ),
        ({"Makefile": "all:\n\tno-such-compiler x.c\n"}, "The program no-such-compiler is missing"),
        ({"haproxy__in": "#!/bin/sh\nexit 1\n"}, "sbin/haproxy -v failed with exit code 1"),
        ({"Makefile": None}, "failed with exit code 2"),
    ],
)
def test_what_fails_leaves_the_installed_version_untouched(haproxy, files, says):
    haproxy().installed("2.6.11")
    before, there = haproxy().current(), haproxy().there()
    ret = haproxy().installed("2.6.12", files)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert says in ret["comment"]
    assert f"(HAProxy 2.6.11 in {before['path']} goes on untouched)" in ret["comment"]
    assert (haproxy().current(), haproxy().there()) == (before, there)


def test_a_broken_archive_leaves_the_installed_version_untouched(host):
    host().installed("2.6.11")
    before, there = host().current(), host().there()
    broken = host().folder / "broken.tar.gz"
    broken.write_bytes(b"<html>not here</html>")
    checksum = f"sha256={hashlib.sha256(broken.read_bytes()).hexdigest()}"
    ret = host().installed_from(str(broken), checksum)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert f"{broken} is broken" in ret["comment"]
    assert "goes on untouched" in ret["comment"]
    assert (host().current(), host().there()) == (before, there)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_gets_full_leaves_the_installed_version_untouched(haproxy):
    here = haproxy()
    disk = here.folder / "local"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        here.installed("2.6.11")
        before, there = here.current(), here.there()
        ret = here.installed("2.6.12", {"big": os.urandom(200_000).hex()})
        assert (ret["result"], ret["changes"]) == (False, {})
        assert f"the disk of {disk}" in ret["comment"]
        assert "goes on untouched" in ret["comment"]
        assert (here.current(), here.there()) == (before, there)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_wrong_checksum_leaves_the_installed_version_untouched(host):
    host().installed("2.6.11")
    before = host().current()
    url, _ = archive(host().folder, host().program, "2.6.12")
    ret = host().installed_from(url, "0" * 64)
    assert ret["result"] is False
    assert "is not what it should be" in ret["comment"]
    assert "goes on untouched" in ret["comment"]
    assert host().current() == before


@pytest.mark.parametrize("test", [False, True])
def test_a_wrong_setting_is_an_error_in_test_mode_too(haproxy, test):
    ret = haproxy(test=test).installed(TARGET="linux2628")
    assert ret["result"] is False
    assert "expected linux-glibc" in ret["comment"]
    assert "(nothing was installed)" in ret["comment"]


def test_a_switch_that_silently_does_nothing_is_noticed(host):
    ret = host(use=lambda path, link: None).installed()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "was set, yet leads elsewhere" in ret["comment"]


def test_a_build_that_cannot_be_removed_does_not_hide_that_the_new_one_is_in_use(host):
    def stays(path):
        raise CommandExecutionError(f"{path}: Device or resource busy")

    host().installed("2.6.10")
    host().installed("2.6.11")
    ret = host(remove=stays).installed("2.6.12")
    current = host().current()
    assert ret["result"] is False
    assert "Device or resource busy" in ret["comment"]
    assert ret["comment"].endswith(f"2.6.12 in {current['path']} is in use already)")
    assert [change.get("new") for change in ret["changes"].values() if "new" in change] == [
        current["path"]
    ]
    assert host(test=True).installed("2.6.12")["result"] is None


def killed(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_run_that_was_killed_halfway_is_done_again_from_the_start(host):
    """As kill -9 does: what the interrupted build has unpacked stays behind."""
    first = host()
    left = first.folder / "local" / f".{first.program}.building.x1"
    (left / "source").mkdir(parents=True)
    assert first.current() is None
    foreseen = host(test=True).installed()
    ret = host().installed()
    assert (ret["result"], ret["changes"]) == (True, foreseen["changes"])
    assert ret["changes"]["removed"] == [str(left)]
    assert host().there() == [os.path.basename(host().current()["path"])]


def test_a_run_that_was_killed_before_the_switch_goes_on_from_there(host):
    with pytest.raises(KeyboardInterrupt):
        host(use=killed).installed()
    assert host().current() is None
    ret = host(build=killed).installed()
    assert "has been switched to" in ret["comment"]
    assert host().current()["version"] == "2.6.12"


def test_what_is_left_after_a_kill_is_removed_though_the_build_is_in_use(host):
    host().installed()
    left = host().folder / "local" / f".{host().program}.building.x1"
    left.mkdir()
    foreseen = host(test=True).installed()
    assert (foreseen["result"], foreseen["changes"]) == (None, {"removed": [str(left)]})
    assert left.exists()
    ret = host().installed()
    assert (ret["result"], ret["changes"]) == (True, {"removed": [str(left)]})
    assert not left.exists()


def test_a_build_that_is_under_way_is_not_disturbed(host):
    host().installed()
    with load("_utils/source_build.py").workspace(host().prefix) as folder:
        for test in (True, False):
            ret = host(test=test).installed()
            assert (ret["result"], ret["changes"]) == (True, {})
        assert os.path.isdir(folder)


# Back to the package


def test_without_a_build_in_use_there_is_nothing_to_take_out(host):
    for test in (False, True):
        ret = host(test=test).absent()
        assert (ret["result"], ret["changes"]) == (True, {})


def test_the_package_s_program_takes_over_and_the_build_stays(host):
    host().installed()
    path = host().current()["path"]
    host().unit.write_text(UNIT)
    foreseen = host(test=True).absent()
    assert foreseen["result"] is None
    assert host().current()["path"] == path
    here = host()
    ret = here.absent()
    assert ret["result"] is True
    assert ret["changes"] == foreseen["changes"]
    assert ret["changes"] == {
        here.link: {"old": path, "new": None},
        str(here.unit): "removed",
    }
    assert here.systemd.writes == [("systemctl_reload",)]
    assert not os.path.lexists(here.link)
    assert os.path.isdir(path)
    assert host().absent()["changes"] == {}
    assert "has been switched to" in host(build=killed).installed()["comment"]


def test_a_unit_and_a_program_of_someone_else_stay(host):
    here = host()
    here.unit.write_text("[Service]\n")
    pathlib.Path(here.link).parent.mkdir()
    pathlib.Path(here.link).write_text("mine")
    ret = here.absent()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert here.unit.exists()
    assert pathlib.Path(here.link).read_text() == "mine"


def test_a_link_that_silently_stays_is_noticed(host):
    host().installed()
    ret = host(unuse=lambda link: True).absent()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "is still there" in ret["comment"]


def test_what_cannot_be_removed_is_said(host):
    def full(link):
        raise CommandExecutionError("read-only")

    host().installed()
    ret = host(unuse=full).absent()
    assert (ret["result"], ret["comment"].endswith("from source: read-only")) == (False, True)
