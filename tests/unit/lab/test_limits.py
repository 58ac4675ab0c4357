"""What labs raise on the machine is given back with the last of them."""

import pytest

from lab import limits, paths, record


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of its own; returns the setting's file and the folder of labs."""
    setting, labs = tmp_path / "max_user_instances", tmp_path / "labs"
    setting.write_text("128\n")
    labs.mkdir()
    monkeypatch.setattr(limits, "SETTING", setting)
    monkeypatch.setattr(paths, "STATE_ROOT", labs)
    monkeypatch.setattr(paths, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(record, "cache_root", lambda: tmp_path / "cache")
    return setting, labs


def test_the_last_lab_gives_back_what_the_first_one_found(machine):
    setting, labs = machine
    (labs / "one").mkdir()
    limits.raise_for_hosts(print)
    (labs / "two").mkdir()
    limits.raise_for_hosts(print)
    assert int(setting.read_text()) == 4096

    (labs / "one").rmdir()
    limits.restore_without_labs(print)
    assert int(setting.read_text()) == 4096
    # `down` was interrupted here once: no lab any more.
    (labs / "two").rename(labs / ".two.removing")
    limits.restore_without_labs(print)
    assert int(setting.read_text()) == 128


def test_a_value_that_is_high_enough_is_left_alone(machine):
    setting, _ = machine
    setting.write_text("8192\n")
    limits.raise_for_hosts(print)
    limits.restore_without_labs(print)
    assert setting.read_text() == "8192\n"


def test_what_somebody_else_set_meanwhile_stays(machine):
    setting, _ = machine
    limits.raise_for_hosts(print)
    setting.write_text("65536\n")
    limits.restore_without_labs(print)
    assert setting.read_text() == "65536\n"
    limits.restore_without_labs(print)
