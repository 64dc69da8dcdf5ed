"""The documents say what the code says: every table of names is compared with the constants."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from llm_operator import cluster, reasons, transitions
from llm_operator import families as operator_families
from llm_operator import settings as operator_settings
from llm_operator.events import DRIFT
from llm_router import errors, families, fronts, select
from llm_router import settings as router_settings
from llm_router.usage import Caller, Measures, Record

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def table(file: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, cells without their backticks."""
    text = (ROOT / "docs" / file).read_text()
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def test_the_router_s_settings() -> None:
    documented = [row[:3] for row in table("router.md", "Settings")]
    assert documented == [
        [s.variable, s.default or "unset", s.meaning] for s in router_settings.TABLE
    ]


def test_the_operator_s_settings() -> None:
    documented = [row[:2] for row in table("operator.md", "Settings")]
    defaults = {None: "required", "": "unset"}
    assert documented == [
        [s.name, str(defaults.get(s.default, s.default))] for s in operator_settings.TABLE
    ]


def test_the_operator_s_metrics() -> None:
    documented = [tuple(row) for row in table("operator.md", "Metrics")]
    assert documented == [
        (one.name, ", ".join(one.labels), one.meaning) for one in operator_families.FAMILIES
    ]


def test_the_operator_s_events() -> None:
    documented = [tuple(row) for row in table("operator.md", "Events")]
    assert [row[2] for row in documented[:-1]] == [when(one) for one in transitions.TABLE]
    expected = [(one.event, one.type) for one in transitions.TABLE]
    assert [row[:2] for row in documented] == [*expected, (DRIFT.reason, DRIFT.type)]


def when(one: transitions.Transition) -> str:
    """What the table says of a transition."""
    said = (
        f"{one.condition} is {one.status}"
        if one.status
        else f"{one.condition} is not there any more"
    )
    if one.reasons:
        said += ": " + ", ".join(f"`{reason}`" for reason in sorted(one.reasons))
    if one.after and one.status:
        said += f", after {one.after}"
    # NB: table() strips backticks at the ends of a cell.
    return (said + (f"; not beside {one.beside}" if one.beside else "")).strip("`")


def test_the_router_s_routes() -> None:
    documented = [row[0] for row in table("router.md", "Routes of the data port")]
    served = [("POST", path) for path in fronts.ROUTES] + [*fronts.LISTS]
    served += [("any", path) for path in fronts.REFUSED]
    assert sorted(documented) == sorted(f"{method} {path}" for method, path in served)


def test_the_failure_table() -> None:
    documented = [(row[0], row[2], row[4]) for row in table("router.md", "When a target fails")]
    assert documented == [
        (cause.value, "yes" if row.falls_over else "no", str(errors.STATUS[row.code]))
        for cause, row in errors.TABLE.items()
    ]
    assert set(errors.TABLE) == set(errors.Cause)


def test_the_states_of_a_target() -> None:
    documented = {row[0]: row[2] for row in table("router.md", "Which target is asked")}
    assert set(documented) == set(select.Verdict)
    assert {state for state, asked in documented.items() if asked == "never"} == select.NEVER
    in_turn = {state for state, asked in documented.items() if asked.startswith("in turn")}
    assert in_turn == select.FIRST


def test_the_router_s_headers() -> None:
    documented = {row[0] for row in table("router.md", "Headers of an answer")}
    written = [ROOT / "router_sidecar" / "llm_router" / name for name in ("serving.py", "table.py")]
    source = "".join(path.read_text() for path in written)
    assert documented == set(re.findall(r'b"(x-(?:llm-[a-z-]+|request-id))"', source))


def test_the_router_s_metrics() -> None:
    documented = [tuple(row) for row in table("router.md", "Metrics")]
    assert documented == [
        (family.name, ", ".join(family.labels), family.meaning) for family in families.FAMILIES
    ]


def test_the_metrics_named_for_others_exist() -> None:
    named = {row[1].split("{")[0] for row in table("router.md", "Metric names of other routers")}
    known = {family.name for family in families.FAMILIES}
    assert {name.removesuffix("_sum") for name in named} <= known


def test_the_fields_of_a_usage_record() -> None:
    documented = [
        name.strip("` ")
        for row in table("router.md", "Usage records")
        for name in row[0].split(",")
    ]
    own = {each.name for each in fields(Record)} - {"measures", "caller", "trace", "encoded"}
    nested = {each.name for kind in (Measures, Caller) for each in fields(kind)}
    assert len(documented) == len(set(documented))
    assert set(documented) == own | nested | {"trace_id"}


@pytest.mark.parametrize(
    ("heading", "enum"),
    [
        ("Accepted", reasons.Accepted),
        ("ResolvedRefs", reasons.ResolvedRefs),
        ("ConfigPublished", reasons.ConfigPublished),
        ("DatabaseSynced", reasons.DatabaseSynced),
        ("Programmed", reasons.Programmed),
        ("Available", reasons.Available),
        ("Degraded", reasons.Degraded),
        ("Reconciling", reasons.Reconciling),
        ("Paused", reasons.Paused),
    ],
)
def test_the_reasons(heading: str, enum: type) -> None:
    rows = [row for row in table("operator.md", "Conditions") if row[0] == heading]
    documented = {name.strip("` ") for row in rows for name in row[2].split(",")}
    assert documented == {reason.value for reason in enum}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_operator_s_rights() -> None:
    granted = set()
    for document in yaml.safe_load_all((ROOT / "manifests" / "base" / "rbac.yaml").read_text()):
        for rule in document.get("rules", ()):
            for resource in rule["resources"]:
                granted |= {(rule["apiGroups"][0], resource, verb) for verb in rule["verbs"]}
    assert granted == {(right.group, right.resource, right.verb) for right in cluster.RIGHTS}
    documented = {
        (resource, verb)
        for resource, verbs, _ in table("operator.md", "Rights")
        for verb in verbs.split(", ")
    }
    assert documented == {(resource, verb) for _, resource, verb in granted}
