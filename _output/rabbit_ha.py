"""
One screen for a person: what ``salt-run rabbit_ha.status`` and its siblings return.
"""

import textwrap


def output(data, **kwargs):
    """
    Print the tables of the runner ``rabbit_ha``, then its verdict.

    data
        Mapping as the runner's functions return it below ``data``.

    Returns the text.
    """
    if not isinstance(data, dict) or "verdict" not in data:
        return str(data)
    lines = []
    if data.get("brokers"):
        lines += ["BROKERS", *_table(_broker_rows(data["brokers"])), ""]
    if data.get("load_balancers"):
        lines += ["LOAD BALANCERS", *_table(_load_balancer_rows(data["load_balancers"])), ""]
    for host, states in data.get("changes", {}).items():
        lines.append(host)
        for state, changes in states.items():
            lines += [f"  {state}", *(f"    {line}" for line in _told(changes))]
        lines.append("")
    for path, said in data.get("files", {}).items():
        lines.append(f"{path}: {said['done']}")
    for seen in data.get("messages", []):
        lines += [
            f"MESSAGES through {seen['address']}: {seen['confirmed']} confirmed, "
            f"{seen['consumed']} consumed, {seen['seconds']} s",
            "",
        ]
    verdict = data["verdict"]
    lines.append(("OK: " if verdict["result"] else "NOT OK: ") + verdict["says"])
    lines += [f"  - {problem}" for problem in verdict["problems"]]
    lines += [f"  - warning: {warning}" for warning in verdict.get("warnings", [])]
    return "\n".join(lines)


def _told(changes, path=""):
    """Tell a state's changes, a line each; old and new of one thing in one line."""
    if changes == {}:
        return []
    if not isinstance(changes, dict):
        first, *more = str(changes).splitlines() or [""]
        return [f"{path}: {first}" if path else first, *(f"  {line}" for line in more)]
    if changes.keys() <= {"old", "new"} and not any(
        isinstance(value, str) and "\n" in value for value in changes.values()
    ):
        old, new = changes.get("old"), changes.get("new")
        if isinstance(old, dict) and isinstance(new, dict):
            differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            both = {key: {"old": old.get(key), "new": new.get(key)} for key in differing}
            return _told(both, path)
        return [f"{path}: {new}" if old in (None, "") else f"{path}: {old} -> {new}"]
    return [
        line
        for key, value in changes.items()
        for line in _told(value, f"{path}: {key}" if path else key)
    ]


def _broker_rows(brokers):
    """List the head and a row a broker."""
    rows = [["host", "version", "members", "running", "alarms"]]
    for host, seen in brokers.items():
        if seen.get("error"):
            rows.append([host, "-", "-", "-", _in_short(seen["error"])])
            continue
        rows.append(
            [
                host,
                seen["version"],
                ", ".join(node.split("@", 1)[1] for node in seen["members"]),
                str(len(seen["running"])),
                ", ".join(seen["alarms"]) or "none",
            ]
        )
    return rows


def _load_balancer_rows(load_balancers):
    """List the head and a row a load balancer."""
    rows = [["host", "VRRP", "holds", "HAProxy sees"]]
    for host, seen in load_balancers.items():
        if seen.get("error"):
            rows.append([host, "-", "-", _in_short(seen["error"])])
            continue
        views = ", ".join(f"{server} {state}" for server, state in seen["servers"].items())
        held = ", ".join(seen["holds"]) or "-"
        rows.append([host, _vrrp(seen["vrrp"]), held, views or seen["haproxy"]])
    return rows


def _in_short(error):
    """Give as much of an error as a table has room for; all of it is among the problems."""
    return textwrap.shorten(error, 72, placeholder=" …")


def _vrrp(states):
    """Tell the states of VRRP instances; the name only where there are several."""
    if len(states) == 1:
        return next(iter(states.values()))
    return ", ".join(f"{name} {state}" for name, state in states.items())


def _table(rows):
    """Align rows of text in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
