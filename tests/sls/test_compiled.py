"""What each host is told to do, in which order, and that no secret is in it."""

import json

import pytest

from tests.sls.conftest import (
    BOTH,
    CASES,
    FQDN,
    MINIONS,
    OS_FAMILIES,
    SECRETS,
    Compiled,
    numbered,
    pillar_of,
)
from tests.support import ROOT, load

SLS = sorted(
    ".".join(path.relative_to(ROOT / "salt").with_suffix("").parts).removesuffix(".init")
    for folder in ("rabbit_ha", "orch")
    for path in (ROOT / "salt" / folder).rglob("*.sls")
)
# Have a state only on a host that was what they name: see the tests of them.
NO_BALANCER, NO_BROKER = "rabbit_ha.no_load_balancer", "rabbit_ha.no_broker"
OF_ALL = [sls for sls in SLS if sls not in (NO_BALANCER, NO_BROKER)]
BROKER_SLS = [sls for sls in OF_ALL if ".haproxy" not in sls and ".keepalived" not in sls]
BALANCER_SLS = [sls for sls in OF_ALL if ".rabbitmq" not in sls]
JOINS = "RabbitMQ is a member of the cluster"
NAMED = "The cluster has its name"
DEFINED = "The cluster has its vhosts, users and policies"


@pytest.mark.parametrize("os_family", OS_FAMILIES)
@pytest.mark.parametrize(("pillar", "minion"), MINIONS)
def test_the_highstate_compiles_without_an_error_and_holds_no_secret(
    compiled, pillar, minion, os_family
):
    low = compiled(minion, pillar, os_family).low()
    assert bool(low) == (minion in pillar.get("rabbit_ha", {}).get("hosts", {}))
    assert_no_secret(low)
    # For one of these Salt loads all modules there are, which takes as long as all the rest.
    assert not [chunk["__id__"] for chunk in low if {"unless", "onlyif", "creates"} & set(chunk)]


@pytest.mark.parametrize("minion", ["rabbitmq-node1", "rabbitmq-node2"])
@pytest.mark.parametrize("sls", BROKER_SLS)
@pytest.mark.parametrize("os_family", OS_FAMILIES)
def test_each_sls_compiles_alone_on_a_broker(compiled, os_family, sls, minion):
    low = compiled(minion, os_family=os_family).low(sls)
    assert low
    assert_no_secret(low)


@pytest.mark.parametrize("minion", ["haproxy-keeplive-node1", "haproxy-keeplive-node2"])
@pytest.mark.parametrize("sls", BALANCER_SLS)
@pytest.mark.parametrize("os_family", OS_FAMILIES)
def test_each_sls_compiles_alone_on_a_load_balancer(compiled, os_family, sls, minion):
    low = compiled(minion, os_family=os_family).low(sls)
    assert low
    assert_no_secret(low)


@pytest.mark.parametrize("sls", ["rabbit_ha", "rabbit_ha.prepared", "rabbit_ha.hosts"])
def test_a_minion_that_pillar_does_not_name_is_not_renamed(compiled, sls):
    # As the master's own, where somebody applies it by hand.
    assert compiled("another").low(sls) == []


def assert_no_secret(low):
    text = json.dumps(low)
    assert [name for name, secret in SECRETS.items() if secret in text] == []


@pytest.mark.parametrize("case", ["default", "fqdn", "one broker", "seven brokers"])
def test_the_orchestration_compiles_on_a_master_that_is_no_host_of_the_topology(compiled, case):
    low = compiled("master", CASES[case].pillar).low("orch.rabbit_ha")
    assert low
    assert_no_secret(low)


def test_only_the_seed_gives_the_cluster_its_name_and_definitions(compiled):
    assert {NAMED, DEFINED} <= set(compiled("rabbitmq-node1").ids())
    assert not {NAMED, DEFINED} & set(compiled("rabbitmq-node2").ids())


@pytest.mark.parametrize("kind", ["disc", "ram"])
def test_the_seed_has_its_type_before_members_that_are_gone_are_forgotten(compiled, kind):
    pillar = pillar_of(rabbitmq={"absent_members": ["old1", "old2"]})
    pillar["rabbit_ha"]["hosts"]["rabbitmq-node1"]["node_type"] = kind
    host = compiled("rabbitmq-node1", pillar)
    # One of them may be the last disc node but for the seed.
    order = [
        JOINS,
        DEFINED,
        f"The seed is a {kind} node",
        "old1 is no member any more",
        "old2 is no member any more",
    ]
    assert [name for name in host.ids() if name in order] == order
    assert host.state(order[2])["name"] == kind
    assert host.state(order[3])["name"] == "rabbit@old1"
    assert f"RabbitMQ is a {kind} node" not in host.ids()


