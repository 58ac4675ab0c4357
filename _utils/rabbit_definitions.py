"""
What pillar describes, compared with RabbitMQ's definitions: pure functions over plain data.

Used by the state ``rabbit_definitions`` and, for what policies have to do with one
another, by the validator ``rabbit_ha_findings``. Hashes of passwords and values of parameters are
in what is to be written, and never in what is told of a change.

See https://www.rabbitmq.com/docs/definitions.
"""

import base64
import hashlib
import hmac
import itertools
import math
import os

from salt.exceptions import SaltInvocationError

# The article's way, where RabbitMQ still has mirroring: in each vhost.
HA_ALL = {
    "name": "ha-all",
    "pattern": "^",
    "definition": {"ha-mode": "all"},
    "priority": 0,
    "apply-to": "all",
}
# Patterns that match whatever a queue or an exchange is called.
_ANY_NAME = ("", "^", ".*", "^.*", ".*$", "^.*$", ".+", "^.+", ".+$", "^.+$")
_KINDS_OF_QUEUES = ("queues", "classic_queues", "quorum_queues", "streams")
_SALT_BYTES = 4
_SHA256 = "rabbit_password_hashing_sha256"
_HASHES = {
    _SHA256: hashlib.sha256,
    "rabbit_password_hashing_sha512": hashlib.sha512,
    "rabbit_password_hashing_md5": hashlib.md5,
}
# Limits of a vhost are a parameter of this component, with this name.
VHOST_LIMITS = "vhost-limits"
_LIMITS = "limits"
# By what they are known, and how they are told, in this order; what is in others goes before them.
_KEYS = {
    "vhosts": (("name",), "{}"),
    "vhost_limits": (("vhost",), "{}"),
    "users": (("name",), "{}"),
    "permissions": (("user", "vhost"), "{} in {}"),
    "topic_permissions": (("user", "exchange", "vhost"), "{} to exchange '{}' in {}"),
    "policies": (("name", "vhost"), "{} in {}"),
    "parameters": (("component", "name", "vhost"), "{} {} in {}"),
    "global_parameters": (("name",), "{}"),
}
_REMOVALS = {
    "vhosts": ("delete_vhost", "name"),
    "vhost_limits": ("clear_vhost_limits", "vhost"),
    "users": ("delete_user", "name"),
    "permissions": ("clear_permissions", "user", "vhost"),
    "topic_permissions": ("clear_topic_permissions", "user", "vhost", "exchange"),
    "policies": ("clear_policy", "name", "vhost"),
    "parameters": ("clear_parameter", "component", "name", "vhost"),
    "global_parameters": ("clear_global_parameter", "name"),
}
# Before what the definitions are kept, beside a vhost's deletion and fewer replicas; the first
# of them names the file.
_REASONS = {
    "users": "a user is deleted",
    "policies": "a policy is removed",
    "parameters": "a parameter is removed",
    "global_parameters": "a global parameter is removed",
    "permissions": "permissions are removed",
    "topic_permissions": "permissions are removed",
    "vhost_limits": "limits are removed",
}


