"""What Argo CD shows of each state of an LLMBackend, and that the documents and examples agree."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator import reasons
from llm_operator.publish.configmap import NAME as CONFIG_MAP
from parts.argo import GITOPS, HEALTH, health
from parts.backend_states import FACTS, STATES, conditions, shown, told

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gitops.md"

CUSTOMIZATION = "resource.customizations.{}.llm.athena.dev_LLMBackend"


def table() -> dict[str, tuple[str, ...]]:
    """State -> the other columns of its row in the documents."""
    rows = DOCS.read_text().split("## What each state shows\n")[1].split("\n## ")[0].splitlines()
    cells = [row.strip("| ").split(" | ") for row in rows if row.startswith("|")][2:]
    return {state: tuple(rest) for state, *rest in cells}


def decisive(backend: Any) -> str:
    """What the table says of its conditions: Ready, and what else isn't as it should be."""
    found = {each["type"]: each for each in conditions(backend)}
    kinds = ("Ready", "Stalled", "Reconciling", "Paused", "Available", "Programmed")
    usual = {"True/Programmed", "True/TargetsHealthy", "True/Synced"}
    texts = {
        kind: f"{found[kind]['status']}/{found[kind]['reason']}"
        for kind in (*kinds, "DatabaseSynced")
        if kind in found
    }
    plane = found.get("Ready", {}).get("status") == "True" and "Paused" not in found
    kept = {
        kind: text
        for kind, text in texts.items()
        if kind in kinds[:4] or (plane and text not in usual)
    }
    return ", ".join(f"`{kind}={text}`" for kind, text in kept.items()) or "none"


@pytest.mark.parametrize("state", STATES)
def test_argo_shows_what_the_documents_say(state: str) -> None:
    told_of, argo, _ = table()[state]
    assert (told_of, argo) == (decisive(STATES[state]), health(STATES[state]).status)


def test_the_documents_have_every_state_in_order() -> None:
    assert list(table()) == [*STATES, "being deleted"]


@pytest.mark.parametrize("kind", ["Ready", "Stalled", "Reconciling", "Available", "Paused"])
def test_no_reason_is_left_out(kind: str) -> None:
    closed: type[StrEnum] = getattr(reasons, "Accepted" if kind == "Stalled" else kind)
    expected = {str(reason) for reason in closed}
    if kind == "Ready":
        expected |= {*reasons.ResolvedRefs, *reasons.ConfigPublished, *reasons.Accepted}
        # These come with an earlier condition that says more, or are the good ones.
        expected -= {"Resolved", "NotAccepted", "Published", "NotResolved", "Valid"}
    if kind == "Stalled":
        expected = {"Invalid"}
    seen = {
        each["reason"]
        for backend in STATES.values()
        for each in conditions(backend)
        if each["type"] == kind
    }
    assert seen == expected


def test_neither_a_host_nor_a_router_nor_the_database_makes_it_unhealthy() -> None:
    ready = {state for state, facts in FACTS.items() if says_ready(shown(told(facts)))}
    assert {"all its hosts are down or asleep", "the database is away"} <= ready
    assert {health(STATES[state]).status for state in ready - {"disabled"}} == {"Healthy"}
    assert health(STATES["all its hosts are down or asleep"]).message != "Its route is published."


def says_ready(backend: Any) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions(backend))


def test_every_state_has_a_sentence() -> None:
    for backend in STATES.values():
        found = health(backend)
        assert found.status in {"Healthy", "Progressing", "Degraded", "Suspended"}
        assert found.message.endswith(".")


def test_a_condition_that_nobody_knows_yet_changes_nothing() -> None:
    backend = STATES["ready"]
    more = [*conditions(backend), {"type": "New", "status": "False", "reason": "New"}]
    assert health(shown({**backend["status"], "conditions": more})) == health(backend)


def customized() -> dict[str, str]:
    given = yaml.safe_load((GITOPS / "argocd" / "argocd-cm.yaml").read_text())
    data: dict[str, str] = given["data"]
    return data


def test_the_customization_holds_the_script() -> None:
    assert customized()[CUSTOMIZATION.format("health")] == HEALTH.read_text()


def test_what_is_ignored_is_what_the_operator_writes() -> None:
    ignored = yaml.safe_load(customized()[CUSTOMIZATION.format("ignoreDifferences")])
    assert ignored == {"jsonPointers": ["/status", "/metadata/finalizers"]}


def documents(file: str, *, kind: str) -> list[Any]:
    given = yaml.safe_load_all((GITOPS / file).read_text())
    return [each for each in given if each["kind"] == kind]


def test_what_the_operator_makes_is_no_orphan_to_argo() -> None:
    (project,) = documents("argocd/applications.yaml", kind="AppProject")
    orphans = project["spec"]["orphanedResources"]["ignore"]
    ignored = {(each["kind"], each["name"]) for each in orphans}
    assert ignored == {("ConfigMap", CONFIG_MAP), ("Secret", "llm-router-credentials")}


def test_no_application_deletes_all_it_holds_when_it_goes() -> None:
    applications = documents("argocd/applications.yaml", kind="Application")
    assert len(applications) == 2
    assert not any("finalizers" in each["metadata"] for each in applications)


def test_flux_waits_for_neither_the_migration_nor_the_database() -> None:
    install, _ = documents("flux/kustomizations.yaml", kind="Kustomization")
    assert "wait" not in install["spec"]
    waited = {each["kind"] for each in install["spec"]["healthChecks"]}
    assert waited == {"CustomResourceDefinition", "Deployment"}


def test_the_documents_name_files_that_are_there() -> None:
    named = set(re.findall(r"`(manifests/gitops/[^`]+)`", DOCS.read_text()))
    assert len(named) >= 5
    assert [name for name in named if not (DOCS.parents[1] / name).exists()] == []
