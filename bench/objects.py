"""Vhosts, users and policies to measure with: as this project's pillar and as stock Salt states."""

import base64
import hashlib
import json

SMALL = {"vhosts": 3, "users": 4, "policies": 3}
MEDIUM = {"vhosts": 30, "users": 40, "policies": 30}
BIG = {"vhosts": 300, "users": 400, "policies": 300}
PLUGINS = ["rabbitmq_management", "rabbitmq_prometheus"]
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
# Deletes what is measured with. By RabbitMQ's own functions, since a command each would take
# as long as what is to be measured; policies and permissions go with their vhosts.
DELETE = """\
[ok = rabbit_vhost:delete(V, <<"bench">>)
 || V <- rabbit_vhost:list_names(), binary:match(V, <<"bench-">>) =/= nomatch],
[ok = rabbit_auth_backend_internal:delete_user(U, <<"bench">>)
 || L <- rabbit_auth_backend_internal:list_users(), {user, U} <- L,
    binary:match(U, <<"bench-">>) =/= nomatch],
ok.
"""


def pillar(vhosts, users, policies):
    """
    Describe so many objects as pillar below ``rabbit_ha:rabbitmq``; passwords are in it.

    vhosts, users, policies
        How many of each. A user may do everything in one vhost; a policy is in one.
    """
    names = [f"bench-{number:03}" for number in range(vhosts)]
    return {
        "plugins": PLUGINS,
        "vhosts": {name: {} for name in names},
        "users": {
            f"bench-user-{number:03}": {
                "password": f"bench-password-{number:03}",
                "tags": ["monitoring"],
                "permissions": {names[number % vhosts]: EVERYTHING},
            }
            for number in range(users)
        },
        "policies": {
            f"bench-policy-{number:03}": {
                "pattern": f"^bench-{number:03}\\.",
                "definition": {"max-length": 1000 + number},
                "priority": 1,
                "vhost": names[number % vhosts],
            }
            for number in range(policies)
        },
    }


def stock_states(described, join=None):
    """
    Describe the same for Salt's own states, as the data of an SLS file.

    described
        As :func:`pillar` returns it.
    join : None
        Host name of the seed, on a broker that is to join it.
    """
    states = {
        f"plugin {name}": {"rabbitmq_plugin.enabled": [{"name": name}]}
        for name in described["plugins"]
    }
    if join:
        member = [{"name": f"rabbit@{join}"}, {"user": "rabbit"}, {"host": join}]
        states["membership"] = {"rabbitmq_cluster.joined": member}
    for name in described["vhosts"]:
        states[f"vhost {name}"] = {"rabbitmq_vhost.present": [{"name": name}]}
    for name, user in described["users"].items():
        permissions = [
            {vhost: [rights["configure"], rights["write"], rights["read"]]}
            for vhost, rights in user["permissions"].items()
        ]
        states[f"user {name}"] = {
            "rabbitmq_user.present": [
                {"name": name},
                {"password": user["password"]},
                {"tags": user["tags"]},
                {"perms": permissions},
            ]
        }
    for name, policy in described["policies"].items():
        states[f"policy {name}"] = {
            "rabbitmq_policy.present": [
                {"name": name},
                {"pattern": policy["pattern"]},
                {"definition": json.dumps(policy["definition"])},
                {"priority": policy["priority"]},
                {"vhost": policy["vhost"]},
            ]
        }
    return states


def missing(described, definitions):
    """
    List what is described but does not read so.

    described
        As :func:`pillar` returns it.
    definitions
        What ``rabbitmqctl export_definitions`` printed, decoded.

    Returns a list of names.
    """
    vhosts = {vhost["name"] for vhost in definitions["vhosts"]}
    users = {user["name"]: user for user in definitions["users"]}
    policies = {(item["vhost"], item["name"]): item for item in definitions["policies"]}
    permissions = {(item["user"], item["vhost"]): item for item in definitions["permissions"]}
    left = [name for name in described["vhosts"] if name not in vhosts]
    for name, user in described["users"].items():
        there = users.get(name)
        rights = [permissions.get((name, vhost), {}) for vhost in user["permissions"]]
        if not (
            there
            and _has_password(there, user["password"])
            and set(there["tags"]) == set(user["tags"])
            and all(EVERYTHING.items() <= found.items() for found in rights)
        ):
            left.append(name)
    for name, policy in described["policies"].items():
        there = policies.get((policy["vhost"], name), {})
        if any(there.get(key) != policy[key] for key in ("pattern", "definition", "priority")):
            left.append(name)
    return left


def _has_password(user, password):
    """Tell whether a password is the one behind a user's salted hash."""
    stored = base64.b64decode(user["password_hash"])
    return hashlib.sha256(stored[:4] + password.encode()).digest() == stored[4:]
