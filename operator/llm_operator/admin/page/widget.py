"""Native HTML elements through NiceGUI: the one place that knows how it is spoken to.

Native ones, because a button, a label, a details and a dialog of the browser have their keyboard,
their focus and their names for screen readers by themselves. It knows nothing of backends.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

from nicegui import ui
from nicegui.element import Element

from llm_operator.admin.page.words import Saying

Handler = Callable[..., None] | Callable[..., Awaitable[None]]


class Tag(Element):
    """An element of HTML.

    Properties are written with _ for -, and with one at the end where Python has the word. True
    is an attribute without a value; None and False are none.
    """

    def __init__(self, tag: str, text: str | None = None, *, cls: str = "", **props: Any) -> None:
        super().__init__(tag)
        self._text = text
        if cls:
            self._classes.extend(cls.split())
        for name, value in props.items():
            if value is not None and value is not False:
                self._props[_name(name)] = "" if value is True else value

    def say(self, text: str) -> None:
        """Have this text, and tell the browser only when it is another."""
        if text != self._text:
            self._text = text
            self.update()

    def put(self, **props: Any) -> None:
        """Have these properties, likewise."""
        before = dict(self._props)
        for name, value in props.items():
            if value is None or value is False:
                self._props.pop(_name(name), None)
            else:
                self._props[_name(name)] = "" if value is True else value
        if dict(self._props) != before:
            self.update()

    def once(self, **props: Any) -> Self:
        """Have these to begin with; what somebody types, ticks or opens then stays.

        NB: an attribute of HTML says how a field begins, while a property, which Vue would set
        again at every change beside it, says what it is.
        """
        for name, value in props.items():
            if value is not None and value is not False:
                self._props[f"^{_name(name)}"] = "" if value is True else value
        return self

    def look(self, cls: str) -> None:
        """Have these classes and no others, likewise."""
        if cls.split() != list(self._classes):
            self._classes[:] = cls.split()
            self.update()

    def show(self, visible: bool) -> None:
        """Be there or not."""
        self.put(hidden=not visible)

    def when(self, event: str, handler: Handler, *, sends: str = "") -> Self:
        """Call the handler at an event of the browser.

        Args:
            event: its name, as `click`.
            handler: gets what is sent, if anything is.
            sends: JavaScript of what is sent, with the event as `e`.
        """
        if sends:
            self.on(event, lambda told: handler(told.args), js_handler=f"(e) => emit({sends})")
        else:
            self.on(event, lambda: handler(), args=[])
        return self


def button(text: str, handler: Handler | None = None, *, cls: str = "", **props: Any) -> Tag:
    """A button; `cls` says which kind: primary, danger, quiet."""
    made = Tag("button", text, cls=f"button {cls}", type="button", **props)
    if handler is not None:
        made.when("click", handler)
    return made


def link(text: str, href: str, *, cls: str = "", **props: Any) -> Tag:
    """A link to another page of this site."""
    return Tag("a", text, cls=cls, href=href, **props)


def state(saying: Saying, *, cls: str = "") -> Tag:
    """A few words with the colour of what they mean; `restate` changes it."""
    made = Tag("span", saying.text, cls=f"state {saying.tone} {cls}")
    return made


def restate(made: Tag, saying: Saying, *, cls: str = "") -> None:
    """Say something else there."""
    made.say(saying.text)
    made.look(f"state {saying.tone} {cls}")


def field(label: str, *, cls: str = "") -> tuple[Tag, str]:
    """A block with a label, for a control that is made in it with the id returned."""
    block = Tag("div", cls=f"field {cls}")
    key = f"f{block.id}"
    with block:
        Tag("label", label, for_=key)
    return block, key


def choice(
    label: str, options: dict[str, str], value: str, handler: Handler, *, cls: str = ""
) -> Tag:
    """A labelled list to choose from. The handler gets the value."""
    block, key = field(label, cls=cls)
    with block:
        made = Tag("select", id=key)
    options_of(made, options, value)
    made.when("change", handler, sends="e.target.value")
    return made


def options_of(select: Tag, options: dict[str, str], value: str) -> None:
    """Have these to choose from."""
    select.clear()
    with select:
        for name, text in options.items():
            Tag("option", text, value=name).once(selected=name == value)


def copy(source: Tag, *, told: Callable[[str], None]) -> Tag:
    """A button that copies the text of an element."""

    def done(copied: bool) -> None:
        told("Copied." if copied else "Press Ctrl-C to copy what is selected.")

    made = Tag("button", "Copy", cls="button quiet small", type="button")
    call = f"window.llmb.copy({json.dumps(source.html_id)})"
    made.on("click", lambda told: done(told.args), js_handler=f"() => {call}.then(emit)")
    return made


def js(name: str, *arguments: object) -> None:
    """Call one of the functions of page.js in the browser of the current page."""
    ui.run_javascript(f"window.llmb.{name}({', '.join(json.dumps(one) for one in arguments)})")


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")
