"""The embedding fronts: POST /v1/embeddings, /api/embed and Ollama's older /api/embeddings.

Never streamed. OpenAI's own client asks for base64, which is float32 in little-endian order; hosts
are always asked for numbers.
"""

import base64
import struct
from typing import Any

import orjson

from llm_router import fields
from llm_router.errors import Problem
from llm_router.exchange import Answer, Delta, Dialect, Exchange, Finish, Kind, Timing
from llm_router.fronts.front import JSON, About, Encoder
from llm_router.fronts.openai import counts, error

FORMATS = ("float", "base64")


class _Embeddings:
    """What the three have in common."""

    stream_type = JSON
    dialect = Dialect.OLLAMA

    def _exchange(self, sent: dict[str, Any], inputs: tuple[str, ...]) -> Exchange:
        return Exchange(
            kind=Kind.EMBED,
            dialect=self.dialect,
            body=sent,
            model=fields.required(sent, "model"),
            stream=False,
            messages=(),
            inputs=inputs,
            dimensions=fields.integer(sent, "dimensions", minimum=0) or None,
        )

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        openai = self.dialect is Dialect.OPENAI
        return orjson.dumps({"error": error(problem) if openai else problem.message})


class OpenAIFront(_Embeddings):
    """POST /v1/embeddings."""

    name = "openai_embeddings"
    dialect = Dialect.OPENAI

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        if fields.text(sent, "encoding_format", default="float") not in FORMATS:
            fields.refuse("encoding_format", f"must be one of {', '.join(FORMATS)}")
        if tokens := _tokens(sent.get("input")):
            exchange = self._exchange(sent, tokens * ("",))
            exchange.needs = frozenset({"input"})
            return exchange
        inputs = fields.strings(sent, "input")
        if not inputs or not all(inputs):
            fields.refuse("input", "must hold at least one text, and none that is empty")
        return self._exchange(sent, inputs)

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return OpenAIEncoder(exchange)


def _tokens(sent: object) -> int:
    """How many texts are given as tokens, which only a server of this protocol takes; else 0."""
    if not isinstance(sent, list) or not sent:
        return 0
    if all(type(item) is int for item in sent):
        return 1
    each = all(isinstance(item, list) and item for item in sent)
    return len(sent) if each and all(type(x) is int for item in sent for x in item) else 0


class OllamaFront(_Embeddings):
    """POST /api/embed."""

    name = "ollama_embed"

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        fields.flag(sent, "truncate", default=True)
        fields.mapping(sent, "options")
        # NB: an empty text is none to Ollama, which then only loads the model.
        inputs = () if sent.get("input") == "" else fields.strings(sent, "input")
        return self._exchange(sent, inputs)

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return OllamaEncoder(exchange, older=False)


class OlderOllamaFront(_Embeddings):
    """POST /api/embeddings."""

    name = "ollama_embeddings"

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        fields.mapping(sent, "options")
        prompt = fields.text(sent, "prompt")
        return self._exchange(sent, (prompt,) if prompt else ())

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return OllamaEncoder(exchange, older=True)


class _Whole:
    """An encoder of answers that are never streamed."""

    def delta(self, delta: Delta) -> bytes:
        """Not called: the exchange does not stream."""
        raise NotImplementedError

    def finish(self, finish: Finish, timing: Timing) -> bytes:
        """Not called: the exchange does not stream."""
        raise NotImplementedError

    def failure(self, problem: Problem) -> bytes:
        """Not called: the exchange does not stream."""
        raise NotImplementedError


class OpenAIEncoder(_Whole):
    """Vectors as OpenAI writes them."""

    def __init__(self, exchange: Exchange) -> None:
        self._model = exchange.model
        self._base64 = exchange.body.get("encoding_format") == "base64"

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """See `Encoder.whole`."""
        vectors = answer.finish.vectors or []
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if self._base64 else vector,
            }
            for index, vector in enumerate(vectors)
        ]
        whole = {"object": "list", "data": data, "model": self._model}
        usage = counts(answer.finish.usage)
        return orjson.dumps(whole | {"usage": usage} if usage is not None else whole)


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


class OllamaEncoder(_Whole):
    """Vectors as Ollama writes them."""

    def __init__(self, exchange: Exchange, *, older: bool) -> None:
        self._model = exchange.model
        self._older = older

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """See `Encoder.whole`."""
        vectors, usage = answer.finish.vectors or [], answer.finish.usage
        if self._older:
            return orjson.dumps({"embedding": vectors[0] if vectors else []})
        told = {
            "model": self._model,
            "embeddings": vectors,
            "total_duration": timing.total_ns() or None,
            "load_duration": usage.load_ns,
            "prompt_eval_count": usage.prompt_tokens,
        }
        return orjson.dumps({name: value for name, value in told.items() if value is not None})
