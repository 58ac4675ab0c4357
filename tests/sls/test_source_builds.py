"""haproxy.install and keepalived.install: package or source, for each OS family."""

import configparser
import os

import pytest

from tests import article
from tests.fake_source import build_module
from tests.sls.conftest import OS_FAMILIES, SECRETS, pillar_of

BALANCER = "haproxy-keeplive-node1"
# What the defaults build.
SHIPPED = {"haproxy": "2.6.12", "keepalived": "2.2.7"}
# What both units keep their program from.
HARDENED = {
    *("NoNewPrivileges", "PrivateTmp", "ProtectHome", "ProtectSystem", "ProtectControlGroups"),
    *("ProtectKernelModules", "LockPersonality", "RestrictSUIDSGID", "RestrictAddressFamilies"),
    *("SystemCallArchitectures", "SystemCallFilter"),
}
READS = "-f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf"
# After and Wants: network.target does not wait for addresses, which HAProxy may have to bind.
AFTER_THE_NETWORK = ("network-online.target syslog.target", "network-online.target")


def source(**haproxy):
    monitor = {"password": SECRETS["monitor"]}
    authentication = {"auth_pass": SECRETS["auth_pass"]}
    return pillar_of(
        haproxy={"install": "source", "monitor": monitor, "source": haproxy},
        keepalived={"install": "source", "authentication": authentication},
    )


