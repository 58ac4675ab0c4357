"""The index apt reads, and what is taken over from this machine's apt."""

import shutil
import subprocess
from types import SimpleNamespace

import pytest

from lab import archive


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_index_describes_every_package(tmp_path):
    control = tmp_path / "build" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: thing\nVersion: 1:2\nArchitecture: all\nMaintainer: x\nDescription: y\n"
    )
    folder = tmp_path / "archive"
    folder.mkdir()
    subprocess.run(
        ["dpkg-deb", "--build", tmp_path / "build", folder / "thing_2_all.deb"],
        check=True,
        capture_output=True,
    )
    archive.index(folder)
    packages = (folder / "Packages").read_text()
    assert "Package: thing\n" in packages
    assert "Filename: ./thing_2_all.deb\n" in packages
    assert f"{len(packages)} Packages\n" in (folder / "Release").read_text()


@pytest.mark.parametrize(
    ("output", "mirror"),
    [
        ("Debian|Debian-Security|http://s.test/x\nDebian|Debian|http://m.test/debian\n",
         "http://m.test/debian"),
        ("Other|Other|http://o.test\n", "http://deb.debian.org/debian"),
        ("", "http://deb.debian.org/debian"),
    ],
)  # fmt: skip
def test_mirror_is_this_machines(monkeypatch, output, mirror):
    monkeypatch.setattr(archive.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=output))
    assert archive.mirror() == mirror


def test_proxies_are_taken_over(monkeypatch):
    dumped = 'Acquire "";\nAcquire::http::Proxy "http://p.test:1";\nAcquire::Retries "3";\n'
    monkeypatch.setattr(archive, "run", lambda *_: SimpleNamespace(stdout=dumped))
    assert archive.apt_options("bookworm") == ['Acquire::http::Proxy "http://p.test:1";']
