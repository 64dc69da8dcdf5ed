"""Usage on its whole way, router's delivery to Postgres, through what may happen to `llmb admin`.

Real delivery with its spool on disk, the real process with the shipped rights, the real API server
and a Postgres of the test's own. Judged by request ids: none is missing, none is there twice.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from llm_operator import migrate
from llm_router.usage import Outcome, Record
from llm_router.usage import shipper as shipper_module
from llm_router.usage.delivery import Delivery
from parts.access import User
from parts.admin import Admin, rules
from parts.control_plane import ControlPlane
from parts.eventually import eventually, eventually_async
from parts.postgres import Postgres

#: Records of the long run, and how many are given to the spool at a time.
ALL, SLICE = 100_000, 5_000


@dataclass(slots=True)
class Intake:
    """A router's way to an admin, and what arrived."""

    admin: Admin
    postgres: Postgres
    database: str
    router: User
    folder: Path

    @property
    def url(self) -> str:
        return f"{self.admin.url}/api/llm-backends/usage"

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[Delivery]:
        """A router's delivery at work."""
        token = self.folder / "token"
        token.write_text(self.router.token)
        made = Delivery(
            url=self.url,
            token_file=token,
            folder=self.folder / "spool",
            limit=256 << 20,
            period=0.05,
        )
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            await made.close(2)
            await asyncio.gather(running, return_exceptions=True)

    def stored(self) -> tuple[int, int]:
        """Rows, and different request ids among them."""
        with psycopg.connect(self.database, connect_timeout=5) as connection:
            found = connection.execute(
                "SELECT count(*), count(DISTINCT request_id) FROM llmb.llm_usage"
            ).fetchone()
        assert found is not None
        return found


@pytest.fixture
def intake(
    control_plane: ControlPlane, crd: object, private_postgres: Postgres, tmp_path: Path
) -> Iterator[Intake]:
    """An admin that runs, and a router that may send."""
    database = private_postgres.uri_of(private_postgres.create_database())
    asyncio.run(migrate.migrate(database, say=lambda _: None))
    usage = rules("llm-backend-usage", file="components/admin/usage.yaml")
    router = control_plane.create_user("router", usage, namespace="default")
    admin = Admin(control_plane, folder=tmp_path, database=database)
    admin.start()
    yield Intake(admin, private_postgres, database, router, tmp_path)
    admin.kill()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses between tries."""
    monkeypatch.setattr(shipper_module, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(shipper_module, "LONGEST_PAUSE", 1.0)


def records(start: int, end: int) -> list[Record]:
    """Those of some requests, all begun in these seconds."""
    now = time.time()
    return [
        Record(
            request_id=f"r{number}",
            at=now,
            front="openai_chat",
            outcome=Outcome.OK,
            status=200,
            total_seconds=1.0,
            model="phi3:mini",
            route="phi3-mini",
            target="ollama",
            backend_type="ollama",
        )
        for number in range(start, end)
    ]


@pytest.mark.timeout(400)
async def test_a_hundred_thousand_records_through_killed_servers_arrive_once(
    intake: Intake,
) -> None:
    async with intake.delivering() as delivery:
        producing = asyncio.create_task(produce(delivery))

        async def reached(share: float) -> None:
            await eventually_async(
                lambda: delivery.counts().sent >= share * ALL, within=150, every=0.01
            )

        await reached(0.1)
        await asyncio.to_thread(intake.admin.kill)
        await asyncio.to_thread(intake.admin.start)
        await reached(0.3)
        await asyncio.to_thread(intake.postgres.stop, crash=True)
        await asyncio.to_thread(intake.postgres.start)
        await reached(0.5)
        await asyncio.to_thread(intake.postgres.stop, crash=True)
        await asyncio.to_thread(intake.admin.kill)
        await asyncio.to_thread(intake.admin.start, ready=False)
        await asyncio.to_thread(intake.postgres.start)
        await producing
        await reached(1.0)
        counts = delivery.counts()
    assert (counts.sent, counts.rejected, counts.dropped, counts.waiting) == (ALL, 0, 0, 0)
    assert await asyncio.to_thread(intake.stored) == (ALL, ALL)


async def produce(delivery: Delivery) -> None:
    """As fast as the spool's disk takes them."""
    for start in range(0, ALL, SLICE):
        delivery.take(records(start, start + SLICE))
        taken = start + SLICE
        await eventually_async(
            lambda taken=taken: delivery.counts().spooled >= taken, within=60, every=0.01
        )


async def test_without_an_api_server_nothing_is_refused_for_good(intake: Intake) -> None:
    # NB: a token that the admin has not seen, since one that it has is known for some seconds.
    with intake.admin.control_plane.down():
        async with intake.delivering() as delivery:
            answer = await asyncio.to_thread(post, intake)
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert int(answer.headers["retry-after"]) >= 1
            delivery.take(records(0, 100))
            await eventually_async(lambda: failing(delivery), within=30)
            assert delivery.counts().rejected == 0
            await asyncio.to_thread(intake.admin.control_plane.start)
            await eventually_async(lambda: delivery.counts().sent == 100, within=60)
    eventually(lambda: intake.stored() == (100, 100), within=20)


def post(intake: Intake) -> httpx.Response:
    """An empty batch."""
    with intake.admin.client(intake.router) as client:
        return client.post("/usage", json={"records": []})


def failing(delivery: Delivery) -> bool:
    """Whether all of them are on disk and none has gone."""
    counts = delivery.counts()
    return (counts.waiting, counts.sent) == (100, 0)


async def test_without_postgres_nothing_is_refused_for_good(intake: Intake) -> None:
    await asyncio.to_thread(intake.postgres.stop, crash=True)
    async with intake.delivering() as delivery:
        delivery.take(records(0, 100))
        answer = await asyncio.to_thread(post_one, intake)
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert int(answer.headers["retry-after"]) >= 1
        await eventually_async(lambda: failing(delivery), within=30)
        await asyncio.to_thread(intake.postgres.start)
        await eventually_async(lambda: delivery.counts().sent == 100, within=60)
        assert delivery.counts().rejected == 0
    assert await asyncio.to_thread(intake.stored) == (100, 100)


def post_one(intake: Intake) -> httpx.Response:
    """A batch of one record, the first of the others."""
    one = {
        "request_id": "r0",
        "at": 1.0,
        "model": "phi3:mini",
        "outcome": "ok",
        "total_seconds": 1.0,
    }
    with intake.admin.client(intake.router) as client:
        return client.post("/usage", json={"records": [one]})