@pytest.mark.parametrize("minion", ["rabbitmq-node1", "rabbitmq-node2"])
def test_a_broker_whose_type_pillar_does_not_name_keeps_it(compiled, minion):
    def types(host):
        return [chunk["name"] for chunk in host.low() if chunk["fun"] == "node_type"]

    assert types(compiled(minion)) == []
    assert compiled(minion).state(JOINS)["node_type"] is None
    pillar = pillar_of()
    pillar["rabbit_ha"]["hosts"][minion] |= {"node_type": "disc", "discard_local_data": True}
    named = compiled(minion, pillar)
    assert types(named) == ["disc"]
    assert named.state(JOINS)["node_type"] == "disc"
    [chunk] = [chunk for chunk in named.low() if chunk["fun"] == "node_type"]
    assert chunk["discard_local_data"] is True


def test_a_plan_knows_a_broker_s_states_by_the_names_that_they_have(compiled):
    runner = load("_runners/rabbit_ha.py")
    low = compiled("rabbitmq-node2").low()
    called = {chunk["__id__"]: f"{chunk['state']}.{chunk['fun']}" for chunk in low}
    assert called[runner.COOKIE_STATE] == "rabbit_cookie.synced"
    assert {called[name] for name in runner.NEW_STATES} == {
        "pkg.installed",
        "rabbit_node.configuration_loaded",
    }


def test_without_a_seed_in_pillar_the_first_broker_is_it(compiled):
    pillar = pillar_of(numbered(3, 1))
    assert NAMED in compiled("broker1", pillar).ids()
    assert NAMED not in compiled("broker2", pillar).ids()


def test_a_broker_gets_nothing_of_a_load_balancer_and_the_reverse(compiled):
    broker, balancer = compiled("rabbitmq-node2"), compiled("haproxy-keeplive-node1")
    assert not [name for name in broker.ids() if "HAProxy" in name or "keepalived" in name]
    assert not [name for name in balancer.ids() if "RabbitMQ" in name]


def test_a_host_with_both_roles_gets_both(compiled):
    ids = compiled("both1", pillar_of(BOTH)).ids()
    assert JOINS in ids
    assert "keepalived is running and starts at boot" in ids


def test_a_broker_is_configured_before_it_is_installed_and_installed_before_it_joins(compiled):
    ids = compiled("rabbitmq-node2").ids()
    order = [
        "This host has its name in the topology",
        "RabbitMQ has its configuration",
        "RabbitMQ is installed",
        "The Erlang cookie is the cluster's",
        "RabbitMQ is running and starts at boot",
        "RabbitMQ runs with its configuration",
        JOINS,
    ]
    assert [name for name in ids if name in order] == order


def test_a_load_balancer_s_check_is_there_before_keepalived_runs(compiled):
    ids = compiled("haproxy-keeplive-node1").ids()
    order = [
        "keepalived is installed",
        "keepalived has its check of HAProxy",
        "keepalived has its configuration",
        "keepalived is running and starts at boot",
    ]
    assert [name for name in ids if name in order] == order


def test_a_service_is_called_by_its_name_whatever_yaml_makes_of_that(compiled):
    low = compiled(
        "rabbitmq-node2", pillar_of(rabbitmq={"service": "no", "service_group": "on"})
    ).low()
    services = [chunk["service"] for chunk in low if "service" in chunk]
    assert set(services) == {"no"}
    [group] = {
        chunk["group"]
        for chunk in low
        if "rabbitmq.conf" in str(chunk["name"]) and "group" in chunk
    }
    assert group == "on"


@pytest.mark.parametrize(
    ("case", "minion", "source"),
    [
        ("default", "rabbitmq-node1", "self"),
        ("default", "rabbitmq-node2", "seed"),
        ("cookie from pillar", "rabbitmq-node1", "pillar"),
        ("cookie from pillar", "rabbitmq-node2", "pillar"),
    ],
)
def test_each_broker_knows_where_its_cookie_comes_from(compiled, case, minion, source):
    state = compiled(minion, CASES[case].pillar).state("The Erlang cookie is the cluster's")
    assert (state["source"], state["sealed"]) == (source, None)


