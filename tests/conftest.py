"""Fixtures that several kinds of tests share."""

import copy
import inspect
import logging
import os
import pathlib
import socket
import sys
import threading
from unittest.mock import MagicMock

import pytest
import salt._logging
import salt.modules.cp
from salt.utils import yaml
from xdist.scheduler import LoadScopeScheduling

from tests.support import NO_FINDINGS, ROOT, TOPOLOGY, functions, load

# Folders.
SHARE_A_LAB = ("integration", "other_labs")
EXIT_STATUS = pytest.StashKey[int]()


def pytest_configure():
    """Keep Salt from writing every rendered template to the log, which takes its time."""
    logging.getLogger("salt").setLevel(logging.ERROR)
    # Its handler for the time before logging is set up would write to pytest's
    # standard error after that was closed.
    salt._logging.shutdown_temp_handler()


class KeepTogether(LoadScopeScheduling):
    """Has one process run tests that share a lab, or are in one file."""

    def _split_scope(self, nodeid):
        path = pathlib.PurePath(nodeid.partition("::")[0])
        return next((part for part in path.parts if part in SHARE_A_LAB), str(path))


def pytest_xdist_make_scheduler(config, log):
    """Tell pytest-xdist which tests stay together."""
    return KeepTogether(config, log)


def pytest_sessionfinish(session, exitstatus):
    """Keep what pytest will exit with."""
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """
    End the process though a thread of salt-factories goes on.

    Those of its servers for events and logs are no daemons: Python would wait for one for ever.
    """
    waiting = [one for one in threading.enumerate() if not one.daemon]
    if EXIT_STATUS in config.stash and waiting != [threading.main_thread()]:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[EXIT_STATUS])


@pytest.fixture
def epmd(monkeypatch):
    """
    epmd on the hosts of other brokers, which knows of the node that it is asked for.

    Put an OSError in ``error`` for a host that does not answer, another byte than zero in
    ``result`` for a node that does not run.
    """

    class Epmd:
        def __init__(self):
            self.error = None
            self.result = b"\0"
            self.asked = []

        def connect(self, address, timeout=None):
            self.asked.append(address)
            if self.error:
                raise self.error
            connection = MagicMock(spec=socket.socket)
            connection.__enter__.return_value = connection
            connection.sendall = lambda request: self.asked.append(request)
            connection.recv.return_value = b"w" + self.result
            return connection

    answering = Epmd()
    monkeypatch.setattr(socket, "create_connection", answering.connect)
    return answering


@pytest.fixture
def settings():
    """Return a function that merges a pillar over the defaults."""
    merged = load("_utils/rabbit_settings.py").merged
    defaults = yaml.safe_load((ROOT / "salt/rabbit_ha/defaults.yaml").read_text())

    def build(pillar=None):
        return merged(defaults, TOPOLOGY if pillar is None else pillar)

    return build


@pytest.fixture
def topology():
    """
    Return a function that loads ``rabbit_topology`` for a minion and a pillar.

    The answer maps the module's functions, and those of ``rabbit_settings``, to
    loader names: a part of a ``__salt__``. ``now`` is the pillar on the master where
    that is newer than the minion's.
    """
    served = (ROOT / "salt/rabbit_ha/defaults.yaml").read_text()

    def get_file_str(path, saltenv=None):
        return served if path == "salt://rabbit_ha/defaults.yaml" else ""

    wanted = inspect.signature(salt.modules.cp.get_file_str)
    assert inspect.signature(get_file_str) == wanted, f"cp.get_file_str takes {wanted}"

    def build(minion="rabbitmq-node2", pillar=None, now=None, **grains):
        described = copy.deepcopy(TOPOLOGY if pillar is None else pillar)
        on_the_master = described if now is None else now

        def items(unmask=None):
            return {"rabbit_ha": on_the_master, "rabbit_ha_findings": NO_FINDINGS}

        utils = functions("rabbit_settings", load("_utils/rabbit_settings.py"))
        module = load(
            "_modules/rabbit_topology.py",
            salt={"cp.get_file_str": get_file_str, "pillar.items": items},
            grains={"id": minion, **grains},
            pillar={"rabbit_ha": described, "rabbit_ha_findings": NO_FINDINGS},
            utils=utils,
        )
        return functions("rabbit_topology", module) | utils

    return build
