"""The document of POST /explain: where a request would go, and why not elsewhere."""

import json
from dataclasses import replace
from typing import Any

import pytest

from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    Auth,
    Fallback,
    OnBusy,
    PassiveCheck,
    Route,
    Target,
    Timeouts,
    Waits,
)
from llm_router.ask import Limits
from llm_router.credentials import Credentials
from llm_router.errors import Cause, Refused
from llm_router.explain import NEEDS, answer, document
from llm_router.fronts import ROUTES
from llm_router.mount import Published
from llm_router.standing import Standings
from llm_router.table import Table, default_entry
from parts.router import DataPort, files, mlx, ollama, route

NOW = 1000.0
LIMITS = Limits(connect=3, stream_idle=60)
POLICY = PassiveCheck()
MAC = mlx("http://mac:8080")
BOX = ollama("http://box:11434")


def table(*routes: Route) -> Table:
    payload = files(*routes)
    published = Published(payload[CONFIG_KEY], payload[CHECKSUM_KEY].decode())
    secrets = Credentials(values={"key": b"a-secret"}, folder="x")
    return Table.build(published, Standings(), secrets)


def ask(found: Table | None, **question: Any) -> dict[str, Any]:
    told = document(found, {"model": "m"} | question, NOW, limits=LIMITS)
    json.dumps(told)
    return told


def verdicts(told: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(one["name"], one["place"], one["verdict"]) for one in told["targets"]]


def test_a_route_in_its_order() -> None:
    found = table(route("m", MAC, BOX, timeouts=Timeouts(total=42, connect=2)))
    told = ask(found)
    assert told["would"] == "mlx"
    assert told["route"] == {"name": "m", "uid": "uid-of-m", "generation": 1}
    assert (told["alias"], told["config"], told["deadline"]) == (False, found.checksum[:12], 42)
    assert verdicts(told) == [("mlx", 1, "Unknown"), ("ollama", 2, "Unknown")]
    first = told["targets"][0]
    assert (first["url"], first["type"], first["model"]) == (MAC.url, "mlx", "default_model")
    assert (first["loaded"], first["since"], first["tokensPerSecond"]) == (None, None, None)
    assert first["limits"] == {"connect": 2, "firstToken": None, "idle": 60}
    assert told["reason"].startswith("mlx would be asked first")


def test_a_target_s_own_limits_win() -> None:
    own = replace(MAC, waits=Waits(connect=1, first_token=7, stream_idle=9), max_concurrent=4)
    [one] = ask(table(route("m", own)))["targets"]
    assert one["limits"] == {"connect": 1, "firstToken": 7, "idle": 9}
    assert (one["active"], one["maxConcurrent"]) == (0, 4)


def test_what_stands_against_a_target_is_said() -> None:
    found = table(route("m", MAC, BOX))
    standing = found.entries["m"].destinations[0].standing
    for _ in range(2):
        standing.failed(Cause.CONNECT_FAILURE, NOW, POLICY, why="nobody listens")
    told = ask(found)
    assert told["would"] == "ollama"
    assert verdicts(told) == [("ollama", 1, "Unknown"), ("mlx", 2, "Ejected")]
    assert "passed over: mlx: Ejected" in told["reason"]
    assert "nobody listens" in told["reason"]
    assert told["targets"][1]["since"] is not None


def test_the_last_resort_is_called_so() -> None:
    found = table(route("m", MAC))
    found.entries["m"].destinations[0].standing.host.probed(NOW, healthy=False, reason="down")
    told = ask(found)
    assert told["would"] == "mlx"
    assert "all the same" in told["reason"]
    assert "down" in told["reason"]


def test_an_alias_is_the_route_it_names() -> None:
    told = ask(table(replace(route("m", MAC), aliases=("gpt-4o",))), model="gpt-4o")
    assert (told["alias"], told["route"]["name"], told["would"]) == (True, "m", "mlx")
    assert told["model"] == "gpt-4o"


def test_an_unknown_model_is_not_found() -> None:
    told = ask(table(route("m", MAC)), model="x")
    assert (told["would"], told["route"], told["targets"]) == (None, None, [])
    assert "404" in told["reason"]


def test_or_goes_to_the_default_ollama() -> None:
    standings = Standings()
    told = document(
        table(route("m", MAC)),
        {"model": "x"},
        NOW,
        default=lambda model: default_entry(model, url="http://box:11434", standings=standings),
    )
    assert (told["would"], told["route"]["name"], told["alias"]) == ("ollama", "default", False)
    assert told["targets"][0]["model"] == "x"


def test_without_a_configuration_nothing_is_served() -> None:
    told = ask(None)
    assert (told["would"], told["config"]) == (None, None)
    assert "503" in told["reason"]


@pytest.mark.parametrize("path", ROUTES)
def test_every_path_of_the_data_port_can_be_asked_about(path: str) -> None:
    told = ask(table(route("m", MAC, BOX)), path=path)
    embeds = "embed" in path
    assert told["would"] == ("ollama" if embeds else "mlx")


@pytest.mark.parametrize(
    ("path", "need"), [(path, need) for path, known in NEEDS.items() for need in known]
)
def test_every_need_can_be_asked_about(path: str, need: str) -> None:
    told = ask(table(route("m", BOX)), path=path, needs=[need])
    assert told["targets"][0]["name"] == "ollama"


