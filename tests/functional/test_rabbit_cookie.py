"""The cookie's way from the seed to a broker, through Salt's loader and real keys."""

import getpass

import pytest

from tests.support import write_key

COOKIE = "SEEDSCOOKIEABCDEFGHI"


@pytest.fixture
def broker(minion, modules, tmp_path):
    """Return a function that loads the modules on a broker with a cookie and a Salt key."""

    def build(name, cookie):
        data_dir = tmp_path / name
        data_dir.mkdir()
        (data_dir / ".erlang.cookie").write_text(cookie)
        rabbitmq = {"data_dir": str(data_dir), "service_user": getpass.getuser()}
        opts = minion(name, rabbitmq=rabbitmq)
        public = write_key(tmp_path / "pki" / name)
        return modules(opts), public, data_dir / ".erlang.cookie"

    return build


def test_a_cookie_goes_from_the_seed_to_a_broker_that_then_matches(broker):
    seed, _, _ = broker("rabbitmq-node1", COOKIE)
    joining, public, path = broker("rabbitmq-node2", "OTHER")
    sealed = seed["rabbit_cookie.seal"]({"rabbitmq-node2": public})["rabbitmq-node2"]
    assert joining["rabbit_cookie.matches"](sealed) is False
    joining["rabbit_cookie.write"](sealed)
    assert joining["rabbit_cookie.matches"](sealed) is True
    assert joining["rabbit_cookie.has_right_mode"]() is True
    assert path.read_text() == COOKIE
