"""What the operator's core needs from outside, as protocols, and the errors that may come from
there.

    PortError
    ├── Unavailable    the other side is away, slow or busy; the same request may pass later
    ├── Refused        the other side said no; the same request fails again until somebody acts
    └── Gone           the object, or the namespace it is in, is not there or is being deleted

In a cluster `cluster`, `objects` and `publish` are behind them; on one machine folders are. The
core imports neither. Every call ends by itself: an adapter owes a timeout on each wait.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from llm_operator.publish.outcome import Place, Standing
from llm_operator.reasons import DatabaseSynced
from llm_operator.references.model import Held, Sought, Values
from llm_operator.resource.model import Resource
from llm_operator.routers.report import Seen

#: `status` of a resource, as JSON.
Status = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an API server answered that is no success.

    Attributes:
        code: of HTTP.
        reason: in one word, as the API server has it; "" when it gave none.
        kind: what the answer is about, `llmbackends` or `namespaces` say; "" when it does not say.
        causes: of a refused object, each a reason, the path of a field and a message.
    """

    code: int
    reason: str = ""
    message: str = ""
    kind: str = ""
    causes: tuple[tuple[str, str, str], ...] = ()


class PortError(Exception):
    """Any failure of an adapter. The message names what was asked for and what came back.

    Attributes:
        said: the answer, where an API server gave one that may be repeated.
    """

    def __init__(self, message: str, *, said: Said | None = None) -> None:
        super().__init__(message)
        self.said = said


class Unavailable(PortError):
    """The other side is away, slow or busy."""


class Refused(PortError):
    """The other side said no: a missing right, a rule of its own, a request it can't read."""


class Gone(PortError):
    """The object, or its namespace, is not there or is on its way out."""


class Source(Protocol):
    """Where resources come from."""

    async def list(self, namespace: str | None) -> Sequence[Resource]:
        """All resources of a namespace, or of every namespace served; as they are now, not as
        cached.

        Raises:
            PortError: nothing is known. A partial list is never returned.
        """


class Sink(Protocol):
    """Where routing configurations go; one for each namespace."""

    #: For the messages of a status.
    place: Place

    async def current(self, namespace: str) -> Standing | None:
        """What lies there now; None when nothing does."""

    async def publish(self, namespace: str, *, raw: bytes, checksum: str) -> None:
        """Put the bytes and their checksum there, both at once; others' things beside stay."""

    async def namespaces(self) -> frozenset[str]:
        """Where configurations of this operator lie."""


class Finder(Protocol):
    """Where what resources refer to is read. Nothing is read that was not asked for by name."""

    async def secrets(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values | None]:
        """Those of the Secrets that are there; None for one that may not be used, unread."""

    async def config_maps(self, namespace: str, names: frozenset[str]) -> Mapping[str, Values]:
        """Those of the ConfigMaps that are there."""

    async def services(self, namespace: str, names: frozenset[str]) -> frozenset[str]:
        """Those of the Services that are there."""

    def follow(self, namespace: str, look: Sought) -> None:
        """From now on notice changes of these in the namespace, and of no others."""

    async def close(self) -> None:
        """Notice nothing any more."""


class Vault(Protocol):
    """Where routers' credentials go; one place for each namespace, and values nowhere else."""

    #: For the messages of a status.
    place: Place

    async def current(self, namespace: str) -> Held | None:
        """What lies there now; None when nothing does."""

    async def publish(self, namespace: str, values: Values) -> None:
        """Put exactly these there in place of those that this operator put there before; others'
        stay. No error of it holds a value.
        """


class Recorder(Protocol):
    """Where resources are recorded. It reports an absent database; it doesn't raise for one."""

    @property
    def retry_after(self) -> float:
        """Seconds to let pass before trying again what was not Synced."""

    async def sync(
        self, namespace: str, resources: Sequence[Resource]
    ) -> Mapping[str, DatabaseSynced]:
        """Make the rows of a namespace equal to its resources; by uid, whether the row is right.

        For a resource that is being deleted Synced says that its row is gone.
        """

    async def namespaces(self) -> frozenset[str]:
        """Where live rows are; none while the database can't say."""


class StatusWriter(Protocol):
    """Where a resource's status goes."""

    async def write(self, resource: Resource, status: Status) -> None:
        """Make it the status of the object.

        Raises:
            Gone: the object is not there any more.
        """


class Teller(Protocol):
    """Who is told what happened, in words for people and numbers for machines; never waits, never
    raises.
    """

    def listed(self, namespace: str, resources: Sequence[Resource]) -> None:
        """All of a namespace, as they are now; what is not in it is gone."""

    def told(self, resource: Resource, before: Status | None, after: Status) -> None:
        """This status has just been written."""

    def repaired(self, namespace: str) -> None:
        """What was published there had been changed by somebody else, and is as it should be
        again.
        """


class Witness(Protocol):
    """What routers say they run. It never raises, and only who asks it to waits."""

    def follow(self, namespace: str, changed: Callable[[], None]) -> None:
        """From now on ask the routers of the namespace, and call the method when they say anything
        new. Whoever it belongs to is not kept alive by it.
        """

    def published(self, namespace: str, checksum: str) -> None:
        """This is what they should run now."""

    def seen(self, namespace: str) -> Seen | None:
        """What they said last; None when they have not been asked yet."""

    async def settled(self, namespace: str, *, within: float) -> None:
        """Return when none of them is being asked or about to be, or after so many seconds."""

    async def forget(self, namespace: str) -> None:
        """Ask them no more, and end what is under way."""
