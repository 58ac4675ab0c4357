"""rabbitmqctl: what its tools are asked, and what is read out of their recorded answers."""

import getpass
import html
import json
import pathlib
import stat
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import salt.modules.cmdmod
from salt.exceptions import CommandExecutionError, SaltInvocationError

from tests.support import RABBITMQ_VERSIONS, TOPOLOGY, functions, load, recorded

DONE = {"retcode": 0, "stdout": "", "stderr": "", "pid": 1}
LOCAL, PEER = None, "rabbit@rabbitmq-node1"


@pytest.fixture
def run():
    """Stand in for ``cmd.run_all``; set ``return_value`` or ``side_effect``."""
    return create_autospec(salt.modules.cmdmod.run_all, return_value=DONE)


@pytest.fixture
def rabbitmqctl(run, epmd):
    settings = create_autospec(load("_modules/rabbit_topology.py").settings)
    settings.return_value = {"rabbitmq": {"service_user": "rabbitmq", "service": "own"}}
    return load(
        "_modules/rabbitmqctl.py", salt={"cmd.run_all": run, "rabbit_topology.settings": settings}
    )


def commands(run):
    """List the argument vectors that were run."""
    return [call.args[0] for call in run.call_args_list]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
@pytest.mark.parametrize(
    ("recording", "node", "state", "says"),
    [
        ("cluster_status", LOCAL, "running", ""),
        ("cluster_status_of_a_peer", PEER, "running", ""),
        ("cluster_status_of_a_fresh_node", LOCAL, "running", ""),
        ("cluster_status_with_a_member_stopped", LOCAL, "running", ""),
        ("app_stopped_local", LOCAL, "app stopped", "requires the 'rabbit' app"),
        ("app_stopped", PEER, "app stopped", "requires the 'rabbit' app"),
        ("node_stopped_local", LOCAL, "node not running", "not running at all"),
        ("node_stopped", PEER, "node not running", "not running at all"),
        ("frozen", PEER, "unreachable", "timed out"),
        ("unknown_host", PEER, "unreachable", "nxdomain"),
        ("no_epmd", PEER, "unreachable", "unable to connect to epmd"),
        ("host_off", PEER, "unreachable", "unable to connect to epmd"),
        ("unknown_node", PEER, "node not running", "not running at all"),
        ("wrong_cookie", PEER, "cookie mismatch", "Erlang cookie is identical"),
        ("wrong_cookie_local", LOCAL, "cookie mismatch", "Erlang cookie is identical"),
    ],
)
def test_the_state_of_a_node_is_read_out_of_what_the_tool_says(
    rabbitmqctl, run, version, recording, node, state, says
):
    run.return_value = recorded(version, recording)
    found = rabbitmqctl.node_state(node)
    assert found["state"] == state
    assert says in found["said"]
    assert (found["status"] is not None) == (state == "running")


@pytest.mark.parametrize("node", [LOCAL, PEER])
def test_a_node_that_waits_for_one_that_lost_its_power_is_not_taken_for_stopped(
    rabbitmqctl, run, node
):
    run.return_value = recorded("3.10.8", "cluster_status_after_a_power_loss")
    found = rabbitmqctl.node_state(node)
    assert (found["state"], found["status"]) == ("unreachable", None)
    assert "timeout" in found["said"]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_what_the_tool_said_leaves_out_its_advice_and_the_hash_of_the_cookie(
    rabbitmqctl, run, version
):
    run.return_value = recorded(version, "unknown_host")
    said = rabbitmqctl.node_state(PEER)["said"]
    assert "Most common reasons" not in said
    assert "hash" not in said


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_running_node_lists_members_running_nodes_and_versions(rabbitmqctl, run, version):
    run.return_value = recorded(version, "cluster_status")
    status = rabbitmqctl.cluster_status()
    assert status["disk_nodes"] == [f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3)]
    assert sorted(status["running_nodes"]) == status["disk_nodes"]
    assert status["versions"]["rabbit@rabbitmq-node1"]["rabbitmq_version"] == version
    assert status["partitions"] == {}
    assert status["alarms"] == []
    assert status["cluster_name"] == "rabbitmq_cluster1"


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_member_that_stopped_is_a_member_still_and_does_not_run(rabbitmqctl, run, version):
    run.return_value = recorded(version, "cluster_status_with_a_member_stopped")
    status = rabbitmqctl.cluster_status()
    assert len(status["disk_nodes"]) == 3
    assert "rabbit@rabbitmq-node1" in status["running_nodes"]
    assert "rabbit@rabbitmq-node2" not in status["running_nodes"]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_fresh_node_is_its_own_only_member(rabbitmqctl, run, version):
    run.return_value = recorded(version, "cluster_status_of_a_fresh_node")
    assert rabbitmqctl.cluster_status()["disk_nodes"] == ["rabbit@rabbitmq-node2"]


def test_warnings_on_both_streams_do_not_spoil_the_answer(rabbitmqctl, run):
    answer = recorded("3.10.8", "cluster_status")
    warning = "warning: the VM is running with native name encoding of latin1 [see docs]\n"
    run.return_value = {**answer, "stdout": warning + answer["stdout"], "stderr": warning}
    assert rabbitmqctl.node_state()["state"] == "running"


