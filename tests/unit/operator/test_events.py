"""Events: which changes give one, and that they cost nothing else anything."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from llm_operator import events
from llm_operator.events import Bucket, Events
from llm_operator.ports import Gone, PortError, Refused, Unavailable
from llm_operator.reasons import Accepted, Condition, ConfigPublished, ResolvedRefs
from llm_operator.resource.model import Identity, Resource
from llm_operator.transitions import TABLE, EventReason, EventType, happenings
from parts.eventually import eventually_async

WELL = {
    "Accepted": "True/Valid",
    "ResolvedRefs": "True/Resolved",
    "ConfigPublished": "True/Published",
    "DatabaseSynced": "True/Synced",
    "Programmed": "True/Programmed",
    "Available": "True/TargetsHealthy",
    "Degraded": "False/NoTargetDown",
    "Ready": "True/Ready",
}
INVALID = {
    "Accepted": "False/Invalid",
    "ResolvedRefs": "Unknown/NotAccepted",
    "ConfigPublished": "False/NotAccepted",
    "DatabaseSynced": "False/NotAccepted",
    "Ready": "False/Invalid",
    "Stalled": "True/Invalid",
}
CONFLICT = INVALID | {"Accepted": "False/ModelNameConflict", "Ready": "False/ModelNameConflict"}
DOWN = WELL | {"Available": "False/AllTargetsDown", "Degraded": "True/TargetsDown"}


def status(stands: Mapping[str, str]) -> dict[str, Any]:
    """A status of such conditions; the message names the condition."""
    found = []
    for kind, stand in stands.items():
        value, reason = stand.split("/")
        message = f"{kind} is {value}."
        found.append({"type": kind, "status": value, "reason": reason, "message": message})
    return {"conditions": found}


def given(before: Mapping[str, str] | None, after: Mapping[str, str]) -> list[str]:
    """The reasons of the events that such a change gives."""
    found = happenings(None if before is None else status(before), status(after))
    return [happening.reason.value for happening in found]


class TestTransitions:
    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            pytest.param(None, WELL, ["Ready"], id="well at first sight"),
            pytest.param(WELL, WELL, [], id="nothing changed"),
            pytest.param(None, INVALID, ["Invalid"], id="invalid is one event"),
            pytest.param(WELL, INVALID, ["Invalid"], id="it became invalid"),
            pytest.param(INVALID, INVALID, [], id="still invalid"),
            pytest.param(INVALID, WELL, ["Ready"], id="fixed"),
            pytest.param(INVALID, CONFLICT, ["ModelNameConflict"], id="another reason"),
            pytest.param(WELL, CONFLICT, ["ModelNameConflict"], id="lost its name"),
            pytest.param(
                WELL,
                WELL
                | {
                    "ResolvedRefs": "False/SecretNotFound",
                    "ConfigPublished": "False/NotResolved",
                    "Ready": "False/SecretNotFound",
                },
                ["NotResolved"],
                id="a Secret is gone",
            ),
            pytest.param(
                WELL,
                WELL | {"ConfigPublished": "False/TooLarge", "Ready": "False/TooLarge"},
                ["NotPublished"],
                id="too large",
            ),
            pytest.param(
                WELL, WELL | {"DatabaseSynced": "Unknown/Pending"}, [], id="not recorded yet"
            ),
            pytest.param(
                WELL | {"DatabaseSynced": "Unknown/Pending"}, WELL, [], id="recorded as ever"
            ),
            pytest.param(
                WELL,
                WELL | {"DatabaseSynced": "False/DatabaseUnavailable"},
                ["NotRecorded"],
                id="the database is away",
            ),
            pytest.param(
                WELL | {"DatabaseSynced": "False/DatabaseUnavailable"},
                WELL,
                ["Recorded"],
                id="the database is back",
            ),
            pytest.param(
                WELL, WELL | {"Programmed": "False/Pending"}, [], id="routers are on their way"
            ),
            pytest.param(
                WELL | {"Programmed": "False/Pending"}, WELL, [], id="routers have it as ever"
            ),
            pytest.param(
                WELL | {"Programmed": "False/Pending"},
                WELL | {"Programmed": "False/RejectedKeptLastGood"},
                ["NotProgrammed"],
                id="a router rejects it",
            ),
            pytest.param(
                WELL | {"Programmed": "False/RejectedKeptLastGood"},
                WELL,
                ["Programmed"],
                id="no router rejects it",
            ),
            pytest.param(WELL, DOWN, ["Unavailable"], id="down is one event"),
            pytest.param(DOWN, WELL, ["Available"], id="up is one event"),
            pytest.param(
                WELL, WELL | {"Degraded": "True/TargetsDown"}, ["Degraded"], id="one target is down"
            ),
            pytest.param(
                WELL | {"Degraded": "True/TargetsDown"}, DOWN, ["Unavailable"], id="then the other"
            ),
            pytest.param(
                WELL | {"Degraded": "True/TargetsDown"}, WELL, ["Recovered"], id="all are up"
            ),
            pytest.param(
                WELL | {"Degraded": "True/TargetsDown"},
                WELL | {"Available": "False/Disabled", "Degraded": "False/Disabled"},
                [],
                id="who is disabled has not recovered",
            ),
            pytest.param(
                WELL,
                WELL | {"Paused": "True/ReconciliationPaused"},
                ["Paused"],
                id="paused",
            ),
            pytest.param(
                WELL | {"Paused": "True/ReconciliationPaused"}, WELL, ["Resumed"], id="resumed"
            ),
        ],
    )
    def test_give(
        self, before: Mapping[str, str] | None, after: Mapping[str, str], expected: list[str]
    ) -> None:
        assert given(before, after) == expected

    def test_have_the_message_of_the_condition(self) -> None:
        (happening,) = happenings(status(WELL), status(INVALID))
        assert happening.message == "Accepted is False."
        assert happening.type is EventType.WARNING
        (happening,) = happenings(status(INVALID), status(WELL))
        assert happening.message == "Ready is True."
        assert happening.type is EventType.NORMAL

    def test_every_reason_has_its_place(self) -> None:
        told = {transition.event for transition in TABLE}
        assert told == set(EventReason) - {EventReason.DRIFT_REPAIRED}

    def test_a_gate_that_fails_by_itself_gives_an_event(self) -> None:
        gates = (Condition.ACCEPTED, Condition.RESOLVED_REFS, Condition.CONFIG_PUBLISHED)
        given = {r for one in TABLE if one.condition in gates for r in one.reasons}
        every = {*Accepted, *ResolvedRefs, *ConfigPublished}
        assert every - given == {"Valid", "Resolved", "Published", "NotAccepted", "NotResolved"}


class Server:
    """The API server's events, in memory: what `Events` asks of it."""

    def __init__(self) -> None:
        self.posted: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.asked = 0
        self.fail: PortError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, path: str, *, accept: str = "") -> dict[str, Any]:
        assert path == "/api/v1/namespaces/ns/configmaps/llm-router-config"
        return {"metadata": {"uid": "uid-map"}}

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        self.asked += 1
        await self.gate.wait()
        if self.fail:
            raise self.fail
        assert body is not None
        if method == "POST":
            assert path == "/api/v1/namespaces/ns/events"
            self.posted[body["metadata"]["name"]] = dict(body)
            self.order.append(body["reason"])
        else:
            assert (method, content) == ("PATCH", "application/merge-patch+json")
            name = path.removeprefix("/api/v1/namespaces/ns/events/")
            if name not in self.posted:
                raise Gone(name)
            self.posted[name] |= body
        return {}

    @property
    def told(self) -> list[tuple[str, str, int]]:
        return [
            (one["involvedObject"]["name"], one["reason"], one["count"])
            for one in self.posted.values()
        ]


