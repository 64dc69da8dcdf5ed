"""What the predecessor's router was told: warned of once, with the sentence that helps."""

import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from llm_router import LLMRouter, LLMRouterWarning
from llm_router.client import predecessor

OTHER = {"admin_url": "http://admin:8080", "cache_ttl": 5, "persist_metrics": False}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predecessor, "_warned", set())
    for name in predecessor.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def said(**arguments: Any) -> list[str]:
    """The warnings of making a router; all point here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LLMRouter(**arguments)
    assert all(one.category is LLMRouterWarning for one in caught)
    assert {Path(one.filename).name for one in caught} <= {Path(__file__).name}
    return [str(one.message) for one in caught]


def test_its_defaults_say_nothing() -> None:
    assert said() == []
    assert said(admin_url=None, cache_ttl=60, metrics_window_size=100, persist_metrics=True) == []


@pytest.mark.parametrize("name", sorted(OTHER))
def test_an_argument_without_effect(name: str) -> None:
    (text,) = said(**{name: OTHER[name]})
    assert text == predecessor.ARGUMENTS[name][1]
    assert text.startswith(f"{name} is ignored: ")


@pytest.mark.parametrize("name", sorted(predecessor.ENVIRONMENT))
def test_a_variable_without_effect(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://elsewhere:1")
    (text,) = said()
    assert text.startswith(f"{name} is ignored: ")
    monkeypatch.setenv(name, "")
    assert said() == []


def test_each_once() -> None:
    assert len(said(**OTHER)) == 3
    assert said(**OTHER) == []


def test_the_signature_is_the_predecessor_s_and_more() -> None:
    made = inspect.signature(LLMRouter).parameters
    assert list(made)[:4] == ["admin_url", "cache_ttl", "metrics_window_size", "persist_metrics"]
    assert [made[n].default for n in list(made)[:4]] == [None, 60, 100, True]
    called = inspect.signature(LLMRouter.generate).parameters
    assert list(called)[1:10] == (
        "model prompt temperature max_tokens request_id session_id user_id zone intent".split()
    )
    assert {called[n].default for n in list(called)[3:10]} == {None}
    own = {name: default for name, (default, _) in predecessor.ARGUMENTS.items()}
    assert own == {name: made[name].default for name in own}


def test_every_setting_that_is_advised_exists() -> None:
    from llm_router.client.address import VARIABLE
    from llm_router.settings import TABLE

    texts = [text for _, text in predecessor.ARGUMENTS.values()]
    named = re.findall(r"LLM_ROUTER_[A-Z_]+", " ".join([*texts, *predecessor.ENVIRONMENT.values()]))
    assert set(named) <= {setting.variable for setting in TABLE} | {VARIABLE}
