"""Labs besides the one that the tests in integration/ share."""

import os
import shutil

import pytest
import yaml

from tests.integration.lab import CHECKOUT, Lab

# Two runs of the tests on one machine need labs of different names.
NAME = os.environ.get("RABBIT_HA_TEST_LAB", "tests")


def skip_without_root(items, folder):
    """Skip the tests in a folder, which need real hosts, and say why, where there are none."""
    if os.geteuid() == 0:
        return
    reason = "real hosts need root: network namespaces, mounts, systemd-nspawn"
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def labs(tmp_path, name):
    """
    Yield a function that boots a lab, with a master of its own; it goes afterwards.

    tmp_path
        Folder for its pillar.
    name
        The lab's name.

    The function takes a release, and what to change in the default pillar: a mapping
    from the pillar file's name to its content.
    """
    booted = []

    def boot(release, pillar):
        folder = shutil.copytree(CHECKOUT / "pillar", tmp_path / "pillar")
        for name, content in pillar.items():
            (folder / "rabbit_ha" / f"{name}.sls").write_text(
                yaml.safe_dump({"rabbit_ha": content})
            )
        hosts = yaml.safe_load((folder / "rabbit_ha" / "topology.sls").read_text())
        second = Lab(name, release, folder, tuple(hosts["rabbit_ha"]["hosts"]))
        second.command("down")
        booted.append(second)
        second.command("up", "--release", release, "--pillar", str(folder))
        second.salt_run("rabbit_ha.secrets", check=True)
        return second

    yield boot
    for second in booted:
        second.command("down")
