"""
A program's configuration takes effect as a whole, once the program found it good.
"""

import contextlib
import os

from salt.exceptions import CommandExecutionError, SaltInvocationError


def checked(name, source, check, folder=None, suffix="", snippets=None):
    """
    Have a main file and a folder of snippets that the program itself judged together.

    While it refuses them, nothing is replaced. Each file is root's own, with mode 0600,
    as any may hold a secret; what changed in it is not shown. A main file that others
    wrote stays beside it, see :func:`kept`. Snippets that are no longer wanted are
    removed; files in the folder that others put there stay, and are judged with the
    rest. Test mode lets the program judge too, unless it is not there yet or what comes
    before in this component would change.

    name
        Path of the main file.
    source
        ``salt://…``, its Jinja template; ``snippets`` in it tells whether there is
        anything in the folder.
    check
        List of a command and its arguments, in which ``{root}`` stands for where the
        files lie: ``[haproxy, -c, -f, '{root}/etc/haproxy/haproxy.cfg']``.
    folder : None
        Path of the folder of snippets.
    suffix : ""
        What the names of files in that folder end in, such as ``.cfg``.
    snippets : None
        Where pillar has snippets, such as ``rabbit_ha:haproxy:snippets``: a mapping with
        ``text``, a mapping from the name of a file, without the suffix, to what is in it,
        and ``source``, ``salt://…``, a folder whose files with the suffix are snippets
        too. They are no argument themselves, as they may hold secrets.

    Returns a state's return: ``changes`` maps each file to ``created``, ``changed`` or
    ``removed``. Raises nothing: what failed is in ``comment``.

    See docs/pillar.md.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        with _staged(name, source, folder, suffix, snippets) as staged:
            changes = __salt__["rabbit_configuration.differences"](staged)
            if not changes:
                ret["comment"] = f"{name} and its snippets are already as described"
                return ret
            copy = __salt__["rabbit_configuration.copy_to_keep"](name)
            ret["changes"] = {**changes, **({copy: "kept as it was"} if copy else {})}
            if __opts__["test"]:
                ret.update(result=None, comment=f"{_listed(changes)} would have been replaced")
                if _can_judge(check):
                    __salt__["rabbit_configuration.judge"](staged, check)
                else:
                    ret["comment"] += ", once its program is ready to judge it"
                return ret
            __salt__["rabbit_configuration.judge"](staged, check)
            __salt__["rabbit_configuration.keep"](name)
            __salt__["rabbit_configuration.install"](staged)
            left = __salt__["rabbit_configuration.differences"](staged)
            if left:
                raise CommandExecutionError(f"{_listed(left)} was written, yet reads otherwise")
            ret["comment"] = f"{_listed(changes)} has been replaced"
    except (CommandExecutionError, SaltInvocationError) as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], name, err)
    return ret


@contextlib.contextmanager
def _staged(*described):
    """Put a configuration together for as long as it is needed."""
    staged = __salt__["rabbit_configuration.stage"](*described)
    try:
        yield staged
    finally:
        __salt__["rabbit_configuration.discard"](staged)


def _can_judge(check):
    """Tell whether all that a check runs with is there, and as it will be when it counts."""
    # One that is called alone (state.single) is of no component, and none came before it.
    component = __low__.get("__sls__", "").rpartition(".")[0]
    pending = component and any(
        ret["result"] is None and ret["__sls__"].startswith(f"{component}.")
        for ret in __running__.values()
    )
    return not pending and all(
        os.path.exists(argument) for argument in check if argument.startswith("/")
    )


def accepted(name, source):
    """
    Have RabbitMQ judge its configuration before it is replaced; changes nothing.

    Its nodes read the file at their next start, which may be a power failure of all of them:
    what they would not boot with is not to lie there until then. Judged is what differs from what
    is there, in test mode too; that starts one Erlang VM.

    name
        Path of ``rabbitmq.conf``.
    source
        ``salt://…``, its Jinja template.

    Returns a state's return, whose ``changes`` are empty. Raises nothing: what failed is in
    ``comment``.

    See https://www.rabbitmq.com/docs/configure.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        check = __salt__["rabbit_configuration.rabbitmq_check"](name)
        if not check:
            ret["comment"] = "RabbitMQ is not there yet to judge it"
            return ret
        with _staged(name, source) as staged:
            if __salt__["rabbit_configuration.has_same_content"](staged):
                ret["comment"] = f"{name} is already as described"
                return ret
            __salt__["rabbit_configuration.judge"](staged, check, "RabbitMQ")
        ret["comment"] = "RabbitMQ finds nothing wrong with it"
    except (CommandExecutionError, SaltInvocationError) as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], name, err)
    return ret


def kept(name):
    """
    Keep a file that others wrote, before it is replaced: once, beside it, for its owner only.

    name
        Path of the file. Its copy ends in ``.before_salt``; what says that Salt wrote it
        is not kept.

    Returns a state's return: ``changes`` maps the copy's path to what happened. Raises nothing:
    what failed is in ``comment``.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        copy = __salt__["rabbit_configuration.copy_to_keep"](name)
        if copy is None:
            ret["comment"] = f"{name} is already kept, or there is nothing to keep"
            return ret
        ret["changes"] = {copy: "kept as it was"}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} would have been kept as {copy}")
            return ret
        __salt__["rabbit_configuration.keep"](name)
        if __salt__["rabbit_configuration.copy_to_keep"](name) is not None:
            raise CommandExecutionError(f"{copy} was written, yet is not there")
        ret["comment"] = f"{name} has been kept as {copy}"
    except CommandExecutionError as err:
        __utils__["rabbit_failures.failed"](ret, __grains__["id"], name, err)
    return ret


def _listed(changes):
    """Name the files that differ."""
    return ", ".join(sorted(changes))
