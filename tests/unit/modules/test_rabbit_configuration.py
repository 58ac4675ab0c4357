"""rabbit_configuration: files put together, judged where they lie, and then replaced."""

import errno
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

import pytest
import salt.modules.cmdmod
import salt.modules.cp
import salt.modules.file
import salt.modules.pillar
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import TOPOLOGY, faked, functions, load

PILLAR = "rabbit_ha:haproxy:snippets"
SOURCE = "salt://more"
SECRET = "SECRETword"
WITH_SECRET = {**TOPOLOGY, "haproxy": {"monitor": {"password": SECRET}}}
MARK = "# Written by Salt: a snippet of pillar.\n"


class Host:
    """Files below a folder of the test's, a template, and a program that judges."""

    def __init__(self, folder, topology):
        self.main = folder / "etc" / "main.cfg"
        self.folder = folder / "etc" / "conf"
        self.template, self.failure = "global\n", ""
        self.pillar, self.served, self.source = {}, {}, None
        self.context, self.command, self.said = None, None, (0, "")
        self._made = folder / "made"
        self._made.mkdir()
        loaded = faked("file", _File(self), salt.modules.file)
        loaded |= faked("cp", _Cp(self), salt.modules.cp)
        loaded |= {
            "pillar.get": self._pillar_get,
            "cmd.run_all": self._run_all,
        }
        self.module = load(
            "_modules/rabbit_configuration.py",
            salt=topology(pillar=WITH_SECRET) | loaded,
            opts={"saltenv": None, "test": False},
            utils=functions("rabbit_settings", load("_utils/rabbit_settings.py"))
            | functions("rabbit_service_files", load("_utils/rabbit_service_files.py")),
        )

    def _pillar_get(self, key, default, unmask):
        assert unmask is True
        if key == "rabbit_ha":
            return WITH_SECRET
        assert key == PILLAR
        return {"source": self.source, "text": self.pillar}

    def _run_all(self, command, **kwargs):
        assert kwargs["python_shell"] is False
        assert kwargs["output_loglevel"] == "quiet"
        self.command = command
        retcode, text = self.said
        return {"retcode": retcode, "stdout": text.replace("ROOT", command[-1])}

    def stage(self):
        return self.module.stage(str(self.main), "salt://main.j2", str(self.folder), ".cfg", PILLAR)

    def deploy(self):
        """Put together and install; returns what differed."""
        staged = self.stage()
        changes = self.module.differences(staged)
        self.module.install(staged)
        assert self.module.differences(staged) == {}
        self.module.discard(staged)
        assert not os.path.exists(staged["root"])
        return {pathlib.Path(path).name: change for path, change in changes.items()}

    def texts(self):
        return {path.name: path.read_text() for path in [self.main, *self.folder.glob("*")]}


class _File:
    """Salt's ``file``: a template that was rendered lies in a file of its own."""

    def __init__(self, host):
        self._host = host

    def get_managed(
        self,
        name,
        template,
        source,
        source_hash,
        source_hash_name,
        user,
        group,
        mode,
        attrs,
        saltenv,
        context,
        defaults,
        skip_verify=False,
        verify_ssl=True,
        use_etag=False,
        source_hash_sig=None,
        signed_by_any=None,
        signed_by_all=None,
        keyring=None,
        gnupghome=None,
        ignore_ordering=False,
        ignore_whitespace=False,
        ignore_comment_characters=None,
        sig_backend="gpg",
        **kwargs,
    ):
        assert (template, source, saltenv) == ("jinja", "salt://main.j2", "base")
        self._host.context = context
        if self._host.failure:
            return None, {}, self._host.failure
        path = self._host._made / "rendered"
        path.write_text(self._host.template)
        return str(path), {}, ""


class _Cp:
    """Salt's ``cp``: a folder of the file server."""

    def __init__(self, host):
        self._host = host

    def cache_dir(
        self, path, saltenv=None, include_empty=False, include_pat=None, exclude_pat=None
    ):
        assert path == SOURCE
        for name, content in self._host.served.items():
            (self._host._made / name).parent.mkdir(exist_ok=True)
            (self._host._made / name).write_bytes(content)
        return [str(self._host._made / name) for name in self._host.served]


@pytest.fixture
def host(tmp_path, topology):
    return Host(tmp_path, topology)


