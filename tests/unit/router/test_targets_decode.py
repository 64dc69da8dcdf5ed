"""Answers of each kind of host as events, however the network cut them, and what refusals mean.

The streams are real ones, shortened: Ollama 0.17.4 and mlx_lm.server 0.32.2.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pytest

from llm_contract import Defaults, TargetType
from llm_router.errors import STATUS, TABLE, AttemptFailed, Cause, Code
from llm_router.exchange import Call, Delta, Event, Finish, Reason, Usage
from llm_router.fronts import ROUTES
from llm_router.targets import TARGETS, Decoder, Terms, decoded
from llm_router.targets.target import MAX_LINE

OLLAMA, MLX, OPENAI = TargetType.OLLAMA, TargetType.MLX, TargetType.OPENAI

OLLAMA_CHAT = (
    b'{"model":"phi3:mini","created_at":"2026-11-24T16:16:19.412795491Z",'
    b'"message":{"role":"assistant","content":" red"},"done":false}\n'
    b'{"model":"phi3:mini","created_at":"2026-11-24T16:16:19.416898442Z",'
    b'"message":{"role":"assistant","content":" gr\xc3\xbcn"},"done":false}\n'
    b'{"model":"phi3:mini","created_at":"2026-11-24T16:16:19.420854787Z",'
    b'"message":{"role":"assistant","content":""},"done":true,"done_reason":"length",'
    b'"total_duration":293568189,"load_duration":280899814,"prompt_eval_count":28,'
    b'"prompt_eval_duration":2634945,"eval_count":2,"eval_duration":8595833}\n'
)
OLLAMA_GENERATE = (
    b'{"model":"phi3:mini","created_at":"2026-11-24T16:16:19.470281297Z",'
    b'"response":" red","done":false,"logprobs":[{"token":" red"}]}\n'
    b'{"model":"phi3:mini","created_at":"2026-11-24T16:16:19.47368234Z",'
    b'"response":"","done":true,"done_reason":"stop","context":[229,153],'
    b'"total_duration":10624279,"load_duration":3876746,"prompt_eval_duration":464031,'
    b'"eval_count":1,"eval_duration":4069998}\n'
)
#: An answer to a request without a prompt: one line, and no end of it.
OLLAMA_LOAD = (
    b'{"model":"phi3:mini","created_at":"2026-11-24T16:16:19.516593212Z","response":"",'
    b'"done":true,"done_reason":"load"}'
)
OLLAMA_TOOLS = (
    b'{"model":"q","created_at":"x","message":{"role":"assistant","content":"",'
    b'"thinking":"hm"},"done":false}\n'
    b'{"model":"q","created_at":"x","message":{"role":"assistant","content":"","tool_calls":['
    b'{"id":"call_a1","function":{"index":0,"name":"f","arguments":{"a":1,"b":"\xc3\xa4"}}},'
    b'{"function":{"name":"g","arguments":{}}}]},"done":false}\n'
    b'{"model":"q","created_at":"x","message":{"role":"assistant","content":"","tool_calls":['
    b'{"function":{"name":"h"}}]},"done":false}\n'
    b'{"model":"q","created_at":"x","message":{"role":"assistant","content":""},'
    b'"done":true,"done_reason":"stop"}\n'
)
MLX_HEAD = (
    b'"system_fingerprint": "0.32.2-0.32.4-Linux", "object": "chat.completion.chunk", '
    b'"model": "default_model", "created": 1795536980, "choices": ['
)
MLX_CHAT = (
    b": keepalive 13/14\n\n: keepalive 14/14\n\n"
    b'data: {"id": "chatcmpl-1e7c", ' + MLX_HEAD + b'{"index": 0, "finish_reason": null, '
    b'"delta": {"role": "assistant", "reasoning": "hm"}}]}\n\n'
    b'data: {"id": "chatcmpl-1e7c", ' + MLX_HEAD + b'{"index": 0, "finish_reason": null, '
    b'"delta": {"role": "assistant", "content": "\xc3\xa4"}}]}\n\n'
    b'data: {"id": "chatcmpl-1e7c", ' + MLX_HEAD + b'{"index": 0, "finish_reason": "length", '
    b'"delta": {"role": "assistant"}}]}\n\n'
    b'data: {"id": "chatcmpl-1e7c", "object": "chat.completion", "choices": [], "usage": '
    b'{"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23, '
    b'"prompt_tokens_details": {"cached_tokens": 6}}}\n\n'
    b"data: [DONE]\n\n"
)  # fmt: skip
MLX_TEXT = (
    b": keepalive 2/2\n\n"
    b'data: {"id": "cmpl-b8", "object": "text_completion", "choices": [{"index": 0, '
    b'"finish_reason": null, "text": "x"}]}\n\n'
    b'data: {"id": "cmpl-b8", "object": "text_completion", "choices": [{"index": 0, '
    b'"finish_reason": "stop", "text": ""}]}\n\n'
    b"data: [DONE]\n\n"
)
MLX_TOOLS = (
    b'data: {"choices": [{"index": 0, "finish_reason": null, "delta": {"role": "assistant", '
    b'"tool_calls": [{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}, '
    b'"type": "function", "id": "u-1", "index": 0}]}}]}\n\n'
    b'data: {"choices": [{"index": 0, "finish_reason": "tool_calls", "delta": {"role": '
    b'"assistant", "tool_calls": [{"function": {"name": "g", "arguments": "{}"}, '
    b'"type": "function", "id": "u-2", "index": 1}]}}]}\n\n'
    b"data: [DONE]\n\n"
)
#: As OpenAI and vLLM send calls: the name first, the arguments in fragments, two calls interleaved.
OPENAI_TOOLS = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},'
    b'"finish_reason":null}],"usage":null}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"so"},"finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function",'
    b'"function":{"name":"f","arguments":""}}]},"finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","type":"function",'
    b'"function":{"name":"g","arguments":""}}]},"finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,'
    b'"function":{"arguments":"{\\"a\\""}}]},"finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,'
    b'"function":{"arguments":"{}"}}]},"finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,'
    b'"function":{"arguments":":1}"}}]},"finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\r\n\r\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}\r\n\r\n'
    b"data: [DONE]\r\n\r\n"
)
#: Other words for thinking, an event name, fields that are null: other servers of the same kind.
OPENAI_OTHER = (
    b'event: message\ndata: {"error":null,"choices":[{"index":0,"delta":'
    b'{"reasoning_content":"hm","tool_calls":null}}]}\n\n'
    b'data:{"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":null,"finish_reason":"content_filter"}],'
    b'"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n'
)

STREAMS: dict[str, tuple[TargetType, bytes, list[Event]]] = {
    "ollama-chat": (
        OLLAMA,
        OLLAMA_CHAT,
        [
            Delta(" red"),
            Delta(" grün"),
            Finish(
                Reason.LENGTH,
                Usage(
                    prompt_tokens=28,
                    completion_tokens=2,
                    load_ns=280899814,
                    prefill_ns=2634945,
                    decode_ns=8595833,
                ),
            ),
        ],
    ),
    "ollama-generate": (
        OLLAMA,
        OLLAMA_GENERATE,
        [
            Delta(" red", extras={"logprobs": [{"token": " red"}]}),
            Finish(
                Reason.STOP,
                Usage(completion_tokens=1, load_ns=3876746, prefill_ns=464031, decode_ns=4069998),
            ),
        ],
    ),
    "ollama-load": (OLLAMA, OLLAMA_LOAD, [Finish(Reason.LOAD)]),
    "ollama-tools": (
        OLLAMA,
        OLLAMA_TOOLS,
        [
            Delta(thinking="hm"),
            Delta(
                calls=(
                    Call(id="call_a1", name="f", arguments='{"a":1,"b":"ä"}'),
                    Call(id="call_1", name="g", arguments="{}"),
                )
            ),
            Delta(calls=(Call(id="call_2", name="h", arguments="{}"),)),
            Finish(Reason.STOP),
        ],
    ),
    "mlx-chat": (
        MLX,
        MLX_CHAT,
        [
            Delta(thinking="hm"),
            Delta("ä"),
            Finish(Reason.LENGTH, Usage(prompt_tokens=20, completion_tokens=3)),
        ],
    ),
    "mlx-text": (MLX, MLX_TEXT, [Delta("x"), Finish(Reason.STOP)]),
    "mlx-tools": (
        MLX,
        MLX_TOOLS,
        [
            Delta(
                calls=(
                    Call(id="u-1", name="f", arguments='{"a": 1}'),
                    Call(id="u-2", name="g", arguments="{}"),
                )
            ),
            Finish(Reason.TOOL_CALLS),
        ],
    ),
    "openai-tools": (
        OPENAI,
        OPENAI_TOOLS,
        [
            Delta("so"),
            Delta(
                calls=(
                    Call(id="c1", name="f", arguments='{"a":1}'),
                    Call(id="c2", name="g", arguments="{}"),
                )
            ),
            Finish(Reason.TOOL_CALLS, Usage(prompt_tokens=5, completion_tokens=6)),
        ],
    ),
    "openai-other": (
        OPENAI,
        OPENAI_OTHER,
        [Delta(thinking="hm"), Delta("a"), Finish(Reason.STOP, Usage(prompt_tokens=1))],
    ),
}


def reader(kind: TargetType) -> Decoder:
    """The decoder of an answer to a client of a protocol that no host speaks."""
    exchange = ROUTES["/generate"].decode(b'{"model":"phi3:mini","prompt":"x"}')
    return TARGETS[kind].encode(exchange, Terms(model="up", defaults=Defaults())).reader()


def fed(kind: TargetType, pieces: Iterable[bytes]) -> tuple[list[Event], Decoder]:
    """The events of an answer that came in these pieces and then ended."""
    decoder = reader(kind)
    events: list[Event] = []
    for piece in pieces:
        events += decoded(decoder, piece)
    return events, decoder


def cuts(stream: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The stream in two pieces, cut at every byte, and its end."""
    for at in range(len(stream) + 1):
        # NB: an empty piece would be the end.
        if pieces := [piece for piece in (stream[:at], stream[at:]) if piece]:
            yield (*pieces, b"")  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "stream", "expected"), STREAMS.values(), ids=STREAMS)
