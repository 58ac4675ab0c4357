"""haproxy_build: TARGET, default sets, presets; the steps on a source of milliseconds."""

import os
import re
import subprocess
import urllib.parse

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError
from salt.utils import yaml

from tests.fake_source import archive, build_module, builds_module
from tests.support import ROOT

DATA = yaml.safe_load((ROOT / "salt/rabbit_ha/source_builds.yaml").read_text())
PRESETS = DATA["haproxy"]["presets"]
SHA256 = "sha256=" + "0" * 64
ARTICLE = {
    "ARCH": "x86_64",
    "TARGET": "linux-glibc",
    "USE_PCRE": 1,
    "USE_OPENSSL": 1,
    "USE_ZLIB": 1,
    "USE_SYSTEMD": 1,
    "USE_CPU_AFFINITY": 1,
}
# What building needs whatever the options, and with those that all tests of it have on.
NEEDED = {
    "Debian": {"gcc", "libc6-dev", "make", "libssl-dev", "libsystemd-dev", "zlib1g-dev"},
    "RedHat": {"gcc", "glibc-devel", "make", "openssl-devel", "systemd-devel", "zlib-devel"},
}
PCRE = {"Debian": "libpcre3-dev", "RedHat": "pcre-devel"}
PCRE2 = {"Debian": "libpcre2-dev", "RedHat": "pcre2-devel"}


@pytest.fixture
def haproxy():
    return build_module("haproxy")


def options(haproxy, version, **given):
    return haproxy.plan(version, "/a", SHA256, given)["options"]


# TARGET


@pytest.mark.parametrize(
    ("version", "kernel", "expected"),
    [
        ("1.8.30", "2.2.26", "linux22"),
        ("1.8.30", "2.4.37", "linux24"),
        ("1.8.30", "2.6.9-89.EL", "linux26"),
        ("1.8.30", "2.6.27", "linux26"),
        ("1.8.30", "2.6.28", "linux2628"),
        ("1.9.16", "3.10.0-1160.el7.x86_64", "linux2628"),
        ("1.9.16", "6.1.0-18-amd64", "linux2628"),
        ("2.0.0", "3.10.0-1160.el7.x86_64", "linux-glibc"),
        ("2.1.4", "6.1.0-18-amd64", "linux-glibc"),
        ("3.2.26", "6.12", "linux-glibc"),
    ],
)
def test_target_follows_the_version_and_the_kernel(haproxy, version, kernel, expected):
    assert haproxy.target(version, kernel) == expected


def test_target_is_for_the_running_kernel_unless_told_otherwise():
    assert build_module("haproxy", kernelrelease="2.6.18").target("1.9.0") == "linux26"


@pytest.mark.parametrize("target", ["linux22", "linux24", "linux24e", "linux26", "linux2628"])
def test_the_article_s_table_can_be_named_before_2_0(haproxy, target):
    assert options(haproxy, "1.9.16", TARGET=target)["TARGET"] == target


@pytest.mark.parametrize("target", ["linux22", "linux24", "linux24e", "linux26", "linux2628"])
def test_from_2_0_on_it_is_refused_with_the_one_to_use(haproxy, target):
    with pytest.raises(SaltInvocationError, match=f"{target}, which HAProxy 2.1.4 does not know"):
        options(haproxy, "2.1.4", TARGET=target)
    with pytest.raises(SaltInvocationError, match="expected linux-glibc "):
        options(haproxy, "2.1.4", TARGET=target)


@pytest.mark.parametrize(
    ("version", "target", "use"),
    [("1.9.16", "linux-glibc", "linux2628"), ("2.1.4", "linux-musl", "linux-glibc")],
)
def test_a_target_that_came_later_is_refused_too(haproxy, version, target, use):
    with pytest.raises(SaltInvocationError, match=f"{version} does not know; expected {use} "):
        options(haproxy, version, TARGET=target)


@pytest.mark.parametrize(
    ("version", "known", "unknown"),
    [
        ("1.9.0", "linux2628", "linux-glibc"),
        ("2.0.0", "linux-glibc", "linux-glibc-legacy"),
        ("2.0.12", "linux-glibc", "linux-glibc-legacy"),
        ("2.0.13", "linux-glibc-legacy", "linux-musl"),
        ("2.1.0", "linux-glibc-legacy", "linux-musl"),
        ("2.1.4", "linux-glibc-legacy", "linux-musl"),
        ("2.1.5", "linux-musl", "linux26"),
        ("2.2.0", "linux-musl", "linux26"),
        ("3.2.26", "custom", "linux"),
    ],
)
def test_each_version_knows_its_own_targets(haproxy, version, known, unknown):
    assert known in haproxy.known_targets(version)
    assert unknown not in haproxy.known_targets(version)


# Options


