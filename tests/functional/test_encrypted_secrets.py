"""docs/secrets.md with a throw-away key: pillar encrypted with gpg, through Salt's own compiler."""

import pytest
import salt.pillar
import salt.runner
from salt.utils import yaml

SECRETS = {
    "broker": {"rabbitmq": {"users": {"admin": {"password": "s3cret of admin"}}}},
    "load_balancer": {
        "haproxy": {"monitor": {"password": "s3cret-of-the-page"}},
        "keepalived": {"authentication": {"auth_pass": "s3crets8"}},
    },
}
HOSTS = {"broker": "rabbitmq-node2", "load_balancer": "haproxy-keeplive-node1"}
PATHS = {
    "broker": ["rabbit_ha:rabbitmq:users:admin:password"],
    "load_balancer": [
        "rabbit_ha:haproxy:monitor:password",
        "rabbit_ha:keepalived:authentication:auth_pass",
    ],
}


@pytest.fixture
def master(master, tmp_path, key):
    """Return a function that gives the options of a master with encrypted secrets."""

    def build(first_line="#!yaml|gpg", **opts):
        folder = tmp_path / "secrets" / "rabbit_ha" / "secrets"
        folder.mkdir(parents=True)
        for role, secrets in SECRETS.items():
            text = yaml.safe_dump({"rabbit_ha": key.encrypt(secrets)})
            (folder / f"{role}.sls").write_text(f"{first_line}\n{text}")
        return {**master, "gpg_keydir": str(key.folder), **opts}

    return build


def compiled(opts, role):
    host = HOSTS[role]
    return salt.pillar.Pillar(opts, {"id": host}, host, "base").compile_pillar()


def validated(opts):
    answer = salt.runner.RunnerClient(opts).cmd("rabbit_ha.validate", [], print_event=False)
    return answer["data"]["verdict"]


def test_secrets_reach_their_roles_decrypted_and_validate_finds_nothing(master):
    opts = master()
    for role, other in (("broker", "load_balancer"), ("load_balancer", "broker")):
        pillar = compiled(opts, role)
        assert "_errors" not in pillar
        assert pillar["rabbit_ha_findings"]["errors"] == []
        for part, values in SECRETS[role].items():
            assert pillar["rabbit_ha"][part] == values
        assert not [part for part in SECRETS[other] if pillar["rabbit_ha"].get(part)]
    assert validated(opts)["problems"] == []


def test_the_master_s_key_missing_is_an_error_of_pillar(master, tmp_path):
    tmp_path.joinpath("empty").mkdir(mode=0o700)
    opts = master(gpg_keydir=str(tmp_path / "empty"))
    found = validated(opts)
    assert found["result"] is False
    assert any("rabbit_ha.secrets.broker" in problem for problem in found["problems"])


@pytest.mark.parametrize("role", PATHS)
@pytest.mark.parametrize("reason", ["no key", "no renderer"])
def test_what_is_still_encrypted_is_an_error_and_never_a_password(master, tmp_path, role, reason):
    if reason == "no key":
        tmp_path.joinpath("empty").mkdir(mode=0o700)
        opts = master(gpg_keydir=str(tmp_path / "empty"), gpg_decrypt_must_succeed=False)
    else:
        opts = master(first_line="#!yaml")
    assert compiled(opts, role)["rabbit_ha_findings"]["errors"] == [
        f"{path}: found a PGP message, which nothing decrypted; expected what is in it, decrypted "
        "on the master (see docs/secrets.md)"
        for path in PATHS[role]
    ]


@pytest.mark.parametrize(
    "paths",
    [
        ["rabbit_ha"],
        ["rabbit_ha:rabbitmq", {"rabbit_ha:haproxy": "gpg"}, "rabbit_ha:keepalived"],
        {path: None for paths in PATHS.values() for path in paths},
        ["other:key", "rabbit_ha"],
    ],
)
def test_what_decrypt_pillar_decrypts_is_checked_as_it_will_be(master, paths):
    opts = master(first_line="#!yaml", decrypt_pillar=paths)
    for role, secrets in SECRETS.items():
        pillar = compiled(opts, role)
        assert {part: pillar["rabbit_ha"][part] for part in secrets} == secrets
        assert pillar["rabbit_ha_findings"]["errors"] == []


def test_what_decrypt_pillar_cannot_decrypt_is_an_error(master, tmp_path):
    tmp_path.joinpath("empty").mkdir(mode=0o700)
    opts = master("#!yaml", gpg_keydir=str(tmp_path / "empty"), decrypt_pillar=["rabbit_ha"])
    [error] = compiled(opts, "broker")["rabbit_ha_findings"]["errors"]
    assert error.startswith(f"{PATHS['broker'][0]}: found a PGP message")


def test_a_decrypted_secret_is_checked_like_any_other(master, monkeypatch):
    auth = {"authentication": {"auth_pass": "longer than eight"}}
    monkeypatch.setitem(SECRETS, "load_balancer", {**SECRETS["load_balancer"], "keepalived": auth})
    assert compiled(master(), "load_balancer")["rabbit_ha_findings"]["errors"] == [
        "rabbit_ha:keepalived:authentication:auth_pass: found a value of 17 characters; expected a "
        'string of at most 8 bytes (an ä has 2), without spaces and ! # " $ \\ { } ~ @'
    ]
