"""A moment as a query names it -> a moment. Pure."""

import re
from datetime import UTC, datetime, timedelta

from llm_operator.admin.errors import Invalid
from llm_operator.resource.check import show

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO = re.compile(r"([0-9]{1,9})([smhdw])")


def instant(text: str, *, now: datetime, field: str) -> datetime:
    """A moment.

    Args:
        text: ISO 8601, in UTC where it names no offset; or a time ago, as 90m, 24h, 7d.
        now: what is ago from.
        field: its name, for the error.

    Raises:
        Invalid: it is neither, or no year has it.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        # NB: a + that is not written as %2B comes as a space.
        found = datetime.fromisoformat(re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", text))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(
            f"{field}: must be ISO 8601, as 2026-01-05T09:00:00Z, or a time ago, as 24h or 7d; "
            f"is {show(text)}"
        ) from None
