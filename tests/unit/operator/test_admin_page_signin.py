"""Signing in: a token in a form, a session in a cookie, and what is said when it is not taken."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest

from llm_operator.admin.errors import AdminError, Away, TooMany, Unauthorized
from llm_operator.admin.model import Caller, Verb
from llm_operator.admin.page.session import COOKIE, Session, Sessions
from llm_operator.admin.page.signin import LONGEST, Front

TOKEN = "s3cret-t0ken"


class Gate:
    """One good token; or an error for all."""

    def __init__(self) -> None:
        self.error: AdminError | None = None
        self.peers: list[str] = []

    async def caller(self, token: str, *, peer: str) -> Caller:
        self.peers.append(peer)
        if self.error is not None:
            raise self.error
        if token != TOKEN:
            raise Unauthorized("nobody knows this token")
        return Caller(name="ada")

    async def may(
        self, caller: Caller, verb: Verb, namespace: str, *, subresource: str = ""
    ) -> bool:
        return True


class Site:
    """The front, and a browser without cookies of its own."""

    def __init__(self, client: httpx.AsyncClient, gate: Gate, sessions: Sessions) -> None:
        self.client, self.gate, self.sessions = client, gate, sessions
        self.ended: list[Session] = []

    async def enter(self, token: str = TOKEN, *, path: str = "/sign-in", **headers: str):  # type: ignore[no-untyped-def]
        self.client.cookies.clear()
        return await self.client.post(path, content=urlencode({"token": token}), headers=headers)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    gate, sessions = Gate(), Sessions(lambda: 0.0)
    ended: list[Session] = []
    front = Front(gate, sessions, standalone=True, ended=ended.append)
    transport = httpx.ASGITransport(front.routes)
    async with httpx.AsyncClient(transport=transport, base_url="https://page.lan") as client:
        made = Site(client, gate, sessions)
        made.ended = ended
        yield made


async def test_a_good_token_gets_a_session(site: Site) -> None:
    answer = await site.enter()
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict", "Secure"} <= set(cookie.split("; "))
    session = site.sessions.peek(cookie.partition("=")[2].partition(";")[0])
    assert session is not None
    assert (session.token, session.name) == (TOKEN, "ada")
    assert TOKEN not in str(answer.headers) + answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_a_wrong_token_is_told_and_never_repeated(site: Site) -> None:
    answer = await site.enter("wr0ng")
    assert answer.status_code == 401
    assert "This token is not accepted" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert "wr0ng" not in answer.text
    assert "set-cookie" not in answer.headers
    assert len(site.sessions) == 0


async def test_too_many_wrong_ones_have_to_wait(site: Site) -> None:
    site.gate.error = TooMany("too many wrong tokens came from there", retry_after=29.6)
    answer = await site.enter()
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "30"
    assert "too many wrong tokens" in answer.text


async def test_nobody_to_ask_is_said_too(site: Site) -> None:
    site.gate.error = Away("the API server does not answer")
    answer = await site.enter()
    assert answer.status_code == 503
    assert "the API server does not answer" in answer.text


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ("/backends/abc/edit", "/backends/abc/edit"),
        ("/compare?model=a b", "/compare?model=a%20b"),
        ("//evil.lan", "/"),
        ("/\\evil.lan", "/"),
        ("https://evil.lan", "/"),
        ("/sign-in?next=/", "/"),
        ("/a\r\nset-cookie: x", "/"),
    ],
)
async def test_it_goes_on_where_somebody_wanted_to_within_this_site(
    site: Site, wanted: str, where: str
) -> None:
    answer = await site.enter(path=f"/sign-in?{urlencode({'next': wanted})}")
    assert answer.headers["location"] == where


async def test_a_form_that_is_too_long_is_no_token(site: Site) -> None:
    assert (await site.enter("a" * LONGEST)).status_code == 401


async def test_signing_out_ends_the_session_and_its_pages(site: Site) -> None:
    key = (await site.enter()).cookies[COOKIE]
    answer = await site.client.post("/sign-out", headers={"cookie": f"{COOKIE}={key}"})
    assert answer.headers["location"] == "/sign-in"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert site.sessions.peek(key) is None
    assert [session.id for session in site.ended] == [key]


async def test_a_cookie_of_no_session_is_taken_away(site: Site) -> None:
    answer = await site.client.get("/sign-in", headers={"cookie": f"{COOKIE}=old"})
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert "set-cookie" not in (await site.client.get("/sign-in")).headers


async def test_signing_in_anew_ends_the_session_before(site: Site) -> None:
    key = (await site.enter()).cookies[COOKIE]
    again = await site.enter(cookie=f"{COOKIE}={key}")
    assert again.cookies[COOKIE] != key
    assert site.sessions.peek(key) is None


async def test_it_says_where_the_token_is(site: Site) -> None:
    assert "admin.token" in (await site.client.get("/sign-in")).text


async def test_its_own_files_and_no_others_are_served(site: Site) -> None:
    answer = await site.client.get("/_page/style.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert (await site.client.get("/_page/session.py")).status_code == 404
    assert (await site.client.get("/_page/..%2Fsession.py")).status_code == 404
