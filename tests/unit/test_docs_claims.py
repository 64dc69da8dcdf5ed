"""The pages that claim something name tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = re.compile(r"`(test_\w+\.py)(?:::(\w+))?`")
PAGES = ("failures.md", "security.md", "comparison.md")


@cache
def known() -> dict[str, set[str]]:
    """Test file -> the names of its tests and of their classes."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(file.read_text())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found[file.name] = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return found


def rows(page: str) -> list[list[str]]:
    """The cells of each row of each table that has a column of tests."""
    found: list[list[str]] = []
    head: list[str] | None = None
    for line in (ROOT / "docs" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else None
        if cells is None:
            head = None
        elif head is None:
            head = cells
        elif head[-1] == "Tests" and not set("".join(cells)) <= {"-"}:
            assert len(cells) == len(head), line
            found.append(cells)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_named_tests_exist(page: str) -> None:
    named = CLAIMS.findall((ROOT / "docs" / page).read_text())
    assert named
    lost = [f"{file}::{name}" for file, name in named if file not in known()]
    lost += [f"{file}::{n}" for file, n in named if n and n not in known().get(file, {n})]
    assert lost == []


@pytest.mark.parametrize("page", PAGES)
def test_each_row_names_one(page: str) -> None:
    found = rows(page)
    assert found
    assert [cells[0] for cells in found if not CLAIMS.search(cells[-1])] == []
