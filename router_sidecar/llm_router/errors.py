"""What can go wrong with a request, and what it then means: the failure table as data.

    RouterError
    ├── Refused          the request itself can't be served, so nothing is tried again
    ├── AttemptFailed    one target could not answer; another may
    └── Unanswered       every target that may be tried was tried

`Cause` is why an attempt failed; `TABLE` says for each cause whether another target is tried and
which status the client gets when it was the last. A `Problem` is what a client is told, before a
front writes it in the client's own protocol. Messages never hold a credential or a prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The kind of a problem, independent of protocol."""

    BAD_REQUEST = "bad_request"
    UNSUPPORTED = "unsupported"
    MODEL_NOT_FOUND = "model_not_found"
    PATH_NOT_FOUND = "path_not_found"
    FORBIDDEN = "forbidden"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    NOT_READY = "not_ready"
    OVERLOADED = "overloaded"
    UPSTREAM = "upstream_error"
    TIMEOUT = "timeout"
    INTERNAL = "internal_error"


#: The HTTP status of each kind of problem.
STATUS: Mapping[Code, int] = {
    Code.BAD_REQUEST: 400,
    Code.UNSUPPORTED: 400,
    Code.FORBIDDEN: 403,
    Code.MODEL_NOT_FOUND: 404,
    Code.PATH_NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.TOO_LARGE: 413,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL: 500,
    Code.UPSTREAM: 502,
    Code.NOT_READY: 503,
    Code.OVERLOADED: 503,
    Code.TIMEOUT: 504,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told.

    Attributes:
        param: the field that is wrong, as `messages[2].content`.
        retry_after: seconds, when the host gave them.
    """

    code: Code
    message: str
    param: str | None = None
    retry_after: str | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.code]


class Cause(StrEnum):
    """Why an attempt failed; also the value of x-llm-fallback-reason and a metric label."""

    CONNECT_FAILURE = "ConnectFailure"
    NO_REPLY = "NoReply"
    FIRST_TOKEN_TIMEOUT = "FirstTokenTimeout"
    SERVER_ERROR = "ServerError"
    BUSY = "Busy"
    RATE_LIMITED = "RateLimited"
    MODEL_MISSING = "ModelMissing"
    MISCONFIGURED = "Misconfigured"
    UNSUPPORTED = "Unsupported"
    REJECTED = "Rejected"
    BROKEN_STREAM = "BrokenStream"
    DEADLINE = "DeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the failure table.

    Attributes:
        falls_over: another target is tried, as long as the client has been sent nothing.
        code: what the client is told when this was the last attempt.
    """

    falls_over: bool
    code: Code


TABLE: Mapping[Cause, Row] = {
    Cause.CONNECT_FAILURE: Row(True, Code.UPSTREAM),
    Cause.NO_REPLY: Row(True, Code.UPSTREAM),
    Cause.FIRST_TOKEN_TIMEOUT: Row(True, Code.TIMEOUT),
    Cause.SERVER_ERROR: Row(True, Code.UPSTREAM),
    Cause.BUSY: Row(True, Code.OVERLOADED),
    Cause.RATE_LIMITED: Row(True, Code.RATE_LIMITED),
    Cause.MODEL_MISSING: Row(True, Code.MODEL_NOT_FOUND),
    Cause.MISCONFIGURED: Row(True, Code.UPSTREAM),
    Cause.UNSUPPORTED: Row(True, Code.UNSUPPORTED),
    Cause.REJECTED: Row(False, Code.BAD_REQUEST),
    Cause.BROKEN_STREAM: Row(True, Code.UPSTREAM),
    Cause.DEADLINE: Row(False, Code.TIMEOUT),
}


class RouterError(Exception):
    """Any reason a request is not answered."""


class Refused(RouterError):
    """The request can't be served; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


class Unanswered(RouterError):
    """Nobody answered.

    Attributes:
        problem: what the client is told: the last failure's status, and all failures in words.
        failures: one for each attempt, in order.
    """

    def __init__(self, problem: Problem, failures: tuple["AttemptFailed", ...]) -> None:
        self.problem = problem
        self.failures = failures
        super().__init__(problem.message)


class AttemptFailed(RouterError):
    """One target could not answer.

    Attributes:
        retry_after: seconds, when the host gave them.
        local: the target has not been asked, so nothing is said of it.
    """

    def __init__(
        self, cause: Cause, message: str, *, retry_after: str | None = None, local: bool = False
    ) -> None:
        self.cause = cause
        self.message = message
        self.retry_after = retry_after
        self.local = local
        super().__init__(message)