def test_an_answer_without_a_document_is_an_error_that_shows_it(rabbitmqctl, run):
    run.return_value = {**DONE, "stdout": "Asking node rabbit@rabbitmq-node2 ..."}
    with pytest.raises(CommandExecutionError, match="expected a JSON document, found 'Asking"):
        rabbitmqctl.node_state()


def test_an_unforeseen_failure_names_node_exit_code_and_words(rabbitmqctl, run):
    run.return_value = {**DONE, "retcode": 70, "stderr": "Error: {badrpc, enomem}"}
    with pytest.raises(
        CommandExecutionError, match=f"^cluster_status of {PEER} exited with 70: .*enomem"
    ):
        rabbitmqctl.node_state(PEER)


def test_a_missing_program_is_named_with_the_next_command(rabbitmqctl, run):
    run.side_effect = CommandExecutionError("Unable to run command 'rabbitmqctl'")
    with pytest.raises(CommandExecutionError, match=r"state\.apply rabbit_ha\.rabbitmq\.installed"):
        rabbitmqctl.node_state()


def test_cluster_status_of_a_node_that_is_down_raises_with_the_next_command(rabbitmqctl, run):
    run.return_value = recorded("3.10.8", "unknown_node")
    with pytest.raises(CommandExecutionError, match="node not running.*systemctl status own$"):
        rabbitmqctl.cluster_status(PEER)


def test_each_node_is_asked_once_until_something_is_written(rabbitmqctl, run):
    run.return_value = recorded("3.10.8", "cluster_status")
    for _ in range(2):
        rabbitmqctl.node_state()
        rabbitmqctl.cluster_status(PEER)
    assert run.call_count == 2
    rabbitmqctl.set_cluster_name("another")
    rabbitmqctl.node_state()
    assert run.call_count == 4


def test_definitions_are_read_once_until_something_else_changed_the_node(rabbitmqctl, run):
    run.return_value = recorded("3.10.8", "export_definitions")
    first = rabbitmqctl.export_definitions()
    assert rabbitmqctl.export_definitions() == first
    assert run.call_count == 1
    rabbitmqctl.forget_cached_reads()
    rabbitmqctl.export_definitions()
    assert run.call_count == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"retcode": -9, "stdout": 'Warning: old\n{"users":[{"password_hash":"s3cret'},
            "reading the definitions failed: export_definitions exited with -9: ",
        ),
        (
            {"retcode": 1, "stdout": "'rabbitmqctl' timed out after 120 seconds"},
            "export_definitions exited with 1: 'rabbitmqctl' timed out after 120 seconds",
        ),
        (
            {"retcode": 69, "stdout": "", "stderr": "Error: no such node"},
            "export_definitions exited with 69: Error: no such node",
        ),
        (
            {"stdout": 'of "s3cret"}'},
            "export_definitions: expected a JSON document, found 12 characters",
        ),
        (
            {"stdout": '{"users":[{"password_hash":"s3cret'},
            "export_definitions: expected a JSON document, found a broken one: ",
        ),
    ],
)
def test_an_export_that_fails_is_told_without_what_was_exported(rabbitmqctl, run, answer, said):
    run.return_value = {**DONE, **answer}
    with pytest.raises(CommandExecutionError) as caught:
        rabbitmqctl.export_definitions(with_secrets=True)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_exported_definitions_hold_users_with_hashes_and_decoded_policies(
    rabbitmqctl, run, version
):
    run.return_value = recorded(version, "export_definitions")
    found = rabbitmqctl.export_definitions(with_secrets=True)
    assert found["rabbitmq_version"] == version
    admin = next(user for user in found["users"] if user["name"] == "admin")
    assert admin["hashing_algorithm"] == "rabbit_password_hashing_sha256"
    assert admin["password_hash"]
    assert all(isinstance(policy["definition"], dict) for policy in found["policies"])


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_definitions_fetched_by_hand_hold_no_hash_and_spoil_nothing_that_is_kept(
    rabbitmqctl, run, version
):
    answer = recorded(version, "export_definitions")
    exported = json.loads(answer["stdout"])
    exported["parameters"] = [{"name": "s", "value": {"src-uri": "amqp://a:S3cret@host"}}]
    run.return_value = {**answer, "stdout": json.dumps(exported)}
    shown = rabbitmqctl.export_definitions()
    kept = rabbitmqctl.export_definitions(with_secrets=True)
    assert run.call_count == 1
    assert {user["password_hash"] for user in shown["users"]} == {None}
    assert shown["parameters"] == [{"name": "s", "value": None}]
    assert shown["policies"] == exported["policies"]
    assert kept == exported


def test_definitions_that_end_early_are_an_error_that_does_not_show_them(rabbitmqctl, run):
    run.return_value = {**DONE, "stdout": '{"users": [{"password_hash": "S3cret"'}
    with pytest.raises(CommandExecutionError, match="found a broken one: Expecting") as raised:
        rabbitmqctl.export_definitions()
    assert "S3cret" not in str(raised.value)


