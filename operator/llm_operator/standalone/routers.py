"""Routers that are known by their URLs: those of `llmb up`, which are no pods.

What it lists never changes. They follow their folder by themselves, so nothing nudges them.
"""

from collections.abc import Sequence

from llm_operator.routers.router import Router
from llm_operator.standalone.files import NAMESPACE


class Known:
    """`Routers` by the URLs of their management ports."""

    def __init__(self, *urls: str) -> None:
        self._routers = [
            Router(namespace=NAMESPACE, name=url.removeprefix("http://"), uid=url, url=url)
            for url in urls
        ]

    async def list(self, namespace: str | None) -> Sequence[Router]:
        """All of them; they are of the one namespace there is."""
        return self._routers if namespace in (None, NAMESPACE) else []

    async def nudge(self, router: Router, checksum: str) -> None:
        """Nothing to do."""
