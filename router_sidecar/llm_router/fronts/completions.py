"""The OpenAI text front: POST /v1/completions.

The prompt goes to the model as it is, without a chat template. Streams are as the chat front's,
with `text_completion` chunks.
"""

from typing import Any

import orjson

from llm_router import fields
from llm_router.errors import Code, Problem, Refused
from llm_router.exchange import (
    Answer,
    Delta,
    Dialect,
    Exchange,
    Finish,
    Kind,
    Message,
    Timing,
)
from llm_router.fronts.front import SSE, About, Encoder
from llm_router.fronts.openai import FINISH_REASON, counts, error, event, sampling

#: Features beyond the text of one completion.
NEEDS = ("suffix", "echo", "best_of", "logprobs")


class CompletionFront:
    """POST /v1/completions."""

    name = "openai_completions"
    stream_type = SSE

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        model, prompt = fields.required(sent, "model"), _prompt(sent.get("prompt"))
        if fields.integer(sent, "n") not in (None, 1):
            fields.refuse("n", "only 1 answer per request is supported")
        options = fields.mapping(sent, "stream_options")
        return Exchange(
            kind=Kind.PROMPT,
            dialect=Dialect.OPENAI,
            body=sent | {"prompt": prompt},
            model=model,
            stream=fields.flag(sent, "stream", default=False),
            messages=(Message(role="user", text=prompt),),
            raw=True,
            sampling=sampling(sent),
            needs=frozenset(name for name in NEEDS if _asked(sent, name)),
            include_usage=fields.flag(options, "include_usage", default=False),
        )

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return CompletionEncoder(exchange, about)

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        return orjson.dumps({"error": error(problem)})


def _prompt(sent: object) -> str:
    """The one prompt, which may stand in a list."""
    listed = sent if isinstance(sent, list) else [sent]
    if len(listed) > 1 and all(isinstance(item, str) for item in listed):
        fields.refuse("prompt", "only 1 prompt per request is supported")
    if any(isinstance(item, int | list) and not isinstance(item, bool) for item in listed):
        message = "prompt: tokens are not supported, send text"
        raise Refused(Problem(Code.UNSUPPORTED, message, param="prompt"))
    return fields.required({"prompt": listed[0] if len(listed) == 1 else sent or None}, "prompt")


def _asked(sent: dict[str, Any], name: str) -> bool:
    # NB: `logprobs` is a number here, and 0 asks for those of the chosen tokens.
    if name == "logprobs":
        return sent.get(name) is not None and sent[name] is not False
    return bool(sent.get(name)) and not (name == "best_of" and sent[name] == 1)


class CompletionEncoder:
    """An answer as text_completion chunks, or as one text_completion."""

    def __init__(self, exchange: Exchange, about: About) -> None:
        self._include_usage = exchange.include_usage
        self._head = {
            "id": f"cmpl-{about.request_id}",
            "object": "text_completion",
            "created": int(about.created),
            "model": exchange.model,
        }

    def delta(self, delta: Delta) -> bytes:
        """See `Encoder.delta`."""
        return event(self._head | {"choices": [_choice(delta.text, delta.thinking, None)]})

    def finish(self, finish: Finish, timing: Timing) -> bytes:
        """See `Encoder.finish`."""
        end = event(self._head | {"choices": [_choice("", "", finish)]})
        usage = counts(finish.usage) if self._include_usage else None
        if usage is not None:
            end += event(self._head | {"choices": [], "usage": usage})
        return end + b"data: [DONE]\n\n"

    def failure(self, problem: Problem) -> bytes:
        """See `Encoder.failure`."""
        return event({"error": error(problem)})

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """See `Encoder.whole`."""
        choice = _choice(answer.text, answer.thinking, answer.finish)
        usage = counts(answer.finish.usage)
        whole = self._head | {"choices": [choice]}
        return orjson.dumps(whole | {"usage": usage} if usage is not None else whole)


def _choice(text: str, thinking: str, finish: Finish | None) -> dict[str, Any]:
    reason = None
    if finish is not None:
        reason = FINISH_REASON.get(finish.reason, finish.reason.value)
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    # A host may tell thinking apart although nothing asked it to; it is not part of the text.
    return choice | {"reasoning": thinking} if thinking else choice
