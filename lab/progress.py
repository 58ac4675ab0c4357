"""Shows what the lab is doing: live on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

# Seconds between two signs of life when the output is not a terminal.
HEARTBEAT = 4
# How much of a program's line is shown beside a step.
_WIDTH = 100


@dataclass(eq=False)
class Step:
    """One thing being done.

    Parameters:
        what: the step, for people.
        host: the host it concerns, or "".
    """

    what: str
    host: str = ""
    detail: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self):
        """How long it has been going on."""
        return time.monotonic() - self.started

    def note(self, text):
        """Say where the step is, for instance with a program's latest line."""
        self.detail = text

    def __str__(self):
        return f"{self.host}: {self.what}" if self.host else self.what


class Progress:
    """Collects the steps under way, from any thread, and shows them.

    Used as a context manager; everything is shown on standard error, so that standard output
    stays free for results.
    """

    def __init__(self):
        self._console = Console(stderr=True, highlight=False)
        self._steps = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._live = None
        self._ticker = None

    def __enter__(self):
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._table,
                transient=True,
                refresh_per_second=8,
            )
            self._live.start()
        else:
            self._ticker = threading.Thread(target=self._beat, daemon=True)
            self._ticker.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        if self._live:
            self._live.stop()

    @contextmanager
    def step(self, what, host=""):
        """Show a step while the body runs, and how long it took when it is over."""
        step = Step(what, host)
        with self._lock:
            self._steps.append(step)
        if not self._live:
            self.say(f"... {step}")
        try:
            yield step
        except BaseException:
            self.say(f"[red]failed[/red] {step} ({step.seconds:.1f} s)")
            raise
        else:
            self.say(f"[green]ok[/green] {step} ({step.seconds:.1f} s)")
        finally:
            with self._lock:
                self._steps.remove(step)

    def say(self, text):
        """Print one line, above whatever is live."""
        self._console.print(text, soft_wrap=True)

    def _table(self):
        table = Table.grid(padding=(0, 1))
        with self._lock:
            for step in self._steps:
                seconds = f"[cyan]{step.seconds:5.1f} s[/cyan]"
                table.add_row(seconds, str(step), step.detail[:_WIDTH])
        return table

    def _beat(self):
        while not self._stop.wait(HEARTBEAT):
            with self._lock:
                waiting = [step for step in self._steps if step.seconds > HEARTBEAT - 1]
            for step in waiting:
                detail = f": {step.detail[:_WIDTH]}" if step.detail else ""
                print(f"... {step} ({step.seconds:.0f} s){detail}", file=sys.stderr, flush=True)
