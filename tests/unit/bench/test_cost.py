"""bench.cost: what it calls missed, and what its table shows."""

import pytest

from bench import cost

STOCK = {"vms": 29, "seconds": 31.6}


def row(what, vms, size="small", stock=STOCK):
    return {"size": size, "what": what, "here": {"vms": vms, "seconds": 8.0}, "stock": stock}


@pytest.mark.parametrize("size", cost.SIZES)
def test_a_highstate_that_starts_more_vms_than_aimed_at_is_missed_whatever_the_size(size):
    rows = [
        row("nothing to do, seed", 2, size),
        row("nothing to do, member", 3, size),
        row("created from nothing", 6, size),
    ]
    assert cost.missed(rows) == [f"{size}: nothing to do, member: 3"]
    assert cost.missed([row("created from nothing", 7, size)]) == [
        f"{size}: created from nothing: 7"
    ]


@pytest.mark.parametrize(
    ("up_to", "sizes"),
    [("small", ["small"]), ("medium", ["small", "medium"]), ("big", ["small", "medium", "big"])],
)
def test_stock_salt_is_waited_for_up_to_a_size(up_to, sizes):
    assert [size for size in cost.SIZES if cost.is_measured_with_stock(size, up_to)] == sizes


def test_the_table_has_a_dash_where_stock_salt_was_not_measured(capsys):
    cost.print_table([row("nothing to do, seed", 2), row("created from nothing", 6, "big", None)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[-6:] for line in lines if "nothing" in line and "aim," not in line] == [
        ["2", "29", "14.5x", "8.0", "31.6", "4.0x"],
        ["6", "-", "-", "8.0", "-", "-"],
    ]
