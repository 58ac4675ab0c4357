"""rabbit_cookie: real keys and files; the cookie is in no return, no argument and no error."""

import getpass
import os
import pathlib
import pwd
import stat
from unittest.mock import create_autospec

import pytest
import salt.modules.cmdmod
import salt.modules.file
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import TOPOLOGY, functions, load, not_root, write_key

COOKIE = "SEEDSCOOKIEABCDEFGHI"


@pytest.fixture(scope="module")
def public_keys(tmp_path_factory):
    """Map two minions to their public keys, and keep the private ones."""
    root = tmp_path_factory.mktemp("pki")
    return root, {minion: write_key(root / minion) for minion in ("seed", "joining")}


@pytest.fixture
def host(tmp_path, public_keys, topology):
    """Return a function that loads ``rabbit_cookie`` on a minion with a cookie or none."""

    def build(minion, cookie=None, pillar_cookie=None, user=None):
        data_dir = tmp_path / minion
        data_dir.mkdir(exist_ok=True)
        if cookie is not None:
            path = data_dir / ".erlang.cookie"
            path.write_text(cookie)
            path.chmod(0o400)
        rabbitmq = {
            "data_dir": str(data_dir),
            "service_user": user or getpass.getuser(),
            "service": "own",
            "erlang_cookie": pillar_cookie,
        }
        return load(
            "_modules/rabbit_cookie.py",
            salt=topology(minion=minion, pillar={**TOPOLOGY, "rabbitmq": rabbitmq})
            | {"file.stats": salt.modules.file.stats}
            | {"rabbitmqctl.forget_cached_reads": create_autospec(lambda: None)},
            utils=functions("rabbit_service_files", load("_utils/rabbit_service_files.py")),
            opts={"pki_dir": str(public_keys[0] / minion)},
            pillar={"rabbit_ha": {"rabbitmq": rabbitmq}},
            grains={"id": minion},
        )

    return build


def cookie_file(tmp_path, minion):
    return tmp_path / minion / ".erlang.cookie"


def test_what_the_seed_seals_the_minion_it_is_for_can_open(host, public_keys, tmp_path):
    sealed = host("seed", cookie=COOKIE).seal(public_keys[1])
    joining = host("joining", cookie="OTHER")
    assert joining.matches(sealed["joining"]) is False
    joining.write(sealed["joining"])
    assert cookie_file(tmp_path, "joining").read_text() == COOKIE
    assert joining.matches(sealed["joining"]) is True


def test_a_cookie_of_the_full_255_characters_can_be_sealed(host, public_keys, tmp_path):
    sealed = host("seed", cookie="C" * 255).seal(public_keys[1])
    host("joining").write(sealed["joining"])
    assert cookie_file(tmp_path, "joining").read_text() == "C" * 255


def test_a_sealed_cookie_does_not_show_it_and_is_never_sealed_alike(host, public_keys):
    seed = host("seed", cookie=COOKIE)
    first, second = seed.seal(public_keys[1]), seed.seal(public_keys[1])
    assert COOKIE not in str(first)
    assert first["joining"] != second["joining"]


def test_another_minion_cannot_open_what_is_sealed_for_one(host, public_keys):
    sealed = host("seed", cookie=COOKIE).seal(public_keys[1])
    with pytest.raises(CommandExecutionError, match="cannot be opened.*Next: salt-run"):
        host("seed").matches(sealed["joining"])


@pytest.mark.parametrize("spoilt", ["", "x", "a.b", "QUJD.QUJD", "a.b.c"])
def test_a_spoilt_seal_is_an_error_that_names_the_key(host, spoilt):
    with pytest.raises(CommandExecutionError, match="^the sealed cookie"):
        host("joining", cookie=COOKIE).matches(spoilt)


def test_a_minion_without_its_private_key_says_so(host, public_keys, monkeypatch):
    sealed = host("seed", cookie=COOKIE).seal(public_keys[1])["joining"]
    joining = host("joining", cookie="OTHER")
    monkeypatch.setitem(joining.__opts__, "pki_dir", "/nonexistent")
    with pytest.raises(CommandExecutionError, match="/nonexistent/minion.pem: FileNotFoundError"):
        joining.matches(sealed)


def test_tools_use_a_cookie_that_is_lent_until_it_is_taken_back(host, public_keys):
    sealed = host("seed", cookie=f"{COOKIE}\n").seal(public_keys[1])["joining"]
    joining = host("joining", cookie="OTHER")
    run = create_autospec(salt.modules.cmdmod.run_all)
    run.return_value = {"pid": 1, "retcode": 0, "stdout": "", "stderr": ""}
    tools = load("_modules/rabbitmqctl.py", salt={"cmd.run_all": run}, context=joining.__context__)
    joining.lend(sealed)
    tools.stop_app()
    joining.take_back()
    tools.stop_app()
    first, second = (call.kwargs["env"] for call in run.call_args_list)
    assert first == {**second, "RABBITMQ_ERLANG_COOKIE": COOKIE}
    assert COOKIE not in str(run.call_args_list[0].args)
    assert joining.__salt__["rabbitmqctl.forget_cached_reads"].call_count == 2
    assert joining.matches(sealed) is False


def test_a_seed_without_a_cookie_has_nothing_to_seal(host, public_keys):
    with pytest.raises(
        CommandExecutionError, match=r"^/.*\.erlang\.cookie is not there.*Next: systemctl start own"
    ):
        host("seed").seal(public_keys[1])


def test_what_is_no_public_key_is_refused_by_the_minion_s_name(host):
    with pytest.raises(SaltInvocationError, match="^joining: not a public key"):
        host("seed", cookie=COOKIE).seal({"joining": "no key"})