class TestStreams:
    def test_in_one_piece(self, kind: TargetType, stream: bytes, expected: list[Event]) -> None:
        events, decoder = fed(kind, (stream, b""))
        assert events == expected
        assert decoder.done

    def test_cut_at_every_byte(
        self, kind: TargetType, stream: bytes, expected: list[Event]
    ) -> None:
        for pieces in cuts(stream):
            assert fed(kind, pieces)[0] == expected

    def test_byte_by_byte(self, kind: TargetType, stream: bytes, expected: list[Event]) -> None:
        pieces = [stream[at : at + 1] for at in range(len(stream))]
        assert fed(kind, (*pieces, b""))[0] == expected

    def test_no_end_before_the_end(
        self, kind: TargetType, stream: bytes, expected: list[Event]
    ) -> None:
        # NB: an answer that was cut anywhere is not done, whatever the connection did. The line
        # ends after the mark are no part of it.
        body = stream.rstrip(b"\r\n")
        for at in range(1, len(body)):
            decoder = reader(kind)
            events: list[Event] = []
            with contextlib.suppress(AttemptFailed):
                events += decoder.feed(body[:at])
                events += decoder.feed(b"")
            assert not any(isinstance(event, Finish) for event in events), body[:at]
            assert not decoder.done


class TestMore:
    """What not every protocol has a place for."""

    ENTRY: dict[str, Any] = {  # noqa: RUF012
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": [98]}],
    }

    @staticmethod
    def events(kind: TargetType, chunk: Any) -> list[Event]:
        return fed(kind, [b"data: " + orjson.dumps(chunk) + b"\n\n"])[0]

    def test_log_probabilities_of_a_chat(self) -> None:
        logprobs = {"content": [self.ENTRY], "refusal": None}
        chunk = {"choices": [{"delta": {"content": "a"}, "logprobs": logprobs}]}
        assert self.events(OPENAI, chunk) == [Delta("a", extras={"logprobs": [self.ENTRY]})]
        chunk["choices"][0]["delta"] = {}
        assert self.events(OPENAI, chunk) == [Delta(extras={"logprobs": [self.ENTRY]})]

    def test_log_probabilities_of_a_text(self) -> None:
        lists = {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "text_offset": [0, 1]}
        choice = {"text": "ab", "logprobs": lists | {"top_logprobs": [None, {"c": -3.0}]}}
        assert self.events(OPENAI, {"choices": [choice]}) == [
            Delta(
                "ab",
                extras={
                    "logprobs": [
                        {"token": "a", "logprob": None, "top_logprobs": []},
                        {
                            "token": "b",
                            "logprob": -1.0,
                            "top_logprobs": [{"token": "c", "logprob": -3.0}],
                        },
                    ]
                },
            )
        ]

    @pytest.mark.parametrize(
        "logprobs",
        [5, [1], {"content": 5}, {"tokens": ["a"], "token_logprobs": []}, {"tokens": ["a"]}],
    )
    def test_log_probabilities_of_an_unknown_shape(self, logprobs: object) -> None:
        with pytest.raises(AttemptFailed, match="unknown shape"):
            self.events(OPENAI, {"choices": [{"text": "a", "logprobs": logprobs}]})

    def test_a_refusal_is_told_as_text(self) -> None:
        chunk = {"choices": [{"delta": {"content": None, "refusal": "no"}}]}
        assert self.events(OPENAI, chunk) == [Delta("no")]

    def test_calls_in_fragments_for_a_client_that_takes_them_so(self) -> None:
        exchange = ROUTES["/v1/chat/completions"].decode(
            b'{"model":"phi3:mini","stream":true,"messages":[{"role":"user","content":"x"}]}'
        )
        decoder = TARGETS[MLX].encode(exchange, Terms(model="up", defaults=Defaults())).reader()
        assert decoded(decoder, MLX_TOOLS) == [
            Delta(
                fragments=(
                    {
                        "function": {"name": "f", "arguments": '{"a": 1}'},
                        "type": "function",
                        "id": "u-1",
                        "index": 0,
                    },
                )
            ),
            Delta(
                fragments=(
                    {
                        "function": {"name": "g", "arguments": "{}"},
                        "type": "function",
                        "id": "u-2",
                        "index": 1,
                    },
                )
            ),
            Finish(Reason.TOOL_CALLS),
        ]
        assert decoder.started

    def test_fragments_of_an_unknown_shape(self) -> None:
        exchange = ROUTES["/v1/chat/completions"].decode(
            b'{"model":"phi3:mini","stream":true,"messages":[{"role":"user","content":"x"}]}'
        )
        decoder = TARGETS[MLX].encode(exchange, Terms(model="up", defaults=Defaults())).reader()
        with pytest.raises(AttemptFailed, match="unknown shape"):
            decoded(decoder, CHUNK % b'{"tool_calls":["x"]}')


