"""The check of pillar through Salt's own pillar compiler, with this project's configuration."""

import pytest
import salt.config
import salt.pillar
import salt.runner
import salt.utils.extmods
from salt.utils import yaml

from tests.support import ROOT, TOPOLOGY, load


@pytest.fixture
def compile_pillar(master, tmp_path):
    """Return a function that compiles a minion's pillar with a topology of one's own."""

    def build(topology, minion="rabbitmq-node1", **opts):
        roots = tmp_path / "roots"
        (roots / "rabbit_ha").mkdir(parents=True, exist_ok=True)
        (roots / "top.sls").write_text((ROOT / "pillar" / "top.sls").read_text())
        for name in ("rabbitmq", "haproxy", "keepalived"):
            text = (ROOT / "pillar" / "rabbit_ha" / f"{name}.sls").read_text()
            (roots / "rabbit_ha" / f"{name}.sls").write_text(text)
        topology = topology if isinstance(topology, str) else yaml.safe_dump(topology)
        (roots / "rabbit_ha" / "topology.sls").write_text(topology)
        given = {**master, "pillar_roots": {"base": [str(roots)]}, **opts}
        grains = {"id": minion, "osfinger": "Debian-13", "oscodename": "trixie"}
        return salt.pillar.Pillar(given, grains, minion, "base").compile_pillar()

    return build


def errors_in(pillar):
    assert "_errors" not in pillar
    return [error.split(": found ")[0] for error in pillar["rabbit_ha_findings"]["errors"]]


def test_a_minion_s_pillar_carries_its_findings(compile_pillar):
    pillar = compile_pillar({"rabbit_ha": {**TOPOLOGY, "virtual_address": "192.168.0.123"}})
    assert errors_in(pillar) == ["rabbit_ha:rabbitmq:users:admin:password"]
    [warning] = pillar["rabbit_ha_findings"]["warnings"]
    assert warning.startswith("rabbit_ha:virtual_address: found '192.168.0.123'")


def test_a_check_that_comes_before_the_rest_of_pillar_checks_nothing_and_that_is_told(
    compile_pillar,
):
    pillar = compile_pillar({"rabbit_ha": TOPOLOGY}, ext_pillar_first=True)
    [error] = load("_utils/rabbit_settings.py").pillar_errors(pillar)
    assert "no `ext_pillar_first: true`" in error


def test_the_minion_s_grains_tell_which_rabbitmq_it_gets(compile_pillar):
    described = {**TOPOLOGY, "rabbitmq": {"ha": "mirrored"}}
    assert errors_in(compile_pillar({"rabbit_ha": described}))[0] == "rabbit_ha:rabbitmq:ha"


@pytest.mark.parametrize(
    ("described", "paths"),
    [
        ({**TOPOLOGY, "hosts": ["rabbitmq-node1"]}, ["rabbit_ha:hosts"]),
        ({**TOPOLOGY, "hosts": None}, ["rabbit_ha:hosts"]),
        ({"hosts": {"a": None}}, ["rabbit_ha:hosts:a"]),
        ({"hosts": {"a": {"address": "192.0.2.1"}}}, ["rabbit_ha:hosts:a:roles"]),
        ({"hosts": {"a": {"address": "192.0.2.1", "roles": 5}}}, ["rabbit_ha:hosts:a:roles"]),
        (
            {"hosts": {"a": {"address": "192.0.2.1", "roles": ["borker"]}}},
            ["rabbit_ha:hosts:a:roles:0"],
        ),
        # The other pillar files make a mapping of it again.
        ([], ["rabbit_ha:hosts"]),
    ],
)
def test_a_topology_that_pillar_s_top_file_cannot_use_is_told_all_the_same(
    compile_pillar, described, paths
):
    assert errors_in(compile_pillar({"rabbit_ha": described}, "stranger")) == paths


def test_a_master_without_the_module_leaves_pillar_unchecked(compile_pillar):
    pillar = compile_pillar({"rabbit_ha": TOPOLOGY}, pillar_dirs=[])
    assert "rabbit_ha_findings" not in pillar


def test_a_master_gets_the_check_by_sync_too(compile_pillar, tmp_path):
    opts = {
        **salt.config.master_config(None),
        "id": "master",
        "root_dir": str(tmp_path),
        "cachedir": str(tmp_path / "cache"),
        "extension_modules": str(tmp_path / "extmods"),
        "file_roots": {"base": [str(ROOT / "salt")]},
        "file_client": "local",
    }
    for kind in ("pillar", "utils"):
        assert salt.utils.extmods.sync(opts, kind)[0]
    pillar = compile_pillar({"rabbit_ha": TOPOLOGY}, pillar_dirs=[], module_dirs=[])
    assert errors_in(pillar) == ["rabbit_ha:rabbitmq:users:admin:password"]
