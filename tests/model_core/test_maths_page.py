"""docs/MATHS.md points at code and tests that exist, and leaves no equation without either."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "MATHS.md"
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
CELLS = re.compile(r"(?<!\\)\|")


def _links():
    return LINK.findall(PAGE.read_text(encoding="utf-8"))


def _named():
    """Names in code and tests' names in words, with the files that they link to: (name, path)."""
    for text, path in _links():
        if text.startswith("`"):
            yield text.strip("`"), PAGE.parent / path
        elif "/tests/" in path:
            yield f"test_{text.replace(' ', '_')}", PAGE.parent / path


@cache
def _names(path):
    """Functions, classes, methods and constants that a file defines."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {node.name} | {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def _rows():
    """The cells of every row of the tables of equations."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in CELLS.split(line)[1:-1]] for line in lines]
    return [row for row in cells if row[1] not in {"equation", "---"}]


def test_every_name_on_the_page_is_defined_in_the_file_it_links_to():
    missing = [f"{path.name}: {name}" for name, path in _named() if name not in _names(path)]
    assert not missing


def test_every_other_link_leads_somewhere():
    text = PAGE.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines() if line[:2] == "##"
    }
    for label, path in _links():
        if path.startswith("#"):
            assert path[1:] in headings, label
        else:
            assert (PAGE.parent / path).is_file(), path


def test_every_equation_has_code_and_a_test_of_it():
    rows = _rows()
    assert len(rows) > 30
    for name, equation, functions, tests in (row for row in rows):
        assert equation, name
        assert all("/model_core/" in path and "/tests/" not in path for _, path in LINK.findall(functions)), name
        assert LINK.findall(functions), name
        assert LINK.findall(tests), name
        assert all("/tests/" in path for _, path in LINK.findall(tests)), name


@pytest.mark.parametrize("number", range(1, 9))
def test_the_functions_of_a_numbered_equation_cite_its_number(number):
    rows = [row for row in _rows() if row[0].startswith(f"**P{number}**")]
    assert rows
    for _, _, functions, _ in rows:
        files = {PAGE.parent / path for _, path in LINK.findall(functions)}
        assert any(re.search(rf"\bP{number}\b", path.read_text(encoding="utf-8")) for path in files)
