"""The operator's settings: one table, good defaults, errors that help and keep secrets."""

import argparse
import json
import logging
import sys

import pytest

from llm_operator import logs, run
from llm_operator.plan import Addresses
from llm_operator.settings import TABLE, Settings, SettingsError

DATABASE = {"LLMB_DATABASE_URL": "postgresql://llmb:secret@db/llmb"}


def test_defaults() -> None:
    settings = Settings.from_environment(DATABASE)
    assert settings.namespaces == frozenset()
    assert settings.addresses == Addresses()
    assert settings.resync == 60
    assert (settings.pace.quiet, settings.pace.longest) == (0.1, 2.0)
    assert settings.log_level == "INFO"
    assert (settings.lease, settings.lease_seconds) == (None, 15)
    assert (settings.nudge, settings.router_every, settings.router_port) == (True, 10.0, 8081)


def test_everything_set() -> None:
    settings = Settings.from_environment(
        DATABASE
        | {
            "LLMB_NAMESPACES": " one, two ,",
            "LLMB_DEFAULT_OLLAMA_URL": "http://ollama.models:11434/",
            "LLMB_DEFAULT_MLX_URL": "https://mac.lan:8080/mlx",
            "LLMB_RESYNC_SECONDS": "5",
            "LLMB_DEBOUNCE_SECONDS": "0",
            "LLMB_DEBOUNCE_MAX_SECONDS": "0.5",
            "LLMB_LEASE": "llm-system/operator.v1",
            "LLMB_LEASE_SECONDS": "6",
            "LLMB_NUDGE": "False",
            "LLMB_ROUTER_SECONDS": "2.5",
            "LLMB_ROUTER_PORT": "9000",
            "LLMB_HEALTH_HOST": "127.0.0.1",
            "LLMB_HEALTH_PORT": "0",
            "LLMB_LOG_LEVEL": "debug",
        }
    )
    assert settings.namespaces == {"one", "two"}
    assert settings.addresses == Addresses(
        ollama="http://ollama.models:11434", mlx="https://mac.lan:8080/mlx"
    )
    assert (settings.pace.quiet, settings.pace.longest, settings.resync) == (0.0, 0.5, 5.0)
    assert (settings.health_host, settings.health_port) == ("127.0.0.1", 0)
    assert settings.log_level == "DEBUG"
    assert (settings.lease, settings.lease_seconds) == (("llm-system", "operator.v1"), 6)
    assert (settings.nudge, settings.router_every, settings.router_port) == (False, 2.5, 9000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLMB_NAMESPACES", "one two"),
        ("LLMB_NAMESPACES", "One"),
        ("LLMB_DEFAULT_OLLAMA_URL", "ollama:11434"),
        ("LLMB_DEFAULT_MLX_URL", "http://169.254.169.254"),
        ("LLMB_RESYNC_SECONDS", "0"),
        ("LLMB_RESYNC_SECONDS", "often"),
        ("LLMB_RESYNC_SECONDS", "nan"),
        ("LLMB_RESYNC_SECONDS", "inf"),
        ("LLMB_DEBOUNCE_SECONDS", "-1"),
        ("LLMB_LEASE", "operator"),
        ("LLMB_LEASE", "a/b/c"),
        ("LLMB_LEASE", "A/b"),
        ("LLMB_LEASE", "/b"),
        ("LLMB_LEASE_SECONDS", "1"),
        ("LLMB_LEASE_SECONDS", "2.5"),
        ("LLMB_LEASE_SECONDS", "3601"),
        ("LLMB_NUDGE", "yes"),
        ("LLMB_ROUTER_SECONDS", "0"),
        ("LLMB_ROUTER_PORT", "0"),
        ("LLMB_HEALTH_PORT", "65536"),
        ("LLMB_HEALTH_PORT", "http"),
        ("LLMB_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_is_named_with_what_would_do(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(DATABASE | {name: value})
    expected = next(setting.expected for setting in TABLE if setting.name == name)
    assert str(caught.value) == f"{name}: {value!r} is not {expected}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLMB_DATABASE_URL", "mysql://llmb:hunter2@db/llmb"),
        ("LLMB_DEFAULT_OLLAMA_URL", "http://me:hunter2@ollama:11434"),
    ],
)
def test_a_secret_is_never_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(DATABASE | {name: value})
    assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_database_has_to_be_named() -> None:
    with pytest.raises(SettingsError, match="LLMB_DATABASE_URL is not set"):
        Settings.from_environment({})
    assert "secret" not in repr(Settings.from_environment(DATABASE))


def test_help_names_every_setting() -> None:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    shown = parser.format_help()
    for setting in TABLE:
        assert setting.name in shown
        assert setting.meaning in shown
    assert "example:" in shown


async def test_wrong_settings_exit_2_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LLMB_DATABASE_URL", raising=False)
    assert await run.run(argparse.Namespace()) == 2
    assert capsys.readouterr().err.startswith("llmb operator: LLMB_DATABASE_URL is not set")


async def test_no_cluster_exits_2_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMB_DATABASE_URL", DATABASE["LLMB_DATABASE_URL"])
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    monkeypatch.setattr(logs, "configure", lambda _: None)
    assert await run.run(argparse.Namespace()) == 2
    assert "set KUBECONFIG" in capsys.readouterr().err


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("llmb", logging.INFO, "f", 1, "published", None, None)
    vars(record).update(namespace="ns", uid=object, k8s_skip=True, settings=object())
    line = json.loads(logs.JSONFormatter().format(record))
    assert (line["event"], line["level"], line["logger"]) == ("published", "INFO", "llmb")
    assert line["namespace"] == "ns"
    assert line.keys() == {"time", "level", "logger", "event", "namespace", "uid"}


def test_a_log_line_has_the_trace_of_an_error() -> None:
    try:
        raise ValueError("lost\nlines")
    except ValueError:
        record = logging.LogRecord("l", logging.ERROR, "f", 1, "failed", None, sys.exc_info())
    shown = logs.JSONFormatter().format(record)
    assert "\n" not in shown
    assert "lost\nlines" in json.loads(shown)["exception"]
