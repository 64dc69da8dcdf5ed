"""Getting an answer: the limits in time, and what ends an attempt.

The hosts are simulated ones over real sockets; there is no client yet.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from llm_contract import Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from llm_router.errors import AttemptFailed, Cause, Code
from parts.asking import Asking, asking, causes, entry, exchange, of_mlx, of_ollama, rest
from parts.eventually import eventually_async
from parts.router import mlx

SAID_OLLAMA = "Simulated ollama answers phi3:mini: hello"


@pytest.fixture
async def asker() -> AsyncIterator[Asking]:
    async with asking() as made:
        yield made


class TestDeadline:
    async def test_a_host_that_hangs_leaves_half_of_it_to_the_next(
        self, asker: Asking, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="hang-before-headers")
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        started = time.monotonic()
        _, whole = await asker.complete(exchange(), entry(*targets, timeouts=Timeouts(total=0.6)))
        assert whole.text == SAID_OLLAMA
        assert 0.3 <= time.monotonic() - started < 0.6

    async def test_is_one_for_all_attempts(
        self, asker: Asking, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        # NB: the predecessor spent the whole timeout twice.
        for simulator in (mlx_simulator, ollama_simulator):
            simulator.behaviour = Behaviour(mode="hang-before-headers")
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        started = time.monotonic()
        error = await asker.unanswered(entry(*targets, timeouts=Timeouts(total=0.4)))
        assert 0.4 <= time.monotonic() - started < 0.6
        assert error.problem.code is Code.TIMEOUT
        assert causes(error) == [Cause.FIRST_TOKEN_TIMEOUT, Cause.FIRST_TOKEN_TIMEOUT]

    async def test_is_not_stretched_by_a_longer_limit_of_one_attempt(
        self, asker: Asking, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="hang-before-headers")
        timeouts = Timeouts(total=0.2, first_token=10)
        started = time.monotonic()
        await asker.unanswered(entry(of_mlx(mlx_simulator), timeouts=timeouts))
        assert time.monotonic() - started < 0.4

    async def test_the_only_host_gets_all_of_it(
        self, asker: Asking, ollama_simulator: Simulator
    ) -> None:
        ollama_simulator.behaviour = Behaviour(ttft_ms=300)
        timeouts = Timeouts(total=0.5)
        live = await asker.begin(exchange(), entry(of_ollama(ollama_simulator), timeouts=timeouts))
        live.close()

    async def test_ends_a_whole_answer_that_takes_longer_and_no_other_host_is_tried(
        self, asker: Asking, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=20, tokens=100)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        started = time.monotonic()
        error = await asker.unanswered(entry(*targets, timeouts=Timeouts(total=0.4)))
        assert 0.4 <= time.monotonic() - started < 0.6
        assert error.problem.code is Code.TIMEOUT
        assert causes(error) == [Cause.DEADLINE]
        assert ollama_simulator.count() == 0
        await eventually_async(lambda: mlx_simulator.count(Outcome.CANCELLED) == 1, within=1)

    async def test_does_not_end_a_stream_that_has_begun(
        self, asker: Asking, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=20, tokens=10)
        timeouts = Timeouts(total=0.2)
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator), timeouts=timeouts))
        await rest(live)
        live.close()

    async def test_comments_are_no_first_token(
        self, asker: Asking, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=1000, keepalives=50)
        timeouts = Timeouts(total=0.3)
        error = await asker.unanswered(entry(of_mlx(mlx_simulator), timeouts=timeouts), stream=True)
        assert causes(error) == [Cause.FIRST_TOKEN_TIMEOUT]


class TestIdle:
    async def test_between_two_tokens(self, asker: Asking, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(mode="hang-mid-stream:1")
        timeouts = Timeouts(total=5, stream_idle=0.1)
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator), timeouts=timeouts))
        with pytest.raises(AttemptFailed, match=r"the host sent nothing for 0\.1 s") as caught:
            await rest(live)
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
        self, asker: Asking, mlx_simulator: Simulator, mode: str, said: str
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
        self, asker: Asking, ollama_simulator: Simulator, mode: str, said: str
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
        asker: Asking,
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
        await eventually_async(lambda: asker.pool.counts().open == 0, within=0.1, every=0.005)
        await eventually_async(lambda: simulator.count(Outcome.CANCELLED) == 1, within=0.5)

    async def test_while_it_connects(self, asker: Asking) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            address = listener.getsockname()
            # NB: with its one place taken, a listener that accepts nobody lets others wait.
            with socket.create_connection(address):
                target = mlx(f"http://127.0.0.1:{address[1]}")
                task = asyncio.create_task(asker.complete(exchange(), entry(target)))
                await asyncio.sleep(0.05)
                assert asker.pool.counts().connects == 0
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert asker.pool.counts().open == 0
