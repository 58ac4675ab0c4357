"""docs/article.md: all of the article is in it, and all that it names is there."""

import ast
import functools
import json
import re

import pytest

from tests import article
from tests.support import ROOT

TEXT = (ROOT / "docs" / "article.md").read_text()
SCHEMA = json.loads((ROOT / "salt/rabbit_ha/pillar.schema.json").read_text())
# Functions of Salt's loaders: what is called MODULE.FUNCTION.
FOLDERS = ("_modules", "_states", "_runners")
ABOVE = "as the first line of this table"


def rows(text):
    """Yield the three cells of each row: lines of the article, where they are, what shows it."""
    for line in text.splitlines():
        # In a cell, `|` is written with a backslash.
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if line.startswith("|") and cells[0] not in ("the article", "---"):
            yield [cell.replace("\\|", "|") for cell in cells]


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


def is_said(line, quotation):
    """Tell whether a line of the article is quoted, as a whole but for what … stands for."""
    return re.fullmatch(".+".join(map(re.escape, quotation.split("…"))), line)


TABLES = {
    section.partition("\n")[0]: list(rows(section))
    for section in re.split(r"^#+ ", TEXT, flags=re.M)
}
ROWS = [cells for table in TABLES.values() for cells in table]
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
def test_every_line_of_the_article_has_a_place_and_a_test(cells):
    assert cells[0]
    assert cells[1]
    assert quoted(cells[2]) or cells[2] == ABOVE


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_a_first_line_that_others_name_has_tests(table):
    assert not table or quoted(table[0][2])


@pytest.mark.parametrize("heading", article.LINES)
def test_all_of_the_article_is_in_its_tables_and_in_its_order(heading):
    quotations = iter([one for cells in TABLES[heading] for one in quoted(cells[0])])
    # What is not found uses up the quotations.
    found = [any(is_said(line, one) for one in quotations) for line in article.LINES[heading]]
    missing = [
        line for line, is_there in zip(article.LINES[heading], found, strict=True) if not is_there
    ]
    assert missing[:1] == []


def test_every_way_to_an_explanation_leads_to_one():
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
