"""The settings of a backend, changed or made anew, with the resource's rules at each field.

    browser: all that is typed -> form.read -> form.problems -> beside the field -> Backends

Nothing is sent to the cluster that the rules refuse. What somebody else changed in the meantime is
never overwritten: it is said, and the form is loaded anew when asked.
"""

from collections.abc import Mapping
from typing import Any

from llm_operator.admin.backends import Standing
from llm_operator.admin.change import DEFAULTS, FIELDS
from llm_operator.admin.errors import Changed
from llm_operator.admin.page import form, items, words
from llm_operator.admin.page.backend import page, still
from llm_operator.admin.page.form import Control, Group, Hints, Items, Part, Widget
from llm_operator.admin.page.frame import Frame, frame
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Handler, Tag, button, field, js, link
from llm_operator.resource.schema import Kind

VALUES = "window.llmb.values(e.target.closest('form'))"

#: Fields of the API by those of the spec.
NAMES = {spec: api for api, spec in FIELDS.items()}

CHANGED = "Somebody changed this backend while you were editing it. Nothing of yours was saved."


class Fields:
    """The controls of a spec, and the problems beside them."""

    def __init__(self, hints: Hints, into: Tag, spec: Mapping[str, Any]) -> None:
        self._hints = hints
        self._into = into
        self._touched: set[str] = set()
        self._all = False
        self._spec = dict(spec)
        self._draw()

    @property
    def spec(self) -> dict[str, Any]:
        """What is typed now."""
        return self._spec

    def load(self, spec: Mapping[str, Any]) -> None:
        """Begin anew with this spec."""
        self._touched, self._all = set(), False
        self._spec = dict(spec)
        self._draw()

    def typed(self, values: Mapping[str, str], *, name: str = "") -> None:
        """Take what is typed; `name` is of the control that it was typed into."""
        if name:
            self._touched.add(name)
        self._spec = form.read(self._shape, values)
        self._tell()

    def check(self, values: Mapping[str, str]) -> bool:
        """Take what is typed and say everything that is wrong with it; whether nothing is."""
        self._all = True
        self.typed(values)
        found = form.problems(self._shape, self._spec)
        if found:
            first = next((at for at in form.places_of(self._shape) if at in found), "")
            js("reveal", self._control_of(first))
        return not found

    def _control_of(self, place: str) -> str:
        """The name of the first control at a place."""
        for one in form.controls(self._shape):
            if one.path == place or one.path.startswith((f"{place}.", f"{place}[")) or not place:
                return one.path
        return self._problems[place].html_id if place in self._problems else ""

    def _draw(self) -> None:
        self._shape = form.draw(self._spec, self._hints)
        self._problems: dict[str, Tag] = {}
        self._inputs: dict[str, Tag] = {}
        self._into.clear()
        with self._into:
            self._problems[""] = Tag("p", cls="notice bad full", role="alert", hidden=True)
            for title, parts in form.sections(self._shape):
                Tag("h2", title, cls="full")
                for part in parts:
                    self._part(part)
        self._tell()

    def _tell(self) -> None:
        found = form.problems(self._shape, self._spec)
        for place, tag in self._problems.items():
            messages = found.get(place, ())
            seen = self._all or place in self._touched or place not in self._inputs
            # NB: what is still to be typed is no mistake yet.
            shown = [one for one in messages if seen and (self._all or one != "Required value")]
            text = " ".join(words.sentence(one) for one in shown)
            tag.say(text)
            if place in self._inputs:
                self._inputs[place].put(aria_invalid="true" if shown else None)
            if place == "":
                tag.show(bool(text))

    def _part(self, part: Part) -> None:
        if isinstance(part, Control):
            self._control(part)
        elif isinstance(part, Items):
            self._items(part)
        else:
            with Tag("details", cls="more").once(open=part.given):
                with Tag("summary"):
                    Tag("span", part.label)
                    Tag("span", part.hint, cls="sub")
                with Tag("div", cls="inside"):
                    self._group(part)

    def _group(self, group: Group) -> None:
        self._problem(group.path)
        with Tag("div", cls="fields"):
            for part in group.parts:
                self._part(part)

    def _items(self, part: Items) -> None:
        with _titled(part.label):
            Tag("p", part.hint, cls="hint")
            self._problem(part.path)
            for place, group in enumerate(part.groups):
                name = f"{part.label.removesuffix('s')} {place + 1}"
                with _titled(name):
                    self._group(group)
                    remove = Tag("button", "Remove", cls="button small danger", type="button")
                    remove.put(aria_label=f"Remove {name.lower()}")
                    remove.when("click", self._dropping(group.path), sends=VALUES)
            more = Tag("button", f"Add to {part.label.lower()}", cls="button small", type="button")
            more.put(disabled=len(part.groups) >= part.at_most)
            more.when("click", self._adding(part.path), sends=VALUES)

    def _control(self, one: Control) -> None:
        wide = one.widget in (Widget.AREA, Widget.JSON)
        block = Tag("div", cls=f"field {'full' if wide else ''}")
        key = f"f{block.id}"
        with block:
            if one.widget is Widget.CHECK:
                with Tag("div", cls="box"):
                    made = Tag("input", id=key, name=one.path, type="checkbox")
                    Tag("label", one.label, for_=key)
                made.once(checked=bool(one.value))
            else:
                with Tag("label", for_=key):
                    Tag("span", one.label)
                    if one.required:
                        Tag("span", " (required)", cls="req")
                made = self._typing(one, key)
            hint = Tag("p", one.hint, cls="hint")
            problem = Tag("p", "", cls="problem", aria_live="polite")
        made.put(aria_describedby=f"{problem.html_id} {hint.html_id}")
        self._problems[one.path], self._inputs[one.path] = problem, made

    def _typing(self, one: Control, key: str) -> Tag:
        common: dict[str, Any] = {"id": key, "name": one.path}
        if one.widget is Widget.CHOICE:
            with Tag("select", **common) as made:
                empty = f"Default: {one.default}" if one.default else "Not set"
                for value in ("", *one.options):
                    Tag("option", value or empty, value=value).once(selected=value == one.value)
            return made
        common |= {"spellcheck": "false", "autocomplete": "off"}
        common["placeholder"] = f"Default: {one.default}" if one.default else None
        if one.widget in (Widget.AREA, Widget.LINES, Widget.JSON):
            look = "" if one.widget is Widget.AREA else "mono"
            rows = "3" if one.widget is Widget.AREA else "2"
            if one.widget is Widget.LINES:
                common["placeholder"] = "One a line"
            return Tag("textarea", one.value, cls=look, rows=rows, **common)
        if one.widget is Widget.NUMBER:
            # NB: not type=number, which hides what is wrong with what was typed.
            common["inputmode"] = "numeric" if one.schema.kind is Kind.INTEGER else "decimal"
        return Tag("input", type="text", **common).once(value=one.value)

    def _problem(self, path: str) -> None:
        self._problems[path] = Tag("p", "", cls="problem", role="alert")

    def _adding(self, path: str) -> Handler:
        def add(values: Mapping[str, str]) -> None:
            spec = form.read(self._shape, values)
            self._spec = items.with_item(spec, path)
            self._draw()
            last = [one for one in form.places_of(self._shape) if one.startswith(f"{path}[")]
            tops = [one for one in last if "." not in one.removeprefix(path)]
            js("reveal", self._control_of(tops[-1]))

        return add

    def _dropping(self, path: str) -> Handler:
        def drop(values: Mapping[str, str]) -> None:
            self._spec = items.without_item(form.read(self._shape, values), path)
            self._draw()

        return drop