def wanted(described, current, ha="auto"):
    """
    Put what pillar describes into the form in which it is compared.

    described
        Mapping with ``vhosts``, ``users``, ``policies``, ``parameters`` and
        ``global_parameters`` as the state ``rabbit_definitions.present`` takes them, with
        the secrets: passwords or their hashes, and values of parameters.
    current
        Mapping, the definitions as RabbitMQ exports them.
    ha : auto
        ``mirrored``, ``quorum`` or ``auto``.

    Returns a mapping: ``items`` is a mapping from kind to a mapping from key to the item,
    None for one that must not be there; ``notes`` is a list of sentences about what is
    left as it is, and why.

    Raises SaltInvocationError for what this RabbitMQ cannot do, for policies of which it
    leaves open which one mirrors, and for a new user without a password.
    """
    there = found(current)
    version = current["rabbitmq_version"]
    major = _major(version)
    if ha == "mirrored" and major >= 4:
        raise SaltInvocationError(
            f"pillar rabbit_ha:rabbitmq:ha is mirrored, which RabbitMQ {version} no longer has; "
            "set it to quorum or auto"
        )
    quorum = ha == "quorum" or (ha == "auto" and major >= 4)
    items = {kind: {} for kind in _KEYS}
    notes = []
    for name, said in described["vhosts"].items():
        vhost, note = _vhost(name, said, there["vhosts"].get(name), current["queues"], quorum)
        items["vhosts"][name] = vhost
        notes += [note] if note else []
        _add_vhost_limits(items, there, name, said)
    for name, said in described["users"].items():
        items["users"][name] = None
        if not said.get("absent"):
            items["users"][name] = _user(name, said, there["users"].get(name))
            _add_rights(items, name, said)
    for key, said in described["policies"].items():
        _add(items, "policies", _policy(key, said, version), said)
    notes += _add_mirroring(items["policies"], described["vhosts"], there, current, quorum)
    for key, said in described["parameters"].items():
        _add(items, "parameters", _parameter(key, said, version), said)
    for name, said in described["global_parameters"].items():
        item = {"name": name, "value": said.get("value")}
        if not said.get("absent"):
            _refuse_values(f"global parameter {name}", item["value"], version)
        _add(items, "global_parameters", item, said)
    return {"items": items, "notes": notes}


def found(current):
    """
    Put RabbitMQ's definitions into the form in which they are compared.

    current
        Mapping, the definitions as RabbitMQ exports them.

    Returns a mapping from kind to a mapping from key to the item.
    """
    limits = [item for item in current["parameters"] if item["component"] == VHOST_LIMITS]
    by_vhost = [{"vhost": item["vhost"], "limits": dict(item["value"])} for item in limits]
    listed = {
        **current,
        "vhosts": map(_found_vhost, current["vhosts"]),
        "vhost_limits": by_vhost,
        "users": map(_found_user, current["users"]),
        "parameters": [item for item in current["parameters"] if item not in limits],
    }
    return {kind: {_key(kind, item): item for item in listed.get(kind, [])} for kind in _KEYS}


def difference(current, items):
    """
    Compare what is there with what is wanted.

    current
        Mapping, the definitions as RabbitMQ exports them.
    items
        Mapping, ``items`` of what :func:`wanted` returns.

    Returns a mapping: ``writes`` is what to import, a mapping; ``commands`` what to do
    afterwards, a list of names of functions of ``rabbitmqctl`` with their arguments;
    ``changes`` tells old and new of each kind's items.
    """
    there = found(current)
    writes, commands, changes = {}, [], {}
    for kind in reversed(_KEYS):
        for key, item in items[kind].items():
            old = there[kind].get(key)
            if item is None and old:
                function, *arguments = _REMOVALS[kind]
                commands.append((function, [old[name] for name in arguments]))
                new = {"old": "present", "new": "absent"}
            elif item is None or _same(old, item):
                continue
            else:
                _write(kind, item, old, current, writes, commands)
                new = {"old": _shown(old, item), "new": _shown(item, old)}
            changes.setdefault(kind, {})[_called(kind, key)] = new
    # What is in others is removed before them, and told after them.
    told = {kind: changes[kind] for kind in _KEYS if kind in changes}
    return {"writes": writes, "commands": commands, "changes": told}


def reason_for_a_backup(current, items):
    """
    Tell what of the wanted destroys something: what is removed, or may have fewer replicas.

    current
        Mapping, the definitions as RabbitMQ exports them.
    items
        Mapping, ``items`` of what :func:`wanted` returns.

    Returns a few words, None where nothing does.
    """
    there = found(current)
    removed = {
        kind
        for kind, wanted_ones in items.items()
        if any(item is None and key in there[kind] for key, item in wanted_ones.items())
    }
    if "vhosts" in removed:
        return "before a vhost is deleted"
    old, users = there["policies"], there["users"]
    if any(_lowers_replicas(old, old.get(key), new) for key, new in items["policies"].items()):
        return "before a policy lowers replicas"
    if any(item and _lost_limits(users.get(key), item) for key, item in items["users"].items()):
        removed.add("vhost_limits")
    return next((f"before {_REASONS[kind]}" for kind in _REASONS if kind in removed), None)


