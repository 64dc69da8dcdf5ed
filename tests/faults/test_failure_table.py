"""Row by row: what a client gets when a host fails, where else it is asked, and whom it is held
against.

Every row is asked by an OpenAI and by an Ollama client, for a stream and for a whole answer, first
with the failing target alone and then with a good one behind it. The router and the simulated hosts
are joined by real sockets.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from llm_contract import Target, Timeouts, Waits
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator
from llm_router.errors import Cause
from llm_router.standing import Standing
from llm_router.table import Destination
from parts.asking import Scripted, of_mlx, of_ollama
from parts.eventually import eventually_async
from parts.process import free_port
from parts.proxy import Proxy
from parts.router import DataPort, asked, ollama, route

MODEL = "phi3:mini"
FRONTS = {"openai": "/v1/chat/completions", "ollama": "/api/chat"}
SAID_OTHER = "Simulated ollama answers other: hello there"

#: The good target behind the failing one asks for this model, so that the answer tells them apart.
OTHER = "other"


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=[True, False], ids=["stream", "whole"])
def stream(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


def body(stream: bool, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": "hello there"}]
    return {"model": MODEL, "messages": turns, "stream": stream} | more


def told(front: str, response: httpx.Response) -> str:
    """The message of an error in the client's own protocol, its shape checked."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    if front == "ollama":
        assert isinstance(error, str)
        return error
    assert set(error) == {"code", "message", "param", "type"}
    return str(error["message"])


def pieces(front: str, response: httpx.Response) -> list[Any]:
    """The documents of a stream, without the mark of its end."""
    if front == "ollama":
        return [json.loads(line) for line in response.text.splitlines()]
    events = [event.removeprefix("data: ") for event in response.text.split("\n\n") if event]
    return [json.loads(event) for event in events if event != "[DONE]"]


def word(piece: dict[str, Any]) -> str:
    if "choices" in piece:
        return "".join(choice["delta"].get("content") or "" for choice in piece["choices"])
    return str(piece["message"]["content"])


def text(front: str, response: httpx.Response, *, stream: bool) -> str:
    """What an answer says, its proper end checked."""
    if not stream:
        whole = response.json()
        said = whole["message"] if front == "ollama" else whole["choices"][0]["message"]
        return str(said["content"])
    found = pieces(front, response)
    if front == "ollama":
        assert [piece["done"] for piece in found] == [False] * (len(found) - 1) + [True]
    else:
        assert response.text.endswith("data: [DONE]\n\n")
    return "".join(word(piece) for piece in found)


def blamed(standing: Standing) -> str:
    """What is held against a target or its host."""
    found = {
        "host": standing.host.breaker.failures,
        "target": standing.breaker.failures,
        "cooling": standing.cooling_until,
        "missing": standing.missing_until,
        "credentials": standing.refused_until,
    }
    named = [name for name, value in found.items() if value]
    assert len(named) < 2, named
    assert standing.doubted == bool(named)
    return named[0] if named else "nobody"


@dataclass(slots=True)
class Suspects:
    """Targets for which a check of the router's own was wished; none is made here."""

    found: list[Destination]


@pytest.fixture
def suspects(data_port: DataPort) -> Suspects:
    made = Suspects([])
    data_port.parts.asker.suspect = lambda destination, _: made.found.append(destination)
    return made


@dataclass(slots=True)
class Hosts:
    """Where the targets of these tests are."""

    ollama: Simulator
    mlx: Simulator
    other: Simulator
    scripted: Scripted
    proxy: Callable[[tuple[str, int]], Proxy]
    full: socket.socket


@pytest.fixture
async def hosts(
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
    other_simulator: Simulator,
    full: socket.socket,
    make_proxy: Callable[[Any], Proxy],
) -> AsyncIterator[Hosts]:
    scripted = Scripted()
    await scripted.start()
    yield Hosts(ollama_simulator, mlx_simulator, other_simulator, scripted, make_proxy, full)
    await scripted.close()


@pytest.fixture
async def other_simulator() -> AsyncIterator[Simulator]:
    """An Ollama that has the model `other`."""
    from llm_operator.simulate.behaviour import Kind
    from llm_operator.simulate.server import serve

    made = await serve(
        Kind.OLLAMA, host="127.0.0.1", port=0, behaviour=Behaviour(), models=(OTHER,)
    )
    yield made
    await made.close()


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listener whose one place is taken, so that others wait for their connection."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        yield listener