def test_a_broker_is_handed_only_the_cookie_sealed_for_itself(compiled):
    sealed = {"rabbitmq-node2": "sealed for 2", "rabbitmq-node3": "sealed for 3"}
    host = compiled("rabbitmq-node2", rabbit_ha_sealed_cookies=sealed)
    low = host.low("rabbit_ha.rabbitmq.running")
    [state] = [chunk for chunk in low if chunk["state"] == "rabbit_cookie"]
    assert state["sealed"] == "sealed for 2"
    assert "sealed for 3" not in json.dumps(low)


@pytest.mark.parametrize(
    ("minion", "case", "extra", "carried"),
    [
        ("rabbitmq-node2", "default", {}, True),
        ("rabbitmq-node2", "default", {"rabbit_ha_orchestrated": True}, False),
        ("rabbitmq-node2", "cookie from pillar", {}, False),
        # Others refuse its cookie before the orchestration carried it to them.
        ("rabbitmq-node1", "default", {}, True),
    ],
)
def test_a_broker_waits_for_its_cookie_only_until_the_orchestration_brought_it(
    compiled, minion, case, extra, carried
):
    state = compiled(minion, CASES[case].pillar, **extra).state(JOINS)
    assert state["cookie_is_carried"] is carried


def test_erlang_node_names_are_made_of_short_host_names(compiled):
    state = compiled("rabbitmq-node2.example.org", pillar_of(FQDN)).state(JOINS)
    assert state["name"] == "rabbit@rabbitmq-node1"
    assert state["contacts"] == [f"rabbit@rabbitmq-node{number}" for number in (1, 2, 3)]


def test_names_and_texts_in_any_writing_arrive_as_they_are(compiled):
    text = "ü 🐰:\n\t'\"\\ # {{ x }} ${x} %2f \xa0"
    vhosts = {text: {"description": text, "tags": [f"a{text}b"]}}
    policies = {text: {"vhost": text, "pattern": text, "definition": {"overflow": text}}}
    pillar = pillar_of(
        rabbitmq={"cluster_name": text, "vhosts": vhosts, "policies": policies, "users": {text: {}}}
    )
    host = compiled("rabbitmq-node1", pillar)
    assert host.state(NAMED)["name"] == text
    written = host.state(DEFINED)
    assert written["vhosts"] == {"/": {}, **vhosts}
    assert text in written["users"]
    assert written["policies"][text].items() >= policies[text].items()


@pytest.mark.parametrize("address", ["2001:1:2:3:4:5:6:7", "2001:db8:0:1::"])
def test_an_address_that_yaml_would_take_for_something_else_stays_one(compiled, address):
    pillar = pillar_of(numbered(1, 2))
    pillar["rabbit_ha"]["hosts"]["balancer2"]["address"] = address
    state = compiled("broker1", pillar).state("balancer2 has its address on this host")
    assert state["ip"] == address


def test_a_unit_and_a_group_that_yaml_would_take_for_something_else_stay_names(compiled):
    pillar = pillar_of(rabbitmq={"service": "5672", "service_group": "no"})
    low = compiled("rabbitmq-node1", pillar).low()
    assert {chunk["service"] for chunk in low if "service" in chunk} == {"5672"}
    assert {chunk["group"] for chunk in low if "group" in chunk} == {"no"}


def test_each_host_is_known_by_its_full_and_its_short_name(compiled):
    low = compiled("rabbitmq-node1.example.org", pillar_of(FQDN)).low("rabbit_ha.hosts")
    names = {chunk["ip"]: chunk["names"] for chunk in low if chunk.get("names")}
    names |= collect_expanded_names(low)
    assert len(names) == 5
    assert sorted(names["192.168.123.162"]) == [
        "rabbitmq-node2",
        "rabbitmq-node2.example.org",
    ]


def collect_expanded_names(low):
    """Salt makes one state a name out of ``names``; put them together again."""
    found = {}
    for chunk in low:
        if chunk["state"] == "host" and "names" not in chunk:
            found.setdefault(chunk["ip"], []).append(chunk["name"])
    return found


