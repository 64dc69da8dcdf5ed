"""Answers of hosts that speak the client's protocol: nothing is lost, streamed or not."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pytest

from llm_contract import Defaults, TargetType
from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import Answer, Chunk, Delta, Event, Exchange, Finish, Reason, Timing, Usage
from llm_router.fronts import ROUTES, About
from llm_router.targets import TARGETS, Decoder, Terms, decoded
from llm_router.targets.relay import Renamed

MODEL, HOSTS = "phi3:mini", "up/model-2026"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
OLLAMA, GENERATE = "/api/chat", "/api/generate"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "x"}]},
    TEXT: {"prompt": "x"},
    OLLAMA: {"messages": [{"role": "user", "content": "x"}]},
    GENERATE: {"prompt": "x"},
}
USAGE_WANTED = {"stream_options": {"include_usage": True}}


def decode(path: str, **fields: Any) -> Exchange:
    return ROUTES[path].decode(orjson.dumps({"model": MODEL} | BODIES[path] | fields))


def reader(path: str, **fields: Any) -> Decoder:
    kind = TargetType.OPENAI if path.startswith("/v1") else TargetType.OLLAMA
    terms = Terms(model=HOSTS, defaults=Defaults())
    return TARGETS[kind].encode(decode(path, **fields), terms).reader()


def fed(decoder: Decoder, pieces: Iterable[bytes]) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        events += decoded(decoder, piece)
    return events


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    for at in range(1, len(stream)):
        yield [stream[:at], stream[at:]]
    yield [stream[at : at + 1] for at in range(len(stream))]


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks)


def lines(*chunks: Any) -> bytes:
    return b"".join(orjson.dumps(chunk) + b"\n" for chunk in chunks)


#: Fields that no router knows, everywhere a chunk has room for them.
def chunk(delta: Any, reason: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, "stop_id": 7}
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": HOSTS}
    return head | {"service_tier": "flex", "choices": [choice], "x_new": {"model": "kept"}} | more


DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 2},
}
END = {"id": "c-1", "object": "chat.completion.chunk", "model": HOSTS, "choices": []}
CHUNKS = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"content": 'a "model":"up/model-2026" ä'}, usage=None),
    chunk({"reasoning": "hm", "signature": "s"}),
    chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
    chunk({}, "tool_calls", system_fingerprint="fp"),
]


def renamed(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"model": MODEL}


class TestChat:
    def test_every_chunk_goes_on_as_it_is_but_for_the_name(self) -> None:
        stream = sse(*CHUNKS, END | {"usage": USAGE}) + DONE
        *chunks, finish = fed(reader(CHAT, stream=True, **USAGE_WANTED), [stream])
        expected = sse(*map(renamed, CHUNKS), renamed(END) | {"usage": USAGE}) + DONE
        assert b"".join(one.data for one in chunks if isinstance(one, Chunk)) == expected
        assert [one.tokens for one in chunks if isinstance(one, Chunk)] == [0, 1, 1, 1, 1, 0, 0, 0]
        usage = Usage(prompt_tokens=3, completion_tokens=4)
        assert finish == Finish(Reason.TOOL_CALLS, usage, sent=True)

    def test_a_name_that_is_the_same_costs_nothing(self) -> None:
        one = b'data: {"model":"phi3:mini","choices":[{"delta":{"content":"a"}}],"n":1.0}\n\n'
        assert fed(reader(CHAT, stream=True), [one]) == [Chunk(one, 1)]

    def test_usage_that_the_client_did_not_ask_for_is_left_out(self) -> None:
        stream = sse(*CHUNKS, END | {"usage": USAGE}) + DONE
        *chunks, finish = fed(reader(CHAT, stream=True), [stream])
        sent = b"".join(one.data for one in chunks if isinstance(one, Chunk))
        assert sent == sse(*map(renamed, CHUNKS)) + DONE
        assert isinstance(finish, Finish)
        assert finish.usage == Usage(prompt_tokens=3, completion_tokens=4)

    def test_an_early_chunk_without_choices_is_not_usage(self) -> None:
        filters = END | {"prompt_filter_results": [{"ok": True}]}
        assert fed(reader(CHAT, stream=True), [sse(filters)]) == [Chunk(sse(renamed(filters)))]

    @pytest.mark.parametrize(
        "stream",
        [
            sse(*CHUNKS, END | {"usage": USAGE}) + DONE,
            b": ping\n\n" + sse(CHUNKS[1]) + b": keepalive 1/2\n\n" + sse(CHUNKS[5]) + DONE,
            sse(*CHUNKS).replace(b"\n\n", b"\r\n\r\n") + b"data: [DONE]\r\n\r\n",
            b"event: message\nid: 7\n" + sse(*CHUNKS).replace(b": ", b":") + b"data:[DONE]\n\n",
        ],
        ids=["plain", "comments", "crlf", "other-fields"],
    )
    def test_however_it_is_cut(self, stream: bytes) -> None:
        whole = fed(reader(CHAT, stream=True), [stream])
        assert isinstance(whole[-1], Finish)
        sent = b"".join(one.data for one in whole if isinstance(one, Chunk))
        assert b"ping" not in sent
        assert b"keepalive" not in sent
        for pieces in cuts(stream):
            assert fed(reader(CHAT, stream=True), pieces) == whole

    @pytest.mark.parametrize(
        "written",
        [
            b'{"model":"up/model-2026","choices":[{"delta":{"content":"a"}}]}',
            b'{"model": "up/model-2026", "choices": [{"delta": {"content": "a"}}]}',
            b'{"model" : "up/model-2026","choices":[{"delta":{"content":"a"}}]}',
            b'{"choices":[{"delta":{"content":"a"}}],"model":"up\\/model-2026"}',
            b'{"x":{"model":"y"},"choices":[{"delta":{"content":"a"}}],"model":"up/model-2026"}',
            b'{"a\\"model":"up/model-2026","choices":[{"delta":{"content":"a"}}],"model":"z"}',
            b'{"choices":[{"delta":{"content":"\\"model\\":\\"z\\""}}],"model":"z"}',
        ],
    )
    def test_only_the_models_own_name_is_written_anew(self, written: bytes) -> None:
        decoder = reader(CHAT, stream=True)
        for _ in range(2):
            (one,) = fed(decoder, [b"data: " + written + b"\n\n"])
            assert isinstance(one, Chunk)
            assert one.data.startswith(b"data: {")
            assert one.data.endswith(b"}\n\n")
            assert orjson.loads(one.data[6:]) == renamed(orjson.loads(written))

    def test_a_host_may_change_its_name_on_the_way(self) -> None:
        decoder = reader(CHAT, stream=True)
        for name in ("a", "b", "a", MODEL, "a"):
            (one,) = fed(decoder, [sse(chunk({"content": "x"}, model=name))])
            assert isinstance(one, Chunk)
            assert one.data == sse(chunk({"content": "x"}, model=MODEL))

    def test_the_first_token(self) -> None:
        for first in ({"content": "a"}, {"reasoning_content": "a"}, {"refusal": "no"}, {"new": 1}):
            decoder = reader(CHAT, stream=True)
            fed(decoder, [b": ping\n\n", sse(CHUNKS[0]), sse(END)])
            assert not decoder.started
            fed(decoder, [sse(chunk(first))])
            assert decoder.started

    def test_an_end_without_a_token_is_one(self) -> None:
        decoder = reader(CHAT, stream=True)
        fed(decoder, [sse(chunk({}, "stop"))])
        assert decoder.started
        assert not decoder.done

    @pytest.mark.parametrize(
        ("stream", "said"),
        [
            (b'data: {"error":{"message":"boom"}}\n\n', "boom"),
            (b"data: <html>\n\n", "not JSON"),
            (b"data: [1]\n\n", "not an object"),
            (DONE, "without a finish reason"),
            (sse(CHUNKS[5]) + DONE + b"data: {}\n\n", "went on after"),
            (b'data: {"choices":5}\n\n', ""),
            (b'data: {"choices":["x"]}\n\n', ""),
            (b'data: {"choices":[{"delta":"x"}]}\n\n', ""),
            (b'data: {"choices":[{"delta":{"content":5}}]}\n\n', ""),
            (b'data: {"choices":[{"finish_reason":[1]}]}\n\n', ""),
            (b'data: {"choices":[],"usage":{"prompt_tokens":"3"}}\n\n', ""),
        ],
    )
    def test_what_breaks_an_answer(self, stream: bytes, said: str) -> None:
        for pieces in ([stream], *cuts(stream)):
            with pytest.raises(AttemptFailed) as caught:
                fed(reader(CHAT, stream=True), [*pieces, b""])
            assert caught.value.cause is Cause.BROKEN_STREAM
            assert said in caught.value.message

    def test_nothing_ends_before_the_end(self) -> None:
        stream = (sse(*CHUNKS, END | {"usage": USAGE}) + DONE).rstrip()
        for at in range(1, len(stream)):
            decoder = reader(CHAT, stream=True)
            events = decoder.feed(stream[:at])
            assert not decoder.done
            assert not any(isinstance(event, Finish) for event in events)

    def test_text_completions(self) -> None:
        chunks = [
            {
                "object": "text_completion",
                "choices": [{"index": i, "text": t, "logprobs": {"x": 1}}],
            }
            for i, t in ((0, "a"), (1, "b"))
        ]
        end = {"choices": [{"index": 1, "text": "", "finish_reason": "length"}]}
        stream = sse(*chunks, end) + DONE
        *sent, finish = fed(reader(TEXT, stream=True, prompt=["a", "b"]), [stream])
        assert b"".join(one.data for one in sent if isinstance(one, Chunk)) == stream
        assert sum(one.tokens for one in sent if isinstance(one, Chunk)) == 2
        assert finish == Finish(Reason.LENGTH, sent=True)


LAST = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 9,
    "load_duration": 1,
    "prompt_eval_count": 3,
    "prompt_eval_duration": 2,
    "eval_count": 4,
    "eval_duration": 5,
}
MEASURED = Usage(prompt_tokens=3, completion_tokens=4, load_ns=1, prefill_ns=2, decode_ns=5)


def line(message: Any, **more: Any) -> dict[str, Any]:
    head = {"model": HOSTS, "remote_model": "r", "created_at": "t", "message": message}
    return head | {"done": False, "x_new": [1]} | more


CALL = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
LINES = [
    line({"role": "assistant", "content": "", "thinking": "hm"}),
    line({"role": "assistant", "content": 'a "model":"x" ä'}, logprobs=[{"token": "a"}]),
    line({"role": "assistant", "content": "", "tool_calls": [CALL], "x": 1}),
    line({"role": "assistant", "content": ""}, **LAST),
]


class TestOllama:
    def test_every_line_goes_on_as_it_is_but_for_the_name(self) -> None:
        *chunks, finish = fed(reader(OLLAMA), [lines(*LINES)])
        assert [one.data for one in chunks if isinstance(one, Chunk)] == [
            lines(renamed(one)) for one in LINES
        ]
        assert [one.tokens for one in chunks if isinstance(one, Chunk)] == [1, 1, 1, 0]
        assert finish == Finish(Reason.STOP, MEASURED, sent=True)

    @pytest.mark.parametrize("path", [OLLAMA, GENERATE])
    def test_however_it_is_cut(self, path: str) -> None:
        stream = lines(*LINES)
        if path == GENERATE:
            stream = lines({"model": HOSTS, "response": "ä"}, LAST | {"context": [1, 2]})
        whole = fed(reader(path), [stream])
        assert isinstance(whole[-1], Finish)
        for pieces in cuts(stream):
            assert fed(reader(path), pieces) == whole

    def test_a_load_has_no_line_end(self) -> None:
        body = b'{"model":"phi3:mini","response":"","done":true,"done_reason":"load"}'
        decoder = reader(GENERATE, prompt="")
        assert fed(decoder, [body]) == []
        assert fed(decoder, [b""]) == [Chunk(body + b"\n"), Finish(Reason.LOAD, sent=True)]

    def test_the_first_token(self) -> None:
        decoder = reader(OLLAMA)
        fed(decoder, [lines(line({"role": "assistant", "content": ""}))])
        assert not decoder.started
        fed(decoder, [lines(LINES[0])])
        assert decoder.started

    @pytest.mark.parametrize(
        ("stream", "said"),
        [
            (b'{"error":"boom"}\n', "boom"),
            (b"<html>\n", "not JSON"),
            (b"[]\n", "not an object"),
            (b'{"done":true}\n{"done":true}\n', "went on after done"),
            (b'{"message":"hi","done":false}\n', ""),
            (b'{"message":{"content":5},"done":false}\n', ""),
            (b'{"response":["a"],"done":false}\n', ""),
            (b'{"done":true,"eval_count":"5"}\n', ""),
        ],
    )
    def test_what_breaks_an_answer(self, stream: bytes, said: str) -> None:
        for pieces in ([stream], *cuts(stream)):
            with pytest.raises(AttemptFailed) as caught:
                fed(reader(OLLAMA), [*pieces, b""])
            assert caught.value.cause is Cause.BROKEN_STREAM
            assert said in caught.value.message


def whole(path: str, stream: bytes, **fields: Any) -> tuple[list[Event], Any]:
    """The events of an answer to a client that does not stream, and the document it gets."""
    fields |= {"stream": False}
    *told, finish = fed(reader(path, **fields), [stream])
    assert isinstance(finish, Finish)
    encoder = ROUTES[path].encoder(
        decode(path, **fields), About(request_id="r", created=1.0, backend="openai")
    )
    text = "".join(event.text for event in told if isinstance(event, Delta))
    return told, orjson.loads(encoder.whole(Answer(text, "", (), finish), Timing(1, 2, 3)))


class TestWhole:
    def test_of_a_chat_has_every_field_of_every_piece(self) -> None:
        more = [
            chunk({"content": "b", "annotations": [{"type": "url", "start_index": 1}]}),
            chunk({"audio": {"id": "a1", "data": "AA", "transcript": "x"}}),
            chunk({"audio": {"data": "BB", "transcript": "y"}}),
        ]
        entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
        for piece in more[:2]:
            piece["choices"][0]["logprobs"] = {"content": [entry], "refusal": None}
        chunks = [*CHUNKS[:5], *more, CHUNKS[5]]
        told, document = whole(CHAT, sse(*chunks, END | {"usage": USAGE}) + DONE)
        assert document == {
            "id": "c-1",
            "object": "chat.completion",
            "created": 5,
            "model": MODEL,
            "service_tier": "flex",
            "system_fingerprint": "fp",
            "x_new": {"model": "kept"},
            "usage": USAGE,
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": 'a "model":"up/model-2026" äb',
                        "refusal": None,
                        "reasoning": "hm",
                        "signature": "s",
                        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
                        "annotations": [{"type": "url", "start_index": 1}],
                        "audio": {"id": "a1", "data": "AABB", "transcript": "xy"},
                    },
                    "logprobs": {"content": [entry, entry], "refusal": None},
                    "finish_reason": "tool_calls",
                    "stop_id": 7,
                }
            ],
        }
        assert isinstance(told[0], Delta)

    def test_of_several_answers_has_them_all(self) -> None:
        pieces = [(1, "b"), (0, "a"), (1, "d"), (0, "c")]
        chunks = [{"choices": [{"index": i, "delta": {"content": t}}]} for i, t in pieces]
        ends = [chunk({}, "stop"), chunk({}, "stop")]
        ends[1]["choices"][0]["index"] = 1
        _, document = whole(CHAT, sse(*chunks, *ends) + DONE, n=2)
        assert [one["message"]["content"] for one in document["choices"]] == ["ac", "bd"]
        assert [one["index"] for one in document["choices"]] == [0, 1]

    def test_of_text_completions(self) -> None:
        def piece(index: int, text: str, reason: Any = None) -> dict[str, Any]:
            lists = {"tokens": [text], "token_logprobs": [-1.0], "top_logprobs": [{text: -1.0}]}
            choice = {"index": index, "text": text, "logprobs": lists, "finish_reason": reason}
            return {"id": "t", "object": "text_completion", "model": HOSTS, "choices": [choice]}

        stream = sse(piece(0, "a"), piece(1, "x"), piece(0, "b", "stop"), piece(1, "y", "length"))
        stream += sse({"object": "chat.completion", "choices": [], "usage": USAGE})
        _, document = whole(TEXT, stream + DONE, prompt=["p", "q"])
        assert document["model"] == MODEL
        assert document["object"] == "text_completion"
        assert [one["text"] for one in document["choices"]] == ["ab", "xy"]
        assert document["choices"][1]["logprobs"] == {
            "tokens": ["x", "y"],
            "token_logprobs": [-1.0, -1.0],
            "top_logprobs": [{"x": -1.0}, {"y": -1.0}],
        }
        assert [one["finish_reason"] for one in document["choices"]] == ["stop", "length"]

    def test_of_ollama(self) -> None:
        call = {"id": "d", "function": {"index": 1, "name": "g", "arguments": {}}}
        more = line({"role": "assistant", "content": "b", "tool_calls": [call]})
        more["logprobs"] = [{"token": "b"}]
        told, document = whole(OLLAMA, lines(*LINES[:3], more, LINES[3]))
        assert document == {
            "model": MODEL,
            "remote_model": "r",
            "created_at": "t",
            "message": {
                "role": "assistant",
                "content": 'a "model":"x" äb',
                "thinking": "hm",
                "tool_calls": [CALL, call],
                "x": 1,
            },
            "logprobs": [{"token": "a"}, {"token": "b"}],
            "x_new": [1, 1, 1, 1, 1],
            **LAST,
        }
        assert [type(event) for event in told] == [Delta] * 4

    def test_of_a_prompt_of_ollamas(self) -> None:
        stream = lines(
            {"model": HOSTS, "response": "a", "thinking": "h"},
            {"model": HOSTS, "response": "b", "thinking": "m"},
            {"model": HOSTS, "response": ""} | LAST | {"context": [1, 2]},
        )
        _, document = whole(GENERATE, stream)
        assert document == {
            "model": MODEL,
            "response": "ab",
            "thinking": "hm",
            "context": [1, 2],
            **LAST,
        }

    def test_however_it_is_cut(self) -> None:
        for path, stream in (
            (CHAT, sse(*CHUNKS, END | {"usage": USAGE}) + DONE),
            (OLLAMA, lines(*LINES)),
        ):
            expected = fed(reader(path, stream=False), [stream])
            for pieces in cuts(stream):
                assert fed(reader(path, stream=False), pieces) == expected

    def test_an_answer_without_end_is_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llm_router.targets.whole.MAX_PIECES", 1000)
        decoder = reader(CHAT)
        with pytest.raises(AttemptFailed, match="an answer of more than 1000 bytes"):
            fed(decoder, 10 * [sse(CHUNKS[1])])


def test_a_model_that_is_no_text_is_written_anew_too() -> None:
    edited = Renamed(MODEL).edit(b'{"model":5}', {"model": 5}, 5)
    assert orjson.loads(edited) == {"model": MODEL}
