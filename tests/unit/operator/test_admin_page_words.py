"""A backend's state in plain words."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_operator import reasons
from llm_operator.admin.page import words
from llm_operator.admin.page.words import Tone
from llm_operator.reasons import Condition
from llm_router.select import Verdict

GOOD = {
    Condition.ACCEPTED: "True",
    Condition.PROGRAMMED: "True",
    Condition.AVAILABLE: "True",
    Condition.DEGRADED: "False",
    Condition.READY: "True",
}


def told(*, state: str = "accepted", **more: Any) -> dict[str, Any]:
    """A backend as `admin.view` tells it; conditions that differ from a good one's in `but`."""
    statuses: Mapping[str, str] = GOOD | more.pop("but", {})
    why = more.pop("reason", "")
    conditions = [
        {"type": kind, "status": status, "reason": why, "message": f"Why {kind}."}
        for kind, status in statuses.items()
    ]
    ready = {"True": True, "False": False}.get(statuses[Condition.READY])
    usual = {"paused": False, "enabled": True, "ready": ready, "problems": []}
    return {"conditions": conditions, "state": state, **usual, **more}


@pytest.mark.parametrize(
    ("given", "tone", "text"),
    [
        (told(), Tone.GOOD, "Serving"),
        (told(state="refused", problems=["spec.priority: no"]), Tone.BAD, "Refused"),
        (told(state="pending"), Tone.BUSY, "Waiting"),
        (told(paused=True, state="pending"), Tone.IDLE, "Paused"),
        (told(enabled=False), Tone.IDLE, "Switched off"),
        (told(but={Condition.READY: "False"}), Tone.BAD, "Not ready"),
        (told(but={Condition.AVAILABLE: "False"}), Tone.BAD, "No target answers"),
        (told(but={Condition.PROGRAMMED: "False"}), Tone.BUSY, "Rolling out"),
        (told(but={Condition.PROGRAMMED: "False"}, reason="NoRouters"), Tone.IDLE, "No routers"),
        (told(but={Condition.DEGRADED: "True"}), Tone.WARN, "Degraded"),
        (told(but={Condition.AVAILABLE: "Unknown"}), Tone.BUSY, "Starting"),
    ],
)
def test_the_headline_is_what_somebody_should_know_first(
    given: dict[str, Any], tone: Tone, text: str
) -> None:
    saying = words.headline(given)
    assert (saying.tone, saying.text) == (tone, text)
    assert saying.more


def test_a_backend_without_conditions_is_on_its_way() -> None:
    assert words.headline(told(state="pending") | {"conditions": []}).tone is Tone.BUSY


@pytest.mark.parametrize("kind", list(Condition))
def test_every_condition_has_words_for_each_status(kind: Condition) -> None:
    said = {
        status: words.condition({"type": kind, "status": status, "message": "m"})
        for status in ("True", "False", "Unknown")
    }
    assert len({saying.text for saying in said.values()}) == 3
    assert [saying.tone for saying in said.values()].count(Tone.GOOD) == 1
    assert said["Unknown"].tone is Tone.BUSY


@pytest.mark.parametrize("state", list(reasons.TargetState))
def test_every_state_of_a_target_has_words(state: str) -> None:
    assert state in words.TARGETS


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_of_a_router_has_words(verdict: str) -> None:
    assert verdict in words.VERDICTS


def test_the_way_of_a_request_says_first_reserve_and_passed_over() -> None:
    one = {"name": "a", "verdict": "Healthy", "why": "", "place": 1}
    assert words.explained(one, "a").text == "Would be asked first"
    assert words.explained(one | {"place": 2}, "b").text == "In reserve, place 2"
    passed = words.explained(one | {"place": 0, "verdict": "Drained", "why": "weight 0"}, "b")
    assert passed.text == "Passed over"
    assert passed.more == "Drained: weight 0. Weight 0."


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("no answer", "No answer."),
        ("mac-a: down", "mac-a: down."),
        ("http://h: refused", "http://h: refused."),
        ("Done.", "Done."),
        ("", ""),
    ],
)
def test_a_sentence_keeps_names_as_they_are_written(given: str, expected: str) -> None:
    assert words.sentence(given) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("endpointURL", "Endpoint URL"),
        ("fallbackEndpointURL", "Fallback endpoint URL"),
        ("maxTokens", "Max tokens"),
        ("tls", "TLS"),
        ("caRef", "CA ref"),
        ("enabled", "Enabled"),
    ],
)
def test_a_fields_name_as_people_read_it(name: str, expected: str) -> None:
    assert words.label(name) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "–"), (0.0421, "42 ms"), (0.9999, "1.00 s"), (1.5, "1.50 s"), (61.04, "61.0 s")],
)
def test_durations(seconds: float | None, expected: str) -> None:
    assert words.duration(seconds) == expected


def test_ages_and_counts() -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert words.ago(now - timedelta(seconds=5), now) == "just now"
    assert words.ago("2026-11-28T11:59:00Z", now) == "1 minute ago"
    assert words.ago(now - timedelta(days=2, hours=1), now) == "2 days ago"
    assert words.ago(None, now) == ""
    assert words.ago("", now) == ""
    assert words.ago(now + timedelta(hours=1), now) == "just now", "clocks differ"
    assert words.several(1, "backend") == "1 backend"
    assert words.several(1200, "backend") == "1,200 backends"
    assert words.percent(1, 8) == "12.5 %"
    assert words.percent(0, 0) == "–"