class TestFirstToken:
    @pytest.mark.parametrize(
        ("kind", "before", "first"),
        [
            (MLX, b": keepalive 1/2\n\n: keepalive 2/2\n\n", b'{"content":"a"}'),
            (OPENAI, b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n', b'{"content":"a"}'),
            (OPENAI, b'data: {"choices":[{"delta":{"content":""}}]}\n\n', b'{"reasoning":"a"}'),
            (OPENAI, b'data: {"choices":[]}\n\n', b'{"tool_calls":[{"index":0}]}'),
        ],
    )
    def test_comments_and_roles_are_none(
        self, kind: TargetType, before: bytes, first: bytes
    ) -> None:
        decoder = reader(kind)
        assert decoder.feed(before) == []
        assert not decoder.started
        decoder.feed(b'data: {"choices":[{"delta":' + first + b"}]}\n\n")
        assert decoder.started

    def test_of_ollama(self) -> None:
        decoder = reader(OLLAMA)
        assert decoder.feed(b'{"message":{"content":""},"done":false}\n\n') == []
        assert not decoder.started
        decoder.feed(b'{"message":{"thinking":"a"},"done":false}\n')
        assert decoder.started

    def test_an_end_without_a_token_is_one(self) -> None:
        for kind, stream in (
            (OLLAMA, b'{"done":true}\n'),
            (MLX, b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'),
        ):
            decoder = reader(kind)
            decoder.feed(stream)
            assert decoder.started


CHUNK = b'data: {"choices":[{"index":0,"delta":%b}]}\n\n'
BROKEN: list[tuple[TargetType, bytes, str]] = [
    # Errors that the host says itself.
    (OLLAMA, b'{"error":"an error was encountered while running the model"}\n', "an error was"),
    (OLLAMA, b'{"error":{"message":"boom"}}\n', "boom"),
    (MLX, b'data: {"error":"boom"}\n\n', "boom"),
    (OPENAI, b'data: {"error":{"message":"context length","type":"x"}}\n\n', "context length"),
    # Not the protocol.
    (OLLAMA, b"<html>\n", "not JSON"),
    (OLLAMA, b"[]\n", "not an object"),
    (OLLAMA, b'{"done":true}\n{"done":true}\n', "went on after done"),
    (MLX, b"data: <html>\n\n", "not JSON"),
    (MLX, b"data: []\n\n", "not an object"),
    (MLX, b"data: [DONE]\n\n", "said [DONE] without a finish reason"),
    (
        MLX,
        b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\ndata: {}\n\n',
        "went on after [DONE]",
    ),
    # JSON of a shape that no host of the kind sends.
    (OLLAMA, b'{"message":"hi","done":false}\n', ""),
    (OLLAMA, b'{"message":{"content":5},"done":false}\n', ""),
    (OLLAMA, b'{"response":["a"],"done":false}\n', ""),
    (OLLAMA, b'{"message":{"thinking":{"a":1},"content":"a"},"done":false}\n', ""),
    (OLLAMA, b'{"message":{"tool_calls":["x"]},"done":false}\n', ""),
    (OLLAMA, b'{"message":{"tool_calls":[{"function":{"name":5}}]},"done":false}\n', ""),
    (OLLAMA, b'{"done":true,"done_reason":["stop"]}\n', ""),
    (OLLAMA, b'{"done":true,"eval_count":"5"}\n', ""),
    (OLLAMA, b'{"done":true,"eval_duration":{}}\n', ""),
    (MLX, b'data: {"choices":"x"}\n\n', ""),
    (MLX, b'data: {"choices":[5]}\n\n', ""),
    (MLX, CHUNK % b'{"content":5}', ""),
    (MLX, CHUNK % b'{"reasoning":[1]}', ""),
    (MLX, CHUNK % b'"x"', ""),
    (OPENAI, CHUNK % b'{"tool_calls":[{"index":0,"function":{"arguments":{"a":1}}}]}', ""),
    (OPENAI, CHUNK % b'{"tool_calls":[{"index":{},"function":{}}]}', ""),
    (OPENAI, CHUNK % b'{"tool_calls":{"index":0}}', ""),
    (OPENAI, b'data: {"choices":[],"usage":{"prompt_tokens":"5"}}\n\n', ""),
    (OPENAI, b'data: {"choices":[{"finish_reason":["stop"]}]}\n\n', ""),
]


@pytest.mark.parametrize(
    ("kind", "stream", "said"), BROKEN, ids=[f"{kind}-{n}" for n, (kind, *_) in enumerate(BROKEN)]
)
class TestBroken:
    def test_breaks_the_attempt(self, kind: TargetType, stream: bytes, said: str) -> None:
        with pytest.raises(AttemptFailed) as caught:
            fed(kind, (stream, b""))
        assert caught.value.cause is Cause.BROKEN_STREAM
        assert said in caught.value.message

    def test_wherever_it_is_cut(self, kind: TargetType, stream: bytes, said: str) -> None:
        for pieces in cuts(stream):
            with pytest.raises(AttemptFailed):
                fed(kind, pieces)


@pytest.mark.parametrize(("kind", "begin"), [(OLLAMA, b'{"response":"'), (MLX, b'data: {"x":"')])
def test_a_line_without_end_breaks_the_attempt(kind: TargetType, begin: bytes) -> None:
    decoder = reader(kind)
    decoder.feed(begin)
    piece = b"a" * (MAX_LINE // 4)
    for _ in range(3):
        decoder.feed(piece)
    with pytest.raises(AttemptFailed, match="a line of more than"):
        decoder.feed(piece)


def error(text: str) -> bytes:
    return orjson.dumps({"error": text})


#: kind, status, body, cause, and the status that a client gets when nobody else answers.
REFUSALS: list[tuple[TargetType, int, bytes, Cause, int]] = [
    (OLLAMA, 404, error("model 'x' not found"), Cause.MODEL_MISSING, 404),
    (OLLAMA, 400, error('"x" does not support thinking'), Cause.UNSUPPORTED, 400),
    (OLLAMA, 400, error("registry.ollama.ai/x does not support tools"), Cause.UNSUPPORTED, 400),
    (OLLAMA, 400, error("raw mode does not support template"), Cause.UNSUPPORTED, 400),
    (OLLAMA, 400, error("invalid options"), Cause.REJECTED, 400),
    (OLLAMA, 401, error("unauthorized"), Cause.MISCONFIGURED, 502),
    (OLLAMA, 403, b"", Cause.MISCONFIGURED, 502),
    (OLLAMA, 500, error("model runner has unexpectedly stopped"), Cause.SERVER_ERROR, 502),
    (OLLAMA, 503, error("server busy, please try again."), Cause.BUSY, 503),
    (OLLAMA, 429, error("slow down"), Cause.RATE_LIMITED, 429),
    (OLLAMA, 502, b"<html>bad gateway</html>", Cause.SERVER_ERROR, 502),
    (OLLAMA, 301, b"", Cause.SERVER_ERROR, 502),
    (OLLAMA, 204, b"", Cause.SERVER_ERROR, 502),
    (MLX, 400, error("max_tokens must be at least 1"), Cause.REJECTED, 400),
    (MLX, 404, error("Only 'text' content type is supported."), Cause.UNSUPPORTED, 400),
    (
        MLX,
        404,
        error("Repo id must use alphanumeric chars, '-', '_' or '.': 'phi3:mini'."),
        *(Cause.MODEL_MISSING, 404),
    ),
    (
        MLX,
        404,
        error("Cannot find an appropriate cached snapshot folder for the specified revision"),
        *(Cause.MODEL_MISSING, 404),
    ),
    (
        MLX,
        404,
        error("404 Client Error.\n\nRepository Not Found for url: x"),
        Cause.MODEL_MISSING,
        404,
    ),
    (MLX, 404, error("generation thread died"), Cause.SERVER_ERROR, 502),
    (MLX, 404, error("[metal::malloc] Attempting to allocate"), Cause.SERVER_ERROR, 502),
    (MLX, 411, error("Content-Length header is required"), Cause.REJECTED, 400),
    (MLX, 500, b"", Cause.SERVER_ERROR, 502),
    (OPENAI, 400, b'{"error":{"message":"bad","type":"x"}}', Cause.REJECTED, 400),
    (OPENAI, 401, b'{"error":{"message":"no key"}}', Cause.MISCONFIGURED, 502),
    (OPENAI, 403, b"{}", Cause.MISCONFIGURED, 502),
    (OPENAI, 404, b'{"error":{"message":"The model does not exist"}}', Cause.MODEL_MISSING, 404),
    (OPENAI, 408, b"", Cause.SERVER_ERROR, 502),
    (OPENAI, 413, b'"too large"', Cause.REJECTED, 400),
    (OPENAI, 422, b'{"detail":[{"loc":["body"]}]}', Cause.REJECTED, 400),
    (OPENAI, 429, b'{"error":{"message":"quota"}}', Cause.RATE_LIMITED, 429),
    (OPENAI, 503, b"[]", Cause.BUSY, 503),
    (OPENAI, 504, b"\xff\xfe", Cause.SERVER_ERROR, 502),
]


@pytest.mark.parametrize(
    ("kind", "status", "body", "cause", "last"),
    REFUSALS,
    ids=[f"{kind}-{status}-{n}" for n, (kind, status, *_) in enumerate(REFUSALS)],
)
def test_a_refusal_means(
    kind: TargetType, status: int, body: bytes, cause: Cause, last: int
) -> None:
    failure = TARGETS[kind].refusal(status, body)
    assert failure.cause is cause
    assert str(status) in failure.message
    assert STATUS[TABLE[cause].code] == last


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"why"}', "why"),
        (b'{"error":{"message":"why","type":"t"}}', "why"),
        (b'{"error":{"type":"t"}}', '{"type":"t"}'),
        (b'{"detail":"why"}', '{"detail":"why"}'),
        (b"why", "why"),
        (b"[1]", "[1]"),
        (b"null", "null"),
        (b"x" * 10_000, "x" * 500),
    ],
)
def test_a_refusals_own_words_are_kept(body: bytes, said: str) -> None:
    failure = TARGETS[OPENAI].refusal(500, body)
    assert failure.message == f"the host answered 500: {said}"


def test_only_a_wrong_request_and_the_deadline_are_not_tried_elsewhere() -> None:
    final = {cause for cause, row in TABLE.items() if not row.falls_over}
    assert final == {Cause.REJECTED, Cause.DEADLINE}
    assert set(TABLE) == set(Cause)
    assert all(isinstance(row.code, Code) for row in TABLE.values())
