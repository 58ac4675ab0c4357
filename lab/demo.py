"""The demo: from nothing to a verified cluster, showing each step while it happens.

Every step is a command that can be typed by hand; the demo types it and watches the events of the
Salt master, because an orchestration itself says nothing until it is over.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from lab import cli, record
from lab.errors import LabError
from lab.paths import CHECKOUT
from lab.progress import Progress

# The orchestration's steps that run on the master, by the runner's function.
MASTER_STEPS = {
    "keep_others_out": "no other deployment is under way",
    "ready": "all hosts answer and pillar is complete",
    "plan": "what differs from pillar",
    "sync_cookie": "every broker has the seed's Erlang cookie",
    "verify": "messages go through the virtual address",
}


class Follower:
    """Turns the events of one orchestration into steps on the screen.

    Parameters:
        progress: shows the steps.
    """

    def __init__(self, progress):
        self._progress = progress
        self._run = None
        self._step = None
        self._jobs = {}
        self._failed = False

    def handle(self, tag, data):
        """Take one event of the master's bus.

        Parameters:
            tag: the event's tag.
            data: the event's data.
        """
        match tag.split("/"):
            case ["salt", "run", jid, "new"] if data["fun"] == "runner.state.orchestrate":
                self._run = jid
            case ["salt", "run", _, "new"]:
                function = data["fun"].removeprefix("runner.").removeprefix("rabbit_ha.")
                self._next(MASTER_STEPS.get(function, function))
            case ["salt", "run", jid, "args"] if jid == self._run:
                self._next(data["name"])
            case ["salt", "run", jid, "ret"] if jid != self._run:
                answer = data.get("return")
                # What is made for people has them one level further down.
                found = answer.get("data", answer) if isinstance(answer, dict) else None
                found = found.get("verdict", found) if found else {"problems": True}
                self._failed |= bool(found.get("problems"))
                self._end()
            case ["salt", "job", jid, "new"]:
                self._job(jid, data)
            case ["salt", "job", jid, "ret", host]:
                self._answered(jid, host, data)

    def finish(self, failed):
        """End what is still shown as under way.

        Parameters:
            failed: whether the run failed.
        """
        self._failed |= failed
        self._end()

    def _next(self, what):
        self._end()
        self._step = _Shown(self._progress, what)
        self._failed = False

    def _end(self):
        for hosts in self._jobs.values():
            for shown in hosts.values():
                shown.end(self._failed)
        self._jobs.clear()
        if self._step:
            self._step.end(self._failed)
            self._step = None

    def _job(self, jid, data):
        """Show what hosts are asked to do; only what may take long is worth a line."""
        function, arguments = data["fun"], data.get("arg") or []
        # Several functions in one call come as a list, with a code and a return each.
        if isinstance(function, list):
            what = "gets the project's modules"
        elif function.startswith("state.") and arguments:
            dry = any(isinstance(word, dict) and word.get("test") for word in arguments)
            what = f"is asked what {arguments[0]} would change" if dry else str(arguments[0])
        else:
            return
        self._jobs[jid] = {host: _Shown(self._progress, what, host) for host in data["minions"]}

    def _answered(self, jid, host, data):
        shown = self._jobs.get(jid, {}).pop(host, None)
        if shown is None:
            return
        code = data.get("retcode", 0)
        failed = any(code.values()) if isinstance(code, dict) else code != 0
        states = data.get("return")
        if isinstance(states, dict) and str(data["fun"]).startswith("state."):
            each = [state for state in states.values() if isinstance(state, dict)]
            changing = sum(bool(state.get("changes")) for state in each)
            shown.add(f": {changing} of {len(each)} states")
        self._failed |= failed
        shown.end(failed)


class _Shown:
    """A step whose end is another event's business than its beginning."""

    def __init__(self, progress, what, host=""):
        self._manager = progress.step(what, host)
        self._step = self._manager.__enter__()

    def add(self, text):
        self._step.what += text

    def end(self, failed):
        error = LabError("failed") if failed else None
        self._manager.__exit__(type(error) if error else None, error, None)


def main(arguments):
    """Run the demo.

    Parameters:
        arguments: the command line without the program's name.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default=None, help="the lab's name")
    parser.add_argument("--release", default=None, help="Debian release of the hosts")
    options = parser.parse_args(arguments)
    release = ["--release", options.release] if options.release else []
    started = time.monotonic()
    try:
        name = cli.lab_name(options.name)
        _say(1, f"bin/lab up: five bare hosts and a Salt master (lab {name})")
        code = cli.main(["up", "--name", name, *release])
        if code:
            return code
        lab = record.require(name)
        _say(2, "salt-run rabbit_ha.secrets: random passwords, once")
        _salt_run(lab, "rabbit_ha.secrets")
        _say(3, "salt-run state.orchestrate orch.rabbit_ha: the deployment")
        changed = _orchestrate(lab)
        _say(4, "salt-run rabbit_ha.verify: 1000 messages through the virtual address")
        _salt_run(lab, "rabbit_ha.verify")
        _summary(lab, changed, time.monotonic() - started)
    except LabError as err:
        print(f"make demo: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        print("make demo: interrupted; it can be run again and goes on", file=sys.stderr)
        return 130
    return 0


def _say(number, text):
    print(f"\n[{number}/4] {text}", flush=True)


def _command(lab, *arguments):
    """Return what starts salt-run in a lab."""
    return [str(CHECKOUT / "bin/lab"), "salt-run", "--name", lab.name, *arguments]


def _salt_run(lab, function):
    """Run a function of the project's runner and print what it prints.

    Raises:
        LabError: it found something wrong.
    """
    with Progress() as progress, progress.step(f"salt-run {function}"):
        done = subprocess.run(_command(lab, function), capture_output=True, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise LabError(
            f"{function} exited with {done.returncode}; by hand: "
            f"{lab.command('salt-run')} {function}\n{done.stderr}"
        )


def _orchestrate(lab):
    """Run the orchestration and show its steps.

    Returns:
        Whether it changed anything.

    Raises:
        LabError: it failed; the states that failed are in the message.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        with Progress() as progress:
            code = _followed(lab, progress, out, errors)
        out.seek(0)
        errors.seek(0)
        said, complaints = out.read(), errors.read()
    try:
        answer = json.loads(said[said.index("{") :])
        results = answer.get("data", answer)
        states = {key: state for each in results.values() for key, state in each.items()}
        failures = list(_failures(states))
    except (ValueError, AttributeError):
        states, failures = {}, [said.strip(), complaints.strip()]
    if code or failures or not states:
        lines = "\n".join(f"  {line}" for line in failures if line)
        again = f"{lab.command('salt-run')} state.orchestrate orch.rabbit_ha"
        raise LabError(f"the deployment stopped:\n{lines}\nRun it again by hand: {again}")
    return any(state["changes"] for state in states.values())


