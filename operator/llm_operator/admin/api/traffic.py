"""The routes of recorded traffic, and of the routers that it goes through.

    POST /usage, /metrics -> Traffic        GET /metrics, /compare <- Traffic
                                            GET /routers           <- Fleet

A batch of usage is read here and judged there.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from llm_operator.admin import rights
from llm_operator.admin.api import bodies, examples, paging, shapes
from llm_operator.admin.api.answers import answer
from llm_operator.admin.api.backends import Namespace
from llm_operator.admin.api.callers import caller, known
from llm_operator.admin.api.describe import ASKING, READING, body, named, told
from llm_operator.admin.api.edge import BASE, Site, call
from llm_operator.admin.api.when import instant
from llm_operator.admin.errors import Invalid
from llm_operator.admin.model import Sample
from llm_operator.admin.traffic import Span
from llm_operator.compare import document
from llm_operator.resource.check import show
from llm_operator.routers.report import Answer, Report, RouteReport, Unreachable
from llm_operator.routers.router import Router

#: What is compared where no time is given, and points of a series where no step is.
DAY = timedelta(days=1)
POINTS = 100

MODEL = Query(max_length=253, description="Of this model alone.")

routes = APIRouter(prefix=BASE, dependencies=[Depends(known)], generate_unique_id_function=named)


@routes.get(
    "/metrics",
    **told(
        list[shapes.Sample],
        *(400, *ASKING),
        summary="List recorded requests",
        example=[examples.SAMPLE],
        headers={"Link": "The next page, by RFC 8288."},
    ),
)
async def list_metrics(
    request: Request,
    *,
    model: Annotated[str | None, MODEL] = None,
    backend: Annotated[
        str | None, Query(max_length=16, description="Of this type of backend alone.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries of a page.")] = 100,
    before: Annotated[
        str | None, Query(max_length=1024, description="The key of the last entry seen.")
    ] = None,
) -> Response:
    """Recorded requests, newest first."""
    found = await _site(request).admin.traffic.samples(
        caller(request), model=model, backend=backend, before=before, limit=limit
    )
    headers = {}
    if len(found) == limit:
        query = {"model": model, "backend": backend, "limit": limit, "before": found[-1].key}
        headers["Link"] = paging.link(f"{BASE}/metrics", query, relation="next")
    return answer([_sample(one) for one in found], headers=headers)


@routes.post(
    "/metrics",
    **told(
        shapes.Stored,
        *(*READING, *ASKING),
        summary="Record a request",
        status=201,
        what="It is stored.",
        example={"id": "a1b2c3", "status": "created"},
        takes=body("Metric", examples.METRIC),
    ),
)
async def create_metric(request: Request) -> Response:
    """Record one request in the predecessor's form."""
    metric = bodies.form(shapes.Metric, await bodies.read_object(request))
    key = await _site(request).admin.traffic.add(caller(request), metric.model_dump())
    return answer({"id": key, "status": "created"}, status=201)


@routes.post(
    "/usage",
    **told(
        shapes.Intake,
        *(*READING, *ASKING),
        summary="Take in usage records",
        what="What is stored is stored for good; the batch needs not be sent again.",
        example={"stored": 1, "known": 0, "refused": []},
        takes=body("Batch", {"records": [examples.RECORD]}),
    ),
)
async def take_usage(request: Request) -> Response:
    """Store a batch of a router's usage records, each once however often it is sent."""
    given = await bodies.read(request, limit=bodies.USAGE_LIMIT)
    records = given.get("records") if isinstance(given, dict) else None
    if not isinstance(records, list):
        raise Invalid(f"records: must be a list, is {show(records)}")
    site = _site(request)
    taken = await site.admin.traffic.take(caller(request), records)
    site.counts.took(taken)
    return answer({"stored": taken.new, "known": taken.known, "refused": list(taken.refused)})


@routes.get(
    "/compare",
    **told(
        shapes.Compared,
        *(400, *ASKING),
        summary="Compare the backends of a model",
        example=examples.COMPARED,
    ),
)
async def compare_backends(
    request: Request,
    *,
    model: Annotated[str, Query(min_length=1, max_length=253, description="Which model.")],
    since: Annotated[
        str | None, Query(max_length=64, description="ISO 8601, or ago as 24h, 7d; a day.")
    ] = None,
    until: Annotated[
        str | None, Query(max_length=64, description="ISO 8601, or ago as 1h; now.")
    ] = None,
    baseline: Annotated[
        str | None, Query(max_length=253, description="What the others are compared with.")
    ] = None,
    by: Annotated[Literal["backend_type", "target"], Query(description="What is compared.")] = (
        "backend_type"
    ),
    namespace: Namespace = None,
    series: Annotated[bool, Query(description="Add `series`: points over time.")] = False,
    step: Annotated[
        int | None, Query(ge=1, le=31 * 86_400, description="Seconds of a point of the series.")
    ] = None,
) -> Response:
    """What each backend of a model did over a time, beside one of them."""
    now = datetime.now(UTC)
    end = now if until is None else instant(until, now=now, field="until")
    begin = end - DAY if since is None else instant(since, now=now, field="since")
    span = Span(model=model, since=begin, until=end, by=by, namespace=namespace)
    traffic = _site(request).admin.traffic
    compared = await traffic.compare(caller(request), span, baseline=baseline)
    report = document.Report(model=model, since=begin, until=end, by=by, comparison=compared)
    outcome = document.write(report)
    if series:
        step = step or max(1, round((end - begin).total_seconds() / POINTS))
        points = await traffic.series(caller(request), span, step=step)
        outcome |= {"step": step, "series": document.points(points)}
    return answer(outcome)


@routes.get(
    "/routers",
    **told(
        list[shapes.RouterState],
        *ASKING,
        summary="List routers",
        example=[examples.ROUTER],
    ),
)
async def list_routers(request: Request) -> Response:
    """The routers of namespaces whose backends the caller may list, and what each runs."""
    admin = _site(request).admin
    found = await admin.fleet.list()
    names = {router.namespace for router, _ in found} or {admin.namespace}
    may = await rights.readable(admin.gate, caller(request), names)
    return answer([_router(router, said) for router, said in found if router.namespace in may])


def _site(request: Request) -> Site:
    return call(request).site


def _sample(one: Sample) -> dict[str, Any]:
    told = asdict(one)
    return {"key": told.pop("key"), "timestamp": told.pop("at"), **told}


def _router(router: Router, said: Answer) -> dict[str, Any]:
    runs = said if isinstance(said, Report) else Report()
    return {
        "namespace": router.namespace,
        "name": router.name,
        "uid": router.uid,
        "url": router.url,
        "ready": router.ready,
        "terminating": router.terminating,
        "unreachable": said.reason if isinstance(said, Unreachable) else None,
        "checksum": runs.checksum or None,
        "rejected": runs.rejected or None,
        "routes": [_route(uid, route) for uid, route in runs.routes.items()],
    }


def _route(uid: str, route: RouteReport) -> dict[str, Any]:
    targets: Sequence[dict[str, Any]] = [
        {
            "name": target.name,
            "state": target.state,
            "failure": target.failure or None,
            "since": target.since,
            "tokens_per_second": target.speed,
            "first_token_seconds": target.wait,
        }
        for target in route.targets
    ]
    return {"uid": uid, "generation": route.generation, "targets": targets}
