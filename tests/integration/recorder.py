"""
Records what could give a secret away: the argv of all processes, and all events.
"""

import pathlib
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