Make = Callable[[Hosts], Target]


def unresolved(_: Hosts) -> Target:
    return ollama(f"http://no-such-host.invalid:{free_port()}")


def refused(_: Hosts) -> Target:
    return ollama(f"http://127.0.0.1:{free_port()}")


def unconnected(hosts: Hosts) -> Target:
    port = hosts.full.getsockname()[1]
    return ollama(f"http://127.0.0.1:{port}", waits=Waits(connect=0.1))


def untrusted(hosts: Hosts) -> Target:
    return ollama(f"https://127.0.0.1:{hosts.ollama.port}")


def forbidden(_: Hosts) -> Target:
    return ollama("http://169.254.169.254")


def reset(hosts: Hosts) -> Target:
    """A connection that is taken and then reset."""
    return ollama(f"http://127.0.0.1:{hosts.proxy(('127.0.0.1', free_port())).port}")


def dropping(hosts: Hosts) -> Target:
    """A half-open connection: whatever is sent vanishes."""
    proxy = hosts.proxy(("127.0.0.1", hosts.ollama.port))
    proxy.drop()
    return ollama(f"http://127.0.0.1:{proxy.port}")


def of(kind: str, mode: str, **more: Any) -> Make:
    """A simulated host in this mode."""

    def make(hosts: Hosts) -> Target:
        simulator: Simulator = getattr(hosts, kind)
        simulator.behaviour = Behaviour(mode=mode, **more)
        return of_ollama(simulator) if kind == "ollama" else of_mlx(simulator)

    return make


