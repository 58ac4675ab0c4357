"""The command line: whose option is whose."""

import contextlib
import types
from unittest.mock import create_autospec

import pytest

from lab import cli, faults, image, record
from lab.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "name", "rest"),
    [
        (["--name", "x", "up"], "x", ["up"]),
        (["--name=x", "up"], "x", ["up"]),
        (["host", "--", "cmd", "--name", "y"], None, ["host", "--", "cmd", "--name", "y"]),
        ([], None, []),
    ],
)
def test_takes_only_a_leading_name(arguments, name, rest):
    assert cli.take_name(arguments) == (name, rest)


def test_a_name_option_wants_a_name():
    with pytest.raises(UsageError):
        cli.take_name(["--name"])


@pytest.fixture
def passed(monkeypatch):
    """Return what reached the pass-through verbs."""
    seen = []
    monkeypatch.setattr(cli, "_check_root", lambda: None)
    monkeypatch.setattr(cli, "_pass_through", lambda *words: seen.append(words) or 0)
    monkeypatch.delenv("RABBIT_HA_LAB", raising=False)
    return seen


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["salt", "-t", "5", "*", "test.ping"], ("salt", "default", ["-t", "5", "*", "test.ping"])),
        (["--name", "x", "salt-run", "--help-me"], ("salt-run", "x", ["--help-me"])),
        (
            ["exec", "--name", "x", "h", "--", "c", "--name", "y"],
            ("exec", "x", ["h", "--", "c", "--name", "y"]),
        ),
        (["--name", "a", "run", "--name", "b", "--", "c"], ("run", "b", ["--", "c"])),
    ],
)
def test_what_follows_belongs_to_the_command(passed, arguments, expected):
    assert cli.main(arguments) == 0
    assert passed == [expected]


def test_name_from_the_environment(passed, monkeypatch):
    monkeypatch.setenv("RABBIT_HA_LAB", "mine")
    cli.main(["run", "true"])
    assert passed[0][1] == "mine"


@pytest.mark.parametrize("name", ["Upper", "a/b", ".hidden", "x" * 32, "-x"])
def test_refuses_names_that_cannot_be_folders(passed, name, capsys):
    assert cli.main([f"--name={name}", "run", "true"]) == 2
    assert "cannot be a lab's name" in capsys.readouterr().err


def test_parses_up():
    found = cli.parser().parse_args(["up", "--release", "trixie", "--no-master", "--name", "x"])
    assert (found.release, found.no_master, found.name) == ("trixie", True, "x")


def test_an_image_is_built_of_the_release_asked_for(monkeypatch):
    build = create_autospec(image.ensure)
    monkeypatch.setattr(image, "ensure", build)
    monkeypatch.setattr(cli, "_check_root", lambda: None)
    assert cli.main(["image", "forky"]) == 0
    assert build.call_args.args[0] == "forky"


def test_parses_cut_with_peers():
    found = cli.parser().parse_args(["cut", "a", "b", "master"])
    assert (found.host, found.peers) == ("a", ["b", "master"])


@pytest.mark.parametrize(
    "arguments", [["up", "--release", "sarge"], ["image"], ["nonsense"], [], ["cut"]]
)
def test_refuses_what_it_does_not_know(arguments):
    with pytest.raises(SystemExit) as refused:
        cli.parser().parse_args(arguments)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("poweroff a", "a is off\n"),
        ("boot a", "a is on, and boots\n"),
        ("reinstall a", "a is bare, and boots\n"),
        ("freeze a", "a hangs\n"),
        ("thaw a", "a goes on\n"),
        ("heal a", "a has no cut\n"),
        ("heal", "the lab has no cut\n"),
        ("cut a", "a is cut from everyone\n"),
        ("cut a b master", "a is cut from b, master\n"),
    ],
)
def test_a_fault_says_what_it_has_done_but_not_to_programs(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(cli, "_check_root", lambda: None)
    monkeypatch.setattr(record, "require", lambda name: types.SimpleNamespace(name=name))
    monkeypatch.setattr(record, "held", lambda *_: contextlib.nullcontext())
    for name in ("power_off", "boot", "reinstall", "freeze", "thaw", "heal", "cut"):
        monkeypatch.setattr(faults, name, create_autospec(getattr(faults, name)))
    assert cli.main(arguments.split()) == 0
    assert capsys.readouterr() == ("", said)
