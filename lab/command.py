"""Runs programs of the machine and turns their failures into errors."""

import subprocess
from collections import deque

from lab import cgroup
from lab.errors import LabError


def run(command, step, check=True, **options):
    """Run a program to its end.

    Parameters:
        command: the program and its arguments.
        step: what this is for, named in the error.
        check: whether a failure raises.
        options: passed to subprocess.run.

    Returns:
        The CompletedProcess, with text output.

    Raises:
        LabError: the program is missing or, with `check`, failed.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, **options
        )
    except FileNotFoundError as err:
        raise LabError(f"{step}: {err.filename} is not installed; run lab/prepare") from err
    if check and done.returncode:
        raise LabError(
            f"{step}: {' '.join(map(str, command))} exited with {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
    return done


def stream(command, step, on_line, group, **options):
    """Run a long program and hand on each line it prints, so that nobody waits in the dark.

    Parameters:
        command: the program and its arguments.
        step: what this is for, named in the error.
        on_line: called with each line of its output.
        group: the control group to run it in.
        options: passed to subprocess.Popen.

    Raises:
        LabError: the program failed; its last lines are in the message.
    """
    last = deque(maxlen=15)
    with subprocess.Popen(
        cgroup.command_in(group, [str(word) for word in command]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **options,
    ) as process:
        for line in process.stdout:
            if line := line.strip():
                last.append(line)
                on_line(line)
    if process.returncode:
        raise LabError(
            f"{step}: {command[0]} exited with {process.returncode}; its last lines:\n  "
            + "\n  ".join(last)
        )


def tail(path, lines=12):
    """Return the last lines of a log, indented, for an error message.

    Parameters:
        path: the log's Path.
        lines: how many lines.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as err:
        return f"  ({path}: {err.strerror})"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
