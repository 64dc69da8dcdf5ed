"""What the router tells of each request, once it is over: see `record` and `recorder`.

NB: `shipper` and `spans` import large libraries, so they are imported where they are switched on.
"""

from llm_router.usage.record import (
    NOBODY,
    UNMEASURED,
    Caller,
    Failure,
    Measures,
    Outcome,
    Record,
    caller,
    measure,
)
from llm_router.usage.recorder import Recorder

__all__ = [
    "NOBODY",
    "UNMEASURED",
    "Caller",
    "Failure",
    "Measures",
    "Outcome",
    "Record",
    "Recorder",
    "caller",
    "measure",
]