def _followed(lab, progress, out, errors):
    """Run the orchestration, following its events; return the exit code."""
    # Takes half a second to import, and only the demo needs it.
    import salt.config
    import salt.utils.event

    config = salt.config.master_config(str(lab.paths.master / "master"))
    follower = Follower(progress)
    with salt.utils.event.get_event("master", opts=config, listen=True) as bus:
        # An answer may be waited for, but nothing that is said may be missed.
        bus.connect_pub(timeout=10)
        command = _command(lab, "state.orchestrate", "orch.rabbit_ha", "--out=json")
        with subprocess.Popen(command, stdout=out, stderr=errors, text=True) as process:
            ended = False
            while not ended:
                ended = process.poll() is not None
                # Once it has ended, only what is left in the queue.
                while event := bus.get_event(wait=0.2, full=True):
                    follower.handle(event["tag"], event["data"])
    follower.finish(process.returncode != 0)
    return process.returncode


def _failures(states, host=""):
    """Yield a line for each failed state, on the master and on the hosts."""
    for key, state in states.items():
        if not isinstance(state, dict) or state.get("result") is not False:
            continue
        answers = state.get("changes") or {}
        answers = answers.get("ret") if isinstance(answers, dict) else None
        inner = [
            line
            for minion, answer in (answers or {}).items()
            if isinstance(answer, dict)
            for line in _failures(answer, minion)
        ]
        if inner:
            yield from inner
        else:
            what = state.get("__id__", key)
            yield f"{host + ': ' if host else ''}{what}: {state.get('comment')}"


def _settings(lab):
    """Return the merged `rabbit_ha` settings of a lab, its secrets included."""
    import salt.utils.dictupdate

    from _utils import rabbit_settings

    folder = Path(lab.pillar) if lab.pillar else CHECKOUT / "pillar"
    defaults = yaml.safe_load((CHECKOUT / "salt/rabbit_ha/defaults.yaml").read_text())
    files = [
        *sorted((folder / "rabbit_ha").glob("*.sls")),
        *sorted((lab.paths.secrets / "rabbit_ha/secrets").glob("*.sls")),
    ]
    pillar = {}
    for path in files:
        own = yaml.safe_load(path.read_text()) or {}
        salt.utils.dictupdate.update(pillar, own.get("rabbit_ha") or {})
    return rabbit_settings.merged(defaults, pillar)


def _summary(lab, changed, seconds):
    """Print where everything is, with what credentials, and what to try."""
    settings = _settings(lab)
    hosts = settings["hosts"]
    brokers = [name for name, host in hosts.items() if "broker" in host["roles"]]
    balancers = [name for name, host in hosts.items() if "load_balancer" in host["roles"]]
    haproxy, rabbitmq = settings["haproxy"], settings["rabbitmq"]
    amqp = haproxy["rabbitmq_cluster"]["bind"].rpartition(":")[2]
    monitor = haproxy["monitor"]
    statistics = monitor["bind"].rpartition(":")[2] + monitor["stats_uri"]
    admin = {key: user for key, user in rabbitmq["users"].items() if user.get("password")}
    print(
        f"\nDone in {seconds:.0f} s."
        if changed
        else f"\nNothing had to be changed: all was as pillar describes ({seconds:.0f} s)."
    )
    rows = [("AMQP", f"{settings['virtual_address']}:{amqp}  (the virtual address)")]
    rows += [
        ("management", f"http://{hosts[name]['address']}:{rabbitmq['management_port']}/  ({name})")
        for name in brokers
    ]
    rows += [(" ", f"user {user}, password {each['password']}") for user, each in admin.items()]
    rows += [
        ("statistics", f"http://{hosts[name]['address']}:{statistics}  ({name})")
        for name in balancers
    ]
    rows += [(" ", f"user {monitor['user']}, password {monitor['password']}")]
    shown = None
    for label, value in rows:
        print(f"  {label if label != shown else '':12} {value}")
        shown = label
    print(
        "These addresses exist inside the lab only; there, "
        f"`{lab.command('run')} -- CMD …` runs a command.\n\nTry next:\n"
        f"  {lab.command('salt-run')} rabbit_ha.status\n"
        f"  {lab.command('exec')} {brokers[0]} -- rabbitmqctl cluster_status"
    )
    if balancers:
        print(
            f"  {lab.command('poweroff')} {balancers[0]}\n"
            "      and the first command again: the address has moved; `"
            f"{lab.command('boot')} {balancers[0]}` brings it back"
        )
    named = "" if lab.name == "default" else f"RABBIT_HA_LAB={lab.name} "
    print(f"`{named}make clean` takes the lab down.", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