def made_by_ha(vhosts, policies):
    """
    Tell the policies with which the setting ``ha`` mirrors queues: the article's ``ha-all``.

    One that pillar describes with that name, or that mirrors all queues of the vhost,
    takes its place there.

    vhosts, policies
        Mappings as the state ``rabbit_definitions.present`` takes them.

    Returns a list of mappings, one for each vhost that is to be there and needs it.
    """
    taken = {
        policy["vhost"]
        for policy in policies.values()
        if policy["name"] == HA_ALL["name"] or _mirrors_all(policy)
    }
    return [
        {**HA_ALL, "vhost": vhost}
        for vhost, said in vhosts.items()
        if vhost not in taken and not said.get("absent")
    ]


def ties(policies):
    """
    Find policies of which RabbitMQ leaves open which one it applies.

    It applies one alone of those that match, that with the highest priority.

    policies
        List of mappings with ``name``, ``vhost``, ``pattern``, ``definition``,
        ``priority`` and ``apply-to``.

    Returns a list of pairs of them: both match the same names for sure, with one priority.
    """
    alike = {}
    for policy in policies:
        alike.setdefault((policy["vhost"], policy["priority"]), []).append(policy)
    pairs = itertools.chain(*(itertools.combinations(group, 2) for group in alike.values()))
    return [
        (one, other)
        for one, other in pairs
        if one["name"] != other["name"] and _meet(one, other) and _overlap(one, other)
    ]


def without_mirrors(policies):
    """
    Find policies that take queues from one which mirrors all, and do not mirror.

    policies
        As :func:`ties` takes them.

    Returns a list of pairs: the policy that mirrors, and the one with the higher priority.
    """
    all_of = {policy["vhost"]: policy for policy in policies if _mirrors_all(policy)}
    return [
        (all_of[policy["vhost"]], policy)
        for policy in policies
        if policy["vhost"] in all_of
        and not mirrors(policy)
        and policy["apply-to"] in ("all", "queues", "classic_queues")
        and policy["priority"] > all_of[policy["vhost"]]["priority"]
    ]


def mirrors(policy):
    """
    Tell whether a policy mirrors queues.

    policy
        Mapping with ``definition``, or with ``absent``.

    Returns a boolean.
    """
    return "ha-mode" in policy.get("definition", {})


def _key(kind, item):
    """Tell by what an item is known among those of its kind: its name, or a tuple with others."""
    names, _ = _KEYS[kind]
    return tuple(item[name] for name in names) if len(names) > 1 else item[names[0]]


def _called(kind, key):
    """Tell people which item that is."""
    if not isinstance(key, tuple):
        return key
    # In quotes, or a name could read as another one in another vhost.
    names = (repr(name) if " " in name else name for name in key)
    return _KEYS[kind][1].format(*names)


def _major(version):
    """Tell the first number of a version."""
    return int(version.split(".", 1)[0])


def _series(version):
    """Tell the first two numbers of a version."""
    return tuple(map(int, version.split(".")[:2]))


def _add(items, kind, item, said):
    """Add an item to the wanted ones, or its absence."""
    item = {key: value for key, value in item.items() if key != "absent"}
    items[kind][_key(kind, item)] = None if said.get("absent") else item


# Vhosts


def _found_vhost(vhost):
    """Bring a vhost into one form; RabbitMQ's differs from version to version."""
    metadata = vhost.get("metadata", {})
    return {
        "name": vhost["name"],
        "description": metadata.get("description", ""),
        # RabbitMQ 3.10 has "" for none.
        "tags": metadata.get("tags") or [],
        "default_queue_type": _named_type(metadata) or _named_type(vhost) or "classic",
    }


def _named_type(metadata):
    """Tell a vhost's default queue type; None where it has none."""
    named = metadata.get("default_queue_type")
    # So RabbitMQ 3.11 to 3.13 may say that there is none; after an import of that word, clients
    # could declare no queue there.
    return None if named == "undefined" else named


