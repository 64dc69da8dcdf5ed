"""The client library when things go wrong: a typed error, never a clean end, and it works again
without being made anew.

Routers are processes, or stand in the test's own loop where it must see their connections; what
speaks wrongly is scripted byte by byte.
"""

import asyncio
import contextlib
import gc
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from llm_contract import Timeouts
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from llm_router import (
    InvalidRequest,
    LLMRouter,
    LLMRouterError,
    ModelNotFound,
    Overloaded,
    Piece,
    RouterUnavailable,
    Stream,
    StreamBroken,
    Timeout,
    UpstreamFailed,
)
from llm_router.client import wire
from parts.asking import Scripted, of_mlx, of_ollama
from parts.eventually import eventually_async
from parts.process import free_port
from parts.proxy import Proxy
from parts.router import DataPort, Router, asked, ollama, route

MODEL = "phi3:mini"
SECRET = "the prompt that no error may hold"
TURNS = [{"role": "user", "content": SECRET}]

#: An answer of many seconds.
LONG = Behaviour(tokens=2000, tokens_per_second=40)

#: All that asks for an answer: whole and streamed, a prompt and messages.
Ask = Callable[[LLMRouter], Awaitable[object]]


async def read(stream: AsyncIterator[Piece]) -> list[str]:
    return [str(piece) async for piece in stream]


async def generate(client: LLMRouter) -> object:
    return await client.generate(MODEL, SECRET)


async def chat(client: LLMRouter) -> object:
    return await client.chat(MODEL, TURNS)


async def stream(client: LLMRouter) -> object:
    return await read(aiter(client.stream(MODEL, SECRET)))


async def stream_chat(client: LLMRouter) -> object:
    return await read(aiter(client.stream_chat(MODEL, TURNS)))


