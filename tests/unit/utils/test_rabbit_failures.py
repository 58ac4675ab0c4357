"""rabbit_failures: the host and the step stand once in what a state says of a failure."""

import pytest

from tests.support import FAILURES


@pytest.mark.parametrize(
    ("step", "failure", "told"),
    [
        ("plugins", "mqtt did not become enabled", "plugins: mqtt did not become enabled"),
        ("plugins", "enabling plugins failed: enable exited with 65: no", None),
        ("joining rabbit@a", "joining rabbit@a failed: join_cluster exited with 69: no", None),
        ("haproxy", "systemctl reload haproxy failed, it goes on: no", None),
        ("joining rabbit@a", "stopping the app failed: no", "joining rabbit@a: stopping the app"),
        # What is told after the first words is not what failed.
        ("haproxy", "no check: haproxy failed", "haproxy: no check: haproxy failed"),
        ("haproxy", "it no longer runs: haproxy", "haproxy: it no longer runs: haproxy"),
    ],
)
def test_the_step_is_named_once(step, failure, told):
    ret = {"result": True, "changes": {"done": "half"}, "comment": ""}
    FAILURES["rabbit_failures.failed"](ret, "rabbitmq-node2", step, ValueError(failure))
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].startswith(f"rabbitmq-node2: {told or failure}")


def test_what_was_done_all_the_same_is_told():
    ret = {"result": True, "changes": {"backup": "/x", "other": 1}, "comment": ""}
    FAILURES["rabbit_failures.failed"](ret, "rabbitmq-node2", "x", "no", {"backup": "/x"})
    assert ret["changes"] == {"backup": "/x"}
