"""
How tests load the project's files, and build a ``__salt__`` that refuses wrong calls.
"""

import base64
import errno
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import pathlib
import re
import types

import salt.utils.files
from salt.utils import yaml

from lab.minion import key_pair

ROOT = pathlib.Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
SCHEMA = json.loads((ROOT / "salt/rabbit_ha/pillar.schema.json").read_text())
# The line of a template that has the secret.
SECRET_LINE = re.compile(r"pillar\[|said\[|auth_pass \{\{")
RABBITMQ_VERSIONS = sorted(path.name for path in DATA.iterdir() if path.name[0].isdigit())

# What a pillar carries in which the check found nothing wrong.
NO_FINDINGS = {"errors": [], "warnings": []}
# The topology of the article, as pillar gives it below ``rabbit_ha``.
TOPOLOGY = yaml.safe_load((ROOT / "pillar/rabbit_ha/topology.sls").read_text())["rabbit_ha"]


def load(path, **dunders):
    """
    Load a file of the project the way Salt's loader does: fresh, with its dunders.

    path
        Path below the checkout, such as ``_modules/rabbitmqctl.py``.
    dunders
        ``salt={…}`` becomes ``__salt__``, and so on.
    """
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = {"salt": {}, "opts": {"test": False}, "grains": {"id": "rabbitmq-node2"}}
    given |= {"pillar": {}, "context": {}, "utils": {}}
    if str(path).startswith(("_states/", "_modules/")):
        dunders["utils"] = SHARED | dunders.get("utils", {})
    for name, value in (given | dunders).items():
        setattr(module, f"__{name}__", value)
    return module


def _called_by_the_loader(function):
    """
    Have a function take what Salt's loader can hand on.

    A generator would run with the dunders of the function's module, not with those of the one
    that wrote it.
    """

    @functools.wraps(function)
    def call(*args, **kwargs):
        given = [*args, *kwargs.values()]
        assert not any(isinstance(one, (types.GeneratorType, map, filter)) for one in given)
        return function(*args, **kwargs)

    return call


def functions(name, module):
    """Map the public functions of a loaded module to the names that the loader gives them."""
    return {
        f"{name}.{function}": _called_by_the_loader(value)
        for function, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not function.startswith("_")
    }


# What each state words its failures with.
FAILURES = functions("rabbit_failures", load("_utils/rabbit_failures.py"))
# What states and modules share that needs nothing else.
SHARED = dict(FAILURES)
for _name in ("rabbit_majority", "rabbit_names", "rabbit_node_data"):
    SHARED |= functions(_name, load(f"_utils/{_name}.py"))


def validator():
    """
    Load the validator of pillar with all that it uses.

    Returns its module, and the function ``check`` which takes what is below
    ``rabbit_ha``, a host and its grains and returns the findings.
    """
    utils = {}
    names = ("rabbit_settings", "rabbit_definitions", "rabbit_pcre", "source_build")
    for name in (*names, "rabbit_pillar_shape", "rabbit_pillar_checks"):
        utils |= functions(name, load(f"_utils/{name}.py"))
    module = load("_pillar/rabbit_ha_findings.py", utils=utils)
    defaults = yaml.safe_load((ROOT / "salt/rabbit_ha/defaults.yaml").read_text())
    builds = yaml.safe_load((ROOT / "salt/rabbit_ha/source_builds.yaml").read_text())

    def check(pillar, host=None, grains=None):
        return module.findings(pillar, defaults, SCHEMA, builds, host, grains)

    return module, check


def secret_places(node=SCHEMA["properties"]["rabbit_ha"]):
    """
    List where pillar may have a secret, as the schema marks them.

    Returns a list of tuples of keys below ``rabbit_ha``, with ``*`` for a name of one's own.
    """
    while "$ref" in node:
        parts = node["$ref"].removeprefix("#/").split("/")
        node = functools.reduce(dict.__getitem__, parts, SCHEMA)
    if node.get("writeOnly"):
        return [()]
    below = dict(node.get("properties", {}))
    if isinstance(node.get("additionalProperties"), dict):
        below["*"] = node["additionalProperties"]
    return [(key, *place) for key, one in below.items() for place in secret_places(one)]


def said_at(data, place):
    """List what nested mappings say at a place, in which ``*`` is any key."""
    for key in place:
        data = [
            value
            for one in (data if isinstance(data, list) else [data])
            for name, value in one.items()
            if key in ("*", name)
        ]
    return data


def hashed(password, salt=b"salt", digest=hashlib.sha256):
    """Hash a password as https://www.rabbitmq.com/docs/passwords describes."""
    return base64.b64encode(salt + digest(salt + password.encode()).digest()).decode()


def broken_beside_the_secret(template, broken):
    """
    Break a template of the file root: Salt shows the lines around an error.

    template
        Path below ``salt/rabbit_ha``.
    broken
        What to put below the line that has the secret.

    Returns the template's text.
    """
    lines = (ROOT / "salt" / "rabbit_ha" / template).read_text().splitlines()
    at = max(number for number, line in enumerate(lines) if SECRET_LINE.search(line))
    return "\n".join([*lines[: at + 1], broken, *lines[at + 1 :]])


def recorded(version, name):
    """Read what a command printed and how it ended, as ``tests/data/record.py`` wrote it."""
    return json.loads((DATA / version / f"{name}.json").read_text())


def faked(name, fake, real):
    """
    Map the public methods of a fake to loader names, if the real functions take the same.

    real
        The module whose place the fake takes. A fake with another signature would
        let a wrong call pass.
    """
    methods = {
        method: value
        for method, value in inspect.getmembers(fake, inspect.ismethod)
        if not method.startswith("_")
    }
    for method, value in methods.items():
        takes, wanted = _parameters(value), _parameters(getattr(real, method))
        assert takes == wanted, f"{name}.{method} takes {wanted}, its fake takes {takes}"
    return {f"{name}.{method}": value for method, value in methods.items()}


def _parameters(function):
    """List a function's parameters with their defaults; the default of none is the marker."""
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


def write_key(folder):
    """Make a minion's key pair in a folder; return its public half in PEM form."""
    folder.mkdir(parents=True)
    private, public = key_pair()
    (folder / "minion.pem").write_text(private)
    return public


def not_root(monkeypatch):
    """Let files be there and not be read, as for a minion that does not run as root."""

    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(salt.utils.files, "fopen", refuse)
    monkeypatch.setattr(os, "open", refuse)


def with_systemctl(known):
    """Add ``rabbit_host.systemctl`` over the fake of Salt's ``service``, by loader names."""
    module = load("_modules/rabbit_host.py", salt=known)
    return known | {"rabbit_host.systemctl": module.systemctl}


class Breakable:
    """
    A fake whose writes can be made to fail, or to do nothing and report success.

    ``writes`` lists the writes that were asked for; ``fails`` maps a write to the
    exception it raises; ``lost`` names the writes that do nothing.
    """

    def __init__(self):
        self.writes = []
        self.fails = {}
        self.lost = set()

    def _takes(self, name, *arguments):
        """Note a write; tell whether it is to be done."""
        self.writes.append((name, *arguments))
        if name in self.fails:
            raise self.fails[name]
        return name not in self.lost
