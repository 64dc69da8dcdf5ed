"""The predecessor's metrics -> usage records, an hour's together. Pure.

They are of requests that went well, since a failed one left none. tokens_per_second is not taken
over: it was divided by the whole time, and so is no rate of decoding; tokens and time are taken
over, and give it again.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, object]
Record = dict[str, Any]

#: Column of a text -> field of a usage record; each at most so many bytes, as routers have it.
TEXTS: Mapping[str, str] = {
    "session_id": "session",
    "user_id": "user",
    "zone": "zone",
    "intent": "intent",
    "source": "source",
    "stage": "stage",
}
MOST_TEXT = 256
#: Column of a count -> field.
COUNTS: Mapping[str, str] = {
    "prompt_tokens": "prompt_tokens",
    "tokens_generated": "completion_tokens",
}
MOST_COUNT = 2**31 - 1

#: Bounds of `llmb.llm_usage`: bytes of a request id and of a key, seconds.
MOST_ID, MOST_KEY, MOST_SECONDS = 512, 255, 1e9

#: Records from which a batch is full; it goes on to the end of its hour.
FULL = 1000


class NotARecord(ValueError):
    """A row that is no usage record. The message says which column, and never its value."""


@dataclass(slots=True)
class Passed:
    """What was left out on the way: why -> how many rows, and the ids of the first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, why: str, row: Row) -> None:
        """One more."""
        self.counts[why] += 1
        ids = self.first.setdefault(why, [])
        if len(ids) < 3:
            ids.append(str(row.get("id"))[:40])


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of whole hours, as long as the rows came in the order of time."""

    records: tuple[Record, ...]

    @property
    def hours(self) -> tuple[datetime, ...]:
        """The hours they are of."""
        hours = sorted({_hour(record) for record in self.records})
        return tuple(datetime.fromtimestamp(hour * 3600, UTC) for hour in hours)


class Batcher:
    """Rows, one after the other in the order of time -> batches."""

    def __init__(self, passed: Passed, *, until: datetime) -> None:
        """Begin with none.

        Args:
            passed: takes what is left out on the way.
            until: later records are none: they would never grow old enough to be dropped.
        """
        self._passed = passed
        self._until = until.timestamp()
        self._records: list[Record] = []

    def add(self, row: Row, position: int) -> Batch | None:
        """Take a row; a batch when the row begins the next one.

        Args:
            position: among the rows of one request id and time, from 1.
        """
        try:
            one = record(row, position, self._passed)
            if one["at"] >= self._until:
                raise NotARecord("timestamp: is in the future, or not in seconds")
        except NotARecord as error:
            self._passed.add(f"{error}: the row is left out", row)
            return None
        full = len(self._records) >= FULL and _hour(one) != _hour(self._records[-1])
        batch = self.rest() if full else None
        self._records.append(one)
        return batch

    def rest(self) -> Batch | None:
        """The batch that is not full yet; None when there is nothing in it."""
        records, self._records = self._records, []
        return Batch(records=tuple(records)) if records else None


def record(row: Row, position: int, passed: Passed) -> Record:
    """One usage record.

    Raises:
        NotARecord: a column without which it is none.
    """
    backend = _text(row, "backend", MOST_KEY, passed)
    made: Record = {
        "request_id": _request_id(row, position, passed),
        "at": _time(row.get("timestamp")),
        "model": _model(row),
        "outcome": "ok",
        "stream": False,
        "total_seconds": _seconds(row),
        # NB: a target of the simple form is named by its type, so both are one arm of a comparison.
        "backend_type": backend,
        "target": backend,
    }
    made |= {name: _count(row, column, passed) for column, name in COUNTS.items()}
    made |= {name: _text(row, column, MOST_TEXT, passed) for column, name in TEXTS.items()}
    return {name: value for name, value in made.items() if value is not None}


def _request_id(row: Row, position: int, passed: Passed) -> str:
    own = f"imported-{row.get('id')}"
    given = _text(row, "request_id", MOST_ID - len(own) - 1, passed)
    if given is None:
        return own
    # NB: one request of an orchestrator asks several models, and may do so at one time.
    return given if position == 1 else f"{given}-{own}"


def _model(row: Row) -> str:
    model = row.get("model")
    if not isinstance(model, str) or not _fits(model, MOST_KEY):
        raise NotARecord("model: is no text of 1 to 255 bytes")
    return model


def _seconds(row: Row) -> float:
    seconds = _number(row.get("latency_seconds"))
    if seconds is None or not 0 <= seconds <= MOST_SECONDS:
        raise NotARecord("latency_seconds: is no number from 0 up")
    return seconds


def _time(given: object) -> float:
    seconds = _number(given)
    if seconds is None and isinstance(given, str):
        try:
            time = datetime.fromisoformat(given)
        except ValueError:
            raise NotARecord("timestamp: is no time") from None
        # NB: a time without a zone is UTC, not that of this machine.
        seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if seconds is None or seconds < 0:
        raise NotARecord("timestamp: is no time in seconds since 1970")
    return seconds


def _count(row: Row, column: str, passed: Passed) -> int | None:
    given = row.get(column)
    number = _number(given)
    if number is None or not 0 <= number <= MOST_COUNT or number != int(number):
        if given is not None:
            passed.add(f"{column}: is no count, and is left out of its record", row)
        return None
    return int(number)


def _text(row: Row, column: str, most: int, passed: Passed) -> str | None:
    given = row.get(column)
    if given is None or given == "":
        return None
    text = given if isinstance(given, str) else str(given)
    if not _fits(text, most):
        passed.add(f"{column}: is longer than {most} bytes or not printable, and is left out", row)
        return None
    return text


def _fits(text: str, most: int) -> bool:
    return bool(text) and text.isprintable() and len(text.encode()) <= most


def _number(given: object) -> float | None:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _hour(record: Record) -> int:
    return int(record["at"] // 3600)
