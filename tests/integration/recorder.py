"""
Records what could give a secret away: the argv of all processes, and all events.
"""

import base64
import pathlib
import re
import subprocess
import threading
import time


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
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._listener.terminate()
        self._listener.wait(timeout=30)
        self._events.close()

    def _sample(self):
        """Look at all processes, many times a second, until stopped."""
        while not self._stop.is_set():
            for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.argv.add(process.read_bytes())
                except OSError:
                    continue
            time.sleep(0.02)

    def events(self):
        """All that was on the event bus so far, as text."""
        self._events.flush()
        return self.events_file.read_text(errors="replace")


def pattern_of(secret):
    """Build the pattern of a secret, as it is and as a part of something in base64."""
    forms = [secret.encode()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode()).rstrip(b"=")
        # Without the characters that what is around it has a part in.
        forms.append(encoded[(0, 2, 3)[before] : len(encoded) - 1])
    return re.compile(b"|".join(map(re.escape, forms)))


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
    config_dir = lab.status()["master"]["config_dir"]
    places = {
        "argv": b"\n".join(recorder.argv),
        "event bus": recorder.events().encode(),
        "output": "\n".join(outputs).encode(),
    }
    # The recordings are worth something: they hold what is no secret.
    assert b"salt/job" in places["event bus"] and b"rabbitmqctl" in places["argv"]
    for host in lab.hosts:
        journal = lab.exec(host, "journalctl", "--no-pager", "--output=cat", check=False)
        places[f"journal of {host}"] = journal.stdout.encode()
    for what, secret in secrets.items():
        pattern = pattern_of(secret)
        for where, text in places.items():
            assert not pattern.search(text), f"{what} in {where}"
        found = lab.grep_on_the_master(pattern, config_dir)
        assert not found, f"{what} on the master in {found}"
        for host in lab.hosts:
            holders = lab.grep_readable_by_others(host, pattern)
            assert not holders, f"{what} on {host} in {holders}"