@pytest.fixture
def importing(run, topology, tmp_path):
    """Return a function that loads the module on a host; ``run`` notes what file it sees."""
    seen = []

    def look(command, **kwargs):
        path = pathlib.Path(command[-1])
        seen.append((json.loads(path.read_text()), stat.S_IMODE(path.stat().st_mode)))
        return DONE

    def build(user=None, data_dir=tmp_path):
        rabbitmq = {"data_dir": str(data_dir), "service_user": user or getpass.getuser()}
        run.side_effect = look
        pillar = {**TOPOLOGY, "rabbitmq": rabbitmq}
        salt = {"cmd.run_all": run} | topology(pillar=pillar)
        utils = {}
        for name in ("rabbit_settings", "rabbit_service_files"):
            utils |= functions(name, load(f"_utils/{name}.py"))
        return load("_modules/rabbitmqctl.py", salt=salt, utils=utils), seen

    return build


def test_definitions_travel_in_a_file_for_rabbitmq_s_user_only_that_is_gone_afterwards(
    importing, run, tmp_path
):
    rabbitmqctl, seen = importing()
    definitions = {"users": [{"name": "a", "password_hash": "s3cret"}]}
    rabbitmqctl.import_definitions(definitions)
    assert seen == [(definitions, 0o600)]
    assert list(tmp_path.iterdir()) == []
    [command] = commands(run)
    assert "s3cret" not in " ".join(command)


def test_a_file_that_a_killed_run_left_is_in_nobody_s_way(importing, tmp_path):
    rabbitmqctl, seen = importing()
    left = pathlib.Path(rabbitmqctl.import_file())
    assert left.parent == tmp_path
    left.write_text("half of it")
    rabbitmqctl.import_definitions({"users": []})
    assert seen == [({"users": []}, 0o600)]
    assert not left.exists()


def test_a_link_in_the_file_s_place_leads_root_nowhere(importing, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    rabbitmqctl, seen = importing()
    pathlib.Path(rabbitmqctl.import_file()).symlink_to(elsewhere)
    rabbitmqctl.import_definitions({"users": []})
    assert seen == [({"users": []}, 0o600)]
    assert not elsewhere.exists()


def test_the_file_is_gone_also_after_an_import_that_failed(importing, run, tmp_path):
    rabbitmqctl, _ = importing()
    run.side_effect = None
    run.return_value = {**DONE, "retcode": 65, "stderr": "Error: invalid tags"}
    with pytest.raises(CommandExecutionError, match="writing the definitions failed.*invalid tags"):
        rabbitmqctl.import_definitions({"users": []})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "says"),
    [({"data_dir": "/nonexistent"}, "No such file"), ({"user": "nobody?"}, "nobody")],
)
def test_a_file_that_cannot_be_written_is_an_error_with_its_step(importing, host, says):
    rabbitmqctl, seen = importing(**host)
    with pytest.raises(CommandExecutionError, match=f"^writing the definitions failed: .*{says}"):
        rabbitmqctl.import_definitions({"users": []})
    assert seen == []


URI = "amqp://name:pass-in-a-uri@192.0.2.1?cacertfile=/ca.pem&verify=verify_peer"
NOT_SHOWN = "does not name a parameter, but may repeat the value of one, and is not shown"
LIMITS = {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 1}}
UPSTREAM = {"vhost": "v", "component": "federation-upstream", "name": "up", "value": {"uri": URI}}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            f'Error:\nValidation failed\n\n"{URI}" not a valid URI: {{unexpected_uri_scheme,"x"}}\n'
            " (v/federation-upstream/up)",
            "the parameter federation-upstream up in v was refused",
        ),
        (
            f'Error:\n<<"Validation failed\\n\\n\\"{URI}\\" not valid\\n'
            ' (vhost: \\"v\\" / component: \\"federation-upstream\\" / key: \\"up\\")">>',
            "the parameter federation-upstream up in v was refused",
        ),
        (
            "Error:\nValidation failed\n\ncomponent federation-upstream not found\n"
            ' (vhost: "v" / component: "federation-upstream" / key: "up")',
            "component federation-upstream not found, for the parameter up in v: a plugin",
        ),
        # Which one it is stands behind what is too long to be told.
        (
            f"Error:\nValidation failed\n\n{20 * URI} not a valid URI\n (v/federation-upstream/up)",
            "the parameter federation-upstream up in v was refused",
        ),
        # RabbitMQ up to 4.0 writes for HTML.
        (
            f"Error:\nValidation failed\n\n{html.escape(URI)} not a valid URI\n"
            " (v/federation-upstream/a-&gt;b)",
            "the parameter federation-upstream a->b in v was refused",
        ),
        ('Error:\n{:not_base64, "s3cretHash"}', NOT_SHOWN),
        (f"Error:\nsomething else about {URI}", NOT_SHOWN),
        (f"Error:\nsomething about a part of it, {URI[15:]}", NOT_SHOWN),
    ],
)
def test_what_rabbitmq_refuses_is_told_without_the_secrets_it_repeats(importing, run, said, told):
    rabbitmqctl, _ = importing()
    run.side_effect = None
    run.return_value = {**DONE, "retcode": 69, "stderr": said}
    definitions = {
        "users": [{"name": "u", "password_hash": "s3cretHash"}, {"name": "w", "password_hash": ""}],
        "parameters": [LIMITS, UPSTREAM, {**UPSTREAM, "name": "a->b"}],
        "global_parameters": [{"name": "g", "value": "up"}],
    }
    with pytest.raises(CommandExecutionError) as caught:
        rabbitmqctl.import_definitions(definitions)
    assert told in str(caught.value)
    assert "import_definitions exited with 69" in str(caught.value)
    assert "pass-in-a-uri" not in str(caught.value) and "s3cretHash" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('Error:\n{:not_base64, "s3cretHash"}', '{:not_base64, "…"}'),
        ("Error:\nValidation failed\n (v/p)", "Validation failed (v/p)"),
        (f"Error:\n{590 * 'x'} s3cretHash", f"{590 * 'x'} …"),
        (f"Error:\n{800 * 'x'}", f"{590 * 'x'}"),
    ],
)
def test_where_no_text_of_a_parameter_was_written_it_is_told_without_hashes(
    importing, run, said, told
):
    rabbitmqctl, _ = importing()
    run.side_effect = None
    run.return_value = {**DONE, "retcode": 69, "stderr": said}
    users = [{"name": "u", "password_hash": "s3cretHash"}, {"name": "w", "password_hash": ""}]
    with pytest.raises(CommandExecutionError) as caught:
        rabbitmqctl.import_definitions({"users": users, "parameters": [LIMITS]})
    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value) and 601 * "x" not in str(caught.value)


