"""
Ends a run, a minion or a host at a moment of an orchestration that can be seen from outside.

A moment is a function of the Watch and of the host in question, which waits for it.
"""

import contextlib
import os
import pathlib
import signal
import tempfile
import time

import salt.config
import salt.utils.event

from lab import cgroup

# Of bin/lab when SIGTERM ended it.
ENDED = 128 + signal.SIGTERM
# As the kernel lists a connection.
AMQP_PORT, ESTABLISHED = f":{5672:04X}", "01"


class Watch:
    """
    An orchestration, and what can be seen of it while it runs.

    lab
        The Lab.
    """

    def __init__(self, lab):
        self.lab = lab
        self.status = lab.status()

    def __enter__(self):
        config_dir = pathlib.Path(self.status["master"]["config_dir"])
        opts = salt.config.master_config(str(config_dir / "master"))
        self._bus = salt.utils.event.get_master_event(opts, opts["sock_dir"])
        self._bus.connect_pub()
        self._output = tempfile.TemporaryFile("w+")
        orchestration = ("state.orchestrate", "orch.rabbit_ha")
        self.run = self.lab.start("salt-run", *orchestration, output=self._output)
        return self

    def __exit__(self, *_):
        self.end_run()
        self._output.close()
        self._bus.destroy()

    def end_run(self):
        """Kill the run: bin/lab kills what it has started, all at once."""
        self.run.terminate()
        self.run.wait(timeout=30)

    def said(self):
        """What the run has printed so far."""
        self._output.seek(0)
        return self._output.read()

    def wait_for(self, what, condition, seconds=600):
        """Look again and again; the run has to be running all the time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.run.poll() is None, f"the run ended, {what} was not seen: {self.said()}"
            assert time.monotonic() < deadline, f"{what} was not seen"

    def wait_for_event(self, what, condition):
        """Wait for an event, of whose tag and data the condition is a function."""

        def came():
            event = self._bus.get_event(wait=0.05, full=True)
            return event is not None and condition(event["tag"], event["data"])

        self.wait_for(what, came)

    def freeze(self, host, what, condition):
        """Stop a host where it is as soon as the condition holds."""

        def stopped():
            if not condition():
                time.sleep(0.004)
                return False
            cgroup.freeze(self.group(host), True)
            return True

        self.wait_for(what, stopped)

    def group(self, host):
        """The control group of all that runs in a host."""
        return cgroup.group(self.lab.name, "hosts", host)


# Moments.


def begins(function, sls=None):
    """A job begins: its function, and an SLS that it applies."""

    def wait(watch, _host):
        def began(tag, data):
            new = tag.endswith("/new") and data.get("fun") == function
            return new and _names(data["arg"], sls)

        watch.wait_for_event(f"{function} {sls}", began)

    return wait


def ended(function, sls=None, on=None):
    """A job ended on the host in question, or on another one."""

    def wait(watch, host):
        suffix = f"/ret/{on or host}"

        def returned(tag, data):
            mine = tag.endswith(suffix) and data.get("fun") == function
            return mine and _names(data["fun_args"], sls)

        watch.wait_for_event(f"{function} {sls} {suffix}", returned)

    return wait


def _names(arguments, sls):
    """Tell whether an SLS is among a job's arguments."""
    return sls is None or any(sls in str(argument) for argument in arguments)


def runs(*words):
    """A process runs in the host whose command line has these words, in this order."""

    def wait(watch, host):
        def running():
            pids = cgroup.pids(watch.group(host))
            return any(_in_order(words, _command_line(pid)) for pid in pids)

        watch.freeze(host, " ".join(words), running)

    return wait


def has_file(pattern):
    """A file is in the host."""

    def wait(watch, host):
        root = pathlib.Path(watch.status["hosts"][host]["root"])
        watch.freeze(host, pattern, lambda: any(root.glob(pattern.lstrip("/"))))

    return wait


def serves_clients(watch, host):
    """AMQP clients are connected to the load balancer."""
    table = pathlib.Path(f"/proc/{watch.status['hosts'][host]['leader']}/net/tcp")

    def connected():
        entries = [line.split() for line in table.read_text().splitlines()[1:]]
        return any(e[1].endswith(AMQP_PORT) and e[3] == ESTABLISHED for e in entries)

    watch.freeze(host, "a client", connected)


def _command_line(pid):
    """Give the words of a process's command line, an empty list where it has ended."""
    try:
        # Salt's processes name themselves, all words in one string.
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split()
    except OSError:
        return []


def _in_order(words, line):
    """Tell whether words, or paths that end in them, are in a list in this order."""
    rest = iter(line)
    return all(any(word == found.rsplit("/")[-1] for found in rest) for word in words)


# What ends.


def run(watch, host):
    """Kill the run with kill -9; what it began on hosts goes on there."""
    watch.end_run()
    assert watch.run.returncode == ENDED, "the run had ended before"
    cgroup.freeze(watch.group(host), False)


def minion(watch, host):
    """Kill the minion and its jobs with kill -9; what these began goes on, and systemd helps."""
    for pid in cgroup.pids(watch.group(host)):
        if _in_order(["salt-minion"], _command_line(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    cgroup.freeze(watch.group(host), False)
    _fails_soon(watch)
    watch.lab.wait_for_minions([host], 90)


def power(watch, host):
    """Pull the host's plug, and switch it on again."""
    watch.lab.command("poweroff", host)
    watch.lab.command("boot", host)
    _fails_soon(watch)
    watch.lab.wait_for_minions([host], 90)


def _fails_soon(watch):
    """Wait for a run that has lost a host's job: it must find out, and not go on."""
    watch.run.wait(timeout=90)
    assert watch.run.returncode == 1, watch.said()
