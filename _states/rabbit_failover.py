"""
A load balancer's services run the program that is installed.
"""

import os

from salt.exceptions import CommandExecutionError


def program_in_use(name, program, check=None):
    """
    Restart a service that runs another program than the installed one, such as an older build.

    Where this host holds the address, another load balancer serves it meanwhile. A
    service that does not run is left to ``service.running``.

    name
        Name of HAProxy's or keepalived's service.
    program
        Path of the program that it is to run.
    check
        List of a command and its arguments that judges the configuration first.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        running = __salt__["rabbit_failover.running_program"](name)
        wanted = os.path.realpath(program)
        if running is None:
            ret["comment"] = f"{name} does not run and will start with {program}"
            return ret
        if running == wanted:
            ret["comment"] = f"{name} already runs {wanted}"
            return ret
        ret["changes"] = {"program": {"old": running, "new": wanted}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} would have been restarted to run {program}")
            return ret
        __salt__["rabbit_failover.restart"](name, check)
        running = __salt__["rabbit_failover.running_program"](name)
        if running != wanted:
            raise CommandExecutionError(f"it was restarted, yet runs {running or 'no more'}")
        ret["comment"] = f"{name} has been restarted to run {wanted}"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=f"{__grains__['id']}: {name}: {err}")
    return ret
