"""Reads what a namespace's resources refer to, and keeps its routers' credentials.

The only part of `references` that does I/O. A failure to read or write is told in resolutions and
kept in `failure`; it never keeps a configuration from being published. Values live as long as one
pass.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from llm_contract import RoutingConfig
from llm_operator.ports import Finder, Gone, PortError, Unavailable, Vault
from llm_operator.reasons import ResolvedRefs
from llm_operator.references.model import UNSEEN, Found, Held, Kind, Resolution, Sought, Supply
from llm_operator.references.resolve import resolve
from llm_operator.references.sought import sought, wanted
from llm_operator.references.supply import decide, unwritten
from llm_operator.resource.model import Resource

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Keeper:
    """The references of one namespace.

    Attributes:
        failure: what failed in this pass and may pass by itself; None when nothing did.
    """

    def __init__(self, namespace: str, finder: Finder, vault: Vault | None) -> None:
        """Take the ports; without a vault routers read what `finder` finds themselves."""
        self.failure: Unavailable | None = None
        self._namespace = namespace
        self._finder = finder
        self._vault = vault
        self._found = UNSEEN
        #: What lies in the vault; not to be gone by unless `_looked`.
        self._held: Held | None = None
        self._looked = False
        self._supply = Supply()
        #: uid -> what was found out about it last, and at which generation.
        self._resolved: dict[str, tuple[int, Resolution]] = {}
        self._told: frozenset[str] = frozenset()

    async def prepare(self, resources: Sequence[Resource], *configs: RoutingConfig) -> None:
        """Look for all that is referred to, and give routers what they will need beside what they
        need now.

        Args:
            resources: of the namespace.
            configs: the one that stands, and those whose routes may stay.
        """
        self.failure = None
        look = sought(resources, *configs)
        self._finder.follow(self._namespace, look)
        self._found = await self._find(look)
        if self._vault is None:
            self._supply = Supply(right=None)
        else:
            await self._look(self._vault)
            await self._keep(self._vault, wanted(resources, *configs))
        self._resolved = {
            one.identity.uid: (one.identity.generation, resolve(one, self._found, self._supply))
            for one in resources
            if not one.deleting
        }
        self._tell()

    async def tidy(self, resources: Sequence[Resource], config: RoutingConfig) -> None:
        """Take away what nobody needs now that this configuration stands."""
        if self._vault is not None:
            await self._keep(self._vault, wanted(resources, config))

    def forget(self) -> None:
        """Drop all values; the next pass reads them anew."""
        self._found, self._held, self._looked = UNSEEN, None, False

    def resolutions(self, resources: Sequence[Resource]) -> dict[str, Resolution]:
        """By uid, whether the references of a resource resolve, as far as that is known."""
        found = {}
        for resource in resources:
            uid = resource.identity.uid
            generation, resolution = self._resolved.get(uid, (None, None))
            if resolution is None or generation != resource.identity.generation:
                resolution = resolve(resource, UNSEEN, Supply())
            found[uid] = resolution
        return found

    async def _find(self, look: Sought) -> Found:
        unread: dict[Kind, str] = {}
        finder = self._finder
        return Found(
            secrets=await self._read(finder.secrets, look.secrets, Kind.SECRET, unread) or {},
            config_maps=await self._read(
                finder.config_maps, look.config_maps, Kind.CONFIG_MAP, unread
            )
            or {},
            services=await self._read(finder.services, look.services, Kind.SERVICE, unread)
            or frozenset(),
            unread=unread,
        )

    async def _read(
        self,
        ask: Callable[[str, frozenset[str]], Awaitable[T]],
        names: frozenset[str],
        kind: Kind,
        unread: dict[Kind, str],
    ) -> T | None:
        if not names:
            return None
        try:
            return await ask(self._namespace, names)
        except PortError as error:
            unread[kind] = self._why(error, "read")
            return None

    async def _look(self, vault: Vault) -> None:
        try:
            self._held, self._looked = await vault.current(self._namespace), True
        except PortError as error:
            self._looked = False
            self._supply = Supply(
                reason=ResolvedRefs.READ_FAILED,
                message=f"{vault.place.name} {self._why(error, 'read')}",
            )

    async def _keep(self, vault: Vault, keys: frozenset[str]) -> None:
        if not self._looked:
            return
        decision = decide(self._held, self._found, keys, place=vault.place)
        self._supply = decision.supply
        if decision.write is None:
            return
        try:
            await vault.publish(self._namespace, decision.write)
        except PortError as error:
            why = f"{vault.place.name} {self._why(error, 'written')}"
            self._supply = unwritten(self._held, self._found, why=why)
            return
        before = self._held or Held()
        others = {key: value for key, value in before.values.items() if key not in before.ours}
        self._held = Held(values=others | dict(decision.write), ours=frozenset(decision.write))
        logger.info(
            "credentials_published",
            extra={"namespace": self._namespace, "keys": len(decision.write)},
        )

    def _why(self, error: PortError, done: str) -> str:
        """A failure as the end of a sentence."""
        if isinstance(error, Unavailable):
            # NB: not the error's text, which may differ with each attempt.
            self.failure = error
            return f"can't be {done} at the moment; it is tried again"
        if isinstance(error, Gone):
            return f"can't be {done}: the namespace is being deleted"
        return f"can't be {done}: {error}"

    def _tell(self) -> None:
        """Say once in the log what stands in the way of all the namespace's references."""
        troubles = {f"{kind}s {why}" for kind, why in self._found.unread.items()}
        troubles |= {self._supply.message} - {""}
        for trouble in sorted(troubles - self._told):
            logger.warning(
                "references_troubled", extra={"namespace": self._namespace, "detail": trouble}
            )
        self._told = frozenset(troubles)
