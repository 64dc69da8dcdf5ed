"""/healthz and /readyz for whoever watches the process, and /metrics for whoever counts.

They ask no server. Only /metrics needs a token, because it tells of traffic.
"""

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from llm_operator.admin import rights
from llm_operator.admin.api.callers import caller, known
from llm_operator.admin.api.describe import ASKING, named, told
from llm_operator.admin.api.edge import call
from llm_operator.admin.model import Verb
from llm_operator.health import EXPOSITION

open_probes = APIRouter(generate_unique_id_function=named)
scraped = APIRouter(dependencies=[Depends(known)], generate_unique_id_function=named)


@open_probes.get("/healthz", **told("text/plain", summary="Ask for life", secured=False))
async def healthz() -> Response:
    """200 while the process answers."""
    return PlainTextResponse("ok\n")


@open_probes.get("/readyz", **told("text/plain", 503, summary="Ask for readiness", secured=False))
async def readyz(request: Request) -> Response:
    """200 once the backends were listed, else 503."""
    call(request).site.admin.store.list()
    return PlainTextResponse("ok\n")


@scraped.get("/metrics", **told("text/plain", *ASKING, summary="Scrape"))
async def scrape(request: Request) -> Response:
    """The Prometheus metrics of this process, for whoever may list backends."""
    site = call(request).site
    await rights.need(site.admin.gate, caller(request), Verb.LIST, site.admin.namespace)
    return Response(site.counts.render(), headers=EXPOSITION)
