"""
The states of HAProxy and keepalived built from source, which differ in the program alone.

The steps are the execution modules'; see ``source_build`` for how they build.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError

# The programs' names for people.
TITLES = {"haproxy": "HAProxy", "keepalived": "keepalived"}
# What the units of source builds begin with.
UNIT_MARK = "# Written by Salt"


def installed(name, program, test, wanted):
    """
    The state ``installed`` of a program built from source.

    name
        Path of the link to the program.
    program
        ``haproxy`` or ``keepalived``.
    test
        Whether this is test mode.
    wanted
        Mapping of the arguments of the program's ``plan``.

    Returns a state's return.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    title = TITLES[program]
    before = None
    try:
        before = __salt__["source_builds.current"](name)
        # Foreseen before anything is done, so that test mode tells the same.
        todo = _foreseen(name, program, before, wanted)
        ret["changes"] = _changes(title, before, todo)
        ret["comment"] = _comment(title, todo, test)
        if test:
            ret["result"] = None if ret["changes"] else True
        else:
            _do(name, program, wanted, todo)
    except (CommandExecutionError, SaltInvocationError) as err:
        used = __salt__["source_builds.current"](name)
        left = f"{_called(title, used)} goes on untouched" if used else "nothing was installed"
        if used != before:
            left = f"{_called(title, used)} is in use already"
            # Which builds are still there, the next run tells.
            ret["changes"].pop("removed", None)
        else:
            ret["changes"] = {}
        ret.update(result=False, comment=f"{title} from source: {err}\n({left})")
    return ret


def _foreseen(name, program, before, wanted):
    """Tell what is to be done: the plan, why, whether it is to be built, and what goes."""
    plan = __salt__[f"{program}_build.plan"](**wanted)
    there = [one["path"] for one in __salt__["source_builds.builds"](plan["prefix"])]
    reasons = _reasons(before, plan)
    return {
        "plan": plan,
        "reasons": reasons,
        "build": bool(reasons) and plan["path"] not in there,
        "surplus": __salt__["source_builds.surplus"](plan["prefix"], name, plan["path"]),
    }


def _changes(title, before, todo):
    """Put what is to be done into a state's changes."""
    changes = {}
    if todo["reasons"]:
        changes[title] = {"old": before and before["path"], "new": todo["plan"]["path"]}
    if todo["surplus"]:
        changes["removed"] = todo["surplus"]
    return changes


def _comment(title, todo, test):
    """Say what is to be done, or was, and why."""
    plan = todo["plan"]
    if todo["reasons"]:
        how = f"built from {plan['url']}" if todo["build"] else "switched to, being there already"
        verb = "would have been" if test else "has been"
        said = f"{_called(title, plan)} {verb} {how}: {'; '.join(todo['reasons'])}"
    else:
        said = f"{_called(title, plan)} is already installed"
    if plan.get("left_out"):
        said += f"; this version has no {', '.join(plan['left_out'])} to choose"
    return said


def _do(name, program, wanted, todo):
    """Build, switch and remove as foreseen."""
    if todo["build"]:
        __salt__[f"{program}_build.build"](**wanted)
    if todo["reasons"]:
        _switch(todo["plan"]["path"], name)
    for path in todo["surplus"]:
        # What an interrupted build left is gone where one was built meanwhile.
        if os.path.lexists(path):
            __salt__["source_builds.remove"](path)


def _switch(path, link):
    """Let the link lead to a build, and see that it does."""
    __salt__["source_builds.use"](path, link)
    used = __salt__["source_builds.current"](link)
    if not used or used["path"] != path:
        raise CommandExecutionError(f"{link} was set, yet leads elsewhere")


def absent(name, program, test, unit):
    """
    The state ``absent`` of a program built from source: its package is used instead.

    name
        Path of the link to the program.
    program
        ``haproxy`` or ``keepalived``.
    test
        Whether this is test mode.
    unit
        Path of the systemd unit that runs the program from source; one that is not
        from Salt stays.

    Returns a state's return. The builds stay, so that going back takes no time.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    title = TITLES[program]
    try:
        before = __salt__["source_builds.current"](name)
        there = __salt__["file.contains"](unit, UNIT_MARK)
        if not before and not there:
            ret["comment"] = f"No {title} from source is in use"
            return ret
        if before:
            ret["changes"][name] = {"old": before["path"], "new": None}
        if there:
            ret["changes"][unit] = "removed"
        if test:
            ret.update(result=None, comment=f"{title} from source would have gone out of use")
            return ret
        # systemd has to know first: should the program die now, the package's is started.
        if there:
            __salt__["file.remove"](unit)
            __salt__["service.systemctl_reload"]()
        __salt__["source_builds.unuse"](name)
        if __salt__["source_builds.current"](name) or __salt__["file.contains"](unit, UNIT_MARK):
            raise CommandExecutionError(f"{name} or {unit} was removed, yet is still there")
        ret["comment"] = f"{title} from source has gone out of use; its builds are kept"
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=f"{title} from source: {err}")
    return ret


def _called(title, build):
    return f"{title} {build['version']} in {build['path']}"


def _reasons(before, plan):
    """List in what the build in use differs from the wanted one; empty when in nothing."""
    if not before:
        return ["none is in use"]
    if before["path"] == plan["path"]:
        return []
    found = []
    if before["version"] != plan["version"]:
        found.append(f"version {before['version']} is in use, {plan['version']} is wanted")
    elif before["checksum"] != plan["checksum"]:
        found.append("it was built from a source with another checksum")
    for option in sorted({*before["options"], *plan["options"]}):
        old, new = before["options"].get(option), plan["options"].get(option)
        if old != new:
            found.append(f"{option} is {_shown(old)}, {_shown(new)} is wanted")
    return found or [f"{before['path']} is in use, {plan['path']} is wanted"]


def _shown(value):
    return "not set" if value is None else f"'{value}'"