@pytest.mark.parametrize(
    ("version", "systemd", "affinity"),
    [("1.8.0", True, True), ("2.1.4", True, True), ("2.6.12", True, False)]
    + [("3.0.11", True, False), ("3.1.0", False, False), ("3.2.26", False, False)],
)
def test_the_default_set_follows_the_version(haproxy, version, systemd, affinity):
    found = options(haproxy, version)
    assert [found[name] for name in ("USE_PCRE2", "USE_OPENSSL", "USE_ZLIB")] == ["1"] * 3
    assert ("USE_SYSTEMD" in found) is systemd
    assert ("USE_CPU_AFFINITY" in found) is affinity
    assert found["ARCH"] == "x86_64"


def test_the_article_s_options_on_the_article_s_version(haproxy):
    found = haproxy.plan("2.1.4", options={**ARTICLE, "PREFIX": "/usr/local/haproxy"})
    assert found["options"] == {name: str(value) for name, value in ARTICLE.items()}
    assert found["prefix"] == "/usr/local/haproxy"
    assert found["url"].startswith("https://src.fedoraproject.org/repo/pkgs/haproxy/haproxy-2.1.4")
    assert found["checksum"] in found["url"].replace("/sha512/", "/sha512=")


@pytest.mark.parametrize("value", [1, True, 0, False, "no"])
def test_what_a_version_no_longer_has_is_left_out_and_named(haproxy, value):
    found = haproxy.plan("3.2.26", options={"USE_SYSTEMD": value})
    assert found["left_out"] == ["USE_SYSTEMD"]
    assert "USE_SYSTEMD" not in found["options"]
    assert haproxy.plan("3.0.11", options={"USE_SYSTEMD": value})["left_out"] == []


@pytest.mark.parametrize("version", ["2.1.4", "2.6.12", "3.0.11", "3.2.26"])
@pytest.mark.parametrize(("value", "written"), [(1, "1"), (0, ""), ("off", "")])
def test_what_a_target_has_by_itself_can_be_set_all_the_same(haproxy, version, value, written):
    found = haproxy.plan(version, options={"USE_CPU_AFFINITY": value})
    assert found["options"]["USE_CPU_AFFINITY"] == written
    assert found["left_out"] == []


@pytest.mark.parametrize("value", [False, None, 0, "0", "", "no", "off", "False"])
def test_an_option_can_be_turned_off(haproxy, value):
    found = haproxy.plan("2.6.12", options={"USE_ZLIB": value})
    assert found["options"]["USE_ZLIB"] == ""
    assert "zlib1g-dev" not in found["dependencies"]


def test_pcre_of_the_article_takes_the_place_of_pcre2(haproxy):
    found = haproxy.plan("2.6.12", options={"USE_PCRE": 1})
    assert "USE_PCRE2" not in found["options"]
    assert "libpcre3-dev" in found["dependencies"]
    assert "libpcre2-dev" not in found["dependencies"]


@pytest.mark.parametrize("value", [False, 0, "0", "no", ""])
def test_pcre_turned_off_leaves_pcre2_in_its_place(haproxy, value):
    found = haproxy.plan("2.6.12", options={"USE_PCRE": value})
    assert (found["options"]["USE_PCRE"], found["options"]["USE_PCRE2"]) == ("", "1")
    assert "libpcre2-dev" in found["dependencies"]
    assert "libpcre3-dev" not in found["dependencies"]


def test_only_a_switch_is_turned_off_by_a_word(haproxy):
    assert options(haproxy, "2.6.12", EXTRAVERSION="no")["EXTRAVERSION"] == "no"


def test_any_other_make_variable_is_passed_on(haproxy):
    found = options(haproxy, "2.6.12", USE_PROMEX=True, DEBUG="-g", CPU="native")
    assert (found["USE_PROMEX"], found["DEBUG"], found["CPU"]) == ("1", "-g", "native")


def test_options_that_are_no_make_variables_are_refused(haproxy):
    with pytest.raises(
        SaltInvocationError, match="options:--prefix is /x; expected the name of a make"
    ):
        options(haproxy, "2.6.12", **{"--prefix": "/x"})


@pytest.mark.parametrize(
    ("version", "given", "systemd"),
    [
        ("2.6.12", {}, True),
        ("2.6.12", {"USE_SYSTEMD": 0}, False),
        ("3.0.11", {"USE_SYSTEMD": ""}, False),
        ("3.1.0", {"USE_SYSTEMD": 0}, True),
        ("3.2.26", {"USE_SYSTEMD": 0}, True),
    ],
)
def test_whether_it_tells_systemd_when_it_is_ready(haproxy, version, given, systemd):
    assert haproxy.plan(version, "/a", SHA256, given)["systemd"] is systemd


def test_a_version_without_a_master_process_is_refused(haproxy):
    with pytest.raises(SaltInvocationError, match="expected 1.8 or newer"):
        haproxy.plan("1.7.14", "/a", SHA256)


def dependencies(os_family, **given):
    """List the packages that a build needs; none is there twice."""
    found = build_module("haproxy", os_family=os_family).plan("2.6.12", options=given)
    assert len(set(found["dependencies"])) == len(found["dependencies"])
    return set(found["dependencies"])


