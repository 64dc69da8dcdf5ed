"""Routers as the admin side shows them: one round for all who look, and nobody is waited for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from llm_operator.admin import fleet
from llm_operator.admin.errors import Away
from llm_operator.admin.fleet import Fleet
from llm_operator.ports import Unavailable
from llm_operator.routers.report import Report, Unreachable
from llm_operator.routers.router import Router

DOCUMENT = b'{"config": null, "rejected": null}'


class Listed:
    """Where routers are known from, as a test says."""

    def __init__(self, *routers: Router) -> None:
        self.routers: Sequence[Router] = routers
        self.away = False
        self.looks = 0

    async def list(self, namespace: str | None) -> Sequence[Router]:
        self.looks += 1
        assert namespace is None
        if self.away:
            raise Unavailable("GET /api/v1/pods: no answer")
        return self.routers

    async def nudge(self, router: Router, checksum: str) -> None:
        raise AssertionError("the admin side nudges nobody")


def router(name: str, url: str = "", *, running: bool = True, terminating: bool = False) -> Router:
    return Router(
        namespace="models",
        name=name,
        uid=f"uid-of-{name}",
        url=url,
        running=running,
        terminating=terminating,
    )


@asynccontextmanager
async def answering(*, silent: bool = False) -> AsyncIterator[tuple[str, list[str]]]:
    """The URL of a management port, and what was asked of it."""
    asked: list[str] = []
    held: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.decode().split()[1])
        if silent:
            held.append(writer)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(DOCUMENT) + DOCUMENT)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        for writer in held:
            writer.transport.abort()


@asynccontextmanager
async def opened(listed: Listed) -> AsyncIterator[Fleet]:
    one = Fleet(listed)
    try:
        yield one
    finally:
        await one.close()


async def test_each_router_with_what_it_says_by_name() -> None:
    async with answering() as (url, _):
        listed = Listed(
            router("c"),
            router("b", url),
            router("a", url, running=False),
            router("d", url, terminating=True),
        )
        async with opened(listed) as one:
            told = await one.list()
    assert [(each.name, answer) for each, answer in told] == [
        ("a", Unreachable("its pod does not run")),
        ("b", Report()),
        ("c", Unreachable("its pod does not run")),
        ("d", Unreachable("its pod is ending")),
    ]


async def test_however_many_look_each_is_asked_once() -> None:
    async with answering() as (url, asked):
        listed = Listed(router("a", url))
        async with opened(listed) as one:
            all_told = await asyncio.gather(*(one.list() for _ in range(50)))
            again = await one.list()
    assert all(told is again for told in all_told)
    assert (listed.looks, asked) == (1, ["/status"])


async def test_answers_are_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "KEEP", 0.0)
    async with answering() as (url, asked):
        listed = Listed(router("a", url))
        async with opened(listed) as one:
            await one.list()
            listed.routers = [router("b", url)]
            told = await one.list()
    assert ([each.name for each, _ in told], len(asked)) == (["b"], 2)


async def test_one_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "ROUND", 0.2)
    async with (
        answering(silent=True) as (hanging, asked),
        answering() as (url, _),
        opened(Listed(router("a", hanging), router("b", url))) as one,
    ):
        told = await one.list()
    assert asked == ["/status"]
    assert [answer for _, answer in told] == [fleet.NOT_ASKED, Report()]


async def test_who_can_not_be_listed_is_away_and_asked_for_again() -> None:
    async with answering() as (url, _):
        listed = Listed(router("a", url))
        listed.away = True
        async with opened(listed) as one:
            with pytest.raises(Away, match="routers can't be listed now") as caught:
                await one.list()
            assert caught.value.retry_after == fleet.KEEP
            listed.away = False
            assert len(await one.list()) == 1


async def test_whoever_leaves_ends_no_other_s_wait() -> None:
    async with answering() as (url, _), opened(Listed(router("a", url))) as one:
        leaving, staying = (asyncio.create_task(one.list()) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        assert len(await staying) == 1
