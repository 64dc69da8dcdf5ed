"""What the pages of one backend have: its name, how it is, and the way between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from llm_operator.admin.backends import Match, Standing
from llm_operator.admin.errors import AdminError, Missing
from llm_operator.admin.page import words
from llm_operator.admin.page.frame import Frame, frame
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Tag, link, restate, state

#: What is below the path of a backend -> its name.
VIEWS = {"": "Overview", "/edit": "Settings", "/history": "History", "/try": "Try it"}

GONE = "There is no such backend. It may have been deleted."


@dataclass(slots=True)
class Heading:
    """The top of a backend's page."""

    frame: Frame
    standing: Standing
    _state: Tag
    _more: Tag

    def show(self, standing: Standing) -> None:
        """Say how it is now."""
        self.standing = standing
        saying = words.headline(standing.shown())
        restate(self._state, saying)
        self._more.say(saying.more)
        self.frame.weather(database=standing.totals is not None)


@contextmanager
def page(visit: Visit, standing: Standing, view: str) -> Iterator[Heading]:
    """A page of a backend with a view in it; `view` as in `VIEWS`."""
    backend = standing.backend
    model, identity = backend.model or backend.resource.identity.name, backend.resource.identity
    with frame(visit, title=f"{model} · {VIEWS[view]}", path="/") as around:
        link("← All backends", "/", cls="crumb")
        with Tag("div", cls="head"):
            with Tag("div"):
                Tag("h1", model)
                Tag("span", f"{identity.namespace}/{identity.name}", cls="sub")
                if backend.owner is not None:
                    Tag("span", f"Managed by {backend.owner}", cls="badge")
            with Tag("div", role="status"):
                shown = state(words.headline(standing.shown()))
                more = Tag("span", "", cls="sub")
        with Tag("nav", cls="subnav", aria_label="This backend"):
            for path, name in VIEWS.items():
                here = "page" if path == view else None
                link(name, f"/backends/{backend.uid}{path}", cls="tab", aria_current=here)
            compare = urlencode({"model": model, "namespace": identity.namespace})
            link("Compare", f"/compare?{compare}", cls="tab")
        heading = Heading(around, standing, shown, more)
        heading.show(standing)
        yield heading


async def found(visit: Visit, key: str) -> Standing | None:
    """The backend; where there is none a page that says so is drawn instead."""
    try:
        return await visit.admin.backends.get(await visit.caller(), key)
    except Missing:
        sorry(visit, "No such backend", GONE)
    except AdminError as error:
        if error.status == 401:
            raise
        sorry(visit, "This can't be shown", words.sentence(error.detail))
    return None


def sorry(visit: Visit, title: str, why: str) -> None:
    """A page that says why there is nothing on it."""
    with frame(visit, title=title), Tag("section", cls="empty"):
        Tag("h1", title)
        Tag("p", why)
        link("All backends", "/", cls="button primary")


def still(standing: Standing) -> Match:
    """Whether a backend is still the one that was looked at."""
    return lambda now: now.tag == standing.tag
