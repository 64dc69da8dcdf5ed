"""A router as a value, and where routers are known from: `pods`, or standalone's list of URLs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

#: Hex digits of the checksum that a router is nudged for.
DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """One router, by its pod.

    Attributes:
        uid: of the pod; another pod of the same name is another router.
        url: of its management port; "" when the pod has no address.
        running: the pod's phase; one that is not has no router to ask.
        ready: it takes requests.
        terminating: it is on its way out, and nobody waits for it.
        nudged: what its kubelet was last asked to look for.
    """

    namespace: str
    name: str
    uid: str
    url: str
    running: bool = True
    ready: bool = True
    terminating: bool = False
    nudged: str = ""

    @property
    def counts(self) -> bool:
        """Whether what it runs is part of the truth."""
        return self.running and not self.terminating and bool(self.url)


class Routers(Protocol):
    """Where routers are known from."""

    async def list(self, namespace: str | None) -> Sequence[Router]:
        """Those of a namespace, or of every namespace served.

        Raises:
            PortError: nothing is known. A partial list is never returned.
        """

    async def nudge(self, router: Router, checksum: str) -> None:
        """Have it read its folder soon.

        Raises:
            PortError: it was not to be.
        """
