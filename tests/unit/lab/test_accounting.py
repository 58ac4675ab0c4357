"""Erlang VMs counted from what the kernel records; the records are from RabbitMQ 3.10.8."""

import struct

import pytest

from lab import accounting
from lab.errors import LabError

# pid, parent, name, as they ended: salt-call asks rabbitmqctl, which is a VM below two shells.
RABBITMQCTL = [
    (2423, 2422, "inet_gethost"),
    (2422, 2398, "inet_gethost"),
    (2389, 2388, "beam.smp"),
    (2398, 2389, "erl_child_setup"),
    (2388, 2387, "sh"),
    (2387, 2378, "su"),
    (2378, 17, "rabbitmqctl"),
]
# The node, whose helper is 1264, sees to it that epmd runs.
BY_THE_NODE = [
    (2344, 2342, "dyn_erl"),
    (2349, 2348, "epmd"),
    (2342, 1264, "beam.smp"),
    (2355, 2342, "erl_child_setup"),
]
NODE = {1249: "beam.smp", 1264: "erl_child_setup"}
END = [(9000, 17, "pacct-mark")]


def packed(records):
    return b"".join(
        accounting._RECORD.pack(
            0, 3, 0, 0, 0, 0, pid, parent, 0, 0.0, *[0] * 8, name.encode().ljust(16, b"\0")
        )
        for pid, parent, name in records
    )


def test_a_record_is_as_long_as_the_kernels():
    assert accounting._RECORD.size == struct.calcsize("64s")


def test_records_are_read_and_a_half_written_one_is_left_out():
    assert accounting.read(packed(RABBITMQCTL) + b"\0" * 63) == RABBITMQCTL


def test_a_tool_is_one_vm():
    assert accounting.vm_starts(RABBITMQCTL + END, NODE) == 1


def test_what_the_node_starts_itself_is_not_counted():
    assert accounting.vm_starts(BY_THE_NODE + RABBITMQCTL + END, NODE) == 1


def test_what_a_node_started_that_has_ended_since_is_not_counted():
    node = [(1249, 1, "beam.smp"), (1264, 1249, "erl_child_setup")]
    assert accounting.vm_starts(BY_THE_NODE + node + END, {}) == 1


@pytest.mark.parametrize("name", ["beam.smp", "erts_sched_1"])
@pytest.mark.parametrize("parent", [2389, 1])
def test_a_vm_recorded_under_other_names_is_counted_once(name, parent):
    records = [
        (2389, 2388, name),
        (2398, parent, "erl_child_setup"),
        (2388, 17, "sh"),
    ]
    assert accounting.vm_starts(records + END, NODE) == 1


def test_a_recording_that_broke_off_is_no_count():
    with pytest.raises(LabError, match="disk full"):
        accounting.vm_starts(RABBITMQCTL, NODE)


class Host:
    """A host in which a tool runs while its processes are recorded."""

    def __init__(self, root):
        self.file = root / accounting.RECORDS.lstrip("/")
        self.file.parent.mkdir(parents=True)
        self.recording = False

    def execute(self, *command):
        if command[-1] == accounting._SWITCH_ON:
            self.recording = True
            self.file.write_bytes(packed(RABBITMQCTL))
        elif command[0] == "sh":
            self.file.write_bytes(self.file.read_bytes() + packed(END))
        elif command[-1] == accounting._SWITCH_OFF:
            self.recording = False
            return '{"1264": "erl_child_setup"}'
        return ""


def test_vms_are_counted_while_the_context_is_open(tmp_path):
    host = Host(tmp_path)
    with accounting.Accounting(host.execute, tmp_path) as found:
        assert host.recording
    assert (found.vm_starts, host.recording, host.file.exists()) == (1, False, False)


def test_recording_ends_also_when_the_work_fails(tmp_path):
    host = Host(tmp_path)
    with pytest.raises(ValueError), accounting.Accounting(host.execute, tmp_path) as found:
        raise ValueError
    assert (found.vm_starts, host.recording, host.file.exists()) == (None, False, False)
