"""docs/article.md: every file, SLS, function, setting and test that it names is there."""

import ast
import functools
import json
import re

import pytest

from tests.sls.test_files import ARTICLE_HAPROXY
from tests.support import ROOT

TEXT = (ROOT / "docs" / "article.md").read_text()
SCHEMA = json.loads((ROOT / "salt/rabbit_ha/pillar.schema.json").read_text())
# Functions of Salt's loaders: what is called MODULE.FUNCTION.
FOLDERS = ("_modules", "_states", "_runners")


def rows():
    """Yield the three cells of each row: lines of the article, where they are, what shows it."""
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] not in ("the article", "---"):
            yield cells


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


ROWS = list(rows())
HERE = sorted({name for cells in ROWS for name in quoted(cells[1])})
SHOWN = sorted({name for cells in ROWS for name in quoted(cells[2])})


@functools.cache
def functions(path):
    """List the functions that a Python file defines."""
    tree = ast.parse((ROOT / path).read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def is_sls(name):
    path = ROOT / "salt" / name.replace(".", "/")
    return path.with_suffix(".sls").exists() or (path / "init.sls").exists()


def is_function(name):
    module, _, function = name.partition(".")
    files = [
        f"{folder}/{module}.py" for folder in FOLDERS if (ROOT / folder / f"{module}.py").exists()
    ]
    return any(function in functions(path) for path in files)


def is_setting(name):
    """Follow a path through the schema; NAME stands for a name of the user's."""
    node = SCHEMA["properties"]["rabbit_ha"]
    for key in name.split(":"):
        while "$ref" in node:
            node = functools.reduce(dict.__getitem__, node["$ref"][2:].split("/"), SCHEMA)
        below = node.get("additionalProperties") if key == "NAME" else None
        node = below or node.get("properties", {}).get(key)
        if not isinstance(node, dict):
            return False
    return True


def test_the_tables_are_read_whole():
    assert all(len(cells) == 3 for cells in ROWS)
    assert len(ROWS) > 80


@pytest.mark.parametrize("name", HERE)
def test_what_is_named_as_being_here_is_here(name):
    is_path = "/" in name and (ROOT / name).exists()
    assert is_path or is_sls(name) or is_function(name) or is_setting(name)


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_named_as_a_test_is_one(name):
    path, _, function = name.partition("::")
    if name.startswith("data/bad_pillars/"):
        assert (ROOT / "tests" / f"{name}.yaml").exists()
    else:
        assert function in functions(f"tests/{path}.py")


@pytest.mark.parametrize("cells", ROWS, ids=lambda cells: cells[0][:40])
def test_every_line_of_the_article_has_a_place(cells):
    assert cells[0]
    assert cells[1]


def test_every_line_of_haproxy_cfg_is_in_the_table():
    lines = {
        f"{key} {rest}".strip()
        for section in ARTICLE_HAPROXY.values()
        for key, rests in section.items()
        for rest in rests
    }
    assert lines - {line for cells in ROWS for line in quoted(cells[0])} == set()


def test_every_way_to_an_explanation_leads_to_one():
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
