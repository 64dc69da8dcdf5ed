"""Probes and the router's own checks while hosts hang, lie, refuse and come back."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    ActiveCheck,
    Auth,
    HealthCheck,
    PassiveCheck,
    Route,
    Target,
    TargetType,
    Waits,
)
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.server import Simulator, unlisten
from llm_router.breaker import Phase
from llm_router.credentials import Credentials
from llm_router.errors import Cause
from llm_router.mount import Published
from llm_router.probe import Prober, confirm, prober
from llm_router.select import Verdict, judge
from llm_router.standing import Standings
from llm_router.table import Destination, Table, default_entry
from llm_router.transport import Pool
from parts.eventually import eventually_async
from parts.process import free_port
from parts.router import files, mlx, ollama, route

FAST = ActiveCheck(interval=0.1, timeout=0.4, unhealthy_threshold=2)
OFF = ActiveCheck(enabled=False)
SECRETS = Credentials(values={"key": b"a-secret"}, folder="x")


def at(simulator: Simulator) -> str:
    return f"http://127.0.0.1:{simulator.port}"


@dataclass(slots=True)
class Scripted:
    """An HTTP server that answers each path as it is told, and 404 elsewhere."""

    answers: dict[str, tuple[int, bytes]]
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, fields = head.decode().partition("\r\n")
                path = line.split(" ")[1]
                self.asked.append((path, fields))
                length = int(fields.lower().partition("content-length: ")[2].split("\r\n")[0])
                await reader.readexactly(length)
                status, body = self.answers.get(path, (404, b"no such page"))
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode())
                writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    made = Scripted({})
    server = await asyncio.start_server(made.converse, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    await unlisten(server)
    await server.wait_closed()


def models(*names: str) -> tuple[int, bytes]:
    return 200, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode()


def openai(server: Scripted, **more: Any) -> Target:
    return Target(name="vllm", type=TargetType.OPENAI, url=server.url, **({"model": "big"} | more))


@dataclass(slots=True)
class Bench:
    """A prober that runs, and what it has found."""

    pool: Pool
    standings: Standings
    prober: Prober
    table: Table | None = None

    def follow(
        self,
        *targets: Target,
        active: ActiveCheck = FAST,
        passive: PassiveCheck | None = None,
    ) -> list[Destination]:
        """Route `m1`, `m2`, ... to these; returns them ready to be asked."""
        health = HealthCheck(active=active, passive=passive or PassiveCheck())
        routes = [replace(route(f"m{n}", t), health=health) for n, t in enumerate(targets, 1)]
        return self.swap(*routes)

    def swap(self, *routes: Route) -> list[Destination]:
        payload = files(*routes)
        published = Published(payload[CONFIG_KEY], payload[CHECKSUM_KEY].decode())
        self.table = table = Table.build(published, self.standings, SECRETS)
        self.standings.keep(table.standings())
        self.prober.follow(table)
        return [table.entries[one.model].destinations[0] for one in routes]

    def fail(self, destination: Destination, *, times: int = 3, model: str = "m1") -> None:
        """Requests fail as an asker tells it."""
        assert self.table is not None
        entry = self.table.entries[model]
        for _ in range(times):
            now = asyncio.get_running_loop().time()
            policy = entry.route.health.passive
            if destination.standing.failed(Cause.NO_REPLY, now, policy, why="it closed"):
                self.prober.confirm(destination, entry)

    def breaks(self, destination: Destination, *, times: int = 3) -> None:
        """Answers break off after their first token."""
        assert self.table is not None
        entry = self.table.entries["m1"]
        for _ in range(times):
            now = asyncio.get_running_loop().time()
            destination.standing.answered()
            if destination.standing.broke(now, entry.route.health.passive, why="it closed"):
                self.prober.confirm(destination, entry)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    before = asyncio.all_tasks()
    pool, standings = Pool(), Standings()
    made = Prober(pool, standings)
    running = asyncio.create_task(made.run())
    yield Bench(pool, standings, made)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    own = [t for t in asyncio.all_tasks() - before if "llm_router" in repr(t.get_coro())]
    assert own == [], "a probe outlived its prober"
    await pool.close()
    assert pool.counts().open == 0


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that need no seconds."""
    monkeypatch.setattr(confirm, "PATIENCE", 0.5)
    monkeypatch.setattr(confirm, "SPACING", 0.3)
    monkeypatch.setattr(confirm, "TAIL", 0.3)


def verdict(destination: Destination) -> Verdict:
    return judge(destination, asyncio.get_running_loop().time())


