"""A record: what it measures, whom it names, and its JSON."""

import json
import timeit
from dataclasses import fields
from typing import Any

import pytest

from llm_router.exchange import Timing, Usage
from llm_router.trace import Trace
from llm_router.usage import (
    NOBODY,
    UNMEASURED,
    Caller,
    Failure,
    Measures,
    Outcome,
    Record,
    caller,
    measure,
)
from llm_router.usage.record import to_json

MS = 1_000_000


def record(**given: Any) -> Record:
    """One that says as little as it may."""
    told = {
        "request_id": "r1",
        "at": 1700000000.5,
        "front": "openai_chat",
        "outcome": Outcome.OK,
        "status": 200,
        "total_seconds": 1.25,
    }
    return Record(**told | given)


def timing(first: int, last: int) -> Timing:
    """Milliseconds after a start at 1 s."""
    start = 1000 * MS
    return Timing(start, start + first * MS, start + last * MS)


class TestMeasures:
    def test_the_host_s_own_durations_come_first(self) -> None:
        usage = Usage(
            prompt_tokens=50,
            completion_tokens=100,
            load_ns=3000 * MS,
            prefill_ns=500 * MS,
            decode_ns=2000 * MS,
        )
        assert measure(usage, timing(4000, 9000), attempt_started=1) == Measures(
            prompt_tokens=50,
            completion_tokens=100,
            counted="host",
            load_seconds=3.0,
            first_token_seconds=4.0,
            prefill_tokens_per_second=100.0,
            decode_tokens_per_second=50.0,
        )

    def test_the_clock_counts_decoding_only(self) -> None:
        # 11 tokens: the first is there when the clock starts, so 10 took the second.
        usage = Usage(prompt_tokens=50, completion_tokens=11)
        found = measure(usage, timing(4000, 5000))
        assert found.decode_tokens_per_second == 10.0
        assert found.first_token_seconds == 4.0
        assert found.prefill_tokens_per_second is None, "failed attempts may be in that time"
        assert found.load_seconds is None

    def test_prefill_by_the_clock_is_the_answering_attempt_s_without_the_load(self) -> None:
        at = timing(4000, 5000)
        usage = Usage(prompt_tokens=50, load_ns=500 * MS)
        found = measure(usage, at, attempt_started=at.started + 3000 * MS)
        assert found.prefill_tokens_per_second == 100.0

    def test_pieces_count_where_the_host_could_not(self) -> None:
        found = measure(None, timing(100, 2100), pieces=5)
        assert (found.completion_tokens, found.counted) == (5, "router")
        assert found.decode_tokens_per_second == 2.0
        assert found.prompt_tokens is None

    def test_the_host_s_count_wins_over_pieces(self) -> None:
        found = measure(Usage(completion_tokens=7), timing(1, 1), pieces=5)
        assert (found.completion_tokens, found.counted) == (7, "host")

    @pytest.mark.parametrize(
        ("usage", "at", "pieces"),
        [
            (None, timing(100, 2100), 0),
            (None, timing(100, 2100), 1),
            (Usage(completion_tokens=0, decode_ns=5), timing(100, 2100), 0),
            (Usage(completion_tokens=20), Timing(1, 5 * MS, 5 * MS + 10), 0),
            (Usage(completion_tokens=20), Timing(1), 0),
        ],
        ids=["nothing", "one token", "none", "one burst", "no token"],
    )
    def test_no_rate_where_there_is_none(
        self, usage: Usage | None, at: Timing, pieces: int
    ) -> None:
        assert measure(usage, at, pieces=pieces).decode_tokens_per_second is None

    def test_nothing_is_nothing(self) -> None:
        assert measure(None, Timing(1)) == UNMEASURED

    @pytest.mark.parametrize("prefill", [0, None])
    def test_a_prompt_that_took_no_time_has_no_rate(self, prefill: int | None) -> None:
        found = measure(Usage(prompt_tokens=5, prefill_ns=prefill), timing(1, 2))
        assert found.prefill_tokens_per_second is None


