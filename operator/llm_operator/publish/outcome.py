"""What to do about a namespace's published configuration: (what lies there, what should) -> an
outcome.

Pure. It never writes, and what it calls unchanged is never written: equal bytes cost nothing. Data
flows `plan` -> `outcome` -> `configmap` or `folder`.
"""

from dataclasses import dataclass

from llm_contract import ContractError, RoutingConfig, parse, verify
from llm_operator.reasons import ConfigPublished

#: Bytes of routing.json that are published at most. The API server takes 1 MiB for a whole
#: ConfigMap.
LIMIT = 900 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What lies in the place of a namespace's configuration.

    Attributes:
        raw: the configuration's bytes; None when there are none.
        checksum: the checksum beside them; None when there is none.
        owned: it carries this operator's mark.
        empty: it holds no data at all, so that taking it over loses nothing.
        intact: everything else the operator writes there is as it would write it now.
    """

    raw: bytes | None
    checksum: str | None
    owned: bool = True
    empty: bool = False
    intact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the bytes that should stand there come to.

    Attributes:
        reason: Published when they stand there, or will once written.
        write: whether they have to be written for that.
        message: for people; "" when there is nothing to say.
    """

    reason: ConfigPublished
    write: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place for configurations, for the messages of a status.

    Attributes:
        name: what people call it.
        remedy: what makes a foreign one the operator's.
    """

    name: str
    remedy: str


def decide(standing: Standing | None, desired: bytes, *, checksum: str, place: Place) -> Outcome:
    """Whether to write the desired bytes, and why not.

    Args:
        standing: what lies there; None when nothing does.
        desired: the configuration that should stand.
        checksum: of those bytes.
        place: where that is.
    """
    if standing is not None and not standing.owned and not standing.empty:
        return Outcome(
            reason=ConfigPublished.NOT_OWNED,
            message=f"{place.name} is not the operator's, so it stays as it is: {place.remedy}",
        )
    if len(desired) > LIMIT:
        return Outcome(
            reason=ConfigPublished.TOO_LARGE,
            message=f"All routes of the namespace take more than {LIMIT // 1024} KiB together, "
            "so the last version stays: remove LLMBackends or move some to another namespace",
        )
    right = (
        standing is not None
        and standing.owned
        and standing.intact
        and standing.raw == desired
        and standing.checksum == checksum
    )
    return Outcome(reason=ConfigPublished.PUBLISHED, write=not right)


def readable(standing: Standing | None) -> RoutingConfig | None:
    """The configuration that lies there; None when it is foreign, damaged or edited by hand."""
    if standing is None or not standing.owned or standing.raw is None or standing.checksum is None:
        return None
    try:
        verify(standing.raw, standing.checksum)
        return parse(standing.raw)
    except ContractError:
        return None
