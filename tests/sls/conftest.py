"""Every SLS through Salt's own compiler: real top file, renderers, modules and requisites."""

import collections
import copy
import json
import pathlib

import pytest
import salt.config
import salt.state

from tests.support import NO_FINDINGS, ROOT, TOPOLOGY

# In pillar wherever a secret belongs; in compiled data nowhere.
SECRETS = {
    "admin": "SECRET-admin",
    "monitor": "SECRET-monitor",
    "auth_pass": "SECRETvr",
    "erlang_cookie": "SECRETCOOKIEABCDEFGH1",
    "config": "SECRET-of-a-key",
    "password_hash": "AAAAABia0BrGUJTyw/lHoO435KAUpCr1bZuraftDBHwofwSN",
    "parameter": "SECRET-of-a-parameter",
}
OS_FAMILIES = {
    "Debian": {"os": "Debian", "os_family": "Debian", "osfinger": "Debian-12"},
    "RedHat": {"os": "AlmaLinux", "os_family": "RedHat", "osfinger": "AlmaLinux-9"},
}


def pillar_of(topology=TOPOLOGY, **overrides):
    """Give a minion's whole pillar: a topology, all secrets, and what differs."""
    pillar = copy.deepcopy(topology)
    pillar["rabbitmq"] = {"users": {"admin": {"password": SECRETS["admin"]}}}
    pillar["haproxy"] = {"monitor": {"password": SECRETS["monitor"]}}
    pillar["keepalived"] = {"authentication": {"auth_pass": SECRETS["auth_pass"]}}
    for part, values in overrides.items():
        pillar[part] = {**pillar[part], **values} if isinstance(values, dict) else values
    return {"rabbit_ha": pillar}


def numbered(brokers, load_balancers, domain=""):
    """Describe a topology of so many hosts."""
    hosts = {
        f"broker{number}{domain}": {"address": f"192.0.2.{number}", "roles": ["broker"]}
        for number in range(1, brokers + 1)
    }
    for number in range(1, load_balancers + 1):
        state = {"state": "MASTER", "priority": 100} if number == 1 else {"priority": 100 - number}
        hosts[f"balancer{number}{domain}"] = {
            "address": f"192.0.2.{100 + number}",
            "roles": ["load_balancer"],
            "keepalived": state,
        }
    return {"virtual_address": "192.0.2.200", "hosts": hosts}


