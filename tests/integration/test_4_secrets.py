"""Secrets on real hosts: in each place of pillar, where things fail, and where they change."""

import contextlib
import json
import pathlib
import shutil
import urllib.error

import pika.exceptions
import pytest
import salt.utils.dictupdate

from tests.gpg import Key
from tests.integration.lab import BROKERS, HOLDER, HOSTS, STANDBY, servers_of
from tests.integration.recorder import (
    assert_nothing_gave_away,
    assert_rabbitmq_has_no_clear_text,
)
from tests.support import broken_beside_the_secret, hashed, said_at, secret_places

pytestmark = pytest.mark.usefixtures("talkative")
SEED, SECOND, _ = BROKERS
BALANCERS = (HOLDER, STANDBY)
TEMPLATES = (
    "rabbitmq/files/rabbitmq.conf.j2",
    "haproxy/files/haproxy.cfg.j2",
    "keepalived/files/keepalived.conf.j2",
)
DEFINITIONS = """
RabbitMQ refuses a policy:
  rabbit_definitions.present:
    - vhosts: {}
    - users: {tester: {}}
    - policies: {refused: {pattern: ^, definition: {message-ttl: -1}}}
"""
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
# States of this project that fail, some of them with a traceback.
STATES = (
    """
{%- if 'broker' in salt['rabbit_topology.roles']() %}
include:
  - broken.definitions

rabbitmq.conf does not render:
  file.managed:
    - name: /root/broken.conf
    - source: salt://broken/rabbitmq.conf.j2
    - template: jinja
    - show_changes: false

What is sealed cannot be opened:
  rabbit_cookie.synced:
    - service: rabbitmq-server
    - source: seed
    - sealed: bm90.c2VhbGVk

The cookie cannot change now:
  rabbit_cookie.synced:
    - service: rabbitmq-server
    - source: pillar
{%- else %}
include:
  - rabbit_ha.haproxy.configured
  - rabbit_ha.keepalived.configured
"""
    + "".join(
        f"""
{program} does not render:
  rabbit_configuration.checked:
    - name: /root/broken.conf
    - source: salt://broken/{program}.j2
    - check: ['true']
"""
        for program in ("haproxy.cfg", "keepalived.conf")
    )
    + "{%- endif %}"
)
FAILED = {
    SEED: {
        "RabbitMQ refuses a policy": "writing the definitions failed: import_definitions exited",
        "rabbitmq.conf does not render": "division",
        "What is sealed cannot be opened": "cannot be opened with",
        "The cookie cannot change now": "with another cookie it would lose them",
    },
    **dict.fromkeys(
        BALANCERS,
        {
            "HAProxy has its configuration": "[/etc/haproxy/conf/broken.cfg:",
            "haproxy.cfg does not render": "division",
            "keepalived.conf does not render": "division",
        },
    ),
}
# Stands before RabbitMQ's tool, and spoils what it exports.
SPOILT = """#!/bin/sh
case "$*" in
*export_definitions*) /usr/sbin/rabbitmqctl "$@" | sed 's/"users": *\\[/&5,/'; exit {code} ;;
*) exec /usr/sbin/rabbitmqctl "$@" ;;
esac
"""
IN_PLAY = {
    "tester's password": "pa55word-of-the-tester",
    "password in rabbitmq.conf": "pa55word-of-a-key",
    "password in a URI": "pa55word-of-an-uri",
    "cookie in pillar": "PA55WORDOFTHECOOKIE",
    "word in a snippet of HAProxy": "pa55word-for-haproxy",
    "part of a long word in a snippet of HAProxy": "-and-a-long-pa55phrase",
    "word in a snippet of keepalived": "pa55word-for-keepalived",
    "password that RabbitMQ does not know": "pa55word-of-nobody",
    "cookie that is none": "pa55word/that/is/no/cookie",
    "auth_pass that is too long": "pa55word-of-16-c",
}


