"""Any answer of a host, cut or changed anywhere: the same events, or a failure that says so."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.profile import fuzz, fuzz_each
from fuzz.shapes import changed, cut
from llm_router.errors import AttemptFailed
from llm_router.exchange import Chunk, Dialect, Event, Exchange, Finish, Kind
from llm_router.targets import Decoder, decoded, embed
from llm_router.targets.chat import ChatDecoder
from llm_router.targets.ollama import OllamaDecoder
from llm_router.targets.relay import ChatRelay, OllamaRelay
from llm_router.targets.whole import ChatWhole, OllamaWhole

HOST, CALLER = "host-model", "caller"

WORDS = st.text(max_size=5)


def embedding(*, packed: bool = False) -> Exchange:
    body = {"encoding_format": "base64"} if packed else {}
    return Exchange(
        kind=Kind.EMBED,
        dialect=Dialect.OPENAI,
        body=body,
        model=CALLER,
        stream=False,
        messages=(),
        inputs=("a", "b"),
    )


Make = Callable[[], Decoder]

#: Decoders of server-sent events.
EVENTS: dict[str, Make] = {
    "chat": ChatDecoder,
    "chat in fragments": lambda: ChatDecoder(fragments=True),
    "chat whole": lambda: ChatDecoder(whole=ChatWhole(CALLER)),
    "relay": lambda: ChatRelay(CALLER, include_usage=False),
    "relay with usage": lambda: ChatRelay(CALLER, include_usage=True),
    "relay of one name": lambda: ChatRelay(HOST, include_usage=True),
}

#: Decoders of lines of JSON.
LINES: dict[str, Make] = {
    "ollama": OllamaDecoder,
    "ollama whole": lambda: OllamaDecoder(whole=OllamaWhole(CALLER)),
    "ollama relay": lambda: OllamaRelay(CALLER),
    "ollama relay of one name": lambda: OllamaRelay(HOST),
}

#: Decoders of one body.
BODIES: dict[str, tuple[Make, Any]] = {
    "embed": (partial(embed.EmbedDecoder, embedding(), embed.of_ollama), "ollama"),
    "embed of openai": (partial(embed.EmbedDecoder, embedding(), embed.of_openai), "openai"),
    "embed packed": (
        partial(embed.EmbedDecoder, embedding(packed=True), embed.of_openai),
        "openai",
    ),
}


# What hosts send.


@st.composite
def chat_chunks(draw: st.DrawFn, *, text: bool = False) -> list[dict[str, Any]]:
    """The chunks of a chat or of a text completion."""
    kind = "text_completion" if text else "chat.completion.chunk"
    head = {"id": draw(WORDS), "object": kind, "created": 1, "model": HOST}
    head = dict(draw(st.permutations(list(head.items()))))
    chunks: list[dict[str, Any]] = []

    def add(choice: dict[str, Any], reason: str | None = None) -> None:
        extra = {"x": draw(WORDS)} if draw(st.booleans()) else {}
        choices = [{"index": 0} | choice | {"finish_reason": reason}]
        chunks.append(head | {"choices": choices} | extra)

    if not text and draw(st.booleans()):
        add({"delta": {"role": "assistant", "content": ""}})
    for _ in range(draw(st.integers(0, 5))):
        word = draw(WORDS)
        if text:
            add({"text": word})
            continue
        name = draw(st.sampled_from(["content", "content", "reasoning", "reasoning_content"]))
        told = {"content": [{"token": word, "logprob": -1.0, "top_logprobs": []}]}
        add({"delta": {name: word}, "logprobs": told if draw(st.booleans()) else None})
    calls = 0 if text else draw(st.integers(0, 2))
    for index in range(calls):
        function = {"name": "f", "arguments": ""}
        add({"delta": {"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]}})
        for piece in ('{"a":', '"é"}'):
            add({"delta": {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}})
    add({"text": ""} if text else {"delta": {}}, draw(st.sampled_from(["stop", "length", "odd"])))
    if draw(st.booleans()):
        chunks.append(head | {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    return chunks


@st.composite
def events(draw: st.DrawFn, *, plain: bool = False) -> bytes:
    """A whole stream of server-sent events.

    Args:
        plain: without comments and without odd line ends.
    """
    made = draw(chat_chunks(text=draw(st.booleans())))
    ascii_, space = draw(st.booleans()), draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    end = b"\n\n" if plain else draw(st.sampled_from([b"\n\n", b"\n\n", b"\r\n\r\n"]))
    data = b""
    for chunk in made:
        if not plain and draw(st.integers(0, 5)) == 0:
            data += draw(
                st.sampled_from([b": keepalive 1/2\n\n", b"event: x\n", b"\n", b"id: 1\n"])
            )
        text = json.dumps(chunk, ensure_ascii=ascii_, separators=space)
        data += b"data: " + text.encode() + end
    return data + b"data: [DONE]" + end


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A whole stream of Ollama's."""
    chat = draw(st.booleans())
    head = {"model": HOST, "created_at": "2026-01-01T00:00:00Z"}

    def part(text: str, **more: Any) -> dict[str, Any]:
        if chat:
            return {"message": {"role": "assistant", "content": text} | more}
        return {"response": text} | more

    made = []
    for _ in range(draw(st.integers(0, 5))):
        more: dict[str, Any] = {}
        if draw(st.integers(0, 3)) == 0:
            more["thinking"] = draw(WORDS)
        if chat and draw(st.integers(0, 3)) == 0:
            more["tool_calls"] = [{"function": {"name": "f", "arguments": {"a": draw(WORDS)}}}]
        extra = {"logprobs": [{"token": "x", "logprob": -1}]} if draw(st.booleans()) else {}
        made.append(head | part(draw(WORDS), **more) | extra | {"done": False})
    counts = {"eval_count": 3, "eval_duration": 9} if draw(st.booleans()) else {}
    reason = {"done_reason": draw(st.sampled_from(["stop", "length", ""]))}
    made.append(head | part("") | {"done": True} | reason | counts)
    ascii_, end = draw(st.booleans()), draw(st.sampled_from(["\n", "\n", "\r\n", "\n\n"]))
    return "".join(json.dumps(one, ensure_ascii=ascii_) + end for one in made).encode()


