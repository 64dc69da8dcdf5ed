"""The routes of backends: HTTP to `Backends`, and back.

Each reads what was asked, calls the service once, and tells the outcome under the predecessor's
names. What each can answer stands over it; nothing is decided here.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from llm_operator.admin import change, view
from llm_operator.admin.api import bodies, examples, paging, shapes, tags
from llm_operator.admin.api.answers import answer, encoded, listed, malformed, plain
from llm_operator.admin.api.callers import anybody, caller, known
from llm_operator.admin.api.describe import (
    ASKING,
    IF_MATCH,
    IF_NONE_MATCH,
    READING,
    WRITING,
    YAML,
    body,
    described,
    named,
    told,
)
from llm_operator.admin.api.edge import BASE, call
from llm_operator.admin.backends import Backends, Standing
from llm_operator.admin.difference import differences
from llm_operator.admin.errors import Invalid
from llm_operator.admin.model import Generation
from llm_operator.resource.check import show

DELETED = "Backend configuration deleted"
SWITCHED = {True: "Backend enabled", False: "Backend disabled"}

Key = Annotated[str, Path(alias="id", description="The backend's id, or its uid.")]
NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
Namespace = Annotated[
    str | None,
    Query(pattern=f"^{NAMESPACE.pattern}$", description="Of this namespace alone."),
]
EnabledOnly = Annotated[bool, Query(description="Leave out those that are switched off.")]
Limit = Annotated[
    int | None, Query(ge=1, le=paging.LARGEST, description="Entries of a page; all without it.")
]
Offset = Annotated[int, Query(ge=0, le=10**9, description="Entries before the page.")]

TAGGED = {"ETag": "Its tag, for If-Match and If-None-Match."}
PAGED = {paging.TOTAL: "Entries of all pages.", "Link": "Other pages, by RFC 8288."}

#: Those of fixed words; without a token; and of one backend, whose paths would match the others'.
every = APIRouter(prefix=BASE, dependencies=[Depends(known)], generate_unique_id_function=named)
public = APIRouter(prefix=BASE, generate_unique_id_function=named)
one = APIRouter(
    prefix=f"{BASE}/{{id}}", dependencies=[Depends(known)], generate_unique_id_function=named
)


def service(request: Request) -> Backends:
    """What answers."""
    return call(request).site.admin.backends


@every.get(
    "",
    **told(
        list[shapes.Backend],
        *(400, *ASKING),
        summary="List backends",
        example=[examples.BACKEND],
        headers=PAGED,
    ),
)
async def list_backends(
    request: Request,
    *,
    enabled_only: EnabledOnly = False,
    namespace: Namespace = None,
    backend_type: Annotated[
        str | None, Query(max_length=16, description="Of this type alone: ollama, mlx and so on.")
    ] = None,
    search: Annotated[
        str | None,
        Query(
            max_length=256,
            description="Words that have to be in model, aliases, name, address or description.",
        ),
    ] = None,
    limit: Limit = None,
    offset: Offset = 0,
) -> Response:
    """All backends that the caller may list, by priority, then model."""
    found = await service(request).list(
        caller(request), namespace=namespace, enabled_only=enabled_only
    )
    chosen = paging.chosen(found, backend_type=backend_type, search=search)
    asked = {
        "enabled_only": enabled_only or None,
        "namespace": namespace,
        "backend_type": backend_type,
        "search": search,
    }
    page, headers = paging.page(chosen, path=BASE, asked=asked, limit=limit, offset=offset)
    told = await listed(encoded(standing.shown()) for standing in page)
    return plain(told, headers=headers)


@every.post(
    "",
    **told(
        shapes.Backend,
        *(404, 409, *READING, *ASKING),
        summary="Make a backend",
        status=201,
        what="It is made; `state` says whether the operator has taken it already.",
        example=examples.BACKEND,
        headers={**TAGGED, "Location": "Its path."},
        takes=body("BackendCreate", examples.CREATE),
    ),
)
async def create_backend(request: Request) -> Response:
    """Make a backend, which is a resource LLMBackend. What is left out gets the defaults of the
    schema; null leaves it to the server that is asked. The answer waits some seconds for the
    operator.
    """
    given = await bodies.read_object(request)
    with _api_names():
        made = await service(request).create(caller(request), given)
    place = f"{BASE}/{made.backend.uid if made.number is None else made.number}"
    return _one(made, status=201, headers={"Location": place})


@public.get(
    "/public",
    **told(
        list[shapes.Public],
        *(400, *ASKING),
        summary="List backends without a token",
        example=[examples.PUBLIC],
        headers=PAGED,
        secured=None,
    ),
)
async def list_public(
    request: Request,
    _: Annotated[None, Depends(anybody)],
    *,
    enabled_only: EnabledOnly = False,
    limit: Limit = None,
    offset: Offset = 0,
) -> Response:
    """All backends, by priority, then model; without who changed them and what they did."""
    found = await service(request).list(call(request).caller, enabled_only=enabled_only)
    path, asked = f"{BASE}/public", {"enabled_only": enabled_only or None}
    page, headers = paging.page(found, path=path, asked=asked, limit=limit, offset=offset)
    kept = call(request).site.kept
    told = await listed(kept.public(standing) for standing in page)
    return plain(told, headers=headers)


@public.get(
    "/model/{model_name:path}",
    **told(
        shapes.Public,
        *(400, 404, *ASKING),
        summary="Find the backend of a model",
        example=examples.PUBLIC,
        reads=[
            described("model_name", "Its name or an alias; may hold : and /.", place="path"),
            described("namespace", "Of this namespace alone.", place="query"),
        ],
        secured=None,
    ),
)
async def get_by_model(request: Request) -> Response:
    """The enabled backend that serves a model, by its name or an alias."""
    # NB: what programs ask most, so parameters are read here, which takes a third of the time.
    await anybody(request)
    namespace = request.query_params.get("namespace")
    if namespace is not None and not NAMESPACE.fullmatch(namespace):
        raise Invalid(f"namespace: must be the name of a namespace, is {show(namespace)}")
    asked = call(request)
    found = await asked.site.admin.backends.lookup(
        request.path_params["model_name"], namespace=namespace, caller=asked.caller
    )
    return plain(asked.site.kept.public(found))


@one.get(
    "",
    **told(
        shapes.Backend,
        *(304, 400, 404, *ASKING),
        summary="Show a backend",
        example=examples.BACKEND,
        headers=TAGGED,
        reads=[IF_NONE_MATCH],
    ),
)
async def get_backend(request: Request, key: Key) -> Response:
    """One backend."""
    told = _one(await service(request).get(caller(request), key))
    if tags.seen(request, told.headers["ETag"]):
        return Response(status_code=304, headers={"ETag": told.headers["ETag"]})
    return told


@one.put(
    "",
    **told(
        shapes.Backend,
        *(*WRITING, *READING),
        summary="Change a backend",
        example=examples.BACKEND,
        headers=TAGGED,
        reads=[IF_MATCH],
        takes=body("BackendChange", examples.CHANGE),
    ),
)
async def update_backend(request: Request, key: Key) -> Response:
    """Change the fields that are given; null takes one away. No other field changes."""
    match = tags.match(request)
    given = await bodies.read_object(request)
    with _api_names():
        return _one(await service(request).update(caller(request), key, given, match=match))


@one.delete(
    "",
    **told(
        shapes.Deleted,
        *WRITING,
        summary="Delete a backend",
        example={"message": DELETED, "id": 1},
        reads=[IF_MATCH],
    ),
)
async def delete_backend(request: Request, key: Key) -> Response:
    """Delete a backend. Its history and what is recorded of it stay."""
    gone = await service(request).delete(caller(request), key, match=tags.match(request))
    return answer({"message": DELETED, "id": gone.number})


@one.post(
    "/toggle",
    **told(
        shapes.Toggled,
        *WRITING,
        summary="Switch a backend on or off",
        example=examples.TOGGLED,
        reads=[IF_MATCH],
    ),
)
async def toggle_backend(request: Request, key: Key) -> Response:
    """Switch it off when it is on, and on when it is off."""
    switched = await service(request).toggle(caller(request), key, match=tags.match(request))
    fields = view.fields(switched.backend)
    enabled = fields["enabled"] is True
    return answer(
        {
            "id": switched.number,
            "model_name": fields["model_name"],
            "enabled": enabled,
            "message": SWITCHED[enabled],
        }
    )


@one.post(
    "/restore",
    **told(
        shapes.Backend,
        *(*WRITING, *READING),
        summary="Go back to an earlier generation",
        example={**examples.BACKEND, "generation": 3},
        headers=TAGGED,
        reads=[IF_MATCH],
        takes=body("Restore", {"generation": 1}),
    ),
)
async def restore_backend(request: Request, key: Key) -> Response:
    """Make its spec what it was at an earlier generation, as a new one."""
    match = tags.match(request)
    asked = bodies.form(shapes.Restore, await bodies.read_object(request))
    with _api_names():
        restored = await service(request).restore(
            caller(request), key, asked.generation, match=match
        )
    return _one(restored)


@one.get(
    "/history",
    **told(
        list[shapes.Generation],
        *(400, 404, *ASKING),
        summary="Show its history",
        example=[examples.GENERATION],
        headers={"Link": "The next page, by RFC 8288."},
    ),
)
async def get_history(
    request: Request,
    key: Key,
    *,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="Lower generations alone.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Entries of a page.")] = 50,
) -> Response:
    """Its generations, newest first, each with what it changed."""
    found = await service(request).history(caller(request), key, before=before, limit=limit + 1)
    entries = [_entry(now, then) for now, then in zip_longest(found, found[1:])]
    headers = {}
    if len(found) > limit:
        query = {"limit": limit, "before": found[limit - 1].generation}
        headers["Link"] = paging.link(request.url.path, query, relation="next")
    return answer(entries[:limit], headers=headers)


@one.get(
    "/yaml",
    **told(YAML, *(404, *ASKING), summary="Show its YAML", example=examples.YAML),
)
async def get_yaml(request: Request, key: Key) -> Response:
    """Its resource as YAML, as a repository holds it."""
    found = await service(request).get(caller(request), key)
    return Response(found.yaml(), media_type=f"{YAML}; charset=utf-8")


def _one(
    standing: Standing, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    told = encoded(standing.shown())
    tagged = {**(headers or {}), "ETag": tags.tag(standing, told)}
    return plain(told, status=status, headers=tagged)


def _entry(now: Generation, then: Generation | None) -> dict[str, Any]:
    # NB: what was created has nothing before it, of another resource of its name or not.
    before = now if now.change == "created" else then
    changes = None if before is None else differences(before.spec, now.spec)
    return {
        "generation": now.generation,
        "change": now.change,
        "changed_by": now.changed_by,
        "changed_at": now.changed_at.isoformat(),
        "recorded_at": now.recorded_at.isoformat(),
        "name": now.name,
        "namespace": now.namespace,
        "spec": dict(now.spec),
        "differences": changes
        and [{"path": c.path, "before": c.before, "after": c.after} for c in changes],
    }


@contextmanager
def _api_names() -> Iterator[None]:
    """Name fields in the words of the API where the resource's rules named them in theirs."""
    try:
        yield
    except Invalid as error:
        found: Any = error.more.get("errors")
        if not found:
            raise
        told = [(change.named(one["field"]), one["message"]) for one in found]
        raise malformed(told) from None
