"""keepalived_build: options of configure, presets; the steps on a source of milliseconds."""

import os
import subprocess

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.fake_source import archive, build_module

SHA256 = "sha256=" + "0" * 64


@pytest.fixture
def keepalived():
    return build_module("keepalived")


def test_the_configuration_is_looked_for_in_etc_unless_told_otherwise(keepalived):
    assert keepalived.plan("2.2.7")["options"] == {"sysconfdir": "/etc"}
    assert keepalived.plan("2.2.7", options={"sysconfdir": "/x"})["options"] == {"sysconfdir": "/x"}


def test_options_without_a_value_and_options_turned_off(keepalived):
    given = {"disable-lvs": True, "enable-snmp": False, "with-init": "systemd", "sysconfdir": None}
    found = keepalived.plan("2.2.7", options=given)["options"]
    assert found == {"disable-lvs": "", "with-init": "systemd"}


def test_options_are_written_without_dashes(keepalived):
    with pytest.raises(SaltInvocationError, match="options:--disable-lvs is True; expected"):
        keepalived.plan("2.2.7", options={"--disable-lvs": True})


def test_the_article_s_version_has_its_url_and_a_checksum(keepalived):
    found = keepalived.plan("2.0.20")
    assert found["url"] == "https://www.keepalived.org/software/keepalived-2.0.20.tar.gz"
    assert found["checksum"].startswith("sha256=9670fbc5eb3dc113")


@pytest.mark.parametrize(
    ("os_family", "needed"),
    [
        ("Debian", "gcc libc6-dev make pkg-config libssl-dev libnl-3-dev libnl-genl-3-dev"),
        ("RedHat", "gcc glibc-devel make pkgconf-pkg-config openssl-devel libnl3-devel"),
        ("Arch", ""),
    ],
)
def test_these_packages_and_no_others_are_needed(os_family, needed):
    found = build_module("keepalived", os_family=os_family).plan("2.2.7")["dependencies"]
    assert sorted(found) == sorted(needed.split())


def test_a_build_configures_for_its_own_folder_and_installs_nothing_outside(keepalived, tmp_path):
    url, checksum = archive(tmp_path, "keepalived", "2.2.7")
    prefix = str(tmp_path / "opt" / "keepalived")
    path = keepalived.build("2.2.7", url, checksum, {"prefix": prefix})
    assert path.startswith(f"{prefix}-2.2.7-")
    says = subprocess.run([f"{path}/sbin/keepalived"], capture_output=True, text=True, check=True)
    assert "2.2.7" in says.stdout
    assert os.listdir(tmp_path / "opt") == [os.path.basename(path)]
    assert "etc" not in os.listdir(path)


def test_configure_gets_its_options(keepalived, tmp_path):
    url, _ = archive(tmp_path, "keepalived", "2.2.7")
    source = keepalived.extract_source(url, str(tmp_path))
    keepalived.compile_source(source, {"disable-lvs": "", "sysconfdir": "/etc"}, "/opt/k")
    flags = (tmp_path / "keepalived-2.2.7" / "flags").read_text()
    assert flags == "--prefix=/opt/k --disable-lvs --sysconfdir=/etc\n"


def test_what_configure_misses_is_in_the_error(keepalived, tmp_path):
    says = "configure: error: OpenSSL is not properly installed on your system."
    script = f"#!/bin/sh\necho '{says}'\nexit 1\n"
    url, checksum = archive(tmp_path, "keepalived", "2.2.7", configure=script)
    with pytest.raises(CommandExecutionError, match=says):
        keepalived.build("2.2.7", url, checksum, {"prefix": str(tmp_path / "opt/keepalived")})
    assert os.listdir(tmp_path / "opt") == []
