"""Log probabilities as the events carry them: one entry a token.

An entry is `token`, `logprob`, `bytes` and `top_logprobs`, which is what Ollama and OpenAI's chat
write; OpenAI's older text completions have four lists in place of it.
"""

from collections.abc import Mapping
from typing import Any


def entries(logprobs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The extras of a choice's `logprobs`; None when they hold none."""
    told = logprobs.get("content")
    if told is None and logprobs.get("tokens"):
        told = _of_lists(logprobs)
    if not told:
        return None
    if type(told) is not list:
        raise TypeError(told)
    return {"logprobs": told}


def _of_lists(logprobs: Mapping[str, Any]) -> list[dict[str, Any]]:
    tokens, values = logprobs["tokens"], logprobs["token_logprobs"]
    others = logprobs.get("top_logprobs") or [None] * len(tokens)
    return [
        {"token": token, "logprob": value, "top_logprobs": _alternatives(other or {})}
        for token, value, other in zip(tokens, values, others, strict=True)
    ]


def _alternatives(told: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"token": token, "logprob": value} for token, value in told.items()]
