"""The first target fails in every way there is, under load, beside a second one that is well.

Nothing that could be served may be lost: an answer that failed before its first token comes whole
from the other host, and so does every one that is not streamed. Only a stream that has begun may
break, and it says so. When the first target is well again it is used again, by the same process.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from llm_contract import ActiveCheck, HealthCheck, PassiveCheck, Route, Target, Timeouts, Waits
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from parts.absent import absent
from parts.eventually import eventually_async
from parts.held import Held
from parts.load import Clients, OpenLoop, Reply, percentile
from parts.proxy import Proxy
from parts.questions import BROKEN, MODEL, ask, verdict
from parts.router import Router, mlx, ollama, route

RATE = 100

#: Seconds: the deadline of a route, and what a busy machine may add to it.
TOTAL, SLACK = 8.0, 2.0

#: Seconds in which the first target must be used again. It is ejected for four at most, and probed
#: each second.
BACK = 15.0

WELL = Behaviour(tokens_per_second=200)

#: A name that the library below makes slow while a file is there.
SLOW_NAME = "slow.test"

#: What a slow resolver is to a program: a call that does not return.
RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int Resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  Resolve *resolve = (Resolve *)dlsym(RTLD_NEXT, "getaddrinfo");
  const char *slow = getenv("SLOW_WHILE");
  if (name == NULL || strcmp(name, "slow.test") != 0)
    return resolve(name, service, hints, found);
  for (int tenths = 0; slow && tenths < 30 && access(slow, F_OK) == 0; tenths++)
    usleep(100000);
  return resolve("127.0.0.1", service, hints, found);
}
"""


@dataclass(slots=True)
class Primary:
    """The first target: a simulated host behind a proxy, and a way to make its name slow."""

    simulator: Simulator
    proxy: Proxy
    slow: Path

    def route(self, second: Target, *, name: str, idle: float) -> Route:
        """To it, and to the second one when it fails."""
        first = replace(
            mlx(f"http://{name}:{self.proxy.port}"),
            waits=Waits(connect=0.3, first_token=0.6, stream_idle=idle),
        )
        health = HealthCheck(
            active=ActiveCheck(interval=1, timeout=0.5),
            passive=PassiveCheck(failures=3, eject=1, max_eject=4),
        )
        made = route(MODEL, first, second, timeouts=Timeouts(total=TOTAL))
        return replace(made, health=health)


Failing = Callable[[Primary], AbstractAsyncContextManager[None]]


def behaving(mode: str) -> Failing:
    """The host itself fails."""

    @asynccontextmanager
    async def failing(primary: Primary) -> AsyncIterator[None]:
        primary.simulator.behaviour = replace(WELL, mode=mode)
        yield
        primary.simulator.behaviour = WELL

    return failing


@asynccontextmanager
async def refused(primary: Primary) -> AsyncIterator[None]:
    """Nothing listens, and what was connected is reset."""
    await asyncio.to_thread(primary.proxy.stop)
    yield
    await asyncio.to_thread(primary.proxy.start)


@asynccontextmanager
async def flapping(primary: Primary) -> AsyncIterator[None]:
    """Down for a second, up for a second."""

    done = asyncio.Event()

    async def flap() -> None:
        while not done.is_set():
            async with refused(primary):
                await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), 1)

    task = asyncio.create_task(flap())
    try:
        yield
    finally:
        done.set()
        await task


@asynccontextmanager
async def slow_connect(primary: Primary) -> AsyncIterator[None]:
    """Its queue of connections is full, so that a new one is never taken."""
    async with refused(primary):
        with contextlib.ExitStack() as sockets:
            deaf = sockets.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deaf.bind(("127.0.0.1", primary.proxy.port))
            deaf.listen(0)
            for _ in range(4):
                caller = sockets.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(deaf.getsockname())
            yield


