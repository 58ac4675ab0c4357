"""After the deployment: what is there, what a second run does, what it gave away."""

import fcntl
import json
import pathlib
import re
import urllib.request

import pytest

from lab.accounting import Accounting
from tests.integration.amqp import consume, publish
from tests.integration.lab import (
    BROKERS,
    CHECKOUT,
    HOLDER,
    HOSTS,
    NODES,
    STANDBY,
    VIRTUAL_ADDRESS,
    announced,
    changed,
    servers_of,
)
from tests.integration.recorder import (
    Search,
    assert_nothing_gave_away,
    assert_rabbitmq_has_no_clear_text,
    for_others_or_a_log,
)

# The master's, and a minion's.
LOGS = ("/master/log", "/var/log/salt/minion")
ADDRESSES = {HOLDER: "192.168.123.11", STANDBY: "192.168.123.220"}


def test_a_host_that_was_called_else_has_its_name(deployed):
    shown = deployed.exec(BROKERS[2], "sh", "-c", "cat /etc/hostname; hostname").stdout
    assert shown.split() == [BROKERS[2], BROKERS[2]]


@pytest.mark.parametrize("broker", BROKERS)
def test_each_broker_lists_all_as_running_members(deployed, broker):
    status = deployed.rabbitmqctl(broker, "cluster_status")
    assert sorted(status["disk_nodes"]) == NODES
    assert sorted(status["running_nodes"]) == NODES
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
    states = servers_of(ADDRESSES[host], secret)
    assert states == dict.fromkeys(BROKERS, "UP")


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


def test_what_the_deployment_changed_on_each_host_was_announced(deployed):
    said, done = announced(deployed.plan), changed(deployed.deployment)
    assert set(said) == set(done) == set(HOSTS)
    for host in HOSTS:
        assert done[host] - said[host] == set(), host


POLICY = {"vhost": "planned", "pattern": "^", "definition": {"max-length": 9}}
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
CHANGES = {
    "rabbitmq": {
        "vhosts": {"planned": {}},
        "users": {"planner": {"permissions": {"planned": EVERYTHING}}},
        "policies": {"planned": POLICY},
    },
    "haproxy": {"defaults": {"timeout": {"client": "121s"}}},
    "hosts": {STANDBY: {"keepalived": {"priority": 91}}},
}
UNDONE = {
    "rabbitmq": {
        "vhosts": {"planned": {"absent": True}},
        "users": {"planner": {"absent": True}},
    },
}
SECRETS = {"rabbitmq": {"users": {"planner": {"password": "pa55word-of-the-planner"}}}}


def test_a_run_changes_on_each_host_what_was_planned_and_nothing_else(deployed):
    definitions = "The cluster has its vhosts, users and policies"
    for changes, secrets in ((CHANGES, SECRETS), (UNDONE, {})):
        with deployed.pillar_changed(changes), deployed.pillar_changed(secrets, role="broker"):
            plan = deployed.salt_run("rabbit_ha.plan", "--out=json")
            done = deployed.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
        assert done.returncode == 0, done.stdout
        assert changed(done) == announced(plan)
        assert set(announced(plan)) == {BROKERS[0], HOLDER, STANDBY}
        detailed = json.loads(plan.stdout)["changes"][BROKERS[0]][definitions]
        assert {"planned", "planner"} <= {*detailed["vhosts"], *detailed["users"]}


def test_orchestration_again_changes_nothing(deployed):
    done = deployed.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
    assert done.returncode == 0, done.stdout
    (states,) = json.loads(done.stdout)["data"].values()
    assert not [s["__id__"] for s in states.values() if s["changes"] or not s["result"]]


def test_a_second_orchestration_is_refused_while_one_is_under_way(deployed):
    cache = pathlib.Path(deployed.status()["master"]["config_dir"], "cache")
    with (cache / "rabbit_ha.lock").open("r+") as lock:
        # The run that took it last is over, and so is its lock.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        done = deployed.salt_run("state.orchestrate", "orch.rabbit_ha")
    assert done.returncode != 0
    assert "another run is under way on this master: process " in done.stdout


def test_highstate_after_the_orchestration_changes_nothing(deployed):
    returns = deployed.salt("*", "state.highstate")
    assert set(returns) == set(HOSTS)
    for host, states in returns.items():
        changed = [s["__id__"] for s in states.values() if s["changes"] or not s["result"]]
        assert not changed, (host, changed)