@pytest.fixture
def broken(healthy):
    """The deployed hosts, with states that fail on the file server; gone afterwards."""
    folder = healthy.states() / "broken"
    folder.mkdir()
    (folder / "definitions.sls").write_text(DEFINITIONS)
    (folder / "init.sls").write_text(STATES)
    for template in TEMPLATES:
        text = broken_beside_the_secret(template, "{{ 1 // 0 }}")
        (folder / template.rsplit("/", 1)[1]).write_text(text)
    yield healthy
    shutil.rmtree(folder)
    gone = {"rabbitmq": {"users": {"tester": {"absent": True}}}}
    with healthy.pillar_changed(gone):
        assert all(state["result"] for state in healthy.applied(SEED, "policies").values())


def pillar_with_secrets(lab):
    """Have pillar say secrets of many kinds, for a while."""
    uri = {"value": {"uri": f"amqp://tester:{IN_PLAY['password in a URI']}@192.0.2.1"}}
    of_brokers = {
        "rabbitmq": {
            "users": {"tester": {"password": IN_PLAY["tester's password"]}},
            "config": {"ssl_options.password": IN_PLAY["password in rabbitmq.conf"]},
            "global_parameters": {"test": uri},
            "erlang_cookie": IN_PLAY["cookie in pillar"],
        }
    }
    # HAProxy repeats the word, and of the line without an end its first 80 characters.
    long = IN_PLAY["part of a long word in a snippet of HAProxy"] * 6
    word = IN_PLAY["word in a snippet of HAProxy"]
    haproxy = f"userlist people\n    user clerk insecure-password {word}\n    {word}\n"
    haproxy += f'    user lead insecure-password "{long}\n'
    # keepalived repeats the word in four sentences.
    word = IN_PLAY["word in a snippet of keepalived"]
    keepalived = f"{word} {{\n}}\nvrrp_script other {{\n    {word}\n    weight {word}\n}}\n"
    of_balancers = {
        "haproxy": {"snippets": {"text": {"broken": haproxy}}},
        "keepalived": {"snippets": {"text": {"broken": keepalived}}},
    }
    stack = contextlib.ExitStack()
    stack.enter_context(lab.pillar_changed(of_brokers, role="broker"))
    stack.enter_context(lab.pillar_changed(of_balancers, role="load_balancer"))
    return stack


def test_what_fails_gives_no_secret_away(broken, recorder):
    outputs = []
    with pillar_with_secrets(broken):
        returns = broken.salt(list(FAILED), "state.apply", "broken", timeout=300)
        outputs.append(str(returns))
        for host, states in FAILED.items():
            failed = [s for s in returns[host].values() if s["result"] is False]
            # Those that need one of them did not run.
            found = {s["__id__"]: s for s in failed if s.get("__state_ran__", True)}
            assert set(found) == set(states), returns[host]
            for name, words in states.items():
                assert words in found[name]["comment"]
        assert "Traceback" in outputs[-1]
        outputs += spoilt_exports(broken)
        configured = broken.applied(SEED, "configured")["RabbitMQ has its configuration"]
        assert configured["result"] is True and configured["changes"]
        outputs.append(str(configured))
    outputs.append(str(broken.applied(SEED, "configured")))
    outputs += failed_verifications(broken)
    outputs += refused_pillars(broken)
    passwords = {"tester's password": IN_PLAY["tester's password"]}
    assert_nothing_gave_away({**IN_PLAY, **broken.secrets()}, broken, recorder, outputs)
    assert_rabbitmq_has_no_clear_text(passwords, broken, BROKERS)


def spoilt_exports(lab):
    """Have a state read definitions that make it raise, and an export end with an error."""
    said = {0: "Traceback", 3: "reading the definitions failed: export_definitions exited with 3"}
    outputs = []
    path = "/usr/local/sbin/rabbitmqctl"
    try:
        for code, words in said.items():
            script = f"cat > {path}; chmod +x {path}"
            lab.exec(SEED, "sh", "-c", script, input=SPOILT.format(code=code))
            [state] = lab.salt(SEED, "state.apply", "broken.definitions")[SEED].values()
            assert state["result"] is False and words in state["comment"], state["comment"]
            outputs.append(str(state))
    finally:
        lab.exec(SEED, "rm", "-f", path)
    return outputs


