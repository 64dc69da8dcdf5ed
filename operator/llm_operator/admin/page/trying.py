"""The try-it box: a prompt, the way it takes, and the answer as it comes.

Whoever may see a backend may try it; the prompt goes where those of applications go. Nothing of it
is kept. The answer is sent to the browser a few times a second, however fast tokens come.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from nicegui import background_tasks

from llm_operator.admin.backends import Standing
from llm_operator.admin.errors import AdminError, Invalid
from llm_operator.admin.page import words
from llm_operator.admin.page.backend import Heading, page
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Tag, field, js, state
from llm_operator.admin.trial import PROMPT, TOKENS, Begun, Ended, Piece, Trial

#: Seconds between two looks at the answer.
PAINT = 0.1

NO_TRIAL = (
    "No router is named that could be asked from here: set LLMB_ADMIN_ROUTER_URL, and restart."
)


class Trying:
    """The view."""

    def __init__(self, visit: Visit, heading: Heading, trial: Trial) -> None:
        self._visit = visit
        self._heading = heading
        self._trial = trial
        self._task: asyncio.Task[None] | None = None
        self._model = heading.standing.backend.model
        with Tag("div", cls="grid"):
            with Tag("section", cls="card"):
                Tag("h2", "Ask it")
                self._form()
            with Tag("section", cls="card"):
                Tag("h2", "The way it takes")
                self._reason = Tag("p", "", cls="sub")
                self._way = Tag("ol", cls="facts", aria_label="Targets, in order of trying")
        with Tag("section", cls="card", aria_labelledby="answer-heading"):
            Tag("h2", "Answer", id="answer-heading")
            self._status = Tag("p", "Nothing asked yet.", cls="sub", role="status")
            self._answer = Tag("div", cls="answer", role="group", aria_label="Text of the answer")
            with self._answer:
                self._thought = Tag("span", "", cls="thought")
                self._text = Tag("span", "")
            self._done = Tag("p", "", cls="sub", aria_live="polite")
        visit.client.on_delete(self._cancel)

    async def look(self) -> None:
        """Show the way that a request takes now."""
        caller = await self._visit.caller()
        key = self._heading.standing.backend.uid
        self._heading.show(await self._visit.admin.backends.get(caller, key))
        try:
            told = await self._trial.explain(self._model)
        except AdminError as error:
            self._reason.say(words.sentence(error.detail))
            self._show_way({"targets": [], "would": None})
            return
        self._reason.say(words.sentence(str(told["reason"])))
        self._show_way(told)

    def _form(self) -> None:
        with Tag("form", aria_label="Ask this backend") as form:
            block, key = field("Prompt")
            with block:
                prompt = Tag(
                    "textarea", "Say hello in one sentence.", id=key, name="prompt", rows="4"
                )
                prompt.put(maxlength=str(PROMPT), required=True, aria_describedby=f"{key}h")
                Tag("p", "It is sent to the model and not kept.", cls="hint", id=f"{key}h")
            block, key = field("Tokens at most")
            with block:
                tokens = Tag("input", id=key, name="tokens", inputmode="numeric")
                tokens.once(value="256")
            with Tag("div", cls="actions"):
                self._send = Tag("button", "Send", cls="button primary", type="submit")
                self._stop = Tag("button", "Cancel", cls="button", type="button", disabled=True)
                self._stop.when("click", self._cancel)
        form.when(
            "submit",
            self._visit.acting(self._ask),
            sends="(e.preventDefault(), window.llmb.values(e.currentTarget))",
        )

    def _show_way(self, told: Mapping[str, Any]) -> None:
        if told == getattr(self, "_shown", None):
            return
        self._shown = told
        self._way.clear()
        with self._way:
            for one in told["targets"]:
                saying = words.explained(one, told["would"])
                with Tag("li"), Tag("div"):
                    with Tag("span"):
                        Tag("span", str(one["name"]), cls="strong")
                        Tag("span", " ")
                        Tag("span", str(one["type"]), cls="kind")
                    state(saying)
                    Tag("span", saying.more, cls="sub")

    async def _ask(self, values: Mapping[str, str]) -> None:
        if self._task is not None and not self._task.done():
            raise Invalid("an answer is on its way; cancel it first")
        tokens = values.get("tokens", "").strip()
        if not (tokens.isascii() and tokens.isdigit() and len(tokens) < 6):
            raise Invalid(f"tokens at most: must be a whole number from 1 to {TOKENS}")
        await self.look()
        content = self._visit.client.content

        async def run() -> None:
            with content:
                await self._visit.act(lambda: self._stream(values.get("prompt", ""), int(tokens)))

        self._task = background_tasks.create(run(), name="try it")

    async def _stream(self, prompt: str, tokens: int) -> None:
        self._busy(True)
        self._status.say("Asking …")
        for tag in (self._thought, self._text, self._done):
            tag.say("")
        thought, text, painted = "", "", 0.0
        told = ""
        try:
            async for one in self._trial.ask(self._model, prompt, tokens=tokens):
                match one:
                    case Begun():
                        told = _begun(one)
                        self._status.say(told)
                    case Piece(text=piece, thought=True):
                        thought += piece
                    case Piece(text=piece):
                        text += piece
                    case Ended():
                        self._done.say(_ended(one))
                if time.monotonic() - painted > PAINT:
                    painted = time.monotonic()
                    self._paint(thought, text)
        except asyncio.CancelledError:
            self._done.say("Cancelled. The host was told to stop.")
        except AdminError:
            self._status.say("It did not answer." if not told else f"{told} It broke off.")
            raise
        finally:
            self._paint(thought, text)
            self._busy(False)

    def _paint(self, thought: str, text: str) -> None:
        self._thought.say(f"{thought}\n\n" if thought else "")
        self._text.say(text)

    def _busy(self, busy: bool) -> None:
        self._send.put(disabled=busy)
        self._stop.put(disabled=not busy)
        if not self._visit.client.is_deleted:
            js("focus", (self._stop if busy else self._send).html_id)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _begun(begun: Begun) -> str:
    told = f"{begun.backend or 'A host'} ({begun.type}) answers."
    if begun.fallback_reason:
        told += f" The first did not: {begun.fallback_reason}."
    return told


def _ended(ended: Ended) -> str:
    parts = [
        f"Done in {words.duration(ended.seconds)}",
        f"first token after {words.duration(ended.first_token_seconds)}",
    ]
    if ended.tokens is not None:
        parts.append(words.several(ended.tokens, "token"))
    if ended.tokens_per_second is not None:
        parts.append(words.number(ended.tokens_per_second, "tokens/s"))
    end = " It was cut at the most tokens allowed." if ended.reason == "length" else ""
    return f"{', '.join(parts)}.{end}"


async def show(visit: Visit, standing: Standing) -> None:
    """Draw the view and keep the way up to date."""
    with page(visit, standing, "/try") as heading:
        trial = visit.admin.trial
        if trial is None:
            Tag("p", NO_TRIAL, cls="notice warn")
            return
        view = Trying(visit, heading, trial)
        await visit.act(view.look)
    visit.follow(view.look)
