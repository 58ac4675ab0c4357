"""The screen of salt-run rabbit_ha.status and its siblings."""

import pytest

from tests.support import load

BROKER = {
    "version": "3.10.8",
    "cluster_name": "rabbitmq_cluster1",
    "members": ["rabbit@rabbitmq-node1", "rabbit@rabbitmq-node2"],
    "running": ["rabbit@rabbitmq-node1"],
    "alarms": ["memory on rabbit@rabbitmq-node1"],
    "partitions": [],
}
BALANCER = {
    "haproxy": "running",
    "servers": {"rabbitmq-node1": "UP", "rabbitmq-node2": "DOWN"},
    "holds": ["192.168.123.123"],
    "vrrp": {"VI_1": "MASTER"},
}
GOOD = {"result": True, "says": "all is well", "problems": []}
BAD = {"result": False, "says": "2 problems", "problems": ["a: is off", "b: is off"]}


@pytest.fixture
def output():
    return load("_output/rabbit_ha.py").output


def test_the_verdict_is_the_last_line_and_its_problems_follow(output):
    assert output({"verdict": GOOD}).splitlines()[-1] == "OK: all is well"
    lines = output({"verdict": BAD}).splitlines()
    assert lines[-3:] == ["NOT OK: 2 problems", "  - a: is off", "  - b: is off"]


def test_brokers_and_load_balancers_have_a_row_each_in_aligned_columns(output):
    text = output(
        {
            "verdict": GOOD,
            "brokers": {"rabbitmq-node1": BROKER, "n2": BROKER},
            "load_balancers": {"haproxy-keeplive-node1": BALANCER},
        }
    )
    lines = text.splitlines()
    head, first, second = lines[1:4]
    assert lines[0] == "BROKERS"
    for row in (first, second):
        assert row[head.index("members") :].startswith("rabbitmq-node1, rabbitmq-node2")
        assert row[head.index("running") :].split()[0] == "1"
        assert row[head.index("alarms") :] == "memory on rabbit@rabbitmq-node1"
    [balancer] = [line for line in lines if "haproxy-keeplive-node1" in line]
    assert balancer.split() == [
        *("haproxy-keeplive-node1", "MASTER", "192.168.123.123"),
        *("rabbitmq-node1", "UP,", "rabbitmq-node2", "DOWN"),
    ]


def test_what_does_not_answer_shows_why_in_its_row(output):
    text = output(
        {
            "verdict": BAD,
            "brokers": {"b": {"error": "app stopped: requires the app"}},
            "load_balancers": {"l": {"error": "the minion does not answer"}},
        }
    )
    assert "app stopped: requires the app" in text
    assert "the minion does not answer" in text


def test_a_load_balancer_without_haproxy_shows_that_in_the_servers_place(output):
    down = {**BALANCER, "servers": {}, "holds": [], "haproxy": "not answering: [Errno 2]"}
    text = output({"verdict": BAD, "load_balancers": {"l": down}})
    assert "not answering: [Errno 2]" in text


def test_messages_are_counted(output):
    seen = {"address": "1.2.3.4:5672", "confirmed": 10, "consumed": 9, "seconds": 0.5}
    text = output({"verdict": BAD, "messages": [seen, {**seen, "address": "1.2.3.5:5672"}]})
    assert "MESSAGES through 1.2.3.4:5672: 10 confirmed, 9 consumed, 0.5 s" in text
    assert "MESSAGES through 1.2.3.5:5672: " in text


def test_a_vrrp_instance_is_named_where_there_are_several(output):
    two = {**BALANCER, "vrrp": {"VI_1": "MASTER", "VI_2": "BACKUP"}}
    assert "VI_1 MASTER, VI_2 BACKUP" in output({"verdict": GOOD, "load_balancers": {"l": two}})
    assert "VI_1" not in output({"verdict": GOOD, "load_balancers": {"l": BALANCER}})


def test_a_plan_is_shown_host_by_host(output):
    replaced = {"diff": "--- \n+++ \n-old\n+new"}
    user = {
        "admin": {"old": None, "new": {"tags": ["administrator"], "password": "another"}},
        "shop": {
            "old": {"tags": [], "password": "as it was"},
            "new": {"tags": ["management"], "password": "as it was"},
        },
    }
    changes = {
        "a": {
            "X is installed": {"x": {"old": "", "new": "installed"}},
            "X is configured": replaced,
            "X has users": {"users": user},
        },
        "b": {"X runs": {}},
    }
    assert output({"verdict": GOOD, "changes": changes}).splitlines() == [
        "a",
        "  X is installed",
        "    x: installed",
        "  X is configured",
        "    diff: --- ",
        "      +++ ",
        "      -old",
        "      +new",
        "  X has users",
        "    users: admin: {'tags': ['administrator'], 'password': 'another'}",
        "    users: shop: tags: [] -> ['management']",
        "",
        "b",
        "  X runs",
        "",
        "OK: all is well",
    ]


def test_files_are_told_with_what_was_done(output):
    text = output({"verdict": GOOD, "files": {"/srv/x.sls": {"done": "created"}}})
    assert "/srv/x.sls: created" in text


@pytest.mark.parametrize("data", ["Exception occurred in runner", {"other": 1}, None])
def test_what_is_no_report_is_shown_as_it_is(output, data):
    assert output(data) == str(data)
