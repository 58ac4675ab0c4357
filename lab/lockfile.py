"""Takes Salt, and only what Salt needs, out of requirements.lock."""

import re

from lab.errors import LabError

_NAME = re.compile(r"^([a-z0-9][a-z0-9._-]*)==", re.IGNORECASE)


def subset(text, wanted):
    """Return the part of a lock that one package needs.

    Who needs what is in the lock's own `# via` comments, as `uv pip compile` writes them.

    Parameters:
        text: the lock.
        wanted: the package's name.

    Returns:
        The entries of the package and all it depends on, with their hashes, as text.

    Raises:
        LabError: the lock does not hold the package.
    """
    entries = _entries(text)
    if wanted not in entries:
        raise LabError(f"requirements.lock does not hold {wanted}")
    parents = {name: _parents(entry) for name, entry in entries.items()}
    needed = {wanted}
    while True:
        more = {name for name in entries if parents[name] & needed} - needed
        if not more:
            break
        needed |= more
    return "".join(entries[name] for name in entries if name in needed)


def _entries(text):
    """Return package name to its lines, in the lock's order."""
    entries, name = {}, None
    for line in text.splitlines(keepends=True):
        if match := _NAME.match(line):
            name = match[1].lower()
            entries[name] = ""
        elif not line.startswith((" ", "\t")):
            name = None
        if name:
            entries[name] += line
    return entries


def _parents(entry):
    """Return the packages that need this one."""
    words = [line.strip() for line in entry.splitlines() if line.strip().startswith("#")]
    return {word.removeprefix("#").strip().removeprefix("via").strip() for word in words}
