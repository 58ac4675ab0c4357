"""
Vhosts, users, permissions and policies of the cluster are as pillar describes.

All of them are read in one call, compared, written in one call and read again:
the cost does not grow with their number. What pillar does not name stays.
"""

import base64
import hashlib
import hmac
import math
import os
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

# The article's way, where RabbitMQ still has mirroring.
MIRRORED = {"ha-all": {"pattern": "^", "definition": {"ha-mode": "all"}}}
_SALT_BYTES = 4
_HASHES = {
    "rabbit_password_hashing_sha256": hashlib.sha256,
    "rabbit_password_hashing_sha512": hashlib.sha512,
    "rabbit_password_hashing_md5": hashlib.md5,
}
_KEYS = {
    "vhosts": lambda item: item["name"],
    "users": lambda item: item["name"],
    "permissions": lambda item: f"{item['user']} in {item['vhost']}",
    "policies": lambda item: f"{item['name']} in {item['vhost']}",
}


def present(name, vhosts, users, policies, ha="auto"):
    """
    Make vhosts, users, permissions and policies as described.

    name
        Says what for; shown in the output only.
    vhosts
        Mapping from vhost name to a mapping; ``absent: true`` deletes it and all
        that is in it.
    users
        Mapping from user name to a mapping with ``tags`` (list), ``permissions``
        (mapping from vhost to ``configure``, ``write``, ``read``, regular
        expressions) or ``absent: true``. The password is no argument: it is read
        from pillar, ``rabbit_ha:rabbitmq:users:<name>:password``; without one
        there a user is not created, and an existing one keeps its password.
    policies
        Mapping as ``rabbit_topology.policies`` returns it; of each policy ``name``
        (the key), ``vhost`` (``/``), ``pattern``, ``definition`` (mapping),
        ``priority`` (0) and ``apply-to`` (``all``), or ``absent: true``.
    ha : auto
        ``mirrored``: the policy ``ha-all`` mirrors all queues on all nodes;
        ``quorum``: it does not; ``auto``: mirrored where RabbitMQ has mirroring
        (3.x), quorum from 4.0 on.

    Changes tell old and new of each object; of a password only that it changed. Before
    a vhost is deleted, or a policy changes so that queues may have fewer replicas, the
    definitions are kept as they were (``rabbit_backup.write_definitions``).

    See https://www.rabbitmq.com/docs/definitions.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        if __opts__["test"] and not __salt__["rabbitmqctl.is_running"]():
            ret.update(
                result=None,
                changes={"definitions": f"{', '.join([*vhosts, *users, *policies])} as described"},
                comment="The definitions would have been written",
            )
            return ret
        current = __salt__["rabbitmqctl.export_definitions"](with_secrets=True)
        wanted = _wanted(vhosts, users, {**_presets(ha, current), **policies}, current)
        writes, deletions, changes = _difference(current, wanted)
        if not changes:
            ret["comment"] = "The definitions are already as described"
            return ret
        ret["changes"] = changes
        if __opts__["test"]:
            ret.update(result=None, comment="The definitions would have been written")
            return ret
        reason = _reason_for_a_backup(current, wanted)
        if reason:
            ret["changes"]["backup"] = __salt__["rabbit_backup.write_definitions"](reason)
        if writes:
            __salt__["rabbitmqctl.import_definitions"](writes)
        for function, arguments in deletions:
            __salt__[f"rabbitmqctl.{function}"](*arguments)
        left = _left(wanted)
        if left:
            raise CommandExecutionError(f"written, yet these read as before: {left}")
        ret["comment"] = "The definitions have been written"
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=f"{__grains__['id']}: definitions: {err}")
    return ret


def _left(wanted):
    """Read again and tell what still differs; RabbitMQ may take a moment to import."""
    for pause in (0, 1, 2, 5):
        time.sleep(pause)
        __salt__["rabbitmqctl.forget_cached_reads"]()
        left = _difference(__salt__["rabbitmqctl.export_definitions"](with_secrets=True), wanted)[2]
        if not left:
            break
    return left


def _presets(ha, current):
    """Give the policies that the ``ha`` setting stands for on this RabbitMQ."""
    version = current["rabbitmq_version"]
    has_mirroring = int(version.split(".", 1)[0]) < 4
    if ha == "mirrored" and not has_mirroring:
        raise SaltInvocationError(
            f"pillar rabbit_ha:rabbitmq:ha is mirrored, which RabbitMQ {version} no longer has; "
            "set it to quorum or auto"
        )
    return MIRRORED if has_mirroring and ha in ("auto", "mirrored") else {}


def _wanted(vhosts, users, policies, current):
    """
    Put what pillar describes into the form of RabbitMQ's definitions.

    Returns a mapping from kind to a mapping from key to the item, None for one
    that must not be there.
    """
    known = {user["name"]: user for user in current["users"]}
    wanted = {
        "vhosts": {
            name: None if data.get("absent") else {"name": name} for name, data in vhosts.items()
        },
        "users": {},
        "permissions": {},
        "policies": {},
    }
    for name, data in users.items():
        if data.get("absent"):
            wanted["users"][name] = None
            continue
        wanted["users"][name] = _wanted_user(name, data, known.get(name))
        for vhost, rights in data.get("permissions", {}).items():
            item = {"user": name, "vhost": vhost, **{key: rights[key] for key in rights}}
            wanted["permissions"][_KEYS["permissions"](item)] = item
    for name, data in policies.items():
        item = {
            "name": data.get("name", name),
            "vhost": data.get("vhost", "/"),
            "pattern": data.get("pattern"),
            "apply-to": data.get("apply-to", "all"),
            "definition": data.get("definition"),
            "priority": data.get("priority", 0),
        }
        wanted["policies"][_KEYS["policies"](item)] = None if data.get("absent") else item
    return wanted


def _wanted_user(name, data, known):
    """Describe a user with the hash it has where that fits, else with a new one."""
    tags = sorted(data.get("tags", []))
    password = (
        __pillar__.get("rabbit_ha", {})
        .get("rabbitmq", {})
        .get("users", {})
        .get(name, {})
        .get("password")
    )
    if known and (password is None or _fits(password, known)):
        return {**known, "tags": tags}
    if password is None:
        raise SaltInvocationError(
            f"user {name} is to be created, but pillar gives no password: "
            f"rabbit_ha:rabbitmq:users:{name}:password. Next, on the master: "
            "salt-run rabbit_ha.secrets"
        )
    return {
        "name": name,
        "password_hash": _hashed(
            password, os.urandom(_SALT_BYTES), "rabbit_password_hashing_sha256"
        ),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
        "limits": (known or {}).get("limits", {}),
    }


def _hashed(password, salt, algorithm):
    """Hash a password as RabbitMQ does: base64 of the salt and the digest."""
    digest = _HASHES[algorithm](salt + str(password).encode()).digest()
    return base64.b64encode(salt + digest).decode()


def _fits(password, user):
    """Tell whether a password is the one behind a user's salted hash."""
    algorithm = user.get("hashing_algorithm", "rabbit_password_hashing_sha256")
    if algorithm not in _HASHES or not user.get("password_hash"):
        return False
    salt = base64.b64decode(user["password_hash"])[:_SALT_BYTES]
    return hmac.compare_digest(_hashed(password, salt, algorithm), user["password_hash"])