@pytest.fixture(params=[generate, chat, stream, stream_chat], ids=lambda ask: ask.__name__)
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is not tried anew."""
    monkeypatch.setattr(wire, "GRACE_SECONDS", 0)


@pytest.fixture
async def client(data_port: DataPort) -> AsyncIterator[LLMRouter]:
    """A client of the router in this loop."""
    async with LLMRouter(url=data_port.url) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Any:
    yield
    # NB: what was not closed complains here, and a warning is an error.
    gc.collect()


async def cancelled(simulator: Simulator) -> None:
    """The host saw its caller go, and every generation is over."""
    await eventually_async(lambda: asked(simulator, Outcome.CANCELLED) == 1, within=10)
    assert asked(simulator, Outcome.OPEN) == 0


# The router is away.


@pytest.mark.usefixtures("impatient")
async def test_no_router_then_one(
    make_router: Callable[..., Router], ollama_simulator: Simulator, ask: Ask
) -> None:
    router = make_router()
    async with LLMRouter(url=router.url) as client:
        with pytest.raises(RouterUnavailable) as caught:
            await ask(client)
        assert (caught.value.status, caught.value.code) == (0, "unavailable")
        assert caught.value.router == router.url
        assert "LLM_ROUTER_URL" in str(caught.value)
        assert SECRET not in str(caught.value)
        router.start()
        router.publish(route(MODEL, of_ollama(ollama_simulator)))
        await ask(client)
        told = client.report_metrics()
        assert (told["total_requests"], told["errors"]) == (2, 1)


class Refused(httpx.AsyncHTTPTransport):
    """Counts the connections that were refused."""

    count = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except httpx.ConnectError:
            self.count += 1
            raise


async def test_a_router_that_starts_a_moment_later(
    data_port: DataPort,
    make_proxy: Callable[[Any], Proxy],
    ollama_simulator: Simulator,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "GRACE_SECONDS", 20)
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    proxy = make_proxy(("127.0.0.1", int(data_port.url.rsplit(":", 1)[1])))
    proxy.stop()
    transport = Refused(verify=False)
    async with LLMRouter(url=f"http://127.0.0.1:{proxy.port}", transport=transport) as client:
        calling = asyncio.ensure_future(ask(client))
        await eventually_async(lambda: transport.count >= 2, within=10)
        proxy.start()
        await calling
    assert asked(ollama_simulator) == 1


async def test_nothing_is_sent_twice(
    data_port: DataPort, make_proxy: Callable[[Any], Proxy], ollama_simulator: Simulator, ask: Ask
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="zombie")
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    proxy = make_proxy(("127.0.0.1", int(data_port.url.rsplit(":", 1)[1])))
    async with LLMRouter(url=f"http://127.0.0.1:{proxy.port}") as client:
        calling = asyncio.ensure_future(ask(client))
        await eventually_async(lambda: asked(ollama_simulator) == 1, within=10)
        proxy.reset()
        with pytest.raises(RouterUnavailable, match="closed the connection before it answered"):
            await calling
        assert proxy.accepted == 1
    await cancelled(ollama_simulator)
    assert asked(ollama_simulator) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("crash", [True, False], ids=["killed", "ended"])
async def test_a_router_that_goes_in_mid_stream(
    make_router: Callable[..., Router], ollama_simulator: Simulator, crash: bool
) -> None:
    router = make_router(DRAIN_SECONDS="0")
    router.start()
    router.publish(route(MODEL, of_ollama(ollama_simulator)))
    ollama_simulator.behaviour = LONG
    pieces = []
    async with LLMRouter(url=router.url) as client:
        answer = client.stream(MODEL, SECRET)

        async def until_it_breaks() -> None:
            async for piece in answer:
                pieces.append(piece)
                if len(pieces) == 3:
                    assert router.process is not None
                    # NB: not waited for here, as the router's last words are for this reader.
                    end = signal.SIGKILL if crash else signal.SIGTERM
                    router.process.popen.send_signal(end)

        with pytest.raises(StreamBroken) as caught:
            await until_it_breaks()
        assert len(pieces) >= 3
        assert "has no proper end" in str(caught.value)
        assert caught.value.code == ("broken_stream" if crash else "not_ready")
        with pytest.raises(RuntimeError, match="not been read to its end"):
            _ = answer.result
        await cancelled(ollama_simulator)
        router.stop()
        with pytest.raises(RouterUnavailable):
            await generate(client)
        ollama_simulator.behaviour = Behaviour()
        router.start()
        await generate(client)
        assert client.report_metrics()["errors"] == 2


@pytest.mark.usefixtures("impatient")
async def test_a_restarted_router_is_found_again(
    make_router: Callable[..., Router], ollama_simulator: Simulator, ask: Ask
) -> None:
    router = make_router()
    async with LLMRouter(url=router.url) as client:
        for _ in range(3):
            router.start()
            router.publish(route(MODEL, of_ollama(ollama_simulator)))
            # An idle connection of before is not taken for one that works.
            await ask(client)
            router.stop()


async def test_a_router_without_configuration(make_router: Callable[..., Router], ask: Ask) -> None:
    router = make_router()
    router.start()
    async with LLMRouter(url=router.url) as client:
        with pytest.raises(Overloaded, match="no configuration has been loaded yet") as caught:
            await ask(client)
    assert caught.value.retry_after == 1


# Who answers is slow.


async def test_no_answer_in_time(
    data_port: DataPort, ollama_simulator: Simulator, ask: Ask
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="zombie")
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    async with LLMRouter(url=data_port.url, timeout=2.5) as client:
        with pytest.raises(Timeout, match=r"said nothing for 2.5 s") as caught:
            await ask(client)
        assert caught.value.code == "client_timeout"
        assert caught.value.request_id
        await cancelled(ollama_simulator)
        ollama_simulator.behaviour = Behaviour()
        await ask(client)


async def test_a_stream_that_stands_still(data_port: DataPort, ollama_simulator: Simulator) -> None:
    ollama_simulator.behaviour = Behaviour(mode="hang-mid-stream:2")
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    async with LLMRouter(url=data_port.url, timeout=2.5) as client:
        answer = aiter(client.stream(MODEL, SECRET))
        pieces = [str(await anext(answer)), str(await anext(answer))]
        with pytest.raises(Timeout):
            await anext(answer)
        assert pieces == ["Simulated", " ollama"]
        await cancelled(ollama_simulator)


# The hosts fail.


async def test_a_stream_that_a_host_cuts(
    client: LLMRouter, data_port: DataPort, ollama_simulator: Simulator
) -> None:
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    for mode in ("cut-mid-stream:2", "error-line:2", "no-done"):
        # NB: one by one, as what comes with the first token could still be tried elsewhere.
        ollama_simulator.behaviour = Behaviour(mode=mode, tokens_per_second=20)
        for streaming in (stream, stream_chat):
            with pytest.raises(StreamBroken, match="the answer broke off") as caught:
                await streaming(client)
            assert SECRET not in str(caught.value)
    told = client.report_metrics()
    assert (told["errors"], told["by_backend"]["ollama"]["errors"]) == (6, 6)


async def test_a_whole_answer_that_a_host_cuts_comes_from_another(
    client: LLMRouter,
    data_port: DataPort,
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
) -> None:
    mlx_simulator.behaviour = Behaviour(mode="cut-mid-stream:2")
    data_port.publish(route(MODEL, of_mlx(mlx_simulator), of_ollama(ollama_simulator)))
    result = await client.generate(MODEL, "hello")
    assert result.text == "Simulated ollama answers phi3:mini: hello"
    assert (result.attempts, result.fallback_reason) == (2, "BrokenStream")


@pytest.mark.parametrize(
    ("mode", "kind", "status"),
    [
        ("status:500", UpstreamFailed, 502),
        ("status:401", UpstreamFailed, 502),
        ("status:400", InvalidRequest, 400),
        ("refuse-model", ModelNotFound, 404),
        ("status:429", Overloaded, 429),
        ("status:503", Overloaded, 503),
        ("zombie", UpstreamFailed, 504),
        ("close-without-response", UpstreamFailed, 502),
    ],
)
async def test_what_every_failure_is(
    client: LLMRouter,
    data_port: DataPort,
    ollama_simulator: Simulator,
    ask: Ask,
    mode: str,
    kind: type[LLMRouterError],
    status: int,
) -> None:
    ollama_simulator.behaviour = Behaviour(mode=mode, retry_after=7)
    # NB: a host's Retry-After would be waited for within the deadline, and asked once more.
    timeouts = Timeouts(total=1 if mode == "zombie" else 5)
    data_port.publish(route(MODEL, of_ollama(ollama_simulator), timeouts=timeouts))
    with pytest.raises(LLMRouterError) as caught:
        await ask(client)
    error = caught.value
    assert (type(error), error.status) == (kind, status)
    assert (error.model, error.router) == (MODEL, data_port.url)
    assert error.attempts >= 1
    assert error.fallback_reason
    assert error.code
    (record,) = data_port.records()
    assert record.request_id == error.request_id
    assert isinstance(error, Overloaded) is (getattr(error, "retry_after", None) == 7)
    assert SECRET not in str(error)


async def test_a_model_that_nobody_has(client: LLMRouter, data_port: DataPort, ask: Ask) -> None:
    data_port.publish()
    with pytest.raises(ModelNotFound, match="model 'phi3:mini' not found") as caught:
        await ask(client)
    assert caught.value.attempts == 0


async def test_a_prompt_that_is_too_long(
    client: LLMRouter, data_port: DataPort, ollama_simulator: Simulator
) -> None:
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    # The data port of the tests takes 100,000 bytes, and closes the connection on more.
    with pytest.raises(InvalidRequest) as caught:
        await client.generate(MODEL, "x" * 200_000)
    assert (caught.value.status, caught.value.code) == (413, "too_large")
    await client.generate(MODEL, "hello")


# The caller goes.


async def test_a_cancelled_task_ends_the_generation(
    client: LLMRouter, data_port: DataPort, ollama_simulator: Simulator, ask: Ask
) -> None:
    ollama_simulator.behaviour = LONG
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    calling = asyncio.ensure_future(ask(client))
    await eventually_async(lambda: asked(ollama_simulator) == 1, within=10)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await cancelled(ollama_simulator)
    told = client.report_metrics()
    assert (told["total_requests"], told["errors"], told["cancelled"]) == (1, 0, 1)
    ollama_simulator.behaviour = Behaviour()
    await ask(client)


async def test_a_deadline_of_the_caller_s_own(
    client: LLMRouter, data_port: DataPort, ollama_simulator: Simulator, ask: Ask
) -> None:
    ollama_simulator.behaviour = LONG
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await ask(client)
    await cancelled(ollama_simulator)


async def leave_block(answer: Stream[Any]) -> None:
    async with answer:
        async for _ in answer:
            break


async def close(answer: Stream[Any]) -> None:
    await anext(aiter(answer))
    await answer.aclose()
    await answer.aclose()


async def fail_in_block(answer: Stream[Any]) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with answer:
            async for _ in answer:
                raise ZeroDivisionError


async def just_break(answer: Stream[Any]) -> None:
    async for _ in answer:
        break


@pytest.mark.parametrize("leave", [leave_block, close, fail_in_block, just_break])
@pytest.mark.parametrize("chatting", [False, True], ids=["prompt", "chat"])
async def test_a_stream_that_is_left_ends_the_generation(
    client: LLMRouter,
    data_port: DataPort,
    ollama_simulator: Simulator,
    leave: Callable[[Stream[Any]], Awaitable[None]],
    chatting: bool,
) -> None:
    ollama_simulator.behaviour = LONG
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    if chatting:
        await leave(client.stream_chat(MODEL, TURNS))
    else:
        await leave(client.stream(MODEL, SECRET))
    await cancelled(ollama_simulator)
    await eventually_async(lambda: client.report_metrics()["cancelled"] == 1, within=10)
    (record,) = data_port.records()
    assert record.outcome == "cancelled"


async def test_a_stream_that_is_read_on_after_it_was_closed(
    client: LLMRouter, data_port: DataPort, ollama_simulator: Simulator
) -> None:
    ollama_simulator.behaviour = LONG
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    answer = client.stream(MODEL, SECRET)
    pieces = aiter(answer)
    await anext(pieces)
    await answer.aclose()
    assert client.report_metrics()["cancelled"] == 1
    # NB: while its iterator is still at hand, so that nobody else can have closed it.
    await cancelled(ollama_simulator)
    with pytest.raises(RuntimeError, match="was closed"):
        await anext(pieces)


async def test_a_stream_that_was_never_read_is_nothing(
    client: LLMRouter, data_port: DataPort, ollama_simulator: Simulator
) -> None:
    data_port.publish(route(MODEL, of_ollama(ollama_simulator)))
    async with client.stream(MODEL, SECRET):
        pass
    assert asked(ollama_simulator) == 0
    assert client.report_metrics()["total_requests"] == 0


async def test_a_loop_that_ends_in_mid_stream(router: Router, ollama_simulator: Simulator) -> None:
    ollama_simulator.behaviour = LONG
    router.publish(route(MODEL, ollama(f"http://127.0.0.1:{ollama_simulator.port}")))
    client = LLMRouter(url=router.url)

    async def begin() -> None:
        answer = aiter(client.stream(MODEL, SECRET))
        await anext(answer)
        # It returns, with the answer in its hands.

    await asyncio.to_thread(asyncio.run, begin())
    await cancelled(ollama_simulator)


# What answers is no router, or speaks wrongly.

HEAD = b"HTTP/1.1 200 OK\r\nX-Request-Id: r-1\r\nX-LLM-Backend-Type: mlx\r\n"


@contextlib.asynccontextmanager
async def scripted(answer: bytes, *, head: bytes = HEAD) -> AsyncIterator[LLMRouter]:
    """A client of a server that says just this."""
    server = Scripted(head=head, answer=answer)
    await server.start()
    async with LLMRouter(url=server.target.url) as client:
        yield client
    await server.close()


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found", b"502 Bad Gateway"])
async def test_another_server_is_not_taken_for_a_router(ask: Ask, status: bytes) -> None:
    # As a real Ollama does, whose default address is the same.
    answer = b'{"model": "phi3:mini", "response": "hello", "done": true}\n'
    async with scripted(answer, head=b"HTTP/1.1 " + status + b"\r\n") as client:
        with pytest.raises(RouterUnavailable, match="is no llm-router"):
            await ask(client)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"response": "a", "done": false}\n',
        b'{"response": "a", "done": false}\n|{"respon',
        b'{"response": "a", "done": false}\nnonsense\n',
        b'{"response": "a", "done": false}\n[1]\n',
        b"\n",
    ],
)
async def test_a_stream_without_its_proper_end(answer: bytes) -> None:
    async with scripted(answer) as client:
        with pytest.raises(StreamBroken):
            await stream(client)


async def test_what_breaks_after_the_last_line_does_no_harm() -> None:
    # The length that is told is more than what comes.
    async with scripted(b'{"response": "a", "done": true}\n|') as client:
        answer = client.stream(MODEL, SECRET)
        assert await read(aiter(answer)) == ["a"]
        assert answer.result.text == "a"
        assert client.report_metrics()["errors"] == 0


async def test_pieces_are_put_together_wherever_they_are_cut() -> None:
    text = "Gr\u00fc\u00dfe\u2028 \U0001f600"
    lines = [{"response": text, "done": False}, {"response": "!", "done": True}]
    body = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for at in range(len(body)):
            writer.write(b"1\r\n" + body[at : at + 1] + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, LLMRouter(url=f"http://127.0.0.1:{port}") as client:
        answer = client.stream(MODEL, SECRET)
        assert await read(aiter(answer)) == [text, "!"]
        assert answer.result.text == f"{text}!"


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b""])
async def test_a_whole_answer_that_is_none(answer: bytes) -> None:
    async with scripted(answer) as client:
        with pytest.raises(StreamBroken, match="not the router's JSON"):
            await generate(client)


async def test_a_refusal_without_words() -> None:
    head = b"HTTP/1.1 500 Oops\r\nX-Request-Id: r-1\r\n"
    async with scripted(b"<html>", head=head) as client:
        with pytest.raises(LLMRouterError, match="gave no reason") as caught:
            await generate(client)
    assert (type(caught.value), caught.value.code) == (LLMRouterError, "internal_error")


async def test_a_port_that_nobody_listens_on(impatient: None) -> None:
    async with LLMRouter(url=f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(RouterUnavailable, match="no connection to the router") as caught:
            await client.embed(MODEL, SECRET)
    assert SECRET not in str(caught.value)
