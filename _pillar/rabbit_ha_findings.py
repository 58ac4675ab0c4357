"""
Checks the pillar key ``rabbit_ha`` wherever pillar is compiled.

The findings travel with the pillar, so that highstate and orchestration stop on
them. To be the last external pillar in the master's configuration:

.. code-block:: yaml

    ext_pillar:
      - rabbit_ha_findings: {}

See docs/validation.md.
"""

import contextlib
import copy
import json
import logging
import traceback

import salt.utils.crypt
import salt.utils.data
import salt.utils.yaml
from salt.exceptions import SaltException

log = logging.getLogger(__name__)

# In place of what is wrong with regular expressions.
_UNJUDGED = {
    "severity": "warning",
    "path": "rabbit_ha",
    "found": "no PCRE2 on the master",
    "expected": "its library libpcre2-8, which checks regular expressions",
    "why": "",
}
DEFAULTS = "salt://rabbit_ha/defaults.yaml"
SCHEMA = "salt://rabbit_ha/pillar.schema.json"
SOURCE_BUILDS = "salt://rabbit_ha/source_builds.yaml"


def ext_pillar(minion_id, pillar):
    """
    Tell what is wrong with a minion's pillar.

    minion_id
        Whose pillar it is.
    pillar
        Mapping, all of it.

    Returns a mapping with the key ``rabbit_ha_findings``: a mapping with
    ``errors`` and ``warnings``, lists of sentences, and, where pillar could be
    checked, ``missing_secrets``, a list of lists of the keys that lead to a secret's
    place; an empty mapping for a pillar that is none of this project's.
    """
    if "rabbit_ha" not in pillar:
        return {}
    try:
        found = findings(
            _decrypted(pillar)["rabbit_ha"],
            salt.utils.yaml.safe_load(_served(DEFAULTS)),
            json.loads(_served(SCHEMA)),
            salt.utils.yaml.safe_load(_served(SOURCE_BUILDS)),
            host=minion_id,
            grains=__opts__.get("grains"),
        )
    except (ImportError, OSError) as err:
        return _unchecked(err)
    except Exception as err:
        # Salt would tell its text to the minion, and a value of pillar may be in that.
        where = "".join(traceback.format_tb(err.__traceback__))
        log.error(
            "pillar of %s: %s while it was checked:\n%s", minion_id, type(err).__name__, where
        )
        return _unchecked(f"{type(err).__name__}, and where is in the log of the master")
    return {
        "rabbit_ha_findings": {
            "errors": [one["message"] for one in found if one["severity"] == "error"],
            "warnings": [one["message"] for one in found if one["severity"] == "warning"],
            "missing_secrets": [one["missing_secret"] for one in found if "missing_secret" in one],
        }
    }


def _unchecked(why):
    """Tell that pillar cannot be checked, and so not be used."""
    error = f"rabbit_ha: pillar cannot be checked: {why} (see docs/validation.md)"
    return {"rabbit_ha_findings": {"errors": [error], "warnings": []}}


def findings(pillar, defaults, schema, source_builds, host=None, grains=None):
    """
    List everything that is wrong with a pillar, sorted by path.

    pillar
        What is below the pillar key ``rabbit_ha``, of any type.
    defaults
        Mapping read from ``salt/rabbit_ha/defaults.yaml``.
    schema
        Mapping read from ``salt/rabbit_ha/pillar.schema.json``.
    source_builds
        Mapping read from ``salt/rabbit_ha/source_builds.yaml``.
    host : None
        Host name (minion id) that this pillar is for: the secrets of its roles
        have to be there, and its RabbitMQ has to know what is asked of it.
    grains : None
        Mapping, that host's grains; they tell the version RabbitMQ will have.

    Returns a list of mappings with ``severity`` (``error`` or ``warning``),
    ``path`` (as ``rabbit_ha:hosts:node1``), ``found``, ``expected`` and
    ``message``, all strings; one for a secret that is not there has
    ``missing_secret`` too, a list of keys. No secret is in them.
    """
    judged = __utils__["rabbit_pcre.is_there"]()
    fault = __utils__["rabbit_pcre.fault"] if judged else lambda expression: None
    shape = __utils__["rabbit_pillar_shape.findings"](pillar, schema, fault)
    found = [one for one in shape["findings"] if "refused_by" not in one]
    expressions = [one for one in shape["findings"] if "refused_by" in one]
    if not judged:
        found.append(_UNJUDGED)
    if isinstance(shape["sound"], dict):
        os_family = (grains or {}).get("os_family")
        settings = __utils__["rabbit_settings.merged"](defaults, shape["sound"], os_family)
        load_balancers = __utils__["rabbit_settings.hosts_with_role"](settings, "load_balancer")
        keepalived = {
            name: __utils__["rabbit_settings.keepalived_of"](settings, name)
            for name in load_balancers or [None]
        }
        policies = __utils__["rabbit_settings.policies"](settings)
        complete = _complete(settings["rabbitmq"]["vhosts"], policies)
        topology = {
            "brokers": __utils__["rabbit_settings.hosts_with_role"](settings, "broker"),
            "load_balancers": load_balancers,
            "keepalived": keepalived,
            "left_out": __utils__["rabbit_settings.addresses_left_out"](settings),
            "builds": _builds(settings, keepalived, source_builds),
            "policies": policies,
            "ties": __utils__["rabbit_definitions.ties"](complete),
            "without_mirrors": __utils__["rabbit_definitions.without_mirrors"](complete),
            "expressions": expressions,
            "secret_lines": {
                key
                for key, value in settings["rabbitmq"]["config"].items()
                if __utils__["rabbit_settings.is_secret"](key, value)
            },
            "like_text": {
                (kind, key)
                for kind in ("parameters", "global_parameters")
                for key, said in settings["rabbitmq"][kind].items()
                if __utils__["rabbit_definitions.is_like_text"](said.get("value"))
            },
            "not_json": {
                (kind, key): fault
                for kind, part in (
                    ("parameters", "value"),
                    ("global_parameters", "value"),
                    ("policies", "definition"),
                )
                for key, said in settings["rabbitmq"][kind].items()
                if (fault := __utils__["rabbit_definitions.not_json"](said.get(part)))
            },
        }
        wrong = {one["place"] for one in found if one["severity"] == "error"}
        found += __utils__["rabbit_pillar_checks.findings"](settings, topology, wrong, host, grains)
    told = {one["message"]: one for one in map(_told, found)}
    return sorted(told.values(), key=lambda one: (one["path"], one["message"]))