async def becomes(destination: Destination, wanted: Verdict, *, within: float = 10) -> None:
    def check() -> bool:
        assert verdict(destination) is wanted
        return True

    await eventually_async(check, within=within)


async def probed(destination: Destination, *, times: int = 3) -> None:
    """Wait until so many more probes of its host have been made."""
    for _ in range(times):
        last = destination.standing.host.probed_at
        await eventually_async(
            lambda last=last: destination.standing.host.probed_at > last,  # type: ignore[misc]
            within=10,
            every=0.01,
        )


def generations(simulator: Simulator) -> int:
    return sum(one.method == "POST" for one in simulator.requests)


FAILING: dict[str, Callable[[str], Behaviour]] = {
    "hang": lambda _: Behaviour(mode="hang-before-headers"),
    "close": lambda _: Behaviour(mode="close-without-response"),
}


@pytest.mark.parametrize("how", FAILING)
@pytest.mark.parametrize("kind", ["ollama", "mlx"])
async def test_a_host_that_fails_is_unhealthy_until_it_recovers(
    bench: Bench, ollama_simulator: Simulator, mlx_simulator: Simulator, how: str, kind: str
) -> None:
    simulator = ollama_simulator if kind == "ollama" else mlx_simulator
    [destination] = bench.follow((ollama if kind == "ollama" else mlx)(at(simulator)))
    await becomes(destination, Verdict.HEALTHY)
    simulator.behaviour = FAILING[how](kind)
    await becomes(destination, Verdict.UNHEALTHY)
    assert destination.standing.host.reason
    simulator.behaviour = Behaviour()
    await becomes(destination, Verdict.HEALTHY)
    assert generations(simulator) == 0, "a probe costs no tokens"


async def test_a_host_that_is_down_at_first_is_found_when_it_comes(bench: Bench) -> None:
    made = Scripted({"/v1/models": models("big")}, port=free_port())
    [destination] = bench.follow(openai(made))
    await becomes(destination, Verdict.UNHEALTHY)
    server = await asyncio.start_server(made.converse, "127.0.0.1", made.port)
    await becomes(destination, Verdict.HEALTHY)
    bench.swap()
    await unlisten(server)
    await bench.pool.close()
    await server.wait_closed()


async def test_one_bad_probe_is_not_enough(bench: Bench, ollama_simulator: Simulator) -> None:
    patient = replace(FAST, unhealthy_threshold=1000)
    [destination] = bench.follow(ollama(at(ollama_simulator)), active=patient)
    await becomes(destination, Verdict.HEALTHY)
    ollama_simulator.behaviour = Behaviour(mode="close-without-response")
    await probed(destination)
    assert verdict(destination) is Verdict.HEALTHY


async def test_healthy_again_takes_as_many_good_probes_as_asked(
    bench: Bench, ollama_simulator: Simulator
) -> None:
    patient = replace(FAST, healthy_threshold=1000)
    ollama_simulator.behaviour = Behaviour(mode="close-without-response")
    [destination] = bench.follow(ollama(at(ollama_simulator)), active=patient)
    await becomes(destination, Verdict.UNHEALTHY)
    ollama_simulator.behaviour = Behaviour()
    await probed(destination)
    assert verdict(destination) is Verdict.UNHEALTHY


async def test_a_host_that_hangs_delays_no_other(
    bench: Bench, ollama_simulator: Simulator, mlx_simulator: Simulator
) -> None:
    mlx_simulator.behaviour = Behaviour(mode="hang-before-headers")
    slow = replace(FAST, timeout=60, interval=60)
    hanging = [
        replace(route(f"h{n}", mlx(f"{at(mlx_simulator)}/{n}")), health=HealthCheck(active=slow))
        for n in range(20)
    ]
    fine = replace(route("fine", ollama(at(ollama_simulator))), health=HealthCheck(active=FAST))
    *_, destination = bench.swap(*hanging, fine)
    await eventually_async(lambda: mlx_simulator.count() == 20, within=10)
    await probed(destination, times=5)
    assert verdict(destination) is Verdict.HEALTHY


async def test_a_host_that_leaves_the_table_is_asked_no_more(
    bench: Bench, ollama_simulator: Simulator
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="hang-before-headers")
    slow = replace(FAST, timeout=60)
    bench.follow(ollama(at(ollama_simulator)), active=slow)
    await eventually_async(lambda: ollama_simulator.count() == 1, within=10)
    bench.swap()
    # The probe under way is given up at once: its connection closes.
    await eventually_async(lambda: bench.pool.counts().open == 0, within=2)
    assert bench.standings.hosts() == []