def _vhost(name, said, old, queues, quorum):
    """Describe a vhost as it is to be; returns it, or None, and a note where there is one."""
    if said.get("absent"):
        return None, None
    item = {"name": name}
    item |= {key: said[key] for key in ("description", "tags") if key in said}
    queue_type = said.get("default_queue_type") or ("quorum" if quorum else None)
    if not queue_type:
        return item, None
    # With another default type, who declares one of these without a type is refused (406).
    others = [queue["name"] for queue in _lasting(queues, name) if queue["type"] != queue_type]
    if old is None or old["default_queue_type"] == queue_type or not others:
        return {**item, "default_queue_type": queue_type}, None
    note = (
        f"vhost {name} keeps its default queue type {old['default_queue_type']}: with "
        f"{queue_type}, clients that declare its queues of another type again, without naming "
        f"that, would be refused ({_counted(others)}). It changes by itself once these are "
        "deleted; or use a vhost of another name, or name the type that it has in "
        f"rabbit_ha:rabbitmq:vhosts:{name}:default_queue_type"
    )
    if said.get("default_queue_type"):
        raise SaltInvocationError(note)
    return item, note


def _lasting(queues, vhost):
    """List a vhost's queues that are to outlive their clients and their broker."""
    return [
        queue
        for queue in queues
        if queue["vhost"] == vhost and queue["durable"] and not queue["auto_delete"]
    ]


def _counted(names):
    """Count names and tell the first of them."""
    return f"{len(names)}: {', '.join(sorted(names)[:5])}{', …' if len(names) > 5 else ''}"


def _add_vhost_limits(items, there, name, said):
    """Add a vhost's limits to the wanted items; those that pillar does not name stay."""
    if said.get("absent") or not said.get("limits"):
        return
    limits = _wanted_limits(said, there["vhost_limits"].get(name, {}).get("limits", {}))
    items["vhost_limits"][name] = {"vhost": name, "limits": limits} if limits else None


def _wanted_limits(said, old):
    """Tell what limits there are to be; those that pillar does not name stay."""
    limits = said.get("limits", {})
    named = {key: limit for key, limit in limits.items() if key != "absent"}
    return {} if limits.get("absent") else {**old, **named}


# Users


def _found_user(user):
    """Bring a user into one form: tags were one string once, and limits unknown before 3.8.10."""
    tags = user["tags"]
    tags = tags.split(",") if isinstance(tags, str) else tags
    return {"limits": {}, **user, "tags": sorted(tag for tag in tags if tag)}


def _user(name, said, old):
    """Describe a user with the hash it has where that fits, else with another one."""
    password, given = said.get("password"), said.get("password_hash")
    item = {
        **(old or {"name": name}),
        "tags": sorted(said.get("tags", (old or {}).get("tags", []))),
        "limits": _wanted_limits(said, (old or {}).get("limits", {})),
    }
    if given:
        return {**item, "password_hash": given, "hashing_algorithm": _algorithm(given)}
    if old and (password is None or _fits(password, old)):
        return item
    if password is None:
        raise SaltInvocationError(
            f"user {name} is to be created, but pillar gives no password: "
            f"rabbit_ha:rabbitmq:users:{name}:password. Next, on the master: "
            "salt-run rabbit_ha.secrets"
        )
    hashed = _hashed(password, os.urandom(_SALT_BYTES), _SHA256)
    return {**item, "password_hash": hashed, "hashing_algorithm": _SHA256}


def _algorithm(given):
    """Tell how a password was hashed, from the size of its hash."""
    size = len(base64.b64decode(given)) - _SALT_BYTES
    for name, function in _HASHES.items():
        if function().digest_size == size:
            return name
    raise SaltInvocationError("a password_hash in pillar is of no size that RabbitMQ knows")


def _hashed(password, salt, algorithm):
    """Hash a password as RabbitMQ does: base64 of the salt and the digest."""
    digest = _HASHES[algorithm](salt + str(password).encode()).digest()
    return base64.b64encode(salt + digest).decode()


