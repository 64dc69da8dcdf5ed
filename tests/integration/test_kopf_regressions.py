"""What the installed kopf does when the API server misbehaves in ways that a real one can't be told
to, and that the operator's settings and handlers cope with each.

A test named `test_kopf_...` states what kopf does by itself: when a newer kopf fails one of these,
the operator's own provisions should be looked at again.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import kopf
import pytest

from llm_operator import handlers
from llm_operator.engine import Engine
from llm_operator.watchdog import Watchdog
from parts.eventually import eventually_async
from parts.fake_api import GROUP, PLURAL, VERSION, FakeAPI

pytest_plugins = ["parts.fake_api"]
pytestmark = [pytest.mark.check(34), pytest.mark.timeout(15)]

#: Seconds for whatever is to happen.
SOON = 8.0
#: More than kopf's own pauses, so that "past its retries" is past them.
MANY = len(kopf.OperatorSettings().networking.error_backoffs) + 3  # type: ignore[arg-type]


class Reconciled:
    """Stands where the engine does: which namespaces were asked for, how often."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def reconcile(self, namespace: str) -> None:
        self.asked.append(namespace)

    async def forgotten(self, namespace: str, uid: str, *, within: float) -> bool:
        return True

    async def close(self) -> None:
        pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's pauses, a hundred times shorter and as endless."""

    class Short(handlers.Backoffs):
        def __iter__(self) -> Iterator[float]:
            return (pause / 100 for pause in super().__iter__())

    monkeypatch.setattr(handlers, "Backoffs", Short)


def connecting(fake_api: FakeAPI) -> handlers.Connect:
    async def connect() -> tuple[str, aiohttp.ClientSession]:
        return fake_api.url, aiohttp.ClientSession()

    return connect


@asynccontextmanager
async def running(work: Any, stop: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    """A task inside the block, ended by `stop` at its end, however it ends."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait([task], timeout=SOON)
        if not task.done():
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


def ours(fake_api: FakeAPI, engine: Reconciled, stop: asyncio.Event) -> Any:
    """The operator's own watch."""
    return handlers.watch(
        cast(Engine, engine),
        connecting(fake_api),
        watchdog=Watchdog(at_work=handlers.at_work),
        namespaces=frozenset(),
        stop=stop,
        ready=asyncio.Event(),
    )


def plain(fake_api: FakeAPI, stop: asyncio.Event, **options: Any) -> tuple[Any, list[str], Any]:
    """kopf with its own behaviour, but for short pauses: (to be run, names seen, its index)."""
    registry, seen = kopf.OperatorRegistry(), list[str]()
    found: dict[str, Any] = {}

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=fake_api.url)

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.networking.error_backoffs = [0.01] * (MANY - 3)
        settings.watching.reconnect_backoff = 0.1

    @kopf.index(GROUP, VERSION, PLURAL, registry=registry, id="names")
    def names(name: str, **_: Any) -> dict[str, str]:
        return {name: name}

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    def event(name: str, names: Any, **_: Any) -> None:
        found["index"] = names
        seen.append(name)

    options = {"standalone": True} | options
    work = kopf.operator(registry=registry, clusterwide=True, stop_flag=stop, **options)
    return work, seen, found


async def ended(task: asyncio.Task[None]) -> BaseException | None:
    """How a task ended; one that goes on fails the test."""
    done, _ = await asyncio.wait([task], timeout=SOON)
    assert done, "it still runs"
    return task.exception()


# Lists that fail for longer than kopf tries.


async def test_kopf_ends_when_lists_fail_past_its_retries(fake_api: FakeAPI) -> None:
    fake_api.failing, stop = 10**6, asyncio.Event()
    async with running(plain(fake_api, stop)[0], stop) as task:
        assert isinstance(await ended(task), Exception)
    assert fake_api.listed == MANY - 3 + 1


@pytest.mark.usefixtures("impatient")
async def test_lists_may_fail_for_longer_than_kopf_would_try(fake_api: FakeAPI) -> None:
    fake_api.failing, stop, engine = MANY, asyncio.Event(), Reconciled()
    async with running(ours(fake_api, engine, stop), stop) as task:
        await eventually_async(lambda: fake_api.watched, within=SOON)
        assert fake_api.failing == 0
        fake_api.create("later")
        await eventually_async(lambda: engine.asked == ["prod"], within=SOON)
        assert fake_api.finalizers("later") == [handlers.FINALIZER]
        assert not task.done()


