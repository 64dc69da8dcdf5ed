"""The OpenAPI document: what every route answers, and with which status.

It describes; nothing of it is asked when a request is served. `told` is what a route says of itself
where it stands, `document` is the whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from llm_operator.admin.api import schema, shapes

TITLE = "LLM backends"
DESCRIPTION = """\
Backends of large language models: which server answers for which model, what it delivers, and \
what it was before. Every error is `{"detail": "..."}`; every answer has `X-Request-Id`."""

#: What a status says, wherever it is given.
STATUSES: Mapping[int, str] = {
    304: "It is still what If-None-Match names; no body.",
    400: "The request can't be what was meant; `detail` names field and reason, `errors` each one.",
    401: "No token, or one that nobody knows.",
    403: "The token is good and may not do this; `detail` names the right.",
    404: "There is no such thing.",
    409: "It is there already, or a GitOps pipeline manages it: then `managed_by` names that and "
    "`yaml` is what to commit to its repository.",
    412: "It is not what If-Match names any more, or others change it all the time.",
    413: "More than is taken at once. The connection is closed.",
    415: "The body is said to be something else than JSON.",
    429: "Too many wrong tokens, or too many batches; come again after Retry-After seconds.",
    503: "What is needed is away; come again after Retry-After seconds.",
}
#: What any route with a token can say; one that reads a body; one that changes a backend.
ASKING = (401, 403, 429, 503)
READING = (400, 413, 415)
WRITING = (400, 404, 409, 412, *ASKING)

_HEADERS: Mapping[int, Mapping[str, str]] = {
    304: {"ETag": "Its tag."},
    401: {"WWW-Authenticate": "Bearer, by RFC 6750."},
    403: {"WWW-Authenticate": "Bearer, by RFC 6750."},
    429: {"Retry-After": "Whole seconds."},
    503: {"Retry-After": "Whole seconds."},
}
_SECURITY: Mapping[bool | None, Sequence[Mapping[str, Sequence[str]]]] = {
    True: ({"bearer": ()},),
    False: (),
    None: ({}, {"bearer": ()}),
}

YAML = "text/yaml"

Extra = dict[str, Any]


def named(route: APIRoute) -> str:
    """The id of an operation: the name of its handler."""
    return route.name


def told(
    form: Any,
    *statuses: int,
    summary: str,
    status: int = 200,
    what: str = "As asked.",
    example: object = None,
    headers: Mapping[str, str] | None = None,
    reads: Sequence[Extra] = (),
    takes: Extra | None = None,
    secured: bool | None = True,
) -> Extra:
    """What a route says of itself.

    Args:
        form: of its answer; a media type where it is text.
        statuses: of its errors.
        summary: of what it does.
        status: of its answer.
        what: its answer is.
        example: of its answer.
        headers: of its answer, and what each says.
        reads: parameters that the route reads by itself.
        takes: body of a request.
        secured: whether it needs a token; None where that is a setting.
    """
    media = form if isinstance(form, str) else "application/json"
    content = {} if example is None else {"example": example}
    success: Extra = {"description": what, "content": {media: content}}
    if isinstance(form, str):
        # NB: a schema of YAML is of what is read from it.
        content["schema"] = {"type": "object" if form == YAML else "string"}
    else:
        success["model"] = form
    if headers:
        success["headers"] = _headers(headers)
    extra: Extra = {"security": [dict(one) for one in _SECURITY[secured]]}
    if reads:
        extra["parameters"] = list(reads)
    if takes:
        extra["requestBody"] = takes
    return {
        "summary": summary,
        "status_code": status,
        "responses": {status: success} | {one: _status(one) for one in sorted({*statuses})},
        "openapi_extra": extra,
    }


def body(name: str, example: object) -> Extra:
    """The body of a route.

    Args:
        name: of its form among the document's.
        example: of it.
    """
    form = {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": example}
    return {"required": True, "content": {"application/json": form}}


def described(name: str, description: str, *, place: str = "header") -> Extra:
    """A parameter that a route reads by itself, and where."""
    said: Extra = {"name": name, "in": place, "description": description}
    return {**said, "required": place == "path", "schema": {"type": "string"}}


IF_MATCH = described("If-Match", "Tags of which it must still have one, or *.")
IF_NONE_MATCH = described("If-None-Match", "Tags that are known already.")


def document(app: FastAPI) -> Extra:
    """The document of an app."""
    made = get_openapi(title=TITLE, version=app.version, description=DESCRIPTION, routes=app.routes)
    for route in app.routes:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                _mend(made["paths"][route.path_format][method.lower()]["responses"], route)
    components = made["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["schemas"] |= _bodies()
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return made


def _mend(responses: Extra, route: APIRoute) -> None:
    """Take FastAPI's own status away, which is never given, and give nulls back to examples."""
    responses.pop("422", None)
    for status, said in route.responses.items():
        for media, content in said.get("content", {}).items():
            if "example" in content:
                responses[str(status)]["content"][media]["example"] = content["example"]


def _bodies() -> Extra:
    forms: tuple[type[BaseModel], ...] = (shapes.Metric, shapes.Batch, shapes.Restore)
    return {
        "BackendCreate": schema.created(),
        "BackendChange": schema.changed(),
        **{form.__name__: form.model_json_schema() for form in forms},
    }


def _status(status: int) -> Extra:
    said: Extra = {"description": STATUSES[status]}
    if status != 304:
        said["model"] = shapes.Refusal
    if status in _HEADERS:
        said["headers"] = _headers(_HEADERS[status])
    return said


def _headers(said: Mapping[str, str]) -> Extra:
    return {
        name: {"description": text, "schema": {"type": "string"}} for name, text in said.items()
    }
