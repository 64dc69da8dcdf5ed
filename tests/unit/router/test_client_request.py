"""What a call of the client sends, by its arguments."""

import json
from dataclasses import fields as dataclass_fields
from typing import Any

import pytest

from llm_router.app import REQUEST_ID as ROUTERS_REQUEST_ID
from llm_router.client import fields, request
from llm_router.client.request import Request
from llm_router.fronts import ROUTES
from llm_router.fronts.unified import KNOWN
from llm_router.usage import Caller
from llm_router.usage import record as usage_record

TURNS = [{"role": "user", "content": "hello"}]


def body(asked: Request) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(asked.body)
    return document


def prompt(text: str = "hello", *, stream: bool = False, **given: Any) -> Request:
    return request.prompt("phi3:mini", text, given, stream=stream)


def chat(**given: Any) -> Request:
    return request.chat("phi3:mini", TURNS, given, stream=False)


def test_a_plain_prompt_is_the_predecessor_s_call() -> None:
    asked = prompt()
    assert asked.path == "/generate"
    assert body(asked) == {"model": "phi3:mini", "prompt": "hello", "stream": False}


def test_zero_is_a_value_and_none_is_not() -> None:
    assert body(prompt(temperature=0.0, max_tokens=0)) | {"stream": 0} == {
        **{"model": "phi3:mini", "prompt": "hello", "stream": 0},
        **{"temperature": 0.0, "max_tokens": 0},
    }
    assert body(prompt(temperature=None, max_tokens=None)).keys() == {"model", "prompt", "stream"}


@pytest.mark.parametrize("given", [{"system": "be brief"}, {"stop": ["."]}, {"temperature": 1}])
def test_what_generate_has_a_place_for_goes_there(given: dict[str, Any]) -> None:
    asked = prompt(**given)
    assert asked.path == "/generate"
    assert body(asked).items() >= given.items()


def test_generate_s_places_are_the_router_s() -> None:
    assert request.PLAIN == KNOWN


def test_every_path_is_one_of_the_router_s() -> None:
    asked = [prompt(), prompt(top_k=1), chat(), request.embed("m", "a", {})]
    assert {one.path for one in asked} <= ROUTES.keys()
    assert len({one.path for one in asked}) == 4


def test_more_goes_to_ollama_s_with_sampling_as_options() -> None:
    asked = prompt(temperature=0, max_tokens=0, top_k=0, seed=1, system="be brief")
    assert asked.path == "/api/generate"
    assert body(asked) == {
        **{"model": "phi3:mini", "prompt": "hello", "system": "be brief", "stream": False},
        **{"think": False, "options": {"temperature": 0, "num_predict": 0, "top_k": 0, "seed": 1}},
    }


def test_what_the_client_adds_is_known_as_such() -> None:
    assert prompt(top_k=1).implied == {"think"}
    assert prompt(top_k=1, think=False).implied == frozenset()
    assert body(prompt(think="high"))["think"] == "high"


def test_an_empty_prompt_loads_the_model_as_with_ollama() -> None:
    assert prompt("").path == "/api/generate"


def test_further_options_join_those_that_are_arguments() -> None:
    sent = body(prompt(top_p=0.5, options={"mirostat": 1}))
    assert sent["options"] == {"top_p": 0.5, "mirostat": 1}
    with pytest.raises(TypeError, match="num_predict"):
        prompt(max_tokens=3, options={"num_predict": 4})


def test_a_chat() -> None:
    tools = [{"type": "function", "function": {"name": "lights"}}]
    asked = chat(tools=tools, format="json", temperature=0, keep_alive=-1)
    assert asked.path == "/api/chat"
    assert body(asked) == {
        **{"model": "phi3:mini", "messages": TURNS, "tools": tools, "format": "json"},
        **{"options": {"temperature": 0}, "keep_alive": -1, "stream": False},
    }


def test_an_embedding() -> None:
    asked = request.embed("nomic", ("a", "b"), {"dimensions": 8, "truncate": False})
    assert asked.path == "/api/embed"
    assert body(asked) == {
        **{"model": "nomic", "input": ["a", "b"], "dimensions": 8, "truncate": False},
    }
    assert body(request.embed("nomic", "a", {}))["input"] == "a"


