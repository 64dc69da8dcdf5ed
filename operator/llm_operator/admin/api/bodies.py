"""The body of a request -> JSON, and JSON -> a form.

A body is read as it comes and no further than its limit. Forms are strict: true is no number, "60"
is none, and a field that nobody knows is refused with the one that was probably meant.
"""

import difflib
import json
import re
from collections.abc import Mapping
from email.message import Message
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from llm_operator.admin.api.answers import malformed
from llm_operator.admin.errors import Invalid, TooLarge
from llm_operator.resource.check import show

#: Bytes of a body.
LIMIT = 256 * 1024
USAGE_LIMIT = 2 * 1024 * 1024

Form = TypeVar("Form", bound=BaseModel)

#: As JSON has it, and not behind a backslash of the text's own.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

_MESSAGES = {
    "missing": "is required",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "model_type": "must be an object",
}


async def read(request: Request, *, limit: int = LIMIT) -> Any:
    """The JSON of a body.

    Raises:
        HTTPException: 415, it is said to be something else.
        TooLarge: it has more bytes than the limit.
        Invalid: it is no JSON.
    """
    _is_json(request)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return parse(bytes(body))


async def read_object(request: Request) -> dict[str, Any]:
    """The object of a body, of which every text can be stored. Raises as `read` does."""
    given = await read(request)
    if not isinstance(given, dict):
        raise Invalid(f"body: must be an object, is {show(given)}")
    try:
        told = json.dumps(given, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise Invalid("body: a number of it is too large for any") from None
    if _NUL.search(told) or not _encodable(told):
        raise Invalid("body: a text of it holds a NUL, or half of a surrogate pair")
    return given


def parse(body: bytes) -> Any:
    """The JSON of some bytes.

    Raises:
        Invalid: they are none.
    """
    try:
        return json.loads(body.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise Invalid("body: must be JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Invalid(f"body: must be JSON; {error.msg.lower()} at {where}") from None
    except (ValueError, RecursionError):
        raise Invalid("body: must be JSON; it has a number or a depth that is none") from None


def form(kind: type[Form], given: object) -> Form:
    """A value as a form.

    Raises:
        Invalid: with everything that is wrong.
    """
    try:
        return kind.model_validate(given, strict=True)
    except ValidationError as error:
        told = [_told(kind, dict(one)) for one in error.errors(include_url=False)]
        raise malformed(told) from None


def _told(kind: type[BaseModel], one: Mapping[str, Any]) -> tuple[str, str]:
    field = ".".join(map(str, one["loc"])) or "body"
    if one["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, kind.model_fields, n=1)
        return field, "unknown field" + (f"; did you mean {close[0]}?" if close else "")
    message = _MESSAGES.get(one["type"]) or str(one["msg"]).replace("Input should", "should")
    return field, message if one["type"] == "missing" else f"{message}, is {show(one['input'])}"


def _is_json(request: Request) -> None:
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise HTTPException(415, f"Content-Encoding: {coding} is not read; send the body as it is")
    if "content-type" not in request.headers:
        return
    message = Message()
    message["content-type"] = given = request.headers["content-type"]
    kind = message.get_content_type()
    if kind != "application/json" and not (kind.startswith("application/") and "+json" in kind):
        raise HTTPException(415, f"Content-Type: must be application/json, is {show(given)}")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"body: it has more than {limit // 1024} KiB, which is the limit here")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_number(text: str) -> float:
    raise ValueError(text)