def _fits(password, user):
    """Tell whether a password is the one behind a user's salted hash."""
    algorithm = user.get("hashing_algorithm", _SHA256)
    if algorithm not in _HASHES or not user.get("password_hash"):
        return False
    salt = base64.b64decode(user["password_hash"])[:_SALT_BYTES]
    return hmac.compare_digest(_hashed(password, salt, algorithm), user["password_hash"])


def _add_rights(items, name, said):
    """Add a user's permissions and topic permissions to the wanted items."""
    for vhost, rights in said.get("permissions", {}).items():
        _add(items, "permissions", {"user": name, "vhost": vhost, **rights}, rights)
    for vhost, exchanges in said.get("topic_permissions", {}).items():
        for exchange, rights in exchanges.items():
            item = {"user": name, "vhost": vhost, "exchange": exchange, **rights}
            _add(items, "topic_permissions", item, rights)


# Policies and parameters


def _policy(key, said, version):
    """Describe a policy as it is to be."""
    item = {"name": key, "vhost": "/", **said}
    speaks_of_mirrors = any(name.startswith("ha-") for name in item.get("definition", {}))
    if speaks_of_mirrors and _major(version) >= 4 and not said.get("absent"):
        raise SaltInvocationError(
            f"policy {item['name']} is to mirror queues, which RabbitMQ {version} no longer has; "
            "leave it out: with rabbit_ha:rabbitmq:ha: quorum or auto queues are quorum queues"
        )
    return {"priority": 0, "apply-to": "all", **item}


def _mirrors_all(policy):
    """Tell whether a policy mirrors every queue of its vhost."""
    return (
        mirrors(policy)
        and policy["pattern"] in _ANY_NAME
        and policy["apply-to"] in ("all", "queues", "classic_queues")
    )


def _meet(one, other):
    """Tell whether two policies apply to the same kind of thing."""
    kinds = {one["apply-to"], other["apply-to"]}
    return (
        len(kinds) == 1 or "all" in kinds or ("queues" in kinds and kinds <= set(_KINDS_OF_QUEUES))
    )


def _overlap(one, other):
    """Tell whether there is surely a name that the patterns of two policies match."""
    patterns = {one["pattern"], other["pattern"]}
    return len(patterns) == 1 or bool(patterns & set(_ANY_NAME))


def _add_mirroring(items, vhosts, there, current, quorum):
    """
    Add to the wanted policies those with which ``ha`` mirrors, or their absence.

    Returns a list of sentences about what is left as it is, and why.
    """
    present = {key: item for key, item in items.items() if item is not None}
    made = {_key("policies", item): item for item in made_by_ha(vhosts, present)}
    ours = [{**HA_ALL, "vhost": name} for name, said in vhosts.items() if not said.get("absent")]
    left = {key: item for item in ours if (key := _key("policies", item)) not in items}
    notes = []
    if not quorum:
        named = {*items, *left}
        theirs = [one for key, one in there["policies"].items() if key not in named]
        mirrored = {one["vhost"]: one["name"] for one in theirs if _mirrors_all(one)}
        for key in [key for key in left if key in made]:
            vhost = made[key]["vhost"]
            if vhost not in mirrored or key in there["policies"]:
                items[key] = left.pop(key)
            else:
                notes.append(
                    f"policy {_called('policies', key)} is not added: {mirrored[vhost]}, which "
                    "pillar does not name, mirrors all queues there already"
                )
    _refuse_ties([item for item in items.values() if item is not None])
    for key, item in left.items():
        old, name = there["policies"].get(key), _called("policies", key)
        needed = _classic(current, item["vhost"]) if key in made else []
        if old and not _same(old, item):
            notes.append(f"policy {name} stays: it is not as rabbit_ha:rabbitmq:ha makes it")
        elif old and needed:
            notes.append(
                f"policy {name} stays, as classic queues have their mirrors from it "
                f"({_counted(needed)}). It goes by itself once these are deleted; at once, with "
                "their mirrors, where rabbit_ha:rabbitmq:policies has it as absent"
            )
        elif old:
            items[key] = None
    return notes if quorum else notes + _others_in_the_way(items, there["policies"])


