"""What goes away and comes back: the server, the database, all backends."""

import asyncio
import re
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
from playwright.async_api import expect

from browser.desk import Desk

Made = Callable[..., Awaitable[dict[str, Any]]]


async def test_a_server_that_is_started_anew_is_signed_in_to_anew(desk: Desk) -> None:
    await desk.go("/routers")
    await asyncio.to_thread(desk.up.end)
    lost = desk.page.get_by_text("The connection to the server is lost.")
    await expect(lost).to_be_visible()
    await asyncio.to_thread(desk.up.start)
    await expect(desk.page.get_by_label("Token")).to_be_visible(timeout=40_000)
    await desk.sign_in()
    await desk.alive()
    await expect(desk.page).to_have_url(f"{desk.up.admin}/routers")
    await expect(lost).not_to_be_visible()


async def test_without_a_backend_it_says_what_to_do(desk: Desk, tmp_path: Path) -> None:
    resources = desk.up.data / "resources"
    await desk.go("/")
    kept = list(resources.iterdir())
    assert kept
    try:
        for file in kept:
            shutil.move(file, tmp_path)
        empty = desk.page.get_by_role("heading", name="There is no backend yet")
        await expect(empty).to_be_visible()
        await expect(desk.main).to_contain_text("folder of resources")
    finally:
        for file in kept:
            shutil.move(tmp_path / file.name, file)
    await expect(desk.row("phi3:mini"), "and it is back by itself").to_be_visible()


async def test_without_the_database_the_list_goes_on_and_says_so(desk: Desk, made: Made) -> None:
    backend = await made()
    await desk.go("/")
    pid = int((desk.up.data / "postgres" / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    held = [postmaster, *postmaster.children(recursive=True)]
    away = desk.page.get_by_text("The database does not answer")
    try:
        for one in held:
            one.send_signal(signal.SIGSTOP)
        await expect(away).to_be_visible(timeout=40_000)
        await expect(desk.row(backend["model_name"])).to_be_visible()
    finally:
        for one in held:
            one.send_signal(signal.SIGCONT)
    await expect(away).not_to_be_visible(timeout=40_000)


async def test_a_change_from_elsewhere_shows_up_by_itself_and_keeps_the_focus(
    desk: Desk, made: Made, api: Any
) -> None:
    await desk.go("/")
    backend = await made()
    await desk.page.get_by_label("Search").fill(backend["model_name"])
    row = desk.row(backend["model_name"])
    switch = row.get_by_role("switch")
    await switch.focus()
    assert (await api.post(f"/{backend['uid']}/toggle")).is_success
    await expect(row).to_contain_text("Switched off")
    await expect(switch).to_be_focused()
    await expect(desk.page.locator("nav.pager")).to_have_text(re.compile("1 backend"))
