"""Getting a whole answer: its pieces joined, its end checked, and the words of its failures."""

import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator

import orjson
import pytest

from llm_contract import Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router.errors import Code, Refused, Unanswered
from parts.asking import Asking, Scripted, asking, entry, exchange, of_mlx, of_ollama
from parts.eventually import eventually_async


@pytest.fixture
async def asker() -> AsyncIterator[Asking]:
    async with asking() as made:
        yield made


@pytest.fixture
async def unlike() -> AsyncIterator[Scripted]:
    made = Scripted()
    await made.start()
    yield made
    await made.close()


class TestWhole:
    async def test_lists_that_come_in_pieces_are_joined(
        self, asker: Asking, unlike: Scripted
    ) -> None:
        unlike.answer = (
            b'{"response":"a","logprobs":[{"t":"a"}],"done":false}\n'
            b'{"response":"b","logprobs":[{"t":"b"}],"remote_model":"x","done":false}\n'
            b'{"response":"","done":true,"context":[1,2]}\n'
        )
        live, whole = await asker.complete(
            exchange("/api/generate", logprobs=True, stream=False), entry(unlike.target)
        )
        assert whole.finish.whole is not None
        assert orjson.loads(whole.finish.whole) == {
            "model": "phi3:mini",
            "response": "ab",
            "logprobs": [{"t": "a"}, {"t": "b"}],
            "remote_model": "x",
            "done": True,
            "context": [1, 2],
        }
        live.close()

    async def test_lists_that_come_in_pieces_are_joined_for_the_other_protocol_too(
        self, asker: Asking, unlike: Scripted
    ) -> None:
        unlike.answer = (
            b'{"message":{"content":"a"},"logprobs":[{"token":"a","logprob":-1}],"done":false}\n'
            b'|{"message":{"content":"b"},"logprobs":[{"token":"b","logprob":-2}],"done":false}\n'
            b'|{"message":{"content":""},"done":true}\n'
        )
        turns = [{"role": "user", "content": "hello"}]
        _, whole = await asker.complete(
            exchange("/v1/chat/completions", messages=turns, logprobs=True), entry(unlike.target)
        )
        assert whole.text == "ab"
        assert whole.extras is not None
        assert [one["token"] for one in whole.extras["logprobs"]] == ["a", "b"]

    async def test_an_answer_without_end_is_cut_off(
        self, asker: Asking, unlike: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.modules["llm_router.ask.collect"], "MAX_ANSWER", 100)
        # NB: it would go on for two seconds.
        unlike.answer = b'{"response":"aaaaaaaaaa","done":false}\n|' * 100
        started = time.monotonic()
        error = await asker.unanswered(entry(unlike.target))
        assert "the answer has no end" in error.problem.message
        assert time.monotonic() - started < 1
        await eventually_async(lambda: asker.pool.counts().open == 0, within=0.5)

    async def test_json_of_an_unknown_shape_breaks_the_answer(
        self, asker: Asking, unlike: Scripted
    ) -> None:
        unlike.answer = b'{"response":["a"],"done":false}\n{"done":true}\n'
        error = await asker.unanswered(entry(unlike.target))
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
        self, asker: Asking, unlike: Scripted, said: bytes
    ) -> None:
        unlike.answer, unlike.ends = said, False
        with contextlib.suppress(Unanswered):
            await asker.complete(exchange(), entry(unlike.target))
        await eventually_async(lambda: asker.pool.counts().open == 0, within=0.5)
        assert asker.pool.counts().connects == 1

    async def test_a_host_that_goes_on_after_its_end_does_not_hold_up_the_answer(
        self, asker: Asking, unlike: Scripted
    ) -> None:
        unlike.answer, unlike.ends = b'{"response":"a","done":true}\n' + b"|\n" * 50, False
        started = time.monotonic()
        _, whole = await asker.complete(exchange(), entry(unlike.target))
        assert whole.text == "a"
        assert time.monotonic() - started < 0.5
        await eventually_async(lambda: asker.pool.counts().open == 0, within=0.5)

    async def test_an_error_page_that_comes_in_drops_does_not_stretch_the_deadline(
        self, asker: Asking, unlike: Scripted
    ) -> None:
        unlike.head = b"HTTP/1.1 500 Internal Server Error\r\n"
        unlike.answer, unlike.ends = b"|x" * 50, False
        started = time.monotonic()
        await asker.unanswered(entry(unlike.target, timeouts=Timeouts(total=0.3)))
        assert time.monotonic() - started < 0.6

    async def test_a_page_instead_of_an_answer(self, asker: Asking, unlike: Scripted) -> None:
        unlike.answer = b"<html>\n<body>Sign in</body></html>\n"
        error = await asker.unanswered(entry(unlike.target))
        assert error.problem.code is Code.UPSTREAM

    async def test_a_redirect_is_not_followed(
        self, asker: Asking, unlike: Scripted, ollama_simulator: Simulator
    ) -> None:
        place = f"http://127.0.0.1:{ollama_simulator.port}/api/generate"
        unlike.head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}\r\n".encode()
        error = await asker.unanswered(entry(unlike.target))
        assert "the host answered 307" in error.problem.message
        assert ollama_simulator.count() == 0

    async def test_a_refusal_that_repeats_the_whole_request_is_a_refusal(
        self, asker: Asking, unlike: Scripted
    ) -> None:
        unlike.head = b"HTTP/1.1 422 Unprocessable Entity\r\n"
        unlike.answer = b'{"detail":[{"msg":"too deep","input":"' + b"x" * 200_000 + b'"}]}'
        error = await asker.unanswered(entry(unlike.target))
        assert error.problem.code is Code.BAD_REQUEST
        assert "too deep" in error.problem.message
        assert len(error.problem.message) < 1000

    @pytest.mark.parametrize(
        ("header", "kept"),
        [
            (b"Retry-After: 30\r\n", "30"),
            (b"Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", "1"),
            (b"Retry-After: -1\r\n", "1"),
            (b"Retry-After: 99999999999\r\n", "1"),
            (b"", "1"),
        ],
    )
    async def test_retry_after_in_seconds_is_kept(
        self, asker: Asking, unlike: Scripted, header: bytes, kept: str
    ) -> None:
        unlike.head = b"HTTP/1.1 503 Service Unavailable\r\n" + header
        error = await asker.unanswered(entry(unlike.target))
        assert error.problem.code is Code.OVERLOADED
        assert error.problem.retry_after == kept