def _classic(current, vhost):
    """Name a vhost's lasting queues that may have mirrors; none where RabbitMQ has none."""
    lasting = _lasting(current["queues"], vhost)
    old = _major(current["rabbitmq_version"]) < 4
    return [queue["name"] for queue in lasting if old and queue["type"] == "classic"]


def _refuse_ties(policies):
    """Refuse policies of which RabbitMQ leaves open which one mirrors."""
    for one, other in ties(policies):
        if mirrors(one) and mirrors(other):
            raise SaltInvocationError(
                f"policies {one['name']} and {other['name']} in {one['vhost']} match the same with "
                f"the same priority {one['priority']}: RabbitMQ leaves open which one it applies. "
                "Give one of them another priority in rabbit_ha:rabbitmq:policies"
            )


def _others_in_the_way(items, there):
    """Tell of policies that pillar does not name and that may undo the mirroring."""
    wanted_ones = [item for item in items.values() if item is not None and mirrors(item)]
    ours = {_key("policies", item) for item in wanted_ones}
    others = [policy for key, policy in there.items() if key not in items]
    found = ties([*wanted_ones, *others])
    return [
        f"policy {_called('policies', _key('policies', other))}, which pillar does not name, has "
        f"the priority {other['priority']} as {one['name']} has: RabbitMQ leaves open which one it "
        "applies"
        for one, other in found
        if _key("policies", one) in ours and _key("policies", other) not in ours
    ]


def _parameter(key, said, version):
    """Describe a parameter as it is to be."""
    item = {"name": key, "vhost": "/", **said}
    if said.get("absent"):
        return item
    if isinstance(item.get("value"), list) and _major(version) < 4:
        raise SaltInvocationError(
            f"parameter {item['name']} of {item['component']} is a list, with which RabbitMQ "
            f"{version} can no longer export its definitions: there it has to be set by hand"
        )
    what = f"parameter {item['name']} of {item['component']}"
    _refuse_values(what, item.get("value"), version)
    return item


def _refuse_values(what, value, version):
    """Refuse what is no JSON, and what RabbitMQ 4.3 makes something else of or cannot export."""
    fault = not_json(value)
    if fault:
        raise SaltInvocationError(f"the value of {what} has {fault}: put that in quotes in pillar")
    if is_like_text(value) and _series(version) >= (4, 3):
        raise SaltInvocationError(
            f"the value of {what} has a list with a number up to 255 or a list in it, which "
            f"RabbitMQ {version} takes for text and may not be able to export: there it has to "
            "be another value, such as the number as text"
        )


def is_like_text(value):
    """
    Tell whether RabbitMQ 4.3 makes text of a part of a parameter's value.

    It takes lists of bytes and of lists for that: [1, 2] reads back as two characters,
    and after ["a", 1] there is no export.

    value
        Anything that JSON can hold.

    Returns a boolean.
    """
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()

    def is_byte(one):
        return isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 255

    listed = value if isinstance(value, list) else ()
    found = any(is_byte(one) or isinstance(one, list) for one in listed)
    return found or any(map(is_like_text, below))


def not_json(value):
    """
    Tell what of a parameter's value is none in JSON, in which RabbitMQ is given it.

    value
        Anything that YAML can hold.

    Returns a few words without anything of the value; None where all of it is JSON.
    """
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return "a key that is no text"
        value = list(value.values())
    if isinstance(value, list):
        return next(filter(None, map(not_json, value)), None)
    plain = value is None or isinstance(value, str | int)
    if plain or (isinstance(value, float) and math.isfinite(value)):
        return None
    return "a date, binary data or the like"


def as_written(value):
    """
    Make a mapping again of what RabbitMQ exports for one: up to 4.0, of a global parameter, pairs.

    Imported as a list of pairs it would be that from then on, and still be exported alike.

    value
        Anything that JSON can hold.

    Returns the mapping, or the value where it is no list of pairs.
    """
    pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value
    )
    return dict(value) if pairs else value