def test_a_default_queue_type_is_set_where_the_tool_has_no_command_for_it(rabbitmqctl, run):
    unknown = {**DONE, "retcode": 64, "stderr": "\nCommand 'update_vhost_metadata' not found. \n"}
    run.side_effect = [unknown, DONE]
    rabbitmqctl.set_default_queue_type('é">>', "quorum")
    _, [*_, evaluated] = commands(run)
    assert evaluated == (
        "rabbit_misc:execute_mnesia_transaction(fun() -> rabbit_vhost:update_metadata("
        '<<195,169,34,62,62>>, fun(M) -> M#{default_queue_type => <<"quorum">>} end) end).'
    )
    run.side_effect = [unknown, {**DONE, "retcode": 70, "stderr": "no_such_vhost"}]
    with pytest.raises(CommandExecutionError, match="default queue type of vhost v.*no_such_vhost"):
        rabbitmqctl.set_default_queue_type("v", "quorum")


def test_a_default_queue_type_is_one_there_is(rabbitmqctl, run):
    with pytest.raises(SaltInvocationError, match="one of classic, quorum, stream, found 'fast'"):
        rabbitmqctl.set_default_queue_type("v", "fast")
    run.assert_not_called()


def test_definitions_must_be_a_mapping(rabbitmqctl, run):
    with pytest.raises(SaltInvocationError, match="must be a mapping"):
        rabbitmqctl.import_definitions([])
    run.assert_not_called()


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_no_queues_are_an_empty_list(rabbitmqctl, run, version):
    run.return_value = recorded(version, "list_queues")
    assert rabbitmqctl.list_queues() == []


