"""
One lab for all integration tests: hosts from bin/lab, the master from salt-factories.

The tests run in file order: bare hosts first, then the deployment, then the
faults. A test that breaks something restores it.
"""

import contextlib
import os
import pathlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from saltfactories.daemons.master import SaltMaster

from lab import cgroup
from tests.integration.lab import BROKERS, CHECKOUT, NAME, Lab, enter_network, skip_without_root
from tests.integration.recorder import Recorder

# docs/secrets.md names it as one at which nothing is told.
LOG_LEVEL = "trace"


def pytest_collection_modifyitems(items):
    """Skip what needs real hosts where there cannot be any."""
    skip_without_root(items, pathlib.Path(__file__).parent)


@pytest.fixture(scope="session")
def lab(pytestconfig, tmp_path_factory):
    """The bare hosts of the default topology; gone again after the tests."""
    pillar = shutil.copytree(CHECKOUT / "pillar", tmp_path_factory.mktemp("lab") / "pillar")
    hosts = Lab(NAME, os.environ.get("RELEASE", "bookworm"), pillar)
    hosts.command("down")
    hosts.command("up", "--release", hosts.release, "--pillar", str(pillar), "--no-master")
    # What salt-factories listens with must be where the master is.
    log_server = pytestconfig.pluginmanager.get_plugin("saltfactories-log-server")
    log_server.stop()
    with open(hosts.status()["namespace"], "rb") as namespace:
        enter_network(namespace)
    log_server.start()
    yield hosts
    hosts.command("down")


@pytest.fixture(scope="session")
def event_listener(lab, event_listener):
    """Have salt-factories listen for the master's events in the lab's network."""
    # Tests before these may have started it outside; a thread stays where it began.
    event_listener.server_running_event.clear()
    event_listener.start_server()
    return event_listener


@pytest.fixture(scope="session")
def salt_factories_config(lab):
    """Have salt-factories start only once this process is in the lab's network."""
    return {"root_dir": lab.status()["master"]["config_dir"]}


class LabMaster(SaltMaster):
    """A Salt master among the lab's processes: `bin/lab down` ends it, however pytest ended."""

    def cmdline(self, *args):
        """Build the command line, wrapped so that it joins the lab's control group."""
        return cgroup.command_in(cgroup.group(NAME, "master"), super().cmdline(*args))


@pytest.fixture(scope="session")
def salt_master(lab, salt_factories):
    """The Salt master, run by salt-factories with the lab's own configuration."""
    config_file = pathlib.Path(lab.status()["master"]["config_dir"]) / "master"
    config = yaml.safe_load(config_file.read_text())
    factory = salt_factories.salt_master_daemon(
        "rabbit-ha-master",
        overrides={
            **config,
            "publish_port": 4505,
            "ret_port": 4506,
            "log_level_logfile": LOG_LEVEL,
            # Where salt-run, whose configuration is the lab's, looks for keys too.
            "gpg_keydir": str(config_file.parent / "gpgkeys"),
        },
        factory_class=LabMaster,
    )
    with factory.started():
        lab.wait_for_minions()
        yield factory


@contextlib.contextmanager
def talkative_minions(lab):
    """
    Have minions log all they can for a while.

    What is searched for secrets is to hold more than what goes wrong; it takes them twice
    the time.
    """
    config = "/etc/salt/minion.d/tests.conf"
    _restart_minions(
        lab, f"mkdir -p /etc/salt/minion.d; echo log_level_logfile: {LOG_LEVEL} > {config}"
    )
    yield
    _restart_minions(lab, f"rm {config}")


def _restart_minions(lab, script):
    """Restart minions after a command on each host."""
    command = ("sh", "-c", f"{script}; systemctl restart salt-minion")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: lab.exec(host, *command), lab.hosts))
    lab.wait_for_minions()


@pytest.fixture(scope="module")
def talkative(deployed):
    """Minions that log all they can, for a module's tests."""
    with talkative_minions(deployed):
        yield


@pytest.fixture(scope="session")
def bare(lab, salt_master):
    """Hosts that answer, with secrets on the master, and nothing deployed; one is called else."""
    lab.salt_run("rabbit_ha.secrets", check=True)
    lab.exec(BROKERS[2], "sh", "-c", "echo localhost > /etc/hostname; hostname localhost")
    return lab


@pytest.fixture(scope="session")
def deployed(bare, tmp_path_factory):
    """
    The hosts after a plan and one deployment, which are ``plan`` and ``deployment``.

    What was recorded of them is ``recorder``.
    """
    folder = tmp_path_factory.mktemp("recorded")
    with talkative_minions(bare), Recorder(bare, folder) as bare.recorder:
        bare.plan = bare.salt_run("rabbit_ha.plan", "--out=json")
        bare.deployment = bare.salt_run("state.orchestrate", "orch.rabbit_ha", "--out=json")
    assert bare.deployment.returncode == 0, bare.deployment.stdout + bare.deployment.stderr
    return bare


@pytest.fixture
def recorder(lab, tmp_path):
    """Records argv of all processes and all events of a test."""
    with Recorder(lab, tmp_path) as recording:
        yield recording


@pytest.fixture
def healthy(deployed):
    """The deployed hosts, seen to be well after the test; so they are before the next one."""
    if not deployed.well:
        _heal(deployed)
    deployed.well = False
    yield deployed
    deployed.wait_until_all_serve()
    deployed.well = True


def _heal(lab):
    """Have one test's fault not be that of all tests after it: a run repairs, or none goes on."""
    if lab.salt_run("rabbit_ha.status").returncode == 0:
        lab.broken = False
        return
    if lab.broken:
        pytest.fail("a test before this one left the hosts broken")
    lab.broken = True
    lab.salt_run("state.orchestrate", "orch.rabbit_ha")
    lab.wait_until_well()
    lab.broken = False
