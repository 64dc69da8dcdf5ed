"""Every front with every feature on every type of target, streamed and whole: the whole table.

Each cell is asked of a simulated host, which tells what it was asked; and of the real one where its
tiny model can do it.
"""

from collections.abc import Callable, Iterator

import httpx
import pytest

from conformance import asking, matrix, wire
from conformance.asking import ARRIVED
from conformance.hosts import MODELS, Hosts
from conformance.matrix import (
    CHAT,
    FEATURES,
    FRONTS,
    OLLAMA_CHAT,
    OLLAMA_TEXT,
    TABLE,
    TARGETS,
    TEXT,
    Cell,
    cells,
)
from llm_contract import Route, Target, TargetType, Timeouts
from llm_router.fronts import ROUTES
from parts import router as routing
from parts.mlx import Mlx
from parts.ollama import Ollama
from parts.router import PLAIN, Router

CELLS = list(cells())

#: Tokens at most of a real host's answer.
FEW = 5

SPEAKS = {CHAT: "openai", TEXT: "openai", OLLAMA_CHAT: "ollama", OLLAMA_TEXT: "ollama"}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts.started() as started:
        yield started


@pytest.fixture(scope="module")
def client(router: Router) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=router.url, timeout=60, **PLAIN) as made:
        yield made


def target(type_: str, url: str, model: str) -> Target:
    return Target(name=type_, type=TargetType(type_), url=url, model=model)


@pytest.fixture(scope="module")
def published(router: Router) -> Callable[..., None]:
    """Publishes more routes beside those of this module that are there."""
    routes: list[Route] = []

    def publish(*more: Route) -> None:
        routes.extend(more)
        router.publish(*routes)

    return publish


@pytest.fixture(scope="module")
def simulated(published: Callable[..., None], hosts: Hosts) -> Hosts:
    """Routes to the simulated hosts: one each, and from each to each other."""
    made = {each: target(each, hosts.url(each), MODELS[each]) for each in TARGETS}
    routes: list[Route] = [routing.route(f"on-{each}", made[each]) for each in TARGETS]
    routes += [
        routing.route(f"{first}-then-{second}", made[first], made[second])
        for first in TARGETS
        for second in TARGETS
        if first != second
    ]
    hosts.behave()
    published(*routes)
    return hosts


@pytest.fixture(scope="module")
def real(published: Callable[..., None], ollama_server: Ollama, mlx_server: Mlx) -> None:
    """Routes to the real hosts; MLX is an OpenAI-type server too."""
    on = {
        "ollama": (ollama_server.url, "phi3:mini"),
        "mlx": (mlx_server.url, "default_model"),
        "openai": (mlx_server.url, "default_model"),
    }
    # NB: the first request to a host may load the model.
    timeouts = Timeouts(total=60)
    published(*(routing.route(f"real-{e}", target(e, *on[e]), timeouts=timeouts) for e in TARGETS))


def asked(client: httpx.Client, cell: Cell, *, model: str, limit: int | None) -> httpx.Response:
    body = asking.request(cell.front, cell.feature, model=model, stream=cell.stream, limit=limit)
    return client.post(FRONTS[cell.front][0], json=body)


def read(cell: Cell, response: httpx.Response, *, model: str) -> wire.Read:
    assert response.status_code == 200, response.text
    if not cell.stream:
        return wire.whole(cell.front, response, model=model)
    own = SPEAKS.get(cell.front) == cell.target
    wanted = cell.feature == "usage"
    return wire.stream(cell.front, response, model=model, usage=wanted, own=own)


