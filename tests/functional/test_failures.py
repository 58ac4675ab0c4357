"""What fails tells no secret: templates that do not render, states that raise, tools that fail."""

import contextlib
import json
import logging
import re
import shutil

import pytest
import salt.pillar
import salt.runner
import salt.state
from salt._logging import LOG_LEVELS
from salt.utils import yaml

from tests.support import ROOT, broken_beside_the_secret, recorded

SECRET = "s3cretOfThisTest"
FILES = {
    "rabbitmq/files/rabbitmq.conf.j2": (
        "rabbitmq-node1",
        {"rabbitmq": {"config": {"ssl_options.password": SECRET}}},
    ),
    "haproxy/files/haproxy.cfg.j2": (
        "haproxy-keeplive-node1",
        {"haproxy": {"monitor": {"password": SECRET}}},
    ),
    "keepalived/files/keepalived.conf.j2": (
        "haproxy-keeplive-node1",
        {"keepalived": {"authentication": {"auth_pass": SECRET}, "interface": "lo"}},
    ),
}
BREAKS = {
    "undefined": "{{ pillar.rabbit_ha.nothing.at_all }}",
    "exception": "{{ 1 // 0 }}",
    "syntax": "{% if %}",
    "salt function": "{{ salt['rabbit_topology.interface']() }}",
}


@contextlib.contextmanager
def logging_at(caplog, level):
    """Have Salt log at a level, one of its own too."""
    logger = logging.getLogger("salt")
    before = logger.level
    logger.setLevel(LOG_LEVELS[level])
    with caplog.at_level(LOG_LEVELS[level]):
        yield
    logger.setLevel(before)


@pytest.fixture
def logged(caplog):
    """Everything that Salt logs, at its most talkative."""
    with logging_at(caplog, "all"):
        yield lambda: caplog.text


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("template", FILES)
def test_a_template_that_does_not_render_tells_no_secret(
    tmp_path, minion, run_state, logged, template, broken
):
    served = shutil.copytree(ROOT / "salt", tmp_path / "served", symlinks=True)
    text = broken_beside_the_secret(template, BREAKS[broken])
    (served / "rabbit_ha" / template).write_text(text)
    host, pillar = FILES[template]
    opts = minion(host, **pillar)
    opts["file_roots"] = {"base": [str(served)]}
    low = {
        "state": "file",
        "fun": "managed",
        "name": str(tmp_path / "made"),
        "source": f"salt://rabbit_ha/{template}",
        "template": "jinja",
        "context": {"snippets": False},
        "show_changes": False,
    }
    [ret] = run_state(opts, low)
    assert ret["result"] is False
    assert SECRET not in str(ret)
    assert SECRET not in logged()


def test_a_state_that_raises_tells_no_password_and_no_hash(minion, run_state, rabbitmqctl, logged):
    exported = recorded("3.10.8", "export_definitions")
    document = json.loads(exported["stdout"])
    [admin] = document["users"]
    # The second one is no user: the state cannot know what to do, and raises.
    document["users"] = [{**admin, "password_hash": "s3cretHash"}, 5]
    status = recorded("3.10.8", "cluster_status")
    broken = {**exported, "stdout": json.dumps(document)}
    rabbitmqctl.answers({"cluster_status": status, "export_definitions": broken})
    opts = minion(rabbitmq={"users": {"admin": {"password": SECRET}}})
    low = {
        "state": "rabbit_definitions",
        "fun": "present",
        "vhosts": {},
        "users": {"admin": {"tags": []}},
        "policies": {},
    }
    [ret] = run_state(opts, low)
    assert ret["result"] is False
    assert "Traceback" in ret["comment"]
    for secret in (SECRET, "s3cretHash"):
        assert secret not in str(ret)
        assert secret not in logged()


@pytest.fixture
def compiled(master, tmp_path):
    """Return a function that compiles pillar and checks it, with a text as brokers' secrets."""

    def build(text, **opts):
        path = tmp_path / "secrets" / "rabbit_ha" / "secrets" / "broker.sls"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        given = {**master, **opts}
        host = "rabbitmq-node1"
        pillar = salt.pillar.Pillar(given, {"id": host}, host, "base").compile_pillar()
        answer = salt.runner.RunnerClient(given).cmd("rabbit_ha.validate", [], print_event=False)
        return pillar, answer["data"]["verdict"]

    return build


