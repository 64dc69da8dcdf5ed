"""The configuration is swapped every two seconds under load, bad ones among the good.

Requests that are under way keep the table they began with, streams that outlive several swaps too;
a bad revision changes nothing. A configuration without any route is a good one and is not among
these: it says that requests are to be refused.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from llm_contract import CHECKSUM_KEY, CONFIG_KEY, Timeouts, checksum
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from parts.eventually import eventually_async
from parts.held import Held
from parts.load import Clients, OpenLoop, Reply, percentile
from parts.questions import MODEL, SAID, ask, verdict
from parts.router import Router, files, mlx, ollama, route

RATE = 100
EVERY = 2.0

Payload = Mapping[str, bytes]

#: Seconds: a deadline far beyond the test's own answers.
TIMEOUTS = Timeouts(total=20)


def goods(mlx_port: int, ollama_port: int) -> Iterator[tuple[str, Payload]]:
    """Good revisions, each another one, that send requests to one host and the other in turn."""
    hosts = {
        "mlx": mlx(f"http://127.0.0.1:{mlx_port}"),
        "ollama": ollama(f"http://127.0.0.1:{ollama_port}"),
    }
    for number in itertools.count():
        host = ("mlx", "ollama")[number % 2]
        beside = route(f"beside-{number}", *hosts.values(), timeouts=TIMEOUTS)
        made = route(MODEL, hosts[host], timeouts=TIMEOUTS)
        yield host, files(replace(made, generation=number + 1), beside)


def signed(raw: bytes) -> Payload:
    return {CONFIG_KEY: raw, CHECKSUM_KEY: checksum(raw).encode()}


def bads(good: Payload) -> list[Payload]:
    """Revisions that can't be used, made of one that can."""
    raw = good[CONFIG_KEY]
    document = json.loads(raw)
    newer = document | {"schemaVersion": 99}
    assert newer.keys() == document.keys(), "the version has another name now"
    return [
        {CONFIG_KEY: raw, CHECKSUM_KEY: b"0" * 64},
        signed(raw[: len(raw) // 2]),
        signed(json.dumps(newer).encode()),
        {},
        signed(b"[]"),
    ]


@dataclass(slots=True)
class Mount:
    """The folder of a router under load, and what has been put into it.

    Attributes:
        payload: the last good revision.
    """

    router: Router
    revisions: Iterator[tuple[str, Payload]]
    payload: Payload = field(default_factory=dict)
    good: int = 0
    bad: int = 0

    async def swap(self, replies: list[Reply]) -> None:
        """Put in the next good revision; from when it is in use, its host answers."""
        host, self.payload = next(self.revisions)
        self.router.project(self.payload)
        self.good += 1
        await eventually_async(
            lambda: asyncio.to_thread(in_use, self.router, self.payload), within=5
        )
        swapped = time.monotonic()
        await eventually_async(lambda: answered(replies, host, swapped), within=5)

    async def damage(self) -> None:
        """Put in a bad one; the last good one stays in use."""
        choices = bads(self.payload)
        self.router.project(choices[self.bad % len(choices)])
        self.bad += 1
        await eventually_async(lambda: self._rejections() == self.bad, within=5)
        assert await asyncio.to_thread(in_use, self.router, self.payload)

    def _rejections(self) -> int:
        return len(self.router.events("configuration_rejected"))


async def test_no_request_is_lost(
    make_router: Callable[..., Router],
    mlx_simulator: Simulator,
    ollama_simulator: Simulator,
    long: bool,
    figures: Callable[[str], None],
) -> None:
    for simulator in (mlx_simulator, ollama_simulator):
        simulator.behaviour = Behaviour(tokens_per_second=200)
    router = make_router(ACCESS_LOG="false")
    await asyncio.to_thread(router.start)
    mount = Mount(router, goods(mlx_simulator.port, ollama_simulator.port))
    clock = asyncio.get_running_loop().time
    async with Clients(router.port) as clients:
        load = OpenLoop(clients, lambda number: ask(number).raw(), rate=RATE)
        _, first = next(mount.revisions)
        router.project(first)
        await eventually_async(lambda: asyncio.to_thread(in_use, router, first), within=10)
        before = await asyncio.to_thread(Held.of, router)
        load.start()
        due = begun = clock()
        while due - begun < (60 if long else 12):
            await (mount.damage() if mount.good > mount.bad else mount.swap(load.replies))
            due += EVERY
            await asyncio.sleep(due - clock())
        replies = await load.stop()
    counts = Counter(verdict(ask(reply.number), reply) for reply in replies)
    took = [reply.seconds for reply in replies]
    figures(
        f"swaps: {mount.good} good and {mount.bad} bad ones under {len(replies)} requests, "
        f"{len(replies) - counts['mlx'] - counts['ollama']} lost; p50 {percentile(took, 0.5):.3f} "
        f"s, p99 {percentile(took, 0.99):.3f} s, longest {max(took):.3f} s"
    )
    assert set(counts) == {"mlx", "ollama"}
    assert len(router.events("configuration_loaded")) == mount.good + 1
    ended = lambda: Held.of(router).nothing_beyond(before)  # noqa: E731
    await eventually_async(lambda: asyncio.to_thread(ended), within=10)


def in_use(router: Router, payload: Payload) -> bool:
    """The router's table is of this revision."""
    config = router.status()["config"]
    return config is not None and config["checksum"] == payload[CHECKSUM_KEY].decode()


def answered(replies: list[Reply], host: str, after: float) -> bool:
    """The first request that was sent after this was answered by this type of host."""
    later = [reply for reply in replies if reply.started > after]
    hosts = {reply.headers.get("x-llm-backend-type") for reply in later}
    assert hosts <= {host}
    return bool(hosts)


async def test_a_stream_outlives_swaps(
    make_router: Callable[..., Router], ollama_simulator: Simulator, mlx_simulator: Simulator
) -> None:
    ollama_simulator.behaviour = Behaviour(tokens_per_second=4)
    router = make_router()
    await asyncio.to_thread(router.start)
    long_route = route(MODEL, ollama(f"http://127.0.0.1:{ollama_simulator.port}"))
    await asyncio.to_thread(router.publish, long_route)
    streamed = next(ask(number) for number in itertools.count() if ask(number).stream)
    async with Clients(router.port) as clients:
        asking = asyncio.create_task(clients.ask(streamed.raw()))
        await eventually_async(lambda: ollama_simulator.count() > 0, within=5)
        for number in range(3):
            # NB: the last ones do not even know the model any more.
            other = route(f"other-{number}", mlx(f"http://127.0.0.1:{mlx_simulator.port}"))
            await asyncio.to_thread(router.publish, other)
            assert not asking.done()
        reply = await asking
    assert verdict(streamed, reply, text=SAID["ollama"] + streamed.text) == "ollama"
