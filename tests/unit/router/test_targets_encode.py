"""Requests as each kind of host gets them: every dialect of a client, every type of target."""

import base64
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from llm_contract import Defaults, Parameters, TargetType
from llm_router.errors import Code, Refused
from llm_router.exchange import Exchange
from llm_router.fronts import ROUTES
from llm_router.targets import TARGETS, Outgoing, Terms

MODEL = "phi3:mini"
UPSTREAM = "upstream-id"
NOTHING = Defaults()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

OPENAI, OLLAMA = "/v1/chat/completions", "/api/chat"
COMPLETION = "/v1/completions"
GENERATE, UNIFIED = "/api/generate", "/generate"


def decode(path: str, **fields: Any) -> Exchange:
    return ROUTES[path].decode(orjson.dumps({"model": MODEL} | fields))


def encode(
    exchange: Exchange, kind: TargetType, *, defaults: Defaults = NOTHING, **terms: Any
) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    asked = Terms(model=UPSTREAM, defaults=defaults, **terms)
    outgoing: Outgoing = TARGETS[kind].encode(exchange, asked)
    return outgoing.path.decode(), orjson.loads(outgoing.body), outgoing.dropped


#: One request with everything in it, in each dialect.
CHAT_OPENAI: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what?"}], "name": "ada"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
            ],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"},
    ],
    "stream": False,
    "max_completion_tokens": 5,
    "temperature": 0,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "seed": 0,
    "stop": "x",
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.5,
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "logit_bias": {"1": 2},
    "user": "ada",
    "store": False,
    "n": 1,
}
CHAT_OLLAMA: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "what?"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "42", "tool_name": "f"},
    ],
    "stream": False,
    "options": {
        "num_predict": 5,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "seed": 0,
        "stop": ["x"],
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repeat_penalty": 1.5,
        "num_ctx": 4096,
        "mirostat": 1,
    },
    "tools": [TOOL],
    "think": True,
    "keep_alive": "5m",
    "truncate": False,
}
PROMPT_OLLAMA: dict[str, Any] = {
    "prompt": "what?",
    "system": "be brief",
    "options": {"num_predict": -1, "temperature": 0.5},
    "think": False,
    "keep_alive": -1,
}
PROMPT_UNIFIED: dict[str, Any] = {
    "prompt": "what?",
    "system": "be brief",
    "max_tokens": 0,
    "temperature": 0,
    "stop": ["x", "y"],
}

#: The same turns as OpenAI writes them.
TURNS_OPENAI = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "what?"},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        ],
    },
    {"role": "tool", "content": "42", "name": "f"},
]
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
PLAIN_TURNS = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "what?"}]


@dataclass(frozen=True)
class Case:
    front: str
    request: dict[str, Any]
    kind: TargetType
    path: str
    body: dict[str, Any]
    dropped: tuple[str, ...] = ()


