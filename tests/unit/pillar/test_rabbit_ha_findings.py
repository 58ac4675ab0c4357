"""The validator of pillar: bad ones and good ones as data, and what no message may do."""

import copy
import functools
import json

import jsonschema
import pytest
import salt.utils.dictupdate
from salt.utils import yaml

from tests.sls.conftest import CASES, numbered, pillar_of
from tests.support import DATA, ROOT, TOPOLOGY, load, secret_places, validator

MODULE, CHECK = validator()
WRITTEN = yaml.safe_load((ROOT / "salt/rabbit_ha/defaults.yaml").read_text())
# What pillar comes over, which does not say what OS families have otherwise.
DEFAULTS = {key: value for key, value in WRITTEN.items() if key != "os_families"}
SCHEMA = json.loads((ROOT / "salt/rabbit_ha/pillar.schema.json").read_text())
BAD = sorted((DATA / "bad_pillars").glob("*.yaml"))
GOOD = sorted((DATA / "good_pillars").glob("*.yaml"))
LEAK = "LEAKEDSECRET"


def found_in(path):
    """
    Check the pillar of a file: ``pillar``, or ``changes`` to the article's topology.

    ``without`` names what to leave out of that; ``host`` and ``grains`` tell whose
    pillar it is.
    """
    case = yaml.safe_load(path.read_text())
    pillar = copy.deepcopy(case.get("pillar", TOPOLOGY))
    if "changes" in case:
        salt.utils.dictupdate.update(pillar, case["changes"])
    for place in case.get("without", []):
        *parents, last = place.split(":")
        del functools.reduce(dict.__getitem__, parents, pillar)[last]
    return case, CHECK(pillar, case.get("host"), case.get("grains"))


def told(found):
    return [{one["severity"]: one["message"]} for one in found]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_pillar_is_told_in_these_words(path):
    case, found = found_in(path)
    assert told(found) == case["expect"]
    assert "SECRET" not in str(found)


def test_there_are_many_bad_pillars():
    assert len(BAD) >= 60


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_pillar_has_nothing_to_be_told(path):
    _, found = found_in(path)
    assert told(found) == []


@pytest.mark.parametrize("brokers", [1, 3, 5, 7])
@pytest.mark.parametrize("load_balancers", [0, 1, 2, 3])
def test_a_topology_of_any_size_has_no_error(brokers, load_balancers):
    found = CHECK(numbered(brokers, load_balancers))
    assert [one["message"] for one in found if one["severity"] == "error"] == []


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].pillar])
def test_a_pillar_that_other_tests_render_has_no_error(case):
    for minion in CASES[case].minions:
        found = CHECK(CASES[case].pillar["rabbit_ha"], minion)
        assert [one["message"] for one in found if one["severity"] == "error"] == []


def test_the_pillar_shipped_has_nothing_to_be_told():
    pillar = {}
    for path in (ROOT / "pillar" / "rabbit_ha").glob("*.sls"):
        salt.utils.dictupdate.update(pillar, yaml.safe_load(path.read_text())["rabbit_ha"])
    assert CHECK(pillar) == []


def test_the_defaults_are_what_pillar_may_say():
    topology = {"hosts": TOPOLOGY["hosts"], "virtual_address": TOPOLOGY["virtual_address"]}
    assert CHECK({**DEFAULTS, **topology}) == []


@pytest.mark.parametrize("family", WRITTEN["os_families"])
def test_what_an_os_family_has_otherwise_is_what_pillar_may_say(family):
    otherwise = WRITTEN["os_families"][family]
    assert CHECK(salt.utils.dictupdate.update(copy.deepcopy(TOPOLOGY), otherwise)) == []
    assert keys(otherwise) <= keys(DEFAULTS)


@pytest.mark.parametrize("host", ["rabbitmq-node2", "haproxy-keeplive-node1", "stranger", None])
def test_with_all_secrets_a_host_lacks_nothing(host):
    assert CHECK(pillar_of()["rabbit_ha"], host) == []


def test_a_load_balancer_whose_vrrp_has_no_authentication_needs_no_password():
    pillar = pillar_of(keepalived={"version": 3})["rabbit_ha"]
    pillar["keepalived"].pop("authentication", None)
    assert CHECK(pillar, "haproxy-keeplive-node1") == []