NODES = [f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_queue_is_told_with_its_messages_and_who_serves_it(rabbitmqctl, run, version):
    run.return_value = recorded(version, "list_queues_with_one")
    assert rabbitmqctl.list_queues() == [
        {
            "vhost": "/",
            "name": "orders",
            "type": "classic",
            "durable": True,
            "exclusive": False,
            "state": "running",
            "node": NODES[0],
            "mirrors": NODES[1:] if version == "3.10.8" else [],
            "members": [],
            "online": [],
            "messages": 0,
            "message_bytes": 0,
        }
    ]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_queues_of_all_vhosts_and_types_are_listed_in_one_call(rabbitmqctl, run, version):
    recording = run.return_value = recorded(version, "list_queues_of_each_type")
    told = [
        (queue["vhost"], queue["name"], queue["type"], queue["node"], queue["online"])
        for queue in rabbitmqctl.list_queues(PEER)
    ]
    assert told == [
        ("/", "invoices", "quorum", None, NODES),
        ("/", "orders", "classic", NODES[0], []),
        ("events", 'a "b" c', "classic", NODES[0], []),
        ("events", "all", "stream", None, NODES),
    ]
    # As it was recorded.
    [command] = commands(run)
    assert command[:4] == ["rabbitmqctl", "--silent", "--node", PEER]
    assert command[4:] == recording["command"][2:]


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_a_queue_whose_node_is_down_is_told_with_that_node(rabbitmqctl, run, version):
    run.return_value = recorded(version, "list_queues_with_a_member_stopped")
    queues = {queue["name"]: queue for queue in rabbitmqctl.list_queues()}
    here = queues.pop("here")
    assert (here["type"], here["state"], here["node"]) == ("classic", "down", NODES[1])
    assert (here["durable"], here["messages"], here["members"]) == (True, None, [])
    # The others' replicas, and mirrors, are there still.
    assert {queue["state"] for queue in queues.values()} == {"running"}
    assert {len(queues[name]["online"]) for name in ("invoices", "all")} == {2}
    assert queues["orders"]["mirrors"] == ([NODES[2]] if version == "3.10.8" else [])


@pytest.mark.parametrize("expression", ["_EVERY_QUEUE", "_EVERY_REPLICA"])
def test_what_lists_the_queues_is_nothing_that_a_shell_would_read_otherwise(
    rabbitmqctl, expression
):
    # Debian's rabbitmqctl is a script that puts its arguments between double quotes for one.
    assert not set(getattr(rabbitmqctl, expression)) & set("'\"\\$`!")


def test_a_tool_that_fails_to_list_the_queues_is_told(rabbitmqctl, run):
    run.return_value = {**DONE, "retcode": 69, "stderr": "Error: {:undef, []}"}
    with pytest.raises(CommandExecutionError, match="^listing the queues on .* failed: eval exit"):
        rabbitmqctl.list_queues(PEER)


@pytest.mark.parametrize(
    ("function", "arguments", "command"),
    [
        ("stop_app", [], ["stop_app"]),
        ("start_app", [], ["start_app"]),
        ("join_cluster", [PEER], ["join_cluster", PEER]),
        ("join_cluster", [PEER, True], ["join_cluster", PEER, "--ram"]),
        ("forget_cluster_node", [PEER], ["forget_cluster_node", PEER]),
        ("set_cluster_name", ["orders"], ["set_cluster_name", "--", "orders"]),
        ("set_cluster_name", ["-1"], ["set_cluster_name", "--", "-1"]),
        ("delete_user", ["guest"], ["delete_user", "--", "guest"]),
        ("delete_user", ["-old"], ["delete_user", "--", "-old"]),
        ("clear_policy", ["-p", "-v"], ["clear_policy", "--vhost=-v", "--", "-p"]),
        ("delete_vhost", ["orders"], ["delete_vhost", "--", "orders"]),
        ("clear_permissions", ["u", "v"], ["clear_permissions", "--vhost=v", "--", "u"]),
        ("clear_policy", ["p", "v"], ["clear_policy", "--vhost=v", "--", "p"]),
        (
            "clear_topic_permissions",
            ["u", "v", "x"],
            ["clear_topic_permissions", "--vhost=v", "--", "u", "x"],
        ),
        ("clear_parameter", ["c", "p", "v"], ["clear_parameter", "--vhost=v", "--", "c", "p"]),
        ("clear_global_parameter", ["p"], ["clear_global_parameter", "--", "p"]),
        ("clear_vhost_limits", ["v"], ["clear_vhost_limits", "--vhost=v"]),
        ("clear_user_limits", ["u"], ["clear_user_limits", "--", "u", "all"]),
        (
            "set_default_queue_type",
            ["v", "quorum"],
            ["update_vhost_metadata", "--default-queue-type", "quorum", "--", "v"],
        ),
    ],
)
def test_a_write_runs_one_command_and_names_it_when_it_fails(
    rabbitmqctl, run, function, arguments, command
):
    getattr(rabbitmqctl, function)(*arguments)
    assert commands(run) == [["rabbitmqctl", "--silent", *command]]
    run.return_value = {**DONE, "retcode": 69, "stderr": "Error: no such thing"}
    rabbitmqctl.__context__ = {rabbitmqctl.CACHE: {("node_state", None): "as it was"}}
    with pytest.raises(
        CommandExecutionError,
        match=f"^[^:]+ failed: {command[0]} exited with 69: Error: no such thing",
    ):
        getattr(rabbitmqctl, function)(*arguments)
    assert rabbitmqctl.__context__ == {}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("change_cluster_node_type", ["ram"]),
        ("shrink", [PEER]),
        ("grow", [PEER, "/", ["orders"]]),
        ("add_replicas", [PEER, [{"vhost": "/", "name": "events"}]]),
        ("delete_replicas", [PEER, [{"vhost": "/", "name": "events"}]]),
        ("import_definitions", [{"users": []}]),
        ("enable_plugins", [["rabbitmq_stomp"], "/nonexistent"]),
    ],
)
def test_what_was_read_is_forgotten_also_after_a_write_that_failed(
    importing, run, function, arguments
):
    rabbitmqctl, _ = importing()
    # It may have changed something: three queues of five, or all before the time was up.
    run.side_effect = None
    run.return_value = {**DONE, "retcode": 75, "stderr": "timeout"}
    rabbitmqctl.__context__ = {rabbitmqctl.CACHE: {("node_state", None): "as it was"}}
    with pytest.raises(CommandExecutionError, match="timeout"):
        getattr(rabbitmqctl, function)(*arguments)
    assert rabbitmqctl.CACHE not in rabbitmqctl.__context__


def test_no_tool_runs_in_a_shell(rabbitmqctl, run):
    rabbitmqctl.delete_user("; reboot")
    assert run.call_args.kwargs["python_shell"] is False
    assert run.call_args.args[0][-1] == "; reboot"


