"""What stands before the page: whom it lets through, and what it puts on each answer."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from llm_operator.admin.page.guard import SOCKET, Guard, matcher
from llm_operator.admin.page.session import COOKIE, Session, Sessions

PAGE = (
    "<html><head><style>a</style><script>b</script><script src='c'></script></head>"
    "<body><scripted>&lt;script></body></html>"
)


class Inner:
    """A page, which keeps whose it was."""

    def __init__(self) -> None:
        self.session: Session | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.session = scope["state"]["session"]
        answers = {"/": HTMLResponse(PAGE), "/plain": PlainTextResponse("<script>")}
        if scope["path"] == "/parts":
            parts = (PAGE[at : at + 7] for at in range(0, len(PAGE), 7))
            await StreamingResponse(parts, media_type="text/html")(scope, receive, send)
            return
        await answers[scope["path"]](scope, receive, send)


async def front(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"front {scope['path']}")(scope, receive, send)


class Served:
    """A guard, its page, and a browser that is signed in."""

    def __init__(self) -> None:
        self.sessions = Sessions(lambda: 0.0)
        self.inner = Inner()
        self.guard = Guard(self.inner, front, self.sessions)
        self.key = self.sessions.open(token="t", name="ada", peer="").id

    async def get(
        self, path: str = "/", *, method: str = "GET", cookie: bool = True, **headers: str
    ) -> httpx.Response:
        given = {"accept": "text/html", **({"cookie": f"{COOKIE}={self.key}"} if cookie else {})}
        transport = httpx.ASGITransport(self.guard)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://page.lan:8090"
        ) as client:
            return await client.request(method, path, headers=given | headers)


@pytest.fixture
def served() -> Served:
    return Served()


async def test_who_is_signed_in_gets_the_page_with_the_session(served: Served) -> None:
    answer = await served.get()
    assert answer.status_code == 200
    assert served.inner.session is served.sessions.peek(served.key)


@pytest.mark.parametrize("path", ["/", "/parts"])
async def test_each_script_and_style_gets_the_nonce_of_the_policy(
    served: Served, path: str
) -> None:
    answer = await served.get(path)
    policy = answer.headers["content-security-policy"]
    nonce = re.search(r"'nonce-([^']+)'", policy)
    assert nonce is not None
    assert re.findall(r'<(\w+) nonce="([^"]+)"', answer.text) == [
        ("style", nonce[1]),
        ("script", nonce[1]),
        ("script", nonce[1]),
    ]
    assert re.sub(r' nonce="[^"]+"', "", answer.text) == PAGE
    assert (await served.get(path)).headers["content-security-policy"] != policy


async def test_the_policy_names_no_other_host_and_no_inline_script(served: Served) -> None:
    policy = (await served.get()).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert rules["img-src"] == "'self' data:"
    assert "'unsafe-inline'" not in policy
    assert "http" not in policy
    assert "*" not in policy


async def test_text_that_is_no_page_stays_as_it_is(served: Served) -> None:
    answer = await served.get("/plain")
    assert answer.text == "<script>"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"


async def test_a_stranger_is_sent_to_the_sign_in_and_back_again(served: Served) -> None:
    answer = await served.get("/compare?model=a%20b", cookie=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=/compare%3Fmodel%3Da%2520b"
    assert (await served.get(cookie=False)).headers["location"] == "/sign-in"


async def test_a_program_without_a_session_gets_a_401(served: Served) -> None:
    assert (await served.get(cookie=False, accept="*/*")).status_code == 401
    assert (await served.get(cookie=False, method="POST")).status_code == 401


async def test_the_sign_in_is_open_to_all_and_runs_no_script(served: Served) -> None:
    answer = await served.get("/sign-in", cookie=False)
    assert answer.text == "front /sign-in"
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("origin", ["http://evil.lan", "null", "http://page.lan:9999"])
@pytest.mark.parametrize("path", ["/", "/sign-in"])
async def test_another_sites_request_is_refused(served: Served, path: str, origin: str) -> None:
    assert (await served.get(path, method="POST", origin=origin)).status_code == 403


async def test_our_own_origin_is_fine_also_behind_a_proxy_that_ends_tls(served: Served) -> None:
    for origin in ("http://page.lan:8090", "https://page.lan:8090"):
        assert (await served.get(origin=origin)).status_code == 200


async def connected(served: Served, **headers: str) -> list[Message]:
    """What a socket is answered."""
    sent: list[Message] = []
    incoming: AsyncIterator[Message] = _one({"type": "websocket.connect"})
    scope = {
        "type": "websocket",
        "path": f"{SOCKET}socket.io/",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> Message:
        return await anext(incoming)

    async def send(message: Message) -> None:
        sent.append(message)

    await served.guard(scope, receive, send)
    return sent


async def _one(message: Message) -> AsyncIterator[Message]:
    yield message


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.lan"},
        {},
        {"origin": "http://page.lan:8090", "cookie": f"{COOKIE}=wrong"},
    ],
    ids=["another site", "no origin", "no session"],
)
async def test_a_socket_from_elsewhere_is_closed_before_it_is_open(
    served: Served, headers: dict[str, str]
) -> None:
    given = {"host": "page.lan:8090", "cookie": f"{COOKIE}={served.key}"} | headers
    sent = await connected(served, **given)
    assert [one["type"] for one in sent] == ["websocket.close"]
    assert served.inner.session is None


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/", True),
        ("/new", True),
        ("/backends/abc", True),
        ("/backends/abc/edit", True),
        ("/sign-in", True),
        ("/_nicegui/3/static/a.js", True),
        ("/_nicegui_ws/socket.io/", True),
        ("/_page/style.css", True),
        ("/api/llm-backends", False),
        ("/api", False),
        ("/docs", False),
        ("/healthz", False),
        ("/backends/abc/other", False),
        ("/newer", False),
    ],
)
def test_the_page_takes_its_own_paths_and_no_others(path: str, ours: bool) -> None:
    takes = matcher("/", "/new", r"/backends/[^/]+(/edit)?")
    assert takes(path) is ours