# An error inside a watch, as etcd gives one.


async def test_kopf_ends_on_an_error_inside_a_watch(fake_api: FakeAPI) -> None:
    stop = asyncio.Event()
    async with running(plain(fake_api, stop)[0], stop) as task:
        await eventually_async(lambda: fake_api.watched, within=SOON)
        fake_api.tell_error(500)
        assert "injected" in str(await ended(task))


async def test_an_error_inside_a_watch_ends_the_operator_for_its_next_start(
    fake_api: FakeAPI,
) -> None:
    """A watch that ended in silence would leave a process that is deaf and looks well."""
    stop, engine = asyncio.Event(), Reconciled()
    async with running(ours(fake_api, engine, stop), stop) as task:
        await eventually_async(lambda: fake_api.watched, within=SOON)
        fake_api.tell_error(500)
        assert "injected" in str(await ended(task))
    stop = asyncio.Event()
    async with running(ours(fake_api, engine, stop), stop):
        await eventually_async(lambda: fake_api.watched, within=SOON)
        fake_api.create("later")
        await eventually_async(lambda: engine.asked == ["prod"], within=SOON)


# An object that goes while a watch begins anew.


async def test_kopf_keeps_an_index_of_what_vanished_in_a_gap(fake_api: FakeAPI) -> None:
    fake_api.create("stays")
    fake_api.create("goes")
    stop = asyncio.Event()
    work, seen, found = plain(fake_api, stop)
    async with running(work, stop) as task:
        await eventually_async(lambda: {"stays", "goes"} <= set(seen), within=SOON)
        lists = fake_api.listed
        fake_api.vanish("goes")
        fake_api.tell_error(410)
        await eventually_async(lambda: fake_api.listed > lists and fake_api.watched, within=SOON)
        fake_api.create("later")
        await eventually_async(lambda: "later" in seen, within=SOON)
        # NB: once this fails, kopf tells of what vanished; nothing of ours hangs on it.
        assert set(found["index"]) == {"stays", "goes", "later"}
        assert not task.done()


async def test_nothing_of_ours_hangs_on_what_kopf_remembers(fake_api: FakeAPI) -> None:
    """An object seen after a gap has its namespace reconciled, which takes a list of its own."""
    fake_api.create("stays")
    fake_api.create("goes")
    stop, engine = asyncio.Event(), Reconciled()
    async with running(ours(fake_api, engine, stop), stop) as task:
        await eventually_async(lambda: len(engine.asked) == 2, within=SOON)
        await eventually_async(
            lambda: fake_api.finalizers("goes") == [handlers.FINALIZER], within=SOON
        )
        lists = fake_api.listed
        fake_api.vanish("goes")
        fake_api.tell_error(410)
        await eventually_async(lambda: fake_api.listed > lists and fake_api.watched, within=SOON)
        fake_api.create("later")
        await eventually_async(lambda: len(engine.asked) == 3, within=SOON)
        assert not task.done()
    registry = handlers.registry(
        cast(Engine, engine), connecting(fake_api), Watchdog(at_work=handlers.at_work)
    )
    assert not registry._indexing.get_all_handlers(), "an index would keep what vanished"


# The keep-alive of kopf's own leadership.


async def test_kopf_ends_when_its_keep_alive_is_lost(fake_api: FakeAPI) -> None:
    fake_api.peering_fails, stop = True, asyncio.Event()
    options = {"standalone": False, "peering_name": "default", "priority": 1}
    async with running(plain(fake_api, stop, **options)[0], stop) as task:
        assert isinstance(await ended(task), Exception)
    assert "PATCH" in fake_api.peering_asked


async def test_kopf_s_peering_is_not_used(fake_api: FakeAPI) -> None:
    fake_api.peering_fails, stop, engine = True, asyncio.Event(), Reconciled()
    async with running(ours(fake_api, engine, stop), stop) as task:
        await eventually_async(lambda: fake_api.watched, within=SOON)
        fake_api.create("later")
        await eventually_async(lambda: engine.asked == ["prod"], within=SOON)
        assert not task.done()
    assert fake_api.peering_asked == []