@pytest.fixture
def plugins_tool(rabbitmqctl, run, tmp_path):
    """RabbitMQ's tool for plugins, over a list that has one which brings others along."""
    path, brought = tmp_path / "enabled_plugins", {"rabbitmq_management", "rabbitmq_web_dispatch"}
    path.write_text("[rabbitmq_shovel_management,rabbitmq_web_mqtt].\n")

    def answer(command, **_):
        _, _, verb, *names = [word for word in command if word != "--offline"]
        if "rabbitmq_tpyo" in names:
            return {**DONE, "retcode": 65, "stderr": "plugins were not found: rabbitmq_tpyo"}
        if verb == "enable":
            names = {*rabbitmqctl.enabled_plugins(str(path)), *names} - brought
        path.write_text(f"[{','.join(sorted(names))}].\n")
        failure = {**DONE, "retcode": 70, "stderr": "eaddrinuse"}
        return failure if "rabbitmq_stomp" in names else DONE

    run.side_effect = answer
    return str(path)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("name", ["rabbitmq_management", "rabbitmq_prometheus"])
def test_plugins_are_enabled_beside_others_by_their_own_tool(
    rabbitmqctl, run, plugins_tool, offline, name
):
    before = rabbitmqctl.enabled_plugins(plugins_tool)
    rabbitmqctl.enable_plugins([name], plugins_tool, offline)
    assert rabbitmqctl.enabled_plugins(plugins_tool) == sorted([name, *before])
    verbs = ["enable", "set"] if name == "rabbitmq_management" else ["enable"]
    assert [command[2] for command in commands(run)] == verbs
    assert all(command[0] == "rabbitmq-plugins" for command in commands(run))
    assert all(("--offline" in command) is offline for command in commands(run))


@pytest.mark.parametrize("names", [["rabbitmq_tpyo", "rabbitmq_mqtt"], ["rabbitmq_stomp"]])
def test_plugins_that_could_not_be_enabled_leave_the_list_as_it_was(
    rabbitmqctl, run, plugins_tool, names
):
    before = rabbitmqctl.enabled_plugins(plugins_tool)
    with pytest.raises(CommandExecutionError, match="enabling plugins failed"):
        rabbitmqctl.enable_plugins(names, plugins_tool)
    assert rabbitmqctl.enabled_plugins(plugins_tool) == before


@pytest.mark.parametrize(
    ("text", "plugins"),
    [
        ("[rabbitmq_management].\n", ["rabbitmq_management"]),
        ("[rabbitmq_management,\n rabbitmq_shovel].", ["rabbitmq_management", "rabbitmq_shovel"]),
        ("[].\n", []),
        ("% Managed by others\n[a, % and why\n 'b-c'].", ["a", "b-c"]),
    ],
)
def test_enabled_plugins_are_read_from_their_file(rabbitmqctl, run, tmp_path, text, plugins):
    path = tmp_path / "enabled_plugins"
    path.write_text(text)
    assert rabbitmqctl.enabled_plugins(str(path)) == plugins
    run.assert_not_called()


def test_without_a_plugins_file_no_plugin_is_enabled(rabbitmqctl, tmp_path):
    assert rabbitmqctl.enabled_plugins(str(tmp_path / "none")) == []


def test_waiting_for_the_node_ends_when_it_runs(rabbitmqctl, run, monkeypatch):
    monkeypatch.setattr(rabbitmqctl, "installed", lambda: True)
    answers = ["node_stopped_local", "app_stopped_local", "cluster_status"]
    run.side_effect = [recorded("3.10.8", name) for name in answers]
    slept = []
    rabbitmqctl.time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    assert rabbitmqctl.await_boot(timeout=60, interval=2) is True
    assert slept == [2, 2]


def test_waiting_for_the_node_ends_after_its_timeout(rabbitmqctl, run, monkeypatch):
    monkeypatch.setattr(rabbitmqctl, "installed", lambda: True)
    run.return_value = recorded("3.10.8", "app_stopped_local")
    slept = []
    rabbitmqctl.time = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    assert rabbitmqctl.await_boot(timeout=6, interval=2) is False
    assert sum(slept) == 6


def test_a_failure_on_another_node_names_it(rabbitmqctl, run):
    run.return_value = {**DONE, "retcode": 69, "stderr": "Error: no"}
    said = f"^forgetting rabbit@b on {PEER} failed: forget_cluster_node exited with 69: Error: no$"
    with pytest.raises(CommandExecutionError, match=said):
        rabbitmqctl.forget_cluster_node("rabbit@b", PEER)


def test_a_member_is_forgotten_on_another_member_or_offline(rabbitmqctl, run):
    rabbitmqctl.forget_cluster_node("rabbit@b", at=PEER)
    rabbitmqctl.forget_cluster_node("rabbit@b", offline=True)
    assert commands(run) == [
        ["rabbitmqctl", "--silent", "--node", PEER, "forget_cluster_node", "rabbit@b"],
        ["rabbitmqctl", "--silent", "forget_cluster_node", "--offline", "rabbit@b"],
    ]


