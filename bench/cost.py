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
SIZES = {"small": objects.SMALL, "medium": objects.MEDIUM, "big": objects.BIG}
CREATED = "created from nothing"
# VM starts, whatever the size.
AIM, AIM_CREATED = 2, 6


def measure(sizes, stock_up_to):
    """
    Create objects and then apply the same again, by highstate and by stock Salt's states.

    sizes
        List of keys of ``SIZES``.
    stock_up_to
        The last of ``SIZES`` with which stock Salt's states are measured too.

    Needs the deployed lab; takes away what it created. Returns a list of rows: a
    mapping with ``size``, ``what``, ``here`` and ``stock``, each a mapping with
    ``vms`` and ``seconds``, or None for stock Salt where it was not measured.
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
            stock = stock_made = None
            if is_measured_with_stock(size, stock_up_to):
                stock = _counted(what + "stock Salt", member, "state.apply", STOCK, changes=False)
                _delete(seed)
                stock_made = _counted(f"{size}: created, stock Salt", member, "state.apply", STOCK)
                _require_there(seed, described)
            _delete(seed)
        rows += [
            {"size": size, "what": "nothing to do, seed", "here": on_seed, "stock": stock},
            {"size": size, "what": "nothing to do, member", "here": on_member, "stock": stock},
            {"size": size, "what": CREATED, "here": made, "stock": stock_made},
        ]
    return rows


def is_measured_with_stock(size, stock_up_to):
    """Tell whether a size is none beyond another one."""
    sizes = list(SIZES)
    return sizes.index(size) <= sizes.index(stock_up_to)


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
        here, stock = row["here"], row["stock"] or {}
        figures = []
        for kind, form in (("vms", "d"), ("seconds", ".1f")):
            figures.append(format(here[kind], form))
            figures.append(format(stock[kind], form) if stock else "-")
            figures.append(_ratio(stock.get(kind), here[kind]))
        print(f"{row['size'] + ': ' + row['what']:32}" + "".join(f"{one:>10}" for one in figures))
    for size in dict.fromkeys(row["size"] for row in rows):
        print(f"{size}: {sizes[size]}, {len(objects.PLUGINS)} plugins, membership")
    print(
        f"aim, whatever the size: at most {AIM} VM starts where there is nothing to do, "
        f"{AIM_CREATED} where all is created"
    )


def missed(rows):
    """Name the rows of a highstate that started more VMs than aimed at, and how many."""
    return [
        f"{row['size']}: {row['what']}: {row['here']['vms']}"
        for row in rows
        if row["here"]["vms"] > (AIM_CREATED if row["what"] == CREATED else AIM)
    ]


def _ratio(stock, here):
    """Say how many times more the other one took, where that was measured."""
    return f"{stock / here:.1f}x" if stock and here else "-"
