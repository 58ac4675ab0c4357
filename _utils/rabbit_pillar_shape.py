"""
What is wrong with the shape of pillar: what ``salt/rabbit_ha/pillar.schema.json`` says.

The first half of the validator in ``_pillar/rabbit_ha_findings.py``; the other is
``rabbit_pillar_checks``. Needs the Python package ``jsonschema``, which only the
master has. No finding shows the value of a secret.
"""

import copy
import difflib
import ipaddress
import math
import os.path
import re

ROOT = "rabbit_ha"
ERROR = "error"
WARNING = "warning"
# Longer values are cut in messages.
_SHOWN = 60
_GONE = object()
_PGP = "-----BEGIN PGP MESSAGE-----"
_NACL = re.compile(r"^NACL\[.*\]$")
# What YAML does not take as it is, or takes for an end of line: states are told names in YAML.
_LOST = re.compile(r"[\x7f-\x9f\u2028\u2029\ufffe\uffff]")


def findings(pillar, schema, fault):
    """
    Compare pillar with the schema.

    pillar
        What is below the pillar key ``rabbit_ha``, of any type.
    schema
        Mapping read from ``salt/rabbit_ha/pillar.schema.json``.
    fault
        Function that tells what is wrong with a regular expression, as ``rabbit_pcre.fault``.

    Returns a mapping: ``findings`` is a list of mappings with ``severity``
    (``error`` or ``warning``), ``path``, ``found``, ``expected`` and ``why``, all
    strings, and ``place``, the path with all that pillar has in it; ``sound`` is a copy
    of pillar without the wrong values, which any further check can rely on, None when
    nothing is left. A finding of a regular expression that only some versions of Erlang
    refuse has ``refused_by``, as ``fault`` tells it.

    Raises ImportError where ``jsonschema`` is missing.
    """
    found = []
    sound = copy.deepcopy(pillar)
    lost = _lost(pillar, schema["properties"][ROOT], schema)
    for where, one in [*_encrypted(pillar), *lost, *_compared(pillar, schema, fault)]:
        if one["severity"] == ERROR and "refused_by" not in one:
            sound = _without(sound, where)
        place = ":".join(map(str, [ROOT, *where]))
        path = ":".join([ROOT, *_parts(where, pillar, schema)])
        found.append({**one, "path": path, "place": place})
    return {"findings": found, "sound": _compacted(sound)}


