"""The try-it box's way to a model: a real router and simulated hosts behind it."""

from collections.abc import AsyncIterator

import pytest

from llm_operator.admin.errors import AdminError, Away, Invalid
from llm_operator.admin.trial import NO_MANAGEMENT, PROMPT, Begun, Ended, Piece, Trial
from llm_operator.simulate.behaviour import Behaviour
from llm_operator.simulate.journal import Outcome
from llm_operator.simulate.server import Simulator
from parts.eventually import eventually_async
from parts.process import free_port
from parts.router import Router, asked, mlx, ollama, route

MODEL = "trial:mini"


def url(simulator: Simulator) -> str:
    return f"http://127.0.0.1:{simulator.port}"


@pytest.fixture
async def trial(
    router: Router, ollama_simulator: Simulator, mlx_simulator: Simulator
) -> AsyncIterator[Trial]:
    """For a router with one model on two hosts."""
    router.publish(route(MODEL, mlx(url(mlx_simulator)), ollama(url(ollama_simulator))))
    made = Trial(router.url, router.management)
    yield made
    await made.close()


async def whole(trial: Trial, prompt: str = "Hello", tokens: int = 20) -> list[object]:
    return [one async for one in trial.ask(MODEL, prompt, tokens=tokens)]


async def test_an_answer_comes_in_pieces_with_who_gave_it_and_how_fast(trial: Trial) -> None:
    begun, *pieces, ended = await whole(trial)
    assert isinstance(begun, Begun)
    assert begun.type == "mlx"
    assert begun.backend.endswith("/mlx")
    assert begun.fallback_reason == ""
    assert len(pieces) > 1
    assert "".join(one.text for one in pieces if isinstance(one, Piece))
    assert isinstance(ended, Ended)
    assert ended.tokens is not None
    assert ended.tokens > 1
    assert ended.first_token_seconds is not None
    assert ended.tokens_per_second is not None
    assert 0 < ended.first_token_seconds <= ended.seconds


async def test_a_fallback_is_told(trial: Trial, mlx_simulator: Simulator) -> None:
    mlx_simulator.behaviour = Behaviour(mode="status:500")
    begun = (await whole(trial))[0]
    assert isinstance(begun, Begun)
    assert begun.type == "ollama"
    assert begun.fallback_reason


async def test_the_way_is_explained(trial: Trial) -> None:
    told = await trial.explain(MODEL)
    assert [one["name"] for one in told["targets"]] == ["mlx", "ollama"]
    assert told["would"] == "mlx"
    assert told["reason"]


async def test_who_leaves_early_ends_the_request_at_the_host(
    trial: Trial, mlx_simulator: Simulator
) -> None:
    mlx_simulator.behaviour = Behaviour(tokens_per_second=2)
    stream = trial.ask(MODEL, "Hello", tokens=4000)
    async for one in stream:
        if isinstance(one, Piece):
            break
    await stream.aclose()
    await eventually_async(lambda: asked(mlx_simulator, Outcome.CANCELLED) == 1, within=15)


@pytest.mark.parametrize(
    ("prompt", "tokens", "why"),
    [
        ("  ", 5, "prompt: write what to ask"),
        ("a" * (PROMPT + 1), 5, "at most"),
        ("a", 0, "tokens: must be from 1"),
        ("a", 10**6, "tokens: must be from 1"),
    ],
)
async def test_what_can_not_be_asked_is_said(
    trial: Trial, prompt: str, tokens: int, why: str
) -> None:
    with pytest.raises(Invalid, match=why):
        await whole(trial, prompt, tokens)


async def test_a_model_that_nobody_serves_is_the_routers_own_refusal(trial: Trial) -> None:
    with pytest.raises(Invalid, match="nobody:has-it"):
        await anext(trial.ask("nobody:has-it", "Hello"))
    assert (await trial.explain("nobody:has-it"))["would"] is None


async def test_a_stream_that_breaks_off_is_no_whole_answer(
    trial: Trial, mlx_simulator: Simulator
) -> None:
    mlx_simulator.behaviour = Behaviour(mode="cut-mid-stream:2")
    with pytest.raises(AdminError):
        await whole(trial)


async def test_no_router_is_said(trial: Trial) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    nobody = Trial(nowhere, nowhere)
    with pytest.raises(Away, match="does not answer"):
        await anext(nobody.ask(MODEL, "Hello"))
    with pytest.raises(Away, match="does not answer"):
        await nobody.explain(MODEL)
    await nobody.close()


async def test_without_a_management_port_the_way_is_not_known(router: Router) -> None:
    alone = Trial(router.url, None)
    with pytest.raises(Away) as caught:
        await alone.explain(MODEL)
    assert caught.value.detail == NO_MANAGEMENT
    await alone.close()