def test_a_password_of_the_host_is_enough():
    pillar = pillar_of()["rabbit_ha"]
    del pillar["keepalived"]["authentication"]
    own = pillar["hosts"]["haproxy-keeplive-node1"]["keepalived"]
    own["authentication"] = {"auth_pass": "abcd1234"}
    assert CHECK(pillar, "haproxy-keeplive-node1") == []


@pytest.mark.parametrize("grain", [{"osfinger": "Debian-13"}, {"oscodename": "trixie"}])
def test_either_grain_tells_the_version(grain):
    pillar = pillar_of(rabbitmq={"ha": "mirrored"})["rabbit_ha"]
    pillar["rabbitmq"]["users"] = {"admin": {"password": "x"}}
    [one] = CHECK(pillar, "rabbitmq-node1", grain)
    assert one["path"] == "rabbit_ha:rabbitmq:ha"


@pytest.mark.parametrize("osfinger", ["AlmaLinux-9", "Rocky-9", "Fedora Linux-42"])
def test_of_the_red_hat_family_s_rabbitmq_the_version_is_not_known_beforehand(osfinger):
    """Their archives have none; it comes from RabbitMQ's own, in any version."""
    grains = {"osfinger": osfinger, "os_family": "RedHat"}
    pillar = pillar_of(rabbitmq={"ha": "mirrored"})["rabbit_ha"]
    pillar["rabbitmq"]["users"] = {"admin": {"password": "x"}}
    [one] = CHECK(pillar, "rabbitmq-node1", grains)
    assert (one["severity"], one["path"]) == ("warning", "rabbit_ha:rabbitmq:ha")
    pillar["rabbitmq"]["version"] = "3.13"
    assert CHECK(pillar, "rabbitmq-node1", grains) == []


def test_a_finding_has_its_parts():
    pillar = {**TOPOLOGY, "virtual_address": "192.168.0.123"}
    [one] = CHECK(pillar)
    assert one.pop("message").startswith("rabbit_ha:virtual_address: found '192.168.0.123', which")
    assert one == {
        "severity": "warning",
        "path": "rabbit_ha:virtual_address",
        "found": "'192.168.0.123'",
        "expected": "an address beside theirs, or a route to it",
    }


def test_checking_changes_nothing():
    pillar = {**copy.deepcopy(TOPOLOGY), "seed": 5, "hosts": {"a": {"roles": ["x", "broker"]}}}
    before = copy.deepcopy(pillar)
    CHECK(pillar)
    assert pillar == before


# The schema


def keys(node, path=""):
    """List the paths of all keys of nested mappings."""
    if not isinstance(node, dict):
        return set()
    below = {f"{path}{key}": value for key, value in node.items()}
    return set(below).union(*(keys(value, f"{place}:") for place, value in below.items()))


def described(node):
    """Follow references; what stands beside one counts too."""
    if "$ref" in node:
        target = functools.reduce(dict.__getitem__, node["$ref"][2:].split("/"), SCHEMA)
        return {**described(target), **node}
    return node


def described_keys(node, path=""):
    """List the paths of all keys with a name of their own that the schema describes."""
    found = set()
    for key, below in described(node).get("properties", {}).items():
        found |= {f"{path}{key}"} | described_keys(below, f"{path}{key}:")
    return found


def test_the_schema_knows_every_key_of_the_defaults_and_none_beside():
    schema = described_keys(SCHEMA["properties"]["rabbit_ha"])
    named = ("rabbitmq:users:", "rabbitmq:vhosts:", "haproxy:source:options:")
    named += ("keepalived:source:options:",)
    defaults = {key for key in keys(DEFAULTS) if not key.startswith(named)}
    timeouts = {key for key in schema if key.startswith("haproxy:defaults:timeout:")}
    assert defaults - schema == set()
    assert schema - defaults - timeouts == set()


def test_a_load_balancer_s_own_settings_are_those_of_keepalived():
    shared = set(SCHEMA["$defs"]["keepalived"]["properties"])
    own = set(SCHEMA["$defs"]["keepalived_on_host"]["properties"])
    assert own - shared == set()
    assert shared - own == {"instance", "snippets"}


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_editors_that_know_nothing_of_our_keywords_take_a_good_pillar(path):
    case = yaml.safe_load(path.read_text())
    pillar = {"rabbit_ha": case.get("pillar", case.get("changes"))}
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(pillar)) == []


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "pillar" / "rabbit_ha").glob("*.sls")))
def test_pillar_files_tell_editors_where_the_schema_is(path):
    first = path.read_text().splitlines()[0]
    where = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / where).resolve() == ROOT / "salt" / "rabbit_ha" / "pillar.schema.json"