@st.composite
def bodies(draw: st.DrawFn, family: str) -> bytes:
    """Two vectors."""
    floats = st.floats(-1e30, 1e30)
    vectors = [draw(st.lists(floats, min_size=1, max_size=4)) for _ in range(2)]
    if family == "ollama":
        body: dict[str, Any] = {"embeddings": vectors, "prompt_eval_count": 2}
    else:
        data = [{"index": index, "embedding": one} for index, one in enumerate(vectors)]
        body = {"data": data, "usage": {"prompt_tokens": 2}}
    return json.dumps(body | {"model": draw(WORDS)}).encode()


# What a decoder makes of them.


def read(make: Make, pieces: list[bytes]) -> list[Event]:
    """All events, as a connection feeds a decoder: to its end, or to the mark of it."""
    decoder, found = make(), list[Event]()
    for piece in pieces:
        if piece and not decoder.done:
            found += decoded(decoder, piece)
    if not decoder.done:
        found += decoded(decoder, b"")
    assert decoder.done == any(type(event) is Finish for event in found)
    assert decoder.started or not decoder.done
    return found


def finished(found: list[Event]) -> bool:
    return any(type(event) is Finish for event in found)


CASES: dict[str, tuple[Make, st.SearchStrategy[bytes]]] = {
    **{name: (make, events()) for name, make in EVENTS.items()},
    **{name: (make, lines()) for name, make in LINES.items()},
    **{name: (make, bodies(family)) for name, (make, family) in BODIES.items()},
}

each = pytest.mark.parametrize(("make", "streams"), CASES.values(), ids=CASES.keys())


