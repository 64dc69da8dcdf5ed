"""TLS settings, each a target's own, against handshakes that hold, fail or want a certificate."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trustme
import uvloop

from llm_contract import Target, TargetType, Tls
from llm_router.access import reach
from llm_router.credentials import Credentials
from llm_router.transport import ConnectFailed, Cut, NoReply, Origin, Pool, TransportError

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
BLUE = AUTHORITY.issue_cert("blue.example")
RED = AUTHORITY.issue_cert("red.example")
FOREIGN = STRANGER.issue_cert("blue.example")
SERVER = AUTHORITY.issue_cert("model.example")


def pem(issued: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in issued.cert_chain_pems)


VALUES = {
    "ca": AUTHORITY.cert_pem.bytes(),
    "stranger-ca": STRANGER.cert_pem.bytes(),
    "server": pem(SERVER),
    "blue.crt": pem(BLUE),
    "blue.key": BLUE.private_key_pem.bytes(),
    "red.crt": pem(RED),
    "red.key": RED.private_key_pem.bytes(),
    "foreign.crt": pem(FOREIGN),
    "foreign.key": FOREIGN.private_key_pem.bytes(),
}
MOUNTED = Credentials(values=VALUES, digest="1", folder="/f")

Play = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scenario on each kind of loop, within a deadline."""

    async def main(scenario: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(30):
            await scenario()

    def run(scenario: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main(scenario))

    return run


@dataclass
class Server:
    """An https server that answers each request with its client's name, and notes SNI."""

    port: int = 0
    accepted: int = 0
    ended: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    names: list[str | None] = field(default_factory=list)

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        shown = writer.get_extra_info("peercert") or {}
        name = ",".join(value for _, value in shown.get("subjectAltName", ())) or "nobody"
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(name))
                writer.write(name.encode())
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            self.ended.release()


@asynccontextmanager
async def serving(*, mutual: bool = False, version: str = "TLSv1_3") -> AsyncIterator[Server]:
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion[version]
    SERVER.configure_cert(context)
    context.sni_callback = lambda sock, name, context: server.names.append(name)
    if mutual:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    listener = await asyncio.start_server(server.play, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
        for _ in range(server.accepted):
            await server.ended.acquire()
    finally:
        listener.close()


@asynccontextmanager
async def pooling() -> AsyncIterator[Pool]:
    pool = Pool()
    try:
        yield pool
    finally:
        await pool.close()
    assert (pool.counts().open, pool.counts().idle) == (0, 0)


def origin(server: Server, tls: Tls | None) -> Origin:
    """Where a target with these settings is."""
    url = f"https://127.0.0.1:{server.port}"
    target = Target(name="t", type=TargetType.OPENAI, url=url, model="m", tls=tls)
    access = reach(target, MOUNTED)
    assert access.unusable == ""
    return access.origin


async def ask(pool: Pool, where: Origin) -> str:
    reply = await pool.send(
        where, method=b"GET", path=b"/", headers=[], body=b"", connect_timeout=5, timeout=5
    )
    return (await reply.read_all(100)).decode()


#: Settings with which the server itself is taken.
named = partial(Tls, ca="ca", server_name="model.example")


@pytest.mark.parametrize(
    "tls",
    [
        Tls(ca="ca", server_name="model.example"),
        Tls(ca="ca", server_name="MODEL.example."),
        # The server's own certificate is trusted as it is.
        Tls(ca="server", server_name="model.example"),
        Tls(insecure=True),
        Tls(ca="stranger-ca", insecure=True),
    ],
    ids=repr,
)
def test_a_handshake_that_holds(play: Play, tls: Tls) -> None:
    async def scenario() -> None:
        async with serving() as server, pooling() as pool:
            for _ in range(3):
                assert await ask(pool, origin(server, tls)) == "nobody"
            assert server.accepted == 1
            assert server.names == ["model.example" if tls.server_name else None]

    play(scenario)


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (None, "unable to get local issuer"),
        (Tls(server_name="model.example"), "unable to get local issuer"),
        (Tls(ca="stranger-ca", server_name="model.example"), "unable to get local issuer|self"),
        (Tls(ca="ca"), "IP address mismatch"),
        (Tls(ca="ca", server_name="other.example"), "Hostname mismatch"),
        (Tls(ca="ca", server_name="10.0.0.1"), "IP address mismatch"),
    ],
    ids=repr,
)
def test_a_handshake_that_fails(play: Play, tls: Tls | None, said: str) -> None:
    async def scenario() -> None:
        async with serving() as server, pooling() as pool:
            with pytest.raises(ConnectFailed, match=said) as caught:
                await ask(pool, origin(server, tls))
            assert caught.value.reason == "tls"
            assert server.accepted == 0

    play(scenario)


def test_targets_with_one_url_never_share_a_connection(play: Play) -> None:
    blue = named(client_certificate="blue.crt", client_key="blue.key")
    red = named(client_certificate="red.crt", client_key="red.key")

    async def scenario() -> None:
        async with serving(mutual=True) as server, pooling() as pool:
            for _ in range(3):
                assert await ask(pool, origin(server, blue)) == "blue.example"
                assert await ask(pool, origin(server, red)) == "red.example"
            assert server.accepted == 2
            # One that may not come in does not come in on another's connection either.
            with pytest.raises(TransportError):
                await ask(pool, origin(server, named()))
            # Nor does one that verifies what the others take unseen.
            insecure = Tls(insecure=True, client_certificate="blue.crt", client_key="blue.key")
            assert await ask(pool, origin(server, insecure)) == "blue.example"
            with pytest.raises(ConnectFailed):
                await ask(pool, origin(server, None))

    play(scenario)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize(
    "tls",
    [named(), named(client_certificate="foreign.crt", client_key="foreign.key")],
    ids=["none", "another-authority's"],
)
def test_a_client_certificate_that_the_server_does_not_take(
    play: Play, tls: Tls, version: str
) -> None:
    # NB: TLS 1.3 lets the client finish before the server has looked at its certificate.
    expected = ConnectFailed if version == "TLSv1_2" else (NoReply, Cut, ConnectFailed)

    async def scenario() -> None:
        async with serving(mutual=True, version=version) as server, pooling() as pool:
            with pytest.raises(expected) as caught:
                await ask(pool, origin(server, tls))
            assert str(caught.value).startswith(f"https://127.0.0.1:{server.port}: ")
            assert server.accepted == 0 or version == "TLSv1_3"

    play(scenario)


def test_a_rotated_certificate_is_shown_on_a_new_connection(play: Play) -> None:
    tls = named(client_certificate="blue.crt", client_key="blue.key")
    rotated = Credentials(
        values={**VALUES, "blue.crt": VALUES["red.crt"], "blue.key": VALUES["red.key"]},
        digest="2",
        folder="/f",
    )

    async def scenario() -> None:
        async with serving(mutual=True) as server, pooling() as pool:
            url = f"https://127.0.0.1:{server.port}"
            target = Target(name="t", type=TargetType.OPENAI, url=url, model="m", tls=tls)
            assert await ask(pool, reach(target, MOUNTED).origin) == "blue.example"
            assert await ask(pool, reach(target, rotated).origin) == "red.example"
            assert await ask(pool, reach(target, MOUNTED).origin) == "blue.example"
            assert server.accepted == 2

    play(scenario)
