"""The routing table: what is built of published bytes, and what is not taken."""

from dataclasses import FrozenInstanceError, replace

import pytest

from llm_contract import (
    ChecksumMismatch,
    Malformed,
    NewerVersion,
    RoutingConfig,
    TargetType,
    checksum,
    dump,
)
from llm_router.mount import Published
from llm_router.table import DEFAULT_TIMEOUT, Table, default_entry
from parts.router import mlx, ollama, route


def published(config: RoutingConfig) -> Published:
    raw = dump(config)
    return Published(raw, checksum(raw))


CONFIG = RoutingConfig(
    routes=(
        route("phi3:mini", mlx("http://mac:8080"), ollama("http://mac:11434/prefix")),
        route("other", ollama("http://h")),
    )
)


def test_has_an_entry_for_each_model() -> None:
    table = Table.build(published(CONFIG))
    assert set(table.entries) == {"phi3:mini", "other"}
    entry = table.entries["phi3:mini"]
    assert entry.label == "phi3:mini"
    assert [d.target.name for d in entry.destinations] == ["mlx", "ollama"]
    assert [str(d.origin) for d in entry.destinations] == [
        "http://mac:8080",
        "http://mac:11434/prefix",
    ]


def test_keeps_the_configuration_and_its_checksum() -> None:
    table = Table.build(published(CONFIG))
    assert table.checksum == checksum(dump(CONFIG))
    assert dump(table.config) == dump(CONFIG)


def test_cannot_be_changed() -> None:
    table = Table.build(published(CONFIG))
    with pytest.raises(FrozenInstanceError):
        table.checksum = "x"  # type: ignore[misc]


def test_an_empty_configuration_is_a_table() -> None:
    assert Table.build(published(RoutingConfig())).entries == {}


class TestRefuses:
    def test_bytes_of_another_checksum(self) -> None:
        with pytest.raises(ChecksumMismatch):
            Table.build(replace(published(CONFIG), checksum="0" * 64))

    def test_bytes_that_were_cut_off(self) -> None:
        with pytest.raises(ChecksumMismatch):
            Table.build(Published(dump(CONFIG)[:-10], checksum(dump(CONFIG))))

    def test_what_is_no_configuration_also_with_its_own_checksum(self) -> None:
        with pytest.raises(Malformed):
            Table.build(Published(b"{}", checksum(b"{}")))

    def test_a_newer_version(self) -> None:
        raw = dump(CONFIG).replace(b'"schemaVersion":1', b'"schemaVersion":2')
        with pytest.raises(NewerVersion):
            Table.build(Published(raw, checksum(raw)))

    @pytest.mark.parametrize(
        "url",
        ["http://", "http://user:secret@h", "http://h?x=1", "http://h:99999", "http://[fe80::1%1]"],
    )
    def test_an_address_that_cannot_be_used(self, url: str) -> None:
        with pytest.raises(ValueError, match="an upstream address") as caught:
            Table.build(published(RoutingConfig(routes=(route("m", ollama(url)),))))
        assert "secret" not in str(caught.value)


def test_the_default_entry_is_an_ollama_under_the_models_own_name() -> None:
    entry = default_entry("anything:1b", url="http://o:11434")
    (destination,) = entry.destinations
    assert destination.target.type is TargetType.OLLAMA
    assert destination.target.model == "anything:1b"
    assert entry.route.timeouts.total == DEFAULT_TIMEOUT


def test_a_client_cannot_make_metric_labels() -> None:
    assert default_entry("anything:1b", url="http://o").label == "other"
