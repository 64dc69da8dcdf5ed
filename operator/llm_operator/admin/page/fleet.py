"""The routers: which there are, what each runs, and what it could not take."""

from collections.abc import Mapping, Sequence

from llm_operator.admin.backends import Standing
from llm_operator.admin.page import words
from llm_operator.admin.page.frame import Frame, frame
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Tag, restate
from llm_operator.admin.page.words import Saying, Tone
from llm_operator.routers.report import Answer, Report, RouteReport, Unreachable
from llm_operator.routers.router import DIGITS, Router

#: Backends that somebody may see, by uid.
Known = Mapping[str, Standing]

#: Routes of a router that are listed.
MOST = 200

EMPTY_STANDALONE = "llmb up runs one; it seems to have ended."
EMPTY_CLUSTER = (
    "A router is a container beside an application. Add it to a pod as docs/router.md says, and it "
    "shows up here."
)


class Card:
    """One router, which is shown anew without being drawn anew: what was opened stays open."""

    def __init__(self, router: Router) -> None:
        self._routes: object = None
        with Tag("section", cls="card"):
            with Tag("div", cls="head"):
                with Tag("div"):
                    Tag("h2", router.name)
                    Tag("span", f"in {router.namespace}", cls="sub")
                self._state = Tag("span", "")
            self._why = Tag("p", "", hidden=True)
            self._runs = Tag("div")
            with self._runs:
                with Tag("dl", cls="figures"):
                    self._figures = {
                        name: _figure(name) for name in ("Configuration", "Models", "Targets")
                    }
                with Tag("details", cls="more"):
                    Tag("summary", f"What {router.name} routes")
                    self._table(router.name)

    def show(self, router: Router, answer: Answer, known: Known, *, alone: bool) -> None:
        """Say what it says now."""
        restate(self._state, saying(router, answer, alone=alone))
        self._runs.show(isinstance(answer, Report))
        if isinstance(answer, Unreachable):
            self._why.look("")
            self._why.say(words.sentence(answer.reason))
            self._why.show(True)
            return
        self._why.look("notice bad")
        self._why.say(f"It keeps its last good configuration: {answer.rejected}")
        self._why.show(bool(answer.rejected))
        targets = sum(len(one.targets) for one in answer.routes.values())
        self._figures["Configuration"].say(answer.checksum[:DIGITS] or "none yet")
        self._figures["Models"].say(f"{len(answer.routes):,}")
        self._figures["Targets"].say(f"{targets:,}")
        routes = [_route(uid, route, known) for uid, route in answer.routes.items()]
        if routes != self._routes:
            self._routes = routes
            self._list(sorted(routes))

    def _table(self, name: str) -> None:
        # NB: wide tables scroll by themselves, which needs the keyboard too.
        around = Tag("div", cls="inside scroll", tabindex="0", role="region")
        around.put(aria_label=f"Routes of {name}")
        with around, Tag("table"):
            with Tag("thead"), Tag("tr"):
                for column in ("Backend", "Generation", "Targets"):
                    Tag("th", column, scope="col")
            self._body = Tag("tbody")
        self._rest = Tag("p", "", cls="hint inside", hidden=True)

    def _list(self, routes: Sequence[tuple[str, str, str]]) -> None:
        self._body.clear()
        with self._body:
            for cells in routes[:MOST]:
                with Tag("tr"):
                    for cell in cells:
                        Tag("td", cell)
        self._rest.say(f"The first {MOST} of {len(routes):,} are shown.")
        self._rest.show(len(routes) > MOST)


class Routers:
    """The view."""

    def __init__(self, visit: Visit, around: Frame) -> None:
        self._visit = visit
        self._frame = around
        self._cards: dict[str, Card] = {}
        with Tag("div", cls="head"):
            Tag("h1", "Routers")
            self._count = Tag("span", "", cls="sub", role="status")
        self._list = Tag("div")
        self._empty = Tag("section", cls="empty", hidden=True)
        with self._empty:
            Tag("h2", "There is no router")
            Tag("p", EMPTY_STANDALONE if visit.admin.standalone else EMPTY_CLUSTER)

    async def look(self) -> None:
        """Show what they say now."""
        caller = await self._visit.caller()
        # NB: who may list no backend sees no router either.
        standings = await self._visit.admin.backends.list(caller)
        self._frame.weather(database=all(one.totals is not None for one in standings))
        told = await self._visit.admin.fleet.list()
        seen = {one.backend.resource.identity.namespace for one in standings}
        told = [one for one in told if one[0].namespace in seen or self._visit.admin.standalone]
        self._show(told, {one.backend.uid: one for one in standings})

    def _show(self, told: Sequence[tuple[Router, Answer]], known: Known) -> None:
        self._count.say(words.several(len(told), "router"))
        self._empty.show(not told)
        if [router.uid for router, _ in told] != list(self._cards):
            self._list.clear()
            with self._list:
                self._cards = {router.uid: Card(router) for router, _ in told}
        checksums = {answer.checksum for _, answer in told if isinstance(answer, Report)}
        for router, answer in told:
            self._cards[router.uid].show(router, answer, known, alone=len(checksums) < 2)


def _figure(name: str) -> Tag:
    with Tag("div"):
        Tag("dt", name)
        return Tag("dd", "", cls="mono" if name == "Configuration" else "")


def _route(uid: str, route: RouteReport, known: Known) -> tuple[str, str, str]:
    standing = known.get(uid)
    name = standing.backend.model if standing else "not yours to see"
    states = ", ".join(f"{one.name}: {one.state}" for one in route.targets)
    return name, _generation(route.generation, standing), states


def _generation(generation: int, standing: Standing | None) -> str:
    current = standing.backend.resource.identity.generation if standing else generation
    return str(generation) if generation == current else f"{generation}, the newest is {current}"


def saying(router: Router, answer: Answer, *, alone: bool) -> Saying:
    """How a router is; `alone`: all of them have the same configuration."""
    if isinstance(answer, Unreachable):
        ending = router.terminating or not router.running
        return Saying(Tone.IDLE, "Ending") if ending else Saying(Tone.BAD, "Does not answer")
    if answer.rejected:
        return Saying(Tone.BAD, "Refuses its configuration")
    if not answer.checksum:
        return Saying(Tone.BUSY, "Has no configuration yet")
    return Saying(Tone.GOOD, "Up to date") if alone else Saying(Tone.BUSY, "Differs from others")


async def show(visit: Visit) -> None:
    """Draw the view and keep it up to date."""
    with frame(visit, title="Routers", path="/routers") as around:
        view = Routers(visit, around)
        await visit.act(view.look)
    visit.follow(view.look)