def nodes(node):
    """Yield all parts of the schema that describe a value."""
    if isinstance(node, dict):
        if "type" in node or "enum" in node:
            yield node
        for below in node.values():
            if isinstance(below, dict):
                yield from nodes(below)


def test_every_part_of_the_schema_says_what_it_expects():
    parts = [part for part in nodes(SCHEMA) if "$schema" not in part]
    assert [part for part in parts if not isinstance(part.get("x-expected"), str)] == [
        {"type": part["type"]} for part in parts if "x-expected" not in part
    ]


# What must never happen


# In place of the names of one's own among the keys that lead to a secret.
NAMED = {
    "hosts": "haproxy-keeplive-node1",
    "instances": "VI_1",
    "config": "ssl_options.password",
    "users": "admin",
    "parameters": "up",
    "global_parameters": "up",
    "text": "one",
}


def ways_to_secrets():
    """List the keys of each place of a secret, and of all above it."""
    ways = set()
    for place in secret_places():
        way = [NAMED[place[at - 1]] if key == "*" else key for at, key in enumerate(place)]
        ways |= {tuple(way[: depth + 1]) for depth in range(len(way))}
    return sorted(ways)


def replaced(pillar, way, value):
    """Copy a pillar with another value where some keys lead to."""
    pillar = copy.deepcopy(pillar)
    at = pillar
    *parents, last = way
    for part in parents:
        at = at.setdefault(part, {})
    at[last] = value
    return pillar


WRONG_SECRETS = [
    f"{LEAK} {LEAK}\n{LEAK}\"#'",
    LEAK * 30,
    [LEAK],
    {"value": LEAK},
    [{"value": LEAK}],
    98765432109876543210,
    9876.54321,
    {f"password:{LEAK}": None},
    {f"password={LEAK}": None},
    {f"value {LEAK}": None},
    {"password": {LEAK: None}},
    # What RabbitMQ would not read as it is, or makes something else of.
    f" {LEAK}#{LEAK}",
    f"'{LEAK}' $({LEAK})",
    f"\N{SNOWMAN}{LEAK}\x85",
    [1, [LEAK]],
    {"uri": f"amqp://clerk:{LEAK}@192.0.2.1", 5: LEAK},
    {"value": [f"-----BEGIN PGP MESSAGE-----{LEAK}"]},
]


@pytest.mark.parametrize("wrong", WRONG_SECRETS, ids=lambda wrong: str(wrong)[:20])
@pytest.mark.parametrize("way", ways_to_secrets(), ids=":".join)
def test_no_message_shows_a_secret_wherever_a_wrong_one_is_put(way, wrong):
    pillar = replaced(TOPOLOGY, way, wrong)
    for host in ("rabbitmq-node1", "haproxy-keeplive-node1", None):
        said = json.dumps(CHECK(pillar, host, {"osfinger": "Debian-12"}), ensure_ascii=False)
        assert LEAK not in said and "9876" not in said


JUNK = [None, True, 0, -1, 1.5, "", "junk", "a b", [], ["junk"], [None], [[]], {}, {"junk": 1}]
JUNK += [{1: 2}, {None: None}, {"": {}}, "☃\n", "x" * 5000, float("nan"), {"a": {"b": {"c": []}}}]
# What Python takes and others do not: $ before a line break, digits that are no numbers.
JUNK += ["120s\n", "5672\n", "²", "٣٠٠", "30s", {"a\nb": {}}]


def places(node, path=()):
    """Yield the paths of everything in nested mappings and lists."""
    yield path
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(value, (*path, key))


def everything():
    """A pillar that says much, so that there is much to be replaced."""
    said = yaml.safe_load((DATA / "good_pillars" / "everything_said.yaml").read_text())["changes"]
    pillar = salt.utils.dictupdate.update(copy.deepcopy(DEFAULTS), copy.deepcopy(TOPOLOGY))
    return salt.utils.dictupdate.update(pillar, said)


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:20])
def test_junk_anywhere_is_told_or_taken_and_never_breaks_the_check(junk):
    whole = everything()
    for path in places(whole):
        pillar = copy.deepcopy(whole) if path else junk
        if path:
            at = functools.reduce(lambda node, key: node[key], path[:-1], pillar)
            at[path[-1]] = copy.deepcopy(junk)
        for one in CHECK(pillar, "rabbitmq-node1", {"osfinger": "Debian-13"}):
            one.pop("missing_secret", None)
            assert all(isinstance(text, str) and text for text in one.values()), (path, one)
            assert "\n" not in one["message"] and len(one["message"]) < 1000


