"""The lab that everything is measured on, and a clock."""

import json
import os
import pathlib
import subprocess
import sys
import time

import yaml

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
LAB = "bench"
PACKAGES = {"broker": ["rabbitmq-server"], "load_balancer": ["haproxy", "keepalived"]}


def settings():
    """Return the topology of the checkout's pillar, a mapping."""
    text = (CHECKOUT / "pillar" / "rabbit_ha" / "topology.sls").read_text()
    return yaml.safe_load(text)["rabbit_ha"]


def lab(verb, *arguments, **kwargs):
    """Run a verb of bin/lab and raise when it fails."""
    command = [CHECKOUT / "bin" / "lab", "--name", LAB, verb, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, **kwargs)


def status():
    """Return what ``bin/lab status --json`` says."""
    return json.loads(lab("status", "--json").stdout)


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


def installed_hosts(release):
    """Boot fresh hosts and install the packages: the state both ways start from."""
    lab("down")
    # Salt's own default, which the lab's hosts do without.
    lab("up", "--release", release, env={**os.environ, "RABBIT_HA_LAB_KEY_SIZE": "2048"})
    install_packages()
    lab("salt-run", "rabbit_ha.secrets")


def install_packages(name=LAB):
    """Install the packages of all hosts' roles with apt; ``name`` is the lab's."""
    running = [
        subprocess.Popen(
            [CHECKOUT / "bin" / "lab", "--name", name, "exec", host, "--", "sh", "-c"]
            + [
                "apt-get -qq update && apt-get -qq install --yes "
                + " ".join(package for role in said["roles"] for package in PACKAGES[role])
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for host, said in settings()["hosts"].items()
    ]
    # All of them, before one of them is told to have failed.
    if any([process.wait() for process in running]):
        sys.exit("the packages could not be installed")


def orchestration():
    """Run the deployment."""
    lab("salt-run", "state.orchestrate", "orch.rabbit_ha")