def failed_verifications(lab):
    """Have the runner fail for its arguments, then to connect."""
    broken = lab.salt_run("rabbit_ha.verify", "messages=many")
    assert "Passed invalid arguments" in broken.stdout
    unknown = {"admin": {"password": IN_PLAY["password that RabbitMQ does not know"]}}
    with lab.pillar_changed({"rabbitmq": {"users": unknown}}, role="broker"):
        refused = lab.salt_run("rabbit_ha.verify")
    assert "ACCESS_REFUSED" in refused.stdout
    return [broken.stdout, broken.stderr, refused.stdout, refused.stderr]


def refused_pillars(lab):
    """Have the check of pillar find secrets that are none, on the master and on minions."""
    cookie = {"rabbitmq": {"erlang_cookie": IN_PLAY["cookie that is none"]}}
    password = {"authentication": {"auth_pass": IN_PLAY["auth_pass that is too long"]}}
    with (
        lab.pillar_changed(cookie, role="broker"),
        lab.pillar_changed({"keepalived": password}, role="load_balancer"),
    ):
        done = lab.salt_run("state.orchestrate", "orch.rabbit_ha")
        returns = lab.salt("*", "state.highstate")
    assert done.returncode != 0
    for place in ("rabbitmq:erlang_cookie", "keepalived:authentication:auth_pass"):
        assert f"rabbit_ha:{place}: found a value of" in done.stdout
        assert f"rabbit_ha:{place}: found a value of" in str(returns)
    return [done.stdout, done.stderr, str(returns)]


@pytest.fixture
def key(healthy):
    """A throw-away PGP key, where the master looks for it."""
    made = Key(pathlib.Path(healthy.status()["master"]["config_dir"]) / "gpgkeys")
    yield made
    made.forget()


CHANGED = {
    "broker": {"rabbitmq": {"users": {"admin": {"password": "an0ther-pa55word-of-admin"}}}},
    "load_balancer": {
        "haproxy": {"monitor": {"password": "an0ther-pa55word-of-the-page"}},
        "keepalived": {"authentication": {"auth_pass": "an0ther8"}},
    },
}


def test_secrets_that_change_are_deployed_encrypted_with_gpg_and_given_away_nowhere(
    healthy, recorder, key
):
    before = healthy.secrets()
    changed = {
        role: salt.utils.dictupdate.update(healthy.secret(role), new)
        for role, new in CHANGED.items()
    }
    outputs = []
    try:
        for role, secrets in changed.items():
            healthy.write_secrets(role, key.encrypt(secrets), "#!yaml|gpg")
        deployment = ("state.orchestrate", "orch.rabbit_ha")
        # The second one has nothing to do.
        for command in ("rabbit_ha.validate",), deployment, deployment:
            done = healthy.salt_run("--log-level=debug", *command)
            outputs += [done.stdout, done.stderr]
            assert done.returncode == 0, done.stdout
        healthy.write_secrets("broker", key.encrypt(changed["broker"]), "#!yaml|gpg\n- @")
        done = healthy.salt_run("rabbit_ha.validate")
        outputs += [done.stdout, done.stderr]
        assert "/rabbit_ha/secrets/broker.sls, line " in done.stdout
    finally:
        for role, secrets in changed.items():
            healthy.write_secrets(role, secrets)
    after = healthy.secrets()
    assert_in_effect(healthy, before, after)
    secrets = {f"{when} {what}": text for when, all_of_them in (("old", before), ("new", after))
               for what, text in all_of_them.items()}  # fmt: skip
    assert_nothing_gave_away(secrets, healthy, recorder, outputs)
    passwords = {when: secrets[f"{when} admin's password"] for when in ("old", "new")}
    assert_rabbitmq_has_no_clear_text(passwords, healthy, BROKERS)


