"""One look at one host: a few GET requests that cost it no tokens -> what they tell.

It changes nothing and decides nothing: what a finding does to the standings is for `prober`. A host
that answers is alive, whatever it says about credentials; what it says about models counts only
where its list is known to be all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from llm_contract import TargetType
from llm_router.probe import models
from llm_router.probe.models import Loaded
from llm_router.probe.plan import Look
from llm_router.transport import ConnectFailed, Pool, TimedOut, TooLarge, TransportError

#: Bytes of a list that are read; the longest ones of hosted catalogues are below a tenth of it.
MAX_LIST = 4 * 1024 * 1024

#: Statuses of a host that has no list of models.
NO_LIST = frozenset({404, 405, 501})

#: Statuses that say that our credentials are not taken.
REFUSED = frozenset({401, 403})

#: Reasons of a failed connection that are this machine's own.
LOCAL = frozenset({"exhausted", "closed"})


class Unknown(Exception):
    """Nothing was learnt of the host: the look failed on this side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look told.

    Attributes:
        reason: why the host is not healthy; "" when it is.
        refused: how it turned down our credentials; "" when it did not.
        names: of its models; None when it gave no list that counts.
        loaded: models in its memory, by name; None when it did not tell.
    """

    reason: str = ""
    refused: str = ""
    names: frozenset[str] | None = None
    loaded: Mapping[str, Loaded] | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    status: int
    body: bytes


async def look(pool: Pool, asked: Look, *, timeout: float) -> Finding:
    """Ask a host how it is, each request within `timeout` seconds.

    Raises:
        Unknown: this machine could not ask.
    """
    try:
        alive = await _get(pool, asked, asked.path, timeout=timeout)
    except TimedOut:
        return Finding(reason=f"no answer to GET {asked.path.decode()} within {timeout:g} s")
    except ConnectFailed as error:
        if error.reason in LOCAL:
            raise Unknown(str(error)) from None
        return Finding(reason=str(error))
    except TransportError as error:
        return Finding(reason=str(error))
    reason = _reason(asked, alive.status)
    if reason or alive.status in REFUSED:
        refused = f"GET {asked.path.decode()} was answered {alive.status}: credentials not taken"
        return Finding(reason=reason, refused="" if reason or not asked.secret else refused)
    listed = await _listed(pool, asked, alive, timeout=timeout)
    if asked.type is not TargetType.OLLAMA:
        return Finding(names=models.ids(listed) if listed is not None else None)
    tags = models.tags(listed) if listed is not None else None
    loaded = await _loaded(pool, asked, timeout=timeout)
    return Finding(
        names=None if tags is None else frozenset(tags),
        loaded=None if loaded is None else models.with_copies(loaded, tags or {}),
    )


def _reason(asked: Look, status: int) -> str:
    """Why an answer with this status is none of a healthy host; "" when it may be."""
    if 200 <= status < 400 or status in REFUSED or status == 429:
        return ""
    own = asked.type is TargetType.OPENAI and asked.path == b"/v1/models"
    if own and status in NO_LIST:
        return ""
    return f"GET {asked.path.decode()} was answered {status}"


async def _listed(pool: Pool, asked: Look, alive: _Said, *, timeout: float) -> bytes | None:
    """The host's list of models as it sent it; None when there is none."""
    if asked.listed is None:
        return None
    said = alive
    if asked.listed != asked.path:
        try:
            said = await _get(pool, asked, asked.listed, timeout=timeout)
        except TransportError:
            return None
    return said.body if said.status == 200 else None


async def _loaded(pool: Pool, asked: Look, *, timeout: float) -> Mapping[str, Loaded] | None:
    try:
        said = await _get(pool, asked, b"/api/ps", timeout=timeout)
    except TransportError:
        return None
    return models.running(said.body) if said.status == 200 else None


async def _get(pool: Pool, asked: Look, path: bytes, *, timeout: float) -> _Said:
    reply = await pool.send(
        asked.origin,
        method=b"GET",
        path=path,
        headers=asked.headers,
        body=b"",
        connect_timeout=timeout,
        timeout=timeout,
    )
    try:
        return _Said(reply.status, await reply.read_all(MAX_LIST, timeout))
    except TooLarge:
        # NB: it lives, and has more to say than is worth reading.
        return _Said(reply.status, b"")
    except BaseException:
        reply.close()
        raise