def _difference(current, wanted):
    """
    Compare what is there with what is wanted.

    Returns the definitions to import, a list of deletions (function of
    ``rabbitmqctl`` and its arguments) and the changes for the state's return.
    """
    writes, deletions, changes = {}, [], {}
    for kind, items in wanted.items():
        there = {_KEYS[kind](item): item for item in current.get(kind, [])}
        for key, item in items.items():
            found = there.get(key)
            if item is None and found:
                deletions.append(_deletion(kind, found))
                changes.setdefault(kind, {})[key] = {"old": "present", "new": "absent"}
            elif item is not None and not _same(kind, found, item):
                writes.setdefault(kind, []).append(item)
                changes.setdefault(kind, {})[key] = {
                    "old": _shown(found, item),
                    "new": _shown(item, found),
                }
    return writes, deletions, changes


def _reason_for_a_backup(current, wanted):
    """Tell what of the wanted could destroy something, in a few words; None where nothing."""
    there = {vhost["name"] for vhost in current["vhosts"]}
    if any(item is None and name in there for name, item in wanted["vhosts"].items()):
        return "before a vhost is deleted"
    before = {_KEYS["policies"](policy): policy for policy in current["policies"]}
    after = {**before, **wanted["policies"]}
    if any(_lowers_replicas(before, before.get(key), after[key]) for key in wanted["policies"]):
        return "before a policy lowers replicas"
    return None


def _lowers_replicas(policies, old, new):
    """
    Tell whether a policy, as it is to be, may leave queues with fewer replicas.

    Of the policies that match a queue the one with the highest priority counts alone,
    so a new one may take what another one gives. Whether patterns overlap is not asked.
    """
    if old == new:
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


def _deletion(kind, item):
    """Name the function that deletes an item, and its arguments."""
    if kind == "vhosts":
        return "delete_vhost", [item["name"]]
    if kind == "users":
        return "delete_user", [item["name"]]
    return "clear_policy", [item["name"], item["vhost"]]


def _comparable(kind, item):
    """Bring an item's values into the form in which they can be compared."""
    if kind == "users":
        tags = item["tags"]
        tags = tags.split(",") if isinstance(tags, str) else tags
        return {**item, "tags": sorted(tag for tag in tags if tag)}
    return item


def _same(kind, found, item):
    """Tell whether all that is wanted of an item is there."""
    if found is None:
        return False
    there, wanted = _comparable(kind, found), _comparable(kind, item)
    return all(there.get(key) == value for key, value in wanted.items())


def _shown(item, other):
    """Describe an item without the hash of its password."""
    if item is None:
        return None
    shown = {key: item[key] for key in item if key not in ("password_hash", "hashing_algorithm")}
    if "password_hash" in item:
        same = other is not None and other.get("password_hash") == item["password_hash"]
        shown["password"] = "as it was" if same else "another"
    return shown