def assert_in_effect(lab, before, after):
    """See that clients get in with the new secrets and not with the old ones."""
    assert after["hash of admin's password"] != before["hash of admin's password"]
    with lab.amqp(password=after["admin's password"]):
        pass
    refusal = pytest.raises(pika.exceptions.ProbableAuthenticationError)
    with refusal, lab.amqp(password=before["admin's password"]):
        pass
    for host, address in {HOLDER: "192.168.123.11", STANDBY: "192.168.123.220"}.items():
        assert servers_of(address, after["statistics password"])
        with pytest.raises(urllib.error.HTTPError, match="401"):
            servers_of(address, before["statistics password"])
        conf = lab.exec(host, "cat", "/etc/keepalived/keepalived.conf").stdout
        assert f"auth_pass {after['VRRP password']}\n" in conf
    lab.wait_until_well()
    assert lab.holders() == [HOLDER]


# A second VRRP instance, beside its passwords.
INSTANCE = {"VI_2": {"virtual_router_id": 2, "virtual_addresses": ["192.168.123.124"]}}
PARAMETER = {"component": "operator_policy"}
PEOPLE = ("clerk", "lead")
# What pillar does not name stays.
GONE = {
    "users": {name: {"absent": True} for name in PEOPLE},
    "parameters": {"secret": {**PARAMETER, "absent": True}},
    "global_parameters": {"secret": {"absent": True}},
}


def secrets_by_role(which):
    """Make a secret for each place of pillar, by the role that needs it and by what it is."""
    return {
        "broker": {
            "admin's password": f"pa55word-{which}-of-admin",
            "clerk's password": f"pa55word-{which}-of-the-clerk",
            "hash of lead's password": hashed(f"pa55word-{which}-of-the-lead"),
            "word in rabbitmq.conf": f"pa55word-{which}-of-a-key",
            "word in a parameter": f"pa55word-{which}-in-a-parameter",
            "word in a global parameter": f"pa55word-{which}-in-an-uri",
        },
        "load_balancer": {
            "statistics password": f"pa55word-{which}-of-the-page",
            "word in a snippet of HAProxy": f"pa55word-{which}-for-haproxy",
            "word in a snippet of keepalived": f"pa55word-{which}-for-keepalived",
            "password of VI_1": f"VI_1-{which}",
            "password of VI_2": f"VI_2-{which}",
        },
    }


def pillar_by_role(broker, load_balancer):
    """Put them where pillar may have them; both load balancers have the passwords of VRRP alike."""
    rights = {"tags": ["management"], "permissions": {"/": EVERYTHING}}
    policy = {"pattern": f"^{broker['word in a parameter']}$", "definition": {"max-length": 9}}
    policy |= {"priority": 0, "apply-to": "queues"}
    uri = f"amqp://clerk:{broker['word in a global parameter']}@192.0.2.1"
    people = "userlist people\n    user clerk insecure-password {}\n"
    script = 'vrrp_script more {{\n    script "/bin/true {}"\n    user nobody\n}}\n'
    vrrp = {
        name: {"authentication": {"auth_pass": load_balancer[f"password of {name}"]}}
        for name in ("VI_1", "VI_2")
    }
    others = {"instances": {"VI_2": vrrp["VI_2"]}}
    return {
        "broker": {
            "rabbitmq": {
                "config": {"ssl_options.password": broker["word in rabbitmq.conf"]},
                "users": {
                    "admin": {"password": broker["admin's password"]},
                    "clerk": {"password": broker["clerk's password"], **rights},
                    "lead": {"password_hash": broker["hash of lead's password"], **rights},
                },
                "parameters": {"secret": {**PARAMETER, "value": policy}},
                "global_parameters": {"secret": {"value": {"uri": uri}}},
            }
        },
        "load_balancer": {
            "haproxy": {
                "monitor": {"password": load_balancer["statistics password"]},
                "snippets": {
                    "text": {"people": people.format(load_balancer["word in a snippet of HAProxy"])}
                },
            },
            "keepalived": {
                **vrrp["VI_1"],
                **others,
                "snippets": {
                    "text": {
                        "more": script.format(load_balancer["word in a snippet of keepalived"])
                    }
                },
            },
            "hosts": {STANDBY: {"keepalived": {**vrrp["VI_1"], **others}}},
        },
    }


