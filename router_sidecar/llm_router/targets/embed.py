"""Embeddings on the upstream side: the one answer that is plain JSON and not a stream.

The decoder waits for the whole body, so the answer's only event is its end, with the vectors. What
stops a stream that breaks stops this as well: a body that is cut is no JSON.
"""

from collections.abc import Callable, Mapping
from typing import Any

from llm_contract import Parameters
from llm_router.exchange import Dialect, Event, Exchange, Finish, Reason, Usage
from llm_router.targets.target import broken, count, parsed

#: Bytes of an answer; a thousand vectors of 4096 numbers, written at length, have as many.
MAX_BODY = 96 * 1024 * 1024

#: The largest number of 32 bits.
MAX_FLOAT32 = 3.4028234663852886e38

#: Client fields of either family that an exchange carries, or that mean nothing to other hosts.
CARRIED = frozenset("model input prompt dimensions encoding_format keep_alive".split())

Vectors = list[list[float]]
Read = Callable[[dict[str, Any]], tuple[Vectors, Usage]]


def dropped(exchange: Exchange) -> tuple[str, ...]:
    """The client's fields that a translation does not carry."""
    asked = {name for name, value in exchange.body.items() if value not in (None, {})}
    if exchange.body.get("truncate") is True:
        # What every host does that is not told otherwise.
        asked.discard("truncate")
    return tuple(sorted(asked - CARRIED))


def parameters(of: Parameters, names: frozenset[str]) -> Parameters:
    """Those of a route's parameters that an embedding has."""
    return Parameters(defaults=_named(of.defaults, names), overrides=_named(of.overrides, names))


def _named(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def of_ollama(reply: dict[str, Any]) -> tuple[Vectors, Usage]:
    """What POST /api/embed answers."""
    prompt, load = count(reply.get("prompt_eval_count")), count(reply.get("load_duration"))
    return reply["embeddings"], Usage(prompt_tokens=prompt, load_ns=load)


def of_older_ollama(reply: dict[str, Any]) -> tuple[Vectors, Usage]:
    """What POST /api/embeddings answers: one vector, and no counts."""
    return [reply["embedding"]], Usage()


def of_openai(reply: dict[str, Any]) -> tuple[Vectors, Usage]:
    """What POST /v1/embeddings answers."""
    told = sorted(reply["data"], key=lambda item: int(item["index"]))
    usage = reply.get("usage") or {}
    vectors = [item["embedding"] for item in told]
    return vectors, Usage(prompt_tokens=count(usage.get("prompt_tokens")))


class EmbedDecoder:
    """One JSON body -> one event, when it is whole."""

    def __init__(self, exchange: Exchange, read: Read) -> None:
        self.started = False
        self.done = False
        self._wanted = len(exchange.inputs)
        self._packed = exchange.body.get("encoding_format") == "base64"
        self._read = read
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        if data:
            self._parts.append(data)
            self._size += len(data)
            if self._size > MAX_BODY:
                raise broken(f"sent an answer of more than {MAX_BODY} bytes")
            return []
        vectors, usage = self._read(parsed(b"".join(self._parts)))
        if len(vectors) != self._wanted or not all(map(_numbers, vectors)):
            raise broken(f"sent no {self._wanted} vectors of numbers")
        if self._packed and not all(map(_narrow, vectors)):
            raise broken("sent numbers that base64, which is float32, has no room for")
        self.started = self.done = True
        return [Finish(Reason.STOP, usage, vectors=vectors)]


def _numbers(vector: object) -> bool:
    return isinstance(vector, list) and all(type(x) in (float, int) for x in vector)


def _narrow(vector: list[float]) -> bool:
    return all(-MAX_FLOAT32 <= x <= MAX_FLOAT32 for x in vector)


def native(exchange: Exchange, dialect: Dialect) -> dict[str, Any]:
    """The body to begin with: the client's own where host and client speak one protocol."""
    body = dict(exchange.body) if exchange.dialect is dialect else {}
    body.pop("prompt", None)
    if body.get("input") is None:
        body["input"] = list(exchange.inputs)
    if exchange.dimensions is not None:
        body["dimensions"] = exchange.dimensions
    return body