def _titled(title: str) -> Tag:
    """A group with a heading."""
    made = Tag("div", cls="fieldset", role="group")
    with made:
        made.put(aria_labelledby=Tag("h3", title).html_id)
    return made


class Editing:
    """The form of a backend that is there."""

    def __init__(self, visit: Visit, around: Frame, standing: Standing) -> None:
        self._visit = visit
        self._frame = around
        self._load(standing)
        self._notice = Tag("div", cls="notice warn", role="alert", hidden=True)
        with self._notice:
            Tag("p", CHANGED)
            with Tag("div", cls="actions"):
                button("Load what is there now", visit.acting(self._reload))
        if standing.backend.owner is not None:
            Tag(
                "p",
                f"{standing.backend.owner} manages this backend. Change it here as you like it; "
                "instead of saving it you get the YAML to commit.",
                cls="notice warn",
            )
        with Tag("form", novalidate=True, aria_label="Settings") as made:
            into = Tag("div", cls="card fields")
            self._fields = Fields(visit.parts.hints, into, standing.backend.spec)
            with Tag("div", cls="sticky"):
                owned = standing.backend.owner is not None
                name = "Show the YAML to commit" if owned else "Save"
                Tag("button", name, cls="button primary", type="submit")
                link("Cancel", f"/backends/{standing.backend.uid}", cls="button")
        listen(made, self._fields, visit.acting(self._save))

    def _load(self, standing: Standing) -> None:
        shape = form.draw(standing.backend.spec, self._visit.parts.hints)
        self._standing = standing
        self._before = form.read(shape, form.initial(shape))

    async def _save(self, values: Mapping[str, str]) -> None:
        if not self._fields.check(values):
            return
        given = form.changes(self._before, self._fields.spec)
        if not given:
            self._frame.say("There is nothing to save: nothing was changed.")
            return
        try:
            standing = await self._visit.admin.backends.update(
                await self._visit.caller(),
                self._standing.backend.uid,
                {NAMES[name]: value for name, value in given.items()},
                match=still(self._standing),
            )
        except Changed:
            self._notice.show(True)
            return
        self._load(standing)
        state = standing.shown()["state"]
        self._frame.say("Saved." if state == "accepted" else f"Saved; the operator says {state}.")

    async def _reload(self) -> None:
        caller = await self._visit.caller()
        standing = await self._visit.admin.backends.get(caller, self._standing.backend.uid)
        self._load(standing)
        self._notice.show(False)
        self._fields.load(standing.backend.spec)
        self._frame.say("This is what is there now.")