def broker(password):
    return yaml.safe_dump({"rabbit_ha": {"rabbitmq": {"users": {"admin": {"password": password}}}}})


def test_a_check_of_pillar_that_breaks_tells_no_value(tmp_path, compiled, caplog):
    served = shutil.copytree(ROOT / "salt", tmp_path / "served", symlinks=True)
    # The schema is no schema: what breaks at that is not foreseen.
    (served / "rabbit_ha" / "pillar.schema.json").write_text('{"properties": 5}')
    with logging_at(caplog, "trace"):
        pillar, verdict = compiled(broker(SECRET), file_roots={"base": [str(served)]})
    assert "_errors" not in pillar
    for [error] in (pillar["rabbit_ha_findings"]["errors"], verdict["problems"]):
        assert error.startswith("rabbit_ha: pillar cannot be checked: TypeError, and where")
    assert "in ext_pillar\n    found = findings(" in caplog.text
    assert SECRET not in caplog.text


# As in a password that begins with @ and is not quoted.
NO_YAML = "\n    orders: {password: @}\n"


def test_pillar_that_is_no_yaml_is_told_without_its_lines(compiled):
    pillar, verdict = compiled(f"{broker(SECRET)}{NO_YAML}")
    assert verdict["result"] is False
    assert "Rendering SLS 'rabbit_ha.secrets.broker' failed" in str(pillar["_errors"])
    assert re.search(
        r"/rabbit_ha/secrets/broker\.sls, line \d+, is no YAML", str(verdict["problems"])
    )
    for told in (pillar["_errors"], verdict["problems"]):
        assert SECRET not in str(told)


def test_salt_logs_lines_around_an_error_in_pillar_and_encrypted_they_tell_nothing(
    compiled, logged, key
):
    encrypted = f"#!yaml|gpg\n{broker(key.encrypt(SECRET))}{NO_YAML}"
    for text, leaks in ((encrypted, False), (f"{broker(SECRET)}{NO_YAML}", True)):
        pillar, _ = compiled(text, gpg_keydir=str(key.folder))
        assert "Rendering SLS 'rabbit_ha.secrets.broker' failed" in str(pillar["_errors"])
        # docs/secrets.md warns of it.
        assert (SECRET in logged()) is leaks


@pytest.mark.parametrize(
    ("level", "leaks"), [("debug", False), ("trace", False), ("garbage", True), ("all", True)]
)
def test_salt_logs_pillar_from_the_level_on_that_the_documentation_names(
    compiled, caplog, level, leaks
):
    with logging_at(caplog, level):
        pillar, _ = compiled(broker(SECRET))
    assert pillar["rabbit_ha"]["rabbitmq"]["users"]["admin"]["password"] == SECRET
    assert (SECRET in caplog.text) is leaks


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("rabbit_failover.configuration_in_use", {"name": "haproxy", "files": ["/etc/haproxy"]}),
        ("rabbit_node.unit_loaded", {"name": "haproxy"}),
        (
            "rabbit_node.configuration_loaded",
            {"name": "/etc/rabbitmq/rabbitmq.conf", "service": "rabbitmq-server"},
        ),
    ],
)
def test_what_failed_and_watches_a_state_that_changed_something_has_failed(
    tmp_path, minion, rabbitmqctl, function, arguments
):
    systemctl = tmp_path / "rabbitmqctl" / "bin" / "systemctl"
    systemctl.write_text("#!/bin/sh\necho 'no bus' >&2\nexit 1\n")
    systemctl.chmod(0o755)
    opts = minion()
    watch = [{"watch": [{"test": "written"}]}]
    high = {
        "written": {"test": ["succeed_with_changes"]},
        "in use": {function: [*({key: value} for key, value in arguments.items()), *watch]},
    }
    compiler = salt.state.State(opts, initial_pillar=opts["pillar"])
    returned = {ret["__id__"]: ret for ret in compiler.call_template_str(json.dumps(high)).values()}
    assert returned["written"]["changes"]
    assert returned["in use"]["result"] is False
    assert "no bus" in returned["in use"]["comment"]
