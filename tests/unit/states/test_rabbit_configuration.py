"""rabbit_configuration, the state: judged as a whole, then replaced, and read again."""

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import Breakable, faked, load

MAIN = "/etc/haproxy/haproxy.cfg"
RABBITMQ_CONF = "/etc/rabbitmq/rabbitmq.conf"
SNIPPET = "/etc/haproxy/conf/more.cfg"
CHECK = ["haproxy", "-c", "-f", "{root}/etc/haproxy/haproxy.cfg"]
LOW = {"__sls__": "rabbit_ha.haproxy.configured"}


class Configuration(Breakable):
    """``rabbit_configuration``: two files, and a stage that must not be left behind."""

    def __init__(self, there=()):
        super().__init__()
        self.there = set(there)
        # Those there that others wrote.
        self.foreign = set()
        self.staged = 0
        self.same, self.rabbitmq_installed = False, True

    def rabbitmq_check(self, path):
        return ["erl", "-extra", f"{{root}}{path}"] if self.rabbitmq_installed else None

    def has_same_content(self, staged):
        return self.same

    def copy_to_keep(self, path):
        return f"{path}.before_salt" if path in self.foreign else None

    def keep(self, path):
        if path in self.foreign and self._takes("keep", path):
            self.foreign.discard(path)

    def stage(self, name, source, folder=None, suffix="", snippets=None):
        self.staged += 1
        if "stage" in self.fails:
            self.staged -= 1
            raise self.fails["stage"]
        return {"root": "/tmp/x", "files": [MAIN, SNIPPET], "stale": []}

    def differences(self, staged):
        return {path: "created" for path in staged["files"] if path not in self.there}

    def judge(self, staged, check, program=None):
        self._takes("judge", check)

    def install(self, staged):
        if self._takes("install"):
            self.there.update(staged["files"])

    def discard(self, staged):
        self.staged -= 1


class Host:
    def __init__(self, test=False, there=(), running=(), program="haproxy"):
        self.configuration = Configuration(there)
        real = load("_modules/rabbit_configuration.py")
        loaded = faked("rabbit_configuration", self.configuration, real)
        self.check, self.low = [program, *CHECK[1:]], dict(LOW)
        self._states = load(
            "_states/rabbit_configuration.py",
            salt=loaded,
            opts={"test": test},
            low=self.low,
            running={number: ret for number, ret in enumerate(running)},
        )

    def checked(self):
        ret = self._states.checked(MAIN, "salt://haproxy.cfg.j2", self.check)
        assert self.configuration.staged == 0
        return ret

    def kept(self):
        return self._states.kept(MAIN)

    def accepted(self):
        ret = self._states.accepted(RABBITMQ_CONF, "salt://rabbitmq.conf.j2")
        assert self.configuration.staged == 0
        return ret


def test_it_is_judged_and_then_replaced_and_a_second_run_does_neither():
    host = Host()
    ret = host.checked()
    assert ret["result"] is True
    assert ret["changes"] == {MAIN: "created", SNIPPET: "created"}
    assert ret["comment"] == f"{SNIPPET}, {MAIN} has been replaced"
    again = host.checked()
    assert (again["result"], again["changes"]) == (True, {})
    assert again["comment"] == f"{MAIN} and its snippets are already as described"
    assert host.configuration.writes == [("judge", CHECK), ("install",)]


@pytest.mark.parametrize("there", [(), (MAIN,)])
def test_in_test_mode_it_would_be_replaced_also_where_there_is_no_program_yet(there):
    host = Host(test=True, there=there, program="/nowhere/haproxy")
    ret = host.checked()
    assert ret["result"] is None
    assert ret["changes"]
    assert ret["comment"].endswith(
        " would have been replaced, once its program is ready to judge it"
    )
    assert host.configuration.writes == []


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "haproxy"
    path.write_text("")
    return str(path)


def before(sls, result):
    """What a state before this one returned."""
    return {"__sls__": sls, "result": result, "changes": {"x": 1}}


def test_in_test_mode_the_program_judges_also_a_state_that_is_called_alone(program):
    host = Host(test=True, program=program)
    host.low.pop("__sls__")
    assert host.checked()["result"] is None
    assert [write[0] for write in host.configuration.writes] == ["judge"]


def test_in_test_mode_the_program_judges_where_it_is(program):
    running = [
        before("rabbit_ha.haproxy.installed", True),
        before("rabbit_ha.hosts.named", None),
        before("rabbit_ha.keepalived.installed", None),
    ]
    host = Host(test=True, program=program, running=running)
    ret = host.checked()
    assert (ret["result"], bool(ret["changes"])) == (None, True)
    assert ret["comment"].endswith(" would have been replaced")
    assert host.configuration.writes == [("judge", host.check)]


