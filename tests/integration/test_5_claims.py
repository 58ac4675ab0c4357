"""What the check of pillar says of RabbitMQ's and keepalived's versions is what these do."""

import json
import pathlib

import pytest

from tests.integration.lab import BROKERS
from tests.integration.test_7_keepalived import INTERFACE, NAMED, article_s, judged
from tests.sls.conftest import SECRETS, Compiled, pillar_of
from tests.support import load, validator

SEED = BROKERS[0]
CHECK = validator()[1]
CHECKS = load("_utils/rabbit_pillar_checks.py")


def errors(lab, host, pillar):
    """List the paths of what is wrong with a host's pillar on the lab's release."""
    found = CHECK(pillar["rabbit_ha"], host, {"oscodename": lab.release})
    return [one["path"] for one in found if one["severity"] == "error"]


def test_the_release_has_the_version_of_rabbitmq_that_pillar_is_checked_for(deployed):
    version = deployed.exec(SEED, "rabbitmqctl", "--silent", "version").stdout.strip()
    assert tuple(map(int, version.split(".")[:2])) == CHECKS.PACKAGED[deployed.release]


# rabbitmq.conf

VERSION_1 = "classic_queue.default_version"
LINES = {
    "heartbeat": 50,
    "cluster_tags.region": "munich",
    "default_policies.operator.short.max_length": 9,
    "vhost_max": 9,
    "message_interceptors.incoming.set_header_timestamp.overwrite": "false",
    "default_queue_type": "quorum",
    "deprecated_features.permit.management_metrics_collection": "true",
    "quorum_queue.continuous_membership_reconciliation.enabled": "true",
    "anonymous_login_user": "none",
    "cluster_formation.randomized_startup_delay_range.min": 1,
    VERSION_1: 1,
}


def test_there_is_a_line_for_each_key_of_which_a_first_version_is_told():
    names = CHECKS.KNOWN_FROM
    assert {name for name in names for key in LINES if CHECKS._is_named(key, name)} == set(names)


def said_of(lab, lines):
    """Have RabbitMQ's own schemas judge lines of its configuration; returns how, and what."""
    path, here = "/etc/rabbitmq/rabbitmq.conf", "/root/judged-rabbitmq"
    command = lab.salt(SEED, "rabbit_configuration.rabbitmq_check", path)[SEED]
    assert isinstance(command, list), command
    file = pathlib.Path(lab.status()["hosts"][SEED]["root"], f"{here}{path}".lstrip("/"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    done = lab.exec(SEED, *(word.replace("{root}", here) for word in command), check=False)
    return done.returncode, done.stdout + done.stderr


def test_rabbitmq_reads_each_line_that_pillar_may_have_and_none_that_is_refused(deployed):
    wrong = errors(deployed, SEED, pillar_of(rabbitmq={"config": LINES}))
    refused = {key for key in LINES if f"rabbit_ha:rabbitmq:config:{key}" in wrong}
    assert len(wrong) == len(refused) > 0
    accepted = {key: LINES[key] for key in LINES if key not in refused}
    assert said_of(deployed, accepted) == (0, "")
    unknown = {key: LINES[key] for key in refused if key != VERSION_1}
    code, said = said_of(deployed, unknown)
    assert code != 0
    for key in unknown:
        assert f"set unknown variable: {key}" in said
    if VERSION_1 in refused:
        code, said = said_of(deployed, {VERSION_1: 1})
        assert code != 0 and "Classic queues v1 are no longer supported" in said


# Policies

POLICIES = {
    "of classic queues": {"apply-to": "classic_queues", "definition": {"max-length": 9}},
    "of quorum queues": {"apply-to": "quorum_queues", "definition": {"max-length": 9}},
    "of streams": {"apply-to": "streams", "definition": {"max-age": "1h"}},
    "no delivery limit": {"definition": {"delivery-limit": -1}},
    "a delivery limit": {"definition": {"delivery-limit": 9}},
    "group size": {"definition": {"target-group-size": 3}},
    "consumer timeout": {"definition": {"consumer-timeout": 60000}},
    "filter size": {"definition": {"stream-filter-size-bytes": 32}},
    "mirrors": {"definition": {"ha-mode": "all"}},
}


def test_there_is_a_policy_for_each_key_of_which_a_first_version_is_told():
    keys = {key for policy in POLICIES.values() for key in policy["definition"]}
    assert set(CHECKS.DEFINED_FROM) <= keys


@pytest.fixture
def policy(deployed):
    """The name of a policy, which goes again; no queue has its pattern."""
    yield "claimed"
    # A refused one is not there.
    deployed.exec(SEED, "rabbitmqctl", "clear_policy", "claimed", check=False)


@pytest.mark.parametrize("case", POLICIES)
def test_rabbitmq_takes_each_policy_that_pillar_may_have_and_none_that_is_refused(
    deployed, policy, case
):
    said = {"pattern": "^claimed$", "priority": 1, "apply-to": "queues", **POLICIES[case]}
    wrong = errors(deployed, SEED, pillar_of(rabbitmq={"policies": {policy: said}}))
    assert all(path.startswith(f"rabbit_ha:rabbitmq:policies:{policy}:") for path in wrong), wrong
    command = ["rabbitmqctl", "set_policy", "--priority", "1", "--apply-to", said["apply-to"]]
    command += [policy, said["pattern"], json.dumps(said["definition"])]
    done = deployed.exec(SEED, *command, check=False)
    told = done.stdout + done.stderr
    assert (done.returncode != 0) is bool(wrong), told
    if wrong:
        assert "Validation failed" in told


# keepalived


def with_password(password):
    """The article's pillar with another password for VRRP."""
    host, pillar = article_s()
    pillar["rabbit_ha"]["keepalived"]["authentication"]["auth_pass"] = password
    return host, pillar


AH = {"authentication": {"auth_type": "AH"}}
# What is refused, what is taken in its place, where the former is wrong, and what keepalived says.
KEEPALIVED = {
    "auth_pass of nine characters": (
        with_password(f"{SECRETS['auth_pass']}9"),
        with_password(SECRETS["auth_pass"]),
        "authentication:auth_pass",
        "Truncating auth_pass to 8 characters",
    ),
    "nopreempt with MASTER": (
        article_s(nopreempt=True),
        article_s(stays=True, nopreempt=True),
        "nopreempt",
        "nopreempt will not work with initial state MASTER",
    ),
    "preempt_delay with MASTER": (
        article_s(preempt_delay=5),
        article_s(stays=True, preempt_delay=5),
        "preempt_delay",
        "preempt delay will not work with initial state MASTER",
    ),
    "AH with MASTER": (
        article_s(**AH),
        article_s(stays=True, **AH),
        "authentication:auth_type",
        "Initial state master is incompatible with AH authentication",
    ),
}


@pytest.mark.parametrize("case", KEEPALIVED)
def test_keepalived_finds_wrong_what_the_check_of_pillar_does(deployed, tmp_path, case):
    refused, taken, place, said = KEEPALIVED[case]
    assert errors(deployed, *taken) == []
    assert errors(deployed, *refused) == [f"rabbit_ha:keepalived:{place}"]
    done = judged(deployed, rendered(tmp_path / "taken", *taken))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = judged(deployed, rendered(tmp_path / "refused", *refused))
    assert done.returncode != 0 and said in done.stdout + done.stderr


def rendered(folder, host, pillar):
    """What a host's pillar makes keepalived's configuration, for the lab's interface."""
    folder.mkdir()
    text = Compiled(folder, host, pillar, "Debian").render("keepalived/files/keepalived.conf.j2")
    return text.replace(NAMED, INTERFACE)
