"""Statuses from facts: what each condition says, and what a status keeps while it says the same."""

from dataclasses import replace
from typing import Any

import pytest

from llm_contract import Route, Target, TargetType, Timeouts
from llm_operator.plan import Verdict
from llm_operator.reasons import Accepted, ConfigPublished, DatabaseSynced, ResolvedRefs
from llm_operator.references.model import Resolution
from llm_operator.resource.model import BackendType, Host, Identity, Resource, Spec
from llm_operator.status.conditions import Facts, Status, describe, same

EARLIER, NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z", "2026-01-01T00:01:00Z"
CHECKSUM = "0123456789abcdef" * 4

RESOURCE = Resource(
    identity=Identity(namespace="ns", name="phi", uid="u1", generation=2),
    spec=Spec(model_name="phi3:mini", backend_type=BackendType.OLLAMA, endpoint_url="http://o:1"),
)
ROUTE = Route(
    model="phi3:mini",
    uid="u1",
    generation=2,
    name="phi",
    targets=(Target(name="ollama", type=TargetType.OLLAMA, url="http://o:1", model="phi3:mini"),),
    timeouts=Timeouts(total=60),
)
OLD_ROUTE = replace(ROUTE, generation=1)
VALID = Verdict(reason=Accepted.VALID, message="Valid.", routed=True)
DISABLED = Verdict(reason=Accepted.VALID, message="Disabled: it has no route.")
INVALID = Verdict(reason=Accepted.INVALID, message="spec.modelName: must not be empty")
LOSER = Verdict(reason=Accepted.MODEL_NAME_CONFLICT, message="Model name belongs to other.")

PUBLISHED = Facts(
    verdict=VALID,
    planned=ROUTE,
    standing=ROUTE,
    checksum=CHECKSUM,
    published=ConfigPublished.PUBLISHED,
    recorded=DatabaseSynced.SYNCED,
)


def conditions(facts: Facts, *, previous: Status | None = None) -> dict[str, tuple[str, str]]:
    """Type -> status and reason."""
    return {
        one["type"]: (one["status"], one["reason"])
        for one in entries(describe(RESOURCE, facts, previous=previous, now=NOW))
    }


def entries(status: Status) -> list[dict[str, Any]]:
    found = status["conditions"]
    assert isinstance(found, list)
    return found


def message(facts: Facts, kind: str) -> str:
    return next(
        str(one["message"])
        for one in entries(describe(RESOURCE, facts, previous=None, now=NOW))
        if one["type"] == kind
    )


def test_all_is_well() -> None:
    status = describe(RESOURCE, PUBLISHED, previous=None, now=NOW)
    assert conditions(PUBLISHED) == {
        "Accepted": ("True", "Valid"),
        "ResolvedRefs": ("True", "Resolved"),
        "ConfigPublished": ("True", "Published"),
        "DatabaseSynced": ("True", "Synced"),
        "Ready": ("True", "Ready"),
    }
    assert status["observedGeneration"] == 2
    assert {one["observedGeneration"] for one in entries(status)} == {2}
    assert {one["lastTransitionTime"] for one in entries(status)} == {NOW}
    assert status["summary"] == {"endpoint": "http://o:1", "type": "ollama"}
    assert status["targets"] == [
        {"name": "ollama", "type": "ollama", "url": "http://o:1", "model": "phi3:mini"}
    ]
    assert status["configChecksum"] == CHECKSUM[:12]


def test_invalid_is_stalled_and_keeps_its_last_route() -> None:
    facts = replace(
        PUBLISHED,
        verdict=INVALID,
        planned=OLD_ROUTE,
        standing=OLD_ROUTE,
        recorded=DatabaseSynced.NOT_ACCEPTED,
    )
    assert conditions(facts) == {
        "Accepted": ("False", "Invalid"),
        "ResolvedRefs": ("Unknown", "NotAccepted"),
        "ConfigPublished": ("False", "NotAccepted"),
        "DatabaseSynced": ("False", "NotAccepted"),
        "Ready": ("False", "Invalid"),
        "Stalled": ("True", "Invalid"),
    }
    assert "The route of generation 1 stays." in message(facts, "ConfigPublished")
    assert message(facts, "Ready") == INVALID.message


UNUSABLE = Resolution(
    reason=ResolvedRefs.SECRET_NOT_FOUND, message="There is no Secret.", usable=False
)


def test_references_that_do_not_resolve_keep_the_last_route_and_are_not_stalled() -> None:
    facts = replace(PUBLISHED, resolution=UNUSABLE, planned=OLD_ROUTE, standing=OLD_ROUTE)
    assert conditions(facts) == {
        "Accepted": ("True", "Valid"),
        "ResolvedRefs": ("False", "SecretNotFound"),
        "ConfigPublished": ("False", "NotResolved"),
        "DatabaseSynced": ("True", "Synced"),
        "Ready": ("False", "SecretNotFound"),
        "Reconciling": ("True", "Publishing"),
    }
    assert message(facts, "ConfigPublished").endswith("The route of generation 1 stays.")
    assert message(facts, "Ready") == UNUSABLE.message


