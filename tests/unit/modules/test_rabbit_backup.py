"""rabbit_backup: dated copies of the definitions, for root alone, the last ten."""

import copy
import json
import stat
from unittest.mock import create_autospec

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.fake_rabbit import Rabbitmqctl, Rabbits, fresh_definitions
from tests.support import faked, functions, load

ME = "rabbit@rabbitmq-node2"


@pytest.fixture
def rabbits():
    """One broker."""
    return Rabbits(ME)


@pytest.fixture
def backup(rabbits, topology, tmp_path):
    """The module ``rabbit_backup`` on that broker, over a folder that is not there yet."""
    real = load("_modules/rabbitmqctl.py")
    pillar = {"rabbitmq": {"backup_dir": str(tmp_path / "backups")}}
    return load(
        "_modules/rabbit_backup.py",
        salt=faked("rabbitmqctl", Rabbitmqctl(rabbits, ME), real) | topology(pillar=pillar),
        utils=functions("rabbit_definitions", load("_utils/rabbit_definitions.py")),
    )


def test_the_copy_has_all_that_rabbitmq_exports(backup, rabbits):
    path = backup.write_definitions("before a join")
    with open(path) as handle:
        assert json.load(handle) == rabbits[ME].definitions
    assert path.endswith("Z-before-a-join.json")


def test_the_copy_is_brought_back_and_what_has_come_since_stays(backup, rabbits):
    node = rabbits[ME]
    node.definitions = fresh_definitions("3.10.8")
    before = copy.deepcopy(node.definitions["users"])
    path = backup.write_definitions("before a join")
    [guest] = node.definitions["users"]
    node.definitions["users"] = [{**guest, "name": "came since"}]
    backup.import_definitions(path)
    assert node.definitions["users"] == [{**guest, "name": "came since"}, *before]


def test_a_mapping_that_rabbitmq_exports_as_pairs_is_a_mapping_again(backup, rabbits):
    node = rabbits[ME]
    node.definitions = fresh_definitions("3.10.8")
    values = {"mapping": [["1883", "orders"], ["1884", {"a": 1}]], "list": ["a", "b"], "text": "a"}
    listed = [{"name": name, "value": value} for name, value in values.items()]
    node.definitions["global_parameters"] = copy.deepcopy(listed)
    path = backup.write_definitions("before a join")
    sent = []
    backup.__salt__["rabbitmqctl.import_definitions"] = sent.append
    backup.import_definitions(path)
    values["mapping"] = {"1883": "orders", "1884": {"a": 1}}
    [definitions] = sent
    assert {one["name"]: one["value"] for one in definitions["global_parameters"]} == values


def test_a_file_that_is_no_copy_of_this_host_s_is_not_brought_back(backup, tmp_path):
    path = tmp_path / "definitions-1-x.json"
    path.write_text("{}")
    with pytest.raises(SaltInvocationError, match="list_definitions does not list it"):
        backup.import_definitions(str(path))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_copy_that_is_not_whole_is_not_brought_back(backup, content):
    path = backup.write_definitions("before a join")
    with open(path, "w") as handle:
        handle.write(content)
    with pytest.raises(CommandExecutionError, match="holds no definitions"):
        backup.import_definitions(path)


def test_only_its_owner_reads_the_copy(backup, tmp_path):
    path = tmp_path / "backups"
    file = path / backup.write_definitions("before a join").rsplit("/", 1)[1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_the_last_ten_are_kept(backup):
    written = [backup.write_definitions(f"before join {number}") for number in range(12)]
    assert backup.list_definitions() == written[2:]


def test_they_are_listed_from_where_the_pillar_on_the_master_has_them_now(topology, tmp_path):
    (tmp_path / "definitions-1-x.json").touch()
    now = {"rabbitmq": {"backup_dir": str(tmp_path)}}
    backup = load("_modules/rabbit_backup.py", salt=topology(now=now))
    assert backup.list_definitions() == [str(tmp_path / "definitions-1-x.json")]


def test_what_says_the_same_for_the_same_reason_is_written_once(backup, rabbits):
    first = backup.write_definitions("before a join")
    assert backup.write_definitions("before a join") == first
    other = backup.write_definitions("before forgetting")
    rabbits[ME].definitions["users"] = []
    changed = backup.write_definitions("before forgetting")
    assert backup.list_definitions() == [first, other, changed]


def test_a_copy_that_is_not_whole_is_not_taken_for_one(backup):
    with open(backup.write_definitions("before a join"), "w") as handle:
        handle.write("{")
    backup.write_definitions("before a join")
    assert len(backup.list_definitions()) == 2


def test_a_copy_that_was_interrupted_counts_for_none(backup, tmp_path, monkeypatch):
    whole = backup.write_definitions("before a join")
    interrupted = create_autospec(backup.os.fsync, side_effect=OSError("no space left on device"))
    monkeypatch.setattr(backup.os, "fsync", interrupted)
    with pytest.raises(CommandExecutionError, match="no space left on device"):
        backup.write_definitions("before forgetting")
    assert backup.list_definitions() == [whole]
    monkeypatch.undo()
    assert len([backup.write_definitions(f"again {number}") for number in range(2)]) == 2
    assert len(list((tmp_path / "backups").iterdir())) == 3


def test_other_files_in_the_folder_stay(backup, tmp_path):
    backup.write_definitions("one")
    other = tmp_path / "backups" / "notes.txt"
    other.write_text("mine")
    for number in range(11):
        backup.write_definitions(f"again {number}")
    assert other.read_text() == "mine"


def test_where_nothing_was_written_nothing_is_listed(backup):
    assert backup.list_definitions() == []


def test_a_reason_without_a_word_is_refused(backup):
    with pytest.raises(SaltInvocationError, match="letters or digits"):
        backup.write_definitions("../..")


def test_a_folder_that_cannot_be_written_is_named(backup, tmp_path):
    (tmp_path / "backups").write_text("a file")
    with pytest.raises(
        CommandExecutionError, match=r"^the definitions could not be kept in .*backups"
    ):
        backup.write_definitions("before a join")


def test_a_node_that_does_not_run_has_nothing_to_copy(backup, rabbits, tmp_path):
    rabbits[ME].app = False
    with pytest.raises(CommandExecutionError, match="app"):
        backup.write_definitions("before a join")
    assert not (tmp_path / "backups").exists()