def test_without_a_seal_pillar_s_cookie_is_the_wanted_one(host, tmp_path):
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE)
    assert joining.matches() is False
    joining.write()
    assert joining.matches() is True
    assert cookie_file(tmp_path, "joining").read_text() == COOKIE


def test_with_neither_seal_nor_pillar_there_is_nothing_to_compare_with(host):
    with pytest.raises(SaltInvocationError, match="rabbit_ha:rabbitmq:erlang_cookie is empty"):
        host("joining", cookie=COOKIE).matches()


def test_a_host_without_a_cookie_matches_none(host):
    joining = host("joining", pillar_cookie=COOKIE)
    assert joining.matches() is False


@pytest.mark.parametrize(("here", "wanted"), [(COOKIE + "\n", COOKIE), (COOKIE, COOKIE + "\n")])
def test_a_line_end_after_the_cookie_does_not_matter(host, here, wanted):
    assert host("joining", cookie=here, pillar_cookie=wanted).matches() is True


def test_the_cookie_is_written_for_its_user_only_and_the_old_one_is_kept(host, tmp_path):
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE)
    backup = joining.write()
    for path, content in ((cookie_file(tmp_path, "joining"), COOKIE), (backup, "OTHER")):
        with open(path) as handle:
            assert handle.read() == content
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o400
    assert sorted(os.listdir(tmp_path / "joining")) == [".erlang.cookie", os.path.basename(backup)]
    assert joining.has_right_mode() is True


def test_a_cookie_is_private_from_its_first_byte_on(host, monkeypatch):
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE)
    fsync, modes = os.fsync, []

    def synced(descriptor):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    joining.write()
    assert modes == [0o400] * 2


def test_the_cookie_gets_its_user_s_group_also_where_that_has_another_name(
    host, tmp_path, monkeypatch
):
    given = []
    entry = pwd.struct_passwd(("broker", "x", 4711, 4712, "", "/", "/bin/sh"))
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE, user="broker")
    monkeypatch.setattr(pwd, "getpwnam", {"broker": entry}.__getitem__)
    monkeypatch.setattr(os, "fchown", lambda *arguments: given.append(arguments[1:]))
    joining.write()
    joining.protect()
    assert given == [(4711, 4712)] * 2


def test_where_there_was_no_cookie_there_is_no_backup(host, tmp_path):
    assert host("joining", pillar_cookie=COOKIE).write() is None
    assert os.listdir(tmp_path / "joining") == [".erlang.cookie"]


def test_a_file_that_cannot_be_written_is_an_error_and_the_old_cookie_stays(host, tmp_path):
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE, user="no-such-user")
    with pytest.raises(CommandExecutionError, match="^/.*could not be written: .*no-such"):
        joining.write()
    assert cookie_file(tmp_path, "joining").read_text() == "OTHER"


def test_a_cookie_that_does_not_reach_the_disk_leaves_the_old_one(host, tmp_path, monkeypatch):
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE)
    full = create_autospec(os.fsync, side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CommandExecutionError, match="could not be written: .*No space left"):
        joining.write()
    full.assert_called_once()
    assert cookie_file(tmp_path, "joining").read_text() == "OTHER"


def test_what_a_killed_run_left_behind_is_no_obstacle(host, tmp_path):
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE)
    left = tmp_path / "joining" / ".erlang.cookie.new"
    left.write_text("HALF")
    left.chmod(0o400)
    joining.write()
    assert joining.matches() is True
    assert not left.exists()


def test_a_link_where_the_new_cookie_is_written_leads_root_nowhere(host, tmp_path):
    joining = host("joining", cookie="OTHER", pillar_cookie=COOKIE)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "joining" / ".erlang.cookie.new").symlink_to(elsewhere)
    joining.write()
    assert joining.matches() is True
    assert not elsewhere.exists()


@pytest.mark.parametrize("put", [pathlib.Path.symlink_to, pathlib.Path.hardlink_to])
@pytest.mark.parametrize("step", ["matches", "write", "protect"])
def test_what_is_in_the_cookie_s_place_but_elsewhere_too_is_neither_read_nor_given_away(
    host, tmp_path, put, step
):
    joining = host("joining", pillar_cookie=COOKIE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(COOKIE)
    elsewhere.chmod(0o644)
    put(cookie_file(tmp_path, "joining"), elsewhere)
    with pytest.raises(CommandExecutionError, match="Next: ls -l"):
        getattr(joining, step)()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
    assert os.listdir(tmp_path / "joining") == [".erlang.cookie"]


def test_a_pipe_in_the_cookie_s_place_keeps_nobody_waiting(host, tmp_path):
    joining = host("joining", pillar_cookie=COOKIE)
    os.mkfifo(cookie_file(tmp_path, "joining"))
    with pytest.raises(CommandExecutionError, match="is no file"):
        joining.matches()


@pytest.mark.parametrize(("mode", "right"), [(0o400, True), (0o440, False), (0o644, False)])
def test_a_mode_that_lets_others_read_is_not_right(host, tmp_path, mode, right):
    joining = host("joining", cookie=COOKIE)
    cookie_file(tmp_path, "joining").chmod(mode)
    assert joining.has_right_mode() is right


def test_a_minion_that_may_not_read_the_cookie_says_so(host, monkeypatch):
    joining = host("joining", cookie=COOKIE, pillar_cookie=COOKIE)
    not_root(monkeypatch)
    with pytest.raises(CommandExecutionError, match="erlang.cookie cannot be read: .* as root"):
        joining.matches()