@asynccontextmanager
async def slow_name(primary: Primary) -> AsyncIterator[None]:
    """Its name is resolved after three seconds, and kept connections are gone."""
    primary.slow.touch()
    await asyncio.to_thread(primary.proxy.reset)
    try:
        yield
    finally:
        primary.slow.unlink()


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to fail.

    Attributes:
        breaks: streams that have begun break; where False not one may.
        often: more of them than were under way when it began.
        idle: seconds between two tokens after which a stream is given up. A busy machine takes some
            of them.
        name: of the host in the route.
    """

    failing: Failing
    breaks: bool = True
    often: bool = False
    idle: float = 5.0
    name: str = "127.0.0.1"


MODES: Mapping[str, Mode] = {
    "refused": Mode(refused),
    "hung before headers": Mode(behaving("hang-before-headers"), breaks=False),
    "hung mid-stream": Mode(behaving("hang-mid-stream:2"), often=True, idle=0.6),
    "503": Mode(behaving("status:503"), breaks=False),
    "cut after 3 tokens": Mode(behaving("cut-mid-stream:3"), often=True),
    "slow to connect": Mode(slow_connect),
    "slow name": Mode(slow_name, name=SLOW_NAME),
    "flapping": Mode(flapping),
}


class Slow(Router):
    """A router whose process resolves SLOW_NAME."""

    __slots__ = ()

    @property
    def environment(self) -> dict[str, str]:
        own: dict[str, str] = Router.environment.fget(self)  # type: ignore[attr-defined]
        library, slow = self.folder / "resolver.so", self.folder / "slow"
        return own | {"LD_PRELOAD": str(library), "SLOW_WHILE": str(slow)}

    def compile(self) -> None:
        """Make the library that its process is started with."""
        source, library = self.folder / "resolver.c", self.folder / "resolver.so"
        source.write_text(RESOLVER)
        compiler = shutil.which("cc")
        if compiler is None:
            absent("a C compiler", remedy="install gcc")
        made = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
        subprocess.run(made, check=True, timeout=60)


@pytest.fixture(scope="module")
def chaotic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """One router for all modes: what one leaves behind, the next one sees."""
    router = Slow(tmp_path_factory.mktemp("chaos"), {"ACCESS_LOG": "false"})
    router.compile()
    router.start()
    yield router
    router.stop()


@pytest.fixture
def primary(mlx_simulator: Simulator, make_proxy: Callable[..., Proxy], chaotic: Router) -> Primary:
    mlx_simulator.behaviour = WELL
    proxy = make_proxy(("127.0.0.1", mlx_simulator.port))
    return Primary(mlx_simulator, proxy, chaotic.folder / "slow")


@pytest.mark.parametrize("named", MODES)
async def test_whatever_could_be_served_was_served(
    chaotic: Router,
    primary: Primary,
    ollama_simulator: Simulator,
    named: str,
    long: bool,
    figures: Callable[[str], None],
) -> None:
    mode, ollama_simulator.behaviour = MODES[named], WELL
    second = ollama(f"http://127.0.0.1:{ollama_simulator.port}")
    made = primary.route(second, name=mode.name, idle=mode.idle)
    await asyncio.to_thread(chaotic.publish, made)
    before = await asyncio.to_thread(Held.of, chaotic)
    async with Clients(chaotic.port) as clients:
        load = OpenLoop(clients, lambda number: ask(number).raw(), rate=RATE)
        load.start()
        await eventually_async(lambda: served(load.replies, "mlx"), within=5)
        async with mode.failing(primary):
            await asyncio.sleep(20 if long else 2.5)
        healed = time.monotonic()
        await eventually_async(lambda: served(load.replies, "mlx", after=healed), within=BACK)
        back = time.monotonic() - healed
        replies = await load.stop()
    counts = Counter(verdict(ask(reply.number), reply) for reply in replies)
    took = [reply.seconds for reply in replies]
    figures(
        f"{named:20} {len(replies)} requests: {counts['mlx']} by the first, {counts['ollama']} by "
        f"the second, {counts[BROKEN]} broken; p50 {percentile(took, 0.5):.3f} s, "
        f"p99 {percentile(took, 0.99):.3f} s, longest {max(took):.3f} s; used again after "
        f"{back:.1f} s"
    )
    assert not [said for said in counts if said not in ("mlx", "ollama", BROKEN)]
    assert counts["ollama"]
    assert counts[BROKEN] == 0 or mode.breaks
    assert counts[BROKEN] > 2 or not mode.often
    assert max(took) < TOTAL + SLACK
    ended = lambda: Held.of(chaotic).nothing_beyond(before)  # noqa: E731
    await eventually_async(lambda: asyncio.to_thread(ended), within=10)


def served(replies: list[Reply], host: str, *, after: float = 0) -> bool:
    """A request that was sent after this was answered by this type of host."""
    return any(
        reply.started > after
        and reply.status == 200
        and reply.headers["x-llm-backend-type"] == host
        for reply in replies
    )
