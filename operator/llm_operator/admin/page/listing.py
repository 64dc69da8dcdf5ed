"""The list of backends, as they are now.

It shows one page of those that somebody wants to see, and keeps the lines that are there: who is
about to press a button stays on it while numbers around it move.
"""

from dataclasses import replace

from llm_operator.admin.page import words
from llm_operator.admin.page.frame import Frame, frame
from llm_operator.admin.page.rows import PAGE, Listed, Query, Row, Sort, choose, sorted_by
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import (
    Handler,
    Tag,
    button,
    choice,
    field,
    js,
    link,
    options_of,
    restate,
    state,
)
from llm_operator.admin.page.words import Tone

COLUMNS = {
    Sort.MODEL: "Model",
    Sort.TYPE: "Type",
    Sort.STATE: "State",
    None: "Targets",
    Sort.ROUTERS: "Routers",
    Sort.SPEED: "Tokens/s",
}

TONES = {
    "": "Any state",
    Tone.GOOD: "Serving",
    Tone.WARN: "Degraded",
    Tone.BAD: "Not serving",
    Tone.BUSY: "On its way",
    Tone.IDLE: "Switched off",
}

ORDERS = {
    "model": "Model",
    "type": "Type",
    "state": "State, worst first",
    "routers": "Routers",
    "speed": "Tokens/s",
}

EMPTY_STANDALONE = (
    "Make the first one here, or put a YAML file into the folder of resources: it shows up within "
    "two seconds."
)
EMPTY_CLUSTER = (
    "Make the first one here, or apply an LLMBackend by kubectl or from a repository: it shows up "
    "within two seconds."
)


class Line:
    """One line of the table, which says what its row says."""

    def __init__(self, row: Row, switch: Handler) -> None:
        self.row: Row | None = None
        self.tag = Tag("tr", role="row")
        with self.tag:
            with _cell("Model", cls="model"):
                self._link = link(row.model, f"/backends/{row.uid}", cls="strong")
                self._name = Tag("span", "", cls="sub")
                self._owner = Tag("span", "", cls="badge")
            with _cell("Type"):
                self._type = Tag("span", "", cls="kind")
            with _cell("State"):
                self._state = state(row.saying)
            with _cell("Targets"):
                self._targets = Tag("span", cls="targets")
            with _cell("Routers", cls="figure"):
                self._routers = Tag("span", "")
            with _cell("Tokens/s", cls="figure"):
                self._speed = Tag("span", "")
            with _cell("", cls="act"):
                self._toggle = Tag("button", "", cls="switch", type="button", role="switch")
                self._toggle.when("click", switch)
        self.show(row)

    def show(self, row: Row) -> None:
        """Say what this row says."""
        if row == self.row:
            return
        self._link.say(row.model)
        self._name.say(f"{row.namespace}/{row.name}")
        self._owner.say(row.owner or "")
        self._owner.show(bool(row.owner))
        self._type.say(row.type)
        restate(self._state, row.saying)
        self._state.put(title=row.saying.more or None)
        if self.row is None or self.row.targets != row.targets:
            self._targets.clear()
            with self._targets:
                for name, saying in row.targets:
                    Tag("span", f"{name}: {saying.text.lower()}", cls=f"state small {saying.tone}")
                if not row.targets:
                    Tag("span", "–")
        self._routers.say(row.routers or "–")
        self._speed.say(words.number(row.speed))
        self._toggle.put(
            aria_checked="true" if row.enabled else "false",
            aria_label=f"{row.model} in {row.namespace} is switched on",
        )
        self.row = row