async def test_a_swap_that_keeps_a_host_keeps_what_is_known_of_it(
    bench: Bench, ollama_simulator: Simulator, mlx_simulator: Simulator
) -> None:
    slow = replace(FAST, interval=60)
    [destination] = bench.follow(ollama(at(ollama_simulator)), active=slow)
    await becomes(destination, Verdict.HEALTHY)
    asked = ollama_simulator.count()
    for _ in range(5):
        [again, _] = bench.follow(ollama(at(ollama_simulator)), mlx(at(mlx_simulator)), active=slow)
        assert again.standing is destination.standing
        bench.follow(ollama(at(ollama_simulator)), active=slow)
    # As long as a new plan's first look may take to begin, and as long again.
    await asyncio.sleep(2 * prober.SOON)
    assert verdict(destination) is Verdict.HEALTHY
    assert ollama_simulator.count() == asked, "a swap is no reason to ask again"


async def test_probing_that_is_switched_off_forgets_what_it_said(
    bench: Bench, ollama_simulator: Simulator
) -> None:
    ollama_simulator.behaviour = Behaviour(mode="close-without-response")
    [destination] = bench.follow(ollama(at(ollama_simulator)))
    await becomes(destination, Verdict.UNHEALTHY)
    [destination] = bench.follow(ollama(at(ollama_simulator)), active=OFF)
    assert verdict(destination) is Verdict.UNKNOWN


async def test_a_zombie_and_a_loading_host_are_healthy_to_a_probe(
    bench: Bench, ollama_simulator: Simulator, mlx_simulator: Simulator
) -> None:
    mlx_simulator.behaviour = Behaviour(mode="zombie")
    ollama_simulator.behaviour = Behaviour(mode="cold-load", ttft_ms=60_000)
    cold, zombie = bench.follow(ollama(at(ollama_simulator)), mlx(at(mlx_simulator)))
    await becomes(cold, Verdict.HEALTHY)
    await becomes(zombie, Verdict.HEALTHY)
    assert cold.standing.loaded is False


async def test_a_dead_generation_that_an_mlx_server_admits_is_unhealthy(
    bench: Bench, mlx_simulator: Simulator
) -> None:
    mlx_simulator.behaviour = Behaviour(mode="generation-died")
    [destination] = bench.follow(mlx(at(mlx_simulator)))
    await becomes(destination, Verdict.UNHEALTHY)
    assert "503" in destination.standing.host.reason


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (models("big", "other"), Verdict.HEALTHY),
        (models("other"), Verdict.MODEL_MISSING),
        (models(), Verdict.HEALTHY),
        ((200, b"not json"), Verdict.HEALTHY),
        ((404, b"no"), Verdict.HEALTHY),
        ((405, b"no"), Verdict.HEALTHY),
        ((401, b"no"), Verdict.HEALTHY),
        ((429, b"no"), Verdict.HEALTHY),
        ((500, b"no"), Verdict.UNHEALTHY),
        ((503, b"no"), Verdict.UNHEALTHY),
        ((200, b"x" * 5_000_000), Verdict.HEALTHY),
    ],
    ids=["there", "gone", "empty", "junk", "404", "405", "401", "429", "500", "503", "huge"],
)
async def test_what_an_openai_server_s_list_says(
    bench: Bench, scripted: Scripted, answer: tuple[int, bytes], wanted: Verdict
) -> None:
    scripted.answers["/v1/models"] = answer
    [destination] = bench.follow(openai(scripted))
    await becomes(destination, wanted)


async def test_a_model_that_need_not_be_listed_is_not_missing(
    bench: Bench, scripted: Scripted
) -> None:
    scripted.answers["/v1/models"] = models("other")
    [destination] = bench.follow(openai(scripted))
    await becomes(destination, Verdict.MODEL_MISSING)
    [destination] = bench.follow(openai(scripted), active=replace(FAST, require_model=False))
    await becomes(destination, Verdict.HEALTHY)


@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_that_are_refused_are_a_fault_of_the_configuration(
    bench: Bench, scripted: Scripted, status: int
) -> None:
    scripted.answers["/v1/models"] = (status, b"no")
    closed = openai(scripted, auth=Auth(credential="key"))
    slow = replace(FAST, interval=0.3)
    [destination] = bench.follow(closed, active=slow)
    await becomes(destination, Verdict.MISCONFIGURED)
    assert "a-secret" not in destination.standing.why
    assert any("a-secret" in fields for _, fields in scripted.asked)
    scripted.answers["/v1/models"] = models("big")
    await becomes(destination, Verdict.HEALTHY)


