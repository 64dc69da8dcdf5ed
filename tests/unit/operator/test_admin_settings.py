"""The settings of `llmb admin`: one table, good defaults, errors that help and keep secrets."""

import argparse
from pathlib import Path

import pytest

from llm_operator import settings as operator
from llm_operator.admin import run
from llm_operator.admin.settings import TABLE, Settings, table
from llm_operator.settings import SettingsError

DATABASE = {"LLMB_DATABASE_URL": "postgresql://llmb:secret@db/llmb"}
NOWHERE = Path("/nowhere/namespace")


def read(**values: str) -> Settings:
    """What some variables say, outside a pod."""
    return Settings.from_environment(DATABASE | values, pod=NOWHERE)


def test_defaults() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.public) == ("0.0.0.0", 8090, True)
    assert (settings.namespaces, settings.namespace) == (frozenset(), "default")
    assert (settings.audiences, settings.certificate) == ((), None)
    assert (settings.router_url, settings.router_management_url) == (None, None)
    assert (settings.router_port, settings.log_level) == (8081, "INFO")
    assert "secret" not in repr(settings)


def test_everything_set() -> None:
    settings = read(
        LLMB_NAMESPACES="one,two",
        LLMB_ADMIN_NAMESPACE="two",
        LLMB_ADMIN_HOST="127.0.0.1",
        LLMB_ADMIN_PORT="0",
        LLMB_ADMIN_PUBLIC="false",
        LLMB_ADMIN_AUDIENCES="admin, page ,",
        LLMB_ADMIN_TLS_CERTIFICATE="/tls/tls.crt",
        LLMB_ADMIN_TLS_KEY="/tls/tls.key",
        LLMB_ADMIN_ROUTER_URL="http://router.models:11440/",
        LLMB_ADMIN_ROUTER_MANAGEMENT_URL="http://router.models:8081",
        LLMB_ROUTER_PORT="9000",
        LLMB_LOG_LEVEL="debug",
    )
    assert (settings.namespaces, settings.namespace) == ({"one", "two"}, "two")
    assert (settings.host, settings.port, settings.public) == ("127.0.0.1", 0, False)
    assert settings.audiences == ("admin", "page")
    assert settings.certificate == (Path("/tls/tls.crt"), Path("/tls/tls.key"))
    assert settings.router_url == "http://router.models:11440"
    assert settings.router_management_url == "http://router.models:8081"
    assert (settings.router_port, settings.log_level) == (9000, "DEBUG")


def test_the_one_namespace_served_is_that_of_what_names_none(tmp_path: Path) -> None:
    pod = tmp_path / "namespace"
    pod.write_text("llm-backend-system")
    served = {**DATABASE, "LLMB_NAMESPACES": "models"}
    assert Settings.from_environment(served, pod=pod).namespace == "models"


def test_in_a_pod_it_is_the_pod_s_own(tmp_path: Path) -> None:
    pod = tmp_path / "namespace"
    pod.write_text("models\n")
    assert Settings.from_environment(DATABASE, pod=pod).namespace == "models"


def test_one_that_is_named_has_to_be_served() -> None:
    with pytest.raises(SettingsError, match=r"'c' is not one of LLMB_NAMESPACES \(a, b\)"):
        read(LLMB_NAMESPACES="b,a", LLMB_ADMIN_NAMESPACE="c")


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(SettingsError, match="LLMB_ADMIN_TLS_KEY go together"):
        read(LLMB_ADMIN_TLS_CERTIFICATE="/tls/tls.crt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLMB_ADMIN_NAMESPACE", "Models"),
        ("LLMB_ADMIN_PORT", "http"),
        ("LLMB_ADMIN_PUBLIC", "yes"),
        ("LLMB_ADMIN_ROUTER_URL", "router:11440"),
        ("LLMB_ROUTER_PORT", "0"),
    ],
)
def test_a_bad_value_is_named_with_what_would_do(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    expected = next(setting.expected for setting in TABLE if setting.name == name)
    assert str(caught.value) == f"{name}: {value!r} is not {expected}"


def test_what_the_operator_has_too_is_read_alike() -> None:
    shared = {row.name: row for row in operator.TABLE}
    both = [row for row in TABLE if row.name in shared]
    assert len(both) == 4
    assert all(row.read is shared[row.name].read for row in both)


def test_help_names_every_setting() -> None:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    shown = parser.format_help()
    assert table() in shown
    assert all(setting.name in shown and setting.meaning in shown for setting in TABLE)
    assert "example:" in shown


async def test_wrong_settings_exit_2_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LLMB_DATABASE_URL", raising=False)
    assert await run.run(argparse.Namespace()) == 2
    assert capsys.readouterr().err.startswith("llmb admin: LLMB_DATABASE_URL is not set")
