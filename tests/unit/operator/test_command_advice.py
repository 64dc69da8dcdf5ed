"""What `llmb status` says of an LLMBackend: what is not well, and what to do about it."""

from enum import EnumMeta
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator import reasons
from llm_operator.command import context
from llm_operator.command.advice import FINE, REMEDIES, Trouble, ready, troubles
from llm_operator.command.status import sentences, table, why
from llm_operator.ports import Gone, PortError, Refused, Unavailable
from llm_operator.reasons import Condition
from llm_operator.resource.model import FINALIZER

WELL = {
    "Accepted": ("True", "Valid"),
    "ResolvedRefs": ("True", "Resolved"),
    "ConfigPublished": ("True", "Published"),
    "DatabaseSynced": ("True", "Synced"),
    "Programmed": ("True", "Programmed"),
    "Available": ("True", "TargetsHealthy"),
    "Degraded": ("False", "NoTargetDown"),
    "Ready": ("True", "Ready"),
}

#: Reasons of conditions that are as they should be.
GOOD = {"Valid", "Resolved", "Published", "Synced", "Programmed", "TargetsHealthy", "NoTargetDown"}


def item(
    conditions: dict[str, tuple[str, str]] | None = None,
    *,
    generation: int = 2,
    observed: int | None = 2,
    **metadata: Any,
) -> dict[str, Any]:
    """An object whose conditions are well but for these."""
    given = WELL | (conditions or {})
    return {
        "metadata": {"name": "phi", "namespace": "ai", "generation": generation, **metadata},
        "status": {
            "observedGeneration": observed,
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": f"About {kind}."}
                for kind, (status, reason) in given.items()
            ],
        },
    }


def told(given: dict[str, Any]) -> list[tuple[str, str]]:
    return [(trouble.condition, trouble.reason) for trouble in troubles(given)]


@pytest.mark.parametrize(
    ("condition", "closed"),
    [
        (Condition.ACCEPTED, reasons.Accepted),
        (Condition.RESOLVED_REFS, reasons.ResolvedRefs),
        (Condition.CONFIG_PUBLISHED, reasons.ConfigPublished),
        (Condition.DATABASE_SYNCED, reasons.DatabaseSynced),
        (Condition.PROGRAMMED, reasons.Programmed),
        (Condition.AVAILABLE, reasons.Available),
        (Condition.DEGRADED, reasons.Degraded),
    ],
)
def test_every_reason_has_a_remedy_or_needs_none(condition: Condition, closed: EnumMeta) -> None:
    names = {str(reason) for reason in closed}  # type: ignore[var-annotated]
    assert names - {str(r) for r in REMEDIES[condition]} <= GOOD | {str(r) for r in FINE}
    assert {str(reason) for reason in REMEDIES[condition]} <= names