class Listing:
    """The view."""

    def __init__(self, visit: Visit, around: Frame, query: Query) -> None:
        self._visit = visit
        self._frame = around
        self._query = query
        self._lines: dict[str, Line] = {}
        self._types: tuple[str, ...] = ()
        self._build()

    def _build(self) -> None:
        with Tag("div", cls="head"):
            Tag("h1", "Backends")
            link("New backend", "/new", cls="button primary")
        self._tools = Tag("div", cls="tools", role="search", aria_label="Backends")
        with self._tools:
            block, key = field("Search", cls="grow")
            with block:
                search = Tag("input", id=key, type="search", autocomplete="off")
                search.once(value=self._query.text).put(placeholder="Model, name or namespace")
                search.when("input", self._search, sends="e.target.value")
            self._kinds = choice("Type", {}, "", self._type)
            tones = {str(tone): text for tone, text in TONES.items()}
            choice("State", tones, self._query.tone, self._tone)
            with Tag("div", cls="narrow-only"):
                choice("Sort by", ORDERS, self._query.sort, self._sort)
        self._empty = Tag("section", cls="empty", hidden=True)
        with self._empty:
            Tag("h2", "There is no backend yet")
            Tag("p", EMPTY_STANDALONE if self._visit.admin.standalone else EMPTY_CLUSTER)
            link("New backend", "/new", cls="button primary")
        self._table()
        with Tag("nav", cls="pager", aria_label="Pages of the list"):
            self._back = button("Previous", lambda: self._turn(-1), cls="quiet")
            self._count = Tag("span", "", role="status")
            self._next = button("Next", lambda: self._turn(1), cls="quiet")

    def _table(self) -> None:
        self._headers: dict[Sort, Tag] = {}
        self._found = Tag("div", cls="card table-card")
        with self._found, Tag("table", role="table", cls="list", aria_label="Backends"):
            with Tag("thead", role="rowgroup"), Tag("tr", role="row"):
                for sort, name in COLUMNS.items():
                    right = "figure" if sort in (Sort.ROUTERS, Sort.SPEED) else ""
                    if sort is None:
                        Tag("th", name, role="columnheader", scope="col")
                        continue
                    header = Tag("th", role="columnheader", scope="col", cls=right)
                    with header:
                        button(name, self._ordering(sort), cls="sort")
                    self._headers[sort] = header
                Tag("th", "On", role="columnheader", scope="col", cls="act")
            self._body = Tag("tbody", role="rowgroup")
        self._none = Tag("p", "No backend is like that. Search for something else.", cls="none")
        self._none.show(False)

    async def look(self) -> None:
        """Show what there is now."""
        caller = await self._visit.caller()
        standings = await self._visit.admin.backends.list(caller)
        rows = self._visit.parts.rows.of(standings)
        listed = choose(rows, self._query)
        self._frame.weather(database=all(one.numbers for one in rows))
        self._show(listed)

    def _show(self, listed: Listed) -> None:
        nothing = listed.total == 0
        self._empty.show(nothing)
        self._tools.show(not nothing)
        self._found.show(bool(listed.found))
        self._none.show(not nothing and not listed.found)
        self._kinds_of(listed.types)
        self._place(listed.rows)
        for sort, header in self._headers.items():
            way = "descending" if self._query.down else "ascending"
            header.put(aria_sort=way if sort is self._query.sort else None)
        last = listed.first + len(listed.rows)
        told = f"{listed.first + 1:,}–{last:,} of {words.several(listed.found, 'backend')}"
        one = listed.found <= PAGE
        self._count.say(words.several(listed.found, "backend") if one else told)
        self._back.show(not one)
        self._next.show(not one)
        self._back.put(disabled=listed.first == 0)
        self._next.put(disabled=last >= listed.found)

    def _place(self, rows: tuple[Row, ...]) -> None:
        """Have these lines in this order, and keep those that are there."""
        wanted = {row.uid for row in rows}
        for uid in [uid for uid in self._lines if uid not in wanted]:
            self._lines.pop(uid).tag.delete()
        for place, row in enumerate(rows):
            line = self._lines.get(row.uid)
            if line is None:
                with self._body:
                    line = self._lines[row.uid] = Line(row, self._switching(row.uid))
            line.show(row)
            if self._body.default_slot.children[place] is not line.tag:
                line.tag.move(target_index=place)

    def _kinds_of(self, types: tuple[str, ...]) -> None:
        if types == self._types:
            return
        self._types = types
        options_of(self._kinds, {"": "Any type", **{one: one for one in types}}, self._query.type)

    def _switching(self, uid: str) -> Handler:
        async def switch() -> None:
            standing = await self._visit.admin.backends.toggle(await self._visit.caller(), uid)
            on = standing.shown()["enabled"]
            self._frame.say(f"{standing.backend.model} is switched {'on' if on else 'off'}.")
            await self.look()

        return self._visit.acting(switch)

    def _ordering(self, sort: Sort) -> Handler:
        async def order() -> None:
            await self._ask(sorted_by(self._query, sort))

        return self._visit.acting(order)

    async def _search(self, text: str) -> None:
        await self._visit.act(lambda: self._ask(replace(self._query, text=text[:200], page=0)))

    async def _type(self, name: str) -> None:
        await self._visit.act(lambda: self._ask(replace(self._query, type=name, page=0)))

    async def _tone(self, tone: str) -> None:
        await self._visit.act(lambda: self._ask(replace(self._query, tone=tone, page=0)))

    async def _sort(self, name: str) -> None:
        chosen = replace(self._query, sort=Sort(name), down=name == Sort.SPEED, page=0)
        await self._visit.act(lambda: self._ask(chosen))

    async def _turn(self, pages: int) -> None:
        page = max(self._query.page + pages, 0)
        await self._visit.act(lambda: self._ask(replace(self._query, page=page)))

    async def _ask(self, query: Query) -> None:
        self._query = query
        js("address", query.address)
        await self.look()


async def show(visit: Visit, query: Query) -> None:
    """Draw the view and keep it up to date."""
    with frame(visit, title="Backends", path="/") as around:
        view = Listing(visit, around, query)
        await visit.act(view.look)
    visit.follow(view.look)


def _cell(name: str, *, cls: str = "") -> Tag:
    return Tag("td", role="cell", cls=cls, data_label=name)
