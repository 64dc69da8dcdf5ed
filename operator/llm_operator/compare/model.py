"""What backends of one model did over a time, as sums: what Postgres gives and a comparison reads.

Pure data. Times and rates are of requests with a proper end alone; None where there was none.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One backend type, or one target, over the whole time.

    Attributes:
        key: its name.
        requests: all of them, whatever came of them.
        errors: those that were refused or broke off; not those whose client went away.
        fallbacks: those whose first target failed.
        times: how many requests the seconds are of; first_tokens and speeds likewise.
        deviation_seconds: sample standard deviation; None for fewer than two.
        average_tokens_per_second: of decoding alone.
    """

    key: str
    requests: int
    errors: int
    fallbacks: int
    times: int
    average_seconds: float | None
    deviation_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    first_tokens: int
    average_first_token_seconds: float | None
    speeds: int
    average_tokens_per_second: float | None
    deviation_tokens_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One arm in one step of time.

    Attributes:
        at: where the step begins.
    """

    at: datetime
    key: str
    requests: int
    errors: int
    average_seconds: float | None
    average_tokens_per_second: float | None
