"""What a highstate costs a broker, beside stock Salt's states for the same objects.

Erlang VMs are counted from the kernel's process accounting in the host, not by the code.
"""

import contextlib
import json
import pathlib

import yaml

from bench import bed, objects
from lab.accounting import Accounting

STOCK = "bench_stock"
SIZES = {"small": objects.SMALL, "big": objects.BIG}
AIM = 2


def measure(sizes):
    """
    Create objects and then apply the same again, by highstate and by stock Salt's states.

    sizes
        List of keys of ``SIZES``.

    Needs the deployed lab; takes away what it created. Returns a list of rows: a
    mapping with ``size``, ``what``, ``here`` and ``stock``, each a mapping with
    ``vms`` and ``seconds``.
    """
    seed, member = _brokers()[:2]
    rows = []
    for size in sizes:
        described = objects.pillar(**SIZES[size])
        with _in_pillar(described), _stock_states(described, seed):
            made = _counted(f"{size}: created, on the seed", seed, "state.highstate")
            _require_there(seed, described)
            # Plugins are each host's own.
            for broker in _brokers()[1:]:
                _apply(broker, "state.highstate")
            what = f"{size}: nothing to do, "
            on_seed = _counted(what + "on the seed", seed, "state.highstate", changes=False)
            on_member = _counted(what + "on a member", member, "state.highstate", changes=False)
            stock = _counted(what + "stock Salt", member, "state.apply", STOCK, changes=False)
            _delete(seed)
            stock_made = _counted(f"{size}: created, stock Salt", member, "state.apply", STOCK)
            _require_there(seed, described)
            _delete(seed)
        rows += [
            {"size": size, "what": "nothing to do, seed", "here": on_seed, "stock": stock},
            {"size": size, "what": "nothing to do, member", "here": on_member, "stock": stock},
            {"size": size, "what": "created from nothing", "here": made, "stock": stock_made},
        ]
    return rows


def _brokers():
    """List the brokers' host names, the seed first."""
    settings = bed.settings()
    names = [name for name, host in settings["hosts"].items() if "broker" in host["roles"]]
    return sorted(names, key=lambda name: name != settings["seed"])


def _in_host(host):
    """Return a function that runs a command in a host and returns what it printed."""
    return lambda *command: bed.lab("exec", host, "--", *command).stdout


@contextlib.contextmanager
def _in_pillar(described):
    """Have the brokers' pillar hold the objects too, for a while."""
    path = pathlib.Path(bed.status()["master"]["secrets_dir"], "rabbit_ha/secrets/broker.sls")
    before = path.read_text()
    pillar = yaml.safe_load(before)
    rabbitmq = pillar["rabbit_ha"]["rabbitmq"]
    rabbitmq.update({**described, "users": {**rabbitmq["users"], **described["users"]}})
    path.write_text(yaml.safe_dump(pillar))
    try:
        yield
    finally:
        path.write_text(before)


@contextlib.contextmanager
def _stock_states(described, seed):
    """Serve an SLS file of stock Salt's states for the objects, for a while."""
    path = pathlib.Path(bed.status()["master"]["states_dir"], f"{STOCK}.sls")
    path.write_text(yaml.safe_dump(objects.stock_states(described, join=seed), sort_keys=False))
    try:
        yield
    finally:
        path.unlink()


def _apply(host, *function, changes=None):
    """Run states on a host; raise where one fails or, with ``changes`` False, changes."""
    text = _in_host(host)("salt-call", "--out=json", *function)
    for state in json.loads(text)["local"].values():
        wrong = state["result"] is not True or (changes is False and state["changes"])
        if wrong:
            raise RuntimeError(f"{host}: {function}: {state['__id__']}: {state['comment']}")


def _counted(what, host, *function, changes=None):
    """Run states on a host; returns how many VMs that started, and its seconds."""
    root = bed.status()["hosts"][host]["root"]
    with Accounting(_in_host(host), root) as accounting:
        seconds = bed.timed(what, lambda: _apply(host, *function, changes=changes))
    print(f"{what}: {accounting.vm_starts} Erlang VMs started", flush=True)
    return {"vms": accounting.vm_starts, "seconds": seconds}


def _require_there(host, described):
    """Read back and raise unless every object is there as described."""
    text = _in_host(host)("rabbitmqctl", "--silent", "export_definitions", "-")
    left = objects.missing(described, json.loads(text[text.index("{") :]))
    if left:
        raise RuntimeError(f"created, yet not there as described: {left}")


def _delete(host):
    """Take the objects away."""
    _in_host(host)("rabbitmqctl", "eval", objects.DELETE)


def print_table(rows):
    """Print the figures beside stock Salt's, with ratios, and what was aimed at."""
    columns = "VM starts", "stock", "ratio", "seconds", "stock", "ratio"
    sizes = {
        size: ", ".join(f"{count} {kind}" for kind, count in counts.items())
        for size, counts in SIZES.items()
    }
    print(f"\n{'':32}" + "".join(f"{column:>10}" for column in columns))
    for row in rows:
        here, stock = row["here"], row["stock"]
        print(
            f"{row['size'] + ': ' + row['what']:32}"
            f"{here['vms']:10}{stock['vms']:10}{_ratio(stock['vms'], here['vms']):>10}"
            f"{here['seconds']:10.1f}{stock['seconds']:10.1f}"
            f"{_ratio(stock['seconds'], here['seconds']):>10}"
        )
    for size in dict.fromkeys(row["size"] for row in rows):
        print(f"{size}: {sizes[size]}, {len(objects.PLUGINS)} plugins, membership")
    print(f"aim: at most {AIM} VM starts where there is nothing to do, whatever the size")


def missed(rows):
    """Name the rows of a highstate with nothing to do that started more VMs than aimed at."""
    return [
        f"{row['size']}: {row['what']}"
        for row in rows
        if row["what"].startswith("nothing to do") and row["here"]["vms"] > AIM
    ]


def _ratio(stock, here):
    """Say how many times more the other one took."""
    return f"{stock / here:.1f}x" if here else "-"
