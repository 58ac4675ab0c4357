"""
Records what could give a secret away: the argv of all processes, and all events.
"""

import base64
import contextlib
import os
import pathlib
import stat
import subprocess
import threading
import time

from tests.integration.lab import wait_until


class Recorder:
    """
    Samples argv of every process on the machine, and records the master's event bus.

    lab
        The Lab whose master it listens to.
    folder
        Where the recordings go.
    """

    def __init__(self, lab, folder):
        self.lab = lab
        self.argv = set()
        self.events_file = folder / "events"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._events = self.events_file.open("w")
        self._listener = subprocess.Popen(
            [pathlib.Path("bin/lab").resolve(), "--name", self.lab.name]
            + ["salt-run", "state.event", "pretty=True"],
            stdout=self._events,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._listens, 60, lambda: "salt-run state.event says nothing")
        return self

    def _listens(self):
        """Cause an event, and tell whether any was heard."""
        self.lab.salt_run("salt.cmd", "test.ping")
        return self.events() != ""

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._listener.terminate()
        self._listener.wait(timeout=30)
        self._events.close()

    def _sample(self):
        """Look at all processes, many times a second, until stopped."""
        looks = {}
        while not self._stop.is_set():
            running = [pid for pid in os.listdir("/proc") if pid.isdigit()]
            looks = {pid: looks.get(pid, 0) + 1 for pid in running}
            for pid, count in looks.items():
                # One that is not new seldom becomes another program, or takes another name.
                if count < 50 or count % 50 == 0:
                    with contextlib.suppress(OSError):
                        self.argv.add(pathlib.Path("/proc", pid, "cmdline").read_bytes())
            time.sleep(0.02)

    def events(self):
        """All that was on the event bus so far, as text."""
        return self.events_file.read_text(errors="replace")


class Search:
    """
    Looks for secrets as they are, and as a part of something in base64.

    secrets
        Mapping from what a secret is to its text.
    """

    def __init__(self, secrets):
        self._forms = {what: _forms(secret.encode()) for what, secret in secrets.items()}

    def found(self, places):
        """Map where any of them is to what it is; places are pairs of where and a content."""
        seen = {}
        for where, content in places:
            names = [w for w, forms in self._forms.items() if any(f in content for f in forms)]
            if names:
                seen[str(where)] = names
        return seen


def _forms(secret):
    """List how a secret may be written."""
    forms = [secret]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret).rstrip(b"=")
        # Without the characters that what is around it has a part in.
        forms.append(encoded[(0, 2, 3)[before] : len(encoded) - 1])
    return forms


def assert_nothing_gave_away(secrets, lab, recorder, outputs):
    """
    Look for secrets in all that was recorded, on the master and on every host.

    secrets
        Mapping from what a secret is to its text.
    lab
        The Lab.
    recorder
        The Recorder.
    outputs
        List of what commands printed.
    """
    search = Search(secrets)
    places = {
        "argv": b"\n".join(recorder.argv),
        "event bus": recorder.events().encode(),
        "output": "\n".join(outputs).encode(),
    }
    # The recordings are worth something: they hold what is no secret.
    assert b"salt/job" in places["event bus"] and b"rabbitmqctl" in places["argv"]
    for host in lab.hosts:
        journal = lab.exec(host, "journalctl", "--no-pager", "--output=cat").stdout
        # As worth something as the recordings: it tells that the minion was started.
        assert "The Salt Minion" in journal, f"{host}: {len(journal)} characters of a journal"
        places[f"journal of {host}"] = journal.encode()
    assert search.found(places.items()) == {}
    assert search.found(lab.files_of_the_master()) == {}
    for host in lab.hosts:
        assert search.found(lab.files_of(host, for_others_or_a_log)) == {}, host


def for_others_or_a_log(path, mode):
    """Tell whether others may read a file of a host, or it is a log or Salt's cache."""
    return mode & stat.S_IROTH or path.startswith(("/var/log/", "/var/cache/salt/"))


def assert_rabbitmq_has_no_clear_text(passwords, lab, brokers):
    """
    Look for passwords of RabbitMQ's users in its own files, whoever may read them.

    passwords
        Mapping from what a password is to its text.
    """
    search = Search(passwords)
    for broker in brokers:
        # Erlang dates a cookie that it makes to midnight.
        files = dict(lab.files_of(broker, _is_rabbitmq_s, since=0))
        assert {"/etc/rabbitmq/rabbitmq.conf", "/var/lib/rabbitmq/.erlang.cookie"} <= set(files)
        assert search.found(files.items()) == {}, broker


def _is_rabbitmq_s(path, mode):
    return path.startswith(("/etc/rabbitmq/", "/var/lib/rabbitmq/"))
