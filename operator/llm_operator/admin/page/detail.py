"""One backend: how it is, in words, and what can be done with it at once.

Switching the type and switching it off are one press each; deleting asks for the name.
"""

from datetime import UTC, datetime

from llm_operator.admin.backends import Standing
from llm_operator.admin.page import words
from llm_operator.admin.page.backend import Heading, page
from llm_operator.admin.page.frame import dialog
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Handler, Tag, button, copy, field, js, state
from llm_operator.admin.page.words import Saying
from llm_operator.admin.store.commit import commit_yaml
from llm_operator.resource.model import BackendType

TYPES = {
    BackendType.OLLAMA: "Ollama",
    BackendType.MLX: "MLX",
    BackendType.OPENAI: "OpenAI API",
    BackendType.AUTO: "Auto",
}


class Detail:
    """The view."""

    def __init__(self, visit: Visit, heading: Heading) -> None:
        self._visit = visit
        self._heading = heading
        self._key = heading.standing.backend.uid
        self._shown: object = None
        self._controls()
        with Tag("div", cls="grid"):
            with Tag("section", cls="card"):
                Tag("h2", "Targets")
                self._targets = Tag("ul", cls="facts")
            with Tag("section", cls="card"):
                Tag("h2", "Traffic")
                self._traffic = Tag("dl", cls="figures")
            with Tag("section", cls="card"):
                Tag("h2", "How it stands")
                self._conditions = Tag("ul", cls="facts")
            self._manifest()
        self._end()
        self._show(heading.standing)

    async def look(self) -> None:
        """Show how it is now."""
        caller = await self._visit.caller()
        self._show(await self._visit.admin.backends.get(caller, self._key))

    def _controls(self) -> None:
        self._segments: dict[str, Tag] = {}
        with Tag("section", cls="card"):
            Tag("h2", "Switch")
            with Tag("div", cls="tools"):
                with Tag("div", cls="field"):
                    label = Tag("span", "Served by", cls="sub")
                    with Tag(
                        "div", cls="segments", role="group", aria_labelledby=label.html_id
                    ) as self._types:
                        for kind, name in TYPES.items():
                            self._segments[kind] = Tag("button", name, cls="segment", type="button")
                            self._segments[kind].when("click", self._switching(kind))
                    self._listed = Tag(
                        "p",
                        "It lists its targets one by one; change them under Settings.",
                        cls="sub",
                    )
                with Tag("div", cls="field"):
                    label = Tag("span", "On", cls="sub")
                    with Tag("div", cls="box"):
                        self._toggle = Tag(
                            "button",
                            cls="switch",
                            type="button",
                            role="switch",
                            aria_labelledby=label.html_id,
                        )
                        self._toggle.when("click", self._visit.acting(self._flip))

    def _manifest(self) -> None:
        with Tag("section", cls="card"):
            with Tag("div", cls="head"):
                Tag("h2", "YAML")
                self._actions = Tag("div")
            self._yaml = Tag("pre", "", cls="code", tabindex="0", aria_label="YAML of this backend")
            with self._actions:
                copy(self._yaml, told=self._heading.frame.say)

    def _end(self) -> None:
        name = self._heading.standing.backend.resource.identity.name
        with dialog(f"Delete {name}?") as self._dialog:
            Tag(
                "p",
                "Requests for its model are refused at once, on every router. Its history stays.",
            )
            with Tag("form") as form:
                block, key = field(f"Type {name} to delete it")
                with block:
                    typed = Tag(
                        "input", id=key, name="typed", autocomplete="off", spellcheck="false"
                    )
                    typed.when("input", self._typing, sends="e.target.value")
                with Tag("div", cls="actions"):
                    self._delete = Tag(
                        "button",
                        "Delete",
                        cls="button danger primary",
                        type="submit",
                        disabled=True,
                    )
                    button("Cancel", lambda: js("close", self._dialog.html_id))
            form.when(
                "submit",
                self._visit.acting(self._remove),
                sends="(e.preventDefault(), window.llmb.values(e.target).typed)",
            )
        with Tag("div", cls="actions"):
            button("Delete …", lambda: js("open", self._dialog.html_id), cls="danger")

    def _show(self, standing: Standing) -> None:
        told = standing.shown()
        now = (told, standing.backend.manifest)
        if now == self._shown:
            return
        self._shown = now
        self._heading.show(standing)
        simple = not standing.backend.spec.get("targets")
        self._types.show(simple)
        self._listed.show(not simple)
        for kind, segment in self._segments.items():
            segment.put(aria_pressed="true" if told["backend_type"] == kind else "false")
        self._toggle.put(aria_checked="false" if told["enabled"] is False else "true")
        self._yaml.say(commit_yaml(standing.backend.manifest, standing.backend.spec))
        self._show_targets(standing)
        self._show_traffic(standing)
        self._show_conditions(standing)

    def _show_targets(self, standing: Standing) -> None:
        told = standing.shown()
        self._targets.clear()
        with self._targets:
            for one in told["live_targets"]:
                saying = words.target(one)
                with Tag("li"), Tag("div"):
                    with Tag("span"):
                        Tag("span", str(one["name"]), cls="strong")
                        Tag("span", " ")
                        Tag("span", str(one.get("type", "")), cls="kind")
                    state(saying)
                    about = " · ".join(
                        str(part) for part in (one.get("url"), one.get("model")) if part
                    )
                    Tag("span", about, cls="sub mono")
                    if saying.more:
                        Tag("span", words.sentence(saying.more), cls="sub")
            if not told["live_targets"]:
                Tag("li", "The operator has not told any yet.", cls="sub")

    def _show_traffic(self, standing: Standing) -> None:
        told, totals = standing.shown(), standing.totals
        summary = told["summary"]
        figures = {
            "Routers": str(summary.get("routers", "–")),
            "Tokens/s now": str(summary.get("tokensPerSecond", "–")),
            "First token now": str(summary.get("latency", "–")),
            "Requests": "–" if totals is None else f"{totals.requests:,}",
            "Errors": "–" if totals is None else f"{totals.errors:,}",
            "Average time": words.duration(totals.average_seconds if totals else None),
        }
        self._traffic.clear()
        with self._traffic:
            for name, figure in figures.items():
                with Tag("div"):
                    Tag("dt", name)
                    Tag("dd", figure)

    def _show_conditions(self, standing: Standing) -> None:
        now = datetime.now(UTC)
        told = standing.shown()
        sayings: list[tuple[Saying, str]] = [
            (words.condition(one), words.ago(str(one.get("lastTransitionTime", "")), now))
            for one in told["conditions"]
        ]
        self._conditions.clear()
        with self._conditions:
            for saying, since in sayings:
                with Tag("li"), Tag("div"):
                    state(saying)
                    more = words.sentence(saying.more)
                    Tag("span", f"{more} {since and f'Since {since}.'}".strip(), cls="sub")
            if not sayings:
                Tag("li", "The operator has not said anything yet. Does it run?", cls="sub")

    def _switching(self, kind: BackendType) -> Handler:
        async def switch() -> None:
            caller = await self._visit.caller()
            standing = await self._visit.admin.backends.update(
                caller, self._key, {"backend_type": kind.value}
            )
            self._heading.frame.say(f"It is served by {TYPES[kind]} now.")
            self._show(standing)

        return self._visit.acting(switch)

    async def _flip(self) -> None:
        standing = await self._visit.admin.backends.toggle(await self._visit.caller(), self._key)
        on = standing.shown()["enabled"]
        self._heading.frame.say(f"It is switched {'on' if on else 'off'}.")
        self._show(standing)

    def _typing(self, typed: str) -> None:
        name = self._heading.standing.backend.resource.identity.name
        self._delete.put(disabled=typed.strip() != name)

    async def _remove(self, typed: str) -> None:
        if typed.strip() != self._heading.standing.backend.resource.identity.name:
            return
        js("close", self._dialog.html_id)
        await self._visit.admin.backends.delete(await self._visit.caller(), self._key)
        self._visit.go("/")


async def show(visit: Visit, standing: Standing) -> None:
    """Draw the view and keep it up to date."""
    with page(visit, standing, "") as heading:
        view = Detail(visit, heading)
    visit.follow(view.look)