@pytest.mark.parametrize("full", ["mkdtemp", "rendered"])
def test_a_full_disk_is_an_error_that_names_the_file(host, monkeypatch, full):

    def fails(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if full == "mkdtemp":
        monkeypatch.setattr(tempfile, "mkdtemp", fails)
    else:
        host.module.__salt__["file.get_managed"] = fails
    with pytest.raises(CommandExecutionError, match="main.cfg could not be put together.*No space"):
        host.stage()


def test_the_main_file_alone_is_created_once_for_its_owner_only(host):
    assert host.deploy() == {"main.cfg": "created"}
    assert host.texts() == {"main.cfg": "global\n"}
    assert stat.S_IMODE(host.main.stat().st_mode) == 0o600
    assert host.deploy() == {}


def test_a_rendered_template_is_not_left_behind(host):
    host.deploy()
    assert list(host._made.iterdir()) == []


def test_snippets_come_from_pillar_and_from_a_folder_of_the_file_server(host):
    host.pillar = {"one": "a\n\n"}
    host.source = SOURCE
    host.served = {"two.cfg": b"b", "three.cfg": b"\xff\n", "README": b""}
    host.deploy()
    folder = host.folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "one.cfg": b"a\n" + MARK.encode(),
        "two.cfg": b"b\n" + MARK.encode(),
        "three.cfg": b"\xff\n" + MARK.encode(),
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("spelling", ["{}/", "{}//", "{}/.", "{}/../conf"])
def test_a_snippet_stays_however_the_folder_is_spelt(host, spelling):
    host.pillar = {"one": "a"}
    folder, main = spelling.format(host.folder), f"{host.main.parent}//{host.main.name}"
    for changes in ({str(host.main): "created", f"{host.folder}/one.cfg": "created"}, {}, {}):
        staged = host.module.stage(main, "salt://main.j2", folder, ".cfg", PILLAR)
        assert host.module.differences(staged) == changes
        host.module.install(staged)
        host.module.discard(staged)
        assert sorted(host.texts()) == ["main.cfg", "one.cfg"]


@pytest.mark.parametrize(
    ("pillar", "file", "expected"),
    [({}, False, False), ({"a": "x"}, False, True), ({}, True, True)],
)
def test_the_template_is_told_whether_anything_is_in_the_folder(host, pillar, file, expected):
    host.pillar = pillar
    host.folder.mkdir(parents=True)
    (host.folder / ("own.cfg" if file else "readme.txt")).write_text("x\n")
    host.stage()
    assert host.context == {"snippets": expected}


def test_a_snippet_that_left_pillar_is_removed_and_what_others_put_there_stays(host):
    host.folder.mkdir(parents=True)
    (host.folder / "own.cfg").write_text("own\n")
    host.pillar = {"one": "a", "two": "b"}
    host.deploy()
    host.pillar = {"two": "b"}
    assert host.deploy() == {"one.cfg": "removed"}
    assert host.texts() == {
        "main.cfg": "global\n",
        "own.cfg": "own\n",
        "two.cfg": f"b\n{MARK}",
    }


def test_what_others_put_there_is_judged_with_the_rest(host):
    host.folder.mkdir(parents=True)
    (host.folder / "own.cfg").write_text("own\n")
    (host.folder / ".hidden.cfg").write_text("x\n")
    (host.folder / "readme.txt").write_text("x\n")
    (host.folder / "stale.cfg").write_text(f"x\n{MARK}")
    host.pillar = {"one": "a"}
    staged = host.stage()
    there = pathlib.Path(f"{staged['root']}{host.folder}")
    assert sorted(path.name for path in there.iterdir()) == ["one.cfg", "own.cfg"]


def test_the_folder_is_there_to_be_judged_even_when_it_is_empty(host):
    staged = host.stage()
    assert os.path.isdir(f"{staged['root']}{host.folder}")


def test_another_content_or_mode_is_a_change(host):
    host.deploy()
    host.main.write_text("other\n")
    assert host.deploy() == {"main.cfg": "changed"}
    host.main.chmod(0o644)
    assert host.deploy() == {"main.cfg": "changed"}
    assert stat.S_IMODE(host.main.stat().st_mode) == 0o600


def test_a_snippet_given_twice_is_refused(host):
    host.source, host.pillar, host.served = SOURCE, {"one": "a"}, {"one.cfg": b"b"}
    with pytest.raises(SaltInvocationError, match=f"one.cfg is at {PILLAR}:text and at {SOURCE}"):
        host.stage()


def test_a_snippet_that_two_folders_have_is_refused(host):
    host.source, host.served = SOURCE, {"a/one.cfg": b"a", "b/one.cfg": b"b"}
    with pytest.raises(SaltInvocationError, match=f"one.cfg is in two folders below {SOURCE}"):
        host.stage()


def test_a_folder_that_the_master_does_not_serve_is_refused(host):
    host.source, host.served = SOURCE, {"README": b""}
    with pytest.raises(SaltInvocationError, match=r"salt://more: the master's .* has no \*.cfg"):
        host.stage()


def test_a_template_that_does_not_render_says_why(host):
    host.failure = "line 3: unknown tag"
    with pytest.raises(CommandExecutionError, match="salt://main.j2: line 3: unknown tag"):
        host.stage()


def test_the_program_is_shown_the_files_where_they_lie(host):
    staged = host.stage()
    host.module.judge(staged, ["haproxy", "-c", "-f", "{root}/etc/main.cfg"])
    assert host.command == ["haproxy", "-c", "-f", f"{staged['root']}/etc/main.cfg"]


def test_what_it_says_is_told_without_secrets_and_with_the_files_own_names(host):
    staged = host.stage()
    host.said = (1, f"ROOT/etc/main.cfg:3: unknown keyword {SECRET}")
    with pytest.raises(CommandExecutionError) as raised:
        host.module.judge(staged, ["haproxy", "-c", "{root}"])
    assert str(raised.value) == (
        "haproxy refuses what pillar makes of it, so nothing was replaced: /etc/main.cfg:3: "
        "unknown keyword …"
    )


def test_a_program_that_says_nothing_is_told_by_its_exit_code(host):
    staged = host.stage()
    host.said = (5, "")
    with pytest.raises(CommandExecutionError, match="nothing was replaced: exit code 5"):
        host.module.judge(staged, ["keepalived", "{root}"])


def test_files_that_cannot_be_put_together_are_an_error_and_leave_nothing(host, monkeypatch):
    made = []

    def no_space(path, content):
        made.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host.module, "_write", no_space)
    with pytest.raises(CommandExecutionError, match="could not be put together: .*No space left"):
        host.stage()
    assert not os.path.exists(os.path.dirname(made[0]))


