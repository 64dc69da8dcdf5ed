"""The OpenAI text front: POST /v1/completions.

The prompt goes to the model as it is, without a chat template. Streams are as the chat front's,
with `text_completion` chunks.
"""

from collections.abc import Mapping
from typing import Any

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
    Timing,
)
from llm_router.fronts.front import SSE, About, Encoder
from llm_router.fronts.openai import (
    FINISH_REASON,
    SIMPLE,
    counts,
    error,
    event,
    sampling,
    several,
    usage_wanted,
)

#: Fields that ask for no more than a text.
PLAIN = SIMPLE - {"messages"} | {"prompt"}


class CompletionFront:
    """POST /v1/completions.

    Several answers, several prompts and prompts of tokens go to a server of this protocol as they
    are; other targets lack them.
    """

    name = "openai_completions"
    stream_type = SSE

    def decode(self, body: bytes) -> Exchange:
        """See `Front.decode`."""
        sent = fields.document(body)
        needs: set[str] = set()
        exchange = Exchange(
            kind=Kind.PROMPT,
            dialect=Dialect.OPENAI,
            body=sent,
            model=fields.required(sent, "model"),
            stream=fields.flag(sent, "stream", default=False),
            messages=(Message(role="user", text=_prompt(sent.get("prompt"), needs)),),
            raw=True,
            sampling=sampling(sent),
        )
        if not sent.keys() <= PLAIN:
            _features(sent, exchange, needs)
        if needs:
            exchange.needs = frozenset(needs)
        return exchange

    def encoder(self, exchange: Exchange, about: About) -> Encoder:
        """See `Front.encoder`."""
        return CompletionEncoder(exchange, about)

    def problem(self, problem: Problem) -> bytes:
        """See `Front.problem`."""
        return orjson.dumps({"error": error(problem)})


def _prompt(sent: object, needs: set[str]) -> str:
    """The one prompt, which may stand in a list; "" for what only this protocol has."""
    if isinstance(sent, list):
        texts = len(sent) > 1 and all(isinstance(item, str) for item in sent)
        if texts or _tokens(sent) or (sent and all(map(_tokens, sent))):
            needs.add("prompt")
            return ""
        sent = sent[0] if len(sent) == 1 else sent or None
    return fields.required({"prompt": sent}, "prompt")


def _tokens(listed: object) -> bool:
    """Whether it is a prompt as tokens."""
    return isinstance(listed, list) and bool(listed) and all(type(item) is int for item in listed)


def _features(sent: dict[str, Any], exchange: Exchange, needs: set[str]) -> None:
    """What goes beyond one text: read into the exchange, or noted as needed."""
    exchange.include_usage = usage_wanted(sent)
    if several(sent):
        needs.add("n")
    if (fields.integer(sent, "best_of", minimum=1) or 1) > 1:
        needs.add("best_of")
    if fields.flag(sent, "echo", default=False):
        needs.add("echo")
    if fields.text(sent, "suffix"):
        needs.add("suffix")
    # NB: it is a number here, and 0 asks for those of the chosen tokens.
    if sent.get("logprobs") is not False:
        exchange.logprobs = fields.natural(sent, "logprobs")
    if exchange.logprobs is not None:
        needs.add("logprobs")


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
        self._offset = 0
        # NB: everything but the text is the same in each chunk, so it is encoded once.
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":0,"text":'

    def delta(self, delta: Delta) -> bytes:
        """See `Encoder.delta`."""
        if delta.thinking or delta.extras:
            choice = self._choice(delta.text, delta.thinking, None, delta.extras)
            return event(self._head | {"choices": [choice]})
        rest = b',"logprobs":null,"finish_reason":null}]}\n\n'
        return self._before + orjson.dumps(delta.text) + rest

    def finish(self, finish: Finish, timing: Timing) -> bytes:
        """See `Encoder.finish`."""
        end = event(self._head | {"choices": [self._choice("", "", finish, None)]})
        usage = counts(finish.usage) if self._include_usage else None
        if usage is not None:
            end += event(self._head | {"choices": [], "usage": usage})
        return end + b"data: [DONE]\n\n"

    def failure(self, problem: Problem) -> bytes:
        """See `Encoder.failure`."""
        return event({"error": error(problem)})

    def whole(self, answer: Answer, timing: Timing) -> bytes:
        """See `Encoder.whole`."""
        if answer.finish.whole is not None:
            return answer.finish.whole
        choice = self._choice(answer.text, answer.thinking, answer.finish, answer.extras)
        usage = counts(answer.finish.usage)
        whole = self._head | {"choices": [choice]}
        return orjson.dumps(whole | {"usage": usage} if usage is not None else whole)

    def _choice(
        self, text: str, thinking: str, finish: Finish | None, extras: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        reason = None
        if finish is not None:
            reason = FINISH_REASON.get(finish.reason, finish.reason.value)
        logprobs = self._logprobs(extras["logprobs"]) if extras else None
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason}
        # A host may tell thinking apart although nothing asked it to; it is not part of the text.
        return choice | {"reasoning": thinking} if thinking else choice

    def _logprobs(self, told: list[dict[str, Any]]) -> dict[str, Any]:
        """Log probabilities as four lists, one item a token; offsets count from the answer."""
        offsets = []
        for entry in told:
            offsets.append(self._offset)
            self._offset += len(entry["token"])
        return {
            "tokens": [entry["token"] for entry in told],
            "token_logprobs": [entry["logprob"] for entry in told],
            "top_logprobs": [
                {other["token"]: other["logprob"] for other in entry.get("top_logprobs") or ()}
                for entry in told
            ],
            "text_offset": offsets,
        }
