"""Asking routers: when, how many at once, and what becomes of those that answer oddly or never."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from llm_operator.ports import PortError, Refused, Unavailable
from llm_operator.routers import ask, fleet, nudge
from llm_operator.routers.observer import Observer
from llm_operator.routers.pods import routers
from llm_operator.routers.report import LIMIT, Report, Unreachable
from llm_operator.routers.router import Router
from llm_operator.simulate.server import unlisten

CHECKSUM, OTHER = "a" * 64, "b" * 64

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Endpoint:
    """A management port that answers as a test says."""

    def __init__(self) -> None:
        self.checksum = CHECKSUM
        self.rejected = ""
        self.raw: bytes | None = None
        self.answer: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
        self.asked = self.now = self.most = 0
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Endpoint"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield self
        await unlisten(server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
            if self.answer is not None:
                await self.answer(writer)
            else:
                writer.write(self.raw or self._document())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.now -= 1
            writer.close()

    def _document(self) -> bytes:
        rejected = {"reason": self.rejected, "at": 1} if self.rejected else None
        config = {"checksum": self.checksum, "routes": []}
        body = json.dumps({"config": config, "rejected": rejected}).encode()
        return http(body)


def http(body: bytes, *, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Somewhere:
    """`Routers` that are a list."""

    def __init__(self) -> None:
        self.routers: list[Router] = []
        self.lists: list[str | None] = []
        self.nudged: list[tuple[str, str]] = []
        self.error: PortError | None = None
        self.refusal: PortError | None = None
        self.going = self.most = 0

    def add(self, url: str, name: str = "a", *, namespace: str = "ns") -> None:
        made = Router(namespace=namespace, name=name, uid=f"uid-{name}", url=url)
        self.routers.append(made)

    async def list(self, namespace: str | None) -> Sequence[Router]:
        self.lists.append(namespace)
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return [each for each in self.routers if namespace in (None, each.namespace)]

    async def nudge(self, router: Router, checksum: str) -> None:
        self.going += 1
        self.most = max(self.most, self.going)
        await asyncio.sleep(0.01)
        self.going -= 1
        if self.refusal:
            raise self.refusal
        self.nudged.append((router.name, checksum))
        place = self.routers.index(router)
        self.routers[place] = replace(router, nudged=checksum[:12])


class Follower:
    """Who wants to know."""

    def __init__(self) -> None:
        self.calls = 0

    def changed(self) -> None:
        self.calls += 1


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint().serving() as made:
        yield made


@pytest.fixture
def somewhere() -> Somewhere:
    return Somewhere()


@pytest.fixture
def follower() -> Follower:
    return Follower()


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a little faster."""
    monkeypatch.setattr(fleet, "QUIET", 0.02)
    monkeypatch.setattr(fleet, "AGAIN", 0.02)
    monkeypatch.setattr(fleet, "DOUBT", 0.05)


@pytest.fixture
async def start(
    somewhere: Somewhere, follower: Follower, paces: None
) -> AsyncIterator[Callable[..., Observer]]:
    """Start an observer whose rounds are seldom, unless a test says otherwise."""
    tasks = []

    def begin(*, every: float = 3600, nudge: bool = True) -> Observer:
        made = Observer(somewhere, every=every, nudge=nudge)
        made.follow("ns", follower.changed)
        tasks.append(asyncio.create_task(made.run()))
        return made

    yield begin
    for task in tasks:
        task.cancel()
        await asyncio.wait([task])


async def until(check: Callable[[], object], *, within: float = 15) -> None:
    async with asyncio.timeout(within):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def answers(observer: Observer) -> dict[str, object]:
    seen = observer.seen("ns")
    return dict(seen.answers) if seen else {}