CASES = {
    "openai-to-openai": Case(
        OPENAI,
        CHAT_OPENAI,
        TargetType.OPENAI,
        "/v1/chat/completions",
        CHAT_OPENAI | {"model": UPSTREAM} | STREAM,
    ),
    "openai-to-mlx": Case(
        OPENAI,
        CHAT_OPENAI,
        TargetType.MLX,
        "/v1/chat/completions",
        STREAM
        | {
            "model": UPSTREAM,
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "what?", "name": "ada"},
                {
                    "role": "assistant",
                    # NB: null here breaks chat templates.
                    "content": "",
                    "tool_calls": CHAT_OPENAI["messages"][2]["tool_calls"],
                },
                {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"},
            ],
            "max_tokens": 5,
            "temperature": 0,
            "top_p": 0.5,
            "top_k": 3,
            "min_p": 0.1,
            "seed": 0,
            "stop": ["x"],
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "repetition_penalty": 1.5,
            "tools": [TOOL],
            "logit_bias": {"1": 2},
            "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"},
        },
        ("parallel_tool_calls", "user"),
    ),
    "openai-to-ollama": Case(
        OPENAI,
        CHAT_OPENAI,
        TargetType.OLLAMA,
        "/api/chat",
        {
            "model": UPSTREAM,
            "stream": True,
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "what?"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}],
                },
                {"role": "tool", "content": "42", "tool_call_id": "c1", "tool_name": "f"},
            ],
            "options": {
                "num_predict": 5,
                "temperature": 0,
                "top_p": 0.5,
                "top_k": 3,
                "min_p": 0.1,
                "seed": 0,
                "stop": ["x"],
                "presence_penalty": 0.5,
                "frequency_penalty": -0.5,
                "repeat_penalty": 1.5,
            },
            "tools": [TOOL],
            "think": "low",
        },
        ("logit_bias", "messages.name", "parallel_tool_calls", "user"),
    ),
    "ollama-to-ollama": Case(
        OLLAMA,
        CHAT_OLLAMA,
        TargetType.OLLAMA,
        "/api/chat",
        CHAT_OLLAMA | {"model": UPSTREAM, "stream": True},
    ),
    "ollama-to-mlx": Case(
        OLLAMA,
        CHAT_OLLAMA,
        TargetType.MLX,
        "/v1/chat/completions",
        STREAM
        | {
            "model": UPSTREAM,
            "messages": TURNS_OPENAI,
            "max_tokens": 5,
            "temperature": 0,
            "top_p": 0.5,
            "top_k": 3,
            "min_p": 0.1,
            "seed": 0,
            "stop": ["x"],
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "repetition_penalty": 1.5,
            "tools": [TOOL],
            "chat_template_kwargs": {"enable_thinking": True},
        },
        ("options.mirostat", "options.num_ctx", "truncate"),
    ),
    "ollama-to-openai": Case(
        OLLAMA,
        CHAT_OLLAMA,
        TargetType.OPENAI,
        "/v1/chat/completions",
        STREAM
        | {
            "model": UPSTREAM,
            "messages": TURNS_OPENAI,
            "max_tokens": 5,
            "temperature": 0,
            "top_p": 0.5,
            "seed": 0,
            "stop": ["x"],
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "tools": [TOOL],
        },
        (
            *("options.min_p", "options.mirostat", "options.num_ctx", "options.repeat_penalty"),
            *("options.top_k", "think", "truncate"),
        ),
    ),
    "prompt-to-ollama": Case(
        GENERATE,
        PROMPT_OLLAMA,
        TargetType.OLLAMA,
        "/api/generate",
        PROMPT_OLLAMA | {"model": UPSTREAM, "stream": True},
    ),
    # NB: Ollama applies the chat template to a prompt, so elsewhere a prompt goes to chat.
    "prompt-to-mlx": Case(
        GENERATE,
        PROMPT_OLLAMA,
        TargetType.MLX,
        "/v1/chat/completions",
        STREAM
        | {
            "model": UPSTREAM,
            "messages": PLAIN_TURNS,
            # NB: -1 would be refused, or close the connection.
            "max_tokens": 32_768,
            "temperature": 0.5,
            "chat_template_kwargs": {"enable_thinking": False},
        },
    ),
    "prompt-to-openai": Case(
        GENERATE,
        PROMPT_OLLAMA,
        TargetType.OPENAI,
        "/v1/chat/completions",
        STREAM | {"model": UPSTREAM, "messages": PLAIN_TURNS, "temperature": 0.5},
        ("think",),
    ),
    "unified-to-ollama": Case(
        UNIFIED,
        PROMPT_UNIFIED,
        TargetType.OLLAMA,
        "/api/generate",
        {
            "model": UPSTREAM,
            "stream": True,
            "prompt": "what?",
            "system": "be brief",
            "options": {"num_predict": 0, "temperature": 0, "stop": ["x", "y"]},
            "think": False,
        },
    ),
    "unified-to-mlx": Case(
        UNIFIED,
        PROMPT_UNIFIED,
        TargetType.MLX,
        "/v1/chat/completions",
        STREAM
        | {
            "model": UPSTREAM,
            "messages": PLAIN_TURNS,
            "max_tokens": 0,
            "temperature": 0,
            "stop": ["x", "y"],
            "chat_template_kwargs": {"enable_thinking": False},
        },
    ),
    "unified-to-openai": Case(
        UNIFIED,
        PROMPT_UNIFIED,
        TargetType.OPENAI,
        "/v1/chat/completions",
        STREAM
        | {
            "model": UPSTREAM,
            "messages": PLAIN_TURNS,
            "max_tokens": 0,
            "temperature": 0,
            "stop": ["x", "y"],
        },
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_request_in_one_dialect_to_one_kind_of_host(case: Case) -> None:
    exchange = decode(case.front, **case.request)
    assert TARGETS[case.kind].lacks(exchange) is None
    path, body, dropped = encode(exchange, case.kind)
    assert path == case.path
    assert body == case.body
    assert dropped == case.dropped
    assert MODEL not in str(body), "a host never sees the callers' name"


@pytest.mark.parametrize("kind", [TargetType.MLX, TargetType.OPENAI])
def test_a_raw_prompt_is_a_text_completion(kind: TargetType) -> None:
    exchange = decode(GENERATE, prompt="once", raw=True, options={"num_predict": 3})
    path, body, dropped = encode(exchange, kind)
    assert path == "/v1/completions"
    assert body == STREAM | {"model": UPSTREAM, "prompt": "once", "max_tokens": 3}
    assert dropped == ()


def test_the_clients_document_is_never_changed() -> None:
    exchange = decode(OLLAMA, **CHAT_OLLAMA)
    before = orjson.dumps(exchange.body)
    for kind in TargetType:
        encode(exchange, kind, defaults=Defaults(max_tokens=1, temperature=1, keep_alive_seconds=1))
    assert orjson.dumps(exchange.body) == before


TURNS = [{"role": "user", "content": "x"}]
SET = Defaults(max_tokens=100, temperature=0.7, keep_alive_seconds=-1)
MINIMAL: dict[str, dict[str, Any]] = {
    OPENAI: {"messages": TURNS},
    OLLAMA: {"messages": TURNS},
    GENERATE: {"prompt": "x"},
    UNIFIED: {"prompt": "x"},
}
ZERO: dict[str, dict[str, Any]] = {
    OPENAI: {"max_tokens": 0, "temperature": 0},
    OLLAMA: {"options": {"num_predict": 0, "temperature": 0}, "keep_alive": 0},
    GENERATE: {"options": {"num_predict": 0, "temperature": 0}, "keep_alive": 0},
    UNIFIED: {"max_tokens": 0, "temperature": 0},
}
NULL: dict[str, dict[str, Any]] = {
    OPENAI: {"max_tokens": None, "max_completion_tokens": None, "temperature": None},
    OLLAMA: {"options": {"num_predict": None, "temperature": None}, "keep_alive": None},
    GENERATE: {"options": None, "keep_alive": None},
    UNIFIED: {"max_tokens": None, "temperature": None},
}


class TestDefaults:
    @staticmethod
    def values(body: dict[str, Any], kind: TargetType) -> tuple[Any, Any]:
        if kind is TargetType.OLLAMA:
            options = body.get("options", {})
            return options.get("num_predict"), options.get("temperature")
        return body.get("max_tokens"), body.get("temperature")

    @pytest.mark.parametrize("kind", list(TargetType))
    @pytest.mark.parametrize("front", list(MINIMAL))
    def test_fill_what_the_request_leaves_open(self, front: str, kind: TargetType) -> None:
        for fields in ({}, NULL[front]):
            exchange = decode(front, **MINIMAL[front], **fields)
            _, body, _ = encode(exchange, kind, defaults=SET)
            assert self.values(body, kind) == (100, 0.7)
            assert body.get("keep_alive") == (-1 if kind is TargetType.OLLAMA else None)

    @pytest.mark.parametrize("kind", list(TargetType))
    @pytest.mark.parametrize("front", list(MINIMAL))
    def test_zero_in_the_request_stays_zero(self, front: str, kind: TargetType) -> None:
        exchange = decode(front, **MINIMAL[front], **ZERO[front])
        _, body, _ = encode(exchange, kind, defaults=SET)
        limit, temperature = self.values(body, kind)
        assert limit == 0
        assert limit is not None
        assert temperature == 0
        if kind is TargetType.OLLAMA:
            assert body["keep_alive"] == ZERO[front].get("keep_alive", -1)

    @pytest.mark.parametrize("kind", list(TargetType))
    def test_of_zero_are_sent(self, kind: TargetType) -> None:
        zero = Defaults(max_tokens=0, temperature=0.0, keep_alive_seconds=0)
        exchange = decode(UNIFIED, prompt="x")
        _, body, _ = encode(exchange, kind, defaults=zero)
        assert self.values(body, kind) == (0, 0)
        assert body.get("keep_alive") == (0 if kind is TargetType.OLLAMA else None)

    @pytest.mark.parametrize("kind", [TargetType.OLLAMA, TargetType.OPENAI])
    def test_nothing_is_made_up_without_them(self, kind: TargetType) -> None:
        _, body, _ = encode(decode(UNIFIED, prompt="x"), kind)
        assert self.values(body, kind) == (None, None)

    def test_mlx_gets_a_limit_for_it_would_stop_at_512(self) -> None:
        _, body, _ = encode(decode(UNIFIED, prompt="x"), TargetType.MLX)
        assert self.values(body, TargetType.MLX) == (32_768, None)

    def test_the_newer_openai_name_counts_as_set(self) -> None:
        exchange = decode(OPENAI, **MINIMAL[OPENAI], max_completion_tokens=3)
        _, body, _ = encode(exchange, TargetType.OPENAI, defaults=SET)
        assert body["max_completion_tokens"] == 3
        assert "max_tokens" not in body


class TestParameters:
    """A route's parameters: defaults fill, overrides win, by the target's own names."""

    @staticmethod
    def sent(
        front: str,
        kind: TargetType,
        *,
        defaults: dict[str, Any] | None = None,
        overrides: dict[str, Any] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        parameters = Parameters(defaults=defaults or {}, overrides=overrides or {})
        exchange = decode(front, **MINIMAL[front], **fields)
        before = orjson.dumps(exchange.body)
        body = encode(exchange, kind, parameters=parameters, defaults=SET)[1]
        assert orjson.dumps(exchange.body) == before
        return body

    @pytest.mark.parametrize("kind", [TargetType.OPENAI, TargetType.MLX])
    @pytest.mark.parametrize("front", [OPENAI, OLLAMA, UNIFIED])
    def test_in_the_openai_family(self, front: str, kind: TargetType) -> None:
        body = self.sent(front, kind, defaults={"top_p": 0.5, "temperature": 0.1, "new": [1]})
        assert (body["top_p"], body["temperature"], body["new"]) == (0.5, 0.1, [1])
        assert body["max_tokens"] == 100

    def test_the_request_goes_before_a_default(self) -> None:
        for kind in (TargetType.OPENAI, TargetType.MLX):
            given = {"temperature": 0.9, "logit_bias": {"1": 1}, "top_p": 0.9}
            body = self.sent(
                OPENAI, kind, defaults=given, temperature=0, logit_bias={"2": 2}, top_p=None
            )
            assert body["temperature"] == 0
            assert body["logit_bias"] == {"2": 2}
            assert body["top_p"] == 0.9

    def test_an_override_goes_before_the_request(self) -> None:
        for kind in (TargetType.OPENAI, TargetType.MLX):
            body = self.sent(OPENAI, kind, overrides={"temperature": 0.3, "seed": 1}, temperature=0)
            assert (body["temperature"], body["seed"]) == (0.3, 1)

    def test_an_override_of_null_takes_a_field_away(self) -> None:
        body = self.sent(OPENAI, TargetType.OPENAI, overrides={"user": None}, user="ada")
        assert "user" not in body
        body = self.sent(
            OLLAMA, TargetType.OLLAMA, overrides={"seed": None, "think": None}, think=True
        )
        assert "think" not in body

    def test_both_names_of_the_limit_are_one_field(self) -> None:
        body = self.sent(
            OPENAI, TargetType.OPENAI, defaults={"max_tokens": 9}, max_completion_tokens=3
        )
        assert (body.get("max_tokens"), body["max_completion_tokens"]) == (None, 3)
        body = self.sent(
            OPENAI, TargetType.OPENAI, overrides={"max_tokens": 9}, max_completion_tokens=3
        )
        assert (body["max_tokens"], body.get("max_completion_tokens")) == (9, None)
        body = self.sent(OPENAI, TargetType.MLX, overrides={"max_completion_tokens": 9})
        assert (body.get("max_tokens"), body["max_completion_tokens"]) == (None, 9)

    def test_mlx_never_gets_a_negative_limit(self) -> None:
        body = self.sent(OPENAI, TargetType.MLX, overrides={"max_tokens": -1})
        assert body["max_tokens"] == 32_768

    @pytest.mark.parametrize("kind", list(TargetType))
    def test_what_makes_the_request_is_out_of_reach(self, kind: TargetType) -> None:
        given = dict.fromkeys(
            ("model", "messages", "prompt", "input", "stream", "stream_options"), "x"
        )
        body = self.sent(OPENAI, kind, defaults=given, overrides=given)
        assert body == self.sent(OPENAI, kind)

    @pytest.mark.parametrize("front", [OPENAI, OLLAMA, GENERATE, UNIFIED])
    def test_of_ollama_go_where_they_belong(self, front: str) -> None:
        given = {
            "max_tokens": 7,
            "repetition_penalty": 1.1,
            "stop": "END",
            "num_gpu": 1,
            "options": {"mirostat": 2, "seed": 3},
            "keep_alive": "9m",
            "format": "json",
        }
        body = self.sent(front, TargetType.OLLAMA, defaults=given)
        assert body["options"] == {
            "num_predict": 7,
            "repeat_penalty": 1.1,
            "stop": ["END"],
            "num_gpu": 1,
            "mirostat": 2,
            "seed": 3,
            "temperature": 0.7,
        }
        assert (body["keep_alive"], body["format"]) == ("9m", "json")

    def test_of_ollama_and_the_request(self) -> None:
        own: dict[str, Any] = {"options": {"num_predict": 5, "seed": 1}, "keep_alive": 0}
        given: dict[str, Any] = {"num_predict": 7, "keep_alive": "9m"}
        body = self.sent(OLLAMA, TargetType.OLLAMA, defaults=given, **own)
        assert body["options"]["num_predict"] == 5
        assert body["keep_alive"] == 0
        body = self.sent(OLLAMA, TargetType.OLLAMA, overrides=given | {"seed": None}, **own)
        assert body["options"] == {"num_predict": 7, "temperature": 0.7}
        assert body["keep_alive"] == "9m"

    def test_only_what_an_embedding_has_reaches_one(self) -> None:
        parameters = Parameters(
            defaults={"temperature": 1, "dimensions": 8, "user": "u", "think": False},
            overrides={"num_gpu": 1, "truncate": False},
        )
        exchange = decode("/v1/embeddings", input="x")
        assert encode(exchange, TargetType.OPENAI, parameters=parameters)[1] == {
            "model": UPSTREAM,
            "input": "x",
            "encoding_format": "float",
            "dimensions": 8,
            "user": "u",
        }
        body = encode(exchange, TargetType.OLLAMA, parameters=parameters, num_ctx=64)[1]
        assert body == {
            "model": UPSTREAM,
            "input": ["x"],
            "dimensions": 8,
            "truncate": False,
            "options": {"num_ctx": 64, "num_gpu": 1, "temperature": 1},
        }


class TestOllamasOwnTerms:
    @pytest.mark.parametrize("front", [OPENAI, OLLAMA, GENERATE, UNIFIED])
    def test_the_context_is_always_sent(self, front: str) -> None:
        exchange = decode(front, **MINIMAL[front])
        _, body, dropped = encode(exchange, TargetType.OLLAMA, num_ctx=8192)
        assert body["options"] == {"num_ctx": 8192}
        assert dropped == ()

    @pytest.mark.parametrize(("asked", "dropped"), [(4096, ("options.num_ctx",)), (8192, ())])
    def test_a_clients_own_context_gives_way(self, asked: int, dropped: tuple[str, ...]) -> None:
        # NB: another value would load the model anew for everybody.
        exchange = decode(OLLAMA, **MINIMAL[OLLAMA], options={"num_ctx": asked, "seed": 1})
        _, body, left = encode(exchange, TargetType.OLLAMA, num_ctx=8192)
        assert body["options"] == {"num_ctx": 8192, "seed": 1}
        assert left == dropped

    def test_without_one_a_clients_own_is_sent(self) -> None:
        exchange = decode(OLLAMA, **MINIMAL[OLLAMA], options={"num_ctx": 4096})
        assert encode(exchange, TargetType.OLLAMA)[1]["options"] == {"num_ctx": 4096}

    @pytest.mark.parametrize(
        ("asked", "seconds", "target", "sent"),
        [
            (None, None, None, None),
            (None, None, "30m", "30m"),
            (None, 60, "30m", 60),
            (None, 0, "30m", 0),
            ("5m", 60, "30m", "5m"),
            (0, 60, "30m", 0),
        ],
    )
    def test_keep_alive(self, asked: Any, seconds: int | None, target: Any, sent: Any) -> None:
        exchange = decode(GENERATE, prompt="x", keep_alive=asked)
        defaults = Defaults(keep_alive_seconds=seconds)
        body = encode(exchange, TargetType.OLLAMA, defaults=defaults, keep_alive=target)[1]
        assert body.get("keep_alive") == sent

    @pytest.mark.parametrize("kind", [TargetType.MLX, TargetType.OPENAI])
    def test_are_nothing_to_others(self, kind: TargetType) -> None:
        exchange = decode(UNIFIED, prompt="x")
        assert encode(exchange, kind, num_ctx=1, keep_alive="5m") == encode(exchange, kind)


class TestLogprobs:
    @pytest.mark.parametrize(("top", "sent"), [(None, 0), (0, 0), (5, 5)])
    def test_of_a_chat(self, top: int | None, sent: int) -> None:
        asked = {"logprobs": True} | ({} if top is None else {"top_logprobs": top})
        for front, kind in ((OPENAI, TargetType.OLLAMA), (OLLAMA, TargetType.OPENAI)):
            _, body, dropped = encode(decode(front, messages=TURNS, **asked), kind)
            assert (body["logprobs"], body["top_logprobs"]) == (True, sent)
            assert dropped == ()

    def test_of_a_text(self) -> None:
        exchange = decode(GENERATE, prompt="x", raw=True, logprobs=True, top_logprobs=2)
        assert encode(exchange, TargetType.OPENAI)[1]["logprobs"] == 2
        _, body, dropped = encode(decode(COMPLETION, prompt="x", logprobs=2), TargetType.OLLAMA)
        assert (body["logprobs"], body["top_logprobs"], body["raw"]) == (True, 2, True)
        assert dropped == ()

    def test_not_asked_for_is_not_said_to_be_lost(self) -> None:
        exchange = decode(OPENAI, messages=TURNS, logprobs=False)
        for kind in TargetType:
            _, _, dropped = encode(exchange, kind)
            assert dropped == ()


class TestTextCompletions:
    def test_all_of_one_goes_to_a_host_of_the_protocol(self) -> None:
        own = {"prompt": ["a", "b"], "suffix": "s", "echo": True, "best_of": 2, "logprobs": 1}
        _, body, dropped = encode(decode(COMPLETION, **own, n=2, new=1), TargetType.OPENAI)
        assert body == STREAM | {"model": UPSTREAM, **own, "n": 2, "new": 1}
        assert dropped == ()

    def test_a_suffix_goes_to_ollamas_own_template(self) -> None:
        # NB: in raw mode Ollama would leave it out in silence.
        path, body, _ = encode(decode(COMPLETION, prompt="x", suffix="y"), TargetType.OLLAMA)
        assert path == "/api/generate"
        assert body == {"model": UPSTREAM, "prompt": "x", "suffix": "y", "stream": True}


def test_stream_options_of_the_clients_own_are_kept() -> None:
    own = {"include_usage": False, "include_obfuscation": False}
    exchange = decode(OPENAI, messages=TURNS, stream_options=own)
    assert encode(exchange, TargetType.OPENAI)[1]["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }


class TestDropped:
    UNKNOWN = {"messages": TURNS, "metadata": {"a": 1}, "service_tier": "flex", "new": 0}  # noqa: RUF012

    @pytest.mark.parametrize("kind", [TargetType.MLX, TargetType.OLLAMA])
    def test_every_field_without_a_place_is_named(self, kind: TargetType) -> None:
        exchange = decode(OPENAI, **self.UNKNOWN, parallel_tool_calls=False)
        assert encode(exchange, kind)[2] == (
            *("metadata", "new", "parallel_tool_calls", "service_tier"),
        )

    def test_what_says_nothing_is_not(self) -> None:
        plain = {"parallel_tool_calls": True, "store": False, "tool_choice": "none", "n": 1}
        plain |= {"modalities": ["text"], "response_format": {"type": "text"}, "user": None}
        for kind in TargetType:
            assert encode(decode(OPENAI, messages=TURNS, **plain), kind)[2] == ()

    def test_none_is_lost_on_a_host_of_the_protocol(self) -> None:
        _, body, dropped = encode(decode(OPENAI, **self.UNKNOWN), TargetType.OPENAI)
        assert body == STREAM | self.UNKNOWN | {"model": UPSTREAM}
        assert dropped == ()
        own = {"messages": TURNS, "new": 1, "options": {"newer": 2}, "shift": False}
        _, body, dropped = encode(decode(OLLAMA, **own), TargetType.OLLAMA)
        assert body == own | {"model": UPSTREAM, "stream": True}
        assert dropped == ()


class TestFormat:
    def test_openai_to_ollama(self) -> None:
        given = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        turns = [{"role": "user", "content": "x"}]
        exchange = decode(OPENAI, messages=turns, response_format=given)
        assert encode(exchange, TargetType.OLLAMA)[1]["format"] == SCHEMA
        exchange = decode(OPENAI, messages=turns, response_format={"type": "json_object"})
        assert encode(exchange, TargetType.OLLAMA)[1]["format"] == "json"

    def test_ollama_to_openai(self) -> None:
        exchange = decode(GENERATE, prompt="x", format=SCHEMA)
        assert encode(exchange, TargetType.OPENAI)[1]["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA},
        }
        exchange = decode(GENERATE, prompt="x", format="json")
        body = encode(exchange, TargetType.OPENAI)[1]
        assert body["response_format"] == {"type": "json_object"}


class TestThink:
    @pytest.mark.parametrize(
        ("think", "kwargs", "dropped"),
        [
            (True, {"enable_thinking": True}, ()),
            (False, {"enable_thinking": False}, ()),
            ("high", {"enable_thinking": True, "reasoning_effort": "high"}, ()),
            (None, None, ()),
        ],
    )
    def test_ollama_to_mlx(self, think: Any, kwargs: Any, dropped: tuple[str, ...]) -> None:
        exchange = decode(GENERATE, prompt="x", think=think)
        _, body, left = encode(exchange, TargetType.MLX)
        assert body.get("chat_template_kwargs") == kwargs
        assert left == dropped

    def test_no_effort_to_mlx(self) -> None:
        turns = [{"role": "user", "content": "x"}]
        exchange = decode(OPENAI, messages=turns, reasoning_effort="none")
        _, body, dropped = encode(exchange, TargetType.MLX)
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert dropped == ()

    def test_a_clients_own_template_arguments_go_first(self) -> None:
        turns = [{"role": "user", "content": "x"}]
        own = {"enable_thinking": True, "x": 1}
        exchange = decode(OPENAI, messages=turns, reasoning_effort="none", chat_template_kwargs=own)
        assert encode(exchange, TargetType.MLX)[1]["chat_template_kwargs"] == own

    @pytest.mark.parametrize(
        ("asked", "ollama", "left"),
        [
            ({"reasoning_effort": "high"}, "high", ()),
            ({"reasoning_effort": "none"}, False, ()),
            ({"reasoning_effort": "minimal"}, "low", ()),
            ({"reasoning_effort": "xhigh"}, "high", ()),
            ({"chat_template_kwargs": {"enable_thinking": False}}, False, ()),
            ({"chat_template_kwargs": {"enable_thinking": True}}, True, ()),
            (
                {"chat_template_kwargs": {"enable_thinking": True, "x": 1}},
                *(True, ("chat_template_kwargs",)),
            ),
            (
                {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"},
                *(False, ()),
            ),
            ({"think": True}, True, ()),
            ({"think": "low"}, "low", ()),
            ({"chat_template_kwargs": {}}, None, ()),
        ],
    )
    def test_openai_to_ollama(
        self, asked: dict[str, Any], ollama: Any, left: tuple[str, ...]
    ) -> None:
        _, body, dropped = encode(decode(OPENAI, messages=TURNS, **asked), TargetType.OLLAMA)
        assert body.get("think") == ollama
        assert dropped == left

    def test_a_prompt_as_it_is_has_no_place_for_it(self) -> None:
        exchange = decode(GENERATE, prompt="x", raw=True, think=True)
        for kind in (TargetType.MLX, TargetType.OPENAI):
            assert encode(exchange, kind)[2] == ("think",)

    def test_thoughts_of_earlier_turns_are_kept(self) -> None:
        for name in ("reasoning", "reasoning_content", "thinking"):
            turn = {"role": "assistant", "content": "x", name: "hm"}
            exchange = decode(OPENAI, messages=[turn])
            (ollama,) = encode(exchange, TargetType.OLLAMA)[1]["messages"]
            (mlx,) = encode(exchange, TargetType.MLX)[1]["messages"]
            (openai,) = encode(exchange, TargetType.OPENAI)[1]["messages"]
            assert ollama == {"role": "assistant", "content": "x", "thinking": "hm"}
            assert mlx == {"role": "assistant", "content": "x", "reasoning_content": "hm"}
            assert openai == turn

    @pytest.mark.parametrize(("level", "effort"), [("max", "high"), ("medium", "medium")])
    def test_levels_that_openai_has_not(self, level: str, effort: str) -> None:
        exchange = decode(GENERATE, prompt="x", think=level)
        assert encode(exchange, TargetType.OPENAI)[1]["reasoning_effort"] == effort

    def test_a_level_to_openai(self) -> None:
        exchange = decode(GENERATE, prompt="x", think="low")
        assert encode(exchange, TargetType.OPENAI)[1]["reasoning_effort"] == "low"

    @pytest.mark.parametrize("think", [True, False])
    def test_a_switch_openai_has_not(self, think: bool) -> None:
        exchange = decode(GENERATE, prompt="x", think=think)
        assert encode(exchange, TargetType.OPENAI)[2] == ("think",)


class TestImages:
    def test_openai_to_ollama(self) -> None:
        part = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGk="}}
        exchange = decode(OPENAI, messages=[{"role": "user", "content": [part]}])
        (turn,) = encode(exchange, TargetType.OLLAMA)[1]["messages"]
        assert turn == {"role": "user", "content": "", "images": ["aGk="]}

    def test_ollama_to_openai(self) -> None:
        exchange = decode(GENERATE, prompt="what?", images=["aGk="])
        (turn,) = encode(exchange, TargetType.OPENAI)[1]["messages"]
        assert turn["content"] == [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            {"type": "text", "text": "what?"},
        ]

    @pytest.mark.parametrize(
        ("head", "media"),
        [
            (b"\x89PNG\r\n\x1a\n", "png"),
            (b"\xff\xd8\xff\xe0\x00", "jpeg"),
            (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "webp"),
            (b"GIF89a", "gif"),
        ],
    )
    def test_the_type_of_one_is_in_its_first_bytes(self, head: bytes, media: str) -> None:
        image = base64.b64encode(head).decode()
        exchange = decode(GENERATE, prompt="what?", images=[image])
        (turn,) = encode(exchange, TargetType.OPENAI)[1]["messages"]
        assert turn["content"][0]["image_url"]["url"] == f"data:image/{media};base64,{image}"

    @pytest.mark.parametrize("url", ["data:image/webp;base64,aGk=", "https://h/x.png"])
    def test_openai_to_openai(self, url: str) -> None:
        part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
        turns = [{"role": "user", "content": [part]}]
        exchange = decode(OPENAI, messages=turns)
        assert encode(exchange, TargetType.OPENAI)[1]["messages"] == turns

    def test_a_text_that_is_no_base64_goes_to_no_ollama(self) -> None:
        part = {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}}
        exchange = decode(OPENAI, messages=[{"role": "user", "content": [part]}])
        assert TARGETS[TargetType.OLLAMA].lacks(exchange) == "image_url.url"


def test_one_stop_word_reaches_ollama_as_a_list() -> None:
    # NB: Ollama answers 500 to a text here, which would look like the host's fault.
    exchange = decode(GENERATE, prompt="x", options={"stop": "END"})
    assert encode(exchange, TargetType.OLLAMA)[1]["options"] == {"stop": ["END"]}


class TestLacks:
    @pytest.mark.parametrize(
        ("front", "fields", "mlx", "ollama", "openai"),
        [
            (GENERATE, {"prompt": "x", "format": "json"}, "format", None, None),
            (
                OPENAI,
                {"messages": TURNS, "response_format": {"type": "json_object"}},
                *("response_format", None, None),
            ),
            (OPENAI, {"messages": TURNS, "response_format": {"type": "text"}}, *3 * (None,)),
            (GENERATE, {"prompt": "x", "suffix": "y"}, "suffix", None, "suffix"),
            (GENERATE, {"prompt": "x", "template": "y"}, "template", None, "template"),
            (GENERATE, {"prompt": "x", "context": [1]}, "context", None, "context"),
            (GENERATE, {"prompt": "x", "context": []}, None, None, None),
            (GENERATE, {"prompt": ""}, "prompt", None, "prompt"),
            (OLLAMA, {"messages": []}, "messages", None, "messages"),
            # NB: mlx_lm.server leaves log probabilities out of a stream.
            (OLLAMA, {"messages": TURNS, "logprobs": True}, "logprobs", None, None),
            (OPENAI, {"messages": TURNS, "logprobs": True}, "logprobs", None, None),
            (OPENAI, {"messages": TURNS, "functions": [TOOL]}, *2 * ("functions",), None),
            (OPENAI, {"messages": TURNS, "n": 2}, *2 * ("n",), None),
            (OPENAI, {"messages": TURNS, "n": 1}, *3 * (None,)),
            (OPENAI, {"messages": TURNS, "modalities": ["text"]}, *3 * (None,)),
            (OPENAI, {"messages": TURNS, "modalities": ["audio"]}, *2 * ("modalities",), None),
            (OPENAI, {"messages": TURNS, "tools": [TOOL], "tool_choice": "none"}, *3 * (None,)),
            (OPENAI, {"messages": TURNS, "tools": [TOOL], "tool_choice": "auto"}, *3 * (None,)),
            (
                OPENAI,
                {"messages": TURNS, "tools": [TOOL], "tool_choice": "required"},
                *("tool_choice", "tool_choice", None),
            ),
            (
                OPENAI,
                {
                    "messages": TURNS,
                    "tools": [TOOL],
                    "tool_choice": {"type": "function", "function": {"name": "f"}},
                },
                *("tool_choice", "tool_choice", None),
            ),
            (
                OPENAI,
                {"messages": TURNS, "tools": [{"type": "custom", "custom": {"name": "g"}}]},
                *("tools", "tools", None),
            ),
            (
                OPENAI,
                {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
                *("content.input_audio", "content.input_audio", None),
            ),
            (COMPLETION, {"prompt": "x", "suffix": "y"}, "suffix", None, None),
            (COMPLETION, {"prompt": "x", "echo": True}, "echo", "echo", None),
            (COMPLETION, {"prompt": "x", "best_of": 2}, "best_of", "best_of", None),
            (COMPLETION, {"prompt": "x", "logprobs": 0}, "logprobs", None, None),
            (COMPLETION, {"prompt": ["x", "y"]}, "prompt", "prompt", None),
            (COMPLETION, {"prompt": [1, 2]}, "prompt", "prompt", None),
            (COMPLETION, {"prompt": [[1, 2], [3]]}, "prompt", "prompt", None),
            (GENERATE, {"prompt": "x", "images": ["aGk="]}, "images", None, None),
            (
                OLLAMA,
                {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]},
                *("images", None, None),
            ),
            (
                OPENAI,
                {
                    "messages": [
                        {
                            "role": "user",
                            "content": [{"type": "image_url", "image_url": {"url": "http://h/x"}}],
                        }
                    ]
                },
                *("image_url.url", "image_url.url", None),
            ),
            (
                OPENAI,
                {
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "image_url", "image_url": {"url": "data:a;base64,aGk="}}
                            ],
                        }
                    ]
                },
                *("image_url", None, None),
            ),
            # NB: Ollama itself refuses this one, in its own words.
            (GENERATE, {"prompt": "x", "raw": True, "system": "s"}, "raw", None, "raw"),
            (GENERATE, {"prompt": "x", "raw": True}, None, None, None),
            (GENERATE, {"prompt": "x", "raw": True, "format": "json"}, "format", None, "raw"),
            (GENERATE, {"prompt": "x", "raw": True, "images": ["aGk="]}, "images", None, "raw"),
            (
                OPENAI,
                {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]},
                *("function_call", "function_call", None),
            ),
            (
                OPENAI,
                {"messages": [{"role": "assistant", "audio": {"id": "a"}}]},
                *("audio", "audio", None),
            ),
            (
                OPENAI,
                {"messages": [{"role": "user", "content": [{"type": "logprobs"}]}]},
                *("content.logprobs", "content.logprobs", None),
            ),
        ],
    )
    def test_names_the_clients_field(
        self,
        front: str,
        fields: dict[str, Any],
        mlx: str | None,
        ollama: str | None,
        openai: str | None,
    ) -> None:
        exchange = decode(front, **fields)
        assert TARGETS[TargetType.MLX].lacks(exchange) == mlx
        assert TARGETS[TargetType.OLLAMA].lacks(exchange) == ollama
        assert TARGETS[TargetType.OPENAI].lacks(exchange) == openai


class TestRanges:
    """What mlx_lm.server answers with 400, or in older releases with a closed connection."""

    @pytest.mark.parametrize(
        ("option", "value", "param"),
        [
            ("temperature", -0.1, "temperature"),
            ("top_p", 1.1, "top_p"),
            ("top_p", -1, "top_p"),
            ("top_k", -1, "top_k"),
            ("min_p", 2, "min_p"),
            ("repeat_penalty", -1, "repetition_penalty"),
        ],
    )
    def test_is_refused_before_it_is_sent(self, option: str, value: float, param: str) -> None:
        exchange = decode(GENERATE, prompt="x", options={option: value})
        with pytest.raises(Refused) as caught:
            encode(exchange, TargetType.MLX)
        assert caught.value.problem.code is Code.BAD_REQUEST
        assert caught.value.problem.param == param
        assert str(value) in caught.value.problem.message

    @pytest.mark.parametrize(
        ("option", "value"), [("temperature", 5), ("top_p", 1), ("top_p", 0), ("min_p", 0)]
    )
    def test_the_ends_are_inside(self, option: str, value: float) -> None:
        exchange = decode(GENERATE, prompt="x", options={option: value})
        assert encode(exchange, TargetType.MLX)[1][option] == value
