"""Process accounting: which programs ran in a host, by the kernel's own record.

acct(2) holds for a process namespace: switched on inside a host, it records that host's
processes alone, each when it ends. See acct(5).
"""

import json
import struct
from pathlib import Path

from lab.errors import LabError

RECORDS = "/var/log/rabbit-ha-lab.pacct"
# struct acct_v3 of linux/acct.h: the process's id, its parent's and its name are used here.
_RECORD = struct.Struct("<bBHIIIIIIf8H16s")
# An Erlang VM and the one helper that each has. A VM has many threads and is recorded under
# the name of the last; the helper, when it outlives its VM, under another parent.
_VM, _HELPER = "beam.smp", "erl_child_setup"
_INIT = 1
_MARK = "pacct-mark"

_SWITCH_ON = f"""\
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
open({RECORDS!r}, "w").close()
if libc.acct({RECORDS!r}.encode()):
    raise SystemExit(f"acct(2): {{os.strerror(ctypes.get_errno())}}")
"""

# Prints the processes that still live: they have no record yet.
_SWITCH_OFF = """\
import ctypes, json, pathlib
ctypes.CDLL(None).acct(None)
living = {}
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
        name, _, fields = stat.read_text().partition("(")[2].rpartition(")")
    except OSError:
        continue
    living[int(stat.parent.name)] = name
print(json.dumps(living))
"""


class Accounting:
    """Counts the Erlang VMs that are started in a host while this context is open.

    Parameters:
        execute: called with a command's words; runs it in the host and returns what it printed.
        root: where the host's disk is mounted on this machine.
    """

    def __init__(self, execute, root):
        self._execute = execute
        self._records = Path(root, RECORDS.lstrip("/"))
        self.vm_starts = None

    def __enter__(self):
        self._execute("python3", "-c", _SWITCH_ON)
        return self

    def __exit__(self, *failure):
        # The kernel stops recording while a disk is nearly full: this must have been recorded.
        self._execute("sh", "-c", f"printf {_MARK} >/proc/self/comm")
        living = json.loads(self._execute("python3", "-c", _SWITCH_OFF))
        records = read(self._records.read_bytes())
        self._records.unlink()
        if failure[0] is None:
            self.vm_starts = vm_starts(records, {int(pid): name for pid, name in living.items()})


def read(content):
    """Decode what the kernel wrote.

    Parameters:
        content: the bytes of the file.

    Returns:
        A list of (process id, parent's id, name), in the order the processes ended.
    """
    whole = len(content) - len(content) % _RECORD.size
    found = []
    for fields in _RECORD.iter_unpack(content[:whole]):
        found.append((fields[6], fields[7], fields[-1].split(b"\0")[0].decode(errors="replace")))
    return found


def vm_starts(records, living):
    """Count the Erlang VMs that were started and have ended.

    Those that a RabbitMQ node starts itself (it looks after epmd that way) are left out.

    Parameters:
        records: as :func:`read` returns them.
        living: mapping from the ids of living processes to their names.

    Returns:
        A number.

    Raises:
        LabError: the recording broke off.
    """
    if _MARK not in (name for _, _, name in records):
        raise LabError("process accounting: the end was not recorded; is the host's disk full?")
    parents = {pid: parent for pid, parent, _ in records}
    helpers = {pid for pid, _, name in records if name == _HELPER}
    vms = {pid for pid, _, name in records if name == _VM}
    vms |= {parents[pid] for pid in helpers} - {_INIT}
    of_neither_name = max(0, len(helpers) - len(vms))
    # What a running node starts is a child of its helper.
    helpers |= {pid for pid, name in living.items() if name == _HELPER}
    return of_neither_name + sum(parents.get(pid) not in helpers for pid in vms)