def test_in_test_mode_what_the_program_refuses_is_predicted_to_fail(program):
    host = Host(test=True, program=program)
    host.configuration.fails = {"judge": CommandExecutionError("haproxy refuses: line 3")}
    ret = host.checked()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"] == f"rabbitmq-node2: {MAIN}: haproxy refuses: line 3"


@pytest.mark.parametrize("sls", ["installed", "installed_from_source", "configured"])
def test_in_test_mode_a_program_that_is_about_to_change_does_not_judge(program, sls):
    """Another build may take what this one refuses; a user may be missing so far."""
    host = Host(test=True, program=program, running=[before(f"rabbit_ha.haproxy.{sls}", None)])
    assert host.checked()["result"] is None
    assert host.configuration.writes == []


def test_in_test_mode_nothing_is_to_be_done_where_all_is_there():
    ret = Host(test=True, there=(MAIN, SNIPPET)).checked()
    assert (ret["result"], ret["changes"]) == (True, {})


def test_what_the_program_refuses_is_not_written():
    host = Host()
    host.configuration.fails = {"judge": CommandExecutionError("haproxy refuses: line 3")}
    ret = host.checked()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"] == f"rabbitmq-node2: {MAIN}: haproxy refuses: line 3"
    assert host.configuration.there == set()


def test_what_cannot_be_put_together_is_an_error_that_names_the_file():
    host = Host()
    host.configuration.fails = {"stage": SaltInvocationError("twice")}
    assert host.checked()["comment"] == f"rabbitmq-node2: {MAIN}: twice"


def test_a_write_that_silently_does_nothing_is_noticed():
    host = Host()
    host.configuration.lost = {"install"}
    ret = host.checked()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "was written, yet reads otherwise" in ret["comment"]


def test_what_others_wrote_is_kept_before_it_is_replaced():
    host = Host(there=(SNIPPET,))
    host.configuration.foreign = {MAIN}
    ret = host.checked()
    assert ret["changes"] == {MAIN: "created", f"{MAIN}.before_salt": "kept as it was"}
    assert ret["comment"] == f"{MAIN} has been replaced"
    assert host.configuration.writes == [("judge", CHECK), ("keep", MAIN), ("install",)]


def test_in_test_mode_what_others_wrote_would_be_kept():
    host = Host(test=True)
    host.configuration.foreign = {MAIN}
    assert host.checked()["changes"][f"{MAIN}.before_salt"] == "kept as it was"
    ret = host.kept()
    assert (ret["result"], ret["changes"]) == (None, {f"{MAIN}.before_salt": "kept as it was"})
    assert "keep" not in [write[0] for write in host.configuration.writes]


def test_a_file_is_kept_once():
    host = Host()
    host.configuration.foreign = {MAIN}
    ret = host.kept()
    assert (ret["result"], ret["changes"]) == (True, {f"{MAIN}.before_salt": "kept as it was"})
    again = host.kept()
    assert (again["result"], again["changes"]) == (True, {})
    assert host.configuration.writes == [("keep", MAIN)]


def test_a_copy_that_silently_is_not_written_is_noticed():
    host = Host()
    host.configuration.foreign, host.configuration.lost = {MAIN}, {"keep"}
    ret = host.kept()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].startswith("rabbitmq-node2: ")


def test_a_copy_that_cannot_be_written_fails_and_nothing_is_replaced():
    host = Host()
    host.configuration.foreign = {MAIN}
    host.configuration.fails = {"keep": CommandExecutionError("no space left")}
    for ret in (host.kept(), host.checked()):
        assert ret["comment"] == f"rabbitmq-node2: {MAIN}: no space left"
    assert host.configuration.there == set()


@pytest.mark.parametrize("test", [False, True])
def test_rabbitmq_judges_its_configuration_in_test_mode_too(test):
    host = Host(test)
    ret = host.accepted()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert host.configuration.writes == [("judge", ["erl", "-extra", f"{{root}}{RABBITMQ_CONF}"])]


@pytest.mark.parametrize("test", [False, True])
def test_what_rabbitmq_would_not_boot_with_fails(test):
    host = Host(test)
    host.configuration.fails = {"judge": CommandExecutionError("RabbitMQ refuses hartbeat")}
    ret = host.accepted()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"] == f"rabbitmq-node2: {RABBITMQ_CONF}: RabbitMQ refuses hartbeat"


@pytest.mark.parametrize("attribute", ["same", "rabbitmq_installed"])
def test_rabbitmq_judges_nothing_that_is_there_already_or_before_it_is_there(attribute):
    host = Host()
    setattr(host.configuration, attribute, attribute == "same")
    ret = host.accepted()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert host.configuration.writes == []