class TestTroubles:
    def test_of_one_that_is_well_are_none(self) -> None:
        assert troubles(item()) == []
        assert ready(item())

    def test_of_one_that_is_not_accepted_leave_out_what_follows(self) -> None:
        given = item(
            {
                "Accepted": ("False", "Invalid"),
                "ResolvedRefs": ("Unknown", "NotAccepted"),
                "ConfigPublished": ("False", "NotAccepted"),
                "DatabaseSynced": ("False", "NotAccepted"),
                "Programmed": ("False", "Pending"),
                "Available": ("Unknown", "Unknown"),
                "Degraded": ("Unknown", "Unknown"),
                "Ready": ("False", "Invalid"),
                "Stalled": ("True", "Invalid"),
            }
        )
        (trouble,) = troubles(given)
        assert (trouble.condition, trouble.message) == ("Accepted", "About Accepted.")
        assert "llmb validate" in trouble.remedy
        assert not ready(given)

    def test_a_sleeping_host_and_a_lost_database_are_told_of_one_that_is_ready(self) -> None:
        given = item(
            {
                "DatabaseSynced": ("False", "DatabaseUnavailable"),
                "Available": ("False", "AllTargetsDown"),
                "Degraded": ("True", "TargetsDown"),
            }
        )
        assert ready(given)
        assert told(given) == [
            ("DatabaseSynced", "DatabaseUnavailable"),
            ("Available", "AllTargetsDown"),
        ]

    def test_no_routers_is_told_once(self) -> None:
        given = item({"Programmed": ("False", "NoRouters"), "Available": ("Unknown", "Unknown")})
        assert told(given) == [("Programmed", "NoRouters")]

    def test_a_disabled_one_is_well(self) -> None:
        off = {"Available": ("False", "Disabled"), "Degraded": ("False", "Disabled")}
        assert troubles(item(off)) == []

    def test_a_lost_alias_is_told_though_it_is_accepted(self) -> None:
        assert told(item({"Accepted": ("True", "ModelNameConflict")})) == [
            ("Accepted", "ModelNameConflict")
        ]

    def test_without_a_status_nobody_has_looked(self) -> None:
        given = item()
        del given["status"]
        (trouble,) = troubles(given)
        assert "not looked at it yet" in trouble.message
        assert not ready(given)

    def test_a_status_of_an_older_generation_is_no_news(self) -> None:
        given = item(observed=1)
        assert not ready(given)
        (trouble,) = troubles(given)
        assert trouble.message == "The status is of generation 1, the spec is at generation 2."

    def test_but_that_of_a_paused_one_holds(self) -> None:
        given = item(
            {"Paused": ("True", "ReconciliationPaused")},
            observed=1,
            annotations={"llm.athena.dev/paused": "true"},
        )
        assert ready(given)
        (trouble,) = troubles(given)
        assert trouble.condition == "Paused"
        assert "kubectl annotate llmbackend phi -n ai llm.athena.dev/paused-" in trouble.remedy

    def test_one_that_waits_to_be_deleted_says_what_holds_it(self) -> None:
        since = "2026-01-01T00:00:00Z"
        (trouble,) = troubles(item(deletionTimestamp=since, finalizers=[FINALIZER]))
        assert trouble.message == f"It is being deleted since {since}, held by {FINALIZER}."
        assert "llmb uninstall --strip-finalizers" in trouble.remedy

    def test_a_reason_of_a_later_release_is_told_all_the_same(self) -> None:
        (trouble,) = troubles(item({"Programmed": ("False", "NewReason")}))
        assert trouble == Trouble(
            condition="Programmed",
            status="False",
            reason="NewReason",
            message="About Programmed.",
        )


def test_sentences_name_the_resource_the_reason_and_what_to_do() -> None:
    given = item({"Programmed": ("False", "NoRouters")})
    assert list(sentences([given])) == [
        "",
        "ai/phi is Ready, but:",
        "  Programmed is False (NoRouters): About Programmed.",
        "    -> Start a pod with a router and the label llm.athena.dev/router.",
        "",
        "1 of 1 LLMBackend Ready.",
    ]


def test_the_table_is_kubectl_s() -> None:
    columns = [
        {"name": "Name", "priority": 0},
        {"name": "Ready", "priority": 0},
        {"name": "Endpoint", "priority": 1},
    ]
    rows = [{"cells": ["phi", None, "http://\x1b[2J"], "object": item()}]
    assert table(columns, rows, wide=False, everywhere=False) == ["NAME  READY", "phi   -"]
    assert table(columns, rows, wide=True, everywhere=True) == [
        "NAMESPACE  NAME  READY  ENDPOINT",
        "ai         phi   -      http:// [2J",
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Gone("x"), "install the CRD by kubectl apply --server-side -f crds/llmbackends.yaml"),
        (Unavailable("no route"), "whether it runs (no route)"),
        (Refused("may not list"), "the API server refused: may not list"),
    ],
)
def test_what_keeps_it_from_telling_is_a_sentence(error: PortError, said: str) -> None:
    assert why(error).endswith(said)


class TestContext:
    def kubeconfig(self, path: Path, **fields: Any) -> Path:
        path.write_text(yaml.safe_dump(fields))
        return path

    def named(self, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> str:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setenv("KUBECONFIG", ":".join(map(str, paths)))
        return context.namespace()

    def test_is_the_current_context_s(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        contexts = [{"name": "a"}, {"name": "b", "context": {"namespace": "ai"}}]
        first = self.kubeconfig(tmp_path / "1", contexts=contexts)
        second = self.kubeconfig(tmp_path / "2", **{"current-context": "b"})
        assert self.named(monkeypatch, first, second) == "ai"

    def test_is_default_where_nothing_says_another(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        contexts = [{"name": "a", "context": {"cluster": "c"}}]
        path = self.kubeconfig(tmp_path / "1", contexts=contexts, **{"current-context": "a"})
        assert self.named(monkeypatch, path) == "default"
        assert self.named(monkeypatch, tmp_path / "nix") == "default"
        path.write_text("a: [")
        assert self.named(monkeypatch, path) == "default"

    def test_is_the_pod_s(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "namespace").write_text("system\n")
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setattr(context, "POD", tmp_path / "namespace")
        assert context.namespace() == "system"
