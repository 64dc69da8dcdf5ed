"""The unified front: POST /generate, the predecessor's one call in HTTP.

    {model, prompt, temperature?, max_tokens?, stream?}
    -> {response, backend, model, done, total_duration, eval_count, ...}

`backend` is the type of host that answered. Streams are lines of JSON, as Ollama's.
"""

from typing import Any, cast

import orjson

from llm_router import fields
from llm_router.errors import Problem
from llm_router.exchange import (
    Answer,
    Delta,
    Dialect,
    Exchange,
    Finish,
    Kind,
    Message,
    Sampling,
    Timing,
)
from llm_router.fronts.front import NDJSON, About, Encoder

KNOWN = frozenset({"model", "prompt", "system", "temperature", "max_tokens", "stream", "stop"})


SAMPLING: fields.Readers = {
    "max_tokens": ("max_tokens", fields.natural),
    "temperature": ("temperature", fields.number),
    "stop": ("stop", fields.strings),
}


class GenerateFront:
    """POST /generate."""

    name = "generate"
    stream_type = NDJSON

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        for name in sent:
            if name not in KNOWN:
                fields.refuse(name, f"is not a field of /generate ({', '.join(sorted(KNOWN))})")
        model, prompt = fields.required(sent, "model"), fields.required(sent, "prompt")
        system = fields.text(sent, "system")
        messages = [Message(role="system", text=system)] if system else []
        return Exchange(
            kind=Kind.PROMPT,
            dialect=Dialect.UNIFIED,
            body=sent,
            model=model,
            stream=fields.flag(sent, "stream", default=False),
            messages=(*messages, Message(role="user", text=prompt)),
            sampling=cast(Sampling, fields.read(sent, SAMPLING)),
            # NB: a thinking model would put its whole answer in `thinking` and leave the response
            # empty.
            think=False,
        )

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return GenerateEncoder(exchange.model, backend=about.backend)

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        error = {"code": problem.code.value, "message": problem.message, "param": problem.param}
        return orjson.dumps({"error": {k: v for k, v in error.items() if v is not None}})


class GenerateEncoder:
    """An answer as the predecessor's result."""

    def __init__(self, model: str, *, backend: str) -> None:
        self._model = model
        self._backend = backend

    def delta(self, delta: Delta) -> bytes:
        """See `Encoder.delta`."""
        return orjson.dumps(self._piece(delta.text, delta.thinking) | {"done": False}) + b"\n"

    def finish(self, finish: Finish, timing: Timing) -> bytes:
        """See `Encoder.finish`."""
        return orjson.dumps(self._piece("", "") | _end(finish, timing)) + b"\n"

    def failure(self, problem: Problem) -> bytes:
        """See `Encoder.failure`."""
        return GenerateFront().problem(problem) + b"\n"

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """See `Encoder.whole`."""
        piece = self._piece(answer.text, answer.thinking)
        return orjson.dumps(piece | _end(answer.finish, timing))

    def _piece(self, text: str, thinking: str) -> dict[str, Any]:
        piece = {"response": text, "backend": self._backend, "model": self._model}
        # A model that thinks although it was asked not to; else its answer would look empty.
        return piece | {"thinking": thinking} if thinking else piece


def _end(finish: Finish, timing: Timing) -> dict[str, Any]:
    usage = finish.usage
    decode = timing.decode_ns() if usage.decode_ns is None else usage.decode_ns
    end = {
        "done": True,
        "done_reason": finish.reason.value,
        "total_duration": timing.total_ns(),
        "load_duration": usage.load_ns,
        "prompt_eval_count": usage.prompt_tokens,
        "eval_count": usage.completion_tokens,
        # NB: clients divide by it.
        "eval_duration": decode or None,
    }
    return {name: value for name, value in end.items() if value is not None}