def shown(value, secret=False):
    """
    Describe a value that was found; a secret by its size only.

    value
        Anything that YAML can hold.
    secret : False
        Whether the value must not be told.

    Returns a string.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, str):
        if secret:
            return f"a value of {len(value)} characters"
        # Of a URL neither who asks nor what for: both may hold passwords, encoded or not.
        plain = re.sub(r"//.*@", "//…@", value, flags=re.DOTALL)
        plain = re.sub(r"(://[^?]*)\?.+", r"\1?…", plain, flags=re.DOTALL)
        return repr(_cut(plain))
    if isinstance(value, int | float):
        return "a value" if secret else str(value)
    return "binary data" if isinstance(value, bytes) else f"a {type(value).__name__}"


def printable(text):
    """
    Write the characters of a text that cannot be seen as YAML writes them in quotes.

    text
        A string.

    Returns a string of one line.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _cut(text):
    """Keep what a message shows of a text."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _parts(where, pillar, schema):
    """List the keys on the way to what was found, as texts without secrets in them."""
    parts, node, value = [], schema["properties"][ROOT], pillar
    for key in where:
        node = _resolved(node, schema)
        if node.get("writeOnly") or not node:
            # Inside of a secret, or of what nothing is known of.
            break
        try:
            value = value[key]
        except (KeyError, TypeError):
            value = None
        known = node.get("properties", {})
        if key in known or "items" in node:
            parts.append(str(key))
        else:
            parts.append(_cut(_name(key, value, node, schema)))
        node = known.get(key) or node.get("items") or node.get("additionalProperties") or {}
    return parts


def _name(key, value, node, schema):
    """
    Write a key that the schema does not name, without a secret in it.

    ``{password:secret}``, ``{password=secret}`` and ``{secret}`` are keys for YAML, whose
    value is nothing.
    """
    names = node.get("additionalProperties")
    free = isinstance(names, dict) and not names.get("writeOnly")
    if value is not None and free:
        return str(key)
    name = _without_value(key)
    known = {place[-1] for place in _places(schema, schema)}
    hidden = value is None and not names and _holds_secret(node, schema) and name not in known
    near = map(_plain, node.get("properties", {}))
    if hidden and not difflib.get_close_matches(_plain(name), near, 1, 0.8):
        return "…"
    return name if name == str(key) else f"{name}…"


def _without_value(key):
    """Take what may be a value out of a key: what is after a colon, = or a space."""
    return re.split(r"[:=\s]", str(key), maxsplit=1)[0]


def _without(data, where):
    """Take the value at a path out of nested data, in place; returns the data."""
    if not where:
        return None
    parent = data
    for part in where[:-1]:
        try:
            parent = parent[part]
        except (KeyError, IndexError, TypeError):
            return data
    if isinstance(parent, dict):
        parent.pop(where[-1], None)
    elif isinstance(parent, list):
        parent[where[-1]] = _GONE
    return data


def _compacted(data):
    """Copy nested data without the list items that were taken out."""
    if isinstance(data, dict):
        return {key: _compacted(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_compacted(item) for item in data if item is not _GONE]
    return data


def _compared(pillar, schema, fault):
    """
    Compare pillar with the schema.

    Yields pairs: the path, as a list, to what no further check is to see, and a
    finding without its path.
    """
    faults = {}
    for error in _validator(schema, fault, faults).iter_errors({ROOT: pillar}):
        if _is_encrypted(error.instance):
            continue
        where = list(error.absolute_path)[1:]
        if error.validator_value == "x-pcre":
            yield where, _wrong_expression(error, faults[error.instance])
            continue
        if "propertyNames" in error.absolute_schema_path:
            described = _wrong_name(error, _parts([*where, error.instance], pillar, schema)[-1])
        else:
            described = _DESCRIBED.get(error.validator, _wrong_value)(error, where, schema)
        severity = WARNING if error.validator == _UNKNOWN_KEYS else ERROR
        for below, found, expected, why in described:
            place = [*where, *below]
            yield (
                place,
                {
                    "severity": severity,
                    "found": found,
                    "expected": expected,
                    "why": why,
                },
            )


def _wrong_expression(error, fault):
    """Describe a regular expression that RabbitMQ would refuse."""
    one = {"severity": ERROR, "found": shown(error.instance), "why": fault["why"]}
    if fault["refused_by"] != "all":
        one["refused_by"] = fault["refused_by"]
    return {**one, "expected": error.schema["x-expected"]}


def _validator(schema, fault, faults):
    """
    Build a validator: JSON Schema, with our formats and our keyword for warnings.

    What is wrong with regular expressions it puts into the mapping ``faults``.
    """
    import jsonschema

    def unknown_keys(validator, value, instance, schema):
        if isinstance(instance, dict) and set(instance) - set(schema["properties"]):
            yield jsonschema.ValidationError("has unknown keys")

    def pattern(validator, wanted, instance, schema):
        if isinstance(instance, str) and not re.search(_as_in_ecma(wanted), instance):
            yield jsonschema.ValidationError("does not match")

    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
    keywords = {_UNKNOWN_KEYS: unknown_keys, "pattern": pattern}
    extended = jsonschema.validators.extend(base, keywords, type_checker=types)
    checker = jsonschema.FormatChecker(formats=())
    for name, check in _FORMATS.items():
        checker.checks(name)(check)

    @checker.checks("x-pcre")
    def is_pcre(value):
        found = fault(value) if isinstance(value, str) else None
        if found:
            faults[value] = found
        return not found

    return extended(schema, format_checker=checker)


def _as_in_ecma(pattern):
    """Write a pattern of the schema for Python, whose $ is before a last line break too."""
    parts = r"\\.|\[(?:\\.|[^\]\\])*\]|\$"
    return re.sub(parts, lambda part: r"\Z" if part[0] == "$" else part[0], pattern)


def _is_integer(checker, value):
    """No float: programs are told 5672.0 as it is."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker, value):
    """A number as JSON has it: finite."""
    return _is_integer(checker, value) or (isinstance(value, float) and math.isfinite(value))


def _encrypted(data, where=()):
    """
    Find what should have been decrypted before: with it for a password, it would be one.

    Yields pairs as :func:`_compared` does.
    """
    if isinstance(data, dict | list):
        for key, below in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _encrypted(below, (*where, key))
    elif _is_encrypted(data):
        yield (
            [*where],
            {
                "severity": ERROR,
                "found": "a PGP message" if _PGP in data else "a NaCl box",
                "expected": "what is in it, decrypted on the master (see docs/secrets.md)",
                "why": "which nothing decrypted",
            },
        )


