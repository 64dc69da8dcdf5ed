"""API and page on one app."""

from fastapi import FastAPI

from llm_operator.admin.api import app
from llm_operator.admin.page import mount
from llm_operator.admin.wiring import Admin


def build(admin: Admin, *, public: bool) -> FastAPI:
    """The app that is served.

    Args:
        admin: what it is built on.
        public: whether the two public routes answer without a token.
    """
    built = app.build(admin, public=public)
    # NB: last, since it may answer every path that nobody else does.
    mount.mount(built, admin)
    return built
