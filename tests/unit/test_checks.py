"""docs/checks.md names, for each of the forty checks, the tests that are marked with its number.

As a program it writes the column of tests anew from the marks in the tree.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "checks.md"
NUMBERS = range(1, 41)


def marked() -> dict[int, set[str]]:
    """Number -> the tests with that mark: a file, or a class or function in one."""
    found = defaultdict[int, set[str]](set)
    for file in sorted(TESTS.rglob("test_*.py")):
        for number, name in marks(ast.parse(file.read_text())):
            found[number].add("::".join(filter(None, (file.name, name))))
    return dict(found)


def marks(module: ast.Module) -> Iterator[tuple[int, str]]:
    """The numbers in a file, each with what they are about; "" for all of it."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield from ((number, "") for number in numbers(node.value))
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for each in (node, *inner):
            if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in each.decorator_list:
                    yield from ((number, each.name) for number in numbers(decorator))


def numbers(expression: ast.expr) -> Iterator[int]:
    """The checks that an expression names."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.check":
            (argument,) = node.args
            assert isinstance(argument, ast.Constant), ast.unparse(node)
            assert isinstance(argument.value, int), ast.unparse(node)
            yield argument.value


def rows() -> list[list[str]]:
    """Number, what, tests and what is less, of each row of the table."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def cell(tests: set[str]) -> str:
    return ", ".join(f"`{test}`" for test in sorted(tests))


def test_the_table_has_each_check_once_and_in_order() -> None:
    assert [int(row[0]) for row in rows()] == [*NUMBERS]
    assert all(row[1] for row in rows())


def test_no_mark_has_another_number() -> None:
    assert set(marked()) <= {*NUMBERS}


def test_the_table_names_the_marked_tests() -> None:
    found = marked()
    expected = {number: cell(found.get(number, set())) for number in NUMBERS}
    # NB: `python tests/unit/test_checks.py` writes them.
    assert {int(row[0]): row[2] for row in rows()} == expected


def test_a_check_without_a_test_says_what_lacks() -> None:
    assert [row[0] for row in rows() if not row[2] and not row[3]] == []


def write() -> None:
    """Put the marked tests into the table."""
    found, lines = marked(), DOCUMENT.read_text().splitlines()
    known = {int(row[0]): row for row in rows()}
    for at, line in enumerate(lines):
        number = line.strip("|").split("|")[0].strip()
        if line.startswith("|") and number.isdigit():
            _, what, _, less = known[int(number)]
            tests = cell(found.get(int(number), set()))
            lines[at] = " | ".join(("|" + f" {number}", what, tests, less)).rstrip() + " |"
    DOCUMENT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write()
