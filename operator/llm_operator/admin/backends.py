"""What people and programs do with backends: see, make, change, switch, delete, go back.

    api, page -> rights -> change -> store -> (operator) -> state

A write is one to the resource, and then waits a moment for the operator to take it, so that the
answer can say whether it did. A resource that belongs to a GitOps pipeline is not written: the
answer is the YAML to commit. Nothing is written to Postgres.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from llm_operator.admin import change, rights, view
from llm_operator.admin.difference import same
from llm_operator.admin.errors import Away, Changed, Conflict, Invalid, Missing
from llm_operator.admin.model import Backend, Caller, Generation, Totals, Verb
from llm_operator.admin.numbers import Numbers
from llm_operator.admin.ports import Archive, Gate, Store
from llm_operator.admin.store.commit import commit_yaml

logger = logging.getLogger(__name__)

#: Seconds that a write waits for the operator; how often one is tried that somebody else's came
#: between, and seconds to wait for that.
WAIT = 5.0
TRIES = 5
BETWEEN = 1.0

NOT_FOUND = "Backend not found"
NO_MODEL = "Backend not found for model: {}"
EXISTS = "Backend configuration already exists for model: {}"
MANAGED = (
    "{name} is managed by {owner}, which would change it back: commit the change to its repository"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A backend with what the record knows of it."""

    backend: Backend
    number: int | None
    totals: Totals | None = None

    def shown(self) -> dict[str, Any]:
        """As the API tells it."""
        return view.shown(self.backend, number=self.number, totals=self.totals)

    def public(self) -> dict[str, Any]:
        """As the API tells it to anybody."""
        return view.public(self.backend, number=self.number)

    def yaml(self) -> str:
        """As it is to be committed."""
        return commit_yaml(self.backend.manifest, self.backend.spec)

    @property
    def tag(self) -> str:
        """What changes with each generation of its spec, for ETag and If-Match."""
        return f'"{self.backend.uid}.{self.backend.resource.identity.generation}"'


#: What `If-Match` said: whether a backend is still the one that was looked at.
Match = Callable[[Standing], bool]