@pytest.mark.parametrize("name", ["temprature", "stream", "tool_choice", "endpoint_url"])
def test_an_unknown_argument_is_refused_by_name(name: str) -> None:
    with pytest.raises(TypeError, match=f"generate.. takes no argument '{name}'"):
        request.prompt("m", "a", {name: 1}, stream=False)
    with pytest.raises(TypeError, match=f"chat.. takes no argument '{name}'"):
        request.chat("m", TURNS, {name: 1}, stream=False)
    with pytest.raises(TypeError, match=f"embed.. takes no argument '{name}'"):
        request.embed("m", "a", {name: 1})


def test_a_known_name_elsewhere_gets_advice() -> None:
    for name, advice in fields.INSTEAD.items():
        with pytest.raises(TypeError) as caught:
            request.prompt("m", "a", {name: 1}, stream=True)
        assert str(caught.value).endswith(advice)


def test_sampling_values_are_those_the_router_reads() -> None:
    from llm_router.fronts.ollama import SAMPLING

    assert set(fields.OPTIONS.values()) == set(SAMPLING)


def test_ids_go_as_headers() -> None:
    ids = {
        **{"session_id": "s-1", "user_id": "jay", "zone": "Küche", "intent": "lights"},
        **{"source": "gateway", "stage": "classify", "request_id": "r-1"},
    }
    headers = dict(prompt(**ids).headers)
    assert headers == {
        **{b"content-type": b"application/json", b"x-request-id": b"r-1"},
        **{b"x-llm-session": b"s-1", b"x-llm-user": b"jay", b"x-llm-zone": "Küche".encode()},
        **{b"x-llm-intent": b"lights", b"x-llm-source": b"gateway", b"x-llm-stage": b"classify"},
    }
    assert dict(chat(**ids).headers) == headers
    assert b"jay" not in prompt(**ids).body


def test_the_headers_are_those_the_router_records() -> None:
    assert set(request.HEADERS.values()) == {f"x-llm-{f.name}" for f in dataclass_fields(Caller)}
    assert request.MAX_ID == usage_record.MAX_ID
    assert request.REQUEST_ID.pattern == ROUTERS_REQUEST_ID.pattern.decode()


def test_a_request_without_an_id_gets_one() -> None:
    first, second = prompt(), prompt(request_id="")
    assert first.request_id != second.request_id
    assert request.REQUEST_ID.fullmatch(first.request_id)
    assert dict(first.headers)[b"x-request-id"] == first.request_id.encode()


@pytest.mark.parametrize("name", sorted(request.HEADERS))
@pytest.mark.parametrize(
    "value", ["a\r\nx-evil: 1", "a\nb", "a\0b", "\x7f", " a b", "jay ", "ä" * 129]
)
def test_an_id_that_can_t_be_sent_is_refused_by_its_argument(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be ") as caught:
        prompt(**{name: value})
    assert value.strip() not in str(caught.value)


@pytest.mark.parametrize("value", ["a b", "ä", "a\r\nb", "a" * 129])
def test_a_request_id_that_the_router_would_replace_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^request_id must be "):
        prompt(request_id=value)


@pytest.mark.parametrize("name", ["request_id", *request.HEADERS])
def test_an_id_is_a_text(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a text, is int"):
        prompt(**{name: 7})


def test_an_empty_id_says_nothing() -> None:
    assert len(prompt(session_id="", zone="").headers) == 2


def test_an_id_of_as_many_bytes_as_the_router_takes_is_sent() -> None:
    assert dict(prompt(user_id="ä" * 128).headers)[b"x-llm-user"] == ("ä" * 128).encode()


def test_half_a_character_is_refused_without_showing_the_prompt() -> None:
    with pytest.raises(ValueError, match="surrogate") as caught:
        prompt("secret \ud83d")
    assert caught.value.__cause__ is None
    assert "secret" not in str(caught.value)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        prompt(temperature=float("nan"))
