"""A configuration with snippets, through Salt's loader, file server and templates."""

import pathlib
import stat

import pytest

MARK = "# Written by Salt: a snippet of pillar.\n"
JUDGE = """\
#!/bin/sh
grep -rq refused "$1" && echo "$1/main.cfg: refused s3cret-password" && exit 5
exit 0
"""


@pytest.fixture
def configured(tmp_path, minion, run_state):
    """Return a function that has the state make a configuration out of a template and pillar."""
    served = tmp_path / "served"
    (served / "more").mkdir(parents=True)
    (served / "more" / "served.cfg").write_text("served\n")
    (served / "main.j2").write_text(
        "{{ grains['id'] }} {{ pillar['rabbit_ha']['haproxy']['monitor']['password'] }}"
        "{% if snippets %} with snippets{% endif %}\n"
    )
    judge = tmp_path / "judge.sh"
    judge.write_text(JUDGE)
    judge.chmod(0o755)

    def run(test=False, **snippets):
        haproxy = {"monitor": {"password": "s3cret-password"}}
        haproxy["snippets"] = {"source": "salt://more", "text": snippets}
        opts = minion("haproxy-keeplive-node1", test=test, haproxy=haproxy)
        opts["file_roots"]["base"].append(str(served))
        low = {
            "state": "rabbit_configuration",
            "fun": "checked",
            "name": str(tmp_path / "etc" / "main.cfg"),
            "source": "salt://main.j2",
            "check": [str(judge), "{root}"],
            "folder": str(tmp_path / "etc" / "conf"),
            "suffix": ".cfg",
            "snippets": "rabbit_ha:haproxy:snippets",
        }
        [ret] = run_state(opts, low)
        return ret

    return run


def texts(folder):
    return {path.name: path.read_text() for path in folder.rglob("*.cfg")}


def test_it_is_predicted_made_left_alone_and_refused(configured, tmp_path):
    etc = tmp_path / "etc"
    assert configured(test=True, one="text")["result"] is None
    assert not etc.exists()

    made = configured(one="text")
    assert made["result"] is True, made
    expected = {
        "main.cfg": "haproxy-keeplive-node1 s3cret-password with snippets\n",
        "one.cfg": f"text\n{MARK}",
        "served.cfg": f"served\n{MARK}",
    }
    assert texts(etc) == expected
    assert {stat.S_IMODE(path.stat().st_mode) for path in etc.rglob("*.cfg")} == {0o600}
    assert configured(one="text")["changes"] == {}

    refused = configured(one="to be refused")
    assert (refused["result"], refused["changes"]) == (False, {})
    # No word that is in the snippet.
    assert "nothing was replaced: /main.cfg: … …" in refused["comment"]
    assert "s3cret-password" not in str(made) + str(refused)
    assert texts(etc) == expected


def test_nothing_is_left_in_the_folder_for_temporary_files(configured, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    configured(one="text")
    configured(one="to be refused")
    assert [path for path in temporary.iterdir() if path.name.startswith("rabbit_ha.")] == []
    assert pathlib.Path(tmp_path / "etc" / "main.cfg").exists()
