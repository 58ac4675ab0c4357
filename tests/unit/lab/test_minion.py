"""A minion's settings and keys."""

import yaml
from cryptography.hazmat.primitives import serialization

from lab import minion


def test_config_names_minion_and_master():
    found = yaml.safe_load(minion.config("node1", "10.0.0.254"))
    assert (found["id"], found["master"]) == ("node1", "10.0.0.254")


def test_a_host_that_makes_its_own_key_makes_it_as_the_lab_does(tmp_path):
    public = minion.write_pair(tmp_path, "minion").encode()
    size = serialization.load_pem_public_key(public).key_size
    assert yaml.safe_load(minion.config("node1", "10.0.0.254"))["keysize"] == size


def test_keys_are_made_once_and_kept_private(tmp_path):
    first = minion.write_pair(tmp_path / "keys", "minion")
    assert minion.write_pair(tmp_path / "keys", "minion") == first
    assert (tmp_path / "keys" / "minion.pem").stat().st_mode & 0o777 == 0o600


def test_a_half_written_pair_is_made_again(tmp_path):
    (tmp_path / "minion.pem").write_text("half")
    assert "PUBLIC KEY" in minion.write_pair(tmp_path, "minion")
    assert "PRIVATE KEY" in (tmp_path / "minion.pem").read_text()
