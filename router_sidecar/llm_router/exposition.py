"""The exposition text of one family, format 0.0.4 of Prometheus.

The same bytes as prometheus_client writes, which a test compares, in a tenth of its time: a scrape
runs in the loop that serves requests, and a hundred models are ten thousand lines.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from llm_router.families import Family, Labels

#: A number as Go writes it.
number: Callable[[float], str] = floatToGoString

#: Whole numbers that Go writes as Python does.
PLAIN = 1_000_000


def head(family: Family) -> str:
    """What it is."""
    return f"# HELP {family.name} {sentence(family)}\n# TYPE {family.name} {family.kind}\n"


def sentence(family: Family) -> str:
    """Its meaning, as a sentence."""
    return f"{family.meaning[0].upper()}{family.meaning[1:]}."


def samples(family: Family, values: Iterable[tuple[Labels, float]]) -> Iterable[str]:
    """The lines of a counter or gauge."""
    order = _order(family)
    for labels, value in values:
        text = _labels(family, labels, order)
        braces = f"{{{text}}}" if text else ""
        yield f"{family.name}{braces} {number(value)}\n"


def buckets(family: Family, series: Iterable[tuple[Labels, Sequence[int], float]]) -> Iterable[str]:
    """The lines of a histogram: label values, observations in each bucket, their sum."""
    order, name = _order(family), family.name
    bounds = [*map(number, family.buckets), "+Inf"]
    for labels, counts, total in series:
        text = _labels(family, labels, order)
        count = 0
        # NB: labels are sorted, and no label of ours comes before `le`.
        for bound, count in zip(bounds, accumulate(counts), strict=True):
            yield f'{name}_bucket{{le="{bound}",{text}}} {_whole(count)}\n'
        yield f"{name}_count{{{text}}} {_whole(count)}\n"
        yield f"{name}_sum{{{text}}} {number(total)}\n"


def _order(family: Family) -> list[int]:
    return sorted(range(len(family.labels)), key=family.labels.__getitem__)


def _labels(family: Family, values: Labels, order: list[int]) -> str:
    return ",".join([f'{family.labels[index]}="{_escaped(values[index])}"' for index in order])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _whole(count: int) -> str:
    return f"{count}.0" if count < PLAIN else number(count)
