"""Somebody at the page: what they see it by, what they use it with, and what they can do.

    await desk.hands.press(desk.page.get_by_role("button", name="Save"))     # by mouse, or by Tab

Tests that are marked with `every_way` are run in each of `WAYS`.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from parts.up import Up

#: Milliseconds that anything on a page may take.
PATIENCE = 15_000

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True, slots=True)
class Way:
    """How a page is seen and used."""

    scheme: Any = "light"
    width: int = 1280
    keyboard: bool = False

    def __str__(self) -> str:
        hands = "keyboard" if self.keyboard else "mouse"
        return f"{hands}-{self.scheme}-{self.width}"


#: By mouse and by keyboard alone, in both schemes, on a desk and on a phone.
WAYS = (
    Way(),
    Way(scheme="dark", keyboard=True),
    Way(scheme="dark", width=360),
)


every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@dataclass(slots=True)
class Hands:
    """How somebody uses a page: by mouse, or by keyboard alone."""

    page: Page
    keyboard: bool = False

    async def press(self, what: Locator) -> None:
        """Press a button, follow a link, tick a box."""
        if not self.keyboard:
            await what.click()
            return
        await self.reach(what)
        box = await what.evaluate("e => e.tagName === 'INPUT'")
        await self.page.keyboard.press("Space" if box else "Enter")

    async def type(self, what: Locator, text: str) -> None:
        """Have this text in a field."""
        if not self.keyboard:
            await what.fill(text)
            return
        await self.reach(what)
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.press("Delete")
        await self.page.keyboard.type(text)

    async def choose(self, what: Locator, text: str) -> None:
        """Choose from a list by the text."""
        if not self.keyboard:
            await what.select_option(label=text)
            return
        await self.reach(what)
        await self.page.keyboard.type(text)
        await self.page.keyboard.press("Enter")
        await expect(what.locator("option:checked")).to_have_text(text)

    async def reach(self, what: Locator) -> None:
        """Have the focus there, by Tab alone, and see that it is shown."""
        await expect(what).to_be_enabled()
        for _ in range(400):
            if await what.evaluate("e => e === document.activeElement"):
                shown = await what.evaluate("e => getComputedStyle(e).outlineStyle")
                assert shown != "none", f"nobody sees that {what} has the focus"
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"{what} can't be reached by Tab")


@dataclass(slots=True)
class Desk:
    """A page that is signed in, and the server behind it."""

    page: Page
    up: Up
    hands: Hands
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def main(self) -> Locator:
        """What is in the middle of the page."""
        return self.page.locator("main#content")

    async def go(self, path: str) -> None:
        """Open a path, and wait until it is alive: pressed buttons would be lost before."""
        await self.page.goto(f"{self.up.admin}{path}")
        await self.alive()

    async def alive(self) -> None:
        """Wait until the page hears the server."""
        await expect(self.main).to_be_visible()
        await self.page.wait_for_function("window.did_handshake === true", timeout=PATIENCE)

    async def sign_in(self, token: str | None = None) -> None:
        """Sign in by the form that is shown."""
        await self.hands.type(self.page.get_by_label("Token"), token or self.up.token)
        await self.hands.press(self.page.get_by_role("button", name="Sign in"))

    async def told(self, text: str | re.Pattern[str]) -> None:
        """Wait until the page says that this was done, or why not."""
        await expect(self.page.locator(".toasts")).to_contain_text(text)

    def row(self, model: str) -> Locator:
        """The line of a model in the list."""
        link = self.page.get_by_role("link", name=model, exact=True)
        return self.page.get_by_role("row").filter(has=link)