# Where pillar is compiled


def ext_pillar(pillar, served=True, **utils):
    """Run the external pillar as the master does."""
    files = {
        f"salt://rabbit_ha/{name}": (ROOT / "salt" / "rabbit_ha" / name).read_text()
        for name in ("defaults.yaml", "pillar.schema.json", "source_builds.yaml")
    }
    module = load(
        "_pillar/rabbit_ha_findings.py",
        salt={"cp.get_file_str": lambda path: files[path] if served else False},
        opts={"grains": {"osfinger": "Debian-13"}},
        utils={**MODULE.__utils__, **utils},
    )
    return module.ext_pillar("rabbitmq-node1", pillar)


def test_the_findings_are_one_part_of_pillar():
    pillar = pillar_of(virtual_address="192.168.0.123", seed="nobody")
    found = ext_pillar(pillar)["rabbit_ha_findings"]
    [error], [warning] = found["errors"], found["warnings"]
    assert error.startswith("rabbit_ha:seed: found 'nobody'")
    assert warning.startswith("rabbit_ha:virtual_address: found '192.168.0.123'")


def test_the_host_s_own_secrets_and_version_count():
    pillar = {"rabbit_ha": {**TOPOLOGY, "rabbitmq": {"ha": "mirrored"}}}
    found = ext_pillar(pillar)["rabbit_ha_findings"]
    assert [error.split(": ")[0] for error in found["errors"]] == [
        "rabbit_ha:rabbitmq:ha",
        "rabbit_ha:rabbitmq:users:admin:password",
    ]
    assert found["missing_secrets"] == [["rabbitmq", "users", "admin", "password"]]


def test_where_nothing_could_be_checked_no_secret_is_said_to_be_there():
    assert "missing_secrets" not in ext_pillar(pillar_of(), served=False)["rabbit_ha_findings"]


def test_a_master_without_pcre_says_that_it_does_not_check_expressions():
    pillar = pillar_of(rabbitmq={"policies": {"p": {"pattern": "*", "definition": {"expires": 1}}}})
    pillar["rabbit_ha"]["rabbitmq"]["users"] = {"admin": {"password": "x"}}
    found = ext_pillar(pillar, **{"rabbit_pcre.is_there": lambda: False})["rabbit_ha_findings"]
    assert (found["errors"], found["warnings"]) == (
        [],
        [
            "rabbit_ha: found no PCRE2 on the master; expected its library libpcre2-8, "
            "which checks regular expressions"
        ],
    )


def test_a_pillar_of_others_is_left_alone():
    assert ext_pillar({"other": {"key": 1}}) == {}


@pytest.mark.parametrize("pillar", [None, [], "text", 5])
def test_a_pillar_that_is_no_mapping_is_told(pillar):
    [error] = ext_pillar({"rabbit_ha": pillar})["rabbit_ha_findings"]["errors"]
    assert error.startswith("rabbit_ha: found ") and error.endswith("; expected a mapping")


def test_a_master_that_does_not_serve_the_schema_cannot_check():
    [error] = ext_pillar(pillar_of(), served=False)["rabbit_ha_findings"]["errors"]
    assert error.startswith("rabbit_ha: pillar cannot be checked: salt://rabbit_ha/")


def test_a_master_without_jsonschema_cannot_check():
    def findings(pillar, schema, fault):
        raise ImportError("No module named 'jsonschema'")

    found = ext_pillar(pillar_of(), **{"rabbit_pillar_shape.findings": findings})
    assert found["rabbit_ha_findings"]["errors"] == [
        "rabbit_ha: pillar cannot be checked: No module named 'jsonschema' (see docs/validation.md)"
    ]


def test_a_check_that_breaks_is_an_error_without_the_value_that_it_broke_at(caplog):
    def findings(pillar, schema, fault):
        raise ValueError(f"invalid literal: {LEAK}")

    found = ext_pillar(pillar_of(), **{"rabbit_pillar_shape.findings": findings})
    assert found["rabbit_ha_findings"]["errors"] == [
        "rabbit_ha: pillar cannot be checked: ValueError, and where is in the log of the master "
        "(see docs/validation.md)"
    ]
    assert "in findings" in caplog.text
    # The traceback has the line of the source, and no value.
    assert f"invalid literal: {LEAK}" not in caplog.text