def _lost(data, node, schema, where=()):
    """
    Find names and texts that would not arrive as they are; secrets go another way.

    Yields pairs as :func:`_compared` does.
    """
    node = _resolved(node, schema)
    if node.get("writeOnly"):
        return
    if isinstance(data, dict):
        for key, below in data.items():
            yield from _lost(key, {}, schema, (*where, key))
            described = node.get("properties", {}).get(key) or node.get("additionalProperties")
            yield from _lost(below, described or {}, schema, (*where, key))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from _lost(item, node.get("items", {}), schema, (*where, index))
    elif isinstance(data, str) and _LOST.search(data):
        yield (
            [*where],
            {
                "severity": ERROR,
                "found": "a control character",
                "expected": "a text without it",
                "why": "",
            },
        )


def _is_encrypted(value):
    """Tell whether a value is what Salt's renderers ``gpg`` and ``nacl`` decrypt."""
    return isinstance(value, str) and (_PGP in value or bool(_NACL.search(value)))


def _wrong_value(error, where, schema):
    """Describe a value of a wrong type, or outside what is allowed."""
    secret = _holds_secret(error.schema, schema)
    why = _made_by_yaml(error.instance, error.schema)
    value, mark = error.instance, error.schema.get("x-secret-behind")
    if mark and isinstance(value, str) and mark in value:
        value = f"{value.partition(mark)[0]}{mark}…"
    yield [], shown(value, secret), error.schema["x-expected"], why


def _missing_key(error, where, schema):
    """Describe a required key that is missing."""
    for key in error.validator_value:
        if key not in error.instance:
            described = _resolved(error.schema["properties"][key], schema)
            yield [key], "nothing", described["x-expected"], ""


def _unknown_key(error, where, schema):
    """Describe keys that are not known there, with the nearest one or the right place."""
    known = error.schema["properties"]
    for key in error.instance:
        if key not in known:
            name = _without_value(key)
            glued = name != str(key) and name in known
            why = "without a colon and a space after it" if glued else ""
            yield [key], "an unknown key", _meant(name, known, where, schema), why


def _wrong_name(error, name):
    """Describe the key of a mapping that cannot be a name; ``name`` is what can be shown of it."""
    key = error.instance
    why = _made_by_yaml(key, {"type": "string"})
    yield [key], shown(name if isinstance(key, str) else key), error.schema["x-expected"], why


def _twice(error, where, schema):
    """Describe the items that a list has more than once."""
    for index, item in enumerate(error.instance):
        if item in error.instance[:index]:
            yield [index], shown(item), "each item once", "which the list has already"


# JSON Schema has no warnings; this keyword is ours, and other tools skip it.
_UNKNOWN_KEYS = "x-unknown-keys"
_DESCRIBED = {
    "required": _missing_key,
    "additionalProperties": _unknown_key,
    _UNKNOWN_KEYS: _unknown_key,
    "uniqueItems": _twice,
}


def _made_by_yaml(value, schema):
    """Tell what YAML makes of what was written, where that explains the error."""
    types = schema.get("type", "string")
    types = [types] if isinstance(types, str) else types
    wants_number = {"integer", "number"} & set(types)
    if isinstance(value, bool) and "string" in types:
        return "which YAML makes of on, off, yes and no too: put it in quotes"
    if isinstance(value, int | float) and "string" in types and not wants_number:
        pattern = _as_in_ecma(schema.get("pattern", ""))
        return "a number: put it in quotes" if re.search(pattern, str(value)) else "a number"
    if isinstance(value, str) and wants_number and "string" not in types:
        return "a string"
    if isinstance(value, float) and "integer" in types:
        return "a number with a decimal point"
    if isinstance(value, str) and types == ["boolean"]:
        return "a string"
    if isinstance(value, str) and "string" in types and value.strip() and value.endswith("\n"):
        return "which ends in a line break: YAML's | keeps it, |- does not"
    return ""


def _meant(key, known, where, schema):
    """Guess what an unknown key was meant to be; returns what is expected instead of it."""
    by_spelling = {_plain(name): name for name in known}

    def nearest(likeness):
        near = difflib.get_close_matches(_plain(key), by_spelling, 1, likeness)
        return f"{by_spelling[near[0]]}, the nearest known one" if near else None

    return (
        nearest(0.8)
        or _other_place(key, where, schema)
        or nearest(0.6)
        or f"one of {', '.join(known)}"
    )


def _plain(name):
    """Bring a key to a form in which only its letters count."""
    return name.lower().replace("-", "_")


def _other_place(key, where, schema):
    """
    Find the one nearest place where a key belongs; returns what is expected, or None.

    It is in the same section, unless the key is not below one itself; of several that share as
    much of the path the one that is less deep is nearer.
    """
    path = [ROOT, *map(str, where)]
    places = {}
    for place in _places(schema, schema):
        shared = len(os.path.commonprefix([path, place]))
        if place[-1] == key and shared >= min(2, len(path) - 1):
            places.setdefault((shared, -len(place)), []).append(place)
    nearest = places[max(places)] if places else []
    return f"it at {':'.join(nearest[0])}" if len(nearest) == 1 else None


