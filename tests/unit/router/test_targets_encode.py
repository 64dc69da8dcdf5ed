"""Requests as each kind of host gets them: every dialect of a client, every type of target."""

from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from llm_contract import Defaults, TargetType
from llm_router.errors import Code, Refused
from llm_router.exchange import Exchange
from llm_router.fronts import ROUTES
from llm_router.targets import TARGETS, Outgoing

MODEL = "phi3:mini"
UPSTREAM = "upstream-id"
NOTHING = Defaults()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

OPENAI, OLLAMA = "/v1/chat/completions", "/api/chat"
GENERATE, UNIFIED = "/api/generate", "/generate"


def decode(path: str, **fields: Any) -> Exchange:
    return ROUTES[path].decode(orjson.dumps({"model": MODEL} | fields))


def encode(
    exchange: Exchange, kind: TargetType, *, defaults: Defaults = NOTHING
) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    outgoing: Outgoing = TARGETS[kind].encode(exchange, model=UPSTREAM, defaults=defaults)
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
    "tool_choice": "required",
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
        },
        ("parallel_tool_calls", "reasoning_effort", "tool_choice", "user"),
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
        ("logit_bias", "messages.name", "parallel_tool_calls", "tool_choice", "user"),
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
            ("high", None, ("think",)),
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

    def test_a_level_to_openai(self) -> None:
        exchange = decode(GENERATE, prompt="x", think="low")
        assert encode(exchange, TargetType.OPENAI)[1]["reasoning_effort"] == "low"

    @pytest.mark.parametrize("think", [True, False])
    def test_a_switch_openai_has_not(self, think: bool) -> None:
        exchange = decode(GENERATE, prompt="x", think=think)
        assert encode(exchange, TargetType.OPENAI)[2] == (("think",) if think else ())


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
            (OLLAMA, {"messages": TURNS, "logprobs": True}, "logprobs", None, "logprobs"),
            (OPENAI, {"messages": TURNS, "logprobs": True}, *3 * ("logprobs",)),
            (OPENAI, {"messages": TURNS, "functions": [TOOL]}, *3 * ("functions",)),
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
                *("image_url", "image_url", None),
            ),
            # NB: Ollama itself refuses this one, in its own words.
            (GENERATE, {"prompt": "x", "raw": True, "system": "s"}, "raw", None, "raw"),
            (GENERATE, {"prompt": "x", "raw": True}, None, None, None),
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