def test_no_third_type_of_node_is_asked_for(rabbitmqctl, run):
    with pytest.raises(SaltInvocationError, match="disc or ram, found 'disk'"):
        rabbitmqctl.change_cluster_node_type("disk")
    run.assert_not_called()


def test_names_of_queues_are_no_regular_expressions(rabbitmqctl, run):
    grown = '[{"vhost":"/","name":"a.b","size":3,"result":"ok"}]'
    run.return_value = {**DONE, "stdout": grown}
    assert rabbitmqctl.grow("rabbit@b", "/", ["a.b", "c|d"])[0]["name"] == "a.b"
    [command] = commands(run)
    assert command[:2] == ["rabbitmq-queues", "--silent"]
    assert command[command.index("--vhost-pattern") + 1] == "^(/)$"
    assert command[command.index("--queue-pattern") + 1] == r"^(a\.b|c\|d)$"


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_queues_with_replicas_are_told_by_their_type(rabbitmqctl, run, version):
    run.return_value = recorded(version, "list_queues_of_each_type")
    for function, vhost, name in (("quorum_queues", "/", "invoices"), ("streams", "events", "all")):
        [queue] = getattr(rabbitmqctl, function)(PEER)
        assert (queue["vhost"], queue["name"]) == (vhost, name)
        assert queue["members"] == queue["online"] == NODES
        assert len(queue) == 4


@pytest.mark.parametrize("version", RABBITMQ_VERSIONS)
def test_queues_are_told_by_the_replicas_that_they_are_recorded_with(rabbitmqctl, run, version):
    recording = run.return_value = recorded(version, "queues_with_replicas")
    told = rabbitmqctl.queues_with_replicas(PEER)
    assert [[queue[key] for key in ("type", "vhost", "name")] for queue in told] == [
        ["quorum", "/", "invoices"],
        ["stream", "events", "all"],
    ]
    [command] = commands(run)
    assert command[2:4] == ["--node", PEER]
    assert command[4:] == recording["command"][2:]
    # One of them was down.
    for node in told[0]["members"]:
        replicas = rabbitmqctl.quorum_queues_on(node, PEER)
        assert replicas == [{"vhost": "/", "name": "invoices"}]
    assert len(told[0]["members"]) == len(told[1]["members"]) == 3
    assert rabbitmqctl.quorum_queues_on("rabbit@elsewhere", PEER) == []


def test_a_queue_that_cannot_shrink_is_told_before_the_document(rabbitmqctl, run):
    # As RabbitMQ 3.10.8 printed it for a queue without a majority.
    said = (
        "error: {no_more_servers_to_try,[{error,noproc},{error,noproc},"
        "{timeout,{'%2F_orders','rabbit@b'}}]}[\n"
        '{"vhost":"/","name":"orders","size":3,"result":"ok"}\n]'
    )
    run.return_value = {**DONE, "stdout": said}
    assert [queue["name"] for queue in rabbitmqctl.shrink("rabbit@a", "rabbit@b")] == ["orders"]


def test_many_queues_grow_in_as_many_calls_as_an_argument_s_length_asks_for(rabbitmqctl, run):
    run.return_value = {**DONE, "stdout": "[]"}
    rabbitmqctl.grow("rabbit@b", "/", [f"queue{number}" for number in range(450)])
    assert len(commands(run)) == 3


def test_streams_get_a_replica_by_names_that_are_no_code(rabbitmqctl, run):
    run.return_value = {**DONE, "stdout": "warning: latin1\n[]\n"}
    assert rabbitmqctl.add_replicas("rabbit@b", [{"vhost": "/", "name": "ä'"}]) == ""
    [[*_, command, expression]] = commands(run)
    assert command == "eval"
    assert "{V, N} <- [{<<47>>,<<195,164,39>>}]" in expression
    assert "rabbit_stream_queue:add_replica(V, N, 'rabbit@b')" in expression


def test_streams_lose_a_replica_where_the_asked_member_says_so(rabbitmqctl, run):
    run.return_value = {**DONE, "stdout": "[]\n"}
    assert rabbitmqctl.delete_replicas("rabbit@b", [{"vhost": "/", "name": "s"}], "rabbit@a") == ""
    [[_, _, *at, _, expression]] = commands(run)
    assert at == ["--node", "rabbit@a"]
    assert "rabbit_stream_queue:delete_replica(V, N, 'rabbit@b')" in expression


def test_what_rabbitmq_says_of_a_replica_that_it_refuses_is_returned(rabbitmqctl, run):
    refused = '[{<<"/">>,<<"events">>,\n  {error,{disallowed,out_of_sync_replica}}}]\n'
    run.return_value = {**DONE, "stdout": refused}
    streams = [{"vhost": "/", "name": f"events{number}"} for number in range(80)]
    one = '[{<<"/">>,<<"events">>, {error,{disallowed,out_of_sync_replica}}}]'
    assert rabbitmqctl.add_replicas("rabbit@b", streams) == f"{one} {one}"


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("warning: latin1\nok\n", ""),
        (
            "{timeout,{rabbit_stream_coordinator,\n 'x'}}",
            "{timeout,{rabbit_stream_coordinator, 'x'}}",
        ),
    ],
)
def test_a_node_leaves_the_stream_coordinator_or_it_is_told_why_not(
    rabbitmqctl, run, said, refused
):
    run.return_value = {**DONE, "stdout": said}
    assert rabbitmqctl.forget_stream_coordinator("rabbit@b", PEER) == refused
    [command] = commands(run)
    assert command[:5] == ["rabbitmqctl", "--silent", "--node", PEER, "eval"]
    assert "Gone = {rabbit_stream_coordinator, 'rabbit@b'}" in command[5]
    # Debian's rabbitmqctl puts it between double quotes for a shell.
    assert not set(command[5]) & set('"\\$`!')