def test_a_file_that_cannot_be_written_is_an_error_and_the_old_one_stays(host, monkeypatch):
    host.deploy()
    host.template = "other\n"
    staged = host.stage()

    def no_space(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host.module, "_write", no_space)
    with pytest.raises(CommandExecutionError, match="it could not be written: .*No space"):
        host.module.install(staged)
    assert host.texts() == {"main.cfg": "global\n"}


def test_when_one_of_several_cannot_be_written_none_is_replaced(host, monkeypatch):
    host.deploy()
    host.template, host.pillar = "other\n", {"one": "a"}
    staged = host.stage()
    write, written = host.module._write, []

    def no_space_for_the_second(path, content):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(host.module, "_write", no_space_for_the_second)
    with pytest.raises(CommandExecutionError, match="No space"):
        host.module.install(staged)
    assert host.texts() == {"main.cfg": "global\n"}
    assert list(host.folder.iterdir()) == []
    assert [path.name for path in host.main.parent.glob(".*")] == []


def test_a_folder_has_snippets_where_pillar_or_anybody_else_has_some(host):
    def has_snippets():
        return host.module.has_snippets(str(host.folder), ".cfg", PILLAR)

    assert not has_snippets()
    host.folder.mkdir(parents=True)
    (host.folder / "README").write_text("")
    assert not has_snippets()
    host.source = SOURCE
    assert has_snippets()
    host.source, host.pillar = None, {"extra": "listen extra"}
    assert has_snippets()
    host.pillar = {}
    (host.folder / "theirs.cfg").write_text("")
    assert has_snippets()


def test_a_file_that_others_wrote_is_kept_once_for_its_owner_only(host):
    host.main.parent.mkdir(parents=True)
    host.main.write_text("by hand\n")
    copy = f"{host.main}.before_salt"
    assert host.module.copy_to_keep(str(host.main)) == copy
    assert host.module.keep(str(host.main)) == copy
    assert pathlib.Path(copy).read_text() == "by hand\n"
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    host.main.write_text("by another hand\n")
    assert host.module.keep(str(host.main)) is None
    assert pathlib.Path(copy).read_text() == "by hand\n"
    assert sorted(os.listdir(host.main.parent)) == ["main.cfg", "main.cfg.before_salt"]


@pytest.mark.parametrize("text", [None, "#!/bin/sh\n# Written by Salt. It does.\n"])
def test_there_is_nothing_to_keep_where_salt_wrote_the_file_or_there_is_none(host, text):
    if text:
        host.main.parent.mkdir(parents=True)
        host.main.write_text(text)
    assert host.module.keep(str(host.main)) is None


def test_a_link_where_a_file_is_written_leads_root_nowhere(host, tmp_path):
    host.main.parent.mkdir(parents=True)
    host.main.write_text("by hand\n")
    elsewhere = tmp_path / "elsewhere"
    for name in (".main.cfg.before_salt.new", ".main.cfg.new"):
        (host.main.parent / name).symlink_to(elsewhere)
    assert host.module.keep(str(host.main))
    host.deploy()
    assert not elsewhere.exists()


