"""What every page has: the way around, who is signed in, what is away, what happened last.

It draws; what is in the middle is a view's. Landmarks: banner, navigation, main. Results are told
in live regions, so that somebody who does not see the page hears them.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from nicegui import Client, ui

from llm_operator.admin.page.guard import FILES, SIGN_OUT
from llm_operator.admin.page.session import Scheme
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Tag, button, copy, js, link

HEAD = (
    f'<link rel="stylesheet" href="{FILES}style.css"><script src="{FILES}page.js" defer></script>'
)

#: Path -> what it is called in the navigation.
PAGES = {"/": "Backends", "/compare": "Compare", "/routers": "Routers"}

SCHEMES = {
    Scheme.SYSTEM: "Colours: system",
    Scheme.LIGHT: "Colours: light",
    Scheme.DARK: "Colours: dark",
}

#: Seconds that it is shown what was done.
SHOWN = 8.0

STALE = (
    "The API server does not answer, so this may be old, and nothing can be changed until it is "
    "back. Routers go on as they are."
)
STALE_FOLDER = "The folder of resources can't be read now, so this may be old."
NO_DATABASE = (
    "The database does not answer: history, numbers and comparisons are missing until it is back. "
    "Requests are served all the same."
)


class Frame:
    """A page's surroundings, and where it says what happened."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._fading: asyncio.TimerHandle | None = None
        self._said: Tag
        self._problem: Tag
        self._problem_text: Tag
        self._stale: Tag
        self._database: Tag
        self._yaml: Tag
        self._commit: Tag

    def say(self, text: str) -> None:
        """Tell what was done."""
        self._problem.show(False)
        self._said.say(text)
        self._said.show(bool(text))
        if self._fading is not None:
            self._fading.cancel()
        self._fading = asyncio.get_running_loop().call_later(SHOWN, self._said.show, False)

    def complain(self, text: str, more: Mapping[str, object]) -> None:
        """Tell why something was not done; what is to be committed instead is shown."""
        self._said.show(False)
        shown = text[:1].upper() + text[1:]
        self._problem_text.say(shown if shown.endswith((".", "?", "!")) else f"{shown}.")
        self._problem.show(True)
        if yaml := more.get("yaml"):
            self._yaml.say(str(yaml))
            js("open", self._commit.html_id)

    def weather(self, *, database: bool) -> None:
        """Tell what is away."""
        self._stale.show(not self._visit.admin.store.fresh)
        self._database.show(not database)

    def build(self, *, title: str, path: str) -> None:
        """Draw everything around; the view goes on in `main`."""
        link("Skip to the content", "#content", cls="skip")
        self._top(path)
        Tag(
            "div",
            "The connection to the server is lost. What you see may be old; trying again …",
            id="lost",
            cls="banner bad",
            role="alert",
            hidden=True,
        )
        standalone = self._visit.admin.standalone
        self._stale = Tag(
            "div", STALE_FOLDER if standalone else STALE, cls="banner warn", role="status"
        )
        self._database = Tag("div", NO_DATABASE, cls="banner warn", role="status", hidden=True)
        self._stale.show(not self._visit.admin.store.fresh)
        with Tag("div", cls="toasts"):
            with Tag("div", aria_live="polite", role="status"):
                self._said = Tag("p", "", cls="toast good", hidden=True)
            with Tag("div", aria_live="assertive", role="alert"):
                self._problem = Tag("div", cls="toast bad", hidden=True)
                with self._problem:
                    self._problem_text = Tag("p", "")
                    button(
                        "Close",
                        lambda: self._problem.show(False),
                        cls="quiet small",
                        aria_label="Close the message",
                    )
        self._visit.complain = self.complain
        self._visit.title(title)

    def to_commit(self) -> None:
        """Draw the dialog with what is to be committed."""
        with dialog("This backend is managed by a pipeline") as self._commit:
            Tag("p", "It would change it back. Commit this to its repository instead:")
            self._yaml = Tag("pre", "", cls="code", tabindex="0", aria_label="YAML to commit")
            with Tag("div", cls="actions"):
                copy(self._yaml, told=self.say)
                button("Close", lambda: js("close", self._commit.html_id), cls="primary")

    def _top(self, path: str) -> None:
        session = self._visit.session
        with Tag("header", cls="top"):
            with Tag("a", href="/", cls="brand"):
                Tag("img", src=f"{FILES}icon.svg", alt="", width="28", height="28")
                Tag("span", "LLM backends")
            with Tag("nav", aria_label="Main"):
                for href, name in PAGES.items():
                    here = "page" if href == path else None
                    link(name, href, cls="tab", aria_current=here)
            with Tag("div", cls="who"):
                with Tag("select", cls="scheme", aria_label="Colours") as schemes:
                    for scheme, name in SCHEMES.items():
                        chosen = scheme is session.scheme
                        Tag("option", name, value=scheme).once(selected=chosen)
                schemes.when("change", self._recolour, sends="e.target.value")
                Tag("span", session.name, cls="name", title=f"Signed in as {session.name}")
                with Tag("form", method="post", action=SIGN_OUT):
                    Tag("button", "Sign out", cls="button quiet small", type="submit")

    def _recolour(self, name: str) -> None:
        if name in tuple(Scheme):
            self._visit.session.scheme = Scheme(name)
            js("scheme", name)


@contextmanager
def frame(visit: Visit, *, title: str, path: str = "") -> Iterator[Frame]:
    """A page with a view in it.

    Args:
        title: of the page.
        path: of the navigation's entry that it is under.
    """
    _bare(visit.client)
    ui.add_head_html(HEAD + _colours(visit.session.scheme))
    made = Frame(visit)
    made.build(title=title, path=path)
    with Tag("main", id="content", tabindex="-1"):
        yield made
        made.to_commit()


@contextmanager
def dialog(title: str) -> Iterator[Tag]:
    """A modal dialog, closed at first; `js("open", ...)` opens it."""
    with Tag("dialog", cls="dialog") as made:
        heading = Tag("h2", title)
        made.put(aria_labelledby=heading.html_id)
        yield made


def _bare(client: Client) -> None:
    """Take NiceGUI's own layout away: its main would hold our header too."""
    client.content.move(client.layout)
    client.page_container.delete()


def _colours(scheme: Scheme) -> str:
    """NB: only words of `Scheme` get into the page's head."""
    return "" if scheme is Scheme.SYSTEM else f"<style>:root{{color-scheme:{scheme}}}</style>"
