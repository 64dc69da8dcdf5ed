"""What a call can end with instead of an answer.

    LLMRouterError
    ├── RouterUnavailable   no router answered: no connection, or it ended before an answer began
    ├── InvalidRequest      400, 413, 422 and other 4xx: the request itself is wrong
    ├── ModelNotFound       404: neither the router nor the hosts it asked have the model
    ├── Overloaded          429, 503: ask again, after `retry_after` seconds where that is known
    ├── UpstreamFailed      502, 504: every host that may be asked has failed
    ├── StreamBroken        the answer began and has no proper end
    └── Timeout             the router said nothing for the client's own `timeout`

What the router answers with another status, 500 for one, is an `LLMRouterError` itself. A message
names the router's address, the model and what to do, never a prompt or an answer.
"""

from collections.abc import Mapping
from typing import TypedDict, Unpack

#: What a problem is called where the router's answer does not say.
CODES: Mapping[int, str] = {
    400: "bad_request",
    403: "forbidden",
    404: "model_not_found",
    405: "method_not_allowed",
    413: "too_large",
    429: "rate_limited",
    500: "internal_error",
    502: "upstream_error",
    503: "overloaded",
    504: "timeout",
}


class About(TypedDict, total=False):
    """What is known of a call that failed; see the attributes of `LLMRouterError`."""

    status: int
    code: str
    model: str
    router: str
    request_id: str
    attempts: int
    fallback_reason: str


class LLMRouterError(Exception):
    """Any reason a call has no answer.

    Attributes:
        message: what went wrong, in words.
        status: HTTP status; 0 where there was none.
        code: the kind of problem, as the router names it, or `unavailable`, `broken_stream`,
            `client_timeout`.
        model: that was asked for.
        router: its address.
        request_id: the id that the router's log and its usage record have too.
        attempts: hosts that were asked; 0 where nobody knows.
        fallback_reason: why the first of them failed, by the router's failure table; else "".
    """

    #: What to do about it; the end of the text.
    advice = "the router's log says why"

    def __init__(self, message: str, **about: Unpack[About]) -> None:
        super().__init__(message)
        self.message = message
        self.status = about.get("status", 0)
        self.code = about.get("code", "")
        self.model = about.get("model", "")
        self.router = about.get("router", "")
        self.request_id = about.get("request_id", "")
        self.attempts = about.get("attempts", 0)
        self.fallback_reason = about.get("fallback_reason", "")

    def __str__(self) -> str:
        named = {"model": self.model, "router": self.router, "request": self.request_id}
        known = ", ".join(f"{name} {value}" for name, value in named.items() if value)
        return f"{self.message} ({known}); {self.advice}" if known else self.message


class RouterUnavailable(LLMRouterError):
    """No router answered."""

    advice = "start the router, or name its address with url= or LLM_ROUTER_URL"


class InvalidRequest(LLMRouterError):
    """The request itself is wrong, or asks for what no host of this model can do."""

    advice = "change what is named; the same request will be refused again"


class ModelNotFound(LLMRouterError):
    """Nobody has the model."""

    advice = "create an LLMBackend for it, or call one that GET /v1/models of the router lists"


class Overloaded(LLMRouterError):
    """The router or the hosts have no room now.

    Attributes:
        retry_after: seconds until another try makes sense; None where nobody said.
    """

    advice = "try again later"

    def __init__(
        self, message: str, *, retry_after: float | None = None, **about: Unpack[About]
    ) -> None:
        super().__init__(message, **about)
        self.retry_after = retry_after

    def __str__(self) -> str:
        after = "" if self.retry_after is None else f", after {self.retry_after:g} s"
        return super().__str__() + after


class UpstreamFailed(LLMRouterError):
    """Every host that may be asked has failed."""

    advice = "look at the hosts: `llmb explain MODEL` says where a request would go, and why"


class StreamBroken(LLMRouterError):
    """The answer began and has no proper end: what came of it is not whole."""

    advice = "what came of it is not whole; ask again if that is safe"


class Timeout(LLMRouterError):
    """The router said nothing for the client's own `timeout`."""

    advice = "raise timeout= of LLMRouter, or lower timeoutSeconds of the LLMBackend"


#: Status -> class; other 4xx are InvalidRequest, all else is LLMRouterError.
CLASSES: Mapping[int, type[LLMRouterError]] = {
    404: ModelNotFound,
    429: Overloaded,
    502: UpstreamFailed,
    503: Overloaded,
    504: UpstreamFailed,
}


def refused(message: str, *, retry_after: str = "", **about: Unpack[About]) -> LLMRouterError:
    """The error that a status of the router, which is part of `about`, means.

    Args:
        retry_after: the header; one that is no number of seconds is none.
    """
    status = about["status"]
    about["code"] = about.get("code") or CODES.get(status, "")
    kind = CLASSES.get(status, InvalidRequest if 400 <= status < 500 else LLMRouterError)
    if kind is Overloaded:
        return Overloaded(message, retry_after=_seconds(retry_after), **about)
    return kind(message, **about)


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
