"""The pool against a real server: what it sends, what comes back, which connections it keeps."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
import uvloop

from llm_router.transport import Origin, Pool, TooLarge

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scenario = Callable[[Pool, Origin], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Tells what it got, or sends the number of chunks that the path asks for."""
    assert scope["type"] == "http"
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    if scope["path"].startswith("/v1/chunks/"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(int(scope["path"].rpartition("/")[2])):
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
        await send({"type": "http.response.body"})
        return
    told = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        "body": body.decode(),
        "client": scope["client"][1],
    }
    answer = json.dumps(told).encode()
    length = str(len(answer)).encode()
    headers = [(b"content-length", length), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@contextmanager
def served(**options: Any) -> Iterator[int]:
    """uvicorn in a thread, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http="httptools", lifespan="off", log_level="warning", ws="none", **options
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served() as number:
        yield number


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, port: int) -> Callable[[Scenario], None]:
    """Runs a scenario with a pool, on each kind of loop."""

    async def main(scenario: Scenario) -> None:
        pool = Pool()
        try:
            async with asyncio.timeout(30):
                await scenario(pool, Origin.parse(f"http://127.0.0.1:{port}/v1"))
        finally:
            await pool.close()
        assert (pool.counts().open, pool.counts().idle) == (0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def run(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main(scenario))

    return run


async def ask(
    pool: Pool, origin: Origin, path: bytes = b"/echo", body: bytes = b"hello"
) -> dict[str, Any]:
    headers = [(b"Content-Type", b"text/plain"), (b"X-Two", b"1"), (b"X-Two", b"2")]
    reply = await pool.send(
        origin, method=b"POST", path=path, headers=headers, body=body, connect_timeout=5
    )
    assert reply.status == 201
    assert reply.header(b"content-type") == b"application/json"
    assert reply.header(b"x-none") is None
    told: dict[str, Any] = json.loads(await reply.read_all(10_000_000))
    return told


def test_a_request_arrives_as_it_was_given(play: Callable[[Scenario], None], port: int) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        told = await ask(pool, origin, b"/echo?q=1%20")
        assert (told["method"], told["path"], told["query"]) == ("POST", "/v1/echo", "q=1%20")
        assert told["body"] == "hello"
        assert told["headers"] == [
            ["host", f"127.0.0.1:{port}"],
            ["connection", "keep-alive"],
            ["accept-encoding", "identity"],
            ["content-length", "5"],
            ["content-type", "text/plain"],
            ["x-two", "1"],
            ["x-two", "2"],
        ]

    play(scenario)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 5_000_000])
def test_a_body_arrives_whole(play: Callable[[Scenario], None], size: int) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        for _ in range(2):
            told = await ask(pool, origin, body=b"a" * size)
            assert told["body"] == "a" * size
        assert pool.counts().connects == 1

    play(scenario)


def test_a_connection_is_used_again(play: Callable[[Scenario], None]) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        clients = {(await ask(pool, origin))["client"] for _ in range(20)}
        assert len(clients) == 1
        counts = pool.counts()
        assert (counts.open, counts.idle) == (1, 1)
        assert (counts.connects, counts.reuses, counts.retries) == (1, 19, 0)

    play(scenario)


def test_as_many_connections_as_requests_at_once(play: Callable[[Scenario], None]) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        for _ in range(3):
            bodies = [str(number).encode() for number in range(50)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(pool, origin, body=body)) for body in bodies]
            assert [task.result()["body"].encode() for task in tasks] == bodies
        assert pool.counts().open == pool.counts().idle <= 50

    play(scenario)


@pytest.mark.parametrize("chunks", [0, 1, 2, 20_000])
def test_a_chunked_body_comes_whole_and_in_order(
    play: Callable[[Scenario], None], chunks: int
) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        for _ in range(2):
            reply = await pool.send(
                origin,
                method=b"GET",
                path=b"/chunks/%d" % chunks,
                headers=(),
                body=b"",
                connect_timeout=5,
            )
            body = await reply.read_all(10_000_000)
            assert body == b"".join(b"%d\n" % number for number in range(chunks))
        assert pool.counts().connects == 1

    play(scenario)


def test_head_has_no_body(play: Callable[[Scenario], None]) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        for _ in range(2):
            reply = await pool.send(
                origin, method=b"HEAD", path=b"/", headers=(), body=b"", connect_timeout=5
            )
            assert int(reply.header(b"content-length") or 0) > 0
            assert await reply.read() == b""
        assert (await ask(pool, origin))["method"] == "POST"

    play(scenario)


def test_read_all_has_a_limit(play: Callable[[Scenario], None]) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        async def read(limit: int) -> bytes:
            reply = await pool.send(
                origin, method=b"GET", path=b"/chunks/10", headers=(), body=b"", connect_timeout=5
            )
            return await reply.read_all(limit)

        assert len(await read(20)) == 20
        with pytest.raises(TooLarge, match="longer than 19 bytes"):
            await read(19)

    play(scenario)


def test_a_request_that_can_not_be_sent_opens_nothing(play: Callable[[Scenario], None]) -> None:
    async def scenario(pool: Pool, origin: Origin) -> None:
        for headers in ([(b"host", b"other")], [(b"x", b"\r\n")]):
            with pytest.raises(ValueError, match="header"):
                await pool.send(
                    origin, method=b"GET", path=b"/", headers=headers, body=b"", connect_timeout=5
                )
        assert pool.counts().connects == 0

    play(scenario)


def test_what_a_server_drops_while_idle_is_noticed() -> None:
    async def main(port: int) -> None:
        pool = Pool()
        await ask(pool, Origin.parse(f"http://127.0.0.1:{port}"))
        assert pool.counts().idle == 1
        async with asyncio.timeout(10):
            while pool.counts().open:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert pool.counts().idle == 0
        await pool.close()

    with served(timeout_keep_alive=0) as port:
        asyncio.run(main(port))
