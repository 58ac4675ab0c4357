"""rabbit_notes: small files for root alone, which a later run reads."""

import os
import stat

import pytest
import salt.utils.atomicfile
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import load

NOTE = "replicas_to_return"


@pytest.fixture
def notes(topology, tmp_path):
    pillar = {"rabbitmq": {"backup_dir": str(tmp_path / "kept")}}
    return load("_modules/rabbit_notes.py", salt=topology(pillar=pillar))


def test_what_is_written_is_read(notes):
    notes.write(NOTE, [{"vhost": "/", "name": "orders"}])
    assert notes.fetch(NOTE) == [{"vhost": "/", "name": "orders"}]
    notes.write(NOTE, [])
    assert notes.fetch(NOTE) == []


def test_only_root_reads_it(notes, tmp_path):
    notes.write(NOTE, [])
    assert stat.S_IMODE((tmp_path / "kept" / f"{NOTE}.json").stat().st_mode) == 0o600


def test_a_note_that_is_not_there_is_none_and_may_be_deleted(notes):
    assert notes.fetch(NOTE) is None
    notes.delete(NOTE)


def test_a_deleted_note_is_gone(notes):
    notes.write(NOTE, [])
    notes.delete(NOTE)
    assert notes.fetch(NOTE) is None


def test_a_note_of_another_name_is_refused(notes):
    with pytest.raises(SaltInvocationError, match="there are: replicas_to_return"):
        notes.fetch("../../etc/passwd")


def test_a_note_is_on_the_disk_before_it_has_its_name(notes, tmp_path, monkeypatch):
    path, synced = tmp_path / "kept" / f"{NOTE}.json", []

    def fsync(descriptor):
        synced.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(notes.os, "fsync", fsync)
    # Whatever Salt's own does as it closes.
    monkeypatch.setattr(salt.utils.atomicfile._AtomicWFile, "close", _renamed)
    notes.write(NOTE, [1])
    assert synced == [(len("[1]"), False)]
    assert notes.fetch(NOTE) == [1]


def _renamed(handle):
    handle._fh.close()
    os.rename(handle._tmp_filename, handle._filename)


@pytest.mark.parametrize("text", ["[", ""])
def test_a_damaged_note_is_an_error_that_names_it_and_the_way_out(notes, tmp_path, text):
    notes.write(NOTE, [])
    (tmp_path / "kept" / f"{NOTE}.json").write_text(text)
    said = f"^reading .*{NOTE}.json: .*Next: look at that file, then salt "
    with pytest.raises(CommandExecutionError, match=f"{said}rabbitmq-node2 rabbit_notes.delete"):
        notes.fetch(NOTE)
