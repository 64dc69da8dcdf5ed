"""Notices that something changed that resources refer to, and has their namespace reconciled.

One watch for all labelled Secrets, one for the Services of each namespace that refers to any, one
for each ConfigMap referred to; all of metadata alone, so that no value comes this way. kopf can't
select what it watches, and would be sent every Secret of the cluster. What a watch misses, or what
is beyond `MOST`, the resync finds. Any failure ends one attempt, never the watching.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_operator.api import API, METADATA, NotConfigured
from llm_operator.ports import PortError
from llm_operator.references.model import Sought
from llm_operator.references.resolve import LABEL

logger = logging.getLogger(__name__)

#: Watches besides that of the Secrets at most; each is a connection.
MOST = 200
#: Seconds between two attempts, at first and at most.
AGAIN, AGAIN_LONGEST = 1.0, 30.0

#: namespace, name -> resourceVersion
Versions = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What one watch is of.

    Attributes:
        path: of the list.
        namespace: where that is; None for all.
        selector: its query, without the question mark.
    """

    path: str
    namespace: str | None = None
    selector: tuple[tuple[str, str], ...] = ()


class Watches:
    """All watches of what is referred to. They run while `run` does."""

    def __init__(self, api: API, *, namespaces: frozenset[str] = frozenset()) -> None:
        """Take the API to ask, and the namespaces served; empty for all."""
        self._api = api
        scopes: list[str | None] = [*sorted(namespaces)]
        self._secrets = [
            Watched(
                path=f"{_root(namespace)}/secrets",
                namespace=namespace,
                selector=(("labelSelector", LABEL),),
            )
            for namespace in scopes or [None]
        ]
        self._looks: dict[str, Sought] = {}
        self._tasks: dict[Watched, asyncio.Task[None]] = {}
        self._due: set[str] = set()
        self._woken = asyncio.Event()
        self._running = False

    def follow(self, namespace: str, look: Sought) -> None:
        """From now on notice changes of these, and of no others in the namespace."""
        before = self._looks.get(namespace, Sought())
        if look:
            self._looks[namespace] = look
        else:
            self._looks.pop(namespace, None)
        if look != before:
            self._arrange()

    async def run(self, reconcile: Callable[[str], Awaitable[None]]) -> None:
        """Have namespaces reconciled as things change in them, for ever."""
        self._running = True
        self._arrange()
        pause = AGAIN
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                due, self._due = sorted(self._due), set()
                done = await asyncio.gather(
                    *(reconcile(namespace) for namespace in due), return_exceptions=True
                )
                failed = {ns for ns, error in zip(due, done, strict=True) if error is not None}
                pause = min(pause * 2, AGAIN_LONGEST) if failed else AGAIN
                if failed:
                    self._due |= failed
                    delay = pause * random.uniform(0.5, 1.0)
                    asyncio.get_running_loop().call_later(delay, self._woken.set)
        finally:
            await self.close()

    async def close(self) -> None:
        """Notice nothing any more."""
        self._running = False
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _arrange(self) -> None:
        """Begin the watches that are lacking, end those that nobody needs."""
        if not self._running:
            return
        wanted = [*self._secrets, *self._others()]
        most = len(self._secrets) + MOST
        if len(wanted) > most >= len(self._tasks):
            logger.warning("watches_limited", extra={"wanted": len(wanted), "most": most})
        wanted = wanted[:most]
        for watched in self._tasks.keys() - set(wanted):
            self._tasks.pop(watched).cancel()
        for watched in wanted:
            if watched not in self._tasks:
                self._tasks[watched] = asyncio.create_task(
                    self._keep_watching(watched), name=f"watch {watched.path}"
                )

    def _others(self) -> list[Watched]:
        found = []
        for namespace, look in sorted(self._looks.items()):
            root = _root(namespace)
            if look.services:
                found.append(Watched(path=f"{root}/services", namespace=namespace))
            for name in sorted(look.config_maps):
                selector = (("fieldSelector", f"metadata.name={name}"),)
                path = f"{root}/configmaps"
                found.append(Watched(path=path, namespace=namespace, selector=selector))
        return found

    async def _keep_watching(self, watched: Watched) -> None:
        known: Versions | None = None
        pause, told = AGAIN, ""
        while True:
            try:
                version, listed = await self._list(watched)
                self._compare(watched, known, listed)
                known, pause, told = listed, AGAIN, ""
                await self._follow(watched, version, known)
            except (PortError, NotConfigured) as error:
                if str(error) != told:
                    logger.warning("watch_failed", extra={"detail": str(error)})
                told = str(error)
            except Exception:
                # NB: nothing else would begin this watch again.
                logger.exception("watch_broken")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, AGAIN_LONGEST)

    async def _list(self, watched: Watched) -> tuple[str, Versions]:
        answer = await self._api.get(watched.path, query=dict(watched.selector), accept=METADATA)
        # NB: a list of metadata with nothing in it has null there.
        items = answer["items"] or ()
        listed = {_named(item): item["metadata"]["resourceVersion"] for item in items}
        return answer["metadata"]["resourceVersion"], listed

    async def _follow(self, watched: Watched, version: str, known: Versions) -> None:
        """Watch from a version on, again and again, until a list is needed."""
        while True:
            query = {**dict(watched.selector), "resourceVersion": version}
            async for event in self._api.watch(watched.path, query=query):
                if event["type"] == "ERROR":
                    # The version is too old, most likely.
                    return
                item = event["object"]
                version = item["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                if event["type"] == "DELETED":
                    known.pop(_named(item), None)
                else:
                    known[_named(item)] = version
                self._changed(*_named(item))

    def _compare(self, watched: Watched, known: Versions | None, listed: Versions) -> None:
        if known is None:
            # What changed between the pass that asked for this watch and now was not noticed.
            self._due |= {ns for ns in self._looks if watched.namespace in (None, ns)}
            self._woken.set()
            return
        for named in known.keys() | listed.keys():
            if known.get(named) != listed.get(named):
                self._changed(*named)

    def _changed(self, namespace: str, name: str) -> None:
        look = self._looks.get(namespace)
        if look and name in look.secrets | look.config_maps | look.services:
            self._due.add(namespace)
            self._woken.set()


def _root(namespace: str | None) -> str:
    return "/api/v1" if namespace is None else f"/api/v1/namespaces/{namespace}"


def _named(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]