def test_references_that_do_not_resolve_and_never_did() -> None:
    facts = replace(PUBLISHED, resolution=UNUSABLE, planned=None, standing=None)
    assert conditions(facts)["ConfigPublished"] == ("False", "NotResolved")
    assert message(facts, "ConfigPublished").endswith("see ResolvedRefs.")


def test_a_reference_that_went_leaves_this_generation_s_route_published() -> None:
    facts = replace(PUBLISHED, resolution=UNUSABLE)
    assert conditions(facts)["ConfigPublished"] == ("True", "Published")
    assert conditions(facts)["Ready"] == ("False", "SecretNotFound")


def test_one_target_of_several_without_its_reference_is_published_but_not_ready() -> None:
    facts = replace(PUBLISHED, resolution=replace(UNUSABLE, usable=True))
    assert conditions(facts)["ConfigPublished"] == ("True", "Published")
    assert conditions(facts)["ResolvedRefs"] == ("False", "SecretNotFound")
    assert conditions(facts)["Ready"] == ("False", "SecretNotFound")


def test_invalid_without_a_last_route_has_no_targets() -> None:
    facts = replace(PUBLISHED, verdict=INVALID, planned=None, standing=None)
    status = describe(RESOURCE, facts, previous=None, now=NOW)
    assert message(facts, "ConfigPublished") == "This generation is not accepted."
    assert not {"targets", "configChecksum"} & status.keys()
    assert status["summary"] == {"type": "ollama"}


def test_the_loser_of_a_name_is_not_stalled() -> None:
    facts = replace(PUBLISHED, verdict=LOSER, planned=None, standing=None)
    found = conditions(facts)
    assert found["Ready"] == ("False", "ModelNameConflict")
    assert found["DatabaseSynced"] == ("True", "Synced")
    assert "Stalled" not in found


def test_disabled_is_ready_and_says_why_it_has_no_route() -> None:
    facts = replace(PUBLISHED, verdict=DISABLED, planned=None, standing=None)
    assert conditions(facts)["ConfigPublished"] == ("True", "Published")
    assert conditions(facts)["Ready"] == ("True", "Ready")
    assert "Disabled" in message(facts, "ConfigPublished")
    assert "Disabled" in message(facts, "Ready")


@pytest.mark.parametrize(
    "reason",
    [ConfigPublished.TOO_LARGE, ConfigPublished.NOT_OWNED, ConfigPublished.PUBLISH_FAILED],
)
def test_what_keeps_a_route_from_being_published(reason: ConfigPublished) -> None:
    facts = replace(PUBLISHED, standing=OLD_ROUTE, published=reason, trouble="It is too much")
    assert conditions(facts)["ConfigPublished"] == ("False", reason)
    assert conditions(facts)["Ready"] == ("False", reason)
    assert message(facts, "ConfigPublished") == "It is too much."


def test_a_failed_change_of_others_leaves_a_standing_route_published() -> None:
    facts = replace(PUBLISHED, published=ConfigPublished.PUBLISH_FAILED, trouble="HTTP 500")
    assert conditions(facts)["ConfigPublished"] == ("True", "Published")
    assert conditions(facts)["Ready"] == ("True", "Ready")


def test_a_disabled_route_that_still_stands_is_not_published() -> None:
    facts = replace(
        PUBLISHED, verdict=DISABLED, planned=None, published=ConfigPublished.PUBLISH_FAILED
    )
    assert conditions(facts)["ConfigPublished"] == ("False", "PublishFailed")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (DatabaseSynced.SYNCED, "True"),
        (DatabaseSynced.PENDING, "Unknown"),
        (DatabaseSynced.NOT_ACCEPTED, "False"),
        (DatabaseSynced.DATABASE_UNAVAILABLE, "False"),
        (DatabaseSynced.SCHEMA_OUTDATED, "False"),
    ],
)
def test_the_record_never_gates_ready(answer: DatabaseSynced, status: str) -> None:
    found = conditions(replace(PUBLISHED, recorded=answer))
    assert found["DatabaseSynced"] == (status, answer)
    assert found["Ready"] == ("True", "Ready")


def test_a_record_not_asked_yet_is_pending() -> None:
    assert conditions(replace(PUBLISHED, recorded=None))["DatabaseSynced"] == ("Unknown", "Pending")


