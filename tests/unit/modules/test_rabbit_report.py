"""rabbit_report: what a host sees, put together from recorded answers."""

import json
import socketserver
import threading

import pytest
from salt.exceptions import CommandExecutionError

from tests.support import DATA, RABBITMQ_VERSIONS, TOPOLOGY, faked, load, recorded

SHOW_STAT = (DATA / "haproxy" / "2.6.12" / "show_stat.txt").read_text()
NODES = [f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3)]


class Host:
    """``rabbit_host`` of a host that holds some addresses; ``newer`` is a file's path."""

    def __init__(self, holds=(), invocation="a1", newer=None):
        self._holds, self._invocation, self._newer = holds, invocation, newer

    def runs_since_before(self, service, path):
        assert service == "rabbitmq-server"
        return path == self._newer

    def service_invocation(self, service):
        assert service == "keepalived"
        return self._invocation

    def held_addresses(self, addresses):
        return [address for address in addresses if address in self._holds]


@pytest.fixture
def haproxy(tmp_path):
    """Answer ``show stat`` on a socket with what HAProxy answered in the lab."""

    class Answer(socketserver.StreamRequestHandler):
        def handle(self):
            if self.rfile.readline() == b"show stat\n":
                self.wfile.write(SHOW_STAT.encode())

    path = str(tmp_path / "haproxy.sock")
    with socketserver.UnixStreamServer(path, Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield path
        server.shutdown()
        thread.join()


@pytest.fixture
def broker(topology):
    """Return a function that loads the module on a broker whose node gives an answer."""

    def build(answer, minion="rabbitmq-node1", newer=None, **pillars):
        def node_state(node=None):
            if isinstance(answer, Exception):
                raise answer
            return answer

        return load(
            "_modules/rabbit_report.py",
            salt={
                "rabbitmqctl.node_state": node_state,
                "rabbit_membership.listed_in": load("_modules/rabbit_membership.py").listed_in,
            }
            | topology(minion, **pillars)
            | faked("rabbit_host", Host(newer=newer), load("_modules/rabbit_host.py")),
        )

    return build


@pytest.fixture
def load_balancer(topology, tmp_path):
    def build(socket, holds=(), keepalived_runs=True, told=None, instances=None):
        for name, text in (told or {}).items():
            (tmp_path / name).write_text(text)
        pillar = {
            "virtual_address": "192.168.123.123",
            "hosts": {"lb": {"address": "192.0.2.1", "roles": ["load_balancer"]}},
            "haproxy": {"runtime_socket": socket},
            "keepalived": {"state_dir": str(tmp_path), "instances": instances or {}},
        }
        here = topology("lb", pillar)
        host = Host(holds, "a1" if keepalived_runs else None)
        return load(
            "_modules/rabbit_report.py",
            salt=faked("rabbit_host", host, load("_modules/rabbit_host.py")) | here,
            utils=here,
            grains={"id": "lb"},
        )

    return build


def test_a_broker_reports_by_the_pillar_that_the_master_has_now(broker):
    status = json.loads(recorded(RABBITMQ_VERSIONS[0], "cluster_status")["stdout"])
    answer = {"state": "running", "status": status, "said": ""}
    now = {**TOPOLOGY, "rabbitmq": {"config_dir": "/etc/other"}}
    here = broker(answer, newer="/etc/other/rabbitmq.conf", now=now)
    assert here.broker()["waits_for_restart"] is True


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_running_broker_reports_its_version_members_and_cluster(broker, version):
    status = json.loads(recorded(version, "cluster_status")["stdout"])
    report = broker({"state": "running", "status": status, "said": ""}).broker()
    assert report == {
        "version": version,
        "cluster_name": "rabbitmq_cluster1",
        "members": NODES,
        "running": NODES,
        "alarms": [],
        "partitions": [],
        "waits_for_restart": False,
        "under_maintenance": False,
    }


# As of 3.10.8, and of 4.0.5.
@pytest.mark.parametrize(
    "said", ["\x1b[35mmarked for maintenance\x1b[0m", "marked for maintenance"]
)
def test_a_broker_that_was_drained_says_so(broker, said):
    status = json.loads(recorded("3.10.8", "cluster_status")["stdout"])
    status["maintenance_status"][NODES[0]] = said
    report = broker({"state": "running", "status": status, "said": ""}).broker()
    assert report["under_maintenance"] is True


def test_a_broker_that_runs_since_before_its_configuration_waits_for_a_restart(broker):
    status = json.loads(recorded("3.10.8", "cluster_status")["stdout"])
    answer = {"state": "running", "status": status, "said": ""}
    assert broker(answer, newer="/etc/rabbitmq/rabbitmq.conf").broker()["waits_for_restart"]


def test_alarms_and_partitions_are_put_into_words(broker):
    status = json.loads(recorded("3.10.8", "cluster_status")["stdout"])
    status["alarms"] = [{"type": "resource_limit", "resource": "memory", "node": NODES[1]}]
    status["partitions"] = {NODES[0]: [NODES[2]]}
    report = broker({"state": "running", "status": status, "said": ""}).broker()
    assert report["alarms"] == [f"memory on {NODES[1]}"]
    assert report["partitions"] == [NODES[2]]


def test_a_node_under_another_name_than_the_topology_s_is_told(broker):
    status = json.loads(recorded("3.10.8", "cluster_status")["stdout"])
    report = broker({"state": "running", "status": status, "said": ""}, minion="stranger").broker()
    assert "is none of the topology's: rabbit@rabbitmq-node1" in report["error"]
    assert "not rabbit@stranger" in report["error"]


def test_a_broker_that_does_not_run_reports_why(broker):
    found = {"state": "app stopped", "status": None, "said": "requires the 'rabbit' app"}
    assert broker(found).broker() == {
        "error": "app stopped: it is booting, or was stopped. Next: rabbitmqctl start_app",
        "state": "app stopped",
    }


def test_a_broker_whose_service_has_another_name_is_told_by_that(broker):
    found = {"state": "node not running", "status": None, "said": "not running at all"}
    report = broker(found, pillar={**TOPOLOGY, "rabbitmq": {"service": "rabbit-east"}}).broker()
    assert report["error"].endswith("has failed. Next: systemctl status rabbit-east")


def test_a_host_without_rabbitmq_reports_that(broker):
    report = broker(CommandExecutionError("rabbitmqctl is not there")).broker()
    assert report == {"error": "rabbitmqctl is not there", "state": None}


def test_haproxy_s_servers_are_told_without_its_own_lines(load_balancer, haproxy):
    assert load_balancer(haproxy).haproxy_servers(haproxy) == {
        "rabbitmq-node1": "UP",
        "rabbitmq-node2": "UP",
        "rabbitmq-node3": "DOWN",
    }


@pytest.mark.parametrize(
    ("holds", "keepalived_runs", "vrrp"),
    [
        (["192.168.123.123"], True, "MASTER"),
        ([], True, "unknown"),
        ([], False, "keepalived not running"),
    ],
)
def test_a_load_balancer_reports_servers_address_and_state(
    load_balancer, haproxy, holds, keepalived_runs, vrrp
):
    report = load_balancer(haproxy, holds, keepalived_runs).load_balancer()
    assert report["haproxy"] == "running"
    assert report["servers"]["rabbitmq-node3"] == "DOWN"
    assert (report["holds"], report["vrrp"]) == (holds, {"VI_1": vrrp})


@pytest.mark.parametrize("state", ["MASTER", "BACKUP", "FAULT"])
def test_keepalived_s_own_word_counts_whatever_the_host_holds(load_balancer, haproxy, state):
    module = load_balancer(haproxy, ["192.168.123.123"], told={"VI_1": f"{state} a1\n"})
    assert module.vrrp_states() == {"VI_1": state}


def test_what_a_former_keepalived_told_does_not_count(load_balancer, haproxy):
    module = load_balancer(haproxy, ["192.168.123.123"], told={"VI_1": "FAULT former\n"})
    assert module.vrrp_states() == {"VI_1": "MASTER"}


def test_each_vrrp_instance_has_a_state(load_balancer, haproxy):
    second = {"VI_2": {"virtual_router_id": 2, "virtual_addresses": ["192.168.123.124/24"]}}
    module = load_balancer(
        haproxy, ["192.168.123.124"], told={"VI_1": "BACKUP a1\n"}, instances=second
    )
    assert module.vrrp_states() == {"VI_1": "BACKUP", "VI_2": "MASTER"}
    assert module.load_balancer()["holds"] == ["192.168.123.124"]


def test_without_haproxy_a_load_balancer_says_so(load_balancer, tmp_path):
    report = load_balancer(str(tmp_path / "none")).load_balancer()
    assert report["haproxy"].startswith("not answering: ")
    assert report["servers"] == {}


def test_a_host_reports_its_own_roles_only(broker, load_balancer, haproxy):
    status = json.loads(recorded("3.10.8", "cluster_status")["stdout"])
    assert list(broker({"state": "running", "status": status, "said": ""}).host()) == ["broker"]
    assert list(load_balancer(haproxy).host()) == ["load_balancer"]