def _lowers_replicas(policies, old, new):
    """
    Tell whether a policy, as it is to be, may leave queues with fewer replicas.

    Of the policies that match a queue the one with the highest priority counts alone,
    so a new one may take what another one gives. Whether patterns overlap is not asked.
    """
    if new and old and _same(old, new):
        return False
    if old and _replicas(old) > 1:
        scope = ("pattern", "apply-to", "priority")
        if new is None or _replicas(new) < _replicas(old):
            return True
        return any(old[key] != new[key] for key in scope)
    return new is not None and any(
        _replicas(other) > _replicas(new)
        for other in policies.values()
        if other["vhost"] == new["vhost"] and other["priority"] <= new["priority"]
    )


def _replicas(policy):
    """Tell on how many nodes a policy has a queue; 1 where it does not say."""
    definition = policy["definition"]
    mode, params = definition.get("ha-mode"), definition.get("ha-params")
    if mode == "all":
        return math.inf
    if mode == "nodes":
        return len(params)
    return params if mode == "exactly" else definition.get("target-group-size", 1)


# Comparing, writing and telling


def _same(old, item):
    """Tell whether all that is wanted of an item is there."""
    if old is None:
        return False
    return all(_equal(old.get(key), value) for key, value in item.items())


def _equal(old, new):
    """Compare two values as JSON has them."""
    if isinstance(new, dict):
        old = as_written(old)
    if isinstance(new, dict) and isinstance(old, dict):
        return set(old) == set(new) and all(_equal(old[key], new[key]) for key in new)
    if isinstance(new, list) and isinstance(old, list):
        return len(old) == len(new) and all(map(_equal, old, new))
    # For Python, True is 1.
    return isinstance(old, bool) == isinstance(new, bool) and old == new


def _write(kind, item, old, current, writes, commands):
    """Add to what is to be imported, and done afterwards, what brings about an item."""
    if kind == "vhosts":
        _write_vhost(item, old, current, writes, commands)
    elif kind == "vhost_limits":
        limits = {"vhost": item["vhost"], "component": VHOST_LIMITS, "name": _LIMITS}
        writes.setdefault("parameters", []).append({**limits, "value": item["limits"]})
    elif kind == "users" and not item["limits"]:
        writes.setdefault(kind, []).append({key: item[key] for key in item if key != "limits"})
    else:
        writes.setdefault(kind, []).append(item)
    if kind == "users" and _lost_limits(old, item):
        # An import only adds limits.
        commands.append(("clear_user_limits", [item["name"]]))


def _lost_limits(old, item):
    """Tell whether a user has limits that it is no longer to have."""
    return bool(set((old or {}).get("limits", {})) - set(item["limits"]))


def _write_vhost(item, old, current, writes, commands):
    """Write a vhost with all of its metadata, as what an import leaves out is emptied."""
    by_command = {}
    if old and _major(current["rabbitmq_version"]) < 4:
        # An import leaves the type of a vhost that is there as it is, and says nothing.
        by_command = {key: item[key] for key in ("default_queue_type",) if key in item}
    imported = {key: item[key] for key in item if key not in by_command}
    if not _same(old, imported):
        metadata = {"description": "", "tags": []}
        for vhost in current["vhosts"]:
            if vhost["name"] == item["name"]:
                metadata |= vhost.get("metadata", {})
        metadata |= {key: item[key] for key in item if key != "name"}
        if not _named_type(metadata):
            metadata.pop("default_queue_type", None)
            if old and (3, 11) <= _series(current["rabbitmq_version"]) < (4, 0):
                # Of a vhost that is there they keep the word undefined, which exports then have.
                metadata["default_queue_type"] = old["default_queue_type"]
        writes.setdefault("vhosts", []).append({"name": item["name"], "metadata": metadata})
    if by_command and not _same(old, by_command):
        commands.append(("set_default_queue_type", [item["name"], item["default_queue_type"]]))


def _shown(item, other):
    """Describe an item without the hash of its password, or its value."""
    if item is None:
        return None
    secrets = {"password_hash": "password", "value": "value"}
    shown = {key: item[key] for key in item if key not in (*secrets, "hashing_algorithm")}
    for key, name in secrets.items():
        if key in item:
            same = other is not None and _equal(other.get(key), item[key])
            shown[name] = "set" if other is None else "as it was" if same else "another"
    return shown
