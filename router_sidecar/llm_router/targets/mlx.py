"""mlx_lm.server, asked by its /v1 and with its quirks kept from everybody else.

Wire facts: mlx_lm/server.py, releases 0.30 to 0.32. HTTP/1.0, so only `[DONE]` tells a whole answer
from a cut one; comments `: keepalive n/m` during prefill are no tokens; nulls and values out of
range make some releases close the connection without an answer, so they are checked here; any model
id but the one it was started with makes it load, or download, another model; a 404 can mean any
failure before the first token.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from llm_router.errors import AttemptFailed, Cause, Code, Problem, Refused
from llm_router.exchange import NOTHING, Dialect, Exchange, Kind
from llm_router.targets.chat import (
    ChatDecoder,
    dropped_ollama,
    dropped_openai,
    fill,
    lacking,
    settle,
    written,
)
from llm_router.targets.target import Decoder, Outgoing, Terms, called, cause_of, error_text

#: Tokens at most when neither the request nor the route says: without a number the server stops at
#: 512.
UNLIMITED_TOKENS = 32_768

#: OpenAI fields the server reads as they are.
PASSED = frozenset({"logit_bias", "role_mapping", "num_draft_tokens"})

#: The client's words for how much to think, which become arguments of the chat template.
THINK = frozenset({"chat_template_kwargs", "reasoning_effort", "think"})

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
        # NB: the server ignores response_format and tool_choice in silence, and leaves log
        # probabilities out of a stream; an answer without them would look like one with.
        return lacking(exchange, NOTHING)

    def encode(self, exchange: Exchange, terms: Terms) -> Outgoing:
        """See `Target.encode`."""
        body = _sampling(exchange)
        reader: Callable[[], Decoder] = ChatDecoder
        if exchange.raw:
            # `raw` means no chat template, which is what text completion is here.
            path = b"/v1/completions"
            body["prompt"] = exchange.messages[-1].text
        else:
            # NB: a prompt goes to chat, because Ollama applies the chat template to it as well.
            path = b"/v1/chat/completions"
            body["messages"] = [written(message) for message in exchange.messages]
            if exchange.tools:
                body["tools"] = list(exchange.tools)
            if template := _template(exchange):
                body["chat_template_kwargs"] = template
        if exchange.dialect is Dialect.OPENAI:
            _pass(exchange, body)
            if exchange.stream:
                reader = partial(ChatDecoder, fragments=True)
        fill(body, terms.parameters)
        settle(body, terms.defaults)
        _limit(body)
        body["model"] = terms.model
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
        return Outgoing(path, orjson.dumps(body), reader, _dropped(exchange))

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


def _sampling(exchange: Exchange) -> dict[str, Any]:
    sent: dict[str, Any] = {**exchange.sampling}
    if "repeat_penalty" in sent:
        sent["repetition_penalty"] = sent.pop("repeat_penalty")
    for name, value in sent.items():
        if name in RANGES:
            low, high = RANGES[name]
            if not low <= value <= high:
                message = f"{name}: must be from {low} to {high} for an MLX host, is {value}"
                raise Refused(Problem(Code.BAD_REQUEST, message, param=name))
    return sent


def _limit(body: dict[str, Any]) -> None:
    """A number of tokens that the server takes."""
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    limit = body.get(name)
    # NB: -1 and -2 are Ollama's «no limit»; a negative number closes the connection here.
    if not isinstance(limit, int) or limit < 0:
        body[name] = UNLIMITED_TOKENS


def _pass(exchange: Exchange, body: dict[str, Any]) -> None:
    for name in PASSED_PROMPT if exchange.raw else PASSED:
        if (value := exchange.body.get(name)) is not None:
            body[name] = value


def _template(exchange: Exchange) -> dict[str, Any]:
    """The client's will to think, as chat templates know it, and its own arguments on top."""
    think = exchange.think
    told: dict[str, Any] = {}
    if isinstance(think, str):
        told = {"enable_thinking": True, "reasoning_effort": think}
    elif think is not None:
        told = {"enable_thinking": think}
    if exchange.dialect is Dialect.OPENAI:
        told |= exchange.body.get("chat_template_kwargs") or {}
    return told


def _dropped(exchange: Exchange) -> tuple[str, ...]:
    if exchange.dialect is Dialect.OPENAI:
        return dropped_openai(exchange, kept=PASSED_PROMPT if exchange.raw else PASSED | THINK)
    if exchange.dialect is Dialect.UNIFIED:
        return ()
    dropped = dropped_ollama(exchange, options=OPTIONS)
    if exchange.raw and exchange.think is not None:
        dropped.add("think")
    return tuple(sorted(dropped))
