"""Salt and only what Salt needs."""

import pytest

from lab import lockfile, paths
from lab.errors import LabError

LOCK = """\
# header
alone==1 \\
    --hash=sha256:a
    # via rabbit-ha (pyproject.toml)
deep==2 ; sys_platform != 'win32' \\
    --hash=sha256:b
    # via
    #   alone
    #   near
near==3 \\
    --hash=sha256:c
    # via salt
salt==4 \\
    --hash=sha256:d
    # via rabbit-ha (pyproject.toml)
"""


def test_takes_the_package_and_all_it_depends_on():
    found = lockfile.subset(LOCK, "salt")
    names = [line.split("==")[0] for line in found.splitlines() if "==" in line]
    assert names == ["deep", "near", "salt"]
    assert "--hash=sha256:b" in found


def test_refuses_what_is_not_locked():
    with pytest.raises(LabError, match="does not hold pepper"):
        lockfile.subset(LOCK, "pepper")


def test_leaves_the_projects_tools_out():
    found = lockfile.subset(paths.LOCK_FILE.read_text(), "salt")
    assert "\nsalt==3008" in found
    assert "\npyzmq==" in found
    assert "ruff==" not in found
    assert "pytest==" not in found