class Backends:
    """The backends, for whoever may."""

    def __init__(self, *, gate: Gate, store: Store, archive: Archive, wait: float = WAIT) -> None:
        self._gate = gate
        self._store = store
        self._archive = archive
        self._wait = wait
        self._numbers = Numbers(archive)
        #: By namespace and model, for as long as one of them is being made.
        self._making: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    # Reading.

    async def list(
        self, caller: Caller | None, *, namespace: str | None = None, enabled_only: bool = False
    ) -> Sequence[Standing]:
        """All that the caller may list, by priority, then model. None: without a token."""
        found = self._store.list()
        if caller is not None:
            names = {namespace} if namespace else {one.resource.identity.namespace for one in found}
            may = await rights.readable(self._gate, caller, names or {self._store.namespace})
            found = [one for one in found if one.resource.identity.namespace in may]
        chosen = [
            one
            for one in found
            if (not namespace or one.resource.identity.namespace == namespace)
            and (not enabled_only or _enabled(one))
        ]
        return await self._standing(chosen, counted=caller is not None)

    async def get(self, caller: Caller, key: str) -> Standing:
        """One, by its id or its uid."""
        backend = await self._find(key)
        await rights.need(self._gate, caller, Verb.GET, backend.resource.identity.namespace)
        return (await self._standing([backend], counted=True))[0]

    async def lookup(
        self, model: str, *, namespace: str | None = None, caller: Caller | None = None
    ) -> Standing:
        """The enabled one that serves a model; of several namespaces the store's own first.

        Args:
            model: its name or an alias.
            namespace: None for any.
            caller: who has to have the right to list it; None for anybody.

        Raises:
            Missing: there is none.
            Forbidden, Away: it may not be told, or nobody can say.
        """
        found = self._serving(model, namespace)
        if caller is not None:
            own = namespace or self._store.namespace
            place = own if found is None else found.resource.identity.namespace
            await rights.need(self._gate, caller, Verb.LIST, place)
        if found is None:
            raise Missing(NO_MODEL.format(model))
        return (await self._standing([found], counted=False))[0]

    async def history(
        self, caller: Caller, key: str, *, before: int | None = None, limit: int = 50
    ) -> Sequence[Generation]:
        """Its generations, newest first."""
        standing = await self.get(caller, key)
        return await self._archive.history(standing.backend.uid, before=before, limit=limit)

    # Writing.

    async def create(self, caller: Caller, given: Mapping[str, Any]) -> Standing:
        """Make a new one.

        Raises:
            Invalid, Conflict, Missing, Forbidden, Away: nothing was written.
        """
        namespace = _word(given, "namespace") or self._store.namespace
        await rights.need(self._gate, caller, Verb.CREATE, namespace)
        spec, name = change.created(given), _word(given, "name")
        model = spec.get("modelName")
        # NB: two at once would both find that there is none.
        key = (namespace, model if isinstance(model, str) else "")
        async with self._making.setdefault(key, asyncio.Lock()):
            if self._claimed(*key):
                raise Conflict(EXISTS.format(model))
            made = await self._store.create(
                namespace=namespace, name=name, spec=spec, by=caller.name
            )
            await self._store.until(made.uid, lambda one: one is not None, within=BETWEEN)
        taken = await self._taken(caller, made, "created")
        if taken.number is not None or view.state(taken.backend) != view.ACCEPTED:
            return taken
        # NB: the operator writes the row right after it has accepted; clients go on by its id.
        number = await self._numbers.wait(made.uid, within=self._wait)
        return replace(taken, number=number)

    async def update(
        self, caller: Caller, key: str, given: Mapping[str, Any], *, match: Match | None = None
    ) -> Standing:
        """Change the fields that are given.

        Raises:
            Changed: it is not what `match` says, or others changed it all the time.
        """
        _not_renamed(await self._find(key), given)

        def updated(backend: Backend) -> dict[str, Any]:
            return change.changed(backend.spec, given, told=view.fields(backend))

        return await self._write(caller, key, updated, match=match, done="updated")

    async def toggle(self, caller: Caller, key: str, *, match: Match | None = None) -> Standing:
        """Switch it off when it is on, and on when it is off."""

        def switched(backend: Backend) -> dict[str, Any]:
            return change.changed(backend.spec, {"enabled": not _enabled(backend)})

        return await self._write(caller, key, switched, match=match, done="toggled")

    async def restore(
        self, caller: Caller, key: str, generation: int, *, match: Match | None = None
    ) -> Standing:
        """Make the spec what it was at an earlier generation.

        Raises:
            Missing: the history has no such generation.
        """
        found = await self.history(caller, key, before=generation + 1, limit=1)
        if not found or found[0].generation != generation:
            raise Missing(f"generation {generation} is not in the history of this backend")
        earlier = change.ordered(found[0].spec)
        return await self._write(caller, key, lambda _: earlier, match=match, done="restored")

    async def delete(self, caller: Caller, key: str, *, match: Match | None = None) -> Standing:
        """Delete it; what it was."""
        for _ in range(TRIES):
            standing = await self._writable(caller, key, Verb.DELETE, match)
            self._not_managed(standing.backend, None)
            try:
                await self._store.delete(standing.backend)
            except Changed:
                continue
            _log(caller, standing.backend, "deleted")
            await self._store.until(
                standing.backend.uid, lambda one: one is None, within=self._wait
            )
            return standing
        raise Changed("others are changing this backend all the time; try again")

    # The steps of them.

    async def _write(
        self,
        caller: Caller,
        key: str,
        made: Callable[[Backend], dict[str, Any]],
        *,
        match: Match | None,
        done: str,
    ) -> Standing:
        for _ in range(TRIES):
            standing = await self._writable(caller, key, Verb.UPDATE, match)
            backend = standing.backend
            spec = made(backend)
            if same(spec, backend.spec):
                return standing
            self._not_managed(backend, spec)
            self._still_unique(backend, spec)
            try:
                written = await self._store.replace(backend, spec, by=caller.name)
            except Changed:
                if match is not None:
                    raise
                await self._next(backend)
                continue
            return await self._taken(caller, written, done)
        raise Changed("others are changing this backend all the time; try again")

    async def _next(self, backend: Backend) -> None:
        """Wait for what came between: a new truth to change, which is read once it is here."""
        await self._store.until(
            backend.uid,
            lambda one: one is None or one.version != backend.version,
            within=BETWEEN,
        )

    async def _writable(
        self, caller: Caller, key: str, verb: Verb, match: Match | None
    ) -> Standing:
        backend = await self._find(key)
        await rights.need(self._gate, caller, verb, backend.resource.identity.namespace)
        standing = (await self._standing([backend], counted=True))[0]
        if match is not None and not match(standing):
            raise Changed("this backend was changed in the meantime; read it again")
        return standing

    async def _taken(self, caller: Caller, written: Backend, done: str) -> Standing:
        """As it is once the operator has taken it, or after a while."""
        _log(caller, written, done)
        generation = written.resource.identity.generation

        def settled(one: Backend | None) -> bool:
            return one is None or (
                one.resource.identity.generation >= generation and view.state(one) != view.PENDING
            )

        now = await self._store.until(written.uid, settled, within=self._wait)
        # NB: a copy that does not follow still has it as it was.
        behind = now is None or now.resource.identity.generation < generation
        backend = written if now is None or behind else now
        return (await self._standing([backend], counted=True))[0]

    def _serving(self, model: str, namespace: str | None) -> Backend | None:
        for place in (namespace,) if namespace else (self._store.namespace, None):
            backend = self._store.by_model(place, model)
            if backend is not None and _enabled(backend) and not backend.resource.deleting:
                return backend
        # NB: before the first list it is not known that there is none, which is Away.
        self._store.list()
        return None

    async def _find(self, key: str) -> Backend:
        uid: str | None = key
        if key.isascii() and key.isdecimal():
            uid = await self._numbers.uid(int(key)) if len(key) < 19 else None
        backend = self._store.get(uid) if uid is not None else None
        if backend is None:
            self._store.list()
            raise Missing(NOT_FOUND)
        return backend

    async def _standing(self, found: Sequence[Backend], *, counted: bool) -> Sequence[Standing]:
        numbers = await self._numbers.of(frozenset(one.uid for one in found))
        totals: Mapping[str, Totals] | None = None
        if counted:
            try:
                totals = await self._archive.totals()
            except Away:
                totals = None
        return [
            Standing(
                backend=one,
                number=numbers.get(one.uid),
                totals=None if totals is None else totals.get(one.uid, Totals()),
            )
            for one in found
        ]

    def _claimed(self, namespace: str, model: str) -> Backend | None:
        """The backend of exactly this model there."""
        found = self._store.by_model(namespace, model)
        return found if found is not None and found.model == model else None

    def _still_unique(self, backend: Backend, spec: Mapping[str, Any]) -> None:
        model = spec.get("modelName")
        if not isinstance(model, str) or model == backend.model:
            return
        other = self._claimed(backend.resource.identity.namespace, model)
        if other is not None and other.uid != backend.uid:
            raise Conflict(EXISTS.format(model))

    def _not_managed(self, backend: Backend, spec: Mapping[str, Any] | None) -> None:
        """Raise Conflict for what belongs to a pipeline. `spec`: None for a deletion."""
        if backend.owner is None:
            return
        detail = MANAGED.format(name=str(backend.resource.identity), owner=backend.owner)
        more: dict[str, object] = {"managed_by": str(backend.owner)}
        if spec is not None:
            more["yaml"] = commit_yaml(backend.manifest, spec)
        raise Conflict(detail, more=more)


def _enabled(backend: Backend) -> bool:
    # NB: of a spec that can't be used too: a value that is none is not on.
    spec = backend.resource.spec
    return spec.enabled if spec is not None else backend.spec.get("enabled", True) is True


def _not_renamed(backend: Backend, given: Mapping[str, Any]) -> None:
    identity = backend.resource.identity
    for field, value in (("name", identity.name), ("namespace", identity.namespace)):
        if given.get(field) not in (None, value):
            raise Invalid(f"{field}: a backend keeps its {field}, {value}; make a new one instead")


def _word(given: Mapping[str, Any], field: str) -> str:
    value = given.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{field}: must be text")
    return value


def _log(caller: Caller, backend: Backend, done: str) -> None:
    identity = backend.resource.identity
    extra = {"by": caller.name, "namespace": identity.namespace, "resource": identity.name}
    logger.info("backend_written", extra={**extra, "uid": identity.uid, "what": done})
