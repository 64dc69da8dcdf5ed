"""Comparisons for a person: the predecessor's table, and one with all that is known. Pure."""

from collections.abc import Sequence

from llm_operator.command.text import aligned, plain
from llm_operator.compare.document import Report
from llm_operator.compare.statistics import CONFIDENCE, Backend, Interval, Verdict

#: The predecessor's columns.
COLUMNS = ("Model", "Backend", "Avg Time", "Tokens/sec", "Speedup")

#: What is known of each backend beyond that.
MORE = (
    *("BACKEND", "REQUESTS", "ERRORS", "FALLBACKS", "MEASURED", "AVERAGE", "P50", "P95"),
    *("FIRST TOKEN", "TOKENS/S", "SPEEDUP", f"{CONFIDENCE:.0%} INTERVAL", "VERDICT"),
)

#: Backend types as they are written; a target has its own name.
NAMES = {"ollama": "Ollama", "mlx": "MLX", "openai": "OpenAI"}

NONE = "-"


def summary(reports: Sequence[Report]) -> list[str]:
    """The predecessor's table in Markdown, a row for each backend of each model."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for report in reports:
        model = _cell(report.model)
        rows += [_row(model, backend) for backend in report.comparison.backends]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = [_markdown(row, widths) for row in rows]
    rule = "|".join("-" * (width + 2) for width in widths)
    return [lines[0], f"|{rule}|", *lines[1:]]


def full(report: Report) -> list[str]:
    """All that is known of each backend of one model, and why a number is missing."""
    backends = report.comparison.backends
    span = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M %Z}"
    about = f"{plain(report.model)}, {span}"
    if not backends:
        return [f"{about}: nothing is recorded"]
    rows: list[tuple[str, ...]] = [MORE, *(_more(backend) for backend in backends)]
    notes = [f"{plain(b.backend)}: {plain(b.note)}" for b in backends if b.note]
    return [about, *aligned(rows), *notes]


def _row(model: str, backend: Backend) -> tuple[str, ...]:
    speedup = Verdict.UNKNOWN if backend.speedup is None else f"{backend.speedup:.1f}x"
    return (
        model,
        _cell(NAMES.get(backend.backend, backend.backend)),
        _about(backend.average_seconds, "s"),
        _about(backend.tokens_per_second, " t/s"),
        speedup,
    )


def _more(backend: Backend) -> tuple[str, ...]:
    return (
        plain(backend.backend),
        str(backend.requests),
        str(backend.errors),
        str(backend.fallbacks),
        str(backend.measured),
        _exact(backend.average_seconds, " s"),
        _exact(backend.p50_seconds, " s"),
        _exact(backend.p95_seconds, " s"),
        _exact(backend.first_token_seconds, " s"),
        _exact(backend.tokens_per_second, ""),
        _exact(backend.speedup, "x"),
        _between(backend.speedup_interval),
        backend.verdict.value,
    )


def _about(value: float | None, unit: str) -> str:
    """`~7s`, `~16.7 t/s`: a tenth where there is one, two digits below 1."""
    if value is None:
        return NONE
    digits = 2 if 0 < value < 0.95 else 1
    text = f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"
    return f"~{text.rstrip('0').rstrip('.') if '.' in text else text}{unit}"


def _exact(value: float | None, unit: str) -> str:
    return NONE if value is None else f"{value:.2f}{unit}"


def _between(interval: Interval | None) -> str:
    return NONE if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _cell(text: str) -> str:
    # NB: a bar would end the cell.
    return plain(text).replace("|", "\\|")


def _markdown(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return f"| {' | '.join(cells)} |"
