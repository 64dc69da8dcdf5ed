"""Which statuses are written, and when: what only routers say may wait, all else may not."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from llm_contract import Route, Target, TargetType, Timeouts
from llm_operator.plan import Verdict
from llm_operator.ports import Gone, PortError, Status, Unavailable
from llm_operator.reasons import Accepted, ConfigPublished, DatabaseSynced
from llm_operator.resource.model import BackendType, Identity, Resource, Spec
from llm_operator.routers.report import RouteReport, Said, TargetReport
from llm_operator.status import reporter as module
from llm_operator.status.conditions import Difference, Facts
from llm_operator.status.reporter import Reporter

RESOURCE = Resource(
    identity=Identity(namespace="ns", name="phi", uid="u1", generation=1),
    spec=Spec(model_name="phi3:mini", backend_type=BackendType.MLX, endpoint_url="http://m:1"),
)
ROUTE = Route(
    model="phi3:mini",
    uid="u1",
    generation=1,
    name="phi",
    targets=(Target(name="mlx", type=TargetType.MLX, url="http://m:1", model="default_model"),),
    timeouts=Timeouts(total=60),
)


def facts(*said: Said, **more: Any) -> Facts:
    fields: dict[str, Any] = {
        "verdict": Verdict(reason=Accepted.VALID, message="Valid.", routed=True),
        "planned": ROUTE,
        "standing": ROUTE,
        "checksum": "c" * 64,
        "published": ConfigPublished.PUBLISHED,
        "recorded": DatabaseSynced.SYNCED,
        "said": said,
    }
    return Facts(**fields | more)


def says(state: str = "Healthy", speed: float | None = None) -> Said:
    target = TargetReport(name="mlx", state=state, speed=speed)
    return Said(router="a", route=RouteReport(generation=1, targets=(target,)))


class Writes:
    """A writer, and a teller beside it."""

    def __init__(self) -> None:
        self.statuses: list[Status] = []
        self.heard: list[tuple[str, Status | None, Status]] = []
        self.listings: list[tuple[str, int]] = []
        self.error: PortError | None = None

    async def write(self, resource: Resource, status: Status) -> None:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        self.statuses.append(status)

    def listed(self, namespace: str, resources: Any) -> None:
        self.listings.append((namespace, len(resources)))

    def told(self, resource: Resource, before: Status | None, after: Status) -> None:
        self.heard.append((resource.identity.name, before, after))

    def repaired(self, namespace: str) -> None:
        raise AssertionError(namespace)


@pytest.fixture
def writes() -> Writes:
    return Writes()


@pytest.fixture
async def reporter(writes: Writes) -> Reporter:
    made = Reporter(
        writes,
        now=lambda: "2026-01-01T00:00:00Z",
        slots=asyncio.Semaphore(2),
        width=2,
        namespace="ns",
        tellers=[writes],
    )
    made.take([RESOURCE], begun=0.0)
    return made


async def report(reporter: Reporter, known: Facts, resource: Resource = RESOURCE) -> bool:
    return await reporter.report(["u1"], lambda _: (resource, known))


async def test_the_first_news_of_routers_is_written_at_once_and_the_next_a_little_later(
    reporter: Reporter, writes: Writes
) -> None:
    assert await report(reporter, facts())
    assert reporter.held is None
    assert await report(reporter, facts(says()))
    assert len(writes.statuses) == 2
    assert await report(reporter, facts(says("Ejected")))
    assert len(writes.statuses) == 2
    assert reporter.held is not None
    assert 0 < reporter.held <= module.PAUSES[Difference.PLANE]


async def test_what_was_held_back_is_written_when_it_is_due(
    reporter: Reporter, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.PAUSES, Difference.PLANE, 0.02)  # type: ignore[misc]
    for known in (facts(), facts(says()), facts(says("Ejected"))):
        await report(reporter, known)
    assert len(writes.statuses) == 2
    assert reporter.held is not None
    await asyncio.sleep(reporter.held)
    await report(reporter, facts(says("Ejected")))
    assert len(writes.statuses) == 3
    assert reporter.held is None


async def test_what_comes_and_goes_meanwhile_is_never_written(
    reporter: Reporter, writes: Writes
) -> None:
    for state in ("Healthy", "Ejected", "Unhealthy", "Ejected"):
        await report(reporter, facts(says(state)))
    assert len(writes.statuses) == 2
    assert reporter.held is None


async def test_a_figure_alone_waits_longest(reporter: Reporter, writes: Writes) -> None:
    await report(reporter, facts(says(speed=10)))
    await report(reporter, facts(says(speed=20)))
    assert len(writes.statuses) == 2
    await report(reporter, facts(says(speed=40)))
    assert len(writes.statuses) == 2
    assert reporter.held is not None
    assert reporter.held > module.PAUSES[Difference.PLANE]


async def test_news_of_the_operator_s_own_never_wait_and_carry_the_rest(
    reporter: Reporter, writes: Writes
) -> None:
    for known in (facts(), facts(says()), facts(says("Ejected"))):
        await report(reporter, known)
    away = facts(says("Ejected"), recorded=DatabaseSynced.DATABASE_UNAVAILABLE)
    await report(reporter, away)
    assert len(writes.statuses) == 3
    targets: Any = writes.statuses[-1]["targets"]
    assert targets[0]["reason"] == "Ejected"


async def test_a_pause_is_written_although_nothing_else_is_new(
    reporter: Reporter, writes: Writes
) -> None:
    await report(reporter, facts(says()))
    paused = replace(RESOURCE, paused=True)
    await report(reporter, facts(says("Ejected")), paused)
    await report(reporter, facts(says("Unhealthy")), paused)
    assert len(writes.statuses) == 2
    conditions: Any = writes.statuses[-1]["conditions"]
    assert conditions[-1]["type"] == "Paused"
    await report(reporter, facts(says()))
    assert writes.statuses[-1] == writes.statuses[0]


async def test_tellers_hear_of_each_listing_and_of_each_write_that_was_made(
    reporter: Reporter, writes: Writes
) -> None:
    assert writes.listings == [("ns", 1)]
    writes.error = Unavailable("away")
    assert not await report(reporter, facts())
    writes.error = Gone("phi")
    assert await report(reporter, facts())
    assert writes.heard == []
    writes.error = None
    await report(reporter, facts())
    await report(reporter, facts(says()))
    first, second = writes.statuses
    assert writes.heard == [("phi", None, first), ("phi", first, second)]