@pytest.mark.parametrize("minion", ["rabbitmq-node1", "haproxy-keeplive-node1"])
def test_files_with_a_secret_are_read_by_root_only_and_their_diff_is_not_shown(compiled, minion):
    host = compiled(minion)
    for chunk in host.low():
        source = chunk.get("source", "").removeprefix("salt://rabbit_ha/")
        # What rabbit_configuration writes is always root's and never shown.
        if chunk["state"] != "file" or not source.endswith(".j2"):
            continue
        if any(secret in host.render(source) for secret in SECRETS.values()):
            assert chunk["mode"] in ("0600", "0640"), chunk["name"]
            assert chunk["user"] == "root"
            assert chunk["show_changes"] is False


@pytest.mark.parametrize("case", ["default", "a secret in rabbitmq.conf"])
def test_rabbitmq_conf_is_for_rabbitmq_only_and_its_diff_is_shown_without_secrets(compiled, case):
    host = compiled("rabbitmq-node1", CASES[case].pillar)
    group = host.state("RabbitMQ has a group that may read its configuration")
    configured = host.state("RabbitMQ has its configuration")
    assert group["name"] == configured["group"] == "rabbitmq"
    assert (configured["user"], configured["mode"]) == ("root", "0640")
    # The folder is RabbitMQ's own: a link in it would lead root elsewhere.
    assert configured["follow_symlinks"] is False
    assert configured["show_changes"] is (case == "default")
    settled = host.state("RabbitMQ's clients reach it as it expects them")
    listening = host.state("RabbitMQ's clients reach it where it listens")
    accepted = host.state("RabbitMQ would boot with its configuration")
    assert accepted["source"] == configured["source"]
    kept = host.state("A configuration of RabbitMQ that others wrote is kept")
    assert kept["require"] == [{"rabbit_configuration": accepted["__id__"]}]
    assert accepted["name"] == kept["name"] == configured["name"]
    assert configured["require"] == [
        {one["state"]: one["__id__"]} for one in (group, settled, listening, kept)
    ]
    assert group["order"] < configured["order"] < host.state("RabbitMQ is installed")["order"]


def test_the_diff_is_not_shown_either_where_the_old_file_has_a_secret(compiled, tmp_path):
    (tmp_path / "rabbitmq.conf").write_text("ssl_options.password = SECRET\n")
    host = compiled("rabbitmq-node1", pillar_of(rabbitmq={"config_dir": str(tmp_path)}))
    assert host.state("RabbitMQ has its configuration")["show_changes"] is False


@pytest.mark.parametrize("service", ["HAProxy", "keepalived"])
def test_a_load_balancer_is_reloaded_not_restarted_and_judges_its_configuration_first(
    compiled, service
):
    host = compiled("haproxy-keeplive-node1")
    running = host.state(f"{service} is running and starts at boot")
    assert running["enable"] is True
    assert "watch" not in running
    configured = host.state(f"{service} has its configuration")
    assert configured["check"]
    loaded = host.state(f"{service} has read its configuration")
    assert loaded["files"] == [configured["name"], configured["folder"]]
    assert loaded["watch"] == [{configured["state"]: f"{service} has its configuration"}]


def test_keepalived_asks_haproxy_for_nothing_that_it_has_not_read_yet(compiled):
    host = compiled("haproxy-keeplive-node1")
    # Also where keepalived's states are applied alone.
    [check] = [
        chunk
        for chunk in host.low("rabbit_ha.keepalived")
        if chunk["__id__"] == "keepalived has its check of HAProxy"
    ]
    assert {"rabbit_failover": "HAProxy has read its configuration"} in check["require"]
    assert {"file": check["__id__"]} in host.state("keepalived has its configuration")["require"]


def test_a_configuration_that_would_be_written_is_watched_for_what_comes_of_it(compiled):
    loaded = compiled("rabbitmq-node1").state("RabbitMQ runs with its configuration")
    assert loaded["watch"] == [{"file": "RabbitMQ has its configuration"}]
    assert loaded["service"] == "rabbitmq-server"


