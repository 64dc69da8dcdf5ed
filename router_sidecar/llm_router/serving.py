"""The life of one request: decode, look up, ask, encode, answer, record.

    call -> front.decode -> Exchange -> Entry -> Asker -> events -> encoder -> call

Until the first byte is sent an error is a status with a body; after it, an error in band and no
proper end. A client that disconnects ends the request at once, streaming or not, and with it the
generation upstream. Nothing a client sends chooses an address. However it ends, there is one record
of it.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

from llm_router import trace
from llm_router.account import Account
from llm_router.ask import Asker, Live, Request
from llm_router.errors import TABLE, Code, Problem, Refused, Unanswered
from llm_router.exchange import Exchange, Timing
from llm_router.follow import Follower
from llm_router.fronts import About, Encoder, Front
from llm_router.metrics import Metrics
from llm_router.probe import Prober
from llm_router.relay import Relay
from llm_router.server import Call
from llm_router.standing import Standings
from llm_router.table import Entry, Table, default_entry
from llm_router.usage import Outcome, Recorder

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]

#: What a request is told that comes, or still runs, when the process ends.
ENDING = Problem(Code.NOT_READY, "the router is shutting down", retry_after="1")

#: What it is told before there is a table.
NOT_READY = Problem(Code.NOT_READY, "no configuration has been loaded yet", retry_after="1")


@dataclass(slots=True, kw_only=True)
class Parts:
    """What every request uses.

    Attributes:
        trace_ratio: of the traces that begin here, how many are sampled.
        draining: the process is ending; no new request is taken.
    """

    follower: Follower
    standings: Standings
    prober: Prober
    asker: Asker
    recorder: Recorder
    metrics: Metrics
    default_ollama_url: str | None
    trace_ratio: float = 0.0
    draining: bool = False


class Serving:
    """One request, from its body to its last byte."""

    __slots__ = ("_account", "_call", "_front", "_parts", "_request_id", "_table")

    def __init__(self, parts: Parts, front: Front, call: Call, *, request_id: str) -> None:
        self._parts = parts
        self._front = front
        self._call = call
        self._request_id = request_id
        # The request keeps the table it began with, whatever is swapped in meanwhile.
        self._table: Table | None = parts.follower.table
        self._account = Account(
            at=time.time(), timing=Timing(started=time.monotonic_ns()), front=front.name
        )

    async def run(self) -> None:
        """Serve it. Never raises for what the client or a host did."""
        call, account = self._call, self._account
        try:
            await self._serve()
        except Refused as refused:
            self._refuse(refused.problem)
        except Unanswered as unanswered:
            self._refuse(unanswered.problem)
        except asyncio.CancelledError:
            if call.gone or not self._parts.draining:
                account.ended(Outcome.CANCELLED, 200 if call.started else 499)
                raise
            # The drain limit has passed. A stream has told its client already.
            if not call.started:
                self._refuse(ENDING)
        except Exception:
            log.exception("request_failed", extra={"request_id": self._request_id})
            message = f"the router failed; its log says why (request {self._request_id})"
            if call.started:
                account.ended(Outcome.BROKEN, 200, error=Code.INTERNAL)
                # An answer must not end as if it were whole.
                call.cut()
            else:
                self._refuse(Problem(Code.INTERNAL, message))
        finally:
            record = account.record(call.headers, request_id=self._request_id)
            self._parts.recorder.add(record)

    async def _serve(self) -> None:
        call, account, parts = self._call, self._account, self._parts
        if call.refusal is not None:
            raise Refused(call.refusal)
        exchange = self._front.decode(call.body)
        entry = self._look_up(exchange.model)
        traced = trace.begin(
            call.header(b"traceparent"), call.header(b"tracestate"), ratio=parts.trace_ratio
        )
        account.request = request = Request(
            exchange=exchange,
            entry=entry,
            deadline=asyncio.get_running_loop().time() + entry.route.timeouts.total,
            timing=account.timing,
            headers=call.headers,
            request_id=self._request_id.encode(),
            trace=traced,
            sticky=call.header(entry.sticky) if entry.sticky else None,
        )
        if exchange.stream:
            live = await parts.asker.begin(request)
            account.live = live
            await self._stream(request, live)
        else:
            live, answer = await parts.asker.complete(request)
            account.live = live
            body = self._encoder(exchange, live).whole(answer, live.timing)
            call.respond(200, headers=[JSON, *self._headers(live)], body=body)
            live.destination.standing.finished()
            account.ended(Outcome.OK, 200)

    async def _stream(self, request: Request, live: Live) -> None:
        """Send the events as they come, and the end as it is."""
        call, account = self._call, self._account
        try:
            # NB: in here, as whatever fails from now on must close the answer.
            encoder = self._encoder(request.exchange, live)
            relay = Relay(call, encoder, live)
            call.begin(200, headers=[*self._front_headers(), *self._headers(live)])
            relay.take(live.events)
            failure = None if live.done else await live.pipe(relay.take)
        except asyncio.CancelledError:
            if not call.gone and self._parts.draining:
                call.end(encoder.failure(ENDING))
                account.ended(Outcome.BROKEN, 200, error=ENDING.code)
            raise
        finally:
            live.close()
        if failure is None:
            live.destination.standing.finished()
            account.ended(Outcome.OK, 200)
            return
        self._parts.asker.broke(request, live.destination, failure)
        target = live.destination.target.name
        log.warning(
            "stream_broken",
            extra={"model": request.entry.label, "target": target, "reason": failure.message},
        )
        message = f"the answer broke off: {target}: {failure.message}"
        call.end(encoder.failure(Problem(TABLE[failure.cause].code, message)))
        account.ended(Outcome.BROKEN, 200, error=failure.cause)

    def _look_up(self, model: str) -> Entry:
        if self._parts.draining:
            raise Refused(ENDING)
        if self._table is None:
            raise Refused(NOT_READY)
        entry = self._table.entries.get(model)
        if entry is not None:
            return entry
        if self._parts.default_ollama_url is not None:
            url = self._parts.default_ollama_url
            return default_entry(model, url=url, standings=self._parts.standings)
        message = f"model {model!r} not found"
        raise Refused(Problem(Code.MODEL_NOT_FOUND, message, param="model"))

    def _encoder(self, exchange: Exchange, live: Live) -> Encoder:
        backend = live.destination.target.type.value
        about = About(request_id=self._request_id, created=self._account.at, backend=backend)
        return self._front.encoder(exchange, about)

    def _front_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"content-type", self._front.stream_type), *STREAM)

    def _headers(self, live: Live) -> Headers:
        """The headers that say how the request went; values come from configuration or are ours."""
        headers = [*self._always(), *live.destination.told]
        headers.append((b"x-llm-attempts", b"%d" % (len(live.failures) + 1)))
        if reason := self._account.fallback_reason:
            headers.append((b"x-llm-fallback-reason", reason.encode()))
        if live.outgoing.dropped:
            headers.append((b"x-llm-dropped", _listed(live.outgoing.dropped)))
        return headers

    def _always(self) -> Headers:
        headers = [(b"x-request-id", self._request_id.encode())]
        if self._table is not None:
            headers.append(self._table.header)
        return headers

    def _refuse(self, problem: Problem) -> None:
        """A status and a body; nothing has been sent before."""
        failures = self._account.failures
        headers = [JSON, *self._always()]
        if failures:
            headers.append((b"x-llm-attempts", b"%d" % len(failures)))
            headers.append((b"x-llm-fallback-reason", self._account.fallback_reason.encode()))
        if problem.retry_after:
            headers.append((b"retry-after", problem.retry_after.encode()))
        self._account.ended(Outcome.ERROR, problem.status, error=problem.code)
        self._call.respond(problem.status, headers=headers, body=self._front.problem(problem))


JSON = (b"content-type", b"application/json")
STREAM = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


def _listed(names: tuple[str, ...]) -> bytes:
    """Field names for a header: a client chose them, so only harmless ones are repeated."""
    safe = [name for name in names if name.isascii() and name.replace(".", "_").isidentifier()]
    return ",".join(safe[:16]).encode() or b"unnamed"
