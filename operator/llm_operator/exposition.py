"""The exposition text of one family, format 0.0.4 of Prometheus.

Written here and not by a client library, which can't keep the lines of what did not change: two
thousand resources are sixteen thousand of them, and a scrape runs in the loop that reconciles. A
test reads the text with the library's parser.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from llm_operator.families import Family

#: Label values in the family's order, and the value under them.
Sample = tuple[tuple[str, ...], float]


def head(family: Family) -> str:
    """What it is."""
    sentence = f"{family.meaning[0].upper()}{family.meaning[1:]}."
    return f"# HELP {family.name} {sentence}\n# TYPE {family.name} {family.kind}\n"


def samples(family: Family, values: Iterable[Sample]) -> Iterable[str]:
    """The lines of a counter or gauge."""
    if not family.labels:
        return [f"{family.name} {float(value)!r}\n" for _, value in values]
    form = ",".join(f'{label}="%s"' for label in family.labels)
    line = f"{family.name}{{{form}}} %r\n"
    return [line % (*map(_escaped, labels), float(value)) for labels, value in values]


def buckets(family: Family, counts: Sequence[int], total: float) -> Iterable[str]:
    """The lines of a histogram without labels: observations in each bucket, and their sum."""
    bounds = [*(repr(float(bound)) for bound in family.buckets), "+Inf"]
    for bound, count in zip(bounds, accumulate(counts), strict=True):
        yield f'{family.name}_bucket{{le="{bound}"}} {float(count)!r}\n'
    yield f"{family.name}_count {float(sum(counts))!r}\n"
    yield f"{family.name}_sum {total!r}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