@pytest.mark.parametrize("install", ["package", "source"])
def test_haproxy_judges_its_main_file_and_its_snippets_together(compiled, install):
    snippets = {"text": {"more": "SECRETsnippet"}}
    pillar = pillar_of(haproxy={"snippets": snippets, "install": install})
    pillar["rabbit_ha"]["haproxy"]["monitor"] = {"password": SECRETS["monitor"]}
    state = compiled("haproxy-keeplive-node1", pillar).state("HAProxy has its configuration")
    assert "SECRETsnippet" not in str(state)
    assert (state["folder"], state["suffix"]) == ("/etc/haproxy/conf", ".cfg")
    assert state["snippets"] == "rabbit_ha:haproxy:snippets"
    assert state["check"] == [
        f"/usr/{'local/' if install == 'source' else ''}sbin/haproxy",
        "-c",
        "-f",
        "{root}/etc/haproxy/haproxy.cfg",
        "-f",
        "{root}/etc/haproxy/conf",
    ]


@pytest.mark.parametrize(
    ("install", "started"),
    [("package", "HAProxy is installed"), ("source", "systemd runs HAProxy as built")],
)
@pytest.mark.parametrize(
    ("haproxy", "folders"),
    [
        ({}, ["/etc/haproxy", "/etc/haproxy/conf", "/usr/local/haproxy"]),
        (
            {
                "config_file": "/srv/lb/main.cfg",
                "config_dir": "/srv/lb/more",
                "global": {"chroot": "/srv/empty"},
            },
            ["/srv/lb", "/srv/lb/more", "/srv/empty"],
        ),
    ],
)
def test_haproxy_has_its_folders_before_it_can_start(compiled, install, started, haproxy, folders):
    haproxy = {"install": install, "monitor": {"password": SECRETS["monitor"]}, **haproxy}
    host = compiled("haproxy-keeplive-node1", pillar_of(haproxy=haproxy))
    state = "HAProxy has folders for its configuration, and the one that it confines itself to"
    made = [chunk for chunk in host.low() if chunk["__id__"] == state]
    assert [(chunk["fun"], chunk["name"]) for chunk in made] == [
        ("directory", folder) for folder in folders
    ]
    assert host.ids().index(state) < host.ids().index(started)


@pytest.mark.parametrize("install", ["package", "source"])
def test_haproxy_has_the_user_that_pillar_names_before_it_is_configured(compiled, install):
    haproxy = {"install": install, "global": {"user": "lb", "group": "balancing"}}
    pillar = pillar_of(haproxy={**haproxy, "monitor": {"password": SECRETS["monitor"]}})
    host = compiled("haproxy-keeplive-node1", pillar)
    user = host.state("HAProxy has a user that nobody can log in as")
    assert (user["name"], user["gid"]) == ("lb", "balancing")
    assert host.state("HAProxy has a group of its own")["name"] == "balancing"
    order = ["HAProxy has a user that nobody can log in as", "HAProxy has its configuration"]
    assert [name for name in host.ids() if name in order] == order


@pytest.mark.parametrize("install", ["package", "source"])
def test_keepalived_judges_its_main_file_and_its_snippets_together(compiled, install):
    snippets = {"text": {"more": "SECRETsnippet"}}
    pillar = pillar_of(keepalived={"snippets": snippets, "install": install})
    pillar["rabbit_ha"]["keepalived"]["authentication"] = {"auth_pass": SECRETS["auth_pass"]}
    state = compiled("haproxy-keeplive-node1", pillar).state("keepalived has its configuration")
    assert "SECRETsnippet" not in str(state)
    assert (state["folder"], state["suffix"]) == ("/etc/keepalived/conf", ".conf")
    assert state["snippets"] == "rabbit_ha:keepalived:snippets"
    assert state["check"] == [
        "/etc/keepalived/check_configuration.sh",
        "{root}/etc/keepalived/keepalived.conf",
        "{root}/etc/keepalived/conf",
        # The one that will run, whatever else PATH finds.
        f"/usr/{'local/' if install == 'source' else ''}sbin/keepalived",
    ]


@pytest.mark.parametrize("sls", [None, "rabbit_ha.prepared"])
@pytest.mark.parametrize("os_family", OS_FAMILIES)
def test_a_host_that_is_no_load_balancer_any_more_stops_what_made_it_one_first(
    tmp_path, os_family, sls
):
    host = Compiled(tmp_path, "rabbitmq-node1", pillar_of(), os_family)
    written = {
        f"/etc/{program}/{program}.{ending}": f"Written by Salt: pillar rabbit_ha:{program}"
        for program, ending in {"haproxy": "cfg", "keepalived": "conf"}.items()
    }
    host.functions["file.contains"] = lambda path, text: written.get(path) == text
    ended = [chunk for chunk in host.low(sls) if chunk["__sls__"] == NO_BALANCER]
    assert [(chunk["name"], chunk["fun"], chunk["enable"]) for chunk in ended] == [
        ("keepalived", "dead", False),
        ("haproxy", "dead", False),
    ]
    ids = host.ids(sls)
    assert ids.index(ended[-1]["__id__"]) < ids.index("RabbitMQ is installed")


