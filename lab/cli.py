"""The command line of the lab.

What a lab touches on this machine, as root: the Debian packages and the checkout's `.venv`
(`lab/prepare`), `~/.cache/rabbit-ha-lab` with images, `/var/lib/rabbit-ha-lab/NAME` with disks and
what is mounted there, `/run/rabbit-ha-lab`, the network namespace `rabbit-ha-lab-NAME`, control
groups below `rabbit-ha-lab/NAME`, and `fs.inotify.max_user_instances` while there is a lab.
`down` undoes it but for packages, `.venv` and images; docs/lab.md has more.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

from lab.errors import LabError, UsageError
from lab.image import RELEASES

# What follows these verbs belongs to the command they run, options included.
_PASS_THROUGH = ("exec", "run", "shell", "salt", "salt-run", "salt-key")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


def main(arguments):
    """Run one verb.

    Parameters:
        arguments: the command line without the program's name.

    Returns:
        The exit code.
    """
    # Set by bin/lab to find this package; nothing started from here shall inherit it.
    os.environ.pop("PYTHONPATH", None)
    try:
        return _dispatch(arguments)
    except LabError as err:
        print(f"bin/lab: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        print("bin/lab: interrupted; the same command can be run again", file=sys.stderr)
        return 130


def _dispatch(arguments):
    name, rest = take_name(arguments)
    if rest and rest[0] in _PASS_THROUGH and rest[1:2] not in (["--help"], ["-h"]):
        verb = rest[0]
        after, rest = take_name(rest[1:])
        _check_root()
        return _pass_through(verb, lab_name(after or name), rest)
    options = parser().parse_args(rest)
    options.name = lab_name(options.name or name)
    _check_root()
    return _VERBS[options.verb](options)


def take_name(arguments):
    """Take a leading --name off a command line.

    Parameters:
        arguments: list of str.

    Returns:
        The name or None, and the arguments without it.
    """
    if arguments and arguments[0].startswith("--name="):
        return arguments[0].partition("=")[2], arguments[1:]
    if arguments[:1] == ["--name"]:
        if len(arguments) < 2:
            raise UsageError("--name wants the lab's name")
        return arguments[1], arguments[2:]
    return None, arguments


def lab_name(given):
    """Return the lab's name: as given, from RABBIT_HA_LAB, or `default`.

    Parameters:
        given: the name that was asked for, or None.

    Raises:
        UsageError: no lab can have that name.
    """
    name = given or os.environ.get("RABBIT_HA_LAB") or "default"
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a lab's name: lower-case letters, digits, hyphens, at most 31"
        )
    return name


def _check_root():
    if os.geteuid() != 0:
        raise LabError("the lab boots hosts and needs root; run this with sudo")


def parser():
    """Return the argument parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="bin/lab",
        description="Boots the hosts of a topology on this machine and lets you break them.",
    )
    top.add_argument(
        "--name", metavar="NAME", dest="ignored", help="the lab's name (default: 'default')"
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name, text):
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("--name", help="the lab's name (default: 'default')")
        return added

    added = verb("up", "bring the lab up, or what of it is not up")
    added.add_argument("--release", choices=RELEASES, help="Debian release (default: bookworm)")
    added.add_argument("--pillar", type=Path, metavar="DIR", help="pillar folder to use instead")
    added.add_argument("--no-master", action="store_true", help="leave the Salt master to you")
    verb("down", "remove the lab and everything that belongs to it")
    text = "build the image of a release's hosts beforehand, unless there is one"
    added = verbs.add_parser("image", help=text, description=text)
    added.add_argument("release", metavar="RELEASE", choices=RELEASES, help=", ".join(RELEASES))
    added.set_defaults(name=None)
    added = verb("status", "show what runs")
    added.add_argument("--json", action="store_true", help="for programs")
    for name, text in {
        "poweroff": "pull a host's plug; its disk survives",
        "boot": "start a host that is off",
        "reinstall": "replace a host by a bare one; its minion has a new key",
        "freeze": "stop all processes of a host, as when it hangs",
        "thaw": "let a frozen host go on",
    }.items():
        verb(name, text).add_argument("host", metavar="HOST")
    added = verb("cut", "no packets between a host and its peers, or everyone")
    added.add_argument("host", metavar="HOST")
    added.add_argument("peers", metavar="PEER", nargs="*", help="a host, or `master`")
    added = verb("heal", "undo the cuts of a host, or all")
    added.add_argument("host", metavar="HOST", nargs="?")
    for name, usage, text in (
        ("exec", "HOST -- CMD …", "run a command as root in a host"),
        ("run", "-- CMD …", "run a command on the Salt master's side"),
        ("shell", "", "open a shell on the Salt master's side"),
        ("salt", "…", "salt, against this lab's master"),
        ("salt-run", "…", "salt-run, against this lab's master"),
        ("salt-key", "…", "salt-key, against this lab's master"),
    ):
        verbs.add_parser(
            name, help=text, description=text, usage=f"bin/lab {name} [--name NAME] {usage}"
        )
    return top


