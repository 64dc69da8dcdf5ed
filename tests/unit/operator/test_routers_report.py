"""What a router's /status says, and that nothing it can say is an error."""

import json
from typing import Any

import pytest

from llm_contract import CHECKSUM_KEY
from llm_operator.routers import report
from llm_operator.routers.report import (
    Report,
    RouteReport,
    Said,
    Seen,
    TargetReport,
    Unreachable,
    parse,
    renewed,
)
from llm_router import management
from parts.router import DataPort, files, mlx, ollama, route

CHECKSUM = "0123456789abcdef" * 4


def document(**changes: Any) -> dict[str, Any]:
    """A router with one route of one target; `changes` are of the target."""
    target = {"name": "mlx", "type": "mlx", "state": "Healthy", "why": "", "failure": None}
    target |= {"since": 1_700_000_000.5, "active": 2, "tokensPerSecond": 33.25} | changes
    one = {"model": "m", "name": "phi", "uid": "u1", "generation": 3, "targets": [target]}
    return {
        "version": "1",
        "config": {"checksum": CHECKSUM, "loadedAt": 1.0, "routes": [one]},
        "rejected": None,
    }


def raw(value: object) -> bytes:
    return json.dumps(value).encode()


def test_what_a_router_runs() -> None:
    assert parse(raw(document())) == Report(
        checksum=CHECKSUM,
        routes={
            "u1": RouteReport(
                generation=3,
                targets=(
                    TargetReport(name="mlx", state="Healthy", since=1_700_000_000.5, speed=33.25),
                ),
            )
        },
    )


async def test_the_document_of_the_real_router(data_port: DataPort) -> None:
    routes = (route("a", mlx("http://h:1"), ollama("http://h:2", weight=0)), route("b"))
    routes = (routes[0], route("b", ollama("http://h:3")))
    data_port.publish(*routes)
    described = management.describe(data_port.parts, release="1", started=0.0)
    assert parse(raw(described)) == Report(
        checksum=files(*routes)[CHECKSUM_KEY].decode(),
        routes={
            "uid-of-a": RouteReport(
                generation=1,
                targets=(
                    TargetReport(name="mlx", state="Unknown"),
                    TargetReport(name="ollama", state="Drained"),
                ),
            ),
            "uid-of-b": RouteReport(
                generation=1, targets=(TargetReport(name="ollama", state="Unknown"),)
            ),
        },
    )


async def test_a_failure_is_said_in_words_that_stay(data_port: DataPort) -> None:
    target = ollama("http://h:1")
    data_port.publish(route("a", target))
    data_port.standing(target).doubt("connection refused")
    described = management.describe(data_port.parts, release="1", started=0.0)
    found = parse(raw(described))
    assert isinstance(found, Report)
    assert found.routes["uid-of-a"].targets[0].failure == "connection refused"


def test_a_router_with_nothing_mounted() -> None:
    assert parse(b'{"config": null, "rejected": null}') == Report()


def test_a_rejection_is_kept_in_one_printable_line() -> None:
    told = document() | {"rejected": {"reason": "it\nis \x1b[2J wrong" + "!" * 9999, "at": 1}}
    found = parse(raw(told))
    assert isinstance(found, Report)
    assert found.rejected.startswith("it is [2J wrong!!!")
    assert len(found.rejected) <= report.WORDS


def test_what_is_new_is_ignored_and_what_is_old_is_enough() -> None:
    old = document()
    del old["config"]["routes"][0]["targets"][0]["failure"]
    assert parse(raw(old)) == parse(raw(document(more={"a": 1}) | {"newer": [1]}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok\n",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{}",
        b"[" * 100_000,
        b'{"config": null}',
        b'{"rejected": null}',
        b'{"config": null, "rejected": "x"}',
        b'{"config": [], "rejected": null}',
        b'{"config": {"checksum": "x", "routes": []}, "rejected": null}',
        raw({"config": {"checksum": CHECKSUM, "routes": {}}, "rejected": None}),
        raw({"config": {"checksum": CHECKSUM, "routes": [3]}, "rejected": None}),
        raw({"config": {"checksum": CHECKSUM, "routes": [{}]}, "rejected": None}),
        raw(document(name="")),
        raw(document(name="n" * 64)),
        raw(document(state=None)),
        raw(document(state="Health\u00fd")),
        raw(document(failure=3)),
        raw(document(since=-1)),
        raw(document(since=1e15)),
        raw(document(since=True)),
        raw(document(tokensPerSecond="33")),
        raw(document(tokensPerSecond=float("nan"))),
        raw(document(tokensPerSecond=float("inf"))),
        raw(document()).replace(b'"generation": 3', b'"generation": 3.5'),
        raw(document()).replace(b'"generation": 3', b'"generation": true'),
        raw(document()).replace(b'"uid": "u1"', b'"uid": ""'),
        raw(document()).replace(b'"since": 1700000000.5', b'"since": ' + b"9" * 6000),
    ],
)
def test_anything_else_is_unreachable_with_a_reason(body: bytes) -> None:
    found = parse(body)
    assert isinstance(found, Unreachable)
    assert found.reason.startswith("its /status is not ")
    assert "\n" not in found.reason


def test_an_endless_answer_is_not_read() -> None:
    found = parse(b" " * (report.LIMIT + 1))
    assert found == Unreachable("its /status is longer than 8 MiB")


def test_what_each_router_says_of_a_resource() -> None:
    has = parse(raw(document()))
    assert isinstance(has, Report)
    seen = Seen({"b": Unreachable("no connection"), "a": has})
    assert seen.of("u1") == (
        Said(router="a", route=has.routes["u1"]),
        Said(router="b", unreachable="no connection"),
    )
    assert seen.of("u2") == (Said(router="a"), Said(router="b", unreachable="no connection"))


def test_the_same_words_are_the_same_object() -> None:
    known = parse(raw(document()))
    first = Seen({"a": known, "b": Unreachable("no connection")})
    said = first.of("u1")
    alike = renewed(raw(document()), known)
    again = Seen({"a": alike, "b": Unreachable("no connection")}, before=first)
    assert again.of("u1") is said
    for changed in (
        {"a": parse(raw(document(state="Ejected"))), "b": Unreachable("no connection")},
        {"a": alike, "b": Unreachable("it does not answer in time")},
        {"a": alike, "c": Unreachable("no connection")},
        {"a": alike, "b": Report()},
        {"a": alike},
    ):
        before = Seen(first.answers)
        before.of("u1")
        assert Seen(changed, before=before).of("u1") != said


def test_what_is_still_the_same_is_the_same_object() -> None:
    known = parse(raw(document()))
    assert renewed(raw(document()), known) is known
    assert renewed(raw(document()), None) == known
    gone = Unreachable("its /status is not JSON")
    assert renewed(b"x", gone) is gone
    assert renewed(b"x", known) == gone
    assert renewed(raw(document()), gone) == known
    rejecting = document() | {"rejected": {"reason": "it is broken", "at": 1}}
    partly = renewed(raw(rejecting), known)
    assert isinstance(partly, Report)
    assert isinstance(known, Report)
    assert partly.routes["u1"] is known.routes["u1"]
    assert partly.rejected == "it is broken"
