"""The server of API and page: it listens or says why not, and open requests end before it does."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trustme
from fastapi import FastAPI

from llm_operator.admin import server
from llm_operator.health import NotListening
from llm_operator.settings import SettingsError
from parts.eventually import eventually_async

HOST = "127.0.0.1"


class Slow:
    """An app with a request that ends when it is let go."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.app = FastAPI()
        self.app.get("/slow")(self.slow)
        self.app.get("/quick")(self.quick)

    async def slow(self) -> str:
        self.asked.set()
        await self.go.wait()
        return "done"

    async def quick(self) -> str:
        return "done"


async def test_open_requests_finish_and_new_connections_are_refused() -> None:
    slow = Slow()
    listener = server.listen(HOST, 0, change="")
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=20) as client:

        async def refused() -> bool:
            try:
                await client.get(f"{url}/quick")
            except httpx.ConnectError:
                return True
            return False

        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(server.serving(slow.app, listener))
            assert (await client.get(f"{url}/quick")).json() == "done"
            asking = asyncio.create_task(client.get(f"{url}/slow"))
            await asyncio.wait_for(slow.asked.wait(), 10)
            ending = asyncio.create_task(stack.pop_all().aclose())
        await eventually_async(refused, within=10)
        assert not asking.done()
        slow.go.set()
        assert (await asking).json() == "done"
        await ending


async def test_what_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", 0)
    slow = Slow()
    listener = server.listen(HOST, 0, change="")
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=20) as client:
        async with server.serving(slow.app, listener):
            asking = asyncio.create_task(client.get(f"{url}/slow"))
            await asyncio.wait_for(slow.asked.wait(), 10)
        with contextlib.suppress(httpx.HTTPError):
            assert (await asking).is_server_error


def test_a_taken_port_is_a_sentence() -> None:
    with server.listen(HOST, 0, change="") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotListening) as caught:
            server.listen(HOST, port, change="set LLMB_ADMIN_PORT")
    told = f"can't listen on {HOST}:{port} (Address already in use): set LLMB_ADMIN_PORT"
    assert str(caught.value) == told


def test_a_host_of_another_machine_is_a_sentence() -> None:
    with pytest.raises(NotListening, match=r"192\.0\.2\.1:8090 .*: choose another"):
        server.listen("192.0.2.1", 8090, change="choose another")


async def test_an_app_that_does_not_start_is_an_error_and_no_end_of_the_process() -> None:
    @contextlib.asynccontextmanager
    async def broken(_: FastAPI) -> AsyncIterator[None]:
        raise OSError("no")
        yield

    listener = server.listen(HOST, 0, change="")
    with pytest.raises(RuntimeError, match="did not start"):
        async with server.serving(FastAPI(lifespan=broken), listener):
            pass
    assert listener.fileno() == -1


async def test_a_certificate_is_served_and_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RENEW", 0.05)
    chain, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    slow = Slow()
    listener = server.listen(HOST, 0, change="")
    url = f"https://{HOST}:{listener.getsockname()[1]}/quick"

    async def trusted(authority: trustme.CA) -> bool:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        async with httpx.AsyncClient(trust_env=False, verify=context) as client:
            try:
                return (await client.get(url)).is_success
            except httpx.ConnectError:
                return False

    before, after = trustme.CA(), trustme.CA()
    write(before, chain, key)
    async with server.serving(slow.app, listener, certificate=(chain, key)):
        assert await trusted(before)
        key.write_text("not yet a key")
        write(after, chain, key)
        await eventually_async(lambda: trusted(after), within=20)
        assert not await trusted(before)


def write(authority: trustme.CA, chain: Path, key: Path) -> None:
    """A new certificate of this machine."""
    made = authority.issue_cert(HOST)
    made.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))


async def test_a_certificate_that_can_not_be_used_is_a_sentence_with_its_files(
    tmp_path: Path,
) -> None:
    listener = server.listen(HOST, 0, change="")
    files = (tmp_path / "tls.crt", tmp_path / "tls.key")
    with pytest.raises(SettingsError, match=r"LLMB_ADMIN_TLS_CERTIFICATE .*tls\.crt.*No such file"):
        async with server.serving(FastAPI(), listener, certificate=files):
            pass