class Compiled:
    """
    What Salt makes of the file root for one minion.

    ``functions`` is a mapping: execution functions that are called in place of Salt's.
    """

    def __init__(self, folder, minion, pillar, os_family, **extra):
        self.functions = {}
        hosts = pillar.get("rabbit_ha", {}).get("hosts", {})
        address = hosts.get(minion, {}).get("address", "198.51.100.1")
        self.minion = minion
        self.opts = {
            **salt.config.minion_config(None, minion_id=minion),
            "root_dir": str(folder),
            "cachedir": str(folder / "cache"),
            "extension_modules": str(folder / "extmods"),
            "pki_dir": str(folder / "pki"),
            "file_client": "local",
            "file_roots": {"base": [str(ROOT / "salt")]},
            "module_dirs": [str(ROOT)],
            "pillar": pillar,
            "grains": {
                "id": minion,
                "kernel": "Linux",
                "init": "systemd",
                "ip4_interfaces": {"lo": ["127.0.0.1"], "ens33": [address]},
                "ip6_interfaces": {"lo": ["::1"], "ens33": ["fe80::1"]},
                **OS_FAMILIES[os_family],
            },
        }
        self.pillar = {**pillar, "rabbit_ha_findings": NO_FINDINGS, **extra}
        self.folder = folder
        self._low = {}

    def _highstate(self):
        """Set up Salt's compiler; one of them compiles once."""
        highstate = salt.state.HighState(self.opts, initial_pillar=self.pillar)
        for name, function in self.functions.items():
            highstate.state.functions[name] = function
        return highstate

    def low(self, sls=None):
        """
        Compile one SLS, or the highstate, to the list of states in their order.

        Raises AssertionError on any error of the compiler, such as a requisite
        that names no state.
        """
        if sls not in self._low:
            self._low[sls] = self._compile(sls)
        return self._low[sls]

    def _compile(self, sls):
        highstate = self._highstate()
        state = highstate.state
        matches = highstate.top_matches(highstate.get_top()) if sls is None else {"base": [sls]}
        high, errors = highstate.render_highstate(matches)
        for step in (state.reconcile_extend, state.requisite_in):
            high, found = step(high)
            errors += found
        errors += state.verify_high(high)
        assert errors == []
        chunks, errors = state.compile_high_data(state.apply_exclude(high))
        assert errors == []
        return chunks

    def ids(self, sls=None):
        """List the states' IDs in their order."""
        return [chunk["__id__"] for chunk in self.low(sls)]

    def state(self, name, sls=None):
        """Find one state by its ID."""
        [found] = [chunk for chunk in self.low(sls) if chunk["__id__"] == name]
        return found

    def render(self, path, snippets=False):
        """
        Render a template of the file root as its state does; returns its text.

        snippets
            What ``rabbit_configuration`` tells its templates.
        """
        target = self.folder / "rendered" / pathlib.Path(path).name
        target.parent.mkdir(exist_ok=True)
        functions = self._highstate().state.functions
        assert functions["cp.get_template"](
            f"salt://rabbit_ha/{path}", str(target), snippets=snippets
        )
        return target.read_text()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Return a function that sets the compiler up for a minion and its pillar."""
    ready = {}

    def build(minion="rabbitmq-node1", pillar=None, os_family="Debian", **extra):
        given = pillar_of() if pillar is None else copy.deepcopy(pillar)
        key = json.dumps([minion, given, os_family, extra])
        if key not in ready:
            folder = tmp_path_factory.mktemp("compiled")
            ready[key] = Compiled(folder, minion, given, os_family, **extra)
        return ready[key]

    return build


Case = collections.namedtuple("Case", "pillar minions")

FQDN = {
    **TOPOLOGY,
    "seed": "rabbitmq-node1.example.org",
    "hosts": {f"{name}.example.org": host for name, host in TOPOLOGY["hosts"].items()},
}
BOTH = {
    "virtual_address": "192.0.2.200",
    "hosts": {
        f"both{number}": {
            "address": f"192.0.2.{number}",
            "roles": ["broker", "load_balancer"],
            "keepalived": {"priority": 100 - number},
        }
        for number in (1, 2, 3)
    },
}
CASES = {
    "default": Case(pillar_of(), list(TOPOLOGY["hosts"])),
    "not in the topology": Case(pillar_of(), ["stranger"]),
    "no pillar": Case({}, ["stranger"]),
    "fqdn": Case(pillar_of(FQDN), list(FQDN["hosts"])),
    "both roles on each host": Case(pillar_of(BOTH), ["both1", "both2"]),
    "one broker": Case(pillar_of(numbered(1, 1)), ["broker1", "balancer1"]),
    "five brokers": Case(pillar_of(numbered(5, 2)), ["broker1", "broker5", "balancer2"]),
    "seven brokers": Case(pillar_of(numbered(7, 3)), ["broker7", "balancer1", "balancer3"]),
    "no load balancer": Case(pillar_of(numbered(3, 0)), ["broker1", "broker2"]),
    "cookie from pillar": Case(
        pillar_of(rabbitmq={"erlang_cookie": SECRETS["erlang_cookie"]}),
        ["rabbitmq-node1", "rabbitmq-node2"],
    ),
    "a secret in rabbitmq.conf": Case(
        pillar_of(rabbitmq={"config": {"ssl_options.password": SECRETS["config"]}}),
        ["rabbitmq-node1", "rabbitmq-node2"],
    ),
    "secrets in definitions": Case(
        pillar_of(
            rabbitmq={
                "users": {
                    "admin": {"password": SECRETS["admin"]},
                    "clerk": {"password_hash": SECRETS["password_hash"]},
                },
                "parameters": {
                    "up": {"component": "shovel", "value": {"uri": SECRETS["parameter"]}}
                },
                "global_parameters": {"g": {"value": SECRETS["parameter"]}},
            }
        ),
        ["rabbitmq-node1", "rabbitmq-node2"],
    ),
    "other ports": Case(
        pillar_of(
            rabbitmq={"amqp_port": 5673, "management_port": 15673},
            haproxy={"rabbitmq_cluster": {"bind": "192.168.123.123:5670"}},
        ),
        ["rabbitmq-node1", "haproxy-keeplive-node1"],
    ),
}
MINIONS = [
    pytest.param(case.pillar, minion, id=f"{name}-{minion}")
    for name, case in CASES.items()
    for minion in case.minions
]
