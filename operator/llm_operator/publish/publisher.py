"""Makes the plan of one namespace stand in its sink, and keeps what is known of what stands.

A resource that can't be used keeps the route it had: the last configuration that was well is
remembered, so that not even an edit by hand or a deleted ConfigMap loses it. Credentials are there
before the configuration that names them, and go after it. It never lists resources and never writes
a status. Data flows resources -> `references` -> `plan` -> `outcome` -> sink, and everything seen
on the way -> `View`. Tellers hear of what somebody else had changed, and meters of each pass.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from llm_contract import Route, RoutingConfig, checksum, dump
from llm_operator.plan import Addresses, Plan, Verdict, plan
from llm_operator.ports import Gone, PortError, Refused, Sink, Teller, Unavailable
from llm_operator.publish.outcome import Outcome, Standing, decide, readable
from llm_operator.reasons import ConfigPublished
from llm_operator.references.keeper import Keeper
from llm_operator.references.model import Resolution
from llm_operator.resource.model import Resource

logger = logging.getLogger(__name__)

#: Hex digits of a checksum in a log line.
DIGITS = 12


class Result(StrEnum):
    """What a pass came to."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    TOO_LARGE = "too_large"
    NOT_OWNED = "not_owned"
    FAILED = "failed"


@runtime_checkable
class Meter(Protocol):
    """A teller that counts."""

    def published(self, namespace: str, result: Result, standing: Standing | None) -> None:
        """A pass has ended, and this is what stands now, as far as it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one pass saw and did.

    Attributes:
        resources: those that are not being deleted, by uid.
        verdicts: by uid.
        resolutions: by uid, whether what a resource refers to is there.
        planned: the routes of the plan, by uid.
        standing: the routes that stand, by uid.
        checksum: of the configuration that stands; "" when none does.
        outcome: what came of the plan; None before the first pass.
    """

    resources: Mapping[str, Resource] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    resolutions: Mapping[str, Resolution] = field(default_factory=dict)
    planned: Mapping[str, Route] = field(default_factory=dict)
    standing: Mapping[str, Route] = field(default_factory=dict)
    checksum: str = ""
    outcome: Outcome | None = None