def _pass_through(verb, name, rest):
    from lab import enter, record

    lab = record.require(name)
    if verb.startswith("salt"):
        return enter.salt(lab, verb, rest)
    if verb == "shell":
        return enter.shell(lab)
    host = None
    if verb == "exec":
        if not rest:
            raise UsageError("exec wants a host: bin/lab exec HOST -- CMD …")
        host, rest = rest[0], rest[1:]
        lab.check_hosts([host])
    if rest[:1] == ["--"]:
        rest = rest[1:]
    if not rest:
        raise UsageError(f"{verb} wants a command after --")
    return enter.in_host(lab, host, rest) if host else enter.beside_master(lab, rest)


def _up(options):
    from lab import lifecycle, record
    from lab.progress import Progress

    pillar = options.pillar.resolve() if options.pillar else None
    with Progress() as progress, record.held(f"lab-{options.name}", progress.say):
        lifecycle.up(options.name, options.release, pillar, not options.no_master, progress)
    return 0


def _image(options):
    from lab import image
    from lab.progress import Progress

    with Progress() as progress:
        image.ensure(options.release, progress)
    return 0


def _down(options):
    from lab import lifecycle, record
    from lab.progress import Progress

    with Progress() as progress, record.held(f"lab-{options.name}", progress.say):
        lifecycle.down(options.name, progress)
    return 0


def _status(options):
    from lab import lifecycle, record

    state = lifecycle.status(record.require(options.name))
    if options.json:
        print(json.dumps(state, indent=2))
        return 0
    side = "running" if state["master"]["running"] else "not running"
    print(f"lab {state['name']}: {state['release']}, {state['network']}")
    print(f"  {'Salt master':32} {state['master']['address']:16} {side}")
    for name, each in state["hosts"].items():
        cut = f", cut from {', '.join(each['cut'])}" if each["cut"] else ""
        print(f"  {name:32} {each['address']:16} {each['state']}{cut}")
    return 0


def _notify(text):
    print(text, file=sys.stderr, flush=True)


def _fault(options):
    from lab import faults, record

    lab = record.require(options.name)
    with record.held(f"lab-{options.name}", _notify):
        if options.verb == "cut":
            faults.cut(lab, options.host, options.peers)
            done = f"is cut from {', '.join(options.peers) or 'everyone'}"
        else:
            action, done = {
                "poweroff": (faults.power_off, "is off"),
                "boot": (faults.boot, "is on, and boots"),
                "reinstall": (faults.reinstall, "is bare, and boots"),
                "freeze": (faults.freeze, "hangs"),
                "thaw": (faults.thaw, "goes on"),
                "heal": (faults.heal, "has no cut"),
            }[options.verb]
            action(lab, options.host)
    # Not on standard output, which programs read.
    _notify(f"{options.host or 'the lab'} {done}")
    return 0


_VERBS = {
    "up": _up,
    "down": _down,
    "image": _image,
    "status": _status,
    **dict.fromkeys(("poweroff", "boot", "reinstall", "cut", "heal", "freeze", "thaw"), _fault),
}
