"""The router's address: argument, environment, default."""

import pytest

from llm_router import LLMRouter
from llm_router.client.address import DEFAULT_URL, root
from llm_router.settings import TABLE


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("http://127.0.0.1:11434/", "http://127.0.0.1:11434"),
        ("https://router.example", "https://router.example"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_root(url: str, expected: str) -> None:
    assert root(url, source="url") == expected


@pytest.mark.parametrize(
    "url",
    [
        "localhost:11434",
        "ftp://localhost",
        "http://",
        "http://localhost:70000",
        "http://[::1",
        "http://localhost:11434/v1",
        "http://localhost/?a=b",
    ],
)
def test_what_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"^LLM_ROUTER_URL .*http://127.0.0.1:11434"):
        root(url, source="LLM_ROUTER_URL")


@pytest.mark.parametrize("url", ["http://jay:secret@localhost", "jay:secret@localhost/v1"])
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(ValueError, match="user or password") as caught:
        root(url, source="url")
    assert "secret" not in str(caught.value)


def test_the_default_is_where_a_router_listens_by_default() -> None:
    default = {setting.name: setting.default for setting in TABLE}
    assert f"http://{default['host']}:{default['port']}" == DEFAULT_URL


def test_argument_then_environment_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_ROUTER_URL", raising=False)
    assert LLMRouter().url == DEFAULT_URL
    monkeypatch.setenv("LLM_ROUTER_URL", "http://10.0.0.7:8000/")
    assert LLMRouter().url == "http://10.0.0.7:8000"
    assert LLMRouter(url="http://10.0.0.8:8000").url == "http://10.0.0.8:8000"


def test_a_wrong_one_is_named_by_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ROUTER_URL", "10.0.0.7")
    with pytest.raises(ValueError, match=r"^LLM_ROUTER_URL is '10.0.0.7'"):
        LLMRouter()
    with pytest.raises(ValueError, match=r"^url is 'x'"):
        LLMRouter(url="x")


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_some_time(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout is"):
        LLMRouter(timeout=timeout)
