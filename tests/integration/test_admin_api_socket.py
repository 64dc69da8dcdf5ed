"""The admin API on a real socket, by the admin's own server: what a client without manners gets."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llm_operator.admin import server
from llm_operator.admin.api import app, bodies
from parts.admin_memory import SPEC, TOKEN, memory
from parts.admin_memory import Memory as Behind
from parts.eventually import eventually_async

KNOWN = f"Host: admin\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
PATH = "/api/llm-backends"
SECONDS = 20


@pytest.fixture
def behind() -> Behind:
    made = memory()
    made.store.add(SPEC)
    return made


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, text: str, *, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """Send a request, or the beginning of one, and read an answer."""
        self.writer.write(text.encode() + body)
        async with asyncio.timeout(SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
            length = 0 if text.startswith("HEAD") else int(headers.get("content-length", 0))
            return int(first.split()[1]), headers, await self.reader.readexactly(length)

    async def ended(self) -> bool:
        """Whether the server closed it, whatever it sent before."""
        async with asyncio.timeout(SECONDS):
            while await self.reader.read(65_536):
                pass
        return True


@asynccontextmanager
async def wire(behind: Behind) -> AsyncIterator[Wire]:
    """A connection to a service."""
    listener = server.listen("127.0.0.1", 0, change="")
    host, port = listener.getsockname()[:2]
    async with server.serving(app.build(behind.admin, public=True), listener):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()


async def test_one_connection_serves_many_requests(behind: Behind) -> None:
    async with wire(behind) as one:
        head = await one.ask(f"HEAD {PATH}/1 HTTP/1.1\r\n{KNOWN}\r\n")
        got = await one.ask(f"GET {PATH}/1 HTTP/1.1\r\n{KNOWN}\r\n")
        wrong = await one.ask(f"PATCH {PATH}/1 HTTP/1.1\r\n{KNOWN}Content-Length: 2\r\n\r\n{{}}")
        again = await one.ask(
            f"GET {PATH}/1 HTTP/1.1\r\n{KNOWN}If-None-Match: {got[1]['etag']}\r\n\r\n"
        )
    assert [told[0] for told in (head, got, wrong, again)] == [200, 200, 405, 304]
    assert head[1]["content-length"] == str(len(got[2]))
    assert json.loads(got[2])["id"] == 1


async def test_an_escaped_slash_is_part_of_a_model_s_name(behind: Behind) -> None:
    behind.store.add({**SPEC, "modelName": "org/phi 3:mini"})
    async with wire(behind) as one:
        told = await one.ask(f"GET {PATH}/model/org%2Fphi%203%3Amini HTTP/1.1\r\n{KNOWN}\r\n")
    assert (told[0], json.loads(told[2])["model_name"]) == (200, "org/phi 3:mini")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_past_its_limit_ends_the_connection(behind: Behind, chunked: bool) -> None:
    piece = b" " * 65_536
    size = bodies.LIMIT * 4
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    body = b"%x\r\n%b\r\n" % (len(piece), piece) * 5 if chunked else piece
    async with wire(behind) as one:
        told = await one.ask(f"PUT {PATH}/1 HTTP/1.1\r\n{KNOWN}{how}\r\n\r\n", body=body)
        assert await one.ended()
    assert (told[0], told[1]["connection"]) == (413, "close")
    assert behind.store.list()[0].spec == SPEC


async def test_who_leaves_in_the_middle_is_no_fault(
    behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def told() -> list[Any]:
        return [record for record in caplog.records if record.getMessage() == "request"]

    async with wire(behind) as one:
        one.writer.write(f"PUT {PATH}/1 HTTP/1.1\r\n{KNOWN}Content-Length: 99\r\n\r\n{{".encode())
        await one.writer.drain()
        one.writer.close()
        found = await eventually_async(told, within=SECONDS)
    assert found[0].status == 499
    assert not [record for record in caplog.records if record.exc_info]


async def test_what_is_no_http_is_refused_and_others_go_on(behind: Behind) -> None:
    async with wire(behind) as one:
        assert (await one.ask("GARBAGE\r\n\r\n"))[0] == 400
        assert await one.ended()
