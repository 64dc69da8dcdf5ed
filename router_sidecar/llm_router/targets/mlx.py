"""mlx_lm.server, asked by its /v1 and with its quirks kept from everybody else.

Wire facts: mlx_lm/server.py, releases 0.30 to 0.32. HTTP/1.0, so only `[DONE]` tells a whole answer
from a cut one; comments `: keepalive n/m` during prefill are no tokens; nulls and values out of
range make some releases close the connection without an answer, so they are checked here; any model
id but the one it was started with makes it load, or download, another model; a 404 can mean any
failure before the first token.
"""

from typing import Any

import orjson

from llm_contract import Defaults
from llm_router.errors import AttemptFailed, Cause, Code, Problem, Refused
from llm_router.exchange import Dialect, Exchange, Kind
from llm_router.targets.chat import ChatDecoder, dropped_ollama, dropped_openai, lacking, written
from llm_router.targets.target import Decoder, Outgoing, called, cause_of, error_text

#: Tokens at most when neither the request nor the route says: without a number the server stops at
#: 512.
UNLIMITED_TOKENS = 32_768

#: OpenAI fields the server reads as they are.
PASSED = frozenset({"logit_bias", "role_mapping", "chat_template_kwargs", "num_draft_tokens"})

#: The same of a text completion, to which no chat template is applied.
PASSED_PROMPT = frozenset({"logit_bias", "num_draft_tokens"})

#: Ollama options that are carried over below.
OPTIONS = frozenset(
    "num_predict temperature top_p top_k min_p seed stop presence_penalty frequency_penalty "
    "repeat_penalty".split()
)


class MlxTarget:
    """An mlx_lm.server."""

    def lacks(self, exchange: Exchange) -> str | None:
        """See `Target.lacks`."""
        if exchange.kind is Kind.EMBED:
            return "embeddings"
        if exchange.format is not None:
            # NB: the server ignores response_format in silence, which would be an answer of the
            # wrong shape.
            return "response_format" if exchange.dialect is Dialect.OPENAI else "format"
        if any(message.images for message in exchange.messages):
            return "image_url" if exchange.dialect is Dialect.OPENAI else "images"
        return lacking(exchange)

    def encode(self, exchange: Exchange, *, model: str, defaults: Defaults) -> Outgoing:
        """See `Target.encode`."""
        body: dict[str, Any] = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            **_sampling(exchange, defaults),
        }
        if exchange.raw:
            # `raw` means no chat template, which is what text completion is here.
            body["prompt"] = exchange.messages[-1].text
            body |= _passed(exchange, PASSED_PROMPT)
            return Outgoing(b"/v1/completions", orjson.dumps(body), _dropped(exchange))
        # NB: a prompt goes to chat, because Ollama applies the chat template to it as well.
        body["messages"] = [written(message) for message in exchange.messages]
        if exchange.tools:
            body["tools"] = list(exchange.tools)
        if isinstance(exchange.think, bool):
            body["chat_template_kwargs"] = {"enable_thinking": exchange.think}
        body |= _passed(exchange, PASSED)
        return Outgoing(b"/v1/chat/completions", orjson.dumps(body), _dropped(exchange))

    def decoder(self) -> Decoder:
        """See `Target.decoder`."""
        return ChatDecoder()

    def refusal(self, status: int, body: bytes) -> AttemptFailed:
        """See `Target.refusal`."""
        text = error_text(body)
        cause = cause_of(status)
        if status == 404:
            cause = _cause_of_404(text)
        return AttemptFailed(cause, called(status, text))


#: How the server says that it has no such model: no name of the hub's, not there, not in the cache.
MISSING = ("not found", "repo id", "no such file", "cannot find")


def _cause_of_404(text: str) -> Cause:
    """Any failure before the first token is a 404 here: only its text tells which."""
    lowered = text.lower()
    if "content type" in lowered or "only 'text'" in lowered:
        return Cause.UNSUPPORTED
    if any(words in lowered for words in MISSING):
        return Cause.MODEL_MISSING
    return Cause.SERVER_ERROR


#: Field -> its range on the server. What lies outside would be answered by a closed connection.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, float("inf")),
    "top_p": (0, 1),
    "top_k": (0, float("inf")),
    "min_p": (0, 1),
    "repetition_penalty": (0, float("inf")),
}


def _sampling(exchange: Exchange, defaults: Defaults) -> dict[str, Any]:
    sampling = exchange.sampling
    limit = sampling.max_tokens
    if limit is None:
        limit = defaults.max_tokens if defaults.max_tokens is not None else UNLIMITED_TOKENS
    temperature = sampling.temperature
    values: dict[str, Any] = {
        # NB: -1 and -2 are Ollama's «no limit»; a negative number closes the connection here.
        "max_tokens": UNLIMITED_TOKENS if limit < 0 else limit,
        "temperature": defaults.temperature if temperature is None else temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repeat_penalty,
        "stop": list(sampling.stop) or None,
    }
    sent = {name: value for name, value in values.items() if value is not None}
    for name, (low, high) in RANGES.items():
        if name in sent and not low <= sent[name] <= high:
            message = f"{name}: must be from {low} to {high} for an MLX host, is {sent[name]}"
            raise Refused(Problem(Code.BAD_REQUEST, message, param=name))
    return sent


def _passed(exchange: Exchange, names: frozenset[str]) -> dict[str, Any]:
    if exchange.dialect is not Dialect.OPENAI:
        return {}
    return {k: v for k, v in exchange.body.items() if k in names and v is not None}


def _dropped(exchange: Exchange) -> tuple[str, ...]:
    if exchange.dialect is Dialect.OPENAI and exchange.raw:
        return dropped_openai(exchange, kept=PASSED_PROMPT)
    if exchange.dialect is Dialect.OPENAI:
        kept = PASSED if isinstance(exchange.think, str) else PASSED | {"reasoning_effort"}
        return dropped_openai(exchange, kept=kept)
    dropped = dropped_ollama(exchange, options=OPTIONS)
    if isinstance(exchange.think, str):
        dropped.add("think")
    return tuple(sorted(dropped))
