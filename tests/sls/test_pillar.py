"""pillar/top.sls through Salt's pillar compiler: who gets which secret."""

import json
import shutil

import pytest
import salt.config
import salt.pillar
from salt.utils import yaml

from tests.sls.conftest import OS_FAMILIES, SECRETS
from tests.support import ROOT, TOPOLOGY, said_at, secret_places

BROKERS = ["rabbitmq-node1", "rabbitmq-node2", "rabbitmq-node3"]
BALANCERS = ["haproxy-keeplive-node1", "haproxy-keeplive-node2"]


HASH = "AAAAABia0BrGUJTyw/lHoO435KAUpCr1bZuraftDBHwofwSN"
# All that pillar may say of secrets, in the file of the role that needs it.
FILES = {
    "broker": {
        "rabbitmq": {
            "erlang_cookie": SECRETS["erlang_cookie"],
            "config": {"ssl_options.password": SECRETS["config"]},
            "users": {
                "admin": {"password": SECRETS["admin"]},
                "orders": {"password": "SECRET-orders"},
                "clerk": {"password_hash": HASH},
                "absent": {"absent": True},
            },
            "parameters": {
                "up": {"component": "shovel", "value": {"src-uri": "amqp://SECRET-of-a-shovel@h"}}
            },
            "global_parameters": {"g": {"value": ["SECRET-of-a-global-parameter"]}},
        }
    },
    "load_balancer": {
        "haproxy": {
            "monitor": {"password": SECRETS["monitor"]},
            "snippets": {"text": {"users": "SECRET-of-a-snippet"}},
        },
        "keepalived": {
            "authentication": {"auth_pass": SECRETS["auth_pass"]},
            "instances": {"VI_2": {"authentication": {"auth_pass": "SECRETv2"}}},
            "snippets": {"text": {"mail": "SECRET-of-another-snippet"}},
        },
        "hosts": {
            "haproxy-keeplive-node1": {
                "keepalived": {
                    "authentication": {"auth_pass": "SECRETh1"},
                    "instances": {"VI_2": {"authentication": {"auth_pass": "SECRETh2"}}},
                }
            }
        },
    },
}
OF_BROKERS = {SECRETS["erlang_cookie"], SECRETS["config"], SECRETS["admin"], "SECRET-orders"}
OF_BROKERS |= {HASH, "SECRET-of-a-shovel", "SECRET-of-a-global-parameter"}
OF_BALANCERS = {SECRETS["monitor"], SECRETS["auth_pass"], "SECRET-of-a-snippet"}
OF_BALANCERS |= {"SECRET-of-another-snippet", "SECRETv2", "SECRETh1", "SECRETh2"}
BOTH = {
    "hosts": {
        "both": {"address": "192.0.2.1", "roles": ["load_balancer", "broker"]},
        "mq": {"address": "192.0.2.2", "roles": ["broker"]},
        "lb": {"address": "192.0.2.3", "roles": ["load_balancer"]},
        "none": {"address": "192.0.2.4", "roles": []},
        "wrong": {"address": "192.0.2.5"},
    }
}


@pytest.fixture
def pillar(tmp_path):
    """Return a function that compiles a minion's pillar, with secrets or without."""

    def compile_pillar(minion, with_secrets=True, topology=None):
        roots = ROOT / "pillar"
        if topology:
            roots = tmp_path / "roots"
            shutil.copytree(ROOT / "pillar", roots, dirs_exist_ok=True)
            write(roots / "rabbit_ha" / "topology.sls", {"rabbit_ha": topology})
        folder = tmp_path / "secrets" / "rabbit_ha" / "secrets"
        folder.mkdir(parents=True, exist_ok=True)
        for role, secrets in FILES.items() if with_secrets else ():
            write(folder / f"{role}.sls", {"rabbit_ha": secrets})
        opts = {
            **salt.config.minion_config(None, minion_id=minion),
            "root_dir": str(tmp_path),
            "cachedir": str(tmp_path / "cache"),
            "extension_modules": str(tmp_path / "extmods"),
            "file_client": "local",
            "pillar_roots": {"base": [str(roots), str(tmp_path / "secrets")]},
            "file_roots": {"base": [str(ROOT / "salt")]},
        }
        grains = {"id": minion, **OS_FAMILIES["Debian"]}
        return salt.pillar.Pillar(opts, grains, minion, "base").compile_pillar()

    return compile_pillar


def write(path, data):
    path.write_text(yaml.safe_dump(data))


def secrets_in(pillar):
    return {secret for secret in OF_BROKERS | OF_BALANCERS if secret in json.dumps(pillar)}


@pytest.mark.parametrize("place", secret_places(), ids=":".join)
def test_the_tests_below_are_about_every_secret_that_pillar_can_have(place):
    [role] = [role for role, said in FILES.items() if said_at(said, place)]
    expected = OF_BROKERS if role == "broker" else OF_BALANCERS
    assert any(secret in str(said_at(FILES[role], place)) for secret in expected)


@pytest.mark.parametrize("minion", [*BROKERS, *BALANCERS, "stranger", "lab_master"])
def test_everyone_knows_the_topology_as_the_orchestration_reads_it_too(pillar, minion):
    found = pillar(minion)
    assert "_errors" not in found
    for host, described in TOPOLOGY["hosts"].items():
        known = found["rabbit_ha"]["hosts"][host]
        assert {key: known[key] for key in ("address", "roles")} == {
            key: described[key] for key in ("address", "roles")
        }
    assert found["rabbit_ha"]["virtual_address"] == TOPOLOGY["virtual_address"]
    assert found["rabbit_ha"]["seed"] == "rabbitmq-node1"


@pytest.mark.parametrize(
    ("minion", "secrets"),
    [(minion, OF_BROKERS) for minion in BROKERS]
    + [(minion, OF_BALANCERS) for minion in BALANCERS]
    + [
        (minion, set())
        for minion in ("stranger", "lab_master", "rabbitmq-node11", "xrabbitmq-node1")
    ],
)
def test_a_secret_reaches_only_the_roles_that_need_it(pillar, minion, secrets):
    assert secrets_in(pillar(minion)) == secrets


@pytest.mark.parametrize(
    ("minion", "secrets"),
    [
        ("both", OF_BROKERS | OF_BALANCERS),
        ("mq", OF_BROKERS),
        ("lb", OF_BALANCERS),
        ("none", set()),
        ("wrong", set()),
        ("rabbitmq-node1", set()),
    ],
)
def test_a_host_gets_the_secrets_of_all_its_roles_and_of_no_other(pillar, minion, secrets):
    assert secrets_in(pillar(minion, topology=BOTH)) == secrets


@pytest.mark.parametrize("minion", ["rabbitmq-node1", "haproxy-keeplive-node1", "stranger"])
def test_before_secrets_were_made_pillar_compiles_without_an_error(pillar, minion):
    found = pillar(minion, with_secrets=False)
    assert "_errors" not in found
    assert found["rabbit_ha"]["hosts"] == TOPOLOGY["hosts"]


def test_this_repository_holds_no_secret(pillar):
    found = pillar("rabbitmq-node1", with_secrets=False)["rabbit_ha"]
    assert not found["rabbitmq"].get("users")
    assert not found["rabbitmq"].get("erlang_cookie")
