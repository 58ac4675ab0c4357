"""After the deployment: what is there, what a second run does, what it gave away."""

import base64
import json
import re
import urllib.request

import pytest

from tests.integration.amqp import consume, publish
from tests.integration.lab import BROKERS, CHECKOUT, HOLDER, HOSTS, STANDBY, VIRTUAL_ADDRESS

NODES = {f"rabbit@{broker}" for broker in BROKERS}
ADDRESSES = {HOLDER: "192.168.123.11", STANDBY: "192.168.123.220"}


@pytest.mark.parametrize("broker", BROKERS)
def test_each_broker_lists_all_as_running_members(deployed, broker):
    status = deployed.rabbitmqctl(broker, "cluster_status")
    assert set(status["disk_nodes"]) == NODES
    assert set(status["running_nodes"]) == NODES
    assert status["cluster_name"] == "rabbitmq_cluster1"


def test_policy_of_the_article_is_there_on_3_x(deployed):
    status = deployed.rabbitmqctl(BROKERS[0], "cluster_status")
    version = status["versions"][f"rabbit@{BROKERS[0]}"]["rabbitmq_version"]
    policies = deployed.rabbitmqctl(BROKERS[1], "list_policies")
    found = [(p["name"], p["pattern"], json.loads(p["definition"])) for p in policies]
    mirrored = [("ha-all", "^", {"ha-mode": "all"})]
    assert found == (mirrored if version.startswith("3.") else [])


def test_users_are_the_administrator_alone(deployed):
    users = deployed.rabbitmqctl(BROKERS[2], "list_users")
    assert users == [{"user": "admin", "tags": ["administrator"]}]


def test_thousand_confirmed_messages_go_in_through_the_address_and_come_out(deployed):
    with deployed.amqp() as connection:
        sent = publish(connection, "test.thousand", 1000)
        assert len(sent) == 1000
        assert consume(connection, "test.thousand", 1000) == sent


@pytest.mark.parametrize("host", [HOLDER, STANDBY])
def test_statistics_page_shows_all_brokers_up(deployed, host):
    secret = deployed.secret("load_balancer")["haproxy"]["monitor"]["password"]
    page = f"http://{ADDRESSES[host]}:8100/rabbitmq-stats;csv"
    request = urllib.request.Request(page)
    credentials = base64.b64encode(f"stats:{secret}".encode()).decode()
    request.add_header("Authorization", f"Basic {credentials}")
    with urllib.request.urlopen(request, timeout=5) as answer:
        rows = [line.split(",") for line in answer.read().decode().splitlines()]
    states = {row[1]: row[17] for row in rows if row[0] == "rabbitmq_cluster"}
    assert {states[broker] for broker in BROKERS} == {"UP"}


def test_statistics_page_wants_a_password(deployed):
    page = f"http://{ADDRESSES[HOLDER]}:8100/rabbitmq-stats"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(page, timeout=5)


def test_address_is_on_the_master_load_balancer_only(deployed):
    assert deployed.holders() == [HOLDER]


def test_cookie_is_the_same_everywhere_and_private(deployed):
    path = "/var/lib/rabbitmq/.erlang.cookie"
    cookies = {deployed.exec(broker, "cat", path).stdout for broker in BROKERS}
    assert len(cookies) == 1
    for broker in BROKERS:
        mode = deployed.exec(broker, "stat", "-c", "%U %a", path).stdout.split()
        assert mode == ["rabbitmq", "400"]
    backups = [
        deployed.exec(b, "sh", "-c", f"ls {path}.*.bak 2>/dev/null", check=False).stdout.split()
        for b in BROKERS
    ]
    assert [len(found) for found in backups] == [0, 1, 1]


def test_orchestration_again_changes_nothing(deployed):
    done = deployed.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
    assert done.returncode == 0, done.stdout
    (states,) = json.loads(done.stdout)["data"].values()
    assert not [s["__id__"] for s in states.values() if s["changes"] or not s["result"]]


def test_highstate_after_the_orchestration_changes_nothing(deployed):
    returns = deployed.salt("*", "state.highstate")
    assert set(returns) == set(HOSTS)
    for host, states in returns.items():
        changed = [s["__id__"] for s in states.values() if s["changes"] or not s["result"]]
        assert not changed, (host, changed)


def test_verify_says_how_many_messages_went_through(deployed):
    done = deployed.salt_run("rabbit_ha.verify")
    assert done.returncode == 0, done.stdout
    assert f"OK: 1000 messages went through {VIRTUAL_ADDRESS}:5672 and came back" in done.stdout


def test_status_is_json_for_scripts(deployed):
    data = json.loads(deployed.salt_run("rabbit_ha.status", "--out=json").stdout)
    assert data["verdict"] == {"result": True, "says": "all is well", "problems": []}
    assert set(data["brokers"]) == set(BROKERS)
    assert data["load_balancers"][HOLDER]["vrrp"] == {"VI_1": "MASTER"}
    assert data["load_balancers"][STANDBY]["vrrp"] == {"VI_1": "BACKUP"}


def test_nothing_gave_a_secret_away(deployed, recorder):
    broker, balancer = deployed.secret("broker"), deployed.secret("load_balancer")
    secrets = {
        "admin's password": broker["rabbitmq"]["users"]["admin"]["password"],
        "statistics password": balancer["haproxy"]["monitor"]["password"],
        "VRRP password": balancer["keepalived"]["authentication"]["auth_pass"],
        "Erlang cookie": deployed.exec(
            BROKERS[0], "cat", "/var/lib/rabbitmq/.erlang.cookie"
        ).stdout.strip(),
    }
    config_dir = deployed.status()["master"]["config_dir"]
    places = {
        "argv": "\n".join(argv.decode(errors="replace") for argv in recorder.argv),
        "event bus": recorder.events(),
        "output of the run": deployed.deployment.stdout + deployed.deployment.stderr,
    }
    # The recordings are worth something: they hold what is no secret.
    assert "salt/job" in places["event bus"]
    assert "rabbitmqctl" in places["argv"]
    for where, text in places.items():
        for what, secret in secrets.items():
            assert not re.search(re.escape(secret), text), f"{what} in {where}"
    for what, secret in secrets.items():
        found = deployed.grep_on_the_master(secret, config_dir)
        assert not found, f"{what} on the master in {found}"
        for host in HOSTS:
            holders = deployed.grep_readable_by_others(host, secret)
            assert not holders, f"{what} on {host} in {holders}"


def test_secrets_reach_only_the_roles_that_need_them(deployed):
    for host in HOSTS:
        pillar = json.dumps(deployed.salt(host, "pillar.items", "unmask=True")[host])
        password = deployed.secret("broker")["rabbitmq"]["users"]["admin"]["password"]
        assert (password in pillar) == (host in BROKERS)
        vrrp = deployed.secret("load_balancer")["keepalived"]["authentication"]["auth_pass"]
        assert (vrrp in pillar) == (host not in BROKERS)


def test_nothing_but_the_topology_names_a_host_or_an_address():
    folders = ("salt", "_modules", "_states", "_utils", "_runners", "lab", "conf")
    for folder in folders:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and path.suffix in (".sls", ".j2", ".yaml", ".py", ""):
                text = path.read_text(errors="ignore")
                assert "192.168.123." not in re.sub(
                    r"CLI Example:.*?\"\"\"", "", text, flags=re.S
                ), path