def said(head: str, answer: bytes = b"{}") -> Make:
    """A host that says exactly this."""

    def make(hosts: Hosts) -> Target:
        hosts.scripted.head = f"HTTP/1.1 {head}\r\n".encode()
        hosts.scripted.answer = answer
        return hosts.scripted.target

    return make


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        status: of the client, when no other target is left.
        blames: what is held against the target afterwards; see `blamed`.
        attempts: when the target is the only one.
        retry_after: that the client gets.
    """

    make: Make
    cause: Cause
    status: int
    blames: str
    attempts: int = 1
    retry_after: str | None = None


CONNECT = Row(refused, Cause.CONNECT_FAILURE, 502, "host", attempts=2)
FIRST_TOKEN = Row(dropping, Cause.FIRST_TOKEN_TIMEOUT, 504, "target")
SERVER = Row(refused, Cause.SERVER_ERROR, 502, "target")
BROKEN = Row(refused, Cause.BROKEN_STREAM, 502, "target")
BUSY = Row(refused, Cause.BUSY, 503, "cooling", retry_after="30")
RATE = Row(refused, Cause.RATE_LIMITED, 429, "cooling")
MISSING = Row(refused, Cause.MODEL_MISSING, 404, "missing")
MISCONFIGURED = Row(refused, Cause.MISCONFIGURED, 502, "credentials")

#: Rows after which another target is asked.
ROWS = {
    "dns": replace(CONNECT, make=unresolved),
    "refused": CONNECT,
    "connect-timeout": replace(CONNECT, make=unconnected),
    "tls": replace(CONNECT, make=untrusted),
    "forbidden-address": replace(CONNECT, make=forbidden),
    "closed-without-response": Row(
        of("ollama", "close-without-response"), Cause.NO_REPLY, 502, "target"
    ),
    "mlx-closed-without-response": Row(
        of("mlx", "close-without-response"), Cause.NO_REPLY, 502, "target"
    ),
    "reset": Row(reset, Cause.NO_REPLY, 502, "target"),
    "half-open-connection": FIRST_TOKEN,
    "no-headers": replace(FIRST_TOKEN, make=of("ollama", "hang-before-headers")),
    "no-first-token": replace(FIRST_TOKEN, make=of("ollama", "hang-mid-stream:0")),
    "zombie-mlx": replace(FIRST_TOKEN, make=of("mlx", "zombie")),
    "comments-only": replace(FIRST_TOKEN, make=of("mlx", "ok", ttft_ms=2000, keepalives=50)),
    "500": replace(SERVER, make=of("ollama", "status:500")),
    "502": replace(SERVER, make=of("ollama", "status:502")),
    "504": replace(SERVER, make=of("mlx", "status:504")),
    "redirect": replace(SERVER, make=said("307 X\r\nLocation: http://127.0.0.1:1/")),
    "mlx-404-that-is-a-failed-load": replace(SERVER, make=of("mlx", "generation-died")),
    "ollama-runner-died": replace(SERVER, make=of("ollama", "generation-died")),
    "503": replace(BUSY, make=of("ollama", "status:503"), attempts=2, retry_after="1"),
    "503-retry-after": replace(BUSY, make=of("ollama", "status:503", retry_after=30)),
    "429": replace(RATE, make=of("mlx", "status:429"), attempts=2),
    "429-retry-after": replace(
        RATE, make=of("ollama", "status:429", retry_after=30), retry_after="30"
    ),
    "ollama-404": replace(MISSING, make=of("ollama", "refuse-model")),
    "mlx-404-of-a-model": replace(MISSING, make=of("mlx", "refuse-model")),
    "401": replace(MISCONFIGURED, make=of("ollama", "status:401")),
    "403": replace(MISCONFIGURED, make=of("mlx", "status:403")),
    "mlx-404-of-a-content-type": Row(
        of("mlx", "status:404", message="Only 'text' content type is supported."),
        Cause.UNSUPPORTED,
        400,
        "nobody",
    ),
    "cut-before-the-first-token": replace(BROKEN, make=of("mlx", "cut-mid-stream:0")),
    "error-before-the-first-token": replace(SERVER, make=of("ollama", "error-line:0")),
    "error-line-first": replace(BROKEN, make=said("200 OK", b'{"error":"boom"}\n')),
    "a-page": replace(BROKEN, make=said("200 OK", b"<html>Sign in</html>\n")),
}

LIMITS = Timeouts(total=5, first_token=0.15, stream_idle=0.15)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
class TestBeforeTheFirstToken:
    async def test_alone(
        self,
        data_port: DataPort,
        suspects: Suspects,
        hosts: Hosts,
        front: str,
        stream: bool,
        row: Row,
    ) -> None:
        target = row.make(hosts)
        data_port.publish(route(MODEL, target, timeouts=LIMITS))
        response = await data_port.post(FRONTS[front], **body(stream))
        assert response.status_code == row.status, response.text
        assert target.url in told(front, response)
        assert response.headers["x-llm-attempts"] == str(row.attempts)
        assert response.headers["x-llm-fallback-reason"] == row.cause.value
        assert response.headers.get("retry-after") == row.retry_after
        assert "x-llm-backend" not in response.headers
        assert blamed(data_port.standing(target)) == row.blames
        assert len(suspects.found) == (row.blames == "target")
        (record,) = data_port.records()
        assert (record.outcome, record.status) == ("error", row.status)
        assert [failure.cause for failure in record.failures] == [row.cause] * row.attempts
        assert data_port.standing(target).active == 0

    async def test_with_another_target(
        self,
        data_port: DataPort,
        suspects: Suspects,
        hosts: Hosts,
        front: str,
        stream: bool,
        row: Row,
    ) -> None:
        target = row.make(hosts)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        data_port.publish(route(MODEL, target, other, timeouts=LIMITS))
        response = await data_port.post(FRONTS[front], **body(stream))
        assert response.status_code == 200, response.text
        assert text(front, response, stream=stream) == SAID_OTHER
        assert response.headers["x-llm-backend"] == "phi3-mini/other"
        assert response.headers["x-llm-attempts"] == "2"
        assert response.headers["x-llm-fallback-reason"] == row.cause.value
        assert blamed(data_port.standing(target)) == row.blames
        assert blamed(data_port.standing(other)) == "nobody"
        assert len(suspects.found) == (row.blames == "target")
        (record,) = data_port.records()
        assert (record.outcome, record.attempts, record.target) == ("ok", 2, "other")
        assert [failure.cause for failure in record.failures] == [row.cause]


#: What is the request's own fault: nobody else is asked, and nobody is blamed.
CLIENTS = {
    "400": of("ollama", "status:400", message="no such knob"),
    "413": of("ollama", "status:413", message="no such knob"),
    "422": of("mlx", "status:422", message="no such knob"),
}


class TestOwnFaults:
    @pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
    async def test_a_wrong_request(
        self,
        data_port: DataPort,
        suspects: Suspects,
        hosts: Hosts,
        front: str,
        stream: bool,
        make: Make,
    ) -> None:
        target = make(hosts)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        data_port.publish(route(MODEL, target, other, timeouts=LIMITS))
        for _ in range(5):
            response = await data_port.post(FRONTS[front], **body(stream))
            assert response.status_code == 400
            assert "no such knob" in told(front, response)
            assert response.headers["x-llm-attempts"] == "1"
        assert hosts.other.count() == 0
        assert blamed(data_port.standing(target)) == "nobody"
        assert not suspects.found

    async def test_what_a_type_of_host_can_not_do(
        self, data_port: DataPort, hosts: Hosts, front: str, stream: bool
    ) -> None:
        target = of_mlx(hosts.mlx)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        form = {"format": "json"} if front == "ollama" else {}
        if front == "openai":
            form = {"response_format": {"type": "json_object"}}  # type: ignore[dict-item]
        data_port.publish(route(MODEL, target), route("both", target, other))
        alone = await data_port.post(FRONTS[front], **body(stream, **form))
        assert alone.status_code == 400
        assert "a host of type mlx can't do this" in told(front, alone)
        both = await data_port.post(FRONTS[front], **body(stream, **form) | {"model": "both"})
        assert both.status_code == 200, both.text
        assert both.headers["x-llm-backend"] == "both/other"
        assert both.headers["x-llm-fallback-reason"] == "Unsupported"
        assert hosts.mlx.count() == 0
        assert blamed(data_port.standing(target)) == "nobody"

    async def test_the_deadline_of_a_whole_answer(
        self, data_port: DataPort, suspects: Suspects, hosts: Hosts, front: str
    ) -> None:
        target = of("mlx", "ok", tokens=100, tokens_per_second=20)(hosts)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        data_port.publish(route(MODEL, target, other, timeouts=Timeouts(total=0.3)))
        started = time.monotonic()
        response = await data_port.post(FRONTS[front], **body(stream=False))
        assert 0.3 <= time.monotonic() - started < 1
        assert response.status_code == 504
        assert "was not answered within 0.3 s" in told(front, response)
        assert hosts.other.count() == 0
        assert blamed(data_port.standing(target)) == "nobody", "it was streaming"
        assert not suspects.found

    async def test_a_missing_model_is_not_asked_for_again_soon(
        self, data_port: DataPort, hosts: Hosts, front: str, stream: bool
    ) -> None:
        target = of("ollama", "refuse-model")(hosts)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        data_port.publish(route(MODEL, target, other))
        reasons = []
        for _ in range(3):
            response = await data_port.post(FRONTS[front], **body(stream))
            assert response.status_code == 200
            reasons.append(
                (response.headers["x-llm-attempts"], response.headers["x-llm-fallback-reason"])
            )
        assert reasons == [("2", "ModelMissing"), ("1", "ModelMissing"), ("1", "ModelMissing")]
        assert asked(hosts.ollama) == 1

    async def test_credentials_that_are_not_taken_are_not_shown_again_soon(
        self, data_port: DataPort, hosts: Hosts, front: str, stream: bool
    ) -> None:
        target = of("ollama", "status:401")(hosts)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        data_port.publish(route(MODEL, target, other))
        for _ in range(3):
            response = await data_port.post(FRONTS[front], **body(stream))
            assert response.headers["x-llm-fallback-reason"] == "Misconfigured"
        assert asked(hosts.ollama) == 1

    async def test_a_host_that_asks_for_time_gets_it(
        self, data_port: DataPort, hosts: Hosts, front: str, stream: bool
    ) -> None:
        target = of("ollama", "status:429", retry_after=1)(hosts)
        data_port.publish(route(MODEL, target, timeouts=LIMITS))
        started = time.monotonic()
        asking = asyncio.create_task(data_port.post(FRONTS[front], **body(stream)))
        await eventually_async(lambda: asked(hosts.ollama) == 1, within=2, every=0.01)
        hosts.ollama.behaviour = Behaviour()
        response = await asking
        assert response.status_code == 200, response.text
        assert time.monotonic() - started >= 1
        assert response.headers["x-llm-attempts"] == "2"
        assert response.headers["x-llm-fallback-reason"] == "RateLimited"
        assert blamed(data_port.standing(target)) == "nobody", "it has answered"


#: How an answer breaks off -> what the client reads of it.
BREAKS = {
    "cut-mid-stream:3": "",
    "error-line:3": "",
    "no-done": "ended its answer without marking the end",
    "hang-mid-stream:3": "the host sent nothing for 0.15 s",
}


@pytest.mark.parametrize("kind", ["ollama", "mlx"])
class TestAfterTheFirstToken:
    @pytest.mark.parametrize(("mode", "reason"), BREAKS.items(), ids=BREAKS)
    async def test_a_stream_ends_with_an_error_and_nobody_else_is_asked(
        self,
        data_port: DataPort,
        suspects: Suspects,
        hosts: Hosts,
        front: str,
        kind: str,
        mode: str,
        reason: str,
    ) -> None:
        target = of(kind, mode, tokens_per_second=200)(hosts)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        data_port.publish(route(MODEL, target, other, timeouts=LIMITS))
        response = await data_port.post(FRONTS[front], **body(stream=True))
        self._broken(front, kind, response, reason)
        assert hosts.other.count() == 0
        assert data_port.standing(target).breaks == 1
        assert data_port.standing(target).doubted
        assert len(suspects.found) == 1
        (record,) = data_port.records()
        assert (record.outcome, record.error, record.status) == ("broken", "BrokenStream", 200)
        assert record.measures.completion_tokens
        assert record.measures.counted == "router"

    @pytest.mark.parametrize("how", ["reset", "drop"])
    async def test_a_network_that_fails_in_the_middle(
        self, data_port: DataPort, suspects: Suspects, hosts: Hosts, front: str, kind: str, how: str
    ) -> None:
        direct = of(kind, "ok", tokens=200, tokens_per_second=20)(hosts)
        proxy = hosts.proxy(("127.0.0.1", int(direct.url.rpartition(":")[2])))
        target = replace(direct, url=f"http://127.0.0.1:{proxy.port}")
        data_port.publish(route(MODEL, target, timeouts=LIMITS))
        asking = asyncio.create_task(data_port.post(FRONTS[front], **body(stream=True)))
        await eventually_async(
            lambda: any(one.tokens > 2 for one in getattr(hosts, kind).requests), within=2
        )
        await asyncio.to_thread(getattr(proxy, how))
        response = await asking
        self._broken(front, kind, response, "" if how == "reset" else "sent nothing for 0.15 s")
        assert data_port.standing(target).breaks == 1

    @pytest.mark.parametrize("mode", BREAKS)
    async def test_a_whole_answer_comes_from_the_next(
        self,
        data_port: DataPort,
        suspects: Suspects,
        hosts: Hosts,
        front: str,
        kind: str,
        mode: str,
    ) -> None:
        target = of(kind, mode, tokens_per_second=200)(hosts)
        other = of_ollama(hosts.other, name="other", model=OTHER)
        data_port.publish(route(MODEL, target, timeouts=LIMITS))
        alone = await data_port.post(FRONTS[front], **body(stream=False))
        assert alone.status_code == 502
        assert "Simulated" not in told(front, alone)
        data_port.publish(route(MODEL, target, other, timeouts=LIMITS))
        response = await data_port.post(FRONTS[front], **body(stream=False))
        assert response.status_code == 200
        assert text(front, response, stream=False) == SAID_OTHER
        assert response.headers["x-llm-fallback-reason"] == "BrokenStream"
        assert data_port.standing(target).breaks == 2
        assert data_port.standing(target).breaker.failures == 2, "the tokens between do not count"
        assert suspects.found

    def _broken(self, front: str, kind: str, response: httpx.Response, reason: str) -> None:
        assert response.status_code == 200
        *answer, error = pieces(front, response)
        assert set(error) == {"error"}
        message = error["error"] if front == "ollama" else error["error"]["message"]
        assert message.startswith(f"the answer broke off: {kind}: ")
        assert reason in message
        assert "".join(word(piece) for piece in answer).startswith(f"Simulated {kind}")
        assert "[DONE]" not in response.text
        assert not any(piece.get("done") for piece in answer)
        assert response.headers["x-llm-attempts"] == "1"
