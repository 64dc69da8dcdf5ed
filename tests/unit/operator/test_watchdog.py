"""When the watch counts as deaf, and what must not count as that."""

import asyncio
import os
from collections.abc import Sequence

import pytest

from llm_operator.resource.model import API_VERSION, KIND, Resource
from llm_operator.resource.parse import parse
from llm_operator.watchdog import Overheard, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def resource(
    name: str = "phi", *, generation: int = 1, namespace: str = "a", deleting: bool = False
) -> Resource:
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    return parse(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": f"uid-{name}",
                "generation": generation,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                **gone,
            },
            "spec": {"modelName": name, "backendType": "ollama", "endpointURL": "http://h:1"},
        }
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def busy() -> set[str]:
    """The uids that are being worked on."""
    return set()


@pytest.fixture
def watchdog(clock: Clock, busy: set[str]) -> Watchdog:
    return Watchdog(at_work=busy.__contains__, behind=30, clock=clock)


def listed(watchdog: Watchdog, clock: Clock, *resources: Resource, ns: str | None = None) -> None:
    watchdog.listed(ns, resources, begun=clock.now)


@pytest.mark.check(34)
def test_what_is_listed_and_not_heard_of_for_a_while(watchdog: Watchdog, clock: Clock) -> None:
    watchdog.heard("uid-phi", 1)
    listed(watchdog, clock, resource(generation=2))
    clock.now += 30
    listed(watchdog, clock, resource(generation=2))
    assert watchdog.deaf() == ""
    clock.now += 1
    assert watchdog.deaf() == ("the watch has not brought generation 2 of a/phi, listed 31 s ago")
    watchdog.heard("uid-phi", 2)
    assert watchdog.fault, "too late: the process is ending"


def test_a_new_object_that_the_watch_never_brought(watchdog: Watchdog, clock: Clock) -> None:
    listed(watchdog, clock, resource())
    clock.now += 31
    assert "generation 1 of a/phi" in watchdog.deaf()


def test_heard_before_it_was_listed_or_soon_after(watchdog: Watchdog, clock: Clock) -> None:
    watchdog.heard("uid-phi", 2)
    listed(watchdog, clock, resource(generation=2), resource("late"))
    clock.now += 29
    watchdog.heard("uid-late", 1)
    clock.now += 100
    assert watchdog.deaf() == ""


def test_a_list_older_than_the_watch(watchdog: Watchdog, clock: Clock) -> None:
    begun = clock.now
    clock.now += 5
    watchdog.heard("uid-new", 1)
    watchdog.listed(None, [], begun=begun)
    listed(watchdog, clock, resource("new"))
    clock.now += 100
    assert watchdog.deaf() == ""


def test_a_watch_that_is_behind_but_brings_something(watchdog: Watchdog, clock: Clock) -> None:
    for generation in range(1, 100):
        listed(watchdog, clock, resource(generation=generation + 3))
        clock.now += 5
        watchdog.heard("uid-phi", generation)
        assert watchdog.deaf() == ""


def test_an_object_that_is_stuck_is_not_the_watch(
    watchdog: Watchdog, clock: Clock, busy: set[str]
) -> None:
    listed(watchdog, clock, resource())
    busy.add("uid-phi")
    clock.now += 3600
    assert watchdog.deaf() == ""
    busy.clear()
    assert watchdog.deaf() != ""


def test_what_is_being_deleted_or_gone_is_not_missed(watchdog: Watchdog, clock: Clock) -> None:
    listed(watchdog, clock, resource(generation=2, deleting=True), resource("gone"))
    clock.now += 10
    listed(watchdog, clock, resource(generation=2, deleting=True))
    clock.now += 100
    assert watchdog.deaf() == ""


def test_a_deletion_that_the_watch_brings(watchdog: Watchdog, clock: Clock) -> None:
    listed(watchdog, clock, resource())
    watchdog.heard("uid-phi", 1, gone=True)
    clock.now += 100
    assert watchdog.deaf() == ""


def test_a_list_of_one_namespace_says_nothing_of_others(watchdog: Watchdog, clock: Clock) -> None:
    listed(watchdog, clock, resource(), resource("other", namespace="b"))
    watchdog.heard("uid-phi", 1)
    clock.now += 31
    listed(watchdog, clock, ns="a")
    assert "b/other" in watchdog.deaf()


async def test_lists_go_by_it(watchdog: Watchdog, clock: Clock) -> None:
    class Listing:
        async def list(self, namespace: str | None) -> Sequence[Resource]:
            assert namespace == "a"
            return [resource()]

    source = Overheard(Listing(), watchdog, clock=clock)
    assert await source.list("a") == [resource()]
    clock.now += 31
    assert watchdog.deaf() != ""


async def test_it_ends_the_operator(
    watchdog: Watchdog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr("llm_operator.watchdog.EVERY", 0.01)
    monkeypatch.setattr("llm_operator.watchdog.GRACE", 0.2)
    stop = asyncio.Event()
    task = asyncio.create_task(watchdog.run(stop))
    listed(watchdog, clock, resource())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stop.wait(), 0.1)
    clock.now += 31
    await asyncio.wait_for(stop.wait(), 5)
    assert left == [], "there is time for an orderly end"
    await asyncio.wait_for(task, 5)
    assert left == [1]