async def test_a_health_path_is_asked_instead(bench: Bench, scripted: Scripted) -> None:
    scripted.answers = {"/ready": (204, b""), "/v1/models": (500, b"")}
    [destination] = bench.follow(openai(scripted, health_path="/ready"))
    await becomes(destination, Verdict.HEALTHY)
    scripted.answers["/ready"] = (503, b"")
    await becomes(destination, Verdict.UNHEALTHY)
    assert "/ready" in destination.standing.host.reason
    scripted.answers = {"/ready": (204, b""), "/v1/models": models("other")}
    await becomes(destination, Verdict.MODEL_MISSING)


async def test_a_token_counts_for_more_than_a_probe(bench: Bench, scripted: Scripted) -> None:
    scripted.answers["/health"] = (500, b"")
    slow = replace(FAST, interval=0.5, unhealthy_threshold=2)
    [destination] = bench.follow(openai(scripted, health_path="/health"), active=slow)
    await becomes(destination, Verdict.UNHEALTHY)
    destination.standing.answered()
    await probed(destination, times=1)
    assert verdict(destination) is Verdict.UNKNOWN
    await becomes(destination, Verdict.UNHEALTHY)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(
    "mode",
    ["zombie", "hang-before-headers", "generation-died", "status:500", "cut-mid-stream:1"],
)
async def test_a_target_that_fails_its_check_is_ejected(
    bench: Bench, mlx_simulator: Simulator, mode: str
) -> None:
    mlx_simulator.behaviour = Behaviour(mode=mode)
    [destination] = bench.follow(mlx(at(mlx_simulator)), active=OFF)
    bench.fail(destination)
    assert destination.standing.breaker.phase(0) is Phase.CLOSED
    await becomes(destination, Verdict.EJECTED)
    assert "check" in destination.standing.why
    assert generations(mlx_simulator) == 1


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("mode", ["cut-mid-stream:3", "hang-mid-stream:3"])
@pytest.mark.parametrize("kind", ["ollama", "mlx"])
async def test_a_target_whose_answers_break_off_is_asked_for_more_than_a_token(
    bench: Bench,
    ollama_simulator: Simulator,
    mlx_simulator: Simulator,
    kind: str,
    mode: str,
) -> None:
    simulator = ollama_simulator if kind == "ollama" else mlx_simulator
    simulator.behaviour = Behaviour(mode=mode)
    of = ollama if kind == "ollama" else mlx
    [destination] = bench.follow(of(at(simulator), waits=Waits(stream_idle=0.2)), active=OFF)
    bench.breaks(destination)
    await becomes(destination, Verdict.EJECTED)
    assert "check" in destination.standing.why


@pytest.mark.usefixtures("patience")
async def test_a_target_that_can_finish_is_not_ejected_for_broken_answers(
    bench: Bench, mlx_simulator: Simulator
) -> None:
    [destination] = bench.follow(mlx(at(mlx_simulator)), active=OFF)
    bench.breaks(destination, times=50)
    await eventually_async(lambda: generations(mlx_simulator) == 1, within=10)
    await eventually_async(lambda: not destination.standing.doubted, within=10)
    assert destination.standing.breaker.phase(0) is Phase.CLOSED


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", ["ollama", "mlx"])
async def test_a_target_that_answers_its_check_is_never_ejected(
    bench: Bench, ollama_simulator: Simulator, mlx_simulator: Simulator, kind: str
) -> None:
    simulator = ollama_simulator if kind == "ollama" else mlx_simulator
    target = (ollama if kind == "ollama" else mlx)(at(simulator))
    [destination] = bench.follow(target, active=OFF)
    for count in range(1, 4):
        bench.fail(destination, times=50)
        await eventually_async(lambda: not destination.standing.doubted, within=10)
        assert generations(simulator) == count, "one check, however many failures"
    assert destination.standing.proven is None


@pytest.mark.usefixtures("patience")
async def test_a_check_of_an_ejected_target_is_no_storm(
    bench: Bench, mlx_simulator: Simulator
) -> None:
    mlx_simulator.behaviour = Behaviour(mode="zombie")
    [destination] = bench.follow(mlx(at(mlx_simulator)), active=OFF)
    bench.fail(destination)
    await becomes(destination, Verdict.EJECTED)
    bench.fail(destination, times=100)
    await asyncio.sleep(2 * confirm.SPACING)
    assert generations(mlx_simulator) == 1


