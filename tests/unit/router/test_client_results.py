"""What a call of the client returns, by the router's headers and document."""

import pickle
from typing import Any

import pytest

from llm_router.client.results import (
    ChatResult,
    EmbedResult,
    GenerateResult,
    ToolCall,
    served,
    usage,
)

HEADERS = {
    **{"x-request-id": "r-1", "x-llm-backend": "phi3-mini/mlx", "x-llm-backend-type": "mlx"},
    **{"x-llm-upstream-model": "mlx-community/Phi-3", "x-llm-attempts": "2"},
    **{"x-llm-fallback-reason": "ServerError", "x-llm-config": "0123456789ab"},
}
DOCUMENT = {
    **{"response": "hello", "backend": "mlx", "model": "phi3:mini", "done": True},
    **{"done_reason": "stop", "total_duration": 3_000_000_000, "load_duration": 500_000_000},
    **{"prompt_eval_count": 7, "eval_count": 11, "eval_duration": 2_000_000_000},
}


def test_a_result_is_the_predecessor_s_dict() -> None:
    result = GenerateResult(DOCUMENT, served(HEADERS))
    assert isinstance(result, dict)
    assert result["response"] == "hello"
    assert (result["backend"], result["model"], result["done"]) == ("mlx", "phi3:mini", True)
    assert (result["total_duration"], result["eval_count"]) == (3_000_000_000, 11)
    assert dict(result) == DOCUMENT


def test_a_result_says_the_same_with_types_and_more() -> None:
    result = GenerateResult(DOCUMENT, served(HEADERS))
    assert (result.text, result.thinking, result.finish_reason) == ("hello", "", "stop")
    assert (result.backend, result.model, result.request_id) == ("mlx", "phi3:mini", "r-1")
    assert (result.upstream_model, result.attempts) == ("mlx-community/Phi-3", 2)
    assert (result.fallback_reason, result.dropped) == ("ServerError", ())
    assert (result.served.target, result.served.config) == ("phi3-mini/mlx", "0123456789ab")


def test_ollama_s_document_gets_the_predecessor_s_fields() -> None:
    headers = {"x-llm-backend-type": "ollama"}
    result = GenerateResult({"model": "m", "response": "a"}, served(headers))
    assert result["backend"] == "ollama"
    assert (result["eval_count"], result["total_duration"]) == (0, 0)
    # What nobody counted is not 0 where a type can say so.
    assert (result.usage.completion_tokens, result.usage.total_seconds) == (None, None)


def test_dropped_fields_are_the_caller_s() -> None:
    headers = {"x-llm-dropped": "options.mirostat,think"}
    assert served(headers).dropped == ("options.mirostat", "think")
    assert served(headers, implied=frozenset({"think"})).dropped == ("options.mirostat",)


@pytest.mark.parametrize("told", ["", "many", "-1"])
def test_attempts_that_are_no_count_are_unknown(told: str) -> None:
    assert served({"x-llm-attempts": told}).attempts == 0


def test_usage() -> None:
    told = usage(DOCUMENT | {"prompt_eval_duration": 250_000_000}, backend="ollama")
    assert (told.prompt_tokens, told.completion_tokens) == (7, 11)
    assert (told.total_seconds, told.load_seconds) == (3.0, 0.5)
    assert (told.prefill_seconds, told.decode_seconds) == (0.25, 2.0)


@pytest.mark.parametrize(("backend", "speed"), [("ollama", 5.5), ("mlx", 5.0), ("openai", 5.0)])
def test_speed_is_of_the_decoding_alone(backend: str, speed: float) -> None:
    # The router's clock starts at the first token, which is therefore not counted.
    assert usage(DOCUMENT, backend=backend).tokens_per_second == speed


@pytest.mark.parametrize(
    "change",
    [
        {"eval_duration": 999_999},
        {"eval_duration": None},
        {"eval_count": None},
        {"eval_count": 0},
        {"eval_count": 1},
        {"eval_count": True},
    ],
)
def test_a_speed_that_nobody_can_tell_is_none(change: dict[str, Any]) -> None:
    assert usage(DOCUMENT | change, backend="mlx").tokens_per_second is None


def test_a_chat_s_result() -> None:
    message = {"role": "assistant", "content": "hello", "thinking": "hm"}
    result = ChatResult({"model": "m", "message": message, "done_reason": "stop"}, served(HEADERS))
    assert result["message"]["content"] == "hello"
    assert (result.text, result.thinking, result.finish_reason) == ("hello", "hm", "stop")
    assert result.message == message
    assert result.tool_calls == ()


def test_tool_calls() -> None:
    function = {"index": 0, "name": "lights", "arguments": {"room": "kitchen", "on": True}}
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c", "function": function}],
    }
    result = ChatResult({"model": "m", "message": message, "done_reason": "stop"}, served(HEADERS))
    (call,) = result.tool_calls
    assert call == ToolCall(name="lights", arguments={"room": "kitchen", "on": True}, id="c")
    assert result.finish_reason == "tool_calls"


def test_an_embedding_s_result() -> None:
    vectors = [[0.6, 0.8], [1.0, 0.0]]
    document = {"model": "m", "embeddings": vectors, "prompt_eval_count": 4}
    result = EmbedResult(document, served(HEADERS))
    assert result.embeddings == result["embeddings"] == vectors
    assert result.usage.prompt_tokens == 4


def test_a_result_may_go_to_another_process() -> None:
    result = GenerateResult(DOCUMENT, served(HEADERS))
    copy = pickle.loads(pickle.dumps(result))
    assert (copy, copy.served, copy.usage) == (result, result.served, result.usage)
