"""
The same deployment on the Debian and the RedHat family: names, paths, and no package manager.

That every SLS compiles on both is in test_compiled.py.
"""

import re

import pytest

from tests.sls.conftest import OS_FAMILIES, pillar_of
from tests.support import ROOT

BROKER, BALANCER = "rabbitmq-node2", "haproxy-keeplive-node1"
# What would tie the project to one package manager; `pkg` is Salt's own word for any.
PACKAGE_MANAGERS = r"\b(apt|apt-get|aptitude|aptpkg|dpkg|dnf|yum|yumpkg|rpm|debconf|pkgrepo)\b"


def of_state(host, state, key):
    return [chunk[key] for chunk in host.low() if chunk["state"] == state and key in chunk]


@pytest.fixture(params=OS_FAMILIES)
def host(compiled, request):
    def build(minion, **overrides):
        return compiled(minion, pillar_of(**overrides), request.param)

    build.os_family = request.param
    return build


@pytest.mark.parametrize(
    ("minion", "packages"),
    [(BROKER, [["rabbitmq-server"]]), (BALANCER, [["haproxy"], ["keepalived"]])],
)
def test_packages_have_one_name_on_both(host, minion, packages):
    assert of_state(host(minion), "pkg", "pkgs") == packages


@pytest.mark.parametrize(
    ("minion", "services"), [(BROKER, ["rabbitmq-server"]), (BALANCER, ["haproxy", "keepalived"])]
)
def test_services_have_one_name_on_both_and_start_at_boot(host, minion, services):
    running = [chunk for chunk in host(minion).low() if chunk["fun"] == "running"]
    assert [chunk["name"] for chunk in running] == services
    # Ours does so by itself.
    ours = [chunk["state"] == "rabbit_node" for chunk in running]
    assert all(is_ours or chunk["enable"] for is_ours, chunk in zip(ours, running, strict=True))


def test_services_run_the_programs_where_both_have_them(host):
    assert of_state(host(BALANCER), "rabbit_failover", "program") == [
        "/usr/sbin/haproxy",
        "/usr/sbin/keepalived",
    ]


def test_rabbitmq_s_files_are_where_both_have_them(host):
    names = of_state(host(BROKER), "file", "name")
    assert names == ["/etc/rabbitmq/rabbitmq.conf", "/etc/rabbitmq/enabled_plugins"]


def test_a_user_without_rights_has_the_shell_that_the_family_gives_such_users(host):
    shells = of_state(host(BALANCER), "user", "shell")
    nologin = {"Debian": "/usr/sbin/nologin", "RedHat": "/sbin/nologin"}[host.os_family]
    assert shells == [nologin, nologin]


def test_keepalived_s_check_is_where_the_family_lets_keepalived_run_it(host):
    script = {
        "Debian": "/etc/keepalived/haproxy_check.sh",
        "RedHat": "/usr/libexec/keepalived/haproxy_check.sh",
    }[host.os_family]
    balancer = host(BALANCER)
    written = balancer.state("keepalived has its check of HAProxy")
    # One that others may write keepalived would not run.
    assert [written[key] for key in ("name", "user", "mode")] == [script, "root", "0755"]
    configuration = balancer.render("keepalived/files/keepalived.conf.j2")
    assert f'script "{script}"' in configuration


def test_pillar_wins_over_the_family(host):
    said = {"script": "/opt/check.sh", "packages": ["keepalived22"], "authentication": {}}
    said["authentication"] = pillar_of()["rabbit_ha"]["keepalived"]["authentication"]
    balancer = host(BALANCER, keepalived=said)
    assert balancer.state("keepalived has its check of HAProxy")["name"] == "/opt/check.sh"
    assert balancer.state("keepalived is installed")["pkgs"] == ["keepalived22"]


# SELinux lets keepalived run them elsewhere.
SCRIPTS = (
    "A check of HAProxy that others wrote is kept",
    "keepalived has its check of HAProxy",
    "keepalived tells its state",
)


def test_the_two_differ_in_nothing_else(compiled):
    for minion in (BROKER, BALANCER):
        debian, redhat = (
            [
                {key: value for key, value in chunk.items() if key != "shell"}
                for chunk in compiled(minion, pillar_of(), family).low()
                if chunk["__id__"] not in SCRIPTS
            ]
            for family in ("Debian", "RedHat")
        )
        assert debian == redhat


def words(path):
    """Read a file without its comments and documentation."""
    text = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
    return re.sub(r"#.*", "", text)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "salt").rglob("*")) if path.suffix in (".sls", ".j2", ".sh")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_sls_knows_a_package_manager(path):
    assert re.findall(PACKAGE_MANAGERS, words(path)) == []


@pytest.mark.parametrize(
    "path",
    [path for kind in ("_modules", "_states", "_utils") for path in (ROOT / kind).glob("*.py")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_module_that_knows_a_package_manager_asks_first_whether_it_is_there(path):
    text = words(path)
    if re.search(PACKAGE_MANAGERS, text):
        assert re.search(rf"which\(\"({PACKAGE_MANAGERS})", text)