@pytest.mark.parametrize("os_family", OS_FAMILIES)
def test_a_host_that_is_no_broker_any_more_is_told_of_its_rabbitmq(tmp_path, os_family):
    host = Compiled(tmp_path, "haproxy-keeplive-node1", pillar_of(), os_family)
    written = ("/etc/rabbitmq/rabbitmq.conf", "Written by Salt: pillar rabbit_ha:rabbitmq")
    host.functions["file.contains"] = lambda path, text: (path, text) == written
    [told] = [chunk for chunk in host.low() if chunk["__sls__"] == NO_BROKER]
    assert (told["state"], told["fun"], told["name"]) == (
        "rabbit_node",
        "no_broker",
        "rabbitmq-server",
    )


@pytest.mark.parametrize("minion", ["rabbitmq-node1", "haproxy-keeplive-node1"])
def test_a_broker_s_rabbitmq_and_one_of_somebody_else_s_are_not_told_of(tmp_path, minion):
    host = Compiled(tmp_path, minion, pillar_of(), "Debian")
    host.functions["file.contains"] = lambda path, text: minion == "rabbitmq-node1"
    assert not [chunk for chunk in host.low() if chunk["__sls__"] == NO_BROKER]


def test_a_keepalived_that_the_host_had_of_its_own_is_stopped_too(tmp_path):
    pillar = pillar_of()
    own = {"config_file": "/srv/ka/own.conf", "service": "keepalived-of-its-own"}
    pillar["rabbit_ha"]["hosts"]["rabbitmq-node1"]["keepalived"] = own
    host = Compiled(tmp_path, "rabbitmq-node1", pillar, "Debian")
    written = ("/srv/ka/own.conf", "Written by Salt: pillar rabbit_ha:keepalived")
    host.functions["file.contains"] = lambda path, text: (path, text) == written
    [ended] = [chunk for chunk in host.low() if chunk["__sls__"] == NO_BALANCER]
    assert (ended["name"], ended["fun"]) == ("keepalived-of-its-own", "dead")


@pytest.mark.parametrize("minion", ["rabbitmq-node1", "haproxy-keeplive-node1"])
def test_what_others_balance_with_on_a_broker_and_a_load_balancer_go_on(tmp_path, minion):
    host = Compiled(tmp_path, minion, pillar_of(), "Debian")
    # A broker may have a HAProxy of somebody else's; a load balancer has this project's.
    host.functions["file.contains"] = lambda path, text: minion != "rabbitmq-node1"
    assert not [chunk for chunk in host.low() if chunk["fun"] == "dead"]


PLUGINS_BEFORE = "RabbitMQ knows its plugins before its first start"


def test_a_list_of_plugins_on_the_host_is_not_replaced(compiled):
    state = compiled().state(PLUGINS_BEFORE)
    assert state["replace"] is False
    assert state["follow_symlinks"] is False
    assert state["contents"] == "[rabbitmq_management]."


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("os_family", OS_FAMILIES)
def test_plugins_are_listed_for_a_node_that_starts_and_enabled_in_one_that_runs(
    tmp_path, os_family, runs
):
    host = Compiled(tmp_path, "rabbitmq-node1", pillar_of(), os_family)
    host.functions["service.status"] = lambda name: runs and name == "rabbitmq-server"
    assert (PLUGINS_BEFORE in host.ids()) is not runs
    assert host.state("RabbitMQ's plugins are enabled")["fun"] == "plugins_enabled"
    # A start for the cookie, or for the configuration, brings them.
    order = [
        "RabbitMQ is installed",
        "RabbitMQ's plugins are listed where it starts again anyway",
        "The Erlang cookie is the cluster's",
        "RabbitMQ's plugins are enabled",
        "RabbitMQ runs with its configuration",
    ]
    assert [one for one in host.ids() if one in order] == order
