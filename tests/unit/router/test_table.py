"""The routing table: what is built of published bytes, and what is not taken."""

from dataclasses import FrozenInstanceError, replace

import pytest

from llm_contract import (
    Auth,
    ChecksumMismatch,
    HeaderEdits,
    Malformed,
    NewerVersion,
    Parameters,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
    Tls,
    Waits,
    checksum,
    dump,
)
from llm_router.credentials import NONE, Credentials
from llm_router.mount import Published
from llm_router.standing import Standings
from llm_router.table import DEFAULT_TIMEOUT, Table, default_entry
from parts.router import mlx, ollama, route


def published(config: RoutingConfig) -> Published:
    raw = dump(config)
    return Published(raw, checksum(raw))


def built(
    given: Published, *, standings: Standings | None = None, credentials: Credentials = NONE
) -> Table:
    return Table.build(given, standings or Standings(), credentials)


CONFIG = RoutingConfig(
    routes=(
        route("phi3:mini", mlx("http://mac:8080"), ollama("http://mac:11434/prefix")),
        route("other", ollama("http://h")),
    )
)


def test_has_an_entry_for_each_model() -> None:
    table = built(published(CONFIG))
    assert set(table.entries) == {"phi3:mini", "other"}
    entry = table.entries["phi3:mini"]
    assert entry.label == "phi3:mini"
    assert [d.target.name for d in entry.destinations] == ["mlx", "ollama"]
    assert [str(d.origin) for d in entry.destinations] == [
        "http://mac:8080",
        "http://mac:11434/prefix",
    ]


def test_keeps_the_configuration_and_its_checksum() -> None:
    table = built(published(CONFIG))
    assert table.checksum == checksum(dump(CONFIG))
    assert dump(table.config) == dump(CONFIG)


def test_cannot_be_changed() -> None:
    table = built(published(CONFIG))
    with pytest.raises(FrozenInstanceError):
        table.checksum = "x"  # type: ignore[misc]


def test_an_empty_configuration_is_a_table() -> None:
    assert built(published(RoutingConfig())).entries == {}


class TestFullForm:
    def test_an_alias_is_the_same_entry(self) -> None:
        table = table_of(replace(route("m", ollama("http://h")), aliases=("a", "b")))
        assert set(table.entries) == {"m", "a", "b"}
        assert table.entries["a"] is table.entries["b"] is table.entries["m"]
        assert table.entries["a"].label == "m"

    def test_tiers_are_in_order_and_hold_what_shares_them(self) -> None:
        entry = table_of(route("m", at("a", 5), at("b", 1), at("c", 5), at("d", 0))).entries["m"]
        assert [[d.target.name for d in tier] for tier in entry.tiers] == [["d"], ["b"], ["a", "c"]]
        assert [d.target.name for d in entry.destinations] == ["d", "b", "a", "c"]
        assert not entry.plain

    def test_without_tiers_the_position_counts(self) -> None:
        entry = table_of(route("m", at("a", None), at("b", None))).entries["m"]
        assert [[d.target.name for d in tier] for tier in entry.tiers] == [["a"], ["b"]]
        assert entry.plain

    def test_one_that_gets_no_traffic_is_not_plain(self) -> None:
        idle = replace(at("a", None), weight=0)
        assert not table_of(route("m", idle)).entries["m"].plain

    def test_a_targets_own_waits_and_parameters_win(self) -> None:
        target = replace(
            at("a", None),
            waits=Waits(connect=1),
            parameters=Parameters(defaults={"top_k": 1}, overrides={"seed": 2}),
        )
        made = route("m", target, timeouts=Timeouts(total=9, connect=3, first_token=4))
        made = replace(
            made, parameters=Parameters(defaults={"top_k": 7, "top_p": 0.5}, overrides={"seed": 1})
        )
        (destination,) = table_of(made).entries["m"].destinations
        assert destination.waits == Waits(connect=1, first_token=4, stream_idle=None)
        assert destination.terms.parameters.defaults == {"top_k": 1, "top_p": 0.5}
        assert destination.terms.parameters.overrides == {"seed": 2}

    def test_what_a_target_is_asked_with(self) -> None:
        target = replace(
            at("a", None),
            auth=Auth(credential="token"),
            headers=HeaderEdits(set=(("X-A", "b"),), remove=("X-C",)),
        )
        credentials = Credentials(values={"token": b"v"}, digest="1", folder="/f")
        table = table_of(route("m", target), credentials=credentials)
        (destination,) = table.entries["m"].destinations
        headers = dict(destination.headers)
        assert (headers[b"x-a"], headers[b"authorization"]) == (b"b", b"Bearer v")
        assert destination.removed == {b"x-a", b"authorization", b"x-c"}
        assert destination.unusable == ""

    def test_a_missing_credential_is_one_targets_trouble(self) -> None:
        lacking = replace(at("a", None), auth=Auth(credential="token"))
        unsafe = replace(at("b", None), url="https://b", tls=Tls(ca="ca"))
        entry = table_of(route("m", lacking, unsafe, at("c", None))).entries["m"]
        assert [bool(d.unusable) for d in entry.destinations] == [True, True, False]
        assert not entry.plain


