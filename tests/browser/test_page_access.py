"""Whoever can't see well, has no mouse, or has a phone: every view, in both schemes."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import expect

from browser.desk import Desk, Way

Made = Callable[..., Awaitable[dict[str, Any]]]

#: What is shown -> where; the first of braces is a backend's uid, the second its model.
VIEWS = {
    "list": "/",
    "new": "/new",
    "overview": "/backends/{0}",
    "settings": "/backends/{0}/edit",
    "history": "/backends/{0}/history",
    "try": "/backends/{0}/try",
    "compare": "/compare?model={1}",
    "routers": "/routers",
    "missing": "/backends/nobody",
}


@pytest_asyncio.fixture(loop_scope="session")
async def shown(made: Made, api: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    """A backend with targets, a history and some traffic."""
    target = {"type": "mlx", "endpointURL": "http://127.0.0.1:9", "tier": 0}
    targets = [{"name": name, **target} for name in ("mac-a", "mac-b")]
    backend = await made(backend_type=None, targets=targets, description="Shown to axe.")
    assert (await api.put(f"/{backend['uid']}", json={"priority": 8})).is_success
    records = [
        {
            "request_id": uuid.uuid4().hex,
            "at": time.time() - 60 * place,
            "model": backend["model_name"],
            "backend_type": kind,
            "outcome": "ok",
            "total_seconds": 1 + place / 50,
            "first_token_seconds": 0.2,
            "decode_tokens_per_second": 40.0 + place,
        }
        for kind in ("mlx", "ollama")
        for place in range(25)
    ]
    assert (await api.post("/usage", json={"records": records})).is_success
    yield backend


async def audit(desk: Desk) -> list[str]:
    """What axe finds that is serious or worse."""
    # NB: it is handed over by the browser's own protocol, which no policy of a page is about.
    await desk.page.evaluate(f"{AXE_SCRIPT};0")
    # NB: axe makes style elements of its own to look at sheets, which the policy refuses.
    found = await desk.page.evaluate("axe.run({preload: false})")
    desk.problems[:] = [one for one in desk.problems if "Applying inline style" not in one]
    return [
        json.dumps({"rule": one["id"], "at": [node["html"][:200] for node in one["nodes"]]})
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("way", [Way(), Way(scheme="dark")], ids=str)
async def test_no_view_has_a_serious_fault(desk: Desk, shown: dict[str, Any]) -> None:
    faults = {}
    for name, path in VIEWS.items():
        await desk.go(path.format(shown["uid"], shown["model_name"]))
        if name == "settings":
            await desk.page.evaluate(
                "document.querySelectorAll('details').forEach(d => d.open = 1)"
            )
        if name == "overview":
            await desk.page.get_by_role("button", name="Delete …").click()
            await expect(desk.page.get_by_role("dialog")).to_be_visible()
            faults["dialog"] = await audit(desk)
            await desk.page.keyboard.press("Escape")
        faults[name] = await audit(desk)
    assert {name: found for name, found in faults.items() if found} == {}


@pytest.mark.parametrize("way", [Way(), Way(scheme="dark")], ids=str)
async def test_the_sign_in_has_no_serious_fault(visitor: Desk) -> None:
    await visitor.page.goto(f"{visitor.up.admin}/sign-in")
    assert await audit(visitor) == []


@pytest.mark.parametrize("way", [Way(width=360)], ids=str)
async def test_no_view_is_wider_than_a_phone(desk: Desk, shown: dict[str, Any]) -> None:
    for path in VIEWS.values():
        await desk.go(path.format(shown["uid"], shown["model_name"]))
        wide = await desk.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, path


async def test_the_first_tab_skips_to_the_content(desk: Desk) -> None:
    await desk.go("/")
    await desk.page.keyboard.press("Tab")
    skip = desk.page.get_by_role("link", name="Skip to the content")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await desk.page.keyboard.press("Enter")
    await expect(desk.main).to_be_focused()


async def test_landmarks_and_headings_tell_where_things_are(
    desk: Desk, shown: dict[str, Any]
) -> None:
    for path in VIEWS.values():
        await desk.go(path.format(shown["uid"], shown["model_name"]))
        page = desk.page
        await expect(page.get_by_role("banner")).to_have_count(1)
        await expect(page.get_by_role("main")).to_have_count(1)
        await expect(page.get_by_role("navigation", name="Main")).to_have_count(1)
        await expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert (await page.title()).endswith(" · LLM backends")
        assert await page.locator("html").get_attribute("lang") == "en-US"


async def test_a_dialog_keeps_the_focus_in_it(desk: Desk, shown: dict[str, Any]) -> None:
    await desk.go(f"/backends/{shown['uid']}")
    await desk.page.get_by_role("button", name="Delete …").click()
    dialog = desk.page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    for _ in range(8):
        await desk.page.keyboard.press("Tab")
        # NB: between its last and its first control a browser's own bar may have the focus.
        inside = (
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
        assert await desk.page.evaluate(inside)


async def test_nothing_moves_for_who_wants_no_motion(desk: Desk) -> None:
    await desk.go("/")
    await desk.page.emulate_media(reduced_motion="reduce")
    moving = """[...document.querySelectorAll('*')].filter(e => {
        const s = getComputedStyle(e);
        const still = s.transitionDuration === '0s' || s.transitionProperty === 'none';
        return s.animationName !== 'none' || !still;
    }).filter(e => e.closest('main, header')).length"""
    assert await desk.page.evaluate(moving) == 0
