"""Lines over time as SVG: one line for each backend, drawn here, so that no library is needed.

Pure: values -> text. Colours are classes of the page's stylesheet, so one drawing serves both
schemes. Lines differ in their dashes and ends too, and the same numbers stand in a table beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 28
#: Values of a line from which their dots are small.
CROWD = 40
#: Lines that can be told apart.
MOST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line.

    Attributes:
        points: time and value, in order of time; a value of None is a gap.
    """

    name: str
    points: Sequence[tuple[datetime, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is drawn in: the span of time, and the highest value."""

    since: datetime
    until: datetime
    top: float

    def x(self, at: datetime) -> float:
        """Where a time is, from the left."""
        share = (at - self.since) / (self.until - self.since)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a value is, from above."""
        return TOP + (1 - min(value / self.top, 1.0)) * (HEIGHT - TOP - BOTTOM)


def svg(lines: Sequence[Line], *, title: str, unit: str, since: datetime, until: datetime) -> str:
    """The drawing, as an image with a name and a description.

    Args:
        unit: of the values, written at the axis.
    """
    values = [value for line in lines for _, value in line.points if value is not None]
    step = _step(max(values, default=1.0))
    count = max(int(-(-max(values, default=1.0) // step)), 1)
    frame = Frame(since=since, until=until, top=step * count)
    parts = [*_rules(frame, step, count), *_times(frame)]
    for place, line in enumerate(lines[:MOST]):
        parts += _line(frame, line, place, unit)
    about = f"{title}: {', '.join(_about(line, unit) for line in lines) or 'nothing was measured'}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(about)}" '
        f'class="chart">{"".join(parts)}</svg>'
    )


def legend(lines: Sequence[Line]) -> Mapping[str, int]:
    """Name -> number of its look."""
    return {line.name: place for place, line in enumerate(lines[:MOST])}


def _rules(frame: Frame, step: float, count: int) -> list[str]:
    parts = []
    for place in range(count + 1):
        y = frame.y(step * place)
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_figure(step * place)}</text>"
        )
    return parts


def _times(frame: Frame) -> list[str]:
    span = frame.until - frame.since
    form = "%H:%M" if span <= timedelta(days=2) else "%d %b"
    parts = []
    for place in range(5):
        at = frame.since + span * place / 4
        anchor = ("start", "middle", "middle", "middle", "end")[place]
        parts.append(
            f'<text class="tick" x="{frame.x(at):.1f}" y="{HEIGHT - 8}" '
            f'text-anchor="{anchor}">{at.strftime(form)}</text>'
        )
    return parts


def _line(frame: Frame, line: Line, place: int, unit: str) -> list[str]:
    parts, run = [], []
    for at, value in [*line.points, (frame.until, None)]:
        if value is not None:
            run.append(f"{frame.x(at):.1f},{frame.y(value):.1f}")
            continue
        if len(run) > 1:
            parts.append(f'<polyline class="line look-{place}" points="{" ".join(run)}"/>')
        run = []
    size = 3.5 if len(line.points) <= CROWD else 2
    for at, value in line.points:
        if value is not None:
            told = escape(f"{line.name}, {at.strftime('%d %b %H:%M')}: {_figure(value)} {unit}")
            parts.append(
                f'<circle class="dot look-{place}" cx="{frame.x(at):.1f}" '
                f'cy="{frame.y(value):.1f}" r="{size}"><title>{told}</title></circle>'
            )
    return parts


def _about(line: Line, unit: str) -> str:
    values = [value for _, value in line.points if value is not None]
    if not values:
        return f"{line.name} has no values"
    return f"{line.name} from {_figure(min(values))} to {_figure(max(values))} {unit}"


def _step(highest: float) -> float:
    """The distance of rules: 1, 2 or 5 of a power of ten, so that there are about four."""
    rough = highest / 4 or 1.0
    power = 10.0 ** _exponent(rough)
    for factor in (1, 2, 5, 10):
        if factor * power >= rough:
            return factor * power
    return 10 * power


def _exponent(value: float) -> int:
    exponent = 0
    while value < 1:
        value, exponent = value * 10, exponent - 1
    while value >= 10:
        value, exponent = value / 10, exponent + 1
    return exponent


def _figure(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if value else "0"
