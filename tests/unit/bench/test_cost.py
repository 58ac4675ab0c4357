"""bench.cost: what it calls missed."""

from bench import cost


def row(what, vms):
    return {"size": "small", "what": what, "here": {"vms": vms}, "stock": {"vms": 29}}


def test_only_a_highstate_with_nothing_to_do_may_start_too_many_vms():
    rows = [
        row("nothing to do, seed", cost.AIM),
        row("nothing to do, member", cost.AIM + 1),
        row("created from nothing", 5),
    ]
    assert cost.missed(rows) == ["small: nothing to do, member"]
