"""The list of backends: searched, sorted, a page at a time."""

import pytest

from llm_operator.admin.page.rows import PAGE, Query, Row, Sort, choose, sorted_by
from llm_operator.admin.page.words import Saying, Tone


def row(model: str, **more: object) -> Row:
    given = {
        "uid": f"uid-{model}",
        "name": model.replace(":", "-"),
        "namespace": "default",
        "model": model,
        "type": "mlx",
        "saying": Saying(Tone.GOOD, "Serving"),
        "targets": (),
        "routers": "1/1",
        "speed": None,
        "enabled": True,
        "owner": None,
        "numbers": True,
    }
    return Row(**(given | more))  # type: ignore[arg-type]


def models(rows: list[Row], query: Query) -> list[str]:
    return [one.model for one in choose(rows, query).rows]


ROWS = [
    row("phi3:mini", speed=40.0, routers="2/2"),
    row("llama3", type="ollama", speed=9.5, saying=Saying(Tone.BAD, "No target answers")),
    row("Gemma", type="auto", saying=Saying(Tone.WARN, "Degraded"), routers="10/12"),
    row("qwen", namespace="lab", routers="", saying=Saying(Tone.IDLE, "Switched off")),
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), ["Gemma", "llama3", "phi3:mini", "qwen"]),
        (Query(down=True), ["qwen", "phi3:mini", "llama3", "Gemma"]),
        (Query(sort=Sort.STATE), ["llama3", "Gemma", "qwen", "phi3:mini"]),
        (Query(sort=Sort.SPEED, down=True), ["phi3:mini", "llama3", "Gemma", "qwen"]),
        (Query(sort=Sort.ROUTERS), ["qwen", "llama3", "phi3:mini", "Gemma"]),
        (Query(sort=Sort.TYPE), ["Gemma", "phi3:mini", "qwen", "llama3"]),
        (Query(text="LAB"), ["qwen"]),
        (Query(text="target no"), ["llama3"]),
        (Query(type="auto"), ["Gemma"]),
        (Query(tone=Tone.IDLE), ["qwen"]),
        (Query(text="nothing like it"), []),
    ],
)
def test_what_is_wanted_in_the_order_that_is_wanted(query: Query, expected: list[str]) -> None:
    assert models(ROWS, query) == expected


def test_a_thousand_come_a_page_at_a_time() -> None:
    rows = [row(f"model-{place:04}") for place in range(1000)]
    first = choose(rows, Query())
    assert len(first.rows) == PAGE
    assert (first.first, first.found, first.total, first.pages) == (0, 1000, 1000, 40)
    last = choose(rows, Query(page=39))
    assert last.rows[-1].model == "model-0999"
    beyond = choose(rows, Query(page=70, text="model-00"))
    assert beyond.first == 75, "the last page there is"
    assert beyond.found == 100


def test_a_heading_pressed_again_turns_the_order_round() -> None:
    once = sorted_by(Query(page=3), Sort.TYPE)
    assert (once.sort, once.down, once.page) == (Sort.TYPE, False, 0)
    assert sorted_by(once, Sort.TYPE).down
    assert sorted_by(once, Sort.SPEED).down, "the fastest first"


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(text="a b&c", type="mlx", tone=Tone.BAD, sort=Sort.SPEED, down=True, page=2),
    ],
)
def test_an_address_tells_the_same_again(query: Query) -> None:
    import httpx

    assert Query.of(dict(httpx.URL(query.address).params)) == query


@pytest.mark.parametrize(
    "given", [{"page": "-1"}, {"page": "x"}, {"page": "9" * 30}, {"sort": "x"}, {"state": "x"}]
)
def test_an_address_that_somebody_made_up_shows_the_list(given: dict[str, str]) -> None:
    assert Query.of(given) == Query()
