"""The app: its layers, its routes in the order in which they match, its errors.

Nothing is decided here. The page is put on the same app afterwards, so every path below /api/ is
answered here, whether there is such a route or not.
"""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from llm_operator.admin.api import answers, backends, probes, traffic
from llm_operator.admin.api.counts import Counts
from llm_operator.admin.api.describe import TITLE, document
from llm_operator.admin.api.edge import BASE, DOCUMENT, PROBES, Edge, Site
from llm_operator.admin.errors import AdminError
from llm_operator.admin.wiring import Admin

#: Words in the place of an id that are routes of their own.
WORDS = ("public", "metrics", "usage", "compare", "routers", "model/{model_name:path}")


class API(FastAPI):
    """The app, with a document of its own."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = document(self)
        return self.openapi_schema


class Refusing:
    """Answers what no route does: 405 for another method of a path that there is, else 404."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        methods = self._methods(scope)
        if methods:
            allow = ", ".join(sorted(methods))
            detail = f"{scope['method']} is not for this path; {allow} may be"
            refused = answers.answer({"detail": detail}, status=405, headers={"Allow": allow})
        else:
            refused = answers.answer({"detail": "there is no such path"}, status=404)
        await refused(scope, receive, send)

    def _methods(self, scope: Scope) -> set[str]:
        """What the path may be asked by, of the first routes that have it."""
        path, methods = None, set()
        for route in self._app.routes:
            if not isinstance(route, Route) or route.methods is None:
                continue
            if route.path == path or (path is None and route.matches(scope)[0] is not Match.NONE):
                path = route.path
                methods |= route.methods
        return methods | ({"HEAD"} if "GET" in methods else set())


def build(admin: Admin, *, public: bool, counts: Counts | None = None) -> FastAPI:
    """The app that serves the API.

    Args:
        admin: what it is built on.
        public: whether the two public routes answer without a token.
        counts: what it counts on, where somebody else shows that too.
    """
    app = API(
        title=TITLE,
        version=version("llm-backend"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    site = Site(admin=admin, counts=counts or Counts(), public=public)
    app.add_middleware(Edge, site=site)
    app.add_exception_handler(AdminError, answers.on_error)
    app.add_exception_handler(RequestValidationError, answers.on_malformed)
    app.add_exception_handler(HTTPException, answers.on_http)
    app.router.routes += _routes(Refusing(app))
    return app


def _routes(refusing: Refusing) -> list[BaseRoute]:
    """All routes, the first that matches first."""
    words = [DOCUMENT, *PROBES, *(f"{BASE}/{word}" for word in WORDS)]
    # NB: taken one by one, since an included router would be one route more to go through.
    return [
        *backends.public.routes,
        *backends.every.routes,
        *traffic.routes.routes,
        *probes.open_probes.routes,
        *probes.scraped.routes,
        # NB: before the routes of one backend, which would take a word for an id.
        *(Route(path, refusing) for path in words),
        *backends.one.routes,
        Route("/api/{rest:path}", refusing),
    ]
