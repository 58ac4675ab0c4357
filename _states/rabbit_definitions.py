"""
Vhosts, users, permissions, policies and parameters of the cluster are as pillar describes.

All of them are read in one call, compared, written in one call and read again:
the cost does not grow with their number. What pillar does not name stays.
"""

import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

# What pillar alone says of them, by kind: no argument of a state holds it.
_SECRETS = {
    "users": ("password", "password_hash"),
    "parameters": ("value",),
    "global_parameters": ("value",),
}


def present(name, vhosts, users, policies, parameters=None, global_parameters=None, ha="auto"):
    """
    Make vhosts, users, permissions, policies and parameters as described.

    name
        Says what for; shown in the output only.
    vhosts
        Mapping from vhost name to a mapping with ``description``, ``tags`` (list),
        ``default_queue_type`` (``classic``, ``quorum`` or ``stream``) and ``limits``
        (mapping with ``max-connections`` and ``max-queues``, or ``absent: true``), or
        ``absent: true``, which deletes the vhost and all that is in it.
    users
        Mapping from user name to a mapping with ``tags`` (list; without it they stay),
        ``permissions`` (mapping from vhost to ``configure``, ``write``, ``read``, regular
        expressions, or ``absent: true``), ``topic_permissions`` (mapping from vhost to a
        mapping from exchange to ``write`` and ``read``, or ``absent: true``), ``limits``
        (mapping with ``max-connections`` and ``max-channels``, or ``absent: true``), or
        ``absent: true``. The password is no argument: it, or its hash, is read from
        pillar, ``rabbit_ha:rabbitmq:users:<name>:password`` or ``:password_hash``;
        without one there a user is not created, and an existing one keeps its password.
    policies
        Mapping as ``rabbit_topology.policies`` returns it; of each policy ``name``
        (the key), ``vhost`` (``/``), ``pattern``, ``definition`` (mapping),
        ``priority`` (0) and ``apply-to`` (``all``), or ``absent: true``.
    parameters : None
        Mapping from a name to a mapping with ``component``, ``name`` (that name) and
        ``vhost`` (``/``), or with ``absent: true`` beside them. The value is no argument:
        it is read from pillar, ``rabbit_ha:rabbitmq:parameters:<key>:value``.
    global_parameters : None
        Mapping from name to a mapping, which may have ``absent: true``. The value is read
        from pillar, ``rabbit_ha:rabbitmq:global_parameters:<name>:value``.
    ha : auto
        ``mirrored``: the policy ``ha-all`` mirrors all queues on all nodes, in each of
        ``vhosts`` in which ``policies`` has none of that name and none that mirrors all;
        ``quorum``: it goes where no durable classic queue relies on it, and quorum is the
        default queue type of ``vhosts`` that do not name another; ``auto``: mirrored where
        RabbitMQ has mirroring (3.x), quorum from 4.0 on. A vhost with queues of another type
        keeps its default type, which a warning tells; where ``vhosts`` names the type
        itself, that is an error. So are policies of which RabbitMQ leaves open which one
        mirrors.

    Returns a state's return. Its ``changes`` are ``old`` and ``new`` by kind and object (of
    a password, and of a parameter's value, only that it changed) and ``backup``, a path; its
    comment tells what is left as it is, and why. Before anything is removed, or a policy
    changes so that queues may have fewer replicas, the definitions are kept as they were
    (``rabbit_backup.write_definitions``).

    See https://www.rabbitmq.com/docs/definitions.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    described = {
        "vhosts": vhosts,
        "users": users,
        "policies": policies,
        "parameters": parameters or {},
        "global_parameters": global_parameters or {},
    }
    try:
        if __opts__["test"] and not __salt__["rabbitmqctl.is_running"]():
            names = ", ".join(key for kind in described.values() for key in kind)
            ret.update(
                result=None,
                changes={"definitions": f"{names} as described"},
                comment="The definitions would have been written",
            )
            return ret
        current = __salt__["rabbitmqctl.export_definitions"](with_secrets=True)
        wanted = __utils__["rabbit_definitions.wanted"](_with_secrets(described), current, ha)
        if wanted["notes"]:
            ret["warnings"] = wanted["notes"]
        todo = __utils__["rabbit_definitions.difference"](current, wanted["items"])
        if not todo["changes"]:
            ret["comment"] = "The definitions are already as described"
            return ret
        ret["changes"] = todo["changes"]
        if __opts__["test"]:
            ret.update(result=None, comment="The definitions would have been written")
            return ret
        _write(ret, current, wanted["items"], todo)
        left = _left(wanted["items"])
        if left:
            raise CommandExecutionError(f"written, yet these read as before: {left}")
        ret["comment"] = "The definitions have been written"
    except (CommandExecutionError, SaltInvocationError) as err:
        # What was written is told by the next run; what was kept before it has to be found.
        kept = {key: path for key, path in ret["changes"].items() if key == "backup"}
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], "definitions", err, kept)
    return ret


def _with_secrets(described):
    """Copy what is described with the secrets that pillar has for it."""
    pillar = __pillar__.get("rabbit_ha", {}).get("rabbitmq", {})
    complete = dict(described)
    for kind, keys in _SECRETS.items():
        said = pillar.get(kind, {})
        complete[kind] = {
            name: {**item, **{key: said[name][key] for key in keys if key in said.get(name, {})}}
            for name, item in described[kind].items()
        }
    return complete


def _write(ret, current, items, todo):
    """Keep what could be destroyed, then write."""
    reason = __utils__["rabbit_definitions.reason_for_a_backup"](current, items)
    if reason:
        ret["changes"]["backup"] = __salt__["rabbit_backup.write_definitions"](reason)
    if todo["writes"]:
        __salt__["rabbitmqctl.import_definitions"](todo["writes"])
    for function, arguments in todo["commands"]:
        __salt__[f"rabbitmqctl.{function}"](*arguments)


def _left(items):
    """Read again and tell what still differs; RabbitMQ may take a moment to import."""
    for pause in (0, 1, 2, 5):
        time.sleep(pause)
        __salt__["rabbitmqctl.forget_cached_reads"]()
        current = __salt__["rabbitmqctl.export_definitions"](with_secrets=True)
        left = __utils__["rabbit_definitions.difference"](current, items)["changes"]
        if not left:
            break
    return left
