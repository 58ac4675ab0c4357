"""What fails tells no secret: templates that do not render, states that raise, tools that fail."""

import json
import logging
import re
import shutil

import pytest

from tests.support import ROOT, recorded

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
# The line of a template that has the secret.
SECRET_LINE = r"pillar\[|said\[|auth_pass \{\{"
BREAKS = {
    "undefined": "{{ pillar.rabbit_ha.nothing.at_all }}",
    "exception": "{{ 1 // 0 }}",
    "syntax": "{% if %}",
    "salt function": "{{ salt['rabbit_topology.interface']() }}",
}


@pytest.fixture
def logged(caplog):
    """Everything that Salt logs, at its most talkative."""
    logger = logging.getLogger("salt")
    before = logger.level
    logger.setLevel(1)
    with caplog.at_level(1):
        yield lambda: caplog.text
    logger.setLevel(before)


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("template", FILES)
def test_a_template_that_does_not_render_tells_no_secret(
    tmp_path, minion, run_state, logged, template, broken
):
    served = shutil.copytree(ROOT / "salt", tmp_path / "served", symlinks=True)
    path = served / "rabbit_ha" / template
    lines = path.read_text().splitlines()
    # Beside the line that has the secret: Salt shows the lines around an error.
    at = max(number for number, line in enumerate(lines) if re.search(SECRET_LINE, line))
    path.write_text("\n".join([*lines[: at + 1], BREAKS[broken], *lines[at + 1 :]]))
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