def parts(text):
    """Read a unit file: a mapping from section to key to value, the last one where it has more."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def unit(text):
    """Read what a unit file says of its service; how it is reloaded is a list."""
    reloads = [line.split("=", 1)[1] for line in text.splitlines() if "ExecReload=" in line]
    return {**parts(text)["Service"], "ExecReload": reloads}


@pytest.fixture(params=OS_FAMILIES)
def balancer(compiled, request):
    def build(pillar=None):
        return compiled(BALANCER, pillar or source(), request.param)

    build.os_family = request.param
    return build


def test_from_source_nothing_is_installed_but_what_building_needs(balancer):
    installed = [chunk for chunk in balancer().low() if chunk["state"] == "pkg"]
    assert [chunk["__id__"] for chunk in installed] == [
        "HAProxy has what building it needs",
        "keepalived has what building it needs",
    ]
    for chunk, program in zip(installed, ("haproxy", "keepalived"), strict=True):
        plan = build_module(program, os_family=balancer.os_family).plan
        assert chunk["pkgs"] == plan(SHIPPED[program])["dependencies"]


def test_from_packages_no_build_is_in_use(balancer):
    here = balancer(pillar_of())
    installed = [chunk["pkgs"] for chunk in here.low() if chunk["state"] == "pkg"]
    assert installed == [["haproxy"], ["keepalived"]]
    builds = [
        (chunk["state"], chunk["fun"], chunk["name"])
        for chunk in here.low()
        if chunk["state"].endswith("_build")
    ]
    assert builds == [
        ("haproxy_build", "absent", "/usr/local/sbin/haproxy"),
        ("keepalived_build", "absent", "/usr/local/sbin/keepalived"),
    ]
    assert here.state("HAProxy runs the program that is installed")["program"] == (
        "/usr/sbin/haproxy"
    )


def test_it_is_built_before_its_unit_is_there_and_configured_before_it_runs(balancer):
    for title in ("HAProxy", "keepalived"):
        order = [
            f"{title} has what building it needs",
            f"{title} is built from source",
            f"systemd runs {title} as built",
            f"systemd uses the unit of {title} as built",
            f"{title} has its configuration",
            f"{title} runs the program that is installed",
            f"{title} is running and starts at boot",
        ]
        ids = balancer().ids("rabbit_ha")
        assert [name for name in ids if name in order] == order


@pytest.mark.parametrize("title", ["HAProxy", "keepalived"])
def test_settings_that_name_a_program_come_after_it_where_another_one_is_in_use(
    compiled, monkeypatch, title
):
    settings = f"systemd brings a {title} that died back"

    def before(program, host):
        ids = host.ids("rabbit_ha")
        return ids.index(f"{title} is {program}") < ids.index(settings)

    assert before("built from source", compiled(BALANCER, source()))
    # A package starts its program at once, and is to find them.
    assert not before("installed", compiled(BALANCER, pillar_of()))
    as_built = f"/usr/local/lib/systemd/system/{title.lower()}.service"
    is_file = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: path == as_built or is_file(path))
    assert before("installed", compiled(BALANCER, pillar_of(), switching_back=title))


def test_pillar_s_source_reaches_the_state(balancer):
    given = {"version": "2.1.4", "url": "salt://h.tar.gz", "options": {"USE_PCRE": 1}}
    chunk = balancer(source(**given)).state("HAProxy is built from source")
    assert (chunk["version"], chunk["url"]) == ("2.1.4", "salt://h.tar.gz")
    assert chunk["options"] == {"PREFIX": "/usr/local/haproxy", "USE_PCRE": 1}


def test_a_load_balancer_s_own_source_adds_to_what_is_said_of_all(compiled):
    pillar = pillar_of()
    own = pillar["rabbit_ha"]["hosts"][BALANCER]["keepalived"]
    own |= {"install": "source", "source": {"version": "2.3.3"}}
    chunk = compiled(BALANCER, pillar).state("keepalived is built from source")
    assert (chunk["version"], chunk["url"], chunk["checksum"]) == ("2.3.3", None, None)
    assert chunk["options"] == {"prefix": "/usr/local/keepalived", "sysconfdir": "/etc"}


@pytest.mark.parametrize("given", [{}, {"USE_PROMEX": "yes"}])
def test_a_build_has_the_option_that_its_metrics_need(compiled, given):
    pillar = source(options=given)
    without = compiled(BALANCER, source()).state("HAProxy is built from source")
    assert "USE_PROMEX" not in without["options"]
    pillar["rabbit_ha"]["haproxy"]["prometheus"] = {"enabled": True}
    chunk = compiled(BALANCER, pillar).state("HAProxy is built from source")
    assert chunk["options"]["USE_PROMEX"] == given.get("USE_PROMEX", 1)


def test_nobody_can_log_in_as_haproxy(balancer):
    pillar = source()
    # An account that this machine has would be left as it is.
    pillar["rabbit_ha"]["haproxy"]["global"] = {"user": "rabbit-ha-none"}
    chunk = balancer(pillar).state("HAProxy has a user that nobody can log in as")
    assert (chunk["name"], chunk["gid"], chunk["shell"]) == (
        "rabbit-ha-none",
        "haproxy",
        {"Debian": "/usr/sbin/nologin", "RedHat": "/sbin/nologin"}[balancer.os_family],
    )


def test_the_unit_of_haproxy_is_the_article_s_but_for_where_the_program_is(compiled):
    text = compiled(BALANCER, source()).render("haproxy/files/haproxy.service.j2")
    here, there = parts(text), parts(article.HAPROXY_UNIT)
    assert here["Unit"]["Description"] == there["Unit"]["Description"]
    assert (here["Unit"]["After"], here["Unit"]["Wants"]) == AFTER_THE_NETWORK
    assert here["Install"] == there["Install"]
    there = {
        key: value.replace("/usr/sbin/", "/usr/local/sbin/")
        for key, value in there["Service"].items()
    }
    found = unit(text)
    # Without -q, which is silent when it refuses too, and -p, which the configuration says.
    check = there["ExecStartPre"].removesuffix(" -q")
    assert found["ExecStartPre"] == check
    assert found["ExecStart"] == there["ExecStart"].removesuffix(" -p /run/haproxy.pid")
    assert found["ExecReload"] == [check, there["ExecReload"]]
    assert found["Type"] == "notify"
    assert HARDENED | {"ProtectKernelTunables", "RestrictRealtime"} <= set(found)
    # The drop-in says how it is brought back.
    assert "Restart" not in found


@pytest.mark.parametrize("os_family", OS_FAMILIES)
def test_a_package_s_haproxy_reads_the_same_files_and_keeps_its_own_options(compiled, os_family):
    host = compiled(BALANCER, os_family=os_family)
    found = unit(host.render("haproxy/files/haproxy.service.conf.j2"))
    assert found["ExecStart"] == f"/usr/sbin/haproxy -Ws {READS} $EXTRAOPTS $OPTIONS"
    assert found["ExecReload"] == [
        "",
        f"/usr/sbin/haproxy {READS} -c",
        "/bin/kill -USR2 $MAINPID",
    ]
    assert found["ExecStartPre"] == ""


@pytest.mark.parametrize("text", [{}, {"extra": "listen extra"}])
def test_haproxy_has_to_have_been_started_with_the_folder_once_there_is_something_in_it(
    compiled, text
):
    haproxy = {"snippets": {"text": text}, "monitor": {"password": SECRETS["monitor"]}}
    host = compiled(BALANCER, pillar_of(haproxy=haproxy))
    needed = READS.split() if text else READS.split()[:2]
    assert host.state("HAProxy runs the program that is installed")["arguments"] == needed


def test_a_build_s_unit_is_not_changed_but_for_how_it_is_brought_back(compiled):
    found = unit(compiled(BALANCER, source()).render("haproxy/files/haproxy.service.conf.j2"))
    assert found == {"Restart": "always", "RestartSec": "1", "ExecReload": []}


@pytest.mark.parametrize("install", ["package", "source"])
def test_folders_below_run_are_there_now_and_after_a_boot(compiled, install):
    pillar = source()
    haproxy = pillar["rabbit_ha"]["haproxy"]
    haproxy |= {"install": install, "runtime_socket": "/run/haproxy/admin.sock"}
    haproxy["global"] = {"pidfile": "/var/run/balancer/own/pid"}
    host = compiled(BALANCER, pillar)
    found = unit(host.render("haproxy/files/haproxy.service.conf.j2"))
    assert found["RuntimeDirectory"] == "haproxy balancer/own"
    assert found["RuntimeDirectoryPreserve"] == "yes"
    folders = [chunk["name"] for chunk in host.low() if chunk["state"] == "file"]
    assert {"/run/haproxy", "/run/balancer/own"} <= set(folders)


@pytest.mark.parametrize(("maxconn", "limit"), [(261644, None), (261645, "524290")])
def test_systemd_allows_as_many_files_as_haproxy_may_need(compiled, maxconn, limit):
    pillar = pillar_of(haproxy={"global": {"maxconn": maxconn}})
    found = unit(compiled(BALANCER, pillar).render("haproxy/files/haproxy.service.conf.j2"))
    assert found.get("LimitNOFILE") == limit
    assert "RuntimeDirectory" not in found


def test_without_use_systemd_it_is_not_waited_for_a_word_that_never_comes(compiled):
    pillar = source(options={"USE_SYSTEMD": 0})
    found = unit(compiled(BALANCER, pillar).render("haproxy/files/haproxy.service.j2"))
    assert found["Type"] == "forking"
    assert found["PIDFile"] == "/var/run/haproxy.pid"
    assert " -W -D " in found["ExecStart"]


def test_the_unit_of_keepalived_reads_the_configuration_of_the_states(compiled):
    text = compiled(BALANCER, source()).render("keepalived/files/keepalived.service.j2")
    here, found = parts(text), unit(text)
    # As in the unit that the article copies from keepalived's source.
    assert (here["Unit"]["After"], here["Unit"]["Wants"]) == AFTER_THE_NETWORK
    assert here["Install"] == {"WantedBy": "multi-user.target"}
    assert found["ExecStart"] == (
        "/usr/local/sbin/keepalived --dont-fork --use-file /etc/keepalived/keepalived.conf"
    )
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert set(found) >= HARDENED


@pytest.mark.parametrize("os_family", OS_FAMILIES)
def test_a_package_s_keepalived_reads_the_file_that_pillar_names_wherever_it_is(
    compiled, os_family
):
    pillar = pillar_of()
    pillar["rabbit_ha"]["keepalived"]["config_file"] = "/srv/ka/main.conf"
    host = compiled(BALANCER, pillar, os_family)
    text = host.render("keepalived/files/keepalived.service.conf.j2")
    found = unit(text)
    reads = ["--dont-fork", "--use-file", "/srv/ka/main.conf"]
    assert found["ExecStart"] == (
        f"/usr/sbin/keepalived {' '.join(reads)} $DAEMON_ARGS $KEEPALIVED_OPTIONS"
    )
    # A command is added to the package's, and so is a condition, unless they are reset first.
    lines = text.splitlines()
    for key in ("ExecStart", "ConditionFileNotEmpty"):
        assert [line for line in lines if line.startswith(f"{key}=")][0] == f"{key}="
    assert "ConditionFileNotEmpty=/srv/ka/main.conf" in lines
    # RedHat's unit was one that expects its program to go to the background.
    assert (found["Type"], found["PIDFile"]) == ("exec", "")
    running = host.state("keepalived runs the program that is installed")
    assert (running["program"], running["arguments"]) == ("/usr/sbin/keepalived", reads)
    folder = host.state("keepalived has a folder for its configuration")
    assert folder["name"] == "/srv/ka"


def test_a_keepalived_that_reads_its_own_file_already_is_not_restarted_to_be_told_so(compiled):
    running = compiled(BALANCER).state("keepalived runs the program that is installed")
    assert running["arguments"] == []


def test_a_build_of_keepalived_that_reads_another_file_is_restarted_too(compiled):
    pillar = source()
    pillar["rabbit_ha"]["keepalived"]["config_file"] = "/srv/ka/main.conf"
    host = compiled(BALANCER, pillar)
    running = host.state("keepalived runs the program that is installed")
    unit_of_the_build = unit(host.render("keepalived/files/keepalived.service.j2"))
    assert unit_of_the_build["ExecStart"] == " ".join([running["program"], *running["arguments"]])
    assert running["arguments"][-1] == "/srv/ka/main.conf"
    drop_in = unit(host.render("keepalived/files/keepalived.service.conf.j2"))
    assert drop_in == {"Restart": "always", "RestartSec": "1", "ExecReload": []}


def test_the_new_program_judges_the_configuration_before_anything_is_restarted(compiled):
    host = compiled(BALANCER, source())
    assert host.state("HAProxy runs the program that is installed")["check"] == [
        "/usr/local/sbin/haproxy",
        "-c",
        "-f",
        "/etc/haproxy/haproxy.cfg",
        "-f",
        "/etc/haproxy/conf",
    ]
    assert host.state("keepalived runs the program that is installed")["check"] == [
        "/etc/keepalived/check_configuration.sh",
        "/etc/keepalived/keepalived.conf",
        "/etc/keepalived/conf",
        "/usr/local/sbin/keepalived",
    ]


def test_the_master_load_balancer_waits_for_the_address_and_the_backup_does_not(compiled):
    waits = "This host holds the virtual address"
    assert compiled(BALANCER).ids()[-1] == waits
    assert waits not in compiled("haproxy-keeplive-node2").ids()


@pytest.mark.parametrize(("interval", "seconds"), [(1, 19), (5, 35)])
def test_rarer_advertisements_are_waited_for_longer(compiled, interval, seconds):
    pillar = pillar_of()
    pillar["rabbit_ha"]["keepalived"]["advert_int"] = interval
    state = compiled(BALANCER, pillar).state("This host holds the virtual address")
    assert state["seconds"] == seconds