def test_a_node_remembers_its_members_where_rabbitmq_can_tell(rabbitmqctl, run):
    run.return_value = {**DONE, "stdout": "['rabbit@rabbitmq-node1','rabbit@rabbitmq-node10']"}
    assert rabbitmqctl.known_members() == {"rabbit@rabbitmq-node1", "rabbit@rabbitmq-node10"}
    run.return_value = {**DONE, "retcode": 69, "stderr": "{:undef, [{:rabbit_nodes, ...}]}"}
    assert rabbitmqctl.known_members() == set()


@pytest.mark.parametrize("there", [True, False])
def test_installed_says_whether_the_program_is_on_the_path(
    rabbitmqctl, tmp_path, monkeypatch, there
):
    if there:
        (tmp_path / "rabbitmqctl").write_text("#!/bin/sh\n")
        (tmp_path / "rabbitmqctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rabbitmqctl.pwd, "getpwnam", lambda name: name)
    assert rabbitmqctl.installed() is there


@pytest.mark.parametrize(
    ("unfinished", "installed"),
    [
        (["rabbitmq-server unpacked"], False),
        (["rabbitmq-server half-configured", "haproxy unpacked"], False),
        (["haproxy unpacked", "rabbitmq-server-extras unpacked", "dpkg interrupted"], True),
        ([], True),
    ],
)
def test_tools_without_their_account_are_not_installed_where_dpkg_was_interrupted(
    rabbitmqctl, monkeypatch, unfinished, installed
):
    def no_account(name):
        raise KeyError(name)

    monkeypatch.setattr(rabbitmqctl.salt.utils.path, "which", lambda exe: f"/usr/sbin/{exe}")
    monkeypatch.setattr(rabbitmqctl.pwd, "getpwnam", no_account)
    packages = load("_modules/rabbit_host.py").unfinished_packages
    listed = create_autospec(packages, return_value=unfinished)
    rabbitmqctl.__salt__["rabbit_host.unfinished_packages"] = listed
    assert rabbitmqctl.installed() is installed


@pytest.mark.parametrize(
    ("recording", "runs"), [("cluster_status", True), ("wrong_cookie_local", False)]
)
def test_the_local_node_runs_where_it_tells_its_status(
    rabbitmqctl, run, monkeypatch, recording, runs
):
    monkeypatch.setattr(rabbitmqctl.salt.utils.path, "which", lambda exe: f"/usr/sbin/{exe}")
    monkeypatch.setattr(rabbitmqctl.pwd, "getpwnam", lambda name: name)
    run.return_value = recorded("3.10.8", recording)
    assert rabbitmqctl.is_running() is runs


def test_where_rabbitmq_is_not_installed_the_local_node_does_not_run(
    rabbitmqctl, run, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rabbitmqctl.is_running() is False
    run.assert_not_called()


def test_a_peer_whose_host_is_away_is_unreachable_without_starting_a_vm(rabbitmqctl, run, epmd):
    epmd.error = TimeoutError("timed out")
    found = rabbitmqctl.node_state(PEER)
    assert found["state"] == "unreachable"
    assert found["said"] == "rabbitmq-node1, port 4369 (epmd): timed out"
    assert epmd.asked == [("rabbitmq-node1", 4369)]
    run.assert_not_called()


@pytest.mark.parametrize("result", [b"\1", b"\4"])
def test_a_peer_that_does_not_run_is_told_by_epmd_without_starting_a_vm(
    rabbitmqctl, run, epmd, result
):
    epmd.result = result
    found = rabbitmqctl.node_state(PEER)
    assert found["state"] == "node not running"
    assert found["said"] == "epmd on rabbitmq-node1 knows of no node rabbit"
    assert epmd.asked == [("rabbitmq-node1", 4369), b"\0\7zrabbit"]
    run.assert_not_called()


def test_a_peer_that_was_away_is_asked_again(rabbitmqctl, run, epmd):
    epmd.error = OSError("no route")
    rabbitmqctl.node_state(PEER)
    epmd.error = None
    run.return_value = recorded("3.10.8", "cluster_status")
    assert rabbitmqctl.node_state(PEER)["state"] == "running"


def test_no_answer_in_time_is_no_missing_program(rabbitmqctl, run):
    run.return_value = {**DONE, "retcode": 1, "stdout": "Timed out after 45 seconds"}
    assert rabbitmqctl.node_state(PEER)["state"] == "unreachable"