async def test_what_routers_say_is_seen_and_told_once(
    start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint, follower: Follower
) -> None:
    somewhere.add(endpoint.url)
    # NB: rounds that come faster than a lane falls quiet would all wait for its longest pause.
    observer = start(every=0.15)
    await until(lambda: answers(observer) == {"a": Report(checksum=CHECKSUM)})
    before = endpoint.asked
    await until(lambda: endpoint.asked > before + 5)
    assert follower.calls == 1
    endpoint.checksum = OTHER
    await until(lambda: answers(observer) == {"a": Report(checksum=OTHER)})
    assert follower.calls == 2


async def test_no_router_is_an_answer_too(
    start: Callable[..., Observer], follower: Follower
) -> None:
    observer = start()
    assert observer.seen("ns") is None
    await until(lambda: follower.calls)
    assert answers(observer) == {}
    assert observer.seen("elsewhere") is None


async def test_after_a_publish_routers_are_asked_until_all_run_it(
    start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint
) -> None:
    somewhere.add(endpoint.url)
    observer = start()
    await until(lambda: endpoint.asked == 1)
    observer.published("ns", OTHER)
    await until(lambda: endpoint.asked == 4)
    endpoint.checksum = OTHER
    await until(lambda: answers(observer) == {"a": Report(checksum=OTHER)})
    before = endpoint.asked
    observer.published("ns", OTHER)
    await asyncio.sleep(0.2)
    assert endpoint.asked == before, "it is no news"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (http(b"hello"), "its /status is not JSON"),
        (http(b"", status="503 Unavailable"), "its /status is HTTP 503"),
        (http(b"", status="302 Found"), "its /status is HTTP 302"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "it does not speak HTTP"),
        (http(b" " * (LIMIT + 1)), "its /status is longer than 8 MiB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "it does not speak HTTP"),
    ],
)
async def test_any_other_answer_is_no_error(
    start: Callable[..., Observer],
    somewhere: Somewhere,
    endpoint: Endpoint,
    raw: bytes,
    reason: str,
) -> None:
    endpoint.raw = raw
    somewhere.add(endpoint.url)
    observer = start()
    await until(lambda: answers(observer) == {"a": Unreachable(reason)})


