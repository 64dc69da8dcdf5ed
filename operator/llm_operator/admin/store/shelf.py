"""The LLMBackends as they were seen last: what every read is of, and who waits is woken by.

It does no I/O and asks nobody; an adapter puts on it what it sees. Nothing on it is changed: a
backend is replaced by the next one. No read sorts or looks through all of them again.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from llm_operator.admin.errors import Away
from llm_operator.admin.model import Backend

#: `spec.priority` where a spec that can't be used has none.
PRIORITY = 100

NEVER_LISTED = "the LLMBackends were never listed yet; try again in a moment"


@dataclass(slots=True)
class _Claims:
    """Who answers to one name: uids, by how they claim it."""

    models: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)


class Shelf:
    """The reading half of a `Store`."""

    def __init__(self) -> None:
        self._backends: dict[str, Backend] = {}
        self._claims: dict[str, _Claims] = {}
        #: In order; None when that has to be found out again. Keys stay with their backends.
        self._ordered: tuple[Backend, ...] | None = ()
        self._keys: dict[str, tuple[int, str, str, str]] = {}
        self._listed = self._fresh = False
        self._turned = asyncio.Event()

    @property
    def fresh(self) -> bool:
        """Whether it follows now."""
        return self._fresh

    def list(self) -> Sequence[Backend]:
        """All of them, by priority, then model, then namespace and name.

        Raises:
            Away: they were never listed yet.
        """
        if not self._listed:
            raise Away(NEVER_LISTED, retry_after=1)
        if self._ordered is None:
            # NB: in the order of before, nearly, which costs a sort next to nothing.
            keys = self._keys
            self._ordered = tuple(sorted(self._backends.values(), key=lambda one: keys[one.uid]))
        return self._ordered

    def get(self, uid: str) -> Backend | None:
        """The one of that uid."""
        return self._backends.get(uid)

    def by_model(self, namespace: str | None, model: str) -> Backend | None:
        """Who answers to a model's name; None when nobody does.

        Whose modelName it is comes before whose alias it is; of several the one that may be used
        and is enabled, then by priority, age and name, as a conflict is decided.

        Args:
            namespace: None for any.
        """
        claims = self._claims.get(model)
        if claims is None:
            return None
        for uids in (claims.models, claims.aliases):
            found = [self._backends[uid] for uid in uids]
            if namespace is not None:
                found = [one for one in found if one.resource.identity.namespace == namespace]
            if found:
                return min(found, key=_precedence)
        return None

    def names(self, namespace: str) -> frozenset[str]:
        """The names of resources that are taken in a namespace."""
        identities = (one.resource.identity for one in self._backends.values())
        return frozenset(one.name for one in identities if one.namespace == namespace)

    async def until(
        self, uid: str, settled: Callable[[Backend | None], bool], *, within: float
    ) -> Backend | None:
        """The backend, or None when it is gone, as soon as this is so, or after so many seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while not settled(self.get(uid)) and (left := end - loop.time()) > 0:
            await self.changed(within=left)
        return self.get(uid)

    async def changed(self, *, within: float) -> None:
        """Return at the next change of anything, or after so many seconds."""
        try:
            await asyncio.wait_for(self._turned.wait(), within)
        except TimeoutError:
            return

    # What an adapter puts on it.

    def held(self) -> Iterable[Backend]:
        """All of them, in no order, listed or not."""
        return self._backends.values()

    def put(self, backends: Iterable[Backend], *, gone: Iterable[str] = ()) -> None:
        """Put these on it, each in place of the one of its uid, and take others away; at once."""
        turned = False
        for uid in gone:
            turned |= self._take(uid) is not None
        for backend in backends:
            before = self._backends.get(backend.uid)
            if before is backend:
                continue
            turned = True
            self._place(before, backend)
        if turned:
            self._ordered = None
            self._wake()

    def tell(self, *, fresh: bool, listed: bool = False) -> None:
        """Whether it follows from now on, and whether it was listed; what follows was."""
        told = fresh, self._listed or listed or fresh
        if told != (self._fresh, self._listed):
            self._fresh, self._listed = told
            self._wake()

    def _place(self, before: Backend | None, backend: Backend) -> None:
        uid = backend.uid
        self._backends[uid] = backend
        self._keys[uid] = _order(backend)
        if before is not None and before.manifest.get("spec") is backend.manifest.get("spec"):
            return
        self._unclaim(before)
        for name, alias in _names(backend):
            claims = self._claims.setdefault(name, _Claims())
            (claims.aliases if alias else claims.models).add(uid)

    def _take(self, uid: str) -> Backend | None:
        found = self._backends.pop(uid, None)
        self._keys.pop(uid, None)
        self._unclaim(found)
        return found

    def _unclaim(self, backend: Backend | None) -> None:
        if backend is None:
            return
        for name, _ in _names(backend):
            claims = self._claims.get(name)
            if claims is None:
                continue
            claims.models.discard(backend.uid)
            claims.aliases.discard(backend.uid)
            if not claims.models and not claims.aliases:
                del self._claims[name]

    def _wake(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()


def _names(backend: Backend) -> Iterator[tuple[str, bool]]:
    """What it claims, and whether as an alias."""
    if backend.model:
        yield backend.model, False
    aliases = backend.spec.get("aliases")
    for alias in aliases if isinstance(aliases, list) else ():
        if isinstance(alias, str):
            yield alias, True


def _priority(backend: Backend) -> int:
    if backend.resource.spec is not None:
        return backend.resource.spec.priority
    given = backend.spec.get("priority")
    return given if isinstance(given, int) and not isinstance(given, bool) else PRIORITY


def _order(backend: Backend) -> tuple[int, str, str, str]:
    identity = backend.resource.identity
    return _priority(backend), backend.model, identity.namespace, identity.name


def _precedence(backend: Backend) -> tuple[bool, int, str, str, str, str]:
    resource = backend.resource
    usable = resource.spec is not None and resource.spec.enabled and not resource.deleting
    one = resource.identity
    return not usable, _priority(backend), one.created, one.name, one.namespace, one.uid