@pytest.mark.usefixtures("patience")
async def test_a_wish_that_comes_too_soon_waits_and_is_not_lost(
    bench: Bench, ollama_simulator: Simulator
) -> None:
    [destination] = bench.follow(ollama(at(ollama_simulator)), active=OFF)
    bench.fail(destination)
    await eventually_async(lambda: not destination.standing.doubted, within=10)
    clock = asyncio.get_running_loop().time
    first = clock()
    bench.fail(destination)
    await eventually_async(lambda: generations(ollama_simulator) == 2, within=10, every=0.005)
    assert clock() - first >= confirm.SPACING * 0.8


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("status", [400, 405, 422])
async def test_a_clear_refusal_proves_a_target_able(
    bench: Bench, scripted: Scripted, status: int
) -> None:
    scripted.answers["/v1/chat/completions"] = (status, b'{"error": "no chat here"}')
    [destination] = bench.follow(openai(scripted), active=OFF)
    bench.fail(destination)
    await eventually_async(lambda: not destination.standing.doubted, within=10)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("status", [404, 408, 500, 503])
async def test_other_statuses_prove_it_failing(
    bench: Bench, scripted: Scripted, status: int
) -> None:
    scripted.answers["/v1/chat/completions"] = (status, b"")
    [destination] = bench.follow(openai(scripted), active=OFF)
    bench.fail(destination)
    await becomes(destination, Verdict.EJECTED)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("status", [401, 429])
async def test_a_check_that_tells_nothing_changes_nothing_and_is_made_again(
    bench: Bench, scripted: Scripted, status: int
) -> None:
    scripted.answers["/v1/chat/completions"] = (status, b"")
    [destination] = bench.follow(openai(scripted), active=OFF)
    bench.fail(destination)
    await eventually_async(lambda: destination.standing.proven is None, within=10)
    assert destination.standing.breaker.phase(0) is Phase.CLOSED
    scripted.answers["/v1/chat/completions"] = (500, b"")
    bench.fail(destination, times=1)
    await becomes(destination, Verdict.EJECTED)


@pytest.mark.usefixtures("patience")
async def test_a_request_that_was_answered_meanwhile_knows_better(
    bench: Bench, mlx_simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    mlx_simulator.behaviour = Behaviour(mode="zombie")
    [destination] = bench.follow(mlx(at(mlx_simulator)), active=OFF)
    bench.fail(destination)
    await eventually_async(lambda: mlx_simulator.count() == 1, within=10)
    destination.standing.answered()
    await eventually_async(
        lambda: any(r.message == "target_confirmed_failing" for r in caplog.records), within=10
    )
    assert (destination.standing.doubted, destination.standing.proven) == (False, None)


async def test_a_cold_model_is_given_longer(bench: Bench, ollama_simulator: Simulator) -> None:
    ollama_simulator.behaviour = Behaviour(mode="cold-load", ttft_ms=300)
    [destination] = bench.follow(ollama(at(ollama_simulator)))
    await eventually_async(lambda: destination.standing.loaded is False, within=10)
    assert confirm.patience(destination) == confirm.COLD_PATIENCE
    bench.fail(destination)
    await eventually_async(lambda: not destination.standing.doubted, within=10)
    await eventually_async(lambda: destination.standing.loaded is True, within=10)
    assert confirm.patience(destination) == confirm.PATIENCE


async def test_no_client_sets_the_router_to_work_by_naming_models(
    bench: Bench, ollama_simulator: Simulator
) -> None:
    for number in range(20):
        entry = default_entry(str(number), url=at(ollama_simulator), standings=bench.standings)
        bench.prober.confirm(entry.destinations[0], entry)
    await asyncio.sleep(0.1)
    assert ollama_simulator.count() == 0


@pytest.mark.usefixtures("patience")
async def test_no_log_line_holds_a_secret(
    bench: Bench, scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.answers = {"/v1/models": (500, b""), "/v1/chat/completions": (500, b"")}
    with caplog.at_level(logging.DEBUG, logger="llm_router"):
        [destination] = bench.follow(openai(scripted, auth=Auth(credential="key")))
        bench.fail(destination)
        await becomes(destination, Verdict.EJECTED)
        await eventually_async(lambda: destination.standing.host.healthy is False, within=10)
    assert {"host_unhealthy", "target_confirmed_failing"} <= {r.message for r in caplog.records}
    assert not [r for r in caplog.records if "a-secret" in str(vars(r))]