def test_a_need_moves_a_request_past_who_can_not() -> None:
    told = ask(table(route("m", MAC, BOX)), needs=["format", "tools"])
    assert told["would"] == "ollama"
    assert verdicts(told) == [("ollama", 1, "Unknown"), ("mlx", 0, "Incapable")]
    assert "response_format" in told["targets"][1]["why"]


def test_a_real_request_is_decoded_as_it_would_be() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "my secret"}], "format": "json"}
    told = document(table(route("m", MAC, BOX)), {"path": "/api/chat", "body": body}, NOW)
    assert told["would"] == "ollama"
    assert "my secret" not in json.dumps(told)


def test_a_request_that_no_target_can_serve_says_so() -> None:
    told = ask(table(route("m", MAC)), path="/v1/embeddings")
    assert told["would"] is None
    assert told["reason"].startswith("no target can be asked now: mlx: Incapable")


def test_a_value_out_of_a_target_s_range_is_a_refusal() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "top_p": 7}
    told = ask(table(route("m", MAC)), path="/api/chat", body=body | {"options": {"top_p": 7}})
    assert told["would"] is None
    assert "refusal" in told["reason"]
    assert "top_p" in told["reason"]


def test_a_full_target_is_not_asked_unless_it_queues() -> None:
    for on_busy, would in ((OnBusy.SPILL, "ollama"), (OnBusy.QUEUE, "mlx")):
        full = replace(MAC, max_concurrent=1, on_busy=on_busy)
        found = table(route("m", full, BOX))
        found.entries["m"].destinations[0].standing.begun(NOW)
        assert ask(found)["would"] == would
    alone = table(route("m", replace(MAC, max_concurrent=1)))
    alone.entries["m"].destinations[0].standing.begun(NOW)
    assert ask(alone)["would"] is None


def test_no_more_attempts_are_promised_than_the_route_allows() -> None:
    full = replace(MAC, max_concurrent=1)
    once = Fallback(max_attempts=1)
    found = table(replace(route("m", full, replace(full, name="b", url="http://b")), fallback=once))
    for destination in found.entries["m"].destinations:
        destination.standing.begun(NOW)
    assert ask(found)["would"] is None
    found.entries["m"].destinations[1].standing.ended()
    assert ask(found)["would"] == "b"


def weighted(name: str, weight: int) -> Target:
    return replace(BOX, name=name, url=f"http://{name}:1", tier=0, weight=weight)


def test_shares_and_sessions() -> None:
    shared = replace(route("m", weighted("a", 3), weighted("b", 1)), sticky_header="X-Session")
    found = table(shared)
    told = ask(found)
    share = "3 of 4" if told["would"] == "a" else "1 of 4"
    assert share in told["reason"]
    assert len({ask(found, sticky="anna")["would"] for _ in range(20)}) == 1
    assert {ask(found, sticky=str(n))["would"] for n in range(50)} == {"a", "b"}
    assert "by weight" not in ask(found, sticky="anna")["reason"]


def test_credentials_are_not_told() -> None:
    closed = replace(BOX, auth=Auth(credential="key"))
    absent = replace(BOX, name="other", auth=Auth(credential="absent"))
    told = ask(table(route("m", closed, absent)))
    assert "a-secret" not in json.dumps(told)
    assert told["targets"][1]["verdict"] == "Unusable"
    assert "absent" in told["targets"][1]["why"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ([], "object"),
        ({}, "model"),
        ({"model": 3}, "model"),
        ({"model": "m", "path": "/x"}, "path"),
        ({"model": "m", "path": 3}, "path"),
        ({"model": "m", "sticky": 3}, "sticky"),
        ({"model": "m", "body": "x"}, "body"),
        ({"model": "m", "body": {}}, "messages"),
        ({"model": "m", "needs": "tools"}, "needs"),
        ({"model": "m", "needs": ["wings"]}, "needs"),
        ({"model": "m", "needs": ["tools"], "path": "/generate"}, "needs"),
        ({"model": "m", "needs": ["tools"], "body": {}}, "needs"),
        ({"model": "m", "wheels": 4}, "wheels"),
    ],
)
def test_a_wrong_question_is_told_what_to_change(question: Any, said: str) -> None:
    with pytest.raises(Refused) as raised:
        document(table(route("m", MAC)), question, NOW)
    assert said in raised.value.problem.message
    assert raised.value.problem.status == 400


async def test_the_management_port_gets_a_document_and_a_status(data_port: DataPort) -> None:
    assert answer(data_port.parts, b'{"model": "m"}')[0]["would"] is None
    data_port.publish(route("m", MAC))
    told, status = answer(data_port.parts, b'{"model": "m"}')
    assert (told["would"], status) == ("mlx", 200)
    for wrong in (b"", b"{", b"[]", b'{"model": "m", "path": "/x"}'):
        told, status = answer(data_port.parts, wrong)
        assert (list(told), status) == (["detail"], 400)
    data_port.parts.default_ollama_url = "http://box:11434"
    assert answer(data_port.parts, b'{"model": "x"}')[0]["would"] == "ollama"
