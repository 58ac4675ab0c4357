"""A deployment against the same steps typed by hand, on hosts in the same state."""

import pathlib
import statistics
import subprocess

import yaml

from bench import bed

AIMS = {"orchestration / by hand": 1.3, "nothing to do / empty round": 4.0}


def measure(release, rounds):
    """
    Deploy by hand, then by the orchestration, then again with nothing to do.

    release
        Debian release of the hosts.
    rounds
        How often the runs with nothing to do are timed; the median counts.

    Leaves the deployed lab. Returns a mapping from letter to seconds.
    """
    bed.installed_hosts(release)
    a = bed.timed("a  the article's steps by hand", by_hand)
    bed.installed_hosts(release)
    b = bed.timed("b  the orchestration, hosts in the same state", bed.orchestration)
    write_empty_round()
    pairs = [
        (
            bed.timed("c  the orchestration again, nothing to do", bed.orchestration),
            bed.timed("d  one round of an empty state", empty_round),
        )
        for _ in range(rounds)
    ]
    c, d = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"a": a, "b": b, "c": c, "d": d}


def by_hand(lab=bed.LAB):
    """
    Run the article's steps as one shell script; the packages are there and the brokers run.

    lab : bench
        The lab's name.
    """
    settings = bed.settings()
    hosts = settings["hosts"]
    pairs = {
        role: " ".join(
            f"{name}={host['address']}"
            for name, host in hosts.items()
            if role in host["roles"] and name != settings["seed"]
        )
        for role in bed.PACKAGES
    }
    subprocess.run(
        [pathlib.Path(__file__).parent / "by_hand.sh", lab, settings["seed"]]
        + [hosts[settings["seed"]]["address"], pairs["broker"], pairs["load_balancer"]]
        + [settings["virtual_address"]],
        check=True,
        capture_output=True,
        text=True,
    )


def write_empty_round():
    """Give the lab's master an orchestration with one step that does nothing on all hosts."""
    folder = pathlib.Path(bed.status()["master"]["states_dir"])
    hosts = list(bed.settings()["hosts"])
    step = {"salt.state": [{"tgt": hosts}, {"tgt_type": "list"}, {"sls": "empty"}]}
    (folder / "empty_round.sls").write_text(yaml.safe_dump({"Nothing is done": step}))
    nothing = {"Nothing": {"test.nop": []}}
    (folder / "empty.sls").write_text(yaml.safe_dump(nothing))


def empty_round():
    """Run an orchestration of one round of an empty state."""
    bed.lab("salt-run", "state.orchestrate", "empty_round")


def print_table(seconds):
    """Print the figures, their ratios and what was aimed at."""
    names = {
        "a": "the article's steps by hand",
        "b": "the orchestration, same state",
        "c": "the orchestration again, nothing to do",
        "d": "an orchestration of one empty round",
    }
    print(f"\n{'':3}{'what':42}{'seconds':>8}")
    for key, value in seconds.items():
        print(f"{key:3}{names[key]:42}{value:8.1f}")
    ratios = (seconds["b"] / seconds["a"], seconds["c"] / seconds["d"])
    print(f"\n{'ratio':45}{'found':>6}{'aim':>8}")
    for (name, aim), found in zip(AIMS.items(), ratios, strict=True):
        print(f"{name:45}{found:6.2f}{'≤ ' + str(aim):>8}")