@each
@fuzz_each
@given(data=st.data())
def test_however_it_is_cut_it_says_the_same(
    make: Make, streams: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    stream = data.draw(streams)
    whole = read(make, [stream])
    assert type(whole[-1]) is Finish
    assert read(make, data.draw(cut(stream))) == whole
    assert read(make, [stream[at : at + 1] for at in range(len(stream))]) == whole


@each
@fuzz_each
@given(data=st.data())
def test_a_part_of_it_never_has_an_end(
    make: Make, streams: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    stream = data.draw(streams)
    # NB: a host may leave the last line end out, so what lacks no more than that is whole.
    last = len(stream.rstrip()) - 1
    for at in {data.draw(st.integers(0, last)) for _ in range(8)} | {last}:
        try:
            found = read(make, [stream[:at]])
        except AttemptFailed:
            continue
        assert not finished(found)


@each
@fuzz_each
@given(data=st.data())
def test_changed_it_fails_or_has_the_host_s_own_mark(
    make: Make, streams: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    words = (b"null", b"{}", b"[]", b'"', b"\n\n", b"data:", b"[DONE]", b"1e400", b"\xff", b"\0")
    stream = data.draw(changed(data.draw(streams), words=words))
    try:
        found = read(make, data.draw(cut(stream)))
    except AttemptFailed:
        return
    if finished(found):
        assert any(_marks(line) for line in stream.split(b"\n")) or not _streams(make)


@each
@fuzz_each
@given(data=st.data())
def test_rubbish_only_fails(
    make: Make, streams: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), WORDS),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
        ),
        max_leaves=10,
    )
    pieces = []
    for value in data.draw(st.lists(values, max_size=4)):
        prefix = data.draw(st.sampled_from([b"", b"data: "]))
        pieces.append(prefix + json.dumps(value).encode() + b"\n\n")
    try:
        found = read(make, pieces)
    except AttemptFailed:
        return
    if finished(found):
        assert any(_marks(line) for line in b"".join(pieces).split(b"\n")) or not _streams(make)


KEYS = (
    "choices delta content text reasoning tool_calls function name arguments id index usage "
    "prompt_tokens completion_tokens finish_reason logprobs tokens token_logprobs top_logprobs "
    "error message model response thinking done done_reason eval_count embeddings embedding data"
).split()


def _marks(line: bytes) -> bool:
    """Whether a line is a host's mark of the end."""
    if re.fullmatch(rb"data:\s*\[DONE\]\s*", line):
        return True
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("done") is True


def _streams(make: Make) -> bool:
    return not any(make is one for one, _ in BODIES.values())


@fuzz
@given(data=st.data())
def test_what_passes_through_is_the_host_s_own_bytes(data: st.DataObject) -> None:
    stream = data.draw(events(plain=True))
    found = read(EVENTS["relay of one name"], data.draw(cut(stream)))
    assert b"".join(event.data for event in found if type(event) is Chunk) == stream
    said = data.draw(lines()).replace(b"\r", b"").replace(b"\n\n", b"\n")
    found = read(LINES["ollama relay of one name"], data.draw(cut(said)))
    assert b"".join(event.data for event in found if type(event) is Chunk) == said


@fuzz
@given(data=st.data(), name=st.text(min_size=1, max_size=6))
def test_only_the_model_s_name_is_another(data: st.DataObject, name: str) -> None:
    for make, stream in (
        (lambda: ChatRelay(name, include_usage=True), data.draw(events(plain=True))),
        (lambda: OllamaRelay(name), data.draw(lines()).replace(b"\r", b"")),
    ):
        found = read(make, data.draw(cut(stream)))
        passed = b"".join(event.data for event in found if type(event) is Chunk)
        assert [_named(line, name) for line in passed.split(b"\n") if line] == [
            _named(line, name) for line in stream.split(b"\n") if line
        ]


def _named(line: bytes, name: str) -> Any:
    payload = line.removeprefix(b"data:")
    if payload.strip() == b"[DONE]":
        return "[DONE]"
    return json.loads(payload) | {"model": name}