@pytest.mark.parametrize("os_family", NEEDED)
def test_these_packages_and_no_others_are_needed_for_the_default_options(os_family):
    assert dependencies(os_family) == NEEDED[os_family] | {PCRE2[os_family]}


@pytest.mark.parametrize("os_family", NEEDED)
def test_these_packages_and_no_others_are_needed_for_the_article_s_options(os_family):
    assert dependencies(os_family, **ARTICLE) == NEEDED[os_family] | {PCRE[os_family]}


@pytest.mark.parametrize("os_family", NEEDED)
@pytest.mark.parametrize(
    ("option", "library", "static"),
    [
        ("USE_PCRE_JIT", PCRE, None),
        ("USE_STATIC_PCRE", PCRE, "pcre-static"),
        ("USE_PCRE2_JIT", PCRE2, None),
        ("USE_STATIC_PCRE2", PCRE2, "pcre2-static"),
    ],
)
def test_an_option_of_a_library_needs_it_with_the_one_that_names_it_and_alone(
    os_family, option, library, static
):
    alone = dependencies(os_family, USE_PCRE2=0, **{option: 1})
    # Debian has the static library in the same package.
    more = {static} if static and os_family == "RedHat" else set()
    assert alone == NEEDED[os_family] | {library[os_family]} | more
    named = {"USE_PCRE": 1} if library is PCRE else {"USE_PCRE2": 1}
    assert dependencies(os_family, **named, **{option: 1}) == alone


def test_of_another_os_family_the_packages_are_not_known():
    assert dependencies("Arch") == set()


@pytest.mark.parametrize("version", PRESETS)
def test_each_preset_can_be_planned(haproxy, version):
    found = haproxy.plan(version)
    assert found["url"] == PRESETS[version]["url"]
    assert found["path"].startswith(f"/usr/local/haproxy-{version}-")


@pytest.mark.parametrize("program", ["haproxy", "keepalived"])
def test_presets_are_complete_and_from_where_releases_stay(program):
    hosts = {"www.haproxy.org", "www.keepalived.org", "src.fedoraproject.org"}
    for version, preset in DATA[program]["presets"].items():
        scheme, host, path = urllib.parse.urlsplit(preset["url"])[:3]
        assert (scheme, host in hosts) == ("https", True)
        assert path.endswith(f"/{program}-{version}.tar.gz")
        assert re.fullmatch("sha256=[0-9a-f]{64}|sha512=[0-9a-f]{128}", preset["checksum"])


@pytest.mark.parametrize("os_family", ["Debian", "RedHat"])
def test_each_os_family_has_packages_for_the_same_options(os_family):
    assert set(DATA["haproxy"]["dependencies"][os_family]) == {
        "always",
        *("USE_OPENSSL", "USE_SYSTEMD", "USE_ZLIB"),
        *("USE_PCRE", "USE_PCRE_JIT", "USE_STATIC_PCRE"),
        *("USE_PCRE2", "USE_PCRE2_JIT", "USE_STATIC_PCRE2"),
    }


# The steps


def test_a_build_runs_make_with_all_options_and_touches_nothing_in_use(haproxy, tmp_path):
    url, checksum = archive(tmp_path, "haproxy", "2.6.12")
    given = {"PREFIX": str(tmp_path / "opt" / "haproxy"), "USE_PCRE2": 0}
    path = haproxy.build("2.6.12", url, checksum, given)
    assert path == haproxy.plan("2.6.12", url, checksum, given)["path"]
    says = subprocess.run([f"{path}/sbin/haproxy"], capture_output=True, text=True, check=True)
    assert says.stdout.startswith("haproxy version 2.6.12")
    assert os.listdir(tmp_path / "opt") == [os.path.basename(path)]
    builds = builds_module()
    assert [found["path"] for found in builds.builds(given["PREFIX"])] == [path]
    assert builds.current(str(tmp_path / "sbin/haproxy")) is None


def test_compile_gets_the_variables(haproxy, tmp_path):
    url, _ = archive(tmp_path, "haproxy", "2.6.12")
    source = haproxy.extract_source(url, str(tmp_path))
    haproxy.compile_source(source, options(haproxy, "2.6.12"), "/opt/haproxy-x")
    assert (tmp_path / "haproxy-2.6.12" / "options").read_text() == "linux-glibc 1 /opt/haproxy-x\n"


def test_a_failed_compile_leaves_nothing(haproxy, tmp_path):
    broken = "all:\n\t@echo 'a.c:1:10: fatal error: zlib.h: No such file or directory'; exit 1\n"
    url, checksum = archive(tmp_path, "haproxy", "2.6.12", Makefile=broken)
    with pytest.raises(CommandExecutionError, match="The header zlib.h is missing"):
        haproxy.build("2.6.12", url, checksum, {"PREFIX": str(tmp_path / "opt/haproxy")})
    assert os.listdir(tmp_path / "opt") == []
