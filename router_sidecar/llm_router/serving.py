"""The life of one request: decode, look up, ask, encode, send.

    body -> front.decode -> Exchange -> Entry -> Asker -> events -> encoder -> send

Until the first byte is sent an error is a status with a body; after it, an error in band and no
proper end. A client that disconnects ends the request at once, streaming or not, and with it the
generation upstream. Nothing a client sends chooses an address.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from urllib.parse import quote

from llm_router.answer import Asker, Live
from llm_router.asgi import Disconnected, Headers, Receive, Send, read, respond
from llm_router.errors import TABLE, AttemptFailed, Code, Problem, Refused, Unanswered
from llm_router.exchange import Delta, Event, Exchange, Finish
from llm_router.follow import Follower
from llm_router.fronts import About, Encoder, Front
from llm_router.metrics import Metrics
from llm_router.table import Entry, default_entry

log = logging.getLogger(__name__)

#: What a request is told that comes, or still runs, when the process ends.
ENDING = Problem(Code.NOT_READY, "the router is shutting down", retry_after="1")


@dataclass(slots=True, kw_only=True)
class Parts:
    """What every request uses.

    Attributes:
        draining: the process is ending; no new request is taken.
    """

    follower: Follower
    asker: Asker
    metrics: Metrics
    default_ollama_url: str | None
    max_body_bytes: int
    draining: bool = False


class Serving:
    """One request, from its body to its last byte."""

    __slots__ = (
        "_answering",
        "_entry",
        "_front",
        "_gone",
        "_parts",
        "_request_id",
        "_started",
        "_table",
        "_watch",
    )

    def __init__(self, parts: Parts, front: Front, *, request_id: str) -> None:
        self._parts = parts
        self._front = front
        self._request_id = request_id
        # The request keeps the table it began with, whatever is swapped in meanwhile.
        self._table = parts.follower.table
        self._entry: Entry | None = None
        self._answering = ""
        self._gone = False
        self._started = False
        self._watch: asyncio.Task[None] | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Serve it. Never raises for what the client or a host did."""
        try:
            body = await read(receive, limit=self._parts.max_body_bytes)
            exchange = self._front.decode(body)
            self._entry = self._look_up(exchange.model)
            watching = self._until_gone(receive, asyncio.current_task())
            self._watch = asyncio.create_task(watching)
            if exchange.stream:
                await self._stream(exchange, self._entry, send=send)
            else:
                await self._whole(exchange, self._entry, send=send)
        except Refused as refused:
            await self._refuse(send, refused.problem, failures=())
        except Unanswered as unanswered:
            await self._refuse(send, unanswered.problem, failures=unanswered.failures)
        except Disconnected:
            self._count("cancelled")
        except asyncio.CancelledError:
            if self._gone:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                self._count("cancelled")
            elif self._parts.draining and not self._started:
                await self._refuse(send, ENDING, failures=())
            else:
                raise
        except Exception:
            log.exception("request_failed", extra={"request_id": self._request_id})
            if self._started:
                # The server then cuts the connection: an answer must not end as if it were whole.
                raise
            message = f"the router failed; its log says why (request {self._request_id})"
            await self._refuse(send, Problem(Code.INTERNAL, message), failures=())
        finally:
            self._unwatch()

    def _unwatch(self) -> None:
        # NB: before the last byte is sent; uvicorn tells a finished response as a disconnect too.
        if self._watch is not None:
            self._watch.cancel()

    async def _until_gone(self, receive: Receive, serving: "asyncio.Task[object] | None") -> None:
        """Cancel the request when its client goes away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if serving is not None:
            serving.cancel()

    def _look_up(self, model: str) -> Entry:
        if self._parts.draining:
            raise Refused(ENDING)
        if self._table is None:
            message = "no configuration has been loaded yet"
            raise Refused(Problem(Code.NOT_READY, message, retry_after="1"))
        entry = self._table.entries.get(model)
        if entry is not None:
            return entry
        if self._parts.default_ollama_url is not None:
            return default_entry(model, url=self._parts.default_ollama_url)
        message = f"model {model!r} not found"
        raise Refused(Problem(Code.MODEL_NOT_FOUND, message, param="model"))

    async def _whole(self, exchange: Exchange, entry: Entry, *, send: Send) -> None:
        live, answer = await self._parts.asker.complete(exchange, entry)
        self._began(live, entry)
        body = self._encoder(exchange, live).whole(answer, live.timing)
        self._unwatch()
        self._answered(live, entry)
        await respond(send, 200, headers=self._headers(live), body=body)

    async def _stream(self, exchange: Exchange, entry: Entry, *, send: Send) -> None:
        live = await self._parts.asker.begin(exchange, entry)
        try:
            self._began(live, entry)
            encoder = self._encoder(exchange, live)
            headers = [
                (b"content-type", self._front.stream_type),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
                *self._headers(live),
            ]
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._relay(live, entry, encoder=encoder, send=send)
        finally:
            live.close()

    async def _relay(self, live: Live, entry: Entry, *, encoder: Encoder, send: Send) -> None:
        """Send the events as they come, and the end as it is."""
        events = live.events
        try:
            while not live.done:
                if piece := _encoded(events, encoder, live):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                events = await live.more()
            last = _encoded(events, encoder, live)
            self._answered(live, entry)
        except AttemptFailed as failure:
            log.warning(
                "stream_broken",
                extra={"model": entry.label, "reason": failure.message, "cause": failure.cause},
            )
            target = live.destination.target.name
            message = f"the answer broke off: {target}: {failure.message}"
            last = encoder.failure(Problem(TABLE[failure.cause].code, message))
            self._count("broken")
        except asyncio.CancelledError:
            if self._gone or not self._parts.draining:
                raise
            # The drain limit has passed.
            last = encoder.failure(ENDING)
            self._count("broken")
        self._unwatch()
        await send({"type": "http.response.body", "body": last, "more_body": False})
        if live.done:
            await live.settle()

    def _encoder(self, exchange: Exchange, live: Live) -> Encoder:
        backend = live.destination.target.type.value
        about = About(request_id=self._request_id, created=time.time(), backend=backend)
        return self._front.encoder(exchange, about)

    def _began(self, live: Live, entry: Entry) -> None:
        self._answering = live.destination.target.type.value
        self._parts.metrics.began(entry, target_type=self._answering, timing=live.timing)
        self._parts.metrics.failed(entry, live.failures)

    def _answered(self, live: Live, entry: Entry) -> None:
        self._parts.metrics.answered(
            entry, front=self._front.name, target_type=self._answering, timing=live.timing
        )

    def _count(self, outcome: str) -> None:
        label = self._entry.label if self._entry is not None else "other"
        self._parts.metrics.ended(
            label, front=self._front.name, target_type=self._answering, outcome=outcome
        )

    def _headers(self, live: Live) -> Headers:
        """The headers that say how the request went; values come from configuration or are ours."""
        target = live.destination.target
        backend = f"{self._entry.route.name}/{target.name}" if self._entry else target.name
        headers = [
            *self._always(),
            (b"x-llm-backend", _printable(backend)),
            (b"x-llm-backend-type", target.type.encode()),
            (b"x-llm-upstream-model", _printable(target.model)),
            (b"x-llm-attempts", str(len(live.failures) + 1).encode()),
        ]
        if live.failures:
            headers.append((b"x-llm-fallback-reason", live.failures[0].cause.encode()))
        if live.outgoing.dropped:
            headers.append((b"x-llm-dropped", _listed(live.outgoing.dropped)))
        return headers

    def _always(self) -> Headers:
        headers = [(b"x-request-id", self._request_id.encode())]
        if self._table is not None:
            headers.append((b"x-llm-config", self._table.checksum[:12].encode()))
        return headers

    async def _refuse(
        self, send: Send, problem: Problem, *, failures: tuple[AttemptFailed, ...]
    ) -> None:
        """A status and a body; nothing has been sent before."""
        self._unwatch()
        if self._entry is not None:
            self._parts.metrics.failed(self._entry, failures)
        self._count("error")
        headers = self._always()
        if failures:
            headers.append((b"x-llm-attempts", str(len(failures)).encode()))
            headers.append((b"x-llm-fallback-reason", failures[0].cause.encode()))
        if problem.retry_after:
            headers.append((b"retry-after", problem.retry_after.encode()))
        body = self._front.problem(problem)
        await respond(send, problem.status, headers=headers, body=body)


def _encoded(events: list[Event], encoder: Encoder, live: Live) -> bytes:
    pieces = []
    for event in events:
        match event:
            case Delta():
                pieces.append(encoder.delta(event))
            case Finish():
                pieces.append(encoder.finish(event, live.timing))
    return b"".join(pieces)


def _printable(text: str) -> bytes:
    """A name for a header, percent-encoded where it holds what a header may not."""
    # NB: the default Ollama's models are named by clients, and a name may hold a line end.
    plain = text.isascii() and text.isprintable()
    return (text if plain else quote(text, safe="/:@+", errors="replace")).encode()


def _listed(names: tuple[str, ...]) -> bytes:
    """Field names for a header: a client chose them, so only harmless ones are repeated."""
    safe = [name for name in names if name.isascii() and name.replace(".", "_").isidentifier()]
    return ",".join(safe[:16]).encode() or b"unnamed"