@contextlib.contextmanager
def pillar_with(lab, secrets):
    """Have pillar say secrets in all places where those of a running cluster may change."""
    by_role = pillar_by_role(**secrets)
    for place in secret_places():
        if place[-1] == "erlang_cookie":
            continue
        said = "".join(str(said_at(of_role, place)) for of_role in by_role.values())
        assert any(text in said for of_role in secrets.values() for text in of_role.values()), place
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab.pillar_changed({"keepalived": {"instances": INSTANCE}}))
        for role, said in by_role.items():
            stack.enter_context(lab.pillar_changed(said, role=role))
        yield


def highstate(lab, hosts):
    """Apply all that pillar says; returns what hosts returned, and which states had changes."""
    returns = lab.salt(list(hosts), "state.highstate", timeout=300)
    states = [(host, state) for host in hosts for state in returns[host].values()]
    failed = [(host, state) for host, state in states if not state["result"]]
    assert failed == []
    return returns, [(host, state["__id__"]) for host, state in states if state["changes"]]


def assert_deployed(lab, secrets):
    """See that what pillar has is where its programs read it; returns the hashes of passwords."""
    lab.wait_until_all_serve()
    exported = lab.exec(SEED, "rabbitmqctl", "--silent", "export_definitions", "-").stdout
    definitions = json.loads(exported[exported.index("{") :])
    shown = json.dumps(definitions) + lab.exec(SEED, "cat", "/etc/rabbitmq/rabbitmq.conf").stdout
    # Of these RabbitMQ has hashes alone.
    passwords = {f"{name}'s password": name for name in ("admin", "clerk")}
    expected = {what: text for what, text in secrets["broker"].items() if what not in passwords}
    assert {what for what, text in expected.items() if text in shown} == set(expected)
    for what, name in passwords.items():
        with lab.amqp(name, secrets["broker"][what]):
            pass
    files = "/etc/haproxy/haproxy.cfg /etc/haproxy/conf/*.cfg"
    files += " /etc/keepalived/keepalived.conf /etc/keepalived/conf/*.conf"
    for host in BALANCERS:
        shown = lab.exec(host, "sh", "-c", f"cat {files}").stdout
        expected = secrets["load_balancer"]
        assert {what for what, text in expected.items() if text in shown} == set(expected), host
    return {f"hash of {user['name']}'s": user["password_hash"] for user in definitions["users"]}


def test_secrets_in_every_place_of_pillar_are_deployed_and_changed_and_given_away_nowhere(
    healthy, recorder
):
    before = healthy.secrets()
    first, second = (secrets_by_role(which) for which in ("1st", "2nd"))
    # The other two brokers have of it all the same file as the seed.
    hosts = (SEED, *BALANCERS)
    outputs, in_play = [], dict(before)
    try:
        with pillar_with(healthy, first):
            done = healthy.salt_run("--log-level=debug", "state.orchestrate", "orch.rabbit_ha")
            outputs += [done.stdout, done.stderr]
            assert done.returncode == 0, done.stdout
            in_play |= _called("first", first, assert_deployed(healthy, first))
            returns, changed = highstate(healthy, hosts)
            outputs.append(str(returns))
            assert changed == []
        with pillar_with(healthy, second):
            returns, changed = highstate(healthy, hosts)
            outputs.append(str(returns))
            assert {host for host, _ in changed} == set(hosts)
            in_play |= _called("second", second, assert_deployed(healthy, second))
    finally:
        with healthy.pillar_changed({"rabbitmq": GONE}):
            returns, _ = highstate(healthy, HOSTS)
            outputs.append(str(returns))
    assert_nothing_gave_away(in_play, healthy, recorder, outputs)
    passwords = {
        f"{name}'s {which} password": secrets["broker"][f"{name}'s password"]
        for which, secrets in (("first", first), ("second", second))
        for name in ("admin", "clerk")
    }
    assert_rabbitmq_has_no_clear_text(passwords, healthy, BROKERS)


def _called(which, secrets, hashes):
    """Name secrets for a search: those of each role, and the hashes of passwords."""
    found = {**secrets["broker"], **secrets["load_balancer"], **hashes}
    return {f"{which} {what}": text for what, text in found.items()}
