"""Which configurations of a namespace hold a resource's route in an older form of one generation.

A route can change without its resource: an alias that another one claims, a reference that resolves
now, a default address. A router that runs such an older configuration has the uid and the
generation right, and still not what is published. Pure bookkeeping; a fresh operator begins without
a past, and then the generation alone counts.
"""

from collections import deque
from collections.abc import Mapping

from llm_contract import Route

#: Configurations that are remembered; a router that is further behind has an older generation too,
#: or will have read a new one before it matters.
PAST = 50

NONE: frozenset[str] = frozenset()


class Lineage:
    """One namespace's published configurations, by their checksums."""

    def __init__(self) -> None:
        self._past: deque[str] = deque(maxlen=PAST)
        self._routes: Mapping[str, Route] = {}
        self._outdated: dict[str, frozenset[str]] = {}

    def publish(self, checksum: str, routes: Mapping[str, Route]) -> None:
        """This stands now, with these routes by the uid of their resource."""
        if self._past and self._past[-1] == checksum:
            return
        past = frozenset(self._past) - {checksum}
        before, self._routes = self._routes, routes
        kept: dict[str, frozenset[str]] = {}
        for uid, route in routes.items():
            last = before.get(uid)
            if last is None or last.generation != route.generation:
                continue
            outdated = past if last != route else self._outdated.get(uid, NONE) - {checksum}
            if outdated:
                kept[uid] = outdated
        self._outdated = kept
        self._past.append(checksum)

    def outdated(self, uid: str) -> frozenset[str]:
        """The configurations with an older form of this resource's generation."""
        return self._outdated.get(uid, NONE)
