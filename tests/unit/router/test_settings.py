"""Settings: what the environment says, and what a wrong value is told."""

from pathlib import Path

import pytest

from llm_router.settings import PREFIX, TABLE, SettingError, Settings


def read(**environment: str) -> Settings:
    return Settings.from_environment({PREFIX + name: text for name, text in environment.items()})


def test_an_empty_environment_gives_the_defaults() -> None:
    assert read() == Settings(
        config=Path("/etc/llm-router"),
        credentials=Path("/etc/llm-router-credentials"),
        host="127.0.0.1",
        port=11434,
        management_host="0.0.0.0",
        management_port=8081,
        default_ollama_url=None,
        reread_seconds=60,
        connect_seconds=3,
        stream_idle_seconds=60,
        max_body_bytes=32 * 1024 * 1024,
        max_head_bytes=64 * 1024,
        max_requests=1024,
        drain_seconds=25,
        usage_url=None,
        usage_token_file=None,
        usage_spool=None,
        usage_spool_bytes=64 * 1024 * 1024,
        trace_ratio=0,
        access_log=False,
        log_level="INFO",
        lifeline=False,
    )


def test_every_setting_can_be_set() -> None:
    assert read(
        CONFIG="/c",
        CREDENTIALS="/s",
        HOST="0.0.0.0",
        PORT="0",
        MANAGEMENT_HOST="127.0.0.1",
        MANAGEMENT_PORT="9",
        DEFAULT_OLLAMA_URL="http://o:1/",
        REREAD_SECONDS="1.5",
        CONNECT_SECONDS="0.05",
        STREAM_IDLE_SECONDS="3600",
        MAX_BODY_BYTES="1024",
        MAX_HEAD_BYTES="2048",
        MAX_REQUESTS="7",
        DRAIN_SECONDS="0",
        USAGE_URL="https://u/v1/",
        USAGE_TOKEN_FILE="/t",
        USAGE_SPOOL="/spool",
        USAGE_SPOOL_BYTES="65536",
        TRACE_RATIO="0.25",
        ACCESS_LOG="true",
        LOG_LEVEL="DEBUG",
        LIFELINE="true",
    ) == Settings(
        config=Path("/c"),
        credentials=Path("/s"),
        host="0.0.0.0",
        port=0,
        management_host="127.0.0.1",
        management_port=9,
        default_ollama_url="http://o:1",
        reread_seconds=1.5,
        connect_seconds=0.05,
        stream_idle_seconds=3600,
        max_body_bytes=1024,
        max_head_bytes=2048,
        max_requests=7,
        drain_seconds=0,
        usage_url="https://u/v1",
        usage_token_file=Path("/t"),
        usage_spool=Path("/spool"),
        usage_spool_bytes=65536,
        trace_ratio=0.25,
        access_log=True,
        log_level="DEBUG",
        lifeline=True,
    )


def test_an_empty_value_is_unset() -> None:
    assert read(**{setting.name.upper(): "" for setting in TABLE}) == read()


def test_what_kubernetes_sets_for_a_service_of_that_name_is_no_port() -> None:
    assert read(PORT="tcp://10.0.0.7:11434").port == 11434


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "http", "must be a whole number from 0 to 65535"),
        ("PORT", "65536", "must be a whole number from 0 to 65535"),
        ("PORT", "-1", "must be a whole number from 0 to 65535"),
        ("PORT", "80.5", "must be a whole number from 0 to 65535"),
        ("MANAGEMENT_PORT", "x", "must be a whole number from 0 to 65535"),
        ("REREAD_SECONDS", "0", "must be from 1 to 60"),
        ("REREAD_SECONDS", "61", "must be from 1 to 60"),
        ("REREAD_SECONDS", "60s", "must be a number from 1 to 60"),
        ("CONNECT_SECONDS", "nan", "must be from 0.05 to 60"),
        ("STREAM_IDLE_SECONDS", "inf", "must be from 1 to 3600"),
        ("MAX_BODY_BYTES", "1", "must be a whole number from 1024 to 1073741824"),
        ("MAX_HEAD_BYTES", "1", "must be a whole number from 1024 to 1048576"),
        ("MAX_REQUESTS", "0", "must be a whole number from 1 to 100000"),
        ("USAGE_URL", "ftp://u", "begins with http:// or https://"),
        ("USAGE_SPOOL_BYTES", "1", "must be a whole number from 65536 to 17179869184"),
        ("TRACE_RATIO", "1.5", "must be from 0 to 1"),
        ("ACCESS_LOG", "on", "must be one of true, false"),
        ("DRAIN_SECONDS", "-1", "must be from 0 to 3600"),
        ("LOG_LEVEL", "debug", "must be one of DEBUG, INFO, WARNING, ERROR"),
        ("LIFELINE", "yes", "must be one of true, false"),
        ("DEFAULT_OLLAMA_URL", "o:11434", "begins with http:// or https://"),
    ],
)
def test_a_wrong_value_is_told_with_its_variable(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"LLM_ROUTER_{name}='{value}': ")
    assert said in message


def test_every_setting_says_what_it_is() -> None:
    assert all(setting.meaning for setting in TABLE)
    assert all(setting.variable == f"LLM_ROUTER_{setting.name.upper()}" for setting in TABLE)


def test_a_password_in_an_address_is_not_told() -> None:
    with pytest.raises(SettingError, match="no user or password") as caught:
        read(DEFAULT_OLLAMA_URL="http://ada:secret@o")
    assert "secret" not in str(caught.value)
