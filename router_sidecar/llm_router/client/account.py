"""One call: what the log says of it, and its sample for the report.

    with Account(request, ...) as account: ... account.done(result)

Whatever leaves the block is an error, or a caller that left. Messages are constant and never hold a
prompt; the events are the predecessor's.
"""

import logging
import time
from types import TracebackType

from llm_router.client.errors import LLMRouterError
from llm_router.client.report import Outcome, Sample, Window
from llm_router.client.request import Request
from llm_router.client.results import Result, Served

log = logging.getLogger("llm_router.client")


class Account:
    """One call so far; ends once."""

    def __init__(self, request: Request, window: Window, *, endpoint: str) -> None:
        """Begin it.

        Args:
            endpoint: the router's address, as the log may show it.
        """
        self._request = request
        self._window = window
        self._backend = ""
        self._speed: float | None = None
        self._over = False
        self._began = time.monotonic()
        log.info("routing_llm_request", extra=self._about() | {"endpoint": endpoint})

    def served(self, served: Served) -> None:
        """A host answers."""
        self._backend = served.backend
        if served.dropped:
            dropped = {"backend_type": served.backend, "fields": list(served.dropped)}
            log.warning("llm_fields_dropped", extra=self._about() | dropped)

    def done(self, result: Result) -> None:
        """It has its answer."""
        self._speed = result.usage.tokens_per_second
        self._end(Outcome.OK, "llm_request_completed", {"backend_type": self._backend})

    def failed(self, error: LLMRouterError) -> None:
        """It has none."""
        why = {"error": type(error).__name__, "code": error.code, "status": error.status}
        self._end(Outcome.ERROR, "llm_request_failed", why, level=logging.WARNING)

    def left(self) -> None:
        """Its caller does not want it any more."""
        self._end(Outcome.LEFT, "llm_request_cancelled", {"backend_type": self._backend})

    def __enter__(self) -> "Account":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, LLMRouterError):
            self.failed(error)
        else:
            self.left()

    def _end(
        self, outcome: Outcome, event: str, more: dict[str, object], *, level: int = logging.INFO
    ) -> None:
        if self._over:
            return
        self._over = True
        seconds = time.monotonic() - self._began
        self._window.add(
            Sample(
                model=self._request.model,
                outcome=outcome,
                seconds=seconds,
                backend=self._backend,
                tokens_per_second=self._speed,
            )
        )
        log.log(level, event, extra=self._about() | more | {"duration": round(seconds, 6)})

    def _about(self) -> dict[str, object]:
        return {"model": self._request.model, "request_id": self._request.request_id}
