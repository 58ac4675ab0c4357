"""rabbit_queues: what a node has on its disk, what only it has, and what no member serves."""

import pytest

from tests.fake_rabbit import Rabbitmqctl, Rabbits
from tests.support import RABBITMQ_VERSIONS, faked, load, recorded

SEED, ME, THIRD = (f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3))
CONTACTS = [SEED, ME, THIRD]


@pytest.fixture
def on(topology):
    """Return a function that loads ``rabbit_queues`` on one of some brokers."""
    real = load("_modules/rabbitmqctl.py")

    def build(rabbits, pillar=None):
        salt = faked("rabbitmqctl", Rabbitmqctl(rabbits, ME), real)
        salt |= topology(minion=ME.split("@")[1], pillar=pillar)
        return load("_modules/rabbit_queues.py", salt=salt)

    return build


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_replica_on_the_disk_tells_its_queue(on, tmp_path, version):
    folder = tmp_path / "mnesia" / ME / "quorum" / ME / "2F_INVOICESUID"
    folder.mkdir(parents=True)
    (folder / "config").write_text(recorded(version, "quorum_queue_config")["stdout"])
    module = on(Rabbits(*CONTACTS), pillar={"rabbitmq": {"data_dir": str(tmp_path)}})
    assert module.quorum_queues_on_disk() == [{"vhost": "/", "name": "invoices"}]


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        (b'<<"a \\"b\\" \\\\">>', 'a "b" \\'),
        ('<<"Aufträge"/utf8>>'.encode(), "Aufträge"),
        (b"<<195,164,\n  255>>", "ä\ufffd"),
        (b'<<"begins here"\n      " and ends there">>', "begins here and ends there"),
        (b'<<"a>>, b">>', "a>>, b"),
    ],
)
def test_a_name_is_read_as_erlang_prints_it(on, tmp_path, printed, name):
    folder = tmp_path / "mnesia" / ME / "quorum" / ME / "2F_UID"
    folder.mkdir(parents=True)
    resource = b'{resource,<<"/">>,\n  queue,' + printed + b"},"
    (folder / "config").write_bytes(b"#{queue_resource =>\n" + resource + b"created => 1}.")
    module = on(Rabbits(*CONTACTS), pillar={"rabbitmq": {"data_dir": str(tmp_path)}})
    assert module.quorum_queues_on_disk() == [{"vhost": "/", "name": name}]


@pytest.mark.parametrize(
    ("listed", "named", "lost"),
    [
        ([{"name": "q", "state": "running"}], [], []),
        ([{"name": "q", "state": "down"}], [], ["queue q in /"]),
        ([{"name": "q", "state": "running", "members": CONTACTS, "online": CONTACTS[:2]}], [], []),
        (
            [{"name": "q", "state": "running", "members": CONTACTS, "online": [SEED]}],
            [],
            ["queue q in /"],
        ),
        ([], ["q"], ["queue q in /"]),
    ],
)
def test_queues_that_no_member_serves_are_told(on, listed, named, lost):
    rabbits = Rabbits(*CONTACTS, clustered=CONTACTS)
    rabbits[ME].queues = [{"vhost": "/", **queue} for queue in listed]
    rabbits[ME].definitions["queues"] = [{"name": name, "vhost": "/"} for name in named]
    assert on(rabbits).not_served() == lost
