"""keepalived itself judges what pillar makes, in all its options."""

import pathlib

import pytest

from tests.integration.lab import HOLDER, STANDBY
from tests.sls.conftest import SECRETS, Compiled, numbered, pillar_of
from tests.sls.test_files import OPTIONS

# What pillar's options and grains call the interface, and what it is called on the lab's hosts.
NAMED, INTERFACE = "ens33", "host0"
MORE = "vrrp_script more {\n    script /bin/true\n    user nobody\n}\n"
STAYS = {"state": "BACKUP"}


def article_s(stays=False, **keepalived):
    """The article's topology with what pillar says of keepalived."""
    pillar = pillar_of(keepalived=keepalived)
    own = pillar["rabbit_ha"]["hosts"][HOLDER]["keepalived"]
    own |= STAYS if stays else {}
    pillar["rabbit_ha"]["keepalived"].setdefault("authentication", {})
    pillar["rabbit_ha"]["keepalived"]["authentication"]["auth_pass"] = SECRETS["auth_pass"]
    return HOLDER, pillar


def ipv6(**keepalived):
    topology = numbered(1, 2) | {"virtual_address": "2001:db8::9"}
    for number, host in enumerate(topology["hosts"].values(), 1):
        host["address"] = f"2001:db8::1:{number}"
    return "balancer1", pillar_of(topology, keepalived=keepalived)


JUDGED = {
    "default": article_s(),
    **{name: article_s(**options) for name, options in OPTIONS.items()},
    "AH": article_s(stays=True, authentication={"auth_type": "AH"}),
    "nopreempt": article_s(stays=True, nopreempt=True),
    "preempt_delay": article_s(stays=True, preempt_delay=30),
    "ipv6": ipv6(),
    "ipv6, unicast": ipv6(unicast=True, advert_int=0.5),
}


def judged(lab, text, more=MORE):
    """Have keepalived judge a configuration and a snippet on the backup."""
    folder = pathlib.Path(lab.status()["hosts"][STANDBY]["root"]) / "root" / "judged-keepalived"
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    (folder / "keepalived.conf").write_text(text)
    (folder / "conf" / "more.conf").write_text(more)
    here = "/root/judged-keepalived"
    files = [f"{here}/keepalived.conf", f"{here}/conf"]
    command = ["/etc/keepalived/check_configuration.sh", *files, "/usr/sbin/keepalived"]
    return lab.exec(STANDBY, *command, check=False)


def rendered(folder, case):
    """What pillar makes of a case, with snippets, for the lab's interface."""
    minion, pillar = JUDGED[case]
    host = Compiled(folder, minion, pillar, "Debian")
    text = host.render("keepalived/files/keepalived.conf.j2", snippets=True)
    return text.replace(NAMED, INTERFACE)


@pytest.mark.parametrize("case", JUDGED)
def test_keepalived_finds_nothing_wrong_with_what_pillar_makes(deployed, tmp_path, case):
    done = judged(deployed, rendered(tmp_path, case))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_reads_the_snippet_too(deployed, tmp_path):
    done = judged(deployed, rendered(tmp_path, "default"), "nonsense here\n")
    assert done.returncode != 0
    assert "Unknown keyword 'nonsense'" in done.stdout + done.stderr
