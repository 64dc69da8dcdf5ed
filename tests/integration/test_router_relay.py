"""The same protocol on both sides of the router, on real hosts: answers are those of the host."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from llm_contract import Target, TargetType, Timeouts
from parts.mlx import Mlx
from parts.ollama import Ollama
from parts.router import PLAIN, Router, mlx, ollama, route

TURNS = [{"role": "user", "content": "hi"}]
#: What differs from one answer to the next.
PASSING = ("id", "created", "model", "created_at")


@pytest.fixture
def hosts(router: Router, ollama_server: Ollama, mlx_server: Mlx) -> dict[str, str]:
    """Routed models -> the URL of the host; Ollama and mlx_lm.server have an OpenAI /v1 too."""
    of_ollama, of_mlx = ollama(ollama_server.url), mlx(mlx_server.url)

    def as_openai(target: Target) -> Target:
        return replace(target, type=TargetType.OPENAI)

    timeouts = Timeouts(total=60)
    router.publish(
        route("native", of_ollama, timeouts=timeouts),
        route("v1-of-ollama", as_openai(of_ollama), timeouts=timeouts),
        route("v1-of-mlx", as_openai(of_mlx), timeouts=timeouts),
    )
    return {
        "native": ollama_server.url,
        "v1-of-ollama": ollama_server.url,
        "v1-of-mlx": mlx_server.url,
    }


HOSTS_NAME = {"native": "phi3:mini", "v1-of-ollama": "phi3:mini", "v1-of-mlx": "default_model"}


def post(url: str, path: str, asked: dict[str, Any]) -> httpx.Response:
    response = httpx.post(f"{url}{path}", json=asked, timeout=70, **PLAIN)
    assert response.status_code == 200, response.text
    return response


def pieces(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream; comments, which differ from one answer to the next, are none."""
    listed = []
    for line in response.text.splitlines():
        payload = line.removeprefix("data:").strip()
        if payload and not payload.startswith(":") and payload != "[DONE]":
            listed.append(json.loads(payload))
    return listed


def lasting(piece: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in piece.items()
        if name not in PASSING and "duration" not in name
    }


def asked(path: str, model: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model} | more
    body |= {"messages": TURNS} if "chat" in path else {"prompt": "hi"}
    if path.startswith("/api"):
        return body | {"options": {"num_predict": 5, "temperature": 0}}
    return body | {"max_tokens": 5, "temperature": 0}


CASES = [
    ("native", "/api/chat"),
    ("native", "/api/generate"),
    ("v1-of-ollama", "/v1/chat/completions"),
    ("v1-of-ollama", "/v1/completions"),
    ("v1-of-mlx", "/v1/chat/completions"),
    ("v1-of-mlx", "/v1/completions"),
]


@pytest.mark.parametrize(("model", "path"), CASES)
class TestAlike:
    def test_streamed(self, router: Router, hosts: dict[str, str], model: str, path: str) -> None:
        wanted = {"stream_options": {"include_usage": True}} if path.startswith("/v1") else {}
        body = asked(path, model, stream=True, **wanted)
        # NB: twice, so that what the host remembers of the prompt is alike.
        for _ in range(2):
            direct = post(hosts[model], path, body | {"model": HOSTS_NAME[model]})
            through = post(router.url, path, body)
        ours, theirs = pieces(through), pieces(direct)
        assert [lasting(piece) for piece in ours] == [lasting(piece) for piece in theirs]
        assert {piece["model"] for piece in ours if "model" in piece} == {model}
        assert ("[DONE]" in through.text) is path.startswith("/v1")

    def test_whole(self, router: Router, hosts: dict[str, str], model: str, path: str) -> None:
        body = asked(path, model, stream=False)
        for _ in range(2):
            direct = post(hosts[model], path, body | {"model": HOSTS_NAME[model]}).json()
            through = post(router.url, path, body).json()
        assert through["model"] == model
        for name, value in lasting(direct).items():
            if name == "choices":
                continue
            assert through[name] == value, name
        for ours, theirs in zip(through.get("choices", ()), direct.get("choices", ()), strict=True):
            ours, theirs = ours | {"logprobs": None}, theirs | {"logprobs": None}
            assert ours == theirs


def test_usage_is_left_out_when_nobody_asked(router: Router, hosts: dict[str, str]) -> None:
    path = "/v1/chat/completions"
    for model in ("v1-of-ollama", "v1-of-mlx"):
        listed = pieces(post(router.url, path, asked(path, model, stream=True)))
        assert listed
        assert not any(piece.get("usage") for piece in listed)


@pytest.mark.parametrize("stream", [True, False])
def test_log_probabilities_of_ollama_for_an_openai_client(
    router: Router, hosts: dict[str, str], stream: bool
) -> None:
    path = "/v1/chat/completions"
    body = asked(path, "native", stream=stream, logprobs=True, top_logprobs=2)
    response = post(router.url, path, body)
    choices = [one["choices"][0] for one in (pieces(response) if stream else [response.json()])]
    told = [entry for one in choices if one.get("logprobs") for entry in one["logprobs"]["content"]]
    said = [(one.get("delta") or one.get("message") or {}).get("content") or "" for one in choices]
    assert len(told) == 5
    assert "".join(entry["token"] for entry in told) == "".join(said)
    assert all(len(entry["top_logprobs"]) == 2 for entry in told)


def test_log_probabilities_of_ollama_as_lists(router: Router, hosts: dict[str, str]) -> None:
    path = "/v1/completions"
    (choice,) = post(router.url, path, asked(path, "native", logprobs=2)).json()["choices"]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == choice["text"]
    lists = ("token_logprobs", "top_logprobs", "text_offset")
    assert [len(told[name]) for name in lists] == [5, 5, 5]
