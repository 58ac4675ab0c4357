"""The cookie's way from the seed to a broker, through Salt's loader and real keys."""

import getpass

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

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
        (tmp_path / "pki" / name).mkdir(parents=True)
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (tmp_path / "pki" / name / "minion.pem").write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return modules(opts), public.decode(), data_dir / ".erlang.cookie"

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
