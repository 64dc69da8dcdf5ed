"""Charts as SVG: what is drawn, what is told to who does not see it, and nothing that can run."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from llm_operator.admin.page import chart
from llm_operator.admin.page.chart import Line

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=1)


def line(name: str, *values: float | None) -> Line:
    step = timedelta(minutes=10)
    return Line(name=name, points=[(SINCE + step * at, value) for at, value in enumerate(values)])


def drawn(*lines: Line, **more: object) -> ElementTree.Element:
    text = chart.svg(lines, title="Speed", unit="tokens/s", since=SINCE, until=NOW)
    return ElementTree.fromstring(text)


def test_each_value_is_a_dot_with_its_words() -> None:
    svg = drawn(line("mlx", 10.0, 20.0), line("ollama", 5.0, 7.5))
    titles = [title.text for title in svg.iter("title")]
    assert titles[0] == "mlx, 28 Nov 11:00: 10 tokens/s"
    assert len(titles) == 4
    assert len(list(svg.iter("polyline"))) == 2


def test_a_gap_is_a_gap() -> None:
    svg = drawn(line("mlx", 1.0, 2.0, None, 3.0, 4.0))
    assert len(list(svg.iter("polyline"))) == 2
    assert len(list(svg.iter("circle"))) == 4


def test_higher_is_further_up_and_later_further_right() -> None:
    first, second = drawn(line("mlx", 10.0, 20.0)).iter("circle")
    assert float(first.attrib["cx"]) < float(second.attrib["cx"])
    assert float(first.attrib["cy"]) > float(second.attrib["cy"])


def test_its_name_tells_what_it_shows() -> None:
    told = drawn(line("mlx", 10.0, 20.0), line("ollama", None)).attrib["aria-label"]
    assert told == "Speed: mlx from 10 to 20 tokens/s, ollama has no values"
    assert drawn().attrib["aria-label"] == "Speed: nothing was measured"


def test_a_name_that_is_markup_stays_text() -> None:
    svg = drawn(line('"><script>alert(1)</script>', 1.0))
    assert not list(svg.iter("script"))
    assert "<script>" in svg.attrib["aria-label"]


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (0.18, ["0", "0.05", "0.1", "0.15", "0.2"]),
        (44.9, ["0", "20", "40", "60"]),
        (4000.0, ["0", "1,000", "2,000", "3,000", "4,000"]),
    ],
)
def test_the_axis_has_round_numbers(highest: float, ticks: list[str]) -> None:
    svg = drawn(line("mlx", highest))
    shown = [one.text for one in svg.iter("text") if one.attrib["text-anchor"] == "end"]
    assert shown[: len(ticks)] == ticks


def test_all_zero_is_drawn_too() -> None:
    assert len(list(drawn(line("mlx", 0.0, 0.0)).iter("circle"))) == 2
