"""No field of a client is dropped in silence: each changes the host's request, or is named.

Pure: each field of each protocol is set alone to a value that asks for something. A target then
lacks it, or is asked for something else than without it, or `x-llm-dropped` names it.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from conformance.asking import PNG, TOOL
from conformance.matrix import (
    CHAT,
    EMBEDDING,
    OLDER_VECTORS,
    OLLAMA_CHAT,
    OLLAMA_TEXT,
    OLLAMA_VECTORS,
    TEXT,
    UNIFIED,
    VECTORS,
)
from llm_contract import Defaults, TargetType
from llm_router.fronts import ROUTES, Front
from llm_router.targets import TARGETS, Terms

FRONTS = {front.name: front for front in ROUTES.values()}
TERMS = Terms(model="upstream", defaults=Defaults())
TURNS = [{"role": "user", "content": "hi"}]

Values = Mapping[str, Any]

_SAMPLING: Values = {
    "max_tokens": 3,
    "max_completion_tokens": 3,
    "temperature": 0,
    "top_p": 0.5,
    "top_k": 5,
    "min_p": 0.1,
    "seed": 1,
    "stop": ["x"],
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "logit_bias": {"1": 2},
}

_OPENAI: Values = {
    "n": 2,
    "user": "u",
    "store": True,
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "reasoning_effort": "low",
    "verbosity": "low",
    "response_format": {"type": "json_object"},
    "tools": [TOOL],
    "chat_template_kwargs": {"enable_thinking": False, "other": 1},
    "think": True,
    "num_draft_tokens": 2,
    "guided_json": {"a": 1},
    "x_unknown": 1,
}

_OPTIONS = (
    "num_keep seed num_predict top_k top_p min_p typical_p repeat_last_n temperature "
    "repeat_penalty presence_penalty frequency_penalty num_ctx num_batch num_gpu main_gpu "
    "num_thread draft_num_predict mirostat x_option"
).split()

_OLLAMA: Values = {
    "tools": [TOOL],
    "format": "json",
    "think": True,
    "truncate": True,
    "shift": True,
    "logprobs": True,
    "x_unknown": 1,
    "_debug_render_only": True,
    **{f"options.{name}": 1 for name in _OPTIONS},
    "options.use_mmap": True,
    "options.stop": ["x"],
}

#: Front -> field, or option, -> a value that asks for something. What is not here means nothing to
#: another host (`keep_alive`) or to any (`top_logprobs` without `logprobs`), or is the router's own
#: to do (`stream_options`, `encoding_format`).
FIELDS: Mapping[str, Values] = {
    CHAT: {
        **_SAMPLING,
        **_OPENAI,
        "logprobs": True,
        "parallel_tool_calls": False,
        "prediction": {"type": "content", "content": "x"},
        "web_search_options": {"a": 1},
        "modalities": ["text", "audio"],
        "audio": {"voice": "x"},
        "functions": [{"name": "f"}],
        "function_call": {"name": "f"},
        "role_mapping": {"a": "b"},
    },
    TEXT: {**_SAMPLING, **_OPENAI, "logprobs": 1, "suffix": "x", "echo": True, "best_of": 2},
    OLLAMA_CHAT: _OLLAMA,
    OLLAMA_TEXT: {
        **_OLLAMA,
        "suffix": "x",
        "system": "s",
        "template": "t",
        "context": [1],
        "raw": True,
        "images": [PNG],
        "width": 3,
    },
    UNIFIED: {"system": "s", "temperature": 0, "max_tokens": 3, "stop": ["x"]},
    VECTORS: {"dimensions": 2, "user": "u", "x_unknown": 1},
    OLLAMA_VECTORS: {"dimensions": 2, "truncate": False, "options.num_ctx": 5, "x_unknown": 1},
    OLDER_VECTORS: {"options.num_ctx": 5, "x_unknown": 1},
}

CASES = [(front, name) for front, values in FIELDS.items() for name in values]


def least(front: str) -> dict[str, Any]:
    """The request that sets nothing."""
    if front in (CHAT, OLLAMA_CHAT):
        return {"model": "m", "messages": TURNS}
    name = "input" if front in EMBEDDING - {OLDER_VECTORS} else "prompt"
    return {"model": "m", name: "hi"}


def sent(front: Front, document: Values, target: TargetType) -> tuple[bytes, tuple[str, ...]] | str:
    """A host's request and what it leaves out; or the field that this kind of host lacks."""
    exchange = front.decode(json.dumps(document).encode())
    kind = TARGETS[target]
    if (lacking := kind.lacks(exchange)) is not None:
        return lacking
    outgoing = kind.encode(exchange, TERMS)
    return outgoing.body, outgoing.dropped


@pytest.mark.parametrize("target", TargetType)
@pytest.mark.parametrize(("front", "name"), CASES)
def test_a_field_is_asked_for_or_refused_or_named(
    front: str, name: str, target: TargetType
) -> None:
    field, _, option = name.partition(".")
    value = FIELDS[front][name]
    document = least(front) | {field: {option: value} if option else value}
    told = sent(FRONTS[front], document, target)
    if isinstance(told, str):
        # NB: `raw` is lacked for the sake of a system text, and no MLX host has embeddings.
        assert told in (field, "embeddings")
        return
    body, dropped = told
    plain = sent(FRONTS[front], least(front), target)
    assert plain[0] != body or {name, field} & set(dropped)