@pytest.mark.parametrize("broker", BROKERS[:2])
def test_a_highstate_with_nothing_to_do_starts_two_erlang_vms_at_most(deployed, broker):
    def execute(*command):
        return deployed.exec(broker, *command).stdout

    with Accounting(execute, deployed.status()["hosts"][broker]["root"]) as accounting:
        states = json.loads(execute("salt-call", "--out=json", "state.highstate"))["local"]
    assert not [s["__id__"] for s in states.values() if s["changes"] or not s["result"]]
    # None at all would be no count.
    assert 1 <= accounting.vm_starts <= 2


def test_verify_says_how_many_messages_went_through(deployed):
    done = deployed.salt_run("rabbit_ha.verify")
    assert done.returncode == 0, done.stdout
    assert f"OK: 1000 messages went through {VIRTUAL_ADDRESS}:5672 and came back" in done.stdout


def test_status_is_json_for_scripts(deployed):
    data = json.loads(deployed.salt_run("rabbit_ha.status", "--out=json").stdout)
    assert data["verdict"] == {
        "result": True,
        "says": "all is well",
        "problems": [],
        "warnings": [],
    }
    assert set(data["brokers"]) == set(BROKERS)
    assert data["load_balancers"][HOLDER]["vrrp"] == {"VI_1": "MASTER"}
    assert data["load_balancers"][STANDBY]["vrrp"] == {"VI_1": "BACKUP"}


def test_nothing_gave_a_secret_away(deployed):
    secrets = deployed.secrets()
    runs = (deployed.plan, deployed.deployment)
    outputs = [text for run in runs for text in (run.stdout, run.stderr)]
    assert_nothing_gave_away(secrets, deployed, deployed.recorder, outputs)
    admin = {"admin's password": secrets["admin's password"]}
    assert_rabbitmq_has_no_clear_text(admin, deployed, BROKERS)


def test_what_is_searched_has_what_salt_logs_at_its_talkative_levels(deployed):
    def levels(files):
        lines = b"".join(content for path, content in files if str(path).endswith(LOGS))
        return {level for level in (b"[DEBUG ", b"[TRACE ") if level in lines}

    assert levels(deployed.files_of_the_master()) == {b"[DEBUG ", b"[TRACE "}
    for host in HOSTS:
        found = levels(deployed.files_of(host, lambda path, mode: path.endswith(LOGS)))
        assert found == {b"[DEBUG ", b"[TRACE "}, host


def test_what_is_searched_has_the_files_that_others_may_read_wherever_they_are(deployed):
    word = "a-w0rd-to-be-found"
    folders = ("/etc", "/var/tmp", "/tmp", "/run", "/dev/shm")
    files = {mode: [f"{folder}/searched-{mode}" for folder in folders] for mode in ("644", "600")}
    try:
        for mode, paths in files.items():
            write = f"tee {' '.join(paths)} >/dev/null && chmod {mode} {' '.join(paths)}"
            deployed.exec(STANDBY, "sh", "-c", write, input=word)
        found = Search({"word": word}).found(deployed.files_of(STANDBY, for_others_or_a_log))
    finally:
        deployed.exec(STANDBY, "rm", "-f", *files["644"], *files["600"])
    assert found == dict.fromkeys(files["644"], ["word"])


def test_secrets_reach_only_the_roles_that_need_them(deployed):
    secrets = deployed.secrets()
    of_brokers = {"admin's password"}
    of_balancers = {"statistics password", "VRRP password"}
    for minion in (*HOSTS, "stranger", "rabbit-ha-master_master"):
        pillar = json.dumps(deployed.pillar_of(minion))
        reached = {what for what, secret in secrets.items() if secret in pillar}
        expected = of_brokers if minion in BROKERS else of_balancers if minion in HOSTS else set()
        assert reached == expected, minion


def test_nothing_but_the_topology_names_a_host_or_an_address():
    folders = ("salt", "_modules", "_states", "_utils", "_runners", "lab", "conf")
    for folder in folders:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.is_file() and path.suffix in (".sls", ".j2", ".yaml", ".py", ""):
                text = path.read_text(errors="ignore")
                assert "192.168.123." not in re.sub(
                    r"CLI Example:.*?\"\"\"", "", text, flags=re.S
                ), path