async def test_no_answer_is_no_error(
    start: Callable[..., Observer],
    somewhere: Somewhere,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(ask, "WHOLE", 0.2)
    endpoint.answer = drip
    somewhere.add(endpoint.url, "a")
    somewhere.add("http://127.0.0.1:1", "b")
    observer = start()
    expected = {"a": Unreachable("it does not answer in time"), "b": Unreachable("no connection")}
    await until(lambda: answers(observer) == expected)


async def test_one_lost_answer_is_not_told_two_are(
    start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint, follower: Follower
) -> None:
    somewhere.add(endpoint.url)
    observer = start()
    observer.published("ns", CHECKSUM)
    await until(lambda: follower.calls == 1)

    async def lose(writer: asyncio.StreamWriter) -> None:
        endpoint.answer = None

    endpoint.answer, asked = lose, endpoint.asked
    observer.published("ns", OTHER)
    observer.published("ns", CHECKSUM)
    await until(lambda: endpoint.asked >= asked + 2)
    await asyncio.sleep(0.05)
    assert follower.calls == 1
    assert answers(observer) == {"a": Report(checksum=CHECKSUM)}

    endpoint.raw = b"nothing\r\n\r\n"
    observer.published("ns", OTHER)
    await until(lambda: follower.calls == 2)
    assert answers(observer) == {"a": Unreachable("it does not speak HTTP")}


async def test_no_more_than_fifty_are_asked_at_once(
    start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint
) -> None:
    async def slow(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(endpoint._document())

    endpoint.answer = slow
    for number in range(180):
        somewhere.add(endpoint.url, f"r{number}")
    observer = start()
    await until(lambda: len(answers(observer)) == 180, within=20)
    assert all(answer == Report(checksum=CHECKSUM) for answer in answers(observer).values())
    assert 10 < endpoint.most <= ask.WIDTH


async def test_routers_that_do_not_count_are_not_asked(
    start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint, follower: Follower
) -> None:
    one = Router(namespace="ns", name="x", uid="x", url=endpoint.url)
    somewhere.routers = [
        replace(one, running=False),
        replace(one, terminating=True),
        replace(one, url=""),
        replace(one, namespace="other"),
    ]
    observer = start(every=0.02)
    await until(lambda: follower.calls)
    assert answers(observer) == {}
    assert endpoint.asked == 0


async def test_one_list_serves_a_round(
    start: Callable[..., Observer], somewhere: Somewhere
) -> None:
    observer = start(every=0.02)
    others = [Follower() for _ in range(5)]
    for number, other in enumerate(others):
        observer.follow(f"ns{number}", other.changed)
    await until(lambda: all(other.calls for other in others))
    somewhere.lists.clear()
    await until(lambda: len(somewhere.lists) >= 3)
    assert set(somewhere.lists) == {None}


async def test_a_list_that_fails_is_logged_once_and_ends_nothing(
    start: Callable[..., Observer],
    somewhere: Somewhere,
    endpoint: Endpoint,
    follower: Follower,
    caplog: pytest.LogCaptureFixture,
) -> None:
    somewhere.error = Unavailable("GET /api/v1/pods: HTTP 500")
    somewhere.add(endpoint.url)
    observer = start(every=0.02)
    await until(lambda: len(somewhere.lists) > 5)
    assert observer.seen("ns") is None
    assert 1 <= sum(r.message == "routers_not_listed" for r in caplog.records) <= 2
    somewhere.error = None
    await until(lambda: follower.calls)
    somewhere.error = Unavailable("GET /api/v1/pods: HTTP 500")
    lists = len(somewhere.lists)
    await until(lambda: len(somewhere.lists) > lists + 3)
    assert answers(observer) == {"a": Report(checksum=CHECKSUM)}, "what was seen stays"


async def test_who_is_gone_is_not_asked_for(
    start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint, follower: Follower
) -> None:
    somewhere.add(endpoint.url)
    somewhere.add(endpoint.url, "b", namespace="gone")
    observer = start(every=0.02)
    observer.follow("gone", Follower().changed)
    await until(lambda: follower.calls)
    await until(lambda: observer.seen("gone") is None and "gone" not in observer._fleets)
    await observer.forget("ns")
    assert observer.seen("ns") is None
    before = endpoint.asked
    await asyncio.sleep(0.1)
    assert endpoint.asked == before


async def test_nobody_is_asked_before_it_runs(
    somewhere: Somewhere, endpoint: Endpoint, follower: Follower, paces: None
) -> None:
    somewhere.add(endpoint.url)
    observer = Observer(somewhere)
    observer.follow("ns", follower.changed)
    observer.published("ns", CHECKSUM)
    await asyncio.sleep(0.1)
    assert (endpoint.asked, somewhere.lists) == (0, [])


class TestNudge:
    async def test_only_routers_that_lag_and_each_once(
        self, start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint
    ) -> None:
        async with Endpoint().serving() as ahead:
            ahead.checksum = OTHER
            somewhere.add(endpoint.url, "behind")
            somewhere.add(ahead.url, "ahead")
            somewhere.add("http://127.0.0.1:1", "away")
            observer = start(every=0.15)
            observer.published("ns", OTHER)
            await until(lambda: len(somewhere.nudged) == 2)
            before = endpoint.asked
            await until(lambda: endpoint.asked > before + 5)
            assert sorted(somewhere.nudged) == [("away", OTHER), ("behind", OTHER)]

    async def test_not_when_it_is_off(
        self, start: Callable[..., Observer], somewhere: Somewhere, endpoint: Endpoint
    ) -> None:
        somewhere.add(endpoint.url)
        observer = start(nudge=False)
        observer.published("ns", OTHER)
        await until(lambda: endpoint.asked > 2)
        assert somewhere.nudged == []

    async def test_a_burst_of_publishes_is_one_nudge(
        self,
        start: Callable[..., Observer],
        somewhere: Somewhere,
        endpoint: Endpoint,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(fleet, "QUIET", 0.1)
        somewhere.add(endpoint.url)
        observer = start()
        for digit in "0123456789":
            observer.published("ns", digit * 64)
            await asyncio.sleep(0.01)
        await until(lambda: somewhere.nudged)
        assert somewhere.nudged == [("a", "9" * 64)]

    async def test_twenty_at_once(self, somewhere: Somewhere) -> None:
        for number in range(60):
            somewhere.add("http://x", f"r{number}")
        await nudge.Nudger(somewhere).nudge(list(somewhere.routers), CHECKSUM)
        assert len(somewhere.nudged) == 60
        assert somewhere.most == nudge.WIDTH
        await nudge.Nudger(somewhere).nudge(list(somewhere.routers), CHECKSUM)
        assert len(somewhere.nudged) == 60, "who has it is left alone"

    async def test_a_refusal_is_logged_once_and_no_error(
        self, somewhere: Somewhere, caplog: pytest.LogCaptureFixture
    ) -> None:
        somewhere.refusal = Refused("PATCH /api/v1/namespaces/ns/pods/a: HTTP 403")
        somewhere.add("http://x")
        nudger = nudge.Nudger(somewhere)
        for checksum in (CHECKSUM, OTHER):
            await nudger.nudge(list(somewhere.routers), checksum)
        assert [r.message for r in caplog.records if r.levelno >= logging.INFO] == ["nudge_refused"]
        somewhere.refusal = None
        await nudger.nudge(list(somewhere.routers), OTHER)
        assert somewhere.nudged == [("a", OTHER)], "a right may come"

    async def test_a_pod_that_went_keeps_no_other_from_being_nudged(
        self, somewhere: Somewhere, caplog: pytest.LogCaptureFixture
    ) -> None:
        somewhere.refusal = Unavailable("PATCH: HTTP 409")
        for number in range(30):
            somewhere.add("http://x", f"r{number}")
        await nudge.Nudger(somewhere).nudge(list(somewhere.routers), CHECKSUM)
        assert [r for r in caplog.records if r.levelno >= logging.INFO] == []


def test_pods_as_routers() -> None:
    pod = {
        "metadata": {
            "namespace": "ns",
            "name": "app-1",
            "uid": "u",
            "annotations": {"llm.athena.dev/nudged": "abc"},
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    [one] = routers([pod], port=8081)
    assert one == Router(
        namespace="ns", name="app-1", uid="u", url="http://10.0.0.7:8081", nudged="abc"
    )
    assert one.counts


@pytest.mark.parametrize(
    ("annotation", "port"),
    [("9000", 9000), ("0", 8081), ("65536", 8081), ("x", 8081), ("", 8081), ("٣", 8081)],
)
def test_the_port_of_a_pod(annotation: str, port: int) -> None:
    metadata = {"namespace": "ns", "name": "a", "uid": "u"}
    pod = {
        "metadata": metadata | {"annotations": {"llm.athena.dev/router-port": annotation}},
        "status": {"phase": "Running", "podIP": "fd00::1"},
    }
    [one] = routers([pod], port=8081)
    assert one.url == f"http://[fd00::1]:{port}"


def test_pods_that_have_no_router_to_ask() -> None:
    metadata = {"namespace": "ns", "name": "a", "uid": "u"}
    status = {"phase": "Running", "podIP": "10.0.0.7"}
    ending = {"metadata": metadata | {"deletionTimestamp": "t"}, "status": status}
    found = routers(
        [{"metadata": metadata}, ending, {"metadata": metadata, "status": {"phase": "Running"}}],
        port=1,
    )
    assert [one.counts for one in found] == [False, False, False]
