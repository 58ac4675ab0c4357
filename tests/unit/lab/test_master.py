"""The master's settings: the project's own, in this lab's places."""

from pathlib import Path

import yaml

from lab import master
from lab.paths import LabPaths

CHECKOUT = Path("/checkout")
BASE = {
    "file_roots": {"base": ["salt", "/srv/more"]},
    "pillar_roots": {"base": ["pillar", "/srv/secrets"]},
    "module_dirs": ["."],
    "runner_dirs": ["_runners"],
    "rabbit_ha.secrets_dir": "/srv/secrets",
    "job_cache": True,
}


def config(**more):
    return master.config({**BASE, **more}, CHECKOUT, LabPaths("one"), "10.0.0.254")


def test_relative_paths_become_absolute():
    found = config()
    states = "/var/lib/rabbit-ha-lab/one/states"
    assert found["file_roots"] == {"base": ["/checkout/salt", "/srv/more", states]}
    assert found["module_dirs"] == ["/checkout"]
    assert found["runner_dirs"] == ["/checkout/_runners"]


def test_secrets_are_the_labs_own():
    found = config()
    secrets = "/var/lib/rabbit-ha-lab/one/secrets"
    assert found["rabbit_ha.secrets_dir"] == secrets
    assert found["pillar_roots"] == {"base": ["/checkout/pillar", secrets]}


def test_another_pillar_replaces_the_checkouts():
    found = master.config(
        BASE, CHECKOUT, LabPaths("one"), "10.0.0.254", pillar=Path("/elsewhere/pillar")
    )
    assert found["pillar_roots"]["base"][0] == "/elsewhere/pillar"
    assert found["file_roots"]["base"][0] == "/checkout/salt"


def test_what_is_not_a_place_stays():
    assert config()["job_cache"] is True


def test_ext_pillar_folders_that_exist_become_absolute(tmp_path):
    (tmp_path / "extra").mkdir()
    base = {"ext_pillar": [{"file_tree": {"root_dir": "extra", "mode": "plain"}}]}
    found = master.config(base, tmp_path, LabPaths("one"), "10.0.0.254")
    assert found["ext_pillar"] == [
        {"file_tree": {"root_dir": str(tmp_path / "extra"), "mode": "plain"}}
    ]


def test_socket_paths_stay_below_the_kernels_limit():
    found = master.config({}, CHECKOUT, LabPaths("x" * 31), "10.0.0.254")
    assert len(found["sock_dir"] + "/publish_pull.ipc.with-some-room") < 107


def test_is_plain_yaml():
    assert yaml.safe_load(yaml.safe_dump(config())) == config()