def at(name: str, tier: int | None) -> Target:
    return replace(ollama(f"http://{name}"), name=name, tier=tier)


def table_of(*routes: Route, credentials: Credentials = NONE) -> Table:
    return built(published(RoutingConfig(routes=routes)), credentials=credentials)


class TestStandings:
    def test_outlive_the_table(self) -> None:
        standings = Standings()
        first = built(published(CONFIG), standings=standings)
        again = built(published(CONFIG), standings=standings)
        before, after = list(first.standings()), list(again.standings())
        assert len(before) == 3
        assert all(a is b for a, b in zip(before, after, strict=True))

    def test_of_a_configuration_that_is_not_taken_there_are_none(self) -> None:
        standings = Standings()
        config = RoutingConfig(
            routes=(route("a", ollama("http://h")), route("m", ollama("http://")))
        )
        with pytest.raises(ValueError, match="an upstream address"):
            built(published(config), standings=standings)
        assert standings.hosts() == []


class TestRefuses:
    def test_bytes_of_another_checksum(self) -> None:
        with pytest.raises(ChecksumMismatch):
            built(replace(published(CONFIG), checksum="0" * 64))

    def test_bytes_that_were_cut_off(self) -> None:
        with pytest.raises(ChecksumMismatch):
            built(Published(dump(CONFIG)[:-10], checksum(dump(CONFIG))))

    def test_what_is_no_configuration_also_with_its_own_checksum(self) -> None:
        with pytest.raises(Malformed):
            built(Published(b"{}", checksum(b"{}")))

    def test_a_newer_version(self) -> None:
        raw = dump(CONFIG).replace(b'"schemaVersion":1', b'"schemaVersion":2')
        with pytest.raises(NewerVersion):
            built(Published(raw, checksum(raw)))

    @pytest.mark.parametrize(
        "url",
        ["http://", "http://user:secret@h", "http://h?x=1", "http://h:99999", "http://[fe80::1%1]"],
    )
    def test_an_address_that_cannot_be_used(self, url: str) -> None:
        with pytest.raises(ValueError, match="an upstream address") as caught:
            built(published(RoutingConfig(routes=(route("m", ollama(url)),))))
        assert "secret" not in str(caught.value)


def test_the_default_entry_is_an_ollama_under_the_models_own_name() -> None:
    entry = default_entry("anything:1b", url="http://o:11434", standings=Standings())
    (destination,) = entry.destinations
    assert destination.target.type is TargetType.OLLAMA
    assert destination.target.model == "anything:1b"
    assert entry.route.timeouts.total == DEFAULT_TIMEOUT


def test_a_client_cannot_make_metric_labels() -> None:
    assert default_entry("anything:1b", url="http://o", standings=Standings()).label == "other"