class Running:
    """Events at work, with a clock that a test moves."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.at = 0.0
        seconds = itertools.count(10)
        self.events = Events(
            server,  # type: ignore[arg-type]
            now=lambda: f"2026-01-01T00:00:{next(seconds) % 60:02}Z",
            clock=lambda: self.at,
        )
        self.task = asyncio.create_task(self.events.run())

    def tell(self, name: str, before: Mapping[str, str] | None, after: Mapping[str, str]) -> None:
        was = None if before is None else status(before)
        self.events.told(resource(name), was, status(after))

    async def settled(self, **counts: int) -> None:
        await eventually_async(
            lambda: {k: self.events.counts[k] for k in counts} == counts, within=10, every=0.002
        )


def resource(name: str) -> Resource:
    identity = Identity(namespace="ns", name=name, uid=f"uid-{name}", generation=1)
    return Resource(identity=identity, spec=None)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def running(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(events, "AGAIN", 0.01)
    monkeypatch.setattr(events, "AGAIN_LONGEST", 0.02)
    running = Running(server)
    yield running
    assert not running.task.done(), "no failure ends it"
    running.task.cancel()
    await asyncio.wait([running.task])


async def test_an_event_as_kubectl_wants_it(running: Running, server: Server) -> None:
    running.tell("phi", None, INVALID)
    await running.settled(created=1)
    (event,) = server.posted.values()
    assert event["involvedObject"] == {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "namespace": "ns",
        "name": "phi",
        "uid": "uid-phi",
    }
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "Invalid", 1)
    assert event["message"] == "Accepted is False."
    assert event["metadata"]["namespace"] == "ns"
    assert event["reportingComponent"] == "llm-backend-operator"
    assert event["source"] == {"component": "llm-backend-operator"}
    assert event["reportingInstance"]


@pytest.mark.check(21)
async def test_a_repair_is_an_event_of_the_map(running: Running, server: Server) -> None:
    running.events.repaired("ns")
    await running.settled(created=1)
    (event,) = server.posted.values()
    assert event["reason"] == "DriftRepaired"
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "namespace": "ns",
        "name": "llm-router-config",
        "uid": "uid-map",
    }


async def test_what_happens_again_soon_is_counted(running: Running, server: Server) -> None:
    for repeat in range(3):
        running.tell("phi", WELL, INVALID)
        await running.settled(created=1, repeated=repeat)
        running.at += 299
    assert server.told == [("phi", "Invalid", 3)]
    (event,) = server.posted.values()
    assert event["lastTimestamp"] > event["firstTimestamp"]
    running.at += 302
    running.tell("phi", WELL, INVALID)
    await running.settled(created=2)
    assert server.told == [("phi", "Invalid", 3), ("phi", "Invalid", 1)]


async def test_what_happens_again_while_it_waits_is_one_event(
    running: Running, server: Server
) -> None:
    server.gate.clear()
    running.tell("first", None, WELL)
    await eventually_async(lambda: server.asked == 1, within=5)
    for _ in range(3):
        running.tell("phi", WELL, INVALID)
    server.gate.set()
    await running.settled(created=2, repeated=0)
    assert server.told == [("first", "Ready", 1), ("phi", "Invalid", 3)]


async def test_another_object_or_another_message_is_another_event(
    running: Running, server: Server
) -> None:
    running.tell("phi", WELL, INVALID)
    running.tell("llama", WELL, INVALID)
    other = status(INVALID)
    other["conditions"][0]["message"] = "Another mistake."
    running.events.told(resource("phi"), status(WELL), other)
    await running.settled(created=3, repeated=0)


async def test_an_event_that_is_gone_is_made_again(running: Running, server: Server) -> None:
    running.tell("phi", WELL, INVALID)
    await running.settled(created=1)
    server.posted.clear()
    running.tell("phi", WELL, INVALID)
    await running.settled(created=2, repeated=0)
    assert server.told == [("phi", "Invalid", 2)]


async def test_well_at_first_sight_is_told_once(running: Running, server: Server) -> None:
    running.tell("phi", None, WELL)
    running.at += 3600
    running.tell("phi", None, WELL)
    running.tell("llama", None, WELL)
    await running.settled(created=2)
    assert server.told == [("phi", "Ready", 1), ("llama", "Ready", 1)]
    running.at += 3600
    running.tell("phi", INVALID, WELL)
    await running.settled(created=3)
    running.events.listed("ns", [])
    running.tell("phi", None, WELL)
    await running.settled(created=3, repeated=1)


async def test_no_more_than_so_many_at_once(running: Running, server: Server) -> None:
    for number in range(events.BURST + 50):
        running.tell(f"m{number}", WELL, INVALID)
    await running.settled(created=events.BURST)
    # The clock stands still, so what is left has to wait for real seconds.
    assert server.asked == events.BURST
    assert not running.events.counts["dropped"]


def test_a_bucket_fills_by_itself_but_never_over() -> None:
    at = [0.0]
    bucket = Bucket(10.0, 3, lambda: at[0])
    assert [bucket.take() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])
    at[0] = 0.1
    assert bucket.take() == pytest.approx(0.1)
    at[0] = 100.0
    assert [bucket.take() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


async def test_without_room_normal_ones_go_first(
    running: Running, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST", 3)
    server.gate.clear()
    running.tell("first", None, WELL)
    await eventually_async(lambda: server.asked == 1, within=5)
    for number in range(3):
        running.tell(f"well{number}", None, WELL)
    running.tell("well3", None, WELL)
    running.tell("bad0", WELL, INVALID)
    assert running.events.counts["dropped"] == 2
    for number in range(1, 5):
        running.tell(f"bad{number}", WELL, INVALID)
    assert running.events.counts["dropped"] == 6
    server.gate.set()
    await running.settled(created=4)
    assert [name for name, _, _ in server.told] == ["first", "bad0", "bad1", "bad2"]


async def test_warnings_leave_first(running: Running, server: Server) -> None:
    server.gate.clear()
    running.tell("first", None, WELL)
    await eventually_async(lambda: server.asked == 1, within=5)
    running.tell("a", None, WELL)
    running.tell("b", WELL, INVALID)
    server.gate.set()
    await running.settled(created=3)
    assert server.order == ["Ready", "Invalid", "Ready"]


@pytest.mark.parametrize("error", [Refused("HTTP 403"), Unavailable("away")], ids=type)
async def test_a_failure_is_logged_once_and_costs_nothing(
    running: Running, server: Server, error: PortError, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail = error
    with caplog.at_level(logging.WARNING):
        for number in range(4):
            running.tell(f"m{number}", WELL, INVALID)
        await running.settled(failed=4)
    assert [record.message for record in caplog.records] == ["events_not_posted"]
    tries = 1 if isinstance(error, Refused) else events.TRIES
    assert server.asked == 4 * tries
    server.fail = None
    running.tell("later", WELL, INVALID)
    await running.settled(created=1)


async def test_a_short_absence_loses_nothing(running: Running, server: Server) -> None:
    server.fail = Unavailable("away")
    running.tell("phi", WELL, INVALID)
    await eventually_async(lambda: server.asked == 1, within=5, every=0.001)
    server.fail = None
    await running.settled(created=1, failed=0)


async def test_a_namespace_that_goes_wants_no_events(
    running: Running, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail = Gone("going")
    running.tell("phi", WELL, INVALID)
    await running.settled(dropped=1, failed=0)
    assert not caplog.records


async def test_a_mistake_of_its_own_ends_nothing(
    running: Running, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: Callable[..., object] = lambda *_: 1 / 0  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(events, "_manifest", broken)
        running.tell("phi", WELL, INVALID)
        await running.settled(failed=1)
    running.tell("llama", WELL, INVALID)
    await running.settled(created=1)


async def test_a_message_is_never_too_long(running: Running, server: Server) -> None:
    long = status(INVALID)
    long["conditions"][0]["message"] = "x" * 5000
    running.events.told(resource("phi"), status(WELL), long)
    await running.settled(created=1)
    (event,) = server.posted.values()
    assert len(event["message"]) == 1024
    assert event["message"].endswith("...")


async def test_a_name_is_never_too_long(running: Running, server: Server) -> None:
    running.tell("n" * 253, WELL, INVALID)
    await running.settled(created=1)
    (event,) = server.posted.values()
    assert len(event["metadata"]["name"]) <= 253