class TestCaller:
    def test_is_read_from_its_headers(self) -> None:
        headers = [
            (b"x-llm-session", b"s 1"),
            (b"x-llm-user", "Jürgen".encode()),
            (b"x-llm-zone", b"kitchen"),
            (b"x-llm-intent", b"light"),
            (b"x-llm-source", b"gateway"),
            (b"x-llm-stage", b"classify"),
            (b"x-llm-other", b"no"),
            (b"authorization", b"Bearer secret"),
        ]
        assert caller(headers) == Caller(
            session="s 1",
            user="Jürgen",
            zone="kitchen",
            intent="light",
            source="gateway",
            stage="classify",
        )

    @pytest.mark.parametrize(
        "value", [b"", b"x" * 257, b"a\tb", b"\x00", b"\xff\xfe", "a\u2028b".encode()]
    )
    def test_drops_what_is_no_id(self, value: bytes) -> None:
        assert caller([(b"x-llm-session", value), (b"x-llm-zone", b"z")]) == Caller(zone="z")

    def test_is_nobody_without_them(self) -> None:
        assert caller([(b"host", b"x")]) is NOBODY
        assert caller([(b"x-llm-user", b"y" * 256)]).user == "y" * 256


class TestJSON:
    def test_is_flat_and_leaves_out_what_is_unset(self) -> None:
        assert json.loads(to_json(record())) == {
            "request_id": "r1",
            "at": 1700000000.5,
            "total_seconds": 1.25,
            "attempts": 0,
            "front": "openai_chat",
            "stream": False,
            "model": "other",
            "generation": 0,
            "outcome": "ok",
            "status": 200,
        }

    def test_has_everything(self) -> None:
        full = record(
            model="phi3:mini",
            route="phi3",
            route_uid="u-1",
            generation=3,
            target="ollama",
            backend_type="ollama",
            upstream_model="phi3:mini",
            kind="chat",
            stream=True,
            error="BrokenStream",
            attempts=2,
            fallback_reason="ConnectFailure",
            failures=(Failure("mlx", "mlx", "ConnectFailure", 0.25),),
            measures=Measures(
                prompt_tokens=0,
                completion_tokens=9,
                counted="router",
                load_seconds=0.0,
                first_token_seconds=0.1,
                prefill_tokens_per_second=1.0,
                decode_tokens_per_second=2.0,
            ),
            caller=Caller(session="s", user="u", zone="z", intent="i", source="o", stage="t"),
            trace=Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True),
        )
        document = json.loads(to_json(full))
        own = {each.name for each in fields(Record)} - {"measures", "caller", "trace", "encoded"}
        nested = {each.name for kind in (Measures, Caller) for each in fields(kind)}
        assert document.keys() == own | nested | {"trace_id"}
        assert document["failures"] == [
            {
                "target": "mlx",
                "backend_type": "mlx",
                "cause": "ConnectFailure",
                "seconds": 0.25,
            }
        ]
        expected = {"prompt_tokens": 0, "completion_tokens": 9, "counted": "router", "session": "s"}
        assert document.items() >= expected.items(), "0 is a value"
        assert document["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert document["upstream_model"] == "phi3:mini"
        assert document["generation"] == 3
        assert b"\n" not in to_json(full)

    def test_two_requests_alike_share_no_more_than_they_may(self) -> None:
        one, two = record(request_id="a", status=200), record(request_id="b", status=404)
        assert json.loads(to_json(one))["request_id"] == "a"
        assert json.loads(to_json(two))["request_id"] == "b"
        assert json.loads(to_json(two))["status"] == 404


def test_a_record_is_cheap() -> None:
    seconds = min(timeit.repeat(record, number=1000, repeat=5)) / 1000
    # NB: 3 us on a quiet machine; the bound is for a loaded one, and finds a tenfold loss.
    assert seconds < 30e-6