def test_a_record_not_asked_yet_keeps_what_was_found_of_this_generation() -> None:
    previous = describe(RESOURCE, PUBLISHED, previous=None, now=EARLIER)
    unasked = replace(PUBLISHED, recorded=None)
    assert conditions(unasked, previous=previous)["DatabaseSynced"] == ("True", "Synced")
    newer = replace(RESOURCE, identity=replace(RESOURCE.identity, generation=3))
    found = describe(newer, unasked, previous=previous, now=NOW)
    assert [one["reason"] for one in entries(found) if one["type"] == "DatabaseSynced"] == [
        "Pending"
    ]


def test_times_change_with_the_status_only() -> None:
    previous = describe(RESOURCE, PUBLISHED, previous=None, now=EARLIER)
    away = replace(PUBLISHED, recorded=DatabaseSynced.DATABASE_UNAVAILABLE)
    after = describe(RESOURCE, away, previous=previous, now=NOW)
    times = {one["type"]: one["lastTransitionTime"] for one in entries(after)}
    assert times.pop("DatabaseSynced") == NOW
    assert set(times.values()) == {EARLIER}


def test_a_reason_that_changes_without_the_status_keeps_the_time() -> None:
    away = replace(PUBLISHED, recorded=DatabaseSynced.DATABASE_UNAVAILABLE)
    previous = describe(RESOURCE, away, previous=None, now=EARLIER)
    outdated = replace(PUBLISHED, recorded=DatabaseSynced.SCHEMA_OUTDATED)
    found = entries(describe(RESOURCE, outdated, previous=previous, now=NOW))
    synced = next(one for one in found if one["type"] == "DatabaseSynced")
    assert (synced["reason"], synced["lastTransitionTime"]) == ("SchemaOutdated", EARLIER)


def test_stalled_goes_when_the_spec_is_mended() -> None:
    broken = describe(RESOURCE, replace(PUBLISHED, verdict=INVALID), previous=None, now=EARLIER)
    assert "Stalled" not in conditions(PUBLISHED, previous=broken)


def test_a_status_that_says_the_same_is_the_same() -> None:
    first = describe(RESOURCE, PUBLISHED, previous=None, now=EARLIER)
    again = describe(RESOURCE, PUBLISHED, previous=first, now=LATER)
    assert again == first
    assert same(first, again)


def test_the_checksum_is_of_the_first_configuration_with_this_route() -> None:
    first = describe(RESOURCE, PUBLISHED, previous=None, now=EARLIER)
    others_changed = replace(PUBLISHED, checksum="f" * 64)
    assert same(first, describe(RESOURCE, others_changed, previous=first, now=NOW))
    elsewhere = replace(ROUTE, targets=(replace(ROUTE.targets[0], url="http://o:2"),))
    moved = replace(others_changed, planned=elsewhere, standing=elsewhere)
    assert describe(RESOURCE, moved, previous=first, now=NOW)["configChecksum"] == "f" * 12


def test_the_checksum_of_the_whole_is_no_news() -> None:
    assert replace(PUBLISHED, checksum="f" * 64) == PUBLISHED


def test_what_others_wrote_does_not_count() -> None:
    desired = describe(RESOURCE, PUBLISHED, previous=None, now=NOW)
    foreign = {"type": "Audited", "status": "True", "reason": "Fine", "message": ""}
    standing = {**desired, "conditions": [foreign, *reversed(entries(desired))], "theirs": 1}
    assert same(standing, desired)


def test_what_differs_counts() -> None:
    desired = describe(RESOURCE, PUBLISHED, previous=None, now=NOW)
    assert not same(None, desired)
    assert not same({}, desired)
    assert not same({**desired, "observedGeneration": 1}, desired)
    stalled = {**entries(desired)[0], "type": "Stalled"}
    assert not same({**desired, "conditions": [*entries(desired), stalled]}, desired)
    edited = [{**entries(desired)[0], "message": "edited"}, *entries(desired)[1:]]
    assert not same({**desired, "conditions": edited}, desired)


def test_statuses_are_plain_json() -> None:
    for one in entries(describe(RESOURCE, PUBLISHED, previous=None, now=NOW)):
        assert {type(value) for value in one.values()} <= {str, int}
        assert str(one["message"]).endswith(".")


@pytest.mark.parametrize(
    ("types", "expected"), [(("mlx", "ollama", "mlx"), "mlx,ollama"), (("openai",), "openai")]
)
def test_the_type_of_the_full_form_is_what_its_targets_speak(
    types: tuple[str, ...], expected: str
) -> None:
    hosts = tuple(Host(name=f"h{place}", type=TargetType(kind)) for place, kind in enumerate(types))
    spec = replace(RESOURCE.spec, backend_type=None, hosts=hosts)
    status: Any = describe(replace(RESOURCE, spec=spec), PUBLISHED, previous=None, now=NOW)
    assert status["summary"]["type"] == expected
