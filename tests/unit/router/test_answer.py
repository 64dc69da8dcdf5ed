"""Getting an answer: the order of targets, the limits in time, and what ends an attempt.

The hosts are simulated ones over real sockets; there is no client yet.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from llm_contract import Target, Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from llm_router import answer
from llm_router.answer import Asker, Limits, Live
from llm_router.errors import AttemptFailed, Cause, Code, Refused, Unanswered
from llm_router.exchange import Delta, Event, Exchange, Finish, Reason
from llm_router.fronts import ROUTES
from llm_router.mount import Published
from llm_router.table import Entry, Table
from llm_router.transport import Pool
from parts.eventually import eventually_async
from parts.process import free_port
from parts.router import files, mlx, ollama, route

MODEL = "phi3:mini"
SAID_OLLAMA = "Simulated ollama answers phi3:mini: hello"
SAID_MLX = "Simulated mlx answers default_model: hello"


def exchange(path: str = "/generate", **fields: Any) -> Exchange:
    return ROUTES[path].decode(orjson.dumps({"model": MODEL, "prompt": "hello"} | fields))


def entry(*targets: Target, timeouts: Timeouts | None = None) -> Entry:
    payload = files(route(MODEL, *targets, timeouts=timeouts or Timeouts(total=5)))
    raw, checksum = payload.values()
    return Table.build(Published(raw, checksum.decode())).entries[MODEL]


def of_mlx(simulator: Simulator) -> Target:
    return mlx(f"http://127.0.0.1:{simulator.port}")


def of_ollama(simulator: Simulator) -> Target:
    return ollama(f"http://127.0.0.1:{simulator.port}")


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool()
    yield made
    await made.close()


@pytest.fixture
def asker(pool: Pool) -> Asker:
    return Asker(pool, Limits(connect=0.3, stream_idle=2))


async def unanswered(asker: Asker, asked: Entry, *, stream: bool = False) -> Unanswered:
    with pytest.raises(Unanswered) as caught:
        await (asker.begin if stream else asker.complete)(exchange(), asked)
    return caught.value


async def rest(live: Live) -> list[Event]:
    """What comes after the first token."""
    events: list[Event] = []
    while not live.done:
        events += await live.more()
    return events


class TestBegin:
    async def test_returns_at_the_first_token(self, asker: Asker, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=100, tokens_per_second=10)
        started = time.monotonic()
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator)))
        assert 0.1 <= time.monotonic() - started < 0.3
        assert live.events == [Delta("Simulated")]
        assert not live.done
        live.close()

    async def test_more_gives_the_rest(self, asker: Asker, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=200)
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator)))
        events = [*live.events, *await rest(live)]
        texts = [event.text for event in events if isinstance(event, Delta)]
        assert "".join(texts) == SAID_MLX
        (finish,) = [event for event in events if isinstance(event, Finish)]
        assert finish.reason is Reason.STOP
        assert finish.usage.completion_tokens == 6

    async def test_the_clock_begins_with_the_request_and_ends_with_the_last_token(
        self, asker: Asker, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=100, tokens_per_second=50)
        live, _ = await asker.complete(exchange(), entry(of_mlx(mlx_simulator)))
        assert 100 <= live.timing.prefill_ns() / 1e6 < 250
        assert 60 <= live.timing.decode_ns() / 1e6 < 250
        total = live.timing.prefill_ns() + live.timing.decode_ns()
        assert live.timing.total_ns() == total

    async def test_a_failed_attempt_counts_in_the_clock(
        self, asker: Asker, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        # NB: else a slow fallback would look fast.
        mlx_simulator.behaviour = Behaviour(mode="zombie")
        timeouts = Timeouts(total=5, first_token=0.1)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        live = await asker.begin(exchange(), entry(*targets, timeouts=timeouts))
        assert live.timing.prefill_ns() >= 100_000_000
        live.close()


#: mode of the first host -> why its attempt failed, for a whole answer.
FAILURES = {
    "status:500": Cause.SERVER_ERROR,
    "status:502": Cause.SERVER_ERROR,
    "status:503": Cause.BUSY,
    "status:429": Cause.RATE_LIMITED,
    "status:401": Cause.MISCONFIGURED,
    "status:403": Cause.MISCONFIGURED,
    "refuse-model": Cause.MODEL_MISSING,
    "hang-before-headers": Cause.FIRST_TOKEN_TIMEOUT,
    "zombie": Cause.FIRST_TOKEN_TIMEOUT,
    "hang-mid-stream:0": Cause.FIRST_TOKEN_TIMEOUT,
    "close-without-response": Cause.NO_REPLY,
    "generation-died": Cause.SERVER_ERROR,
    "hang-mid-stream:2": Cause.BROKEN_STREAM,
    "cut-mid-stream:2": Cause.BROKEN_STREAM,
    "error-line:2": Cause.BROKEN_STREAM,
    "no-done": Cause.BROKEN_STREAM,
}
#: Those that a streaming client has not seen anything of.
BEFORE_FIRST = [mode for mode, cause in FAILURES.items() if cause is not Cause.BROKEN_STREAM]
LIMITS = Timeouts(total=3, first_token=0.15, stream_idle=0.15)


class TestFallback:
    @pytest.mark.parametrize(("mode", "cause"), FAILURES.items())
    async def test_of_a_whole_answer_whenever_the_first_host_fails(
        self,
        asker: Asker,
        pool: Pool,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
        cause: Cause,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        live, whole = await asker.complete(exchange(), entry(*targets, timeouts=LIMITS))
        assert whole.text == SAID_OLLAMA, "not a word of the first host is in it"
        assert live.destination.target.name == "ollama"
        assert [failure.cause for failure in live.failures] == [cause]
        await eventually_async(lambda: pool.counts().open == 1, within=1)

    @pytest.mark.parametrize("mode", BEFORE_FIRST)
    async def test_of_a_stream_before_its_first_token(
        self,
        asker: Asker,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        live = await asker.begin(exchange(), entry(*targets, timeouts=LIMITS))
        assert live.destination.target.name == "ollama"
        assert [failure.cause for failure in live.failures] == [FAILURES[mode]]
        live.close()

    @pytest.mark.parametrize("mode", ["cut-mid-stream:0", "error-line:0"])
    async def test_of_a_stream_that_breaks_before_its_first_token(
        self,
        asker: Asker,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        live = await asker.begin(exchange(), entry(*targets))
        assert [failure.cause for failure in live.failures] == [Cause.BROKEN_STREAM]
        live.close()

    @pytest.mark.parametrize(
        "mode", ["status:500", "status:503", "refuse-model", "close-without-response"]
    )
    async def test_goes_the_other_way_too(
        self,
        asker: Asker,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode=mode)
        targets = of_ollama(ollama_simulator), of_mlx(mlx_simulator)
        _, whole = await asker.complete(exchange(), entry(*targets))
        assert whole.text == SAID_MLX

    @pytest.mark.parametrize("mode", ["error-line:2", "no-done", "cut-mid-stream:2"])
    async def test_of_a_whole_answer_of_ollama_that_breaks(
        self,
        asker: Asker,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode=mode)
        targets = of_ollama(ollama_simulator), of_mlx(mlx_simulator)
        live, whole = await asker.complete(exchange(), entry(*targets))
        assert whole.text == SAID_MLX
        assert [failure.cause for failure in live.failures] == [Cause.BROKEN_STREAM]

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:{port}",
            "http://no-such-host.invalid:{port}",
            "http://169.254.169.254:{port}",
            "https://127.0.0.1:{ollama}",
        ],
    )
    async def test_of_a_host_that_cannot_be_reached(
        self, asker: Asker, ollama_simulator: Simulator, url: str
    ) -> None:
        away = mlx(url.format(port=free_port(), ollama=ollama_simulator.port))
        live, _ = await asker.complete(exchange(), entry(away, of_ollama(ollama_simulator)))
        assert [failure.cause for failure in live.failures] == [Cause.CONNECT_FAILURE]


class TestDeadline:
    async def test_a_host_that_hangs_leaves_half_of_it_to_the_next(
        self, asker: Asker, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="hang-before-headers")
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        started = time.monotonic()
        _, whole = await asker.complete(exchange(), entry(*targets, timeouts=Timeouts(total=0.6)))
        assert whole.text == SAID_OLLAMA
        assert 0.3 <= time.monotonic() - started < 0.6

    async def test_is_one_for_all_attempts(
        self, asker: Asker, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        # NB: the predecessor spent the whole timeout twice.
        for simulator in (mlx_simulator, ollama_simulator):
            simulator.behaviour = Behaviour(mode="hang-before-headers")
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        started = time.monotonic()
        error = await unanswered(asker, entry(*targets, timeouts=Timeouts(total=0.4)))
        assert 0.4 <= time.monotonic() - started < 0.6
        assert error.problem.code is Code.TIMEOUT
        causes = [failure.cause for failure in error.failures]
        assert causes == [Cause.FIRST_TOKEN_TIMEOUT, Cause.FIRST_TOKEN_TIMEOUT]

    async def test_is_not_stretched_by_a_longer_limit_of_one_attempt(
        self, asker: Asker, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="hang-before-headers")
        timeouts = Timeouts(total=0.2, first_token=10)
        started = time.monotonic()
        await unanswered(asker, entry(of_mlx(mlx_simulator), timeouts=timeouts))
        assert time.monotonic() - started < 0.4

    async def test_the_only_host_gets_all_of_it(
        self, asker: Asker, ollama_simulator: Simulator
    ) -> None:
        ollama_simulator.behaviour = Behaviour(ttft_ms=300)
        timeouts = Timeouts(total=0.5)
        live = await asker.begin(exchange(), entry(of_ollama(ollama_simulator), timeouts=timeouts))
        live.close()

    async def test_ends_a_whole_answer_that_takes_longer_and_no_other_host_is_tried(
        self, asker: Asker, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=20, tokens=100)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        started = time.monotonic()
        error = await unanswered(asker, entry(*targets, timeouts=Timeouts(total=0.4)))
        assert 0.4 <= time.monotonic() - started < 0.6
        assert error.problem.code is Code.TIMEOUT
        assert [failure.cause for failure in error.failures] == [Cause.DEADLINE]
        assert ollama_simulator.count() == 0
        await eventually_async(lambda: mlx_simulator.count(Outcome.CANCELLED) == 1, within=1)

    async def test_does_not_end_a_stream_that_has_begun(
        self, asker: Asker, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=20, tokens=10)
        timeouts = Timeouts(total=0.2)
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator), timeouts=timeouts))
        await rest(live)
        live.close()

    async def test_comments_are_no_first_token(
        self, asker: Asker, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=1000, keepalives=50)
        timeouts = Timeouts(total=0.3)
        error = await unanswered(
            asker, entry(of_mlx(mlx_simulator), timeouts=timeouts), stream=True
        )
        assert [failure.cause for failure in error.failures] == [Cause.FIRST_TOKEN_TIMEOUT]


class TestIdle:
    async def test_between_two_tokens(self, asker: Asker, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="hang-mid-stream:1")
        timeouts = Timeouts(total=5, stream_idle=0.1)
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator), timeouts=timeouts))
        with pytest.raises(AttemptFailed, match=r"the host sent nothing for 0\.1 s") as caught:
            await live.more()
        assert caught.value.cause is Cause.BROKEN_STREAM
        live.close()
        await eventually_async(lambda: mlx_simulator.count(Outcome.CANCELLED) == 1, within=1)

    @pytest.mark.parametrize(
        ("mode", "said"),
        [
            ("cut-mid-stream:1", "ended its answer without marking the end"),
            ("no-done", "ended its answer without marking the end"),
        ],
    )
    async def test_no_end_of_mlx(
        self, asker: Asker, mlx_simulator: Simulator, mode: str, said: str
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode, tokens_per_second=100)
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator)))
        with pytest.raises(AttemptFailed, match=said):
            await rest(live)
        live.close()

    @pytest.mark.parametrize(
        ("mode", "said"),
        [
            ("cut-mid-stream:1", "the connection ended inside the body"),
            ("no-done", "ended its answer without marking the end"),
            ("error-line:2", "the host broke off: an error was encountered while running"),
        ],
    )
    async def test_no_end_of_ollama(
        self, asker: Asker, ollama_simulator: Simulator, mode: str, said: str
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode=mode, tokens_per_second=100)
        live = await asker.begin(exchange(), entry(of_ollama(ollama_simulator)))
        with pytest.raises(AttemptFailed, match=said):
            await rest(live)
        live.close()


class TestCancelled:
    @pytest.mark.parametrize(
        "behaviour",
        [
            Behaviour(mode="hang-before-headers"),
            Behaviour(mode="hang-mid-stream:0"),
            Behaviour(mode="hang-mid-stream:2"),
        ],
        ids=["headers", "first-token", "tokens"],
    )
    @pytest.mark.parametrize("kind", ["ollama", "mlx"])
    async def test_ends_the_request_upstream_at_once(
        self,
        asker: Asker,
        pool: Pool,
        ollama_simulator: Simulator,
        mlx_simulator: Simulator,
        kind: str,
        behaviour: Behaviour,
    ) -> None:
        simulator = ollama_simulator if kind == "ollama" else mlx_simulator
        target = of_ollama(simulator) if kind == "ollama" else of_mlx(simulator)
        simulator.behaviour = behaviour
        task = asyncio.create_task(asker.complete(exchange(), entry(target)))
        await eventually_async(lambda: simulator.count() == 1, within=2, every=0.005)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually_async(lambda: pool.counts().open == 0, within=0.1, every=0.005)
        await eventually_async(lambda: simulator.count(Outcome.CANCELLED) == 1, within=0.5)

    async def test_while_it_connects(self, asker: Asker, pool: Pool) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            address = listener.getsockname()
            # NB: with its one place taken, a listener that accepts nobody lets others wait.
            with socket.create_connection(address):
                target = mlx(f"http://127.0.0.1:{address[1]}")
                task = asyncio.create_task(asker.complete(exchange(), entry(target)))
                await asyncio.sleep(0.05)
                assert pool.counts().connects == 0
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert pool.counts().open == 0


class TestWhole:
    async def test_lists_that_come_in_pieces_are_joined(
        self, asker: Asker, unlike: "Scripted"
    ) -> None:
        unlike.answer = (
            b'{"response":"a","logprobs":[{"t":"a"}],"done":false}\n'
            b'{"response":"b","logprobs":[{"t":"b"}],"remote_model":"x","done":false}\n'
            b'{"response":"","done":true,"context":[1,2]}\n'
        )
        live, whole = await asker.complete(
            exchange("/api/generate", logprobs=True), entry(unlike.target)
        )
        assert whole.text == "ab"
        assert whole.extras == {
            "logprobs": [{"t": "a"}, {"t": "b"}],
            "remote_model": "x",
            "context": [1, 2],
        }
        live.close()

    async def test_an_answer_without_end_is_cut_off(
        self, asker: Asker, unlike: "Scripted", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answer, "MAX_ANSWER", 1000)
        unlike.answer = b'{"response":"aaaaaaaaaa","done":false}\n' * 200
        error = await unanswered(asker, entry(unlike.target))
        assert "the answer has no end" in error.problem.message

    async def test_json_of_an_unknown_shape_breaks_the_answer(
        self, asker: Asker, unlike: "Scripted"
    ) -> None:
        unlike.answer = b'{"response":["a"],"done":false}\n{"done":true}\n'
        error = await unanswered(asker, entry(unlike.target))
        assert "JSON of an unknown shape" in error.problem.message
        assert error.problem.code is Code.UPSTREAM

    @pytest.mark.parametrize(
        "said",
        [
            b'{"response":"a","done":true}\n',
            b"<html>\n",
            b'{"error":"boom"}\n',
            b'{"response":"a","done":false}\n|<html>\n',
            b'{"response":"a","done":false}\n|{"error":"boom"}\n',
        ],
    )
    async def test_a_host_that_keeps_the_connection_after_its_last_word_loses_it(
        self, asker: Asker, pool: Pool, unlike: "Scripted", said: bytes
    ) -> None:
        unlike.answer, unlike.ends = said, False
        with contextlib.suppress(Unanswered):
            await asker.complete(exchange(), entry(unlike.target))
        await eventually_async(lambda: pool.counts().open == 0, within=0.5)
        assert pool.counts().connects == 1

    async def test_a_host_that_goes_on_after_its_end_does_not_hold_up_the_answer(
        self, asker: Asker, pool: Pool, unlike: "Scripted"
    ) -> None:
        unlike.answer, unlike.ends = b'{"response":"a","done":true}\n' + b"|\n" * 50, False
        started = time.monotonic()
        _, whole = await asker.complete(exchange(), entry(unlike.target))
        assert whole.text == "a"
        assert time.monotonic() - started < 0.5
        await eventually_async(lambda: pool.counts().open == 0, within=0.5)

    async def test_an_error_page_that_comes_in_drops_does_not_stretch_the_deadline(
        self, asker: Asker, unlike: "Scripted"
    ) -> None:
        unlike.head = b"HTTP/1.1 500 Internal Server Error\r\n"
        unlike.answer, unlike.ends = b"|x" * 50, False
        started = time.monotonic()
        await unanswered(asker, entry(unlike.target, timeouts=Timeouts(total=0.3)))
        assert time.monotonic() - started < 0.6

    async def test_a_page_instead_of_an_answer(self, asker: Asker, unlike: "Scripted") -> None:
        unlike.answer = b"<html>\n<body>Sign in</body></html>\n"
        error = await unanswered(asker, entry(unlike.target))
        assert error.problem.code is Code.UPSTREAM

    async def test_a_redirect_is_not_followed(
        self, asker: Asker, unlike: "Scripted", ollama_simulator: Simulator
    ) -> None:
        place = f"http://127.0.0.1:{ollama_simulator.port}/api/generate"
        unlike.head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}\r\n".encode()
        error = await unanswered(asker, entry(unlike.target))
        assert "the host answered 307" in error.problem.message
        assert ollama_simulator.count() == 0

    async def test_a_refusal_that_repeats_the_whole_request_is_a_refusal(
        self, asker: Asker, unlike: "Scripted"
    ) -> None:
        unlike.head = b"HTTP/1.1 422 Unprocessable Entity\r\n"
        unlike.answer = b'{"detail":[{"msg":"too deep","input":"' + b"x" * 200_000 + b'"}]}'
        error = await unanswered(asker, entry(unlike.target))
        assert error.problem.code is Code.BAD_REQUEST
        assert "too deep" in error.problem.message
        assert len(error.problem.message) < 1000

    @pytest.mark.parametrize(
        ("header", "kept"),
        [
            (b"Retry-After: 30\r\n", "30"),
            (b"Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", None),
            (b"Retry-After: -1\r\n", None),
            (b"Retry-After: 99999999999\r\n", None),
            (b"", None),
        ],
    )
    async def test_retry_after_in_seconds_is_kept(
        self, asker: Asker, unlike: "Scripted", header: bytes, kept: str | None
    ) -> None:
        unlike.head = b"HTTP/1.1 503 Service Unavailable\r\n" + header
        error = await unanswered(asker, entry(unlike.target))
        assert error.problem.code is Code.OVERLOADED
        assert error.problem.retry_after == kept


class Scripted:
    """A host that answers every request with the same bytes, a moment at each `|`."""

    def __init__(self) -> None:
        self.head = b"HTTP/1.1 200 OK\r\n"
        self.answer = b"{}\n"
        self.ends = True
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    @property
    def target(self) -> Target:
        assert self._server is not None
        return ollama(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}")

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            length = len(self.answer) if self.ends else 10_000
            writer.write(self.head + b"Content-Length: %d\r\n\r\n" % length)
            for piece in self.answer.split(b"|"):
                writer.write(piece)
                await asyncio.sleep(0.02)
            if not self.ends:
                while await reader.read(65536):
                    pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def unlike() -> AsyncIterator[Scripted]:
    made = Scripted()
    await made.start()
    yield made
    await made.close()


class TestWords:
    async def test_of_all_failures_name_each_host_once(
        self, asker: Asker, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="cut-mid-stream:1")
        ollama_simulator.behaviour = Behaviour(mode="status:503")
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        error = await unanswered(asker, entry(*targets))
        assert error.problem.message == (
            f"model 'phi3:mini' was not answered: mlx ({targets[0].url}): the host ended its "
            f"answer without marking the end; ollama ({targets[1].url}): the host answered 503: "
            "server busy, please try again.  maximum pending requests exceeded"
        )

    async def test_a_request_out_of_range_is_the_clients(
        self, asker: Asker, mlx_simulator: Simulator
    ) -> None:
        with pytest.raises(Refused, match="temperature: must be from 0 to"):
            await asker.begin(exchange(temperature=-1), entry(of_mlx(mlx_simulator)))
        assert mlx_simulator.count() == 0

    async def test_the_log_says_when_mlx_fell_back(
        self,
        asker: Asker,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        with caplog.at_level(logging.WARNING, "llm_router"):
            mlx_simulator.behaviour = Behaviour(mode="status:503")
            await asker.complete(exchange(), entry(*targets))
            mlx_simulator.behaviour = Behaviour(mode="status:400")
            await unanswered(asker, entry(*targets))
        assert [record.message for record in caplog.records] == [
            "mlx_failed_falling_back_to_ollama",
            "attempt_failed",
        ]
        assert vars(caplog.records[0])["cause"] == "Busy"
