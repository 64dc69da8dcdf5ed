"""Getting an answer: the first token, and the next target when there is none.

The hosts are simulated ones over real sockets; there is no client yet.
"""

import time
from collections.abc import AsyncIterator

import pytest

from llm_contract import Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router.errors import Cause
from llm_router.exchange import Delta, Finish, Reason
from parts.asking import Asking, asking, causes, entry, exchange, of_mlx, of_ollama, rest
from parts.eventually import eventually_async
from parts.process import free_port
from parts.router import mlx

SAID_OLLAMA = "Simulated ollama answers phi3:mini: hello"
SAID_MLX = "Simulated mlx answers default_model: hello"


@pytest.fixture
async def asker() -> AsyncIterator[Asking]:
    async with asking() as made:
        yield made


class TestBegin:
    async def test_returns_at_the_first_token(
        self, asker: Asking, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=100, tokens_per_second=10)
        started = time.monotonic()
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator)))
        assert 0.1 <= time.monotonic() - started < 0.3
        assert live.events == [Delta("Simulated")]
        assert not live.done
        live.close()

    async def test_more_gives_the_rest(self, asker: Asking, mlx_simulator: Simulator) -> None:
        mlx_simulator.behaviour = Behaviour(tokens_per_second=200)
        live = await asker.begin(exchange(), entry(of_mlx(mlx_simulator)))
        events = [*live.events, *await rest(live)]
        texts = [event.text for event in events if isinstance(event, Delta)]
        assert "".join(texts) == SAID_MLX
        (finish,) = [event for event in events if isinstance(event, Finish)]
        assert finish.reason is Reason.STOP
        assert finish.usage.completion_tokens == 6

    async def test_the_clock_begins_with_the_request_and_ends_with_the_last_token(
        self, asker: Asking, mlx_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(ttft_ms=100, tokens_per_second=50)
        live, _ = await asker.complete(exchange(), entry(of_mlx(mlx_simulator)))
        assert 100 <= live.timing.prefill_ns() / 1e6 < 250
        assert 60 <= live.timing.decode_ns() / 1e6 < 250
        total = live.timing.prefill_ns() + live.timing.decode_ns()
        assert live.timing.total_ns() == total

    async def test_a_failed_attempt_counts_in_the_clock(
        self, asker: Asking, mlx_simulator: Simulator, ollama_simulator: Simulator
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
        asker: Asking,
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
        assert causes(live) == [cause]
        await eventually_async(lambda: asker.pool.counts().open == 1, within=1)

    @pytest.mark.parametrize("mode", BEFORE_FIRST)
    async def test_of_a_stream_before_its_first_token(
        self,
        asker: Asking,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        live = await asker.begin(exchange(), entry(*targets, timeouts=LIMITS))
        assert live.destination.target.name == "ollama"
        assert causes(live) == [FAILURES[mode]]
        live.close()

    @pytest.mark.parametrize("mode", ["cut-mid-stream:0", "error-line:0"])
    async def test_of_a_stream_that_breaks_before_its_first_token(
        self,
        asker: Asking,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode=mode)
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        live = await asker.begin(exchange(), entry(*targets))
        assert causes(live) == [Cause.BROKEN_STREAM]
        live.close()

    @pytest.mark.parametrize(
        "mode", ["status:500", "status:503", "refuse-model", "close-without-response"]
    )
    async def test_goes_the_other_way_too(
        self,
        asker: Asking,
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
        asker: Asking,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        mode: str,
    ) -> None:
        ollama_simulator.behaviour = Behaviour(mode=mode)
        targets = of_ollama(ollama_simulator), of_mlx(mlx_simulator)
        live, whole = await asker.complete(exchange(), entry(*targets))
        assert whole.text == SAID_MLX
        assert causes(live) == [Cause.BROKEN_STREAM]

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
        self, asker: Asking, ollama_simulator: Simulator, url: str
    ) -> None:
        away = mlx(url.format(port=free_port(), ollama=ollama_simulator.port))
        live, _ = await asker.complete(exchange(), entry(away, of_ollama(ollama_simulator)))
        assert causes(live) == [Cause.CONNECT_FAILURE]