def test_a_copy_that_cannot_be_written_is_an_error(host):
    host.main.parent.mkdir(parents=True)
    host.main.write_text("by hand\n")
    (host.main.parent / ".main.cfg.before_salt.new").mkdir()
    with pytest.raises(CommandExecutionError, match="main.cfg.before_salt could not be written"):
        host.module.keep(str(host.main))


def test_what_a_killed_run_put_together_is_discarded(host, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, mine, others = (
        tmp_path / name
        for name in (f"rabbit_ha.{gone.pid}.a", f"rabbit_ha.{os.getpid()}.b", "c.d.e")
    )
    for folder in (left, mine, others):
        (folder / "etc").mkdir(parents=True)
    (tmp_path / f"rabbit_ha.{gone.pid}.link").symlink_to(others)
    staged = host.stage()
    assert not left.exists()
    assert mine.exists() and (others / "etc").exists()
    host.module.discard(staged)


@pytest.fixture
def rabbitmq(host, tmp_path, monkeypatch):
    """Return a function that installs RabbitMQ and Erlang; it tells the configuration's path."""
    host.module._RABBITMQ_PLUGINS = str(tmp_path / "rabbitmq_server-*" / "plugins")
    host.module._MORE_PLUGINS = str(tmp_path / "plugins")

    def install(*files, erl="/usr/bin/erl"):
        monkeypatch.setattr(shutil, "which", {"erl": erl}.get)
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        (tmp_path / "rabbitmq-env.conf").write_text("#PLUGINS_DIR=/opt\nNODENAME=rabbit\n")
        return tmp_path / "rabbitmq.conf"

    return install


CUTTLEFISH = "rabbitmq_server-3.10.8/plugins/cuttlefish-3.0.1/ebin/cuttlefish.app"
RABBIT = "rabbitmq_server-3.10.8/plugins/rabbit-3.10.8/ebin/rabbit.app"
ANOTHER = "plugins/another-1.0/ebin/another.app"


def test_rabbitmq_s_own_schemas_judge_its_configuration(host, rabbitmq, tmp_path):
    path = rabbitmq(CUTTLEFISH, RABBIT, ANOTHER)
    command = host.module.rabbitmq_check(str(path))
    code = [str((tmp_path / file).parent) for file in (CUTTLEFISH, RABBIT, ANOTHER)]
    assert command[:2] == ["env", "HOME=/"]
    assert command[command.index("-pa") + 1 : command.index("-eval")] == code
    folders = [str(tmp_path / "rabbitmq_server-3.10.8" / "plugins"), str(tmp_path / "plugins")]
    assert command[command.index("-extra") + 1 :] == [f"{{root}}{path}", *folders]


@pytest.mark.parametrize(
    ("files", "erl"),
    [
        ([], "/usr/bin/erl"),
        ([RABBIT], "/usr/bin/erl"),
        ([CUTTLEFISH, RABBIT], None),
        ([CUTTLEFISH, RABBIT, RABBIT.replace("3.10.8", "4.0.5")], "/usr/bin/erl"),
        ([CUTTLEFISH, RABBIT, "plugins/another-1.0.ez"], "/usr/bin/erl"),
    ],
)
def test_where_not_all_schemas_can_be_read_nothing_judges(host, rabbitmq, files, erl):
    assert host.module.rabbitmq_check(str(rabbitmq(*files, erl=erl))) is None


def test_with_plugins_elsewhere_nothing_judges(host, rabbitmq):
    path = rabbitmq(CUTTLEFISH, RABBIT)
    path.with_name("rabbitmq-env.conf").write_text("PLUGINS_DIR=/opt/plugins\n")
    assert host.module.rabbitmq_check(str(path)) is None


def test_the_message_names_the_program_that_it_is_told(host):
    host.said = (1, "Conf file attempted to set unknown variable: hartbeat")
    staged = host.stage()
    with pytest.raises(CommandExecutionError, match="^RabbitMQ refuses .* variable: hartbeat"):
        host.module.judge(staged, ["env", "erl", "{root}"], "RabbitMQ")


def test_content_is_the_same_whoever_may_read_it(host):
    staged = host.stage()
    assert not host.module.has_same_content(staged)
    host.main.parent.mkdir(exist_ok=True)
    host.main.write_text("global\n")
    host.main.chmod(0o644)
    assert host.module.has_same_content(staged)
    host.main.write_text("another\n")
    assert not host.module.has_same_content(staged)