@pytest.mark.parametrize("cell", CELLS, ids=str)
class TestSimulated:
    def test_cell(self, simulated: Hosts, client: httpx.Client, cell: Cell) -> None:
        model = f"on-{cell.target}"
        simulated.behave(thinking=cell.feature.startswith("thinking"))
        before = len(simulated.asked(cell.target))
        response = asked(client, cell, model=model, limit=None)
        reached = simulated.asked(cell.target)[before:]
        if cell.verdict == "400":
            assert response.status_code == 400, response.text
            assert cell.field in wire.refusal(cell.front, response)
            assert not reached, "a host was asked for what it can't do"
            return
        (one,) = reached
        if cell.verdict == "model":
            assert response.status_code == 400, response.text
            assert cell.field in wire.refusal(cell.front, response)
            assert ARRIVED[cell.feature][cell.target](one.body), one.body
            return
        answer = read(cell, response, model=model)
        dropped = cell.field if cell.verdict == "dropped" else None
        wire.headers(response, backend=cell.target, dropped=dropped)
        if cell.verdict == "works":
            arrived = ARRIVED[cell.feature].get(cell.target)
            assert arrived is None or arrived(one.body), one.body
            check = wire.HAS.get(cell.feature)
            assert check is None or check(answer), answer
        else:
            assert answer.text or answer.vectors
        if cell.feature == "tools":
            self.round_trip(simulated, client, cell, answer)
        if cell.feature == "logprobs" and cell.target == "openai":
            assert "".join(answer.tokens) == answer.text

    def round_trip(
        self, simulated: Hosts, client: httpx.Client, cell: Cell, answer: wire.Read
    ) -> None:
        """The client tells the tool's result, and the model goes on."""
        model = f"on-{cell.target}"
        assert answer.reason == ("tool_calls" if cell.front == CHAT else "stop")
        first = asking.request(cell.front, "tools", model=model, stream=cell.stream)
        body = asking.result(cell.front, first, answer.calls[0])
        del body["tools"]
        response = client.post(FRONTS[cell.front][0], json=body)
        assert read(cell, response, model=model).text
        _, call, told, _ = simulated.asked(cell.target)[-1].body["messages"]
        assert call["tool_calls"][0]["function"]["name"] == "weather"
        assert (told["role"], told["content"]) == ("tool", asking.RESULT)
        if cell.front == CHAT:
            assert told["tool_call_id"] == call["tool_calls"][0]["id"] == asking.CALL_ID
        else:
            assert "weather" in (told.get("tool_name"), told.get("name"))


MOVES = [
    (cell, other)
    for cell in CELLS
    if cell.verdict == "400" and cell.feature != "unknown"
    for other, outcome in zip(TARGETS, TABLE[cell.front][cell.feature], strict=True)
    if outcome == "works"
]


def test_what_a_model_has_not_goes_elsewhere(simulated: Hosts, client: httpx.Client) -> None:
    simulated.behave(thinking=True)
    for front in (CHAT, OLLAMA_CHAT):
        cell = Cell(front, "openai", "thinking level", False, "works")
        response = asked(client, cell, model="ollama-then-openai", limit=None)
        assert read(cell, response, model="ollama-then-openai").thinking
        assert response.headers["x-llm-fallback-reason"] == "Unsupported"


@pytest.mark.parametrize(("cell", "other"), MOVES, ids=str)
def test_what_one_target_lacks_goes_to_one_that_has_it(
    simulated: Hosts, client: httpx.Client, cell: Cell, other: str
) -> None:
    model = f"{cell.target}-then-{other}"
    simulated.behave()
    before = len(simulated.asked(cell.target))
    response = asked(client, cell, model=model, limit=None)
    moved = Cell(cell.front, other, cell.feature, cell.stream, "works")
    read(moved, response, model=model)
    assert response.headers["x-llm-backend-type"] == other
    assert len(simulated.asked(cell.target)) == before
    arrived = ARRIVED[cell.feature].get(other)
    assert arrived is None or arrived(simulated.asked(other)[-1].body)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.real], ids=str)
@pytest.mark.usefixtures("real")
def test_a_real_host(client: httpx.Client, cell: Cell) -> None:
    model = f"real-{cell.target}"
    limit = None if cell.front in matrix.EMBEDDING else FEW
    response = asked(client, cell, model=model, limit=limit)
    answer = read(cell, response, model=model)
    dropped = cell.field if cell.verdict == "dropped" else None
    wire.headers(response, backend=cell.target, dropped=dropped)
    if cell.front in matrix.EMBEDDING:
        assert wire.HAS.get(cell.feature, lambda _: True)(answer)
        return
    match cell.feature:
        case "limit" | "usage":
            assert wire.HAS[cell.feature](answer), answer
        case "logprobs":
            assert "".join(answer.tokens) == answer.text
        case "seed":
            again = asked(client, cell, model=model, limit=limit)
            assert read(cell, again, model=model).text == answer.text
        case "stop":
            assert "STOP" not in answer.text
        case _:
            assert answer.text
    assert answer.completion_tokens is None or answer.completion_tokens <= FEW


def test_the_table_has_every_front_and_every_type_of_target() -> None:
    assert {front.name: path for path, front in ROUTES.items()} == {
        front: path for front, (path, _) in FRONTS.items()
    }
    assert set(TABLE) == set(FRONTS)
    assert set(TARGETS) == {each.value for each in TargetType}
    assert {feature for rows in TABLE.values() for feature in rows} == set(FEATURES)


def test_the_page_is_the_table() -> None:
    written = matrix.PAGE.read_text()
    assert written == matrix.render(), "run `python tests/conformance/matrix.py --write`"