class TestWords:
    async def test_of_all_failures_name_each_host_once(
        self, asker: Asking, mlx_simulator: Simulator, ollama_simulator: Simulator
    ) -> None:
        mlx_simulator.behaviour = Behaviour(mode="cut-mid-stream:1")
        ollama_simulator.behaviour = Behaviour(mode="status:503")
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        error = await asker.unanswered(entry(*targets))
        assert error.problem.message == (
            f"model 'phi3:mini' was not answered: mlx ({targets[0].url}): the host ended its "
            f"answer without marking the end; ollama ({targets[1].url}): the host answered 503: "
            "server busy, please try again.  maximum pending requests exceeded"
        )

    async def test_a_request_out_of_range_is_the_clients(
        self, asker: Asking, mlx_simulator: Simulator
    ) -> None:
        with pytest.raises(Refused, match="temperature: must be from 0 to"):
            await asker.begin(exchange(temperature=-1), entry(of_mlx(mlx_simulator)))
        assert mlx_simulator.count() == 0

    async def test_the_log_says_when_mlx_fell_back(
        self,
        asker: Asking,
        mlx_simulator: Simulator,
        ollama_simulator: Simulator,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        targets = of_mlx(mlx_simulator), of_ollama(ollama_simulator)
        with caplog.at_level(logging.WARNING, "llm_router"):
            mlx_simulator.behaviour = Behaviour(mode="status:503")
            await asker.complete(exchange(), entry(*targets))
            mlx_simulator.behaviour = Behaviour(mode="status:400")
            await asker.unanswered(entry(*targets))
        assert [record.message for record in caplog.records] == [
            "mlx_failed_falling_back_to_ollama",
            "attempt_failed",
        ]
        assert vars(caplog.records[0])["cause"] == "Busy"
