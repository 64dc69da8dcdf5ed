"""What a backend was: its generations, what each changed, and the way back by one press."""

from datetime import UTC, datetime

from llm_operator.admin.backends import Standing
from llm_operator.admin.change import ordered
from llm_operator.admin.difference import differences
from llm_operator.admin.errors import Away
from llm_operator.admin.model import Generation
from llm_operator.admin.page import words
from llm_operator.admin.page.backend import Heading, page, still
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Handler, Tag, button, js

#: Generations that are read at once.
PAGE = 20

DONE = {"created": "Created", "changed": "Changed", "deleted": "Deleted"}


class History:
    """The view."""

    def __init__(self, visit: Visit, heading: Heading) -> None:
        self._visit = visit
        self._heading = heading
        self._key = heading.standing.backend.uid
        self._told: list[Generation] = []
        self._whole = False
        self._current = -1
        self._away = Tag("p", "", cls="notice warn", hidden=True)
        self._list = Tag("ol", cls="timeline", tabindex="-1")
        self._list.put(aria_label="Generations, newest first")
        with Tag("div", cls="pager"):
            self._more = button("Older", visit.acting(self._older), cls="quiet")

    async def look(self) -> None:
        """Show the newest, when there is a new one."""
        caller = await self._visit.caller()
        standing = await self._visit.admin.backends.get(caller, self._key)
        self._heading.show(standing)
        generation = standing.backend.resource.identity.generation
        if generation == self._current and self._told and self._told[0].generation == generation:
            return
        try:
            told = await self._visit.admin.backends.history(caller, self._key, limit=PAGE + 1)
        except Away:
            self._away.say("The history is kept in the database, which does not answer now.")
            self._away.show(True)
            return
        self._away.show(False)
        if told != self._told or generation != self._current:
            self._told, self._current = list(told), generation
            self._whole = len(told) <= PAGE
            self._draw()

    async def _older(self) -> None:
        caller = await self._visit.caller()
        last = self._told[-1].generation
        more = await self._visit.admin.backends.history(
            caller, self._key, before=last, limit=PAGE + 1
        )
        self._told += more
        self._whole = len(more) <= PAGE
        self._draw()

    def _draw(self) -> None:
        # NB: one more is read than is shown, to know what the last one changed.
        shown = self._told if self._whole else self._told[:-1]
        self._more.show(not self._whole)
        self._list.clear()
        with self._list:
            for place, one in enumerate(shown):
                before = self._told[place + 1] if place + 1 < len(self._told) else None
                self._entry(one, before)
            if not shown:
                Tag("li", "The database has not recorded anything of it yet.", cls="none")

    def _entry(self, one: Generation, before: Generation | None) -> None:
        now = datetime.now(UTC)
        current = one.generation == self._current
        with Tag("li", cls="card"):
            with Tag("div", cls="row"):
                with Tag("div"):
                    Tag("h2", f"Generation {one.generation}")
                    by = DONE.get(one.change, one.change)
                    by += f" by {one.changed_by}" if one.changed_by else ""
                    at = one.changed_at.astimezone(UTC).strftime("%d %b %Y %H:%M UTC")
                    Tag("span", f"{by}, {words.ago(one.changed_at, now)} ({at})", cls="sub")
                if current:
                    Tag("span", "In use", cls="badge")
                elif one.change != "deleted":
                    back = button(
                        "Return to this",
                        self._returning(one.generation),
                        cls="small",
                    )
                    back.put(aria_label=f"Return to generation {one.generation}")
            _changes(one, before)

    def _returning(self, generation: int) -> Handler:
        async def back() -> None:
            standing = await self._visit.admin.backends.restore(
                await self._visit.caller(),
                self._key,
                generation,
                match=still(self._heading.standing),
            )
            now = standing.backend.resource.identity.generation
            told = f"It is as it was at generation {generation}; that is generation {now} now."
            self._heading.frame.say(told)
            await self.look()
            # NB: the button that had the focus is gone.
            js("focus", self._list.html_id)

        return self._visit.acting(back)


def _changes(one: Generation, before: Generation | None) -> None:
    found = differences(ordered(before.spec) if before else {}, ordered(one.spec))
    with Tag("ul", cls="diff", aria_label=f"What generation {one.generation} changed"):
        for each in found:
            with Tag("li"):
                Tag("code", each.path)
                if each.before is not None:
                    Tag("del", words.value(each.before))
                if each.before is not None or before is not None:
                    Tag("span", "→", aria_label="became")
                Tag("ins", words.value(each.after))
        if not found:
            Tag("li", "Nothing of its settings.", cls="sub")


async def show(visit: Visit, standing: Standing) -> None:
    """Draw the view and keep it up to date."""
    with page(visit, standing, "/history") as heading:
        view = History(visit, heading)
        await visit.act(view.look)
    visit.follow(view.look)
