"""Runs commands in a host, or on the Salt master's side of a lab."""

import os
import signal
import subprocess

from lab import cgroup, host, master, network
from lab.errors import LabError
from lab.paths import VENV

_HOST_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}


def in_host(lab, name, command):
    """Run a command as root in a host, with this program's input and output.

    Parameters:
        lab: the Lab.
        name: the host.
        command: the program and its arguments.

    Returns:
        The command's exit code; 128 + n when signal n ended it.

    Raises:
        LabError: the host is not running.
    """
    return _attached(*command_in_host(lab, name, command))


def command_in_host(lab, name, command):
    """Tell how to run a command as root in a host; the parameters are those of in_host.

    Returns:
        The control group to make its own below, the command and its environment.

    Raises:
        LabError: the host is not running.
    """
    lab.check_hosts([name])
    host.require_on(lab, name)
    if host.state(lab, name) == host.FROZEN:
        raise LabError(f"host {name} is frozen; let it go on with: {lab.command('thaw')} {name}")
    environment = dict(_HOST_ENVIRONMENT)
    if "TERM" in os.environ:
        environment["TERM"] = os.environ["TERM"]
    enter = ["nsenter", f"--target={host.leader(lab, name)}", "--all", "--wdns=/root", "--"]
    # Among the host's own processes: what is started here freezes and dies with the host, and
    # the host's systemd may move it, as it does when Salt installs a package.
    return host.group(lab, name) / host.PAYLOAD, [*enter, *command], environment


def beside_master(lab, command):
    """Run a command in the lab's network, where Salt's programs find this lab's master.

    Parameters:
        lab: the Lab.
        command: the program and its arguments.

    Returns:
        The command's exit code; 128 + n when signal n ended it.
    """
    network.require(lab)
    command = [*network.enter(lab.paths), *command]
    return _attached(cgroup.group(lab.name, "run"), command, master.environment(lab.paths))


def shell(lab):
    """Open a shell on the Salt master's side; like beside_master."""
    program = os.environ.get("SHELL", "/bin/sh")
    if os.path.basename(program) != "bash":
        return beside_master(lab, [program])
    # After one's own settings, which may put another Python first.
    settings = lab.paths.run / "bashrc"
    settings.write_text(
        "[ -f ~/.bashrc ] && . ~/.bashrc\n"
        f'PATH="{VENV / "bin"}:$PATH"\n'
        f'PS1="(lab {lab.name}) $PS1"\n'
    )
    return beside_master(lab, [program, "--rcfile", str(settings)])


def salt(lab, program, arguments):
    """Run one of Salt's programs against this lab's master; like beside_master."""
    command = [str(VENV / "bin" / program), f"--config-dir={lab.paths.master}", *arguments]
    return beside_master(lab, command)


def _attached(parent, command, environment):
    """Run a command in a control group of its own, so that it can be ended with all below it."""
    group = parent / f"command-{os.getpid()}"
    process = subprocess.Popen(cgroup.command_in(group, command), env=environment)

    def end(number, _frame):
        # Killing nsenter alone would leave what it started.
        cgroup.kill(group)
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    # The terminal sends these to the command as well: it decides, this program waits.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    code = process.wait()
    if not cgroup.populated(group):
        cgroup.kill(group)
    return 128 - code if code < 0 else code
