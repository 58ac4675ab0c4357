"""
Deploy by hand and by the orchestration, on hosts in the same state, and compare.

Each figure is the wall-clock time of one whole command. The ratios are what to
look at: they were measured on one machine in one run.
"""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import yaml

from lab import topology

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
LAB = "bench"
PACKAGES = {"broker": ["rabbitmq-server"], "load_balancer": ["haproxy", "keepalived"]}
AIMS = {"orchestration / by hand": 1.3, "nothing to do / empty round": 4.0}


def lab(verb, *arguments, **kwargs):
    """Run a verb of bin/lab and raise when it fails."""
    command = [CHECKOUT / "bin" / "lab", "--name", LAB, verb, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, **kwargs)


def timed(what, run):
    """Time one call; returns seconds and says so."""
    print(f"{what} …", flush=True)
    started = time.monotonic()
    try:
        run()
    except subprocess.CalledProcessError as err:
        sys.exit(f"{what} failed:\n{err.stdout}\n{err.stderr}")
    seconds = time.monotonic() - started
    print(f"{what}: {seconds:.1f} s", flush=True)
    return seconds


def installed_hosts(hosts, release):
    """Boot fresh hosts and install the packages: the state both ways start from."""
    lab("down")
    lab("up", "--release", release)
    running = [
        subprocess.Popen(
            [CHECKOUT / "bin" / "lab", "--name", LAB, "exec", name, "--", "sh", "-c"]
            + [
                "apt-get -qq update && apt-get -qq install --yes "
                + " ".join(package for role in host["roles"] for package in PACKAGES[role])
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, host in hosts.items()
    ]
    if any(process.wait() for process in running):
        sys.exit("the packages could not be installed")
    lab("salt-run", "rabbit_ha.secrets")


def by_hand(settings):
    """Run the article's steps as one shell script."""
    hosts = settings["hosts"]
    pairs = {
        role: " ".join(
            f"{name}={host['address']}"
            for name, host in hosts.items()
            if role in host["roles"] and name != settings["seed"]
        )
        for role in PACKAGES
    }
    subprocess.run(
        [CHECKOUT / "bench" / "by_hand.sh", LAB, settings["seed"]]
        + [hosts[settings["seed"]]["address"], pairs["broker"], pairs["load_balancer"]]
        + [settings["virtual_address"]],
        check=True,
        capture_output=True,
        text=True,
    )


def orchestration():
    """Run the deployment."""
    lab("salt-run", "state.orchestrate", "orch.rabbit_ha")


def empty_round():
    """Run an orchestration of one round of an empty state."""
    lab("salt-run", "state.orchestrate", "empty_round")


def write_empty_round(hosts):
    """Give the lab's master an orchestration with one step that does nothing on all hosts."""
    folder = pathlib.Path(yaml.safe_load(lab("status", "--json").stdout)["master"]["states_dir"])
    step = {"salt.state": [{"tgt": list(hosts)}, {"tgt_type": "list"}, {"sls": "empty"}]}
    (folder / "empty_round.sls").write_text(yaml.safe_dump({"Nothing is done": step}))
    nothing = {"Nothing": {"test.nop": []}}
    (folder / "empty.sls").write_text(yaml.safe_dump(nothing))


def main():
    """Measure, and print a table with the ratios."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--release", default="bookworm")
    parser.add_argument("--rounds", type=int, default=3, help="how often c and d are timed")
    options = parser.parse_args()
    topology.load(CHECKOUT / "pillar")
    text = (CHECKOUT / "pillar" / "rabbit_ha" / "topology.sls").read_text()
    settings = yaml.safe_load(text)["rabbit_ha"]
    try:
        installed_hosts(settings["hosts"], options.release)
        a = timed("a  the article's steps by hand", lambda: by_hand(settings))
        installed_hosts(settings["hosts"], options.release)
        b = timed("b  the orchestration, hosts in the same state", orchestration)
        write_empty_round(settings["hosts"])
        pairs = [
            (
                timed("c  the orchestration again, nothing to do", orchestration),
                timed("d  one round of an empty state", empty_round),
            )
            for _ in range(options.rounds)
        ]
    finally:
        lab("down")
    c, d = (statistics.median(column) for column in zip(*pairs, strict=True))
    print_table({"a": a, "b": b, "c": c, "d": d})


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


if __name__ == "__main__":
    if shutil.which("systemd-nspawn") is None:
        sys.exit("make bench needs what lab/prepare installs, and root")
    main()
