"""The routes of recorded traffic and of routers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_operator.admin.api import bodies
from llm_operator.admin.api.when import instant
from llm_operator.admin.errors import Invalid
from llm_operator.admin.model import Sample
from llm_operator.admin.traffic import BATCHES, MOST_RECORDS
from llm_operator.compare import document
from llm_operator.compare.model import Arm
from llm_operator.routers.report import Report, RouteReport, TargetReport, Unreachable
from llm_operator.routers.router import Router
from parts.admin_memory import Memory as Behind
from parts.admin_memory import client, memory

RECORD = {"request_id": "a", "at": 1763200000, "model": "m", "outcome": "ok", "total_seconds": 1.5}
METRIC = {"timestamp": 1763200000.5, "model": "m", "backend": "mlx", "latency_seconds": 3}


@pytest.fixture
def behind() -> Behind:
    return memory()


def sample(number: int) -> Sample:
    return Sample(
        key=f"k{number}",
        request_id=f"r{number}",
        at=float(number),
        model="m",
        backend="mlx",
        target="mac",
        outcome="ok",
        latency_seconds=1.5,
        tokens=30,
        user_id="u",
    )


def arm(key: str, seconds: float) -> Arm:
    return Arm(
        key=key,
        requests=50,
        errors=1,
        fallbacks=0,
        times=49,
        average_seconds=seconds,
        deviation_seconds=0.2,
        p50_seconds=seconds,
        p95_seconds=seconds,
        first_tokens=0,
        average_first_token_seconds=None,
        speeds=0,
        average_tokens_per_second=None,
        deviation_tokens_per_second=None,
    )


async def test_a_batch_is_stored_once(behind: Behind) -> None:
    async with client(behind) as api:
        first = await api.post("/usage", json={"records": [RECORD]})
        again = await api.post("/usage", json={"records": [RECORD, {**RECORD, "request_id": "b"}]})
    assert (first.status_code, first.json()) == (200, {"stored": 1, "known": 0, "refused": []})
    assert again.json() == {"stored": 1, "known": 1, "refused": []}


async def test_what_is_no_record_costs_no_other_its_place(behind: Behind) -> None:
    bad = [
        7,
        {**RECORD, "at": "1"},
        {**RECORD, "at": True},
        {**RECORD, "at": 10**400},
        {**RECORD, "at": 1e300},
        {**RECORD, "total_seconds": -1},
        {**RECORD, "request_id": ""},
        {**RECORD, "model": None},
    ]
    async with client(behind) as api:
        told = await api.post("/usage", json={"records": [*bad, RECORD]})
        none = await api.post("/usage", json={"records": bad})
    assert (told.json()["stored"], len(told.json()["refused"])) == (1, len(bad))
    assert told.json()["refused"][0] == "records[0]: must be an object"
    assert (none.status_code, none.json()["detail"]) == (400, "records[0]: must be an object")


@pytest.mark.parametrize("body", [{}, [], {"records": {}}, {"records": None}, 5])
async def test_a_batch_is_a_list(behind: Behind, body: object) -> None:
    async with client(behind) as api:
        told = await api.post("/usage", json=body)
    assert told.status_code == 400
    assert told.json()["detail"].startswith("records: must be a list")


async def test_a_batch_has_limits(behind: Behind) -> None:
    many = json.dumps({"records": [RECORD] * (MOST_RECORDS + 1)}).encode()
    full = json.dumps({"records": [RECORD], "x": " " * (bodies.USAGE_LIMIT - 200)}).encode()
    async with client(behind) as api:
        assert (await api.post("/usage", content=many)).status_code == 413
        assert (await api.post("/usage", content=full)).status_code == 200
        assert (await api.post("/usage", content=full + b" " * 300)).status_code == 413


async def test_too_many_batches_at_once_come_again(behind: Behind) -> None:
    async with client(behind) as api:
        for _ in range(BATCHES):
            await behind.admin.traffic._batches.acquire()
        told = await api.post("/usage", json={"records": [RECORD]})
        assert (told.status_code, told.headers["retry-after"]) == (429, "1")
        behind.admin.traffic._batches.release()
        assert (await api.post("/usage", json={"records": [RECORD]})).status_code == 200


async def test_postgres_away_is_503_so_that_a_router_keeps_its_records(behind: Behind) -> None:
    behind.archive.away = True
    async with client(behind) as api:
        told = await api.post("/usage", json={"records": [RECORD]})
    assert (told.status_code, told.headers["retry-after"]) == (503, "1")


async def test_the_predecessor_s_metric_becomes_a_record(behind: Behind) -> None:
    more = {"request_id": "r", "tokens": 40, "session_id": "s", "stage": "classify", "zone": None}
    async with client(behind) as api:
        told = await api.post("/metrics", json={**METRIC, **more, "tokens_per_second": 13.3})
        unnamed = await api.post("/metrics", json=METRIC)
    assert (told.status_code, told.json()) == (201, {"id": "r", "status": "created"})
    assert behind.archive.records["r"] == {
        "request_id": "r",
        "at": 1763200000.5,
        "model": "m",
        "backend_type": "mlx",
        "outcome": "ok",
        "total_seconds": 3,
        "completion_tokens": 40,
        "session": "s",
        "stage": "classify",
    }
    assert len(unnamed.json()["id"]) == 32


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"timestamp": "1763200000"}, 'timestamp: must be a number, is "1763200000"'),
        ({"timestamp": True}, "timestamp: must be a number, is true"),
        ({"timestamp": -1}, "timestamp: should be greater than or equal to 0, is -1"),
        ({"timestamp": 1e15}, "timestamp: should be less than or equal to"),
        ({"latency_seconds": None}, "latency_seconds: must be a number, is null"),
        ({"tokens": 1.5}, "tokens: must be a whole number, is 1.5"),
        ({"tokens": 2**40}, "tokens: should be less than or equal to"),
        ({"model": ""}, "model: "),
        ({"model": "a\nb"}, "model: "),
        ({"user_id": "u" * 300}, "user_id: "),
        ({"latency": 3}, "latency: unknown field; did you mean latency_seconds?"),
    ],
)
async def test_a_metric_is_strict(behind: Behind, change: dict[str, Any], detail: str) -> None:
    async with client(behind) as api:
        told = await api.post("/metrics", json={**METRIC, **change})
    assert told.status_code == 400
    assert told.json()["detail"].startswith(detail)
    assert behind.archive.records == {}


async def test_what_a_metric_lacks_is_named(behind: Behind) -> None:
    async with client(behind) as api:
        told = await api.post("/metrics", json={"model": "m"})
    fields = [one["field"] for one in told.json()["errors"]]
    assert fields == ["timestamp", "backend", "latency_seconds"]


async def test_recorded_requests_page_by_page(behind: Behind) -> None:
    behind.archive.told = [sample(number) for number in (5, 4, 3, 2, 1)]
    async with client(behind) as api:
        first = await api.get("/metrics?limit=3&model=m")
        rest = await api.get(f"http://admin{first.links['next']['url']}")
        wrong = await api.get("/metrics?before=nonsense")
        many = await api.get("/metrics?limit=1001")
    assert [one["timestamp"] for one in first.json()] == [5, 4, 3]
    assert [one["request_id"] for one in rest.json()] == ["r2", "r1"]
    assert "model=m" in first.links["next"]["url"]
    assert "link" not in rest.headers
    assert wrong.status_code == many.status_code == 400
    names = "timestamp model backend latency_seconds tokens tokens_per_second request_id"
    names += " session_id user_id zone intent source stage"
    assert set(names.split()) <= first.json()[0].keys()


async def test_a_comparison_reads_back_as_it_was(behind: Behind) -> None:
    behind.archive.sums = [arm("mlx", 3.0), arm("ollama", 7.0)]
    async with client(behind) as api:
        told = await api.get("/compare?model=m&since=7d&series=true&step=3600")
        short = await api.get("/compare?model=m")
    report = document.read(told.json())
    assert (report.comparison.baseline, report.until - report.since) == (
        "ollama",
        timedelta(days=7),
    )
    assert told.json()["backends"][1]["verdict"] == "faster"
    assert [one["backend"] for one in told.json()["series"]] == ["mlx", "ollama"]
    assert "series" not in short.json()
    whole = document.read(short.json())
    assert whole.until - whole.since == timedelta(days=1)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"model": "m", "since": "yesterday"}, "since"),
        ({"model": "m", "since": "1h", "until": "2h"}, "since"),
        ({"model": "m", "since": "90d"}, "since"),
        ({"model": "m", "until": "9999999w"}, "until"),
        ({"model": "m", "by": "colour"}, "by"),
        ({"model": "m", "baseline": "vllm"}, "baseline"),
        ({"model": "m", "series": "true", "step": "1"}, "step"),
        ({"model": "m", "series": "true", "step": "0"}, "step"),
        ({"model": "m", "namespace": "A b"}, "namespace"),
        ({}, "model"),
    ],
)
async def test_a_question_that_can_t_be_is_named(
    behind: Behind, query: dict[str, str], field: str
) -> None:
    async with client(behind) as api:
        told = await api.get("/compare", params=query)
    assert told.status_code == 400
    assert told.json()["detail"].startswith(f"{field}: ")


NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("24h", NOW - timedelta(days=1)),
        ("2w", NOW - timedelta(days=14)),
        ("2026-01-04", NOW - timedelta(hours=33)),
        ("2026-01-05T08:00:00Z", NOW - timedelta(hours=1)),
        ("2026-01-05T08:00:00", NOW - timedelta(hours=1)),
        ("2026-01-05T09:00:00+01:00", NOW - timedelta(hours=1)),
        ("2026-01-05T09:00:00 01:00", NOW - timedelta(hours=1)),
        ("2026-01-05 08:00", NOW - timedelta(hours=1)),
    ],
)
def test_a_moment(text: str, then: datetime) -> None:
    assert instant(text, now=NOW, field="since") == then


@pytest.mark.parametrize("text", ["", "h", "1y", "-1h", "12", "0001-01-01T00:00:00+14:00", "１h"])
def test_no_moment(text: str) -> None:
    with pytest.raises(Invalid, match="since: must be"):
        instant(text, now=NOW, field="since")


async def test_routers_and_what_they_run(behind: Behind) -> None:
    target = TargetReport(name="mac", state="Healthy", since=5.0, speed=33.0)
    runs = Report(checksum="ab" * 32, routes={"u": RouteReport(generation=2, targets=(target,))})
    one = Router(namespace="home", name="a", uid="1", url="http://10.0.0.1:8081")
    other = Router(namespace="away", name="b", uid="2", url="", terminating=True)
    behind.fleet.told = [(one, runs), (other, Unreachable("it is gone"))]
    async with client(behind) as api:
        told = (await api.get("/routers")).json()
        behind.gate.denied = {("list", ""), ("list", "away")}
        fewer = (await api.get("/routers")).json()
    assert told[0]["routes"][0]["targets"][0]["tokens_per_second"] == 33.0
    assert (told[1]["unreachable"], told[1]["terminating"]) == ("it is gone", True)
    assert [router["name"] for router in fewer] == ["a"]
