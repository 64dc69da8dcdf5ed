"""docs/migration.md says what the client says."""

import inspect
import re
from pathlib import Path

import llm_router
from llm_router import LLMRouter, LLMRouterError
from llm_router.client import account, fields, predecessor, wire
from llm_router.client.errors import CLASSES, refused
from llm_router.client.router import DEFAULT_TIMEOUT

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "migration.md").read_text()


def section(heading: str) -> str:
    return GUIDE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def tables(heading: str) -> list[list[list[str]]]:
    """The rows of each table of a section, without their heads."""
    found: list[list[list[str]]] = []
    inside = False
    for line in section(heading).splitlines():
        if line.startswith("|"):
            if not inside:
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return [rows[2:] for rows in found]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_arguments_of_the_constructor() -> None:
    rows = tables("Arguments")[0]
    documented = [names(row[0])[0] for row in rows]
    assert documented == list(inspect.signature(LLMRouter).parameters)
    ignored = {names(row[0])[0] for row in rows if row[1].startswith("ignored and warned of")}
    assert ignored == set(predecessor.ARGUMENTS)


def test_the_arguments_of_generate() -> None:
    documented = {name for row in tables("Arguments")[1] for name in names(row[0])}
    named = {"model", "prompt", "temperature", "max_tokens"}
    assert documented == named | fields.PROMPT


def test_the_environment() -> None:
    (rows,) = tables("Environment")
    ignored = {names(row[0])[0] for row in rows if row[1].startswith("ignored and warned of")}
    assert ignored == set(predecessor.ENVIRONMENT)


def test_the_errors() -> None:
    (rows,) = tables("Errors")
    documented = {names(row[0])[0]: row[1] for row in rows}
    classes = {each.__name__ for each in LLMRouterError.__subclasses__()}
    assert set(documented) == classes
    for name, statuses in documented.items():
        for status in re.findall(r"\d+", statuses):
            assert type(refused("no", status=int(status))).__name__ == name
    assert {str(status) for status in CLASSES} <= set(re.findall(r"\d+", str(documented)))


def test_the_results() -> None:
    (rows,) = tables("Results")
    for name in [name for row in rows for name in names(row[1])]:
        holder, _, attribute = name.rpartition(".")
        kind = {"usage": llm_router.Usage, "served": llm_router.Served}.get(
            holder, llm_router.GenerateResult
        )
        assert hasattr(kind, attribute), name


def test_the_log_events() -> None:
    (rows,) = tables("Log events")
    documented = {names(row[0])[0] for row in rows if not row[1].startswith("gone")}
    source = inspect.getsource(account)
    assert documented == set(re.findall(r'"(\w*llm_\w+)"', source))


def test_the_numbers() -> None:
    assert "an hour and a minute" in section("Arguments")
    assert DEFAULT_TIMEOUT == 3600 + 60
    assert "for two seconds" in section("Errors")
    assert wire.GRACE_SECONDS == 2
