"""docs/admin-api.md says what the admin API is: routes, statuses, fields, parameters, metrics."""

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel

from llm_operator.admin import traffic, view
from llm_operator.admin.api import app, bodies, counts, paging, shapes
from llm_operator.admin.api.describe import STATUSES
from llm_operator.admin.change import DEFAULTS
from parts.admin_memory import memory
from unit.test_docs import ROOT, table

TEXT = (ROOT / "docs" / "admin-api.md").read_text()


@pytest.fixture(scope="module")
def paths() -> Any:
    return app.build(memory().admin, public=True).openapi()["paths"]


def section(heading: str) -> str:
    """The text under a heading."""
    return TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def tables(heading: str) -> list[list[list[str]]]:
    """All tables under a heading, rows of cells without their backticks."""
    found: list[list[list[str]]] = []
    before = ""
    for line in section(heading).splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            cells = line.strip("|").split("|")
            found[-1].append([cell.strip().strip("`") for cell in cells])
        before = line
    return [rows[2:] for rows in found]


def test_the_routes_and_their_statuses(paths: Any) -> None:
    documented = {}
    for route, answers, errors in table("admin-api.md", "Routes"):
        told = re.findall(r"\b(?:200|201|304)\b", answers)
        documented[route] = sorted([*told, *re.findall(r"\d+", errors)])
    assert documented == {
        f"{method.upper()} {path}": sorted(operation["responses"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def test_the_statuses() -> None:
    documented = {int(row[0]): row[1] for row in table("admin-api.md", "Statuses")}
    assert documented == dict(STATUSES)


def test_the_fields_of_a_backend() -> None:
    fields, defaults = tables("A backend")
    assert dict(map(tuple, fields)) == dict(shapes.FIELDS)
    assert {name: json.loads(value) for name, value in defaults} == dict(DEFAULTS)
    public = section("A backend").split("tell these of it: ", 1)[1].split(".\n", 1)[0]
    assert re.findall(r"`(\w+)`", public) == list(view.PUBLIC)


@pytest.mark.parametrize(
    ("heading", "place", "form"),
    [
        ("History", 0, shapes.Generation),
        ("Recorded requests", 0, shapes.Sample),
        ("Recorded requests", 1, shapes.Metric),
        ("Comparing", 1, shapes.ComparedBackend),
        ("Routers", 0, shapes.RouterState),
    ],
)
def test_the_fields(heading: str, place: int, form: type[BaseModel]) -> None:
    documented = [tuple(row) for row in tables(heading)[place]]
    assert documented == [(name, field.description) for name, field in form.model_fields.items()]


def test_what_a_metric_needs() -> None:
    needed = [f"`{name}`" for name, one in shapes.Metric.model_fields.items() if one.is_required()]
    sentence = f"{', '.join(needed[:-1])} and {needed[-1]} are needed."
    assert sentence in section("Recorded requests")


@pytest.mark.parametrize(
    ("heading", "path"), [("Lists", ""), ("Comparing", "/compare")], ids=["list", "compare"]
)
def test_the_parameters(paths: Any, heading: str, path: str) -> None:
    documented = {row[0]: row[1] for row in tables(heading)[0]}
    parameters = paths[f"/api/llm-backends{path}"]["get"]["parameters"]
    assert documented == {one["name"]: one["description"] for one in parameters}


def test_the_public_list_takes_some_of_them(paths: Any) -> None:
    names = [row[0] for row in tables("Lists")[0]]
    parameters = paths["/api/llm-backends/public"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == [names[0], *names[-2:]]


def test_the_limits() -> None:
    documented = {row[0]: row[1] for row in table("admin-api.md", "Limits")}
    assert documented == {
        "body of a request": f"{bodies.LIMIT // 1024} KiB",
        "body of a batch of usage": f"{bodies.USAGE_LIMIT // 1024 // 1024} MiB",
        "records of a batch": str(traffic.MOST_RECORDS),
        "batches being stored": str(traffic.BATCHES),
        "entries of a page of backends": str(paging.LARGEST),
        "days of a comparison": str(traffic.LONGEST_DAYS),
    }


def test_the_metrics() -> None:
    documented = [tuple(row) for row in table("admin-api.md", "Metrics")]
    assert documented == [(one.name, ", ".join(one.labels), one.meaning) for one in counts.FAMILIES]