def _builds(settings, keepalived, source_builds):
    """Describe what is to be built from source, by the place below ``rabbit_ha`` that says it."""
    wanted = {"haproxy": ("haproxy", settings["haproxy"])}
    for host, view in keepalived.items():
        own = settings["hosts"].get(host, {}).get("keepalived", {})
        place = f"hosts:{host}:keepalived" if "source" in own else "keepalived"
        if place not in wanted or view["install"] == "source":
            wanted[place] = ("keepalived", view)
    return {
        f"{place}:source": {
            "version": __utils__["source_build.version_number"](str(view["source"]["version"])),
            "options": {
                name: __utils__["source_build.make_value"](name, value)
                for name, value in view["source"]["options"].items()
            },
            "faults": __utils__["source_build.faults"](
                program, source_builds[program]["presets"], view["source"]
            ),
        }
        for place, (program, view) in wanted.items()
        if view["install"] == "source"
    }


def _complete(vhosts, policies):
    """List the policies there would be with mirroring: what it makes, then what pillar has."""
    return [
        *__utils__["rabbit_definitions.made_by_ha"](vhosts, policies),
        *(one for one in policies.values() if one.get("pattern") is not None and one["definition"]),
    ]


def _told(one):
    """Put a finding into a sentence; returns the finding with it."""
    if "value" in one:
        one = {**one, "found": __utils__["rabbit_pillar_shape.shown"](one["value"])}
    why = f", {one['why']}" if one["why"] else ""
    sentence = f"{one['path']}: found {one['found']}{why}; expected {one['expected']}"
    kept = {key: str(one[key]) for key in ("severity", "path", "found", "expected")}
    kept["message"] = sentence
    told = {key: __utils__["rabbit_pillar_shape.printable"](kept[key]) for key in kept}
    if "missing_secret" in one:
        told["missing_secret"] = one["missing_secret"]
    return told


def _decrypted(pillar):
    """Copy pillar and decrypt what Salt's setting ``decrypt_pillar`` decrypts after the check."""
    later = __opts__.get("decrypt_pillar") or {}
    later = later if isinstance(later, dict) else salt.utils.data.repack_dictlist(later)
    pillar = copy.deepcopy({"rabbit_ha": pillar["rabbit_ha"]})
    delimiter = __opts__.get("decrypt_pillar_delimiter", ":")
    for path, renderer in later.items():
        parents, _, last = path.rpartition(delimiter)
        holder = pillar
        if parents:
            holder = salt.utils.data.traverse_dict(pillar, parents, None, delimiter)
        if not isinstance(holder, dict) or last not in holder:
            continue
        # What cannot be decrypted stays as it is, and is found to be so.
        with contextlib.suppress(SaltException):
            holder[last] = salt.utils.crypt.decrypt(
                holder[last],
                renderer or __opts__.get("decrypt_pillar_default"),
                opts=__opts__,
                valid_rend=__opts__.get("decrypt_pillar_renderers"),
            )
    return pillar


def _served(path):
    """Read a file that the master serves."""
    text = __salt__["cp.get_file_str"](path)
    if not text:
        raise FileNotFoundError(__utils__["rabbit_settings.not_served"](path))
    return text
