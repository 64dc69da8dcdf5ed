"""Usage survives a receiver that is away, slow, busy or restarted, a killed router and a full disk.

Every test drives the real delivery against a real HTTP server, and judges by request ids: after the
receiver has dropped what came twice, nothing is missing and nothing is doubled.
"""

import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from llm_operator.simulate.server import Simulator, unlisten
from llm_router.usage import Outcome, Record
from llm_router.usage import shipper as shipper_module
from llm_router.usage.delivery import Delivery
from llm_router.usage.shipper import Fate, judge
from parts.eventually import eventually_async
from parts.router import PLAIN, Router, ollama, route

#: Answers before it: (status, headers), "cut" after the batch was kept, "hang".
Answer = tuple[int, str] | str


@dataclass
class Receiver:
    """An HTTP server that keeps what it is sent, as the admin API does."""

    answers: list[Answer] = field(default_factory=list)
    port: int = 0
    ids: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/usage"

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and cut those there are."""
        if self._server is not None:
            await unlisten(self._server)
            for writer in tuple(self._open):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        self._open.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.times.append(time.monotonic())
        self.tokens.append(headers.get("authorization", ""))
        answer = self.answers.pop(0) if self.answers else (200, "")
        if answer == "hang":
            await reader.read()
            return False
        status, extra = (200, "") if isinstance(answer, str) else answer
        if status < 300:
            records = json.loads(body)["records"]
            self.sizes.append(len(records))
            self.ids += [record["request_id"] for record in records]
        if answer == "cut":
            writer.transport.abort()
            return False
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{extra}\r\n".encode())
        await writer.drain()
        return True


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes all it is sent."""
    made = Receiver()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses a tenth as long."""
    monkeypatch.setattr(shipper_module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(shipper_module, "LONGEST_PAUSE", 0.2)


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where records wait."""
    return tmp_path / "spool" if request.param == "disk" else None


def record(number: int) -> Record:
    """The record of one request."""
    return Record(
        request_id=f"r{number}",
        at=1.0,
        front="openai_chat",
        outcome=Outcome.OK,
        status=200,
        total_seconds=1.0,
    )


def records(start: int, end: int) -> list[Record]:
    """Those of some requests."""
    return [record(number) for number in range(start, end)]


def named(start: int, end: int) -> list[str]:
    """Their request ids."""
    return [f"r{number}" for number in range(start, end)]


@contextlib.asynccontextmanager
async def delivering(
    url: str, folder: Path | None, *, token_file: Path | None = None, limit: int = 64 << 20
) -> AsyncIterator[Delivery]:
    """Delivery that runs."""
    made = Delivery(url=url, token_file=token_file, folder=folder, limit=limit, period=0.05)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        await made.close(2)
        await asyncio.wait([running], timeout=5)
        assert running.done()


def arrived(receiver: Receiver, start: int, end: int) -> Callable[[], bool]:
    """Whether all of these have, once or more."""
    return lambda: set(receiver.ids) == set(named(start, end))


async def test_records_arrive_in_full_batches(receiver: Receiver, folder: Path | None) -> None:
    async with delivering(receiver.url, folder) as delivery:
        delivery.take(records(0, 1200))
        await eventually_async(lambda: delivery.counts().sent == 1200, within=10)
        assert receiver.ids == named(0, 1200)
        assert max(receiver.sizes) == 500
        await eventually_async(lambda: delivery.counts().waiting == 0, within=5)
        assert delivery.counts().dropped == delivery.counts().rejected == 0