class Publisher:
    """One namespace's way to its sink.

    Attributes:
        view: what the last pass saw and did.
    """

    def __init__(
        self,
        namespace: str,
        sink: Sink,
        *,
        keeper: Keeper,
        addresses: Addresses,
        tellers: Sequence[Teller] = (),
    ) -> None:
        self.view = View()
        self._tellers = tellers
        self._meters = [teller for teller in tellers if isinstance(teller, Meter)]
        self._keeper = keeper
        self._namespace = namespace
        self._sink = sink
        self._addresses = addresses
        #: The source of last good routes.
        self._good: RoutingConfig | None = None
        #: What lies in the sink, as it was seen or written last.
        self._standing: Standing | None = None
        #: The configuration in it; None as long as it could not be looked at.
        self._stands: RoutingConfig | None = None
        #: What lay there when it was last as it should be; None before that.
        self._right: Standing | None = None

    async def publish(self, resources: Sequence[Resource]) -> None:
        """Plan the resources and make the plan stand; `view` tells what came of it.

        Raises:
            Unavailable: the sink is away, or something that resources refer to could not be read or
                passed on at the moment.
            Refused: the sink said no.
        """
        try:
            outcome = await self._publish(resources)
        except PortError:
            self._count(Result.FAILED)
            raise
        finally:
            self._keeper.forget()
        self._count(_result(outcome))
        if self._keeper.failure is not None:
            # NB: only now, because what is published does not hang on it.
            raise self._keeper.failure

    async def _publish(self, resources: Sequence[Resource]) -> Outcome:
        planned: Plan | None = None
        try:
            await self._look()
            none = RoutingConfig()
            await self._keeper.prepare(resources, self._stands or none, self._good or none)
            planned = self._plan(resources)
            outcome = await self._stand(planned, wanted=any(not r.deleting for r in resources))
            if outcome.reason is ConfigPublished.PUBLISHED:
                await self._keeper.tidy(resources, planned.config)
        except Gone:
            # Nobody routes by a namespace that is being deleted, and its resources must not wait
            # for it.
            outcome = _failed("The namespace is being deleted")
        except PortError as error:
            # NB: before the first look nothing is known that a status could tell.
            if self._stands is not None or isinstance(error, Refused):
                outcome = _failed(_trouble(error, self._sink))
                self._see(resources, planned or self._plan(resources), outcome)
            raise
        self._see(resources, planned or self._plan(resources), outcome)
        return outcome

    async def _look(self) -> None:
        standing = await self._sink.current(self._namespace)
        if self._stands is None or standing != self._standing:
            found = readable(standing)
            self._standing, self._stands = standing, found or RoutingConfig()
            self._good = self._good or found

    async def _stand(self, planned: Plan, *, wanted: bool) -> Outcome:
        standing = self._standing
        if not wanted and not (standing and standing.owned):
            # Nothing to route, and nothing of ours there; a new empty ConfigMap would be litter.
            return Outcome(reason=ConfigPublished.PUBLISHED)
        raw = dump(planned.config)
        digest = checksum(raw)
        outcome = decide(standing, raw, checksum=digest, place=self._sink.place)
        if outcome.write:
            await self._sink.publish(self._namespace, raw=raw, checksum=digest)
            self._standing = Standing(raw=raw, checksum=digest)
            self._log_written(planned, raw, digest)
            if self._drifted(standing, raw):
                self._repaired()
        if outcome.reason is ConfigPublished.PUBLISHED:
            self._good = self._stands = planned.config
            self._right = self._standing
        return outcome

    def _drifted(self, found: Standing | None, desired: bytes) -> bool:
        """Whether it was somebody else who made a write necessary.

        NB: where the plan has changed too, another operator may have been first with it.
        """
        if self._right is not None:
            return self._right.raw == desired
        # A fresh process can't know what was there; that it does not agree with itself shows.
        raw = None if found is None else found.raw
        return found is not None and raw is not None and checksum(raw) != found.checksum

    def _repaired(self) -> None:
        logger.warning("drift_repaired", extra={"namespace": self._namespace})
        for teller in self._tellers:
            teller.repaired(self._namespace)

    def _count(self, result: Result) -> None:
        for meter in self._meters:
            meter.published(self._namespace, result, self._standing)

    def _plan(self, resources: Sequence[Resource]) -> Plan:
        return plan(
            resources,
            addresses=self._addresses,
            published=self._good or RoutingConfig(),
            resolutions=self._keeper.resolutions(resources),
        )

    def _see(self, resources: Sequence[Resource], planned: Plan, outcome: Outcome) -> None:
        before = self.view.outcome
        if outcome.message and (before is None or before.message != outcome.message):
            self._log_trouble(outcome)
        stands = self._stands or RoutingConfig()
        self.view = View(
            resources={r.identity.uid: r for r in resources if not r.deleting},
            verdicts=planned.verdicts,
            resolutions=self._keeper.resolutions(resources),
            planned=_by_uid(planned.config),
            standing=_by_uid(stands),
            checksum=(self._standing and self._standing.checksum) or "",
            outcome=outcome,
        )

    def _log_trouble(self, outcome: Outcome) -> None:
        logger.warning(
            "not_published",
            extra={
                "namespace": self._namespace,
                "reason": str(outcome.reason),
                "detail": outcome.message,
            },
        )

    def _log_written(self, planned: Plan, raw: bytes, digest: str) -> None:
        logger.info(
            "published",
            extra={
                "namespace": self._namespace,
                "routes": len(planned.config.routes),
                "bytes": len(raw),
                "checksum": digest[:DIGITS],
            },
        )


def _by_uid(config: RoutingConfig) -> dict[str, Route]:
    return {route.uid: route for route in config.routes}


def _result(outcome: Outcome) -> Result:
    match outcome.reason:
        case ConfigPublished.PUBLISHED:
            return Result.WRITTEN if outcome.write else Result.UNCHANGED
        case ConfigPublished.TOO_LARGE:
            return Result.TOO_LARGE
        case ConfigPublished.NOT_OWNED:
            return Result.NOT_OWNED
        case _:
            return Result.FAILED


def _failed(trouble: str) -> Outcome:
    return Outcome(reason=ConfigPublished.PUBLISH_FAILED, message=trouble)


def _trouble(error: PortError, sink: Sink) -> str:
    if isinstance(error, Unavailable):
        # NB: not the error's text, which may differ with each attempt.
        return f"{sink.place.name} can't be written at the moment; it is tried again"
    return f"{sink.place.name} can't be written: {error}"
