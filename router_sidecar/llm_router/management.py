"""The management port: probes, metrics and what this router runs.

The operator reads /status to know what is true in the data plane; kubelets probe /healthz and
/readyz. Nothing here changes routing but POST /reload, which reads the mounted folder at once.
"""

import asyncio
import time
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from llm_router import explain, select
from llm_router.fronts import ROUTES
from llm_router.serving import Parts
from llm_router.table import Entry

#: For the OpenAPI document: why /readyz is 503, what /explain refuses, and what it is asked.
NOT_READY = {"description": "why not", "content": {"text/plain": {"schema": {"type": "string"}}}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The question is wrong; `detail` names the field."},
    404: {"description": "No route has the model."},
}
QUESTION = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["model"],
                "properties": {
                    "model": {"type": "string"},
                    "path": {"type": "string", "enum": [*ROUTES]},
                    "body": {"type": "object"},
                    "needs": {"type": "array", "items": {"type": "string"}},
                    "sticky": {"type": "string"},
                },
            }
        }
    },
}


def create(parts: Parts) -> FastAPI:
    """The ASGI application of the management port."""
    release = version("llm-backend")
    app = FastAPI(title="LLM router management", version=release, docs_url=None, redoc_url=None)
    started = time.time()
    follower, metrics = parts.follower, parts.metrics

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> Response:
        """200 while the process answers; it never looks at hosts or configuration."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: NOT_READY})
    async def readyz() -> Response:
        """200 with a table to serve from, else 503 and why."""
        if parts.draining:
            return PlainTextResponse("draining\n", status_code=503)
        if follower.table is None:
            reason = follower.rejection.reason if follower.rejection else "nothing is mounted"
            return PlainTextResponse(f"no configuration: {reason}\n", status_code=503)
        return PlainTextResponse("ok\n")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def scrape() -> Response:
        """The Prometheus exposition."""
        parts.recorder.flush()
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/status")
    async def status() -> JSONResponse:
        """What this router runs, and the last revision it could not take."""
        return JSONResponse(describe(parts, release=release, started=started))

    @app.post("/reload")
    async def reload() -> JSONResponse:
        """Read the mounted folder now; the answer is /status with the result."""
        result = await follower.reload()
        described = describe(parts, release=release, started=started)
        return JSONResponse(described | {"result": result})

    @app.post("/explain", responses=REFUSALS, openapi_extra={"requestBody": QUESTION})
    async def explained(request: Request) -> JSONResponse:
        """Where a request would go now, and why not elsewhere; nothing is sent."""
        return JSONResponse(*explain.answer(parts, await request.body()))

    return app


def describe(parts: Parts, *, release: str, started: float) -> dict[str, Any]:
    """The document of /status. Times are Unix seconds; no address with credentials, no secret."""
    follower = parts.follower
    table, rejection = follower.table, follower.rejection
    config: dict[str, Any] | None = None
    if table is not None:
        config = {
            "checksum": table.checksum,
            "loadedAt": follower.loaded_at,
            "readAt": follower.read_at,
            "routes": [_route(table.entries[r.model]) for r in table.config.routes],
        }
    return {
        "version": release,
        "startedAt": started,
        "ready": table is not None and not parts.draining,
        "draining": parts.draining,
        "config": config,
        "rejected": {"reason": rejection.reason, "at": rejection.at} if rejection else None,
    }


def _route(entry: Entry) -> dict[str, Any]:
    route = entry.route
    now = asyncio.get_running_loop().time()
    return {
        "model": route.model,
        "name": route.name,
        "uid": route.uid,
        "generation": route.generation,
        "targets": [
            {
                "name": each.destination.target.name,
                "type": each.destination.target.type.value,
                "state": each.verdict.value,
                "why": each.why,
                # Without the seconds and counts of `why`: it stays while the state does.
                "failure": each.destination.unusable or each.destination.standing.why or None,
                "since": each.destination.standing.since or None,
                "active": each.destination.standing.active,
                "loaded": each.destination.standing.loaded,
                "tokensPerSecond": round(each.destination.standing.tokens_per_second, 2) or None,
                "firstTokenSeconds": round(each.destination.standing.first_token_seconds, 4)
                or None,
            }
            for each in select.explain(entry, None, now)
        ],
    }