def _places(node, schema, path=()):
    """Yield the paths of all keys that the schema describes, as lists."""
    node = _resolved(node, schema)
    for key, below in node.get("properties", {}).items():
        yield [*path, key]
        yield from _places(below, schema, (*path, key))
    if isinstance(node.get("additionalProperties"), dict):
        yield from _places(node["additionalProperties"], schema, (*path, "NAME"))


def _resolved(node, schema):
    """Follow a reference of the schema; what stands beside it counts too."""
    if "$ref" not in node:
        return node
    target = schema
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**_resolved(target, schema), **node}


def _holds_secret(node, schema):
    """Tell whether a value at a place of the schema may be a secret, or hold one."""
    node = _resolved(node, schema)
    below = [*node.get("properties", {}).values()]
    below += [node[key] for key in ("items", "additionalProperties") if node.get(key)]
    return node.get("writeOnly", False) or any(_holds_secret(one, schema) for one in below)


# Formats of strings


def _is_address(value):
    """An IP address, without a prefix length or a zone."""
    return not isinstance(value, str) or ("%" not in value and _parses(value))


def _is_network(value):
    """A network in CIDR notation, without host bits."""
    return not isinstance(value, str) or ("/" in value and _parses(value, ipaddress.ip_network))


def _is_virtual_address(value):
    """An address with or without a prefix length, then what keepalived knows beside it."""
    if not isinstance(value, str):
        return True
    first, *options = value.split() or [""]
    right = re.fullmatch(r"[^/%]+(/[0-9]+)?", first) and _parses(first, ipaddress.ip_interface)
    known = {"dev": _is_interface, **({} if ":" in first else _OPTIONS_OF_IPV4)}
    while right and options:
        option = options.pop(0)
        if option not in _FLAGS_OF_ADDRESSES:
            # Each once: keepalived refuses a second device.
            fits = known.pop(option, None)
            right = fits and options and fits(options.pop(0))
    return bool(right) and not re.search(r"[\r\n]", value)


def _is_word(value):
    """A word that keepalived takes as it is; names of interfaces and labels have 15 characters."""
    return bool(re.fullmatch(r"[^#!{}\"]{1,15}", value))


def _is_interface(value):
    """The name of an interface; one with a colon is a label."""
    return _is_word(value) and ":" not in value


def _is_broadcast(value):
    """An address of IPv4, or one of the words for the one that the network has."""
    return value in ("+", "-") or _parses(value, ipaddress.IPv4Address)


_FLAGS_OF_ADDRESSES = ("-nodad", "home", "mngtmpaddr", "no_track", "noprefixroute")
_OPTIONS_OF_IPV4 = {
    "label": _is_word,
    "scope": _is_word,
    "brd": _is_broadcast,
    "broadcast": _is_broadcast,
}


def _is_bind(value):
    """``address:port``; nothing, ``*`` or an address in brackets before the colon."""
    if not isinstance(value, str):
        return True
    address, colon, port = value.rpartition(":")
    anywhere = address in ("", "*", "::")
    right = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    if address.startswith("[") and address.endswith("]"):
        parses = _parses(address[1:-1], ipaddress.IPv6Address)
    else:
        parses = _parses(address)
    return bool(colon) and right and (anywhere or parses)


def _is_duration(value):
    """A time that HAProxy can hold: 2^31 - 1 milliseconds, some 24 days, at most."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return True
    parts = re.fullmatch(r"([0-9]+)(us|ms|s|m|h|d|)", str(value))
    units = {"us": 1e-3, "ms": 1, "": 1, "s": 1e3, "m": 6e4, "h": 36e5, "d": 864e5}
    return not parts or int(parts[1]) * units[parts[2]] < 2**31


def _is_auth_pass(value):
    """At most eight bytes, which is all that keepalived takes."""
    return not isinstance(value, str) or len(value.encode(errors="surrogatepass")) <= 8


def _is_host_name(value):
    """Labels of letters, digits and hyphens."""
    if not isinstance(value, str):
        return True
    label = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
    return len(value) <= 253 and all(label.fullmatch(part) for part in value.split("."))


def _parses(text, parser=ipaddress.ip_address):
    """Tell whether a function of ``ipaddress`` takes a text."""
    try:
        parser(text)
    except ValueError:
        return False
    return True


_FORMATS = {
    "x-address": _is_address,
    "x-network": _is_network,
    "x-virtual-address": _is_virtual_address,
    "x-bind": _is_bind,
    "x-duration": _is_duration,
    "x-auth-pass": _is_auth_pass,
    "x-host-name": _is_host_name,
}
