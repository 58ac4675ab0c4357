"""Building from source through Salt's loader and file server, on sources of milliseconds."""

import os
import subprocess

import pytest

from tests import fake_source


@pytest.fixture(params=["haproxy", "keepalived"])
def program(request):
    return request.param


@pytest.fixture
def build(program, minion, run_state, tmp_path):
    """Return a function that runs one of the program's states; the archive is at salt://."""
    served = tmp_path / "served"
    served.mkdir()
    archive, checksum = fake_source.archive(served, program, "2.6.12")
    prefix = {"haproxy": "PREFIX", "keepalived": "prefix"}[program]
    wanted = {
        "version": "2.6.12",
        "url": f"salt://{os.path.basename(archive)}",
        "checksum": checksum,
        "options": {prefix: str(tmp_path / "local" / program)},
    }

    def run(function, test=False, **changed):
        opts = minion(test=test)
        opts["file_roots"]["base"].append(str(served))
        low = {
            "state": f"{program}_build",
            "fun": function,
            "name": str(tmp_path / "sbin" / program),
        }
        if function == "installed":
            low |= {**wanted, **changed}
        else:
            low["unit"] = str(tmp_path / f"{program}.service")
        [ret] = run_state(opts, low)
        return ret

    return run


def test_it_is_fetched_built_used_left_alone_and_taken_out_of_use(build, program, tmp_path):
    assert build("installed", test=True)["result"] is None
    assert not (tmp_path / "local").exists()
    ret = build("installed")
    assert (ret["result"], bool(ret["changes"])) == (True, True), ret["comment"]
    link = tmp_path / "sbin" / program
    says = subprocess.run([link, "-v"], capture_output=True, text=True, check=True)
    assert "2.6.12" in says.stdout
    again = build("installed")
    assert (again["result"], again["changes"]) == (True, {})
    assert build("absent")["result"] is True
    assert not os.path.lexists(link)
    back = build("installed")
    assert "switched to, being there already" in back["comment"]


def test_another_archive_than_promised_is_not_built(build, tmp_path):
    ret = build("installed", checksum=f"sha512={'0' * 128}")
    assert ret["result"] is False
    assert "is not what it should be" in ret["comment"]
    assert not (tmp_path / "sbin").exists()


def test_an_archive_that_is_not_served_is_told(build):
    ret = build("installed", url="salt://nowhere.tar.gz")
    assert ret["result"] is False
    assert "salt://nowhere.tar.gz could not be fetched" in ret["comment"]