class Making:
    """The form of a backend that is to be made."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        link("← All backends", "/", cls="crumb")
        with Tag("div", cls="head"):
            Tag("h1", "New backend")
        with Tag("form", novalidate=True, aria_label="New backend") as made:
            with Tag("section", cls="card fields"):
                Tag("h2", "Name", cls="full")
                self._named("name", "Resource name", "Made of the model's name where it is empty.")
                if not visit.admin.standalone:
                    where = f"Where its routers are. Default: {visit.admin.namespace}."
                    self._named("namespace", "Namespace", where)
            with Tag("section", cls="card", aria_label="Settings"):
                into = Tag("div", cls="fields")
                spec = {FIELDS[name]: value for name, value in DEFAULTS.items()}
                self._fields = Fields(visit.parts.hints, into, spec)
            with Tag("div", cls="sticky"):
                Tag("button", "Create", cls="button primary", type="submit")
                link("Cancel", "/", cls="button")
        listen(made, self._fields, visit.acting(self._save))

    def _named(self, name: str, label: str, hint: str) -> None:
        block, key = field(label)
        with block:
            made = Tag("input", id=key, type="text", autocomplete="off", spellcheck="false")
            # NB: a name that no field of a spec has.
            made.put(name=f"+{name}", aria_describedby=f"{key}h")
            Tag("p", hint, cls="hint", id=f"{key}h")

    async def _save(self, values: Mapping[str, str]) -> None:
        if not self._fields.check(values):
            return
        spec = self._fields.spec
        named = {name: values.get(f"+{name}", "").strip() for name in ("name", "namespace")}
        # NB: what was left empty stays unset; the API would fill in its own defaults.
        given = {
            NAMES[name]: value for name, value in form.changes({}, spec, everything=True).items()
        }
        standing = await self._visit.admin.backends.create(
            await self._visit.caller(), given | {name: one for name, one in named.items() if one}
        )
        self._visit.go(f"/backends/{standing.backend.uid}")


def listen(tag: Tag, fields: Fields, save: Any) -> None:
    """Take what is typed, and save what is sent."""
    values = "window.llmb.values(e.currentTarget)"
    tag.when(
        "input",
        lambda told: fields.typed(told[1], name=told[0]),
        sends=f"[e.target.name, {values}]",
    )
    tag.when("submit", save, sends=f"(e.preventDefault(), {values})")


async def show(visit: Visit, standing: Standing) -> None:
    """Draw the form of a backend."""
    with page(visit, standing, "/edit") as heading:
        Editing(visit, heading.frame, standing)


async def make(visit: Visit) -> None:
    """Draw the form of a new one."""
    with frame(visit, title="New backend", path="/"):
        Making(visit)
