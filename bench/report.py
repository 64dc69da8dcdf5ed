"""The figures as Markdown: raw, as ratios to nginx and the direct call, and against the goals."""

from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figures, Streams
from bench.goals import GOALS, Run, added
from bench.subjects import ROUTER

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def render(run: Run) -> str:
    """The whole report."""
    length = "a quick run, which says little," if run.quick else "a whole run"
    lines = [
        f"{run.when}, {length} of {run.seconds:.0f} s, on {run.machine}. Short requests by "
        f"{run.load}. The process under test had core 0, stub and load core 1; the machine's host "
        f"took {run.stolen:.1f} s of the cores' time meanwhile.",
        "",
        *(f"- {each.name}: {each.version}" for each in _first_ways(run.figures)),
        *(f"- {each.name}: left out, {each.why}" for each in run.absent),
        *(f"- {_name(each)}: FAILED: {each.failure}" for each in run.figures if each.failure),
        "",
        "### Goals",
        "",
        *_table(["Goal", "Measured", "Met"], [goal.row(run) for goal in GOALS]),
        "",
        "### Short requests",
        "",
        "Added: what a call takes more than the direct call of the same round. CPU: of the "
        "process under test, for 1,000 requests.",
        "",
        *_table(REQUESTS, [_requests(run, each) for each in _whole(run)]),
        "",
        "### Streams at 50 tokens/s",
        "",
        "What is added to the direct streams of the same moment, p50 / p99 in ms: to the first "
        "token, to each token's way (from the stub's write to the client's read) and to the "
        "distance between two tokens. CPU: of a core. Whole: streams with their proper end.",
        "",
        *_table(STREAMS, [row for each in _whole(run) for row in _streams(each)]),
        "",
        "### Streamed events, memory and start",
        "",
        "CPU for each event: 16 streams paced at 400 events/s. Most events/s: 16 streams as fast "
        "as they are read, so events come joined.",
        "",
        *_table(COSTS, [_costs(run, each) for each in _whole(run)]),
    ]
    return "\n".join(lines) + "\n"


def write(report: str, file: Path) -> None:
    """Put the report between the file's two marks."""
    text = file.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{file}: needs the lines {BEGIN} and {END}, with the report between them")
    head, rest = text.split(BEGIN, 1)
    file.write_text(f"{head}{BEGIN}\n{report}{END}{rest.split(END, 1)[1]}")


REQUESTS = [
    "",
    "added p50, 1 conn. (ms)",
    "added p99",
    "requests/s, 32 conn.",
    "of nginx",
    "of direct",
    "p50 / p99, 32 conn. (ms)",
    "CPU for 1,000 (ms)",
    "errors",
]


def _requests(run: Run, each: Figures) -> list[str]:
    assert each.one
    assert each.one_direct
    assert each.many
    assert each.many_direct
    p50, p99 = added(each.one, each.one_direct)
    nginx = run.one("nginx")
    of_nginx = f"{each.many.rate / nginx.many.rate:.3f}" if nginx and nginx.many else "-"
    return [
        _name(each),
        f"{p50:.3f}",
        f"{p99:.3f}",
        f"{each.many.rate:,.0f}",
        of_nginx,
        f"{each.many.rate / each.many_direct.rate:.3f} of {each.many_direct.rate:,.0f}",
        f"{each.many.p50 / 1000:.2f} / {each.many.p99 / 1000:.2f}",
        f"{each.many.cpu_us:.1f}",
        str(each.one.errors + each.many.errors),
    ]


STREAMS = ["", "streams", "first token", "each token", "between tokens", "CPU", "whole"]


def _streams(each: Figures) -> list[list[str]]:
    rows = []
    for count, (direct, through) in each.spoken.items():
        share = through.cpu_us / 1e6 / through.seconds if through.seconds > 0 else 0.0
        rows.append(
            [
                _name(each),
                str(count),
                _over(through.first, direct.first),
                _over(through.held, direct.held),
                _over(through.gap, direct.gap),
                f"{share:.0%}",
                f"{through.ended} of {through.asked}",
            ]
        )
    return rows


COSTS = [
    "",
    "CPU for each event (us)",
    "of nginx",
    "most events/s",
    "MB after start",
    "MB after requests",
    "KiB each stream",
    "start (s)",
]


def _costs(run: Run, each: Figures) -> list[str]:
    nginx = run.one("nginx")
    floor = nginx.steady.cpu_per_event if nginx and nginx.steady else float("nan")
    assert each.steady
    assert each.fast
    spent, crowd = each.steady.cpu_per_event, max(each.spoken)
    return [
        _name(each),
        _broken(each.steady) or f"{spent:.1f}",
        f"{spent / floor:.2f}",
        _broken(each.fast) or f"{each.fast.events / each.fast.seconds:,.0f}",
        f"{each.rss_start / 1024:.1f}",
        f"{each.rss_after / 1024:.1f} after {each.served:,}",
        f"{each.spoken[crowd][1].grown_kib:.1f} at {crowd}",
        f"{each.start:.2f}",
    ]


def _broken(streams: Streams) -> str:
    return "" if streams.events else "no event came"


def _over(through: Sequence[float], direct: Sequence[float]) -> str:
    if not through or not direct:
        return "-"
    pairs = zip(through, direct, strict=True)
    return " / ".join(f"{(a - b) / 1000:.2f}" for a, b in pairs)


def _name(each: Figures) -> str:
    return f"{each.name}, {each.way}" if each.name == ROUTER else each.name


def _whole(run: Run) -> list[Figures]:
    return [each for each in run.figures if not each.failure]


def _first_ways(figures: Sequence[Figures]) -> list[Figures]:
    return list({each.name: each for each in figures}.values())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]
