"""Backends of one model beside each other, from recorded traffic: verdicts and charts.

The charts show the course; what a difference is worth, the table says, and says so too where there
is not enough to tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from nicegui import ui

from llm_operator.admin.errors import AdminError
from llm_operator.admin.page import chart, words
from llm_operator.admin.page.chart import Line
from llm_operator.admin.page.frame import Frame, frame
from llm_operator.admin.page.visit import Visit
from llm_operator.admin.page.widget import Handler, Tag, choice, field, js, options_of, state
from llm_operator.admin.page.words import Saying, Tone
from llm_operator.admin.traffic import Span
from llm_operator.compare.model import Point
from llm_operator.compare.statistics import Backend, Comparison, Interval, Verdict

#: Hours back -> what they are called, and seconds of a step of the charts.
SPANS: Mapping[str, tuple[str, int]] = {
    "1": ("Last hour", 60),
    "6": ("Last 6 hours", 300),
    "24": ("Last day", 1200),
    "168": ("Last 7 days", 7200),
    "720": ("Last 30 days", 28800),
}
ARMS = {"backend_type": "Backend type", "target": "Target"}
NAMES = {"ollama": "Ollama", "mlx": "MLX", "openai": "OpenAI API"}

VERDICTS: Mapping[Verdict, tuple[Tone, str]] = {
    Verdict.BASELINE: (Tone.IDLE, "Baseline"),
    Verdict.FASTER: (Tone.GOOD, "Faster"),
    Verdict.SLOWER: (Tone.BAD, "Slower"),
    Verdict.SAME: (Tone.IDLE, "No difference seen"),
    Verdict.UNKNOWN: (Tone.BUSY, "Not enough data"),
}

COLUMNS = (
    "Backend",
    "Verdict",
    "Speedup",
    "Average time",
    "p50",
    "p95",
    "First token",
    "Tokens/s",
    "Requests",
    "Errors",
    "Fallbacks",
)
#: Columns that hold words; the others hold figures.
WORDED = frozenset(("Backend", "Verdict"))

NONE = (
    "Nothing is recorded of this model in that time. Requests show up here within seconds after a "
    "router has served them; try a longer time, or send some from Try it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is compared."""

    model: str = ""
    namespace: str = ""
    hours: str = "24"
    by: str = "backend_type"
    baseline: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Asked":
        """Read it from the query of a URL; what is not known there is left out."""
        return cls(
            model=given.get("model", "")[:253],
            namespace=given.get("namespace", "")[:63],
            hours=given["hours"] if given.get("hours") in SPANS else "24",
            by=given["by"] if given.get("by") in ARMS else "backend_type",
            baseline=given.get("baseline", "")[:253],
        )

    @property
    def address(self) -> str:
        """The path of the page that shows it."""
        return f"/compare?{urlencode({name: one for name, one in asdict(self).items() if one})}"

    def span(self, now: datetime) -> Span:
        """The time and the arms."""
        return Span(
            model=self.model,
            since=now - timedelta(hours=int(self.hours)),
            until=now,
            by=self.by,
            namespace=self.namespace or None,
        )


class Comparing:
    """The view."""

    def __init__(self, visit: Visit, around: Frame, asked: Asked, models: Sequence[str]) -> None:
        self._visit = visit
        self._frame = around
        self._asked = asked
        self._keys: tuple[str, ...] = ()
        self._shown: object = None
        with Tag("div", cls="head"):
            Tag("h1", "Compare")
        with Tag("div", cls="tools"):
            self._model(models)
            spans = {hours: name for hours, (name, _) in SPANS.items()}
            choice("Time", spans, asked.hours, self._choosing("hours"))
            choice("By", ARMS, asked.by, self._choosing("by"))
            with Tag("div", hidden=True) as self._bases:
                self._base = choice("Baseline", {}, "", self._choosing("baseline"))
        self._status = Tag("p", "", cls="hidden", role="status")
        self._result = Tag("div")

    async def look(self) -> None:
        """Compare now."""
        if not self._asked.model:
            self._say("Name a model to compare.")
            return
        caller = await self._visit.caller()
        now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        span, step = self._asked.span(now), SPANS[self._asked.hours][1]
        traffic = self._visit.admin.traffic
        try:
            told = await traffic.compare(caller, span, baseline=self._asked.baseline or None)
            points = await traffic.series(caller, span, step=step)
        except AdminError as error:
            if error.status == 401:
                raise
            self._frame.weather(database=error.status != 503)
            self._say(words.sentence(error.detail))
            return
        self._frame.weather(database=True)
        result = (self._asked, told, tuple(points))
        if result != self._shown:
            self._shown = result
            self._baselines(told)
            self._draw(told, points, span)

    def _model(self, models: Sequence[str]) -> None:
        block, key = field("Model", cls="grow")
        with block:
            name = Tag("input", id=key, type="text", autocomplete="off", list=f"{key}m")
            name.once(value=self._asked.model)
            name.put(placeholder="phi3:mini", spellcheck="false")
            with Tag("datalist", id=f"{key}m"):
                for model in models[:500]:
                    Tag("option", value=model)
        name.when("change", self._choosing("model"), sends="e.target.value")

    def _baselines(self, told: Comparison) -> None:
        keys = tuple(sorted(one.backend for one in told.backends))
        if keys == self._keys:
            return
        self._keys = keys
        options = {"": "Chosen by itself", **{key: NAMES.get(key, key) for key in keys}}
        options_of(self._base, options, self._asked.baseline)
        self._bases.show(bool(keys))

    def _choosing(self, name: str) -> Handler:
        async def choose(value: str) -> None:
            # NB: another model, or other arms, has no arm of the old baseline's name.
            kept = {} if name in ("hours", "baseline") else {"baseline": ""}
            if name == "model":
                kept["namespace"] = ""
            self._asked = Asked.of(asdict(self._asked) | kept | {name: value.strip()})
            js("address", self._asked.address)
            await self.look()

        return self._visit.acting(choose)

    def _say(self, text: str) -> None:
        self._shown = None
        self._status.say(text)
        self._result.clear()
        with self._result, Tag("section", cls="empty"):
            Tag("p", text)

    def _draw(self, told: Comparison, points: Sequence[Point], span: Span) -> None:
        if not told.backends:
            self._say(NONE)
            return
        compared = words.several(len(told.backends), "backend")
        self._status.say(f"{compared} of {span.model} compared.")
        self._result.clear()
        with self._result:
            with Tag("section", cls="card"):
                Tag("h2", "What the difference is worth")
                _table(told)
            with Tag("div", cls="grid charts"):
                keys = [one.backend for one in told.backends]
                _chart("Tokens per second", "tokens/s", keys, _speeds(points), span)
                _chart("Time of a request, in seconds", "s", keys, _times(points), span)


