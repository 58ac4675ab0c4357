"""rabbit_replicas: which ones a node has, which are noted, lost or silent."""

import pytest
from salt.exceptions import CommandExecutionError

from tests.fake_rabbit import Rabbitmqctl, Rabbits
from tests.support import faked, functions, load

SEED, ME, THIRD = (f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3))
CONTACTS = [SEED, ME, THIRD]
ORDERS = {"vhost": "/", "name": "orders"}
EVENTS = {"vhost": "v", "name": "events", "type": "stream"}


@pytest.fixture
def on(topology, tmp_path):
    """Return a function that loads ``rabbit_replicas`` on one of some brokers."""
    real = load("_modules/rabbitmqctl.py")

    def build(rabbits):
        salt = faked("rabbitmqctl", Rabbitmqctl(rabbits, ME), real)
        rabbitmq = {"data_dir": str(tmp_path), "backup_dir": str(tmp_path / "backups")}
        salt |= topology(minion=ME.split("@")[1], pillar={"rabbitmq": rabbitmq})
        for name in ("rabbit_notes", "rabbit_queues", "rabbit_membership"):
            salt |= functions(name, load(f"_modules/{name}.py", salt=salt))
        return load("_modules/rabbit_replicas.py", salt=salt)

    return build


def _all():
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits.has_quorum_queue("orders", CONTACTS, [SEED, THIRD])
    rabbits.has_stream("events", CONTACTS, CONTACTS, vhost="v")
    rabbits.has_stream("elsewhere", [SEED, THIRD], [SEED, THIRD])
    return rabbits


def test_what_counts_on_a_replica_here_is_listed_and_split(on):
    module = on(_all())
    assert module.here(SEED) == [ORDERS, EVENTS]
    assert module.by_type([EVENTS, ORDERS]) == {"quorum_queues": [ORDERS], "streams": [EVENTS]}


def test_a_replica_is_noted_once_and_nothing_is_given_back_without_a_note(on):
    module = on(_all())
    assert module.give_back_to_quorum_queues() == []
    assert module.give_back_to_streams(CONTACTS) == {"streams": [], "silent": []}
    module.note([ORDERS])
    module.note([ORDERS, EVENTS])
    assert module.__salt__["rabbit_notes.fetch"]("replicas_to_return") == [ORDERS, EVENTS]


def test_what_was_given_back_is_noted_no_more(on):
    rabbits = _all()
    module = on(rabbits)
    module.note([ORDERS, EVENTS])
    rabbits.quorum[0]["members"] = [SEED, THIRD]
    assert module.give_back_to_quorum_queues() == [ORDERS]
    assert module.__salt__["rabbit_notes.fetch"]("replicas_to_return") == [EVENTS]
    assert module.give_back_to_streams(CONTACTS) == {"streams": [EVENTS], "silent": []}
    assert sorted(rabbits.quorum[0]["members"]) == CONTACTS
    assert module.__salt__["rabbit_notes.fetch"]("replicas_to_return") is None


def test_what_was_deleted_meanwhile_got_nothing_back(on):
    rabbits = _all()
    module = on(rabbits)
    module.note([ORDERS, EVENTS])
    rabbits.quorum.clear()
    rabbits.streams.clear()
    assert module.give_back_to_quorum_queues() == []
    assert module.give_back_to_streams(CONTACTS) == {"streams": [], "silent": []}
    assert module.__salt__["rabbit_notes.fetch"]("replicas_to_return") is None


@pytest.mark.parametrize(("others", "kind"), [([], "lost"), ([ME], "silent")])
def test_one_that_has_other_replicas_did_not_lose_its_data(on, tmp_path, others, kind):
    rabbits = _all()
    if others:
        rabbits.has_quorum_queue("other", others, others)
    module = on(rabbits)
    # A node with Mnesia has no store that others take it back to.
    assert module.lost_and_silent(CONTACTS) == {"lost": [], "silent": []}
    (tmp_path / "mnesia" / ME / "coordination" / ME / "RABBITQUID").mkdir(parents=True)
    found = module.lost_and_silent(CONTACTS)
    assert [queue["name"] for queue in found.pop(kind)] == ["orders"]
    assert list(found.values()) == [[]]
    module.note_as_seen()
    assert module.lost_and_silent(CONTACTS) == {"lost": [], "silent": []}


def test_all_that_still_counts_is_told_where_replicas_cannot_be_taken_out(on):
    module = on(_all())
    module.__salt__["rabbitmqctl.delete_replicas"] = lambda node, streams, at: "no_majority"
    module.__salt__["rabbitmqctl.shrink"] = lambda node, at: []
    said = "^queue orders in /, no_majority: a replica here still counts"
    with pytest.raises(CommandExecutionError, match=said):
        module.take_out(SEED, [])
    # A run that comes later gives them back.
    assert module.__salt__["rabbit_notes.fetch"]("replicas_to_return") == [ORDERS, EVENTS]
