"""What the admin service needs from outside, as protocols.

In a cluster the API server is behind `Gate` and `Store`, on one machine a token file and a folder
of YAML are; Postgres is behind `Archive` in both. Whatever fails is one of `errors`. Every call
ends by itself: an adapter owes a timeout on each wait.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from llm_operator.admin.model import Backend, Caller, Generation, Sample, Totals, Verb
from llm_operator.compare.model import Arm, Point
from llm_operator.routers.report import Answer
from llm_operator.routers.router import Router


class Gate(Protocol):
    """Who may."""

    async def caller(self, token: str, *, peer: str) -> Caller:
        """Who a bearer token belongs to.

        Args:
            token: as it was sent; "" when none was.
            peer: the address it came from, for the limit on wrong ones.

        Raises:
            Unauthorized: no token, or one that nobody knows.
            TooMany: too many wrong ones came from there.
            Away: who could say does not answer.
        """

    async def may(
        self, caller: Caller, verb: Verb, namespace: str, *, subresource: str = ""
    ) -> bool:
        """Whether the caller may do this to LLMBackends there; "" is every namespace.

        Raises:
            Away: who could say does not answer.
        """


class Store(Protocol):
    """The LLMBackends. Reads are of a copy in memory that follows within a second."""

    #: The namespace of a backend for which none is named.
    namespace: str

    @property
    def fresh(self) -> bool:
        """Whether the copy follows now; before the first list there is none to read."""

    def list(self) -> Sequence[Backend]:
        """All of them, by priority, then model, then namespace and name.

        Raises:
            Away: they were never listed yet.
        """

    def get(self, uid: str) -> Backend | None:
        """The one of that uid."""

    def by_model(self, namespace: str | None, model: str) -> Backend | None:
        """Who answers to a model's name; None when nobody does.

        Whose modelName it is comes before whose alias it is; of several the one that is valid and
        enabled, then by priority, age and name, as a conflict is decided.

        Args:
            namespace: None for any.
        """

    async def create(
        self, *, namespace: str, name: str, spec: Mapping[str, Any], by: str
    ) -> Backend:
        """Make a new one.

        Args:
            name: of the resource; "" for one made of the model's name.
            spec: under the resource's field names.
            by: who asked, for the record.

        Raises:
            Invalid: a field that the resource's rules refuse, in their words.
            Conflict: there is one of that name.
            Missing: there is no such namespace.
            Away: it can't be written now. Nothing of it was.
        """

    async def replace(self, backend: Backend, spec: Mapping[str, Any], *, by: str) -> Backend:
        """Make this the spec of a backend that is still at the generation given.

        A field that is absent is taken away. What it has beside the spec stays.

        Raises:
            Changed: it is at another generation by now.
            Missing: it is gone.
            Invalid, Away: as `create`.
        """

    async def delete(self, backend: Backend) -> None:
        """Delete it, if it is still at the generation given. Raises as `replace` does."""

    async def until(
        self, uid: str, settled: Callable[[Backend | None], bool], *, within: float
    ) -> Backend | None:
        """The backend, or None when it is gone, as soon as this is so, or after so many seconds.

        NB: what it was after that is returned too: the caller looks again whether it is settled.
        """

    async def changed(self, *, within: float) -> None:
        """Return at the next change of anything, or after so many seconds."""


class Archive(Protocol):
    """What Postgres keeps. Each call raises Away while it does not answer."""

    async def ids(self) -> Mapping[str, int]:
        """The number of each resource by its uid: live ones alone."""

    async def totals(self) -> Mapping[str, Totals]:
        """What recorded traffic says, by the resource's uid."""

    async def history(self, uid: str, *, before: int | None, limit: int) -> Sequence[Generation]:
        """Generations of a resource, newest first.

        Args:
            before: only those of a lower generation.
        """

    async def samples(
        self, *, model: str | None, backend: str | None, before: str | None, limit: int
    ) -> Sequence[Sample]:
        """Recorded requests, newest first.

        Args:
            backend: a backend type.
            before: key of a sample; only older ones.

        Raises:
            Invalid: `before` is no key.
        """

    async def store(self, records: Sequence[Mapping[str, object]], *, namespace: str) -> int:
        """Store usage records, each once however often it comes. Returns how many were new."""

    async def arms(
        self, *, model: str, namespace: str | None, since: datetime, until: datetime, by: str
    ) -> Sequence[Arm]:
        """What each backend of a model did.

        Args:
            namespace: None for all.
            by: `backend_type` or `target`.
        """

    async def series(
        self,
        *,
        model: str,
        namespace: str | None,
        since: datetime,
        until: datetime,
        by: str,
        step: int,
    ) -> Sequence[Point]:
        """The same over time, in steps of so many seconds; empty steps are left out."""


class Fleet(Protocol):
    """Routers, and the one that may be asked from here."""

    async def list(self) -> Sequence[tuple[Router, Answer]]:
        """Each router and what it says it runs; at most some seconds old.

        Raises:
            Away: nobody can say which routers there are.
        """
