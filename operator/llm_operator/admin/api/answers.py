"""Values and errors of the services -> answers of HTTP.

Pure. Every error has the one form `{"detail": "..."}`, and whatever else the error tells.
"""

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from llm_operator.admin.errors import AdminError, Invalid, TooLarge
from llm_operator.resource.check import show

#: Seconds after which to come again, where an error names none.
AGAIN = 2.0

#: Entries of a list that are encoded at a time.
TURN = 20

REALM = 'Bearer realm="llm-backends"'


# NB: in ASCII, since half of a surrogate pair has no form in UTF-8.
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


def encoded(value: object) -> bytes:
    """A value as JSON."""
    return _encoder.encode(value).encode()


async def listed(encoded: Iterable[bytes]) -> bytes:
    """Values as one list. NB: others have their turn in between; a list can be long."""
    entries: list[bytes] = []
    for entry in encoded:
        entries.append(entry)
        if len(entries) % TURN == 0:
            await asyncio.sleep(0)
    return b"[" + b",".join(entries) + b"]"


def answer(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A value as an answer."""
    return plain(encoded(value), status=status, headers=headers)


def plain(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is encoded already."""
    return Response(body, status, headers=headers, media_type="application/json")


def failed(error: AdminError, *, shown: bool) -> Response:
    """An error as an answer.

    Args:
        error: of a service.
        shown: whether a token was sent at all, for RFC 6750.
    """
    headers: dict[str, str] = {}
    if error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        seconds = AGAIN if error.retry_after is None else error.retry_after
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = REALM + (', error="invalid_token"' if shown else "")
    if error.status == HTTPStatus.FORBIDDEN:
        headers["WWW-Authenticate"] = f'{REALM}, error="insufficient_scope"'
    if isinstance(error, TooLarge):
        # NB: what is left of the body would be read to its end otherwise.
        headers["Connection"] = "close"
    return answer({"detail": error.detail, **error.more}, status=error.status, headers=headers)


def sent_token(request: Request) -> bool:
    """Whether a request names a token."""
    return "authorization" in request.headers


async def on_error(request: Request, error: Exception) -> Response:
    """An error of the services."""
    assert isinstance(error, AdminError)
    return failed(error, shown=sent_token(request))


async def on_malformed(request: Request, error: Exception) -> Response:
    """A parameter of the path or the query that is none: 400."""
    assert isinstance(error, RequestValidationError)
    told = [
        (str(one["loc"][-1]), f"{_sentence(str(one['msg']))}, is {show(one['input'])}")
        for one in error.errors()
    ]
    return failed(malformed(told), shown=sent_token(request))


async def on_http(request: Request, error: Exception) -> Response:
    """What the framework, or a body of another type, makes of a request."""
    assert isinstance(error, HTTPException)
    return answer({"detail": error.detail}, status=error.status_code, headers=error.headers)


def malformed(told: list[tuple[str, str]]) -> Invalid:
    """All that is wrong with a request: as one sentence, and field by field."""
    errors = [{"field": field, "message": message} for field, message in told]
    detail = "; ".join(f"{field}: {message}" for field, message in told)
    return Invalid(detail, more={"errors": errors})


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]
