"""What is measured with: the same objects in both descriptions, and read back in full."""

import base64
import hashlib

import pytest

from bench import objects
from tests.support import validator

CHECK = validator()[1]
DESCRIBED = objects.pillar(**objects.SMALL)
SALT = b"salt"


@pytest.fixture
def definitions():
    """What RabbitMQ exports once all is there; a test may take something away."""
    return {
        "vhosts": [{"name": "/"}, *({"name": name} for name in DESCRIBED["vhosts"])],
        "users": [
            {
                "name": name,
                "tags": user["tags"],
                "password_hash": base64.b64encode(
                    SALT + hashlib.sha256(SALT + user["password"].encode()).digest()
                ).decode(),
            }
            for name, user in DESCRIBED["users"].items()
        ],
        "permissions": [
            {"user": name, "vhost": vhost, **rights}
            for name, user in DESCRIBED["users"].items()
            for vhost, rights in user["permissions"].items()
        ],
        "policies": [
            {"name": name, **policy, "apply-to": "all"}
            for name, policy in DESCRIBED["policies"].items()
        ],
    }


@pytest.mark.parametrize("size", [objects.SMALL, objects.MEDIUM, objects.BIG])
def test_there_are_as_many_objects_as_asked_for(size):
    described = objects.pillar(**size)
    assert {kind: len(described[kind]) for kind in size} == size


@pytest.mark.parametrize("size", [objects.SMALL, objects.MEDIUM, objects.BIG])
def test_it_is_a_pillar_without_faults(size):
    hosts = {"a": {"address": "192.0.2.1", "roles": ["broker"]}}
    pillar = {"hosts": hosts, "rabbitmq": objects.pillar(**size)}
    pillar["rabbitmq"]["users"]["admin"] = {"password": "S3cret"}
    assert [found for found in CHECK(pillar, "a") if found["severity"] == "error"] == []


def test_stock_salt_gets_the_same_objects():
    states = objects.stock_states(DESCRIBED, join="seed")
    used = [function for state in states.values() for function in state]
    assert {function: used.count(function) for function in used} == {
        "rabbitmq_plugin.enabled": 2,
        "rabbitmq_cluster.joined": 1,
        "rabbitmq_vhost.present": 3,
        "rabbitmq_user.present": 4,
        "rabbitmq_policy.present": 3,
    }


def test_nothing_is_missing_where_all_is_there(definitions):
    assert objects.missing(DESCRIBED, definitions) == []


@pytest.mark.parametrize(
    ("kind", "change", "left"),
    [
        ("vhosts", {"name": "other"}, "bench-002"),
        ("users", {"name": "other"}, "bench-user-003"),
        ("users", {"tags": []}, "bench-user-003"),
        ("users", {"password_hash": base64.b64encode(b"saltother").decode()}, "bench-user-003"),
        ("permissions", {"write": ""}, "bench-user-003"),
        ("permissions", {"vhost": "/"}, "bench-user-003"),
        ("policies", {"name": "other"}, "bench-policy-002"),
        ("policies", {"vhost": "/"}, "bench-policy-002"),
        ("policies", {"definition": {"max-length": 1}}, "bench-policy-002"),
        ("policies", {"priority": 0}, "bench-policy-002"),
    ],
)
def test_what_does_not_read_as_described_is_missing(definitions, kind, change, left):
    definitions[kind][-1] |= change
    assert objects.missing(DESCRIBED, definitions) == [left]
