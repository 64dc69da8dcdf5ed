"""Any request body, to any front: an exchange that every target can be asked for, or a clear no."""

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import asking, matrix
from fuzz.profile import fuzz_each
from fuzz.shapes import SCALARS, TEXTS, changed, documents
from llm_contract import Defaults, Parameters
from llm_router.errors import Refused
from llm_router.exchange import Exchange
from llm_router.fronts import ROUTES, Front
from llm_router.targets import TARGETS, Terms

FRONTS = {front.name: front for front in ROUTES.values()}

#: Every name that some client of some protocol says, and some that none does.
NAMES = (
    "model messages prompt input system role content text type image_url url images tool_calls "
    "function name arguments id tool_call_id tool_name tools tool_choice parameters options "
    "num_predict num_ctx temperature top_p top_k min_p seed stop max_tokens max_completion_tokens "
    "presence_penalty frequency_penalty repetition_penalty repeat_penalty stream stream_options "
    "include_usage response_format json_schema schema format think reasoning_effort "
    "chat_template_kwargs enable_thinking logprobs top_logprobs n best_of echo suffix raw template "
    "context keep_alive truncate dimensions encoding_format user x_unknown reasoning thinking "
    "reasoning_content functions function_call modalities audio parallel_tool_calls logit_bias "
    "refusal metadata store index"
).split()

NAME = st.one_of(st.sampled_from(NAMES), TEXTS)
VALUES = documents(NAME)

TERMS = (
    Terms(model="upstream", defaults=Defaults()),
    Terms(
        model="upstream",
        defaults=Defaults(max_tokens=5, temperature=0.5, keep_alive_seconds=9),
        parameters=Parameters(
            defaults={"top_p": 0.5, "stop": "x", "think": False, "options": {"mirostat": 1}},
            overrides={"seed": 1, "max_tokens": 3, "top_k": None, "user": {"a": [1]}},
        ),
        num_ctx=4096,
        keep_alive="5m",
    ),
)


def decoded(front: Front, body: bytes) -> Exchange | None:
    """What a front makes of a body; None for a proper refusal."""
    try:
        exchange = front.decode(body)
    except Refused as refused:
        problem = refused.problem
        assert 400 <= problem.status < 500
        assert problem.message
        assert problem.param is None or problem.message.startswith(problem.param)
        orjson.loads(front.problem(problem))
        return None
    assert type(exchange) is Exchange
    assert exchange.model
    assert type(exchange.stream) is bool
    return exchange


def encoded(exchange: Exchange) -> None:
    """Whatever can be asked of a target is valid JSON, or refused."""
    for kind in TARGETS.values():
        lacking = kind.lacks(exchange)
        if lacking is not None:
            assert isinstance(lacking, str)
            assert lacking
            continue
        for terms in TERMS:
            try:
                outgoing = kind.encode(exchange, terms)
            except Refused:
                continue
            sent = orjson.loads(outgoing.body)
            # NB: it is what stricter readers than orjson take as well.
            json.loads(outgoing.body.decode())
            assert sent["model"] == "upstream"
            assert outgoing.path.startswith((b"/v1/", b"/api/"))
            assert all(type(name) is str for name in outgoing.dropped)
            outgoing.reader()


def tried(front: Front, document: object) -> None:
    # NB: `ensure_ascii` writes half surrogate pairs as escapes, which is how a client may send one.
    exchange = decoded(front, json.dumps(document).encode())
    if exchange is not None:
        encoded(exchange)


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
@fuzz_each
@given(data=st.one_of(st.binary(max_size=40), VALUES.map(lambda v: json.dumps(v).encode())))
def test_any_bytes(front: Front, data: bytes) -> None:
    exchange = decoded(front, data)
    if exchange is not None:
        encoded(exchange)


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
@fuzz_each
@given(data=st.data())
def test_a_good_request_with_other_values_in_it(front: Front, data: st.DataObject) -> None:
    features = sorted(matrix.TABLE[front.name])
    feature = data.draw(st.sampled_from(features))
    document = asking.request(front.name, feature, model="m", stream=data.draw(st.booleans()))
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        change(document, data)
    tried(front, document)


def change(document: Any, data: st.DataObject) -> None:
    """Replace, add or remove one value somewhere."""
    places: list[Any] = []
    gather(document, places)
    into = data.draw(st.sampled_from(places))
    if isinstance(into, list):
        if into and data.draw(st.booleans()):
            into[data.draw(st.integers(0, len(into) - 1))] = data.draw(VALUES)
        else:
            into.append(data.draw(VALUES))
        return
    names = st.sampled_from(sorted(into)) if into and data.draw(st.booleans()) else NAME
    name = data.draw(names)
    if name in into and data.draw(st.integers(0, 4)) == 0:
        del into[name]
    else:
        into[name] = data.draw(st.one_of(SCALARS, VALUES))


def gather(value: Any, into: list[Any]) -> None:
    if isinstance(value, dict | list):
        into.append(value)
        for inner in value.values() if isinstance(value, dict) else value:
            gather(inner, into)


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
@fuzz_each
@given(data=st.data())
def test_a_good_request_with_other_bytes_in_it(front: Front, data: st.DataObject) -> None:
    feature = data.draw(st.sampled_from(sorted(matrix.TABLE[front.name])))
    good = json.dumps(asking.request(front.name, feature, model="m", stream=True)).encode()
    words = (b"[", b"{", b"}", b"null", b"1e999", b"-0", b"\\ud800", b"NaN", b"9" * 30, b'"a":')
    exchange = decoded(front, data.draw(changed(good, words=words)))
    if exchange is not None:
        encoded(exchange)


@pytest.mark.parametrize("depth", [100, 239, 240, 241, 254, 255, 1000, 100_000])
@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
def test_deep_nesting(front: Front, depth: int) -> None:
    for name in ("messages", "prompt", "input", "options", "tools", "x_unknown", "format"):
        good = asking.request(front.name, "unknown", model="m", stream=True) | {name: 0}
        body = json.dumps(good).encode()
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            nested = opening * depth + b"1" + closing * depth
            field = b'"%b": 0' % name.encode()
            sent = body.replace(field, b'"%b": %b' % (name.encode(), nested))
            exchange = decoded(front, sent)
            if exchange is not None:
                encoded(exchange)


#: Types of targets that speak a front's own protocol.
OWN = {"openai": "openai", "ollama": "ollama", "unified": ""}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
@fuzz_each
@given(
    name=st.from_regex(r"x_[a-z]{1,8}", fullmatch=True),
    value=st.one_of(st.booleans(), st.integers(-9, 9), st.text(min_size=1, max_size=5)),
)
def test_an_unknown_field_is_never_dropped_in_silence(
    front: Front, name: str, value: object
) -> None:
    try:
        value_text = json.dumps(value)
        orjson.loads(value_text)
    except orjson.JSONDecodeError:
        return
    feature = next(iter(matrix.TABLE[front.name]))
    document = asking.request(front.name, feature, model="m", stream=False) | {name: value}
    exchange = decoded(front, json.dumps(document).encode())
    if exchange is None:
        assert front.name == matrix.UNIFIED
        return
    for type_, kind in TARGETS.items():
        if kind.lacks(exchange) is None:
            outgoing = kind.encode(exchange, TERMS[0])
            sent = orjson.loads(outgoing.body)
            if OWN[exchange.dialect.value] == type_.value:
                assert sent[name] == value
            else:
                assert name in outgoing.dropped
