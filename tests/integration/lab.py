"""
The lab as the tests see it: hosts to command and to break.
"""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import stat
import subprocess
import time
import urllib.request

import pika
import pika.exceptions
import pytest
import salt.client
import salt.config
import salt.pillar
import salt.utils.args
import salt.utils.dictupdate
import yaml

from lab import cgroup, enter, lifecycle, record
from lab.answers import answering
from lab.errors import LabError

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
# Two runs of the tests on one machine need labs of different names.
NAME = os.environ.get("RABBIT_HA_TEST_LAB", "tests")
BROKERS = ("rabbitmq-node1", "rabbitmq-node2", "rabbitmq-node3")
HOLDER, STANDBY = "haproxy-keeplive-node1", "haproxy-keeplive-node2"
NODES = [f"rabbit@{broker}" for broker in BROKERS]
HOSTS = (*BROKERS, HOLDER, STANDBY)
VIRTUAL_ADDRESS = "192.168.123.123"
# The tests' process moves into the lab's network; this is the way back.
OUTSIDE = open("/proc/self/ns/net")  # noqa: SIM115
# From sched.h; Python has os.setns from 3.12 on.
CLONE_NEWNET = 0x40000000


class Lab:
    """
    One lab, by its name.

    name
        The lab's name.
    release
        The Debian release of its hosts.
    pillar
        The folder with its pillar, a copy of the checkout's.
    hosts
        Names of its hosts.
    """

    def __init__(self, name, release, pillar, hosts=HOSTS):
        self.name = name
        self.release = release
        self.pillar = pillar
        self.hosts = hosts
        self.plan = self.deployment = self.recorder = None
        self.well = self.broken = False
        self._began = time.time()

    def command(self, verb, *arguments, check=True, timeout=900, **kwargs):
        """Run a verb of bin/lab; returns the CompletedProcess."""
        done = subprocess.run(
            self._command_line(verb, *arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            pass_fds=[OUTSIDE.fileno()],
            **kwargs,
        )
        if check:
            assert done.returncode == 0, f"{verb} {arguments}: {done.stdout}{done.stderr}"
        return done

    def start(self, verb, *arguments, output):
        """Begin a verb of bin/lab, its output in an open file; returns the Popen."""
        return subprocess.Popen(
            self._command_line(verb, *arguments),
            stdout=output,
            stderr=output,
            pass_fds=[OUTSIDE.fileno()],
        )

    def _command_line(self, verb, *arguments):
        """Build the command line of a verb of bin/lab."""
        # From the machine's own network: an image that is not there yet is downloaded.
        outside = ["nsenter", f"--net=/proc/self/fd/{OUTSIDE.fileno()}", "--"]
        return [*outside, CHECKOUT / "bin" / "lab", "--name", self.name, verb, *arguments]

    def status(self):
        """What ``bin/lab status --json`` says, without starting that."""
        return lifecycle.status(record.require(self.name))

    def exec(self, host, *command, check=True, timeout=900, **kwargs):
        """Run a command in a host as ``bin/lab exec`` does; returns the CompletedProcess."""
        try:
            group, line, environment = enter.command_in_host(
                record.require(self.name), host, command
            )
        except LabError as err:
            assert not check, err
            return subprocess.CompletedProcess(command, err.exit_code, "", str(err))
        done = subprocess.run(
            cgroup.command_in(group / "tests", line),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment,
            **kwargs,
        )
        if check:
            assert done.returncode == 0, f"{host} {command}: {done.stdout}{done.stderr}"
        return done

    def salt_run(self, *arguments, check=False):
        """Run salt-run; returns the CompletedProcess."""
        return self.command("salt-run", *arguments, check=check)

    def deploy(self):
        """Run the orchestration; raises AssertionError, with what it said, when it fails."""
        done = self.salt_run("state.orchestrate", "orch.rabbit_ha")
        assert done.returncode == 0, done.stdout + done.stderr

    @contextlib.contextmanager
    def network(self):
        """Have this thread open its connections, and start threads, in this lab's network."""
        with open("/proc/thread-self/ns/net", "rb") as before:
            with open(self.status()["namespace"], "rb") as here:
                enter_network(here)
            try:
                yield
            finally:
                enter_network(before)

    def salt(self, target, function, *arguments, timeout=60):
        """
        Run a function on minions as the program ``salt`` does, without starting that.

        target
            Pattern, or list of names.
        arguments
            As one types them.

        Returns a mapping from minion to its return.
        """
        with self.network():
            return salt.client.LocalClient(self._config_file()).cmd(
                target,
                function,
                salt.utils.args.parse_input(arguments),
                tgt_type="list" if isinstance(target, list) else "glob",
                timeout=timeout,
            )

    def _config_file(self):
        """The master's configuration file."""
        return str(pathlib.Path(self.status()["master"]["config_dir"]) / "master")

    def applied(self, host, sls, *arguments):
        """Apply an SLS of RabbitMQ's as the orchestration does; returns its states by their IDs."""
        orchestrated = 'pillar={"rabbit_ha_orchestrated": true}'
        # A join and what comes before it take their time.
        command = ("state.apply", f"rabbit_ha.rabbitmq.{sls}", orchestrated)
        returned = self.salt(host, *command, *arguments, timeout=300)[host]
        assert isinstance(returned, dict), returned
        return {state["__id__"]: state for state in returned.values()}

    def rabbitmqctl(self, host, *arguments):
        """Run rabbitmqctl in a host; returns its decoded JSON."""
        done = self.exec(host, "rabbitmqctl", "--silent", *arguments, "--formatter", "json")
        return json.loads(done.stdout)

    def _secrets_file(self, role):
        """Where ``salt-run rabbit_ha.secrets`` wrote the secrets of a role."""
        folder = pathlib.Path(self.status()["master"]["secrets_dir"])
        return folder / "rabbit_ha" / "secrets" / f"{role}.sls"

    def secret(self, role):
        """The secrets of a role, as ``salt-run rabbit_ha.secrets`` wrote them."""
        return yaml.safe_load(self._secrets_file(role).read_text())["rabbit_ha"]

    def write_secrets(self, role, secrets, first_line=""):
        """Have pillar give the secrets of a role, what is below ``rabbit_ha``, from now on."""
        text = yaml.safe_dump({"rabbit_ha": secrets}, sort_keys=False)
        self._secrets_file(role).write_text(f"{first_line}\n{text}")

    def secrets(self):
        """All secrets there are: a mapping from what each is to its text."""
        broker, balancer = self.secret("broker"), self.secret("load_balancer")
        cookie = self.exec(BROKERS[0], "cat", "/var/lib/rabbitmq/.erlang.cookie").stdout
        exported = self.exec(BROKERS[0], "rabbitmqctl", "--silent", "export_definitions", "-")
        users = json.loads(exported.stdout[exported.stdout.index("{") :])["users"]
        return {
            "statistics password": balancer["haproxy"]["monitor"]["password"],
            "VRRP password": balancer["keepalived"]["authentication"]["auth_pass"],
            "Erlang cookie": cookie.strip(),
            **{
                f"{name}'s password": user["password"]
                for name, user in broker["rabbitmq"]["users"].items()
            },
            **{f"hash of {user['name']}'s password": user["password_hash"] for user in users},
        }

    def states(self):
        """The master's file root beside the project's, for SLS files to try."""
        config = yaml.safe_load(pathlib.Path(self._config_file()).read_text())
        return pathlib.Path(config["file_roots"]["base"][-1])

    @contextlib.contextmanager
    def pillar_changed(self, changes, role=None):
        """
        Have pillar say something else for a while; hosts are touched by neither way.

        changes
            Mapping, merged over what is below ``rabbit_ha``; lists replace.
        role
            ``broker`` or ``load_balancer``: the changes are secrets, which go to the
            hosts with that role only.
        """
        folder = self.pillar / "rabbit_ha"
        before = {}
        try:
            for section, change in changes.items():
                path = self._secrets_file(role) if role else folder / f"{section}.sls"
                path = path if path.exists() else folder / "topology.sls"
                text = path.read_text()
                before.setdefault(path, text)
                pillar = yaml.safe_load(text)
                salt.utils.dictupdate.update(pillar, {"rabbit_ha": {section: change}})
                path.write_text(yaml.safe_dump(pillar, sort_keys=False))
            yield
        finally:
            for path, text in before.items():
                path.write_text(text)

    def holders(self, address=VIRTUAL_ADDRESS):
        """The load balancers that hold the address right now."""
        running = self.status()["hosts"]
        return [
            host
            for host in (HOLDER, STANDBY)
            if running[host]["state"] == "running"
            and f" {address}/" in self.exec(host, "ip", "-o", "addr").stdout
        ]

    @contextlib.contextmanager
    def amqp(self, user="admin", password=None, vhost="/", host=VIRTUAL_ADDRESS, attempts=5):
        """Open a connection, through the virtual address as the administrator unless told."""
        password = password or self.secret("broker")["rabbitmq"]["users"][user]["password"]
        parameters = pika.ConnectionParameters(
            host=host,
            virtual_host=vhost,
            credentials=pika.PlainCredentials(user, password),
            socket_timeout=3,
            # HAProxy may still offer a broker that has just died.
            connection_attempts=attempts,
            retry_delay=0.5,
        )
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            yield connection

    def pillar_of(self, minion):
        """Compile a minion's pillar as the master does, without a job that would be kept."""
        opts = salt.config.master_config(self._config_file())
        opts["id"] = f"{opts['id']}_master"
        return salt.pillar.Pillar(opts, {"id": minion}, minion, "base").compile_pillar()

    def files_of_the_master(self):
        """Yield path and content of what is in its folder: logs, job cache and all the rest."""
        folder = pathlib.Path(self.status()["master"]["config_dir"])
        # Salt keeps each minion's pillar there, for the master's user alone.
        private = folder / "cache" / "pillar"
        yield from _files(folder, lambda path, mode: path.parent != private or mode & 0o044)

    def files_of(self, host, wanted, since=None):
        """
        Yield path and content of what a host wrote; what came with a package is older.

        wanted
            Function that takes a path, as in the host, and a mode and tells whether to.
        since
            From when on, in seconds since 1970; from the lab's beginning on unless given. What a
            running host has in memory, as ``/tmp``, ``/run`` and ``/dev/shm``, no package brought.
        """
        host_is = self.status()["hosts"][host]
        written = pathlib.Path(host_is["root"]).parent / "upper"
        since = self._began if since is None else since
        places = [(written, written, since)]
        places += [(root, folder, 0) for root, folder in _in_memory(host_is["leader"])]
        for root, folder, earliest in places:

            def inside(path, root=root):
                return f"/{path.relative_to(root)}"

            def is_wanted(path, mode, inside=inside):
                return wanted(inside(path), mode)

            for path, content in _files(folder, is_wanted, earliest):
                yield inside(path), content

    def wait_for_minions(self, hosts=None, seconds=240):
        """Wait until the minions of some hosts, or all, answer; a busy machine takes its time."""
        wanted = set(hosts or self.hosts)
        with self.network():
            answered = set(answering(self._config_file(), seconds, wanted))
        assert answered == wanted, f"only these answer: {sorted(answered)}"

    def wait_until_all_serve(self, seconds=90):
        """Wait until brokers and load balancers say so; asking them is faster than status is."""

        def serve():
            # One that is not there, or stops or starts just now.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                return self._all_serve()
            return False

        wait_until(serve, seconds, lambda: self.salt_run("rabbit_ha.status").stdout)

    def _all_serve(self):
        addresses = {host: said["address"] for host, said in self.status()["hosts"].items()}
        admin = self.secret("broker")["rabbitmq"]["users"]["admin"]["password"]
        statistics = self.secret("load_balancer")["haproxy"]["monitor"]["password"]
        for broker in BROKERS:
            page = f"http://{addresses[broker]}:15672/api/nodes"
            nodes = json.loads(fetched(page, "admin", admin))
            well = [
                node["name"]
                for node in nodes
                if node.get("running") and node.get("partitions") == []
            ]
            if not sorted(well) == sorted(node["name"] for node in nodes) == NODES:
                return False
        for balancer in (HOLDER, STANDBY):
            if set(servers_of(addresses[balancer], statistics).values()) != {"UP"}:
                return False
        return self.holders() == [HOLDER]

    def wait_until_well(self, seconds=90):
        """Wait until status has nothing to complain of."""
        last = {}

        def well():
            last["status"] = self.salt_run("rabbit_ha.status")
            return last["status"].returncode == 0

        wait_until(well, seconds, lambda: last["status"].stdout + last["status"].stderr)


def skip_without_root(items, folder):
    """Skip the tests in a folder, which need real hosts, and say why, where there are none."""
    if os.geteuid() == 0:
        return
    reason = "real hosts need root: network namespaces, mounts, systemd-nspawn"
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def _files(folder, wanted, since=0):
    """Yield path and content of files below a folder; others come and go while this looks."""
    device = _device(folder)
    for parent, below, names in os.walk(folder):
        # What is mounted below is another file system.
        below[:] = [name for name in below if _device(os.path.join(parent, name)) == device]
        for path in (pathlib.Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode) or found.st_mtime < since:
                    continue
                if wanted(path, found.st_mode):
                    yield path, path.read_bytes()


def _device(path):
    """Tell which file system something is on; None where it has gone."""
    try:
        return os.lstat(path).st_dev
    except FileNotFoundError:
        return None


def _in_memory(leader):
    """
    List the file systems that a running host has in memory.

    leader
        Id of the host's first process; None for one that does not run.

    Returns a list of pairs: the host's root, and the folder where one begins, both as seen here.
    """
    if leader is None:
        return []
    process = pathlib.Path("/proc", str(leader))
    mounts = [line.split() for line in (process / "mounts").read_text().splitlines()]
    places = {place for _, place, kind, *_ in mounts if kind in ("tmpfs", "ramfs")}
    folders = [process / "root" / place.lstrip("/") for place in sorted(places)]
    return [(process / "root", folder) for folder in folders if folder.is_dir()]


def enter_network(namespace):
    """Move this thread, and what it starts, into a network; ``namespace`` is its open file."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace.name)


def fetched(page, user=None, password=None, seconds=5):
    """Fetch a page, with a password where it wants one; returns it as text."""
    request = urllib.request.Request(page)
    if user:
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return answer.read().decode()


def servers_of(address, password):
    """Map each broker to its state on a load balancer's statistics page."""
    page = fetched(f"http://{address}:8100/rabbitmq-stats;csv", "stats", password)
    rows = [line.split(",") for line in page.splitlines()]
    servers = [row for row in rows if row[0] == "rabbitmq_cluster"]
    return {row[1]: row[17] for row in servers if row[1] not in ("FRONTEND", "BACKEND")}


def announced(plan):
    """What ``rabbit_ha.plan`` said in JSON would change: a mapping from host to states' IDs."""
    return {host: set(states) for host, states in json.loads(plan.stdout)["changes"].items()}


def changed(orchestration):
    """What an orchestration said in JSON changed: a mapping from host to states' IDs."""
    (steps,) = json.loads(orchestration.stdout)["data"].values()
    found = {}
    for step in steps.values():
        applied = step["changes"].get("ret", {})
        if step["__id__"].startswith("Every broker has the Erlang cookie"):
            # This one tells the changes alone, by the states' IDs.
            applied = {}
            for host, states in step["changes"].items():
                found.setdefault(host, set()).update(states)
        for host, states in applied.items():
            ids = {state["__id__"] for state in states.values() if state["changes"]}
            found.setdefault(host, set()).update(ids)
    return {host: ids for host, ids in found.items() if ids}


def wait_until(condition, seconds, explanation):
    """Try again until a condition holds; fail with the explanation after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explanation()
        time.sleep(0.2)