async def test_away_then_back(
    receiver: Receiver, folder: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    await receiver.stop()
    caplog.set_level(logging.INFO)
    async with delivering(receiver.url, folder) as delivery:
        for start in range(0, 1000, 100):
            delivery.take(records(start, start + 100))
            await asyncio.sleep(0.05)
        assert delivery.counts().sent == 0
        await receiver.start()
        await eventually_async(arrived(receiver, 0, 1000), within=10)
        assert receiver.ids == named(0, 1000), "in order and once"
    said = [each.message for each in caplog.records if each.name.startswith("llm_router")]
    assert said == ["usage_delivery_failing", "usage_delivery_resumed"], "one line each"


async def test_a_restart_after_the_batch_was_kept_doubles_nothing_that_ids_do_not_tell(
    receiver: Receiver, folder: Path | None
) -> None:
    receiver.answers = ["cut", (200, ""), "cut", "cut"]
    async with delivering(receiver.url, folder) as delivery:
        delivery.take(records(0, 1700))
        await eventually_async(lambda: delivery.counts().sent == 1700, within=10)
        assert len(receiver.ids) > 1700, "some came twice"
        assert list(dict.fromkeys(receiver.ids)) == named(0, 1700)


async def test_a_receiver_that_says_when_is_heard(receiver: Receiver, folder: Path | None) -> None:
    receiver.answers = [(503, "retry-after: 1\r\n"), (429, "retry-after: 1\r\n"), (500, "")]
    async with delivering(receiver.url, folder) as delivery:
        delivery.take(records(0, 10))
        await eventually_async(arrived(receiver, 0, 10), within=15)
    first, second, third, fourth = receiver.times[:4]
    assert second - first >= 1
    assert third - second >= 1
    assert fourth - third < 1, "its own pause, as none was asked for"


async def test_a_slow_receiver_slows_nobody(
    receiver: Receiver, folder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper_module.TIMEOUT, "read", 0.5)
    receiver.answers = ["hang", "hang"]
    async with delivering(receiver.url, folder) as delivery:
        begun = time.monotonic()
        for start in range(0, 600, 10):
            delivery.take(records(start, start + 10))
            await asyncio.sleep(0)
        assert time.monotonic() - begun < 0.5
        await eventually_async(arrived(receiver, 0, 600), within=10)


async def test_what_is_refused_is_counted_and_left(
    receiver: Receiver, folder: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(422, "")]
    async with delivering(receiver.url, folder) as delivery:
        delivery.take(records(0, 500))
        await eventually_async(lambda: delivery.counts().rejected == 500, within=10)
        delivery.take(records(500, 600))
        await eventually_async(arrived(receiver, 500, 600), within=10)
    said = [each for each in caplog.records if each.message == "usage_rejected"]
    assert [(each.records, each.reason) for each in said] == [(500, "status 422")]  # type: ignore[attr-defined]


async def test_the_token_is_read_for_each_batch(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    async with delivering(receiver.url, None, token_file=token) as delivery:
        delivery.take(records(0, 1))
        await eventually_async(lambda: "usage_delivery_failing" in caplog.text, within=5)
        token.write_text("first-secret\n")
        await eventually_async(arrived(receiver, 0, 1), within=5)
        token.write_text("second-secret\n")
        delivery.take(records(1, 2))
        await eventually_async(arrived(receiver, 0, 2), within=5)
        token.write_text("bad\nsecret")
        delivery.take(records(2, 3))
        await asyncio.sleep(0.3)
        assert len(receiver.tokens) == 2, "a token that no header may hold is not sent"
        token.write_text("third-secret")
        await eventually_async(arrived(receiver, 0, 3), within=5)
    assert receiver.tokens == ["bearer first-secret", "bearer second-secret", "bearer third-secret"]
    assert "secret" not in caplog.text


async def test_the_bound_drops_the_oldest(receiver: Receiver, folder: Path | None) -> None:
    await receiver.stop()
    async with delivering(receiver.url, folder, limit=100_000) as delivery:
        delivery.take(records(0, 3000))
        await eventually_async(lambda: delivery.counts().waiting_bytes <= 100_000, within=5)
        kept = 3000 - delivery.counts().dropped
        await receiver.start()
        await eventually_async(lambda: delivery.counts().sent == kept, within=10)
        assert delivery.counts().waiting == 0
        assert receiver.ids[-1] == "r2999"


async def test_the_end_sends_what_it_can(receiver: Receiver, folder: Path | None) -> None:
    async with delivering(receiver.url, folder) as delivery:
        delivery.take(records(0, 700))
    assert receiver.ids == named(0, 700)


async def test_the_end_waits_no_longer_than_it_may(
    receiver: Receiver, folder: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = ["hang", "hang"]
    delivery = Delivery(url=receiver.url, token_file=None, folder=folder, limit=64 << 20)
    running = asyncio.create_task(delivery.run())
    delivery.take(records(0, 30))
    await eventually_async(lambda: len(receiver.times) > 0, within=5)
    begun = time.monotonic()
    await delivery.close(0.3)
    assert time.monotonic() - begun < 1.5
    await asyncio.wait([running], timeout=5)
    if folder is None:
        assert delivery.counts().dropped == 30
        assert "usage_lost" in caplog.text
        return
    receiver.answers.clear()
    async with delivering(receiver.url, folder):
        await eventually_async(arrived(receiver, 0, 30), within=5)


#: A router's usage alone: records as fast as they go, and a line for each hundred handed to the
#: operating system.
WRITER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = PATH
from llm_router.usage import Outcome, Record
from llm_router.usage.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), limit=64 << 20)
    for number in range(10**9):
        spool.take([Record(request_id=f"r{number}", at=1.0, front="openai_chat",
                           outcome=Outcome.OK, status=200, total_seconds=1.0)])
        if number % 100 == 99:
            await spool.store()
            sys.stdout.write(f"{number + 1}\\n")
            sys.stdout.flush()

asyncio.run(main())
"""


@pytest.mark.parametrize("kept", [1000, 3000, 7000])
async def test_a_killed_router_loses_nothing_that_was_written(
    receiver: Receiver, tmp_path: Path, kept: int
) -> None:
    folder = tmp_path / "spool"
    program = WRITER.replace("PATH", repr(sys.path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while (said := int(await process.stdout.readline())) < kept:
            pass
        process.send_signal(signal.SIGKILL)
        rest = await process.stdout.read()
        await process.wait()
    told = max([said, *map(int, rest.split()[:-1])])
    async with delivering(receiver.url, folder) as delivery:
        await eventually_async(lambda: len(set(receiver.ids)) >= told, within=20)
        await eventually_async(lambda: delivery.counts().waiting == 0, within=5)
    assert set(named(0, told)) <= set(receiver.ids)
    assert len(receiver.ids) == len(set(receiver.ids)), "and nothing twice"


#: The same under a limit on the size of a file, which ends a write as a full disk does.
FULL = """
import asyncio, logging, resource, sys
from pathlib import Path
sys.path[:0] = PATH
from llm_router import logs
from llm_router.usage import Outcome, Record
from llm_router.usage.delivery import Delivery

async def main():
    logs.configure("INFO")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    delivery = Delivery(url=sys.argv[2], token_file=None, folder=Path(sys.argv[1]),
                        limit=64 << 20, period=0.05)
    running = asyncio.create_task(delivery.run())
    number = 0
    async with asyncio.timeout(30):
        for _ in range(20):
            for _ in range(50):
                delivery.take([Record(request_id=f"r{number}", at=1.0, front="openai_chat",
                                      outcome=Outcome.OK, status=200, total_seconds=1.0)])
                number += 1
            await asyncio.sleep(0.05)
        sys.stdout.write("taken\\n")
        sys.stdout.flush()
        while delivery.counts().waiting:
            await asyncio.sleep(0.05)
    await delivery.close(5)
    sys.stdout.write(f"{delivery.counts()}\\n")

asyncio.run(main())
"""


async def test_a_full_disk_costs_no_record_that_memory_can_hold(
    receiver: Receiver, tmp_path: Path
) -> None:
    await receiver.stop()
    program = FULL.replace("PATH", repr(sys.path))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path / "spool"), receiver.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(40):
        assert await process.stdout.readline() == b"taken\n"
        await receiver.start()
        said, logged = await process.communicate()
    assert process.returncode == 0, logged
    assert list(dict.fromkeys(receiver.ids)) == named(0, 1000)
    assert b"dropped=0" in said
    events = [json.loads(line)["event"] for line in logged.splitlines()]
    assert events.count("usage_spool_failing") >= 1
    assert len(events) < 60, "no line for each write"


async def test_a_killed_router_s_records_arrive_when_it_is_back(
    receiver: Receiver,
    tmp_path: Path,
    make_router: Callable[..., Router],
    ollama_simulator: Simulator,
) -> None:
    await receiver.stop()
    url = f"http://127.0.0.1:{ollama_simulator.port}"
    folder = str(tmp_path / "spool")
    router = make_router(USAGE_URL=receiver.url, USAGE_SPOOL=folder, ACCESS_LOG="true")
    router.start()
    router.publish(route("phi3:mini", ollama(url)))
    headers = {
        "x-llm-session": "kitchen-7",
        "authorization": "Bearer hidden-credential",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    }
    asked = {"model": "phi3:mini", "prompt": "a private prompt", "stream": False}
    async with httpx.AsyncClient(base_url=router.url, headers=headers, **PLAIN) as client:
        for number in range(20):
            own = {"x-request-id": f"r{number}"}
            answer = await client.post("/api/generate", json=asked, headers=own)
            assert answer.status_code == 200
    spooled = 'llm_router_usage_records_total{result="spooled"} 20.0'
    await eventually_async(lambda: spooled in router.metrics(), within=5)
    await eventually_async(lambda: len(router.events("request")) >= 20, within=5)
    said = router.events("request")
    assert [line["request_id"] for line in said if line["front"] == "ollama_generate"] == named(
        0, 20
    )
    assert said[-1]["session"] == "kitchen-7"
    assert said[-1]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    log = (router.folder / "router.log").read_text()
    assert "private" not in log
    assert "hidden" not in log
    assert router.process is not None
    router.process.kill()
    await receiver.start()
    await asyncio.to_thread(router.start)
    await eventually_async(arrived(receiver, 0, 20), within=10)
    assert len(receiver.ids) == 20
    assert all(line["completion_tokens"] > 0 for line in said)


@pytest.mark.parametrize(
    ("status", "retry_after", "fate", "wait"),
    [
        (200, None, Fate.SENT, None),
        (204, None, Fate.SENT, None),
        (307, None, Fate.AGAIN, None),
        (400, None, Fate.REJECTED, None),
        (401, None, Fate.REJECTED, None),
        (408, None, Fate.AGAIN, None),
        (413, None, Fate.REJECTED, None),
        (429, "7", Fate.AGAIN, 7.0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", Fate.AGAIN, None),
        (500, "7", Fate.AGAIN, None),
        (503, " 7 ", Fate.AGAIN, 7.0),
        (503, "99999999999", Fate.AGAIN, 600.0),
        (503, "-1", Fate.AGAIN, None),
    ],
)
def test_what_a_status_means(
    status: int, retry_after: str | None, fate: Fate, wait: float | None
) -> None:
    found = judge(status, retry_after)
    assert (found.fate, found.wait) == (fate, wait)
