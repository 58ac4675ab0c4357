"""Each of these tests, or of their files, has a lab of its own."""

import pathlib
import shutil

import pytest
import yaml

from tests.integration.lab import CHECKOUT, NAME, Lab, skip_without_root


def pytest_collection_modifyitems(items):
    """Skip what needs real hosts where there cannot be any."""
    skip_without_root(items, pathlib.Path(__file__).parent)


@pytest.fixture
def another_lab(tmp_path):
    """Return a function that boots a lab; see ``_labs``."""
    yield from _labs(tmp_path)


@pytest.fixture(scope="module")
def another_lab_for_a_module(tmp_path_factory):
    """As ``another_lab``; the lab stays until the module's last test."""
    yield from _labs(tmp_path_factory.mktemp("another"))


def _labs(tmp_path):
    """
    Yield a function that boots a lab, with a master of its own; it goes afterwards.

    tmp_path
        Folder for its pillar.

    The function takes a release, and what to change in the default pillar: a mapping
    from the pillar file's name to its content.
    """
    booted = []

    def boot(release, pillar):
        folder = shutil.copytree(CHECKOUT / "pillar", tmp_path / "pillar")
        for part, content in pillar.items():
            (folder / "rabbit_ha" / f"{part}.sls").write_text(
                yaml.safe_dump({"rabbit_ha": content})
            )
        hosts = yaml.safe_load((folder / "rabbit_ha" / "topology.sls").read_text())
        second = Lab(f"{NAME}-second", release, folder, tuple(hosts["rabbit_ha"]["hosts"]))
        second.command("down")
        booted.append(second)
        second.command("up", "--release", release, "--pillar", str(folder))
        second.salt_run("rabbit_ha.secrets", check=True)
        return second

    yield boot
    for second in booted:
        second.command("down")