Values = Sequence[tuple[str, datetime, float | None]]


def _speeds(points: Sequence[Point]) -> Values:
    return [(one.key, one.at, one.average_tokens_per_second) for one in points]


def _times(points: Sequence[Point]) -> Values:
    return [(one.key, one.at, one.average_seconds) for one in points]


def _chart(title: str, unit: str, keys: Sequence[str], values: Values, span: Span) -> None:
    lines = [
        Line(
            name=NAMES.get(key, key),
            points=sorted(
                (at, value) for of, at, value in values if of == key and value is not None
            ),
        )
        for key in keys
    ]
    with Tag("section", cls="card"):
        Tag("h2", title)
        if not any(line.points for line in lines):
            Tag("p", "Nothing of this was measured in that time.", cls="sub")
            return
        drawn = chart.svg(lines, title=title, unit=unit, since=span.since, until=span.until)
        # NB: the drawing is made here, and every name in it is escaped.
        ui.html(drawn, sanitize=False)
        with Tag("ul", cls="legend"):
            for name, look in chart.legend(lines).items():
                with Tag("li"):
                    with Tag("svg", viewBox="0 0 26 8", aria_hidden="true", cls=f"look-{look}"):
                        Tag("line", x1="0", x2="26", y1="4", y2="4")
                    Tag("span", name)
            Tag("li", "Times are UTC.", cls="sub")


def _table(told: Comparison) -> None:
    with (
        Tag("div", cls="scroll", tabindex="0", role="region", aria_label="Comparison"),
        Tag("table"),
    ):
        with Tag("thead"), Tag("tr"):
            for name in COLUMNS:
                Tag("th", name, scope="col", cls="" if name in WORDED else "figure")
        with Tag("tbody"):
            for one in told.backends:
                with Tag("tr"):
                    Tag("th", NAMES.get(one.backend, one.backend), scope="row")
                    with Tag("td", cls="verdict"):
                        state(verdict(one))
                        if one.note:
                            Tag("span", words.sentence(one.note), cls="sub")
                    for figure in figures(one):
                        Tag("td", figure, cls="figure")


def verdict(one: Backend) -> Saying:
    """What a difference is worth, in words."""
    tone, text = VERDICTS[one.verdict]
    return Saying(tone, text, one.note)


def figures(one: Backend) -> tuple[str, ...]:
    """The figures of a line, as `COLUMNS` has them."""
    return (
        _ratio(one.speedup, one.speedup_interval),
        words.duration(one.average_seconds),
        words.duration(one.p50_seconds),
        words.duration(one.p95_seconds),
        words.duration(one.first_token_seconds),
        words.number(one.tokens_per_second),
        f"{one.requests:,}",
        words.percent(one.errors, one.requests),
        words.percent(one.fallbacks, one.requests),
    )


def _ratio(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.2f}×"
    return f"{value:.2f}× ({interval[0]:.2f} to {interval[1]:.2f})"


async def show(visit: Visit, asked: Asked) -> None:
    """Draw the view and keep it up to date."""
    with frame(visit, title="Compare", path="/compare") as around:
        models: list[str] = []

        async def learn() -> None:
            caller = await visit.caller()
            standings = await visit.admin.backends.list(caller)
            # NB: the one with most traffic first, since there is something to see of it.
            busy = sorted(standings, key=lambda one: -(one.totals.requests if one.totals else 0))
            models.extend(dict.fromkeys(one.backend.model for one in busy))

        await visit.act(learn)
        if not asked.model and models:
            asked = replace(asked, model=models[0])
        view = Comparing(visit, around, asked, models)
        await visit.act(view.look)
    visit.follow(view.look)
