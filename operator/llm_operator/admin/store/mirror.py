"""Keeps a shelf equal to the LLMBackends of a cluster: a list, then a watch, for ever.

    API server -> list, watch -> Shelf

While the API server is away the last copy stays, and the shelf says that it does not follow. What
a watch misses a list finds: after an error, a cut, silence, or a version that is too old. It
writes nothing.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from llm_operator.admin.model import Backend
from llm_operator.admin.store.objects import backend, version
from llm_operator.admin.store.shelf import Shelf
from llm_operator.api import API, JSON, NotConfigured
from llm_operator.cluster import GROUP_PATH
from llm_operator.ports import PortError
from llm_operator.resource.model import PLURAL

logger = logging.getLogger(__name__)

#: Seconds between two attempts, at first and at most.
AGAIN, AGAIN_LONGEST = 0.2, 10.0
#: Seconds that a watch has to last; one that ends sooner is a failure.
LASTING = 1.0
#: Objects in one answer of the API server, and between two turns of everybody else.
PAGE, TURN = 500, 25


class Mirror:
    """What follows. It runs while `run` does."""

    def __init__(self, api: API, shelf: Shelf, *, namespaces: frozenset[str] = frozenset()) -> None:
        """Take the API to ask, what to keep equal, and the namespaces served; empty for all."""
        self._api = api
        self._shelf = shelf
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._unlisted, self._behind = set(self._scopes), set(self._scopes)
        self._seen: dict[str, Backend] = {}
        #: Uids of what was deleted from here and may still come in a watch that is behind.
        self._gone: set[str] = set()

    async def run(self) -> None:
        """Follow, for ever."""
        async with asyncio.TaskGroup() as both:
            for scope in self._scopes:
                both.create_task(self._keep_following(scope))

    def saw(self, item: Mapping[str, Any]) -> Backend:
        """Put an object on the shelf as the API server answered it; what was put there, which is
        what a watch brought if that is newer.
        """
        uid = item["metadata"]["uid"]
        known = self._seen.get(uid)
        made = backend(item, known)
        if known is None or version(known.version) < version(made.version):
            self._seen[uid] = known = made
            self._shelf.put([made])
        return known

    def lost(self, uid: str) -> None:
        """Take away what was deleted."""
        self._gone.add(uid)
        self._seen.pop(uid, None)
        self._shelf.put([], gone=[uid])

    async def _keep_following(self, scope: str | None) -> None:
        pause, told = AGAIN, ""
        loop = asyncio.get_running_loop()
        while True:
            began: float | None = None
            try:
                at = await self._list(scope)
                began = loop.time()
                await self._follow(scope, at)
                told = ""
            except (PortError, NotConfigured) as error:
                self._follows(scope, False)
                if str(error) != told:
                    logger.warning("mirror_behind", extra={"detail": str(error)})
                told = str(error)
            except Exception:
                # NB: nothing else would begin this again.
                self._follows(scope, False)
                logger.exception("mirror_broken")
            lasted = began is not None and loop.time() - began > LASTING
            pause = AGAIN if lasted else min(pause * 2, AGAIN_LONGEST)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    def _follows(self, scope: str | None, does: bool) -> None:
        if does:
            self._behind.discard(scope)
        else:
            self._behind.add(scope)
        self._shelf.tell(fresh=not self._behind, listed=not self._unlisted)

    async def _list(self, scope: str | None) -> str:
        """Make the shelf equal to what there is; the version that this is of."""
        items: dict[str, Backend] = {}
        at = ""
        async for page in self._pages(scope):
            at = page["metadata"]["resourceVersion"]
            for number, item in enumerate(page["items"]):
                uid = item["metadata"]["uid"]
                items[uid] = backend(item, self._seen.get(uid))
                if number % TURN == 0:
                    await asyncio.sleep(0)
        self._gone -= {uid for uid in self._gone if uid not in items}
        fresh = [one for one in items.values() if self._is_news(one)]
        # NB: what was written from here while the list was made is not in it.
        absent = [
            uid
            for uid, one in self._seen.items()
            if uid not in items
            and scope in (None, one.resource.identity.namespace)
            and version(one.version) <= version(at)
        ]
        for uid in absent:
            del self._seen[uid]
        self._seen |= {one.uid: one for one in fresh}
        self._shelf.put(fresh, gone=absent)
        self._unlisted.discard(scope)
        self._shelf.tell(fresh=not self._behind, listed=not self._unlisted)
        return at

    async def _pages(self, scope: str | None) -> AsyncIterator[Mapping[str, Any]]:
        query = {"limit": str(PAGE)}
        while True:
            page = await self._api.get(_path(scope), query=query)
            yield page
            if not (after := page["metadata"].get("continue")):
                return
            query["continue"] = after

    async def _follow(self, scope: str | None, at: str) -> None:
        """Watch from a version on, again and again, until a list is needed."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            query = {"resourceVersion": at}
            begun = partial(self._follows, scope, True)
            path = _path(scope)
            async for event in self._api.watch(path, query=query, accept=JSON, begun=begun):
                if event["type"] == "ERROR":
                    # The version is too old, most likely.
                    return
                at = event["object"]["metadata"]["resourceVersion"]
                self._take(event["type"], event["object"])
            if loop.time() - began < LASTING:
                return

    def _take(self, what: str, item: Mapping[str, Any]) -> None:
        if what == "BOOKMARK":
            return
        uid = item["metadata"]["uid"]
        if what == "DELETED":
            self._gone.discard(uid)
            if self._seen.pop(uid, None) is not None:
                self._shelf.put([], gone=[uid])
            return
        if uid not in self._gone:
            self.saw(item)

    def _is_news(self, one: Backend) -> bool:
        known = self._seen.get(one.uid)
        return one.uid not in self._gone and (
            known is None or version(known.version) < version(one.version)
        )


def _path(scope: str | None) -> str:
    return (
        f"{GROUP_PATH}/{PLURAL}" if scope is None else f"{GROUP_PATH}/namespaces/{scope}/{PLURAL}"
    )
