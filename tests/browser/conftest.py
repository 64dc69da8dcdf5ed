"""The page in a real browser, of `llmb up`: real Postgres, a real router, simulated hosts.

    async def test_x(desk: Desk) -> None:      # signed in, 1280 pixels wide, in the light scheme
        await desk.go("/compare")

One server and one browser serve the whole run; each test has a context of its own, so no test sees
another's cookies. Whatever a test does, its pages may not log an error, break the page's
Content-Security-Policy, or ask any other host: that is looked at after each.

Tests run in the session's event loop, which the browser belongs to.
"""

import re
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    Playwright,
    async_playwright,
)

from browser.desk import PATIENCE, Desk, Hands, Way
from parts.absent import absent
from parts.admin import BASE
from parts.up import Up, folder

HERE = Path(__file__).parent

#: Messages of a console that a test makes on purpose: a request that is refused, a server that is
#: away.
EXPECTED = re.compile(r"Failed to load resource|WebSocket connection to|ERR_CONNECTION_REFUSED")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder in the session's loop."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def chromium() -> str:
    """The browser of the system, or the one that Playwright has installed."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    absent("Chromium", remedy="install the package chromium of the distribution")


@pytest.fixture(scope="session")
def executable() -> str:
    return chromium()


@pytest.fixture(scope="session")
def up(part_folder: Path, executable: str) -> Iterator[Up]:
    """One `llmb up` for the whole run."""
    with folder(part_folder) as made:
        made.start()
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def playwright(executable: str) -> AsyncIterator[Playwright]:
    async with async_playwright() as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(playwright: Playwright, executable: str) -> AsyncIterator[Browser]:
    # NB: Chromium's own sandbox needs user namespaces, which a container mostly has not; it sees
    # nothing here but our own pages.
    started = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
    yield started
    await started.close()


@pytest.fixture
def way() -> Way:
    """As most tests see it; a test that looks at all of them is marked with `every_way`."""
    return Way()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser, way: Way) -> AsyncIterator[BrowserContext]:
    made = await browser.new_context(
        color_scheme=way.scheme,
        viewport={"width": way.width, "height": 800},
        locale="en-GB",
        permissions=["clipboard-read", "clipboard-write"],
    )
    made.set_default_timeout(PATIENCE)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(context: BrowserContext, up: Up, way: Way) -> AsyncIterator[Desk]:
    """A browser that is not signed in."""
    page = await context.new_page()
    made = Desk(page, up, Hands(page, keyboard=way.keyboard))
    _watch(context, made)
    yield made
    foreign = [url for url in made.requests if urlsplit(url).netloc != urlsplit(up.admin).netloc]
    assert foreign == [], "no request leaves the host"
    assert made.problems == []


@pytest_asyncio.fixture(loop_scope="session")
async def desk(visitor: Desk, context: BrowserContext) -> Desk:
    """A browser that is signed in, and has no page open yet."""
    url = visitor.up.admin
    form = {"token": visitor.up.token}
    await context.request.post(f"{url}/sign-in", form=form, headers={"Origin": url})
    return visitor


@pytest_asyncio.fixture(loop_scope="session")
async def api(up: Up) -> AsyncIterator[httpx.AsyncClient]:
    """The API beside the page, for what somebody else does, and to see what became of things."""
    headers = {"Authorization": f"Bearer {up.token}"}
    async with httpx.AsyncClient(
        base_url=up.admin + BASE, headers=headers, trust_env=False, verify=False, timeout=30
    ) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def made(
    api: httpx.AsyncClient,
) -> AsyncIterator[Callable[..., Awaitable[dict[str, Any]]]]:
    """Make backends for a test, of models that no other has; they are deleted after it."""
    uids: list[str] = []

    async def make(model: str = "", **fields: Any) -> dict[str, Any]:
        given = {"model_name": model or f"model-{uuid.uuid4().hex[:8]}", "backend_type": "auto"}
        answer = await api.post(str(api.base_url).rstrip("/"), json=given | fields)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        uids.append(document["uid"])
        return document

    yield make
    for uid in uids:
        await api.delete(f"/{uid}")


def _watch(context: BrowserContext, desk: Desk) -> None:
    """Note what the pages of a browser ask for, and what goes wrong on them."""
    context.on("request", lambda request: desk.requests.append(request.url))
    context.on("weberror", lambda error: desk.problems.append(str(error.error)))

    def logged(message: Any) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            desk.problems.append(f"{message.type}: {message.text}")

    context.on("console", logged)
