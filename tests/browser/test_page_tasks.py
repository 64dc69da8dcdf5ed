"""Each thing that somebody does on the page: by mouse, by keyboard alone, and on a phone."""

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from playwright.async_api import expect

from browser.desk import Desk, every_way
from parts.admin import BASE

Made = Callable[..., Awaitable[dict[str, Any]]]


def mark() -> str:
    """A word that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}"


@every_way
async def test_the_list_is_searched_filtered_and_sorted(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    await desk.go("/")
    word = mark()
    await made(f"{word}-b", backend_type="ollama", enabled=False)
    await made(f"{word}-a", backend_type="mlx")
    page, hands = desk.page, desk.hands
    await expect(desk.row(f"{word}-a"), "it shows up by itself").to_be_visible()
    await hands.type(page.get_by_label("Search"), word)
    links = page.get_by_role("link", name=re.compile(f"^{word}"))
    await expect(links).to_have_text([f"{word}-a", f"{word}-b"])
    await expect(page).to_have_url(re.compile(rf"\?q={word}$"))
    await hands.choose(page.get_by_label("Type"), "ollama")
    await expect(links).to_have_text([f"{word}-b"])
    await expect(desk.row(f"{word}-b")).to_contain_text("Switched off")
    await hands.choose(page.get_by_label("Type"), "Any type")
    if await page.get_by_label("Sort by").is_visible():
        await hands.choose(page.get_by_label("Sort by"), "State, worst first")
    else:
        await hands.press(page.get_by_role("button", name="State", exact=True))
        sorted_by = page.get_by_role("columnheader", name="State")
        await expect(sorted_by).to_have_attribute("aria-sort", "ascending")
        await hands.press(page.get_by_role("button", name="Model", exact=True))
        await hands.press(page.get_by_role("button", name="Model", exact=True))
        await expect(links).to_have_text([f"{word}-b", f"{word}-a"])


@every_way
async def test_a_backend_is_switched_to_another_host(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    backend = await made(backend_type="ollama")
    await desk.go(f"/backends/{backend['uid']}")
    kinds = desk.page.get_by_role("group", name="Served by")
    await expect(kinds.get_by_role("button", pressed=True)).to_have_text("Ollama")
    await desk.hands.press(kinds.get_by_role("button", name="MLX"))
    await desk.told("It is served by MLX now.")
    await expect(kinds.get_by_role("button", pressed=True)).to_have_text("MLX")
    assert (await api.get(f"/{backend['uid']}")).json()["backend_type"] == "mlx"


@every_way
async def test_a_switch_that_a_rule_forbids_says_why(desk: Desk, made: Made) -> None:
    backend = await made(backend_type="ollama")
    await desk.go(f"/backends/{backend['uid']}")
    await desk.hands.press(desk.page.get_by_role("button", name="OpenAI API"))
    await desk.told("openai has no default address")


@every_way
async def test_a_backend_is_switched_off_and_on(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    await desk.go("/")
    backend = await made()
    model = backend["model_name"]
    await desk.hands.type(desk.page.get_by_label("Search"), model)
    switch = desk.row(model).get_by_role("switch")
    await expect(switch).to_have_attribute("aria-checked", "true")
    await desk.hands.press(switch)
    await desk.told(f"{model} is switched off.")
    await expect(switch).to_have_attribute("aria-checked", "false")
    assert (await api.get(f"/{backend['uid']}")).json()["enabled"] is False
    await desk.go(f"/backends/{backend['uid']}")
    await desk.hands.press(desk.page.get_by_role("switch", name="On"))
    await desk.told("It is switched on.")
    assert (await api.get(f"/{backend['uid']}")).json()["enabled"] is True


@every_way
async def test_a_rule_is_told_at_its_field_before_anything_is_sent(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    backend = await made(backend_type="ollama")
    await desk.go(f"/backends/{backend['uid']}/edit")
    hands, page = desk.hands, desk.page
    timeout = page.get_by_role("textbox", name="Timeout seconds")
    await hands.type(timeout, "60s")
    await expect(timeout).to_have_attribute("aria-invalid", "true")
    await expect(timeout).to_have_accessible_description(re.compile("without quotes or unit"))
    await hands.press(page.get_by_role("button", name="Save"))
    await expect(timeout).to_be_focused()
    assert (await api.get(f"/{backend['uid']}")).json()["generation"] == backend["generation"]
    await hands.type(timeout, "45")
    await expect(timeout).not_to_have_attribute("aria-invalid", "true")
    await hands.type(page.get_by_label("Description"), "For the tests.")
    await hands.press(page.get_by_role("button", name="Save"))
    await desk.told("Saved.")
    now = (await api.get(f"/{backend['uid']}")).json()
    assert (now["timeout_seconds"], now["description"]) == (45, "For the tests.")
    assert now["generation"] == backend["generation"] + 1


@every_way
async def test_targets_are_added_with_rules_of_their_own(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    backend = await made(backend_type="ollama")
    await desk.go(f"/backends/{backend['uid']}/edit")
    hands, page = desk.hands, desk.page
    await hands.choose(page.get_by_label("Backend type"), "Not set")
    await hands.press(page.get_by_role("button", name="Add to targets"))
    first = page.get_by_role("group", name="Target 1")
    await hands.type(first.get_by_label("Name (required)").first, "Big Mac")
    await expect(first).to_contain_text("Must be a lowercase RFC 1123 label")
    await hands.type(first.get_by_label("Name (required)").first, "big-mac")
    await hands.choose(first.get_by_label("Type (required)"), "mlx")
    await hands.press(page.get_by_role("button", name="Save"))
    await expect(first).to_contain_text("Set exactly one of endpointURL and serviceRef.")
    await hands.type(first.get_by_label("Endpoint URL"), "http://127.0.0.1:9")
    await hands.press(page.get_by_role("button", name="Save"))
    await desk.told("Saved")
    now = (await api.get(f"/{backend['uid']}")).json()
    assert now["backend_type"] == "mlx"
    assert [target["name"] for target in now["targets"]] == ["big-mac"]


@every_way
async def test_a_backend_is_made(desk: Desk, api: httpx.AsyncClient) -> None:
    await desk.go("/")
    model = f"{mark()}:mini"
    hands, page = desk.hands, desk.page
    await hands.press(page.get_by_role("link", name="New backend"))
    await desk.alive()
    await hands.press(page.get_by_role("button", name="Create"))
    name = page.get_by_label("Model name")
    await expect(name, "what is missing has the focus").to_be_focused()
    await expect(name).to_have_accessible_description(re.compile("Required value"))
    await hands.type(name, model)
    await hands.choose(page.get_by_label("Backend type"), "auto")
    await hands.press(page.get_by_role("button", name="Create"))
    await expect(page.get_by_role("heading", level=1)).to_have_text(model)
    listed = (await api.get(desk.up.admin + BASE)).json()
    backend = next(one for one in listed if one["model_name"] == model)
    assert backend["max_tokens"] == 2048, "what was shown is what is set"
    assert backend["state"] == "accepted"
    await api.delete(f"/{backend['uid']}")


@every_way
async def test_a_backend_is_deleted_once_its_name_is_typed(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    backend = await made()
    await desk.go(f"/backends/{backend['uid']}")
    hands, page = desk.hands, desk.page
    await hands.press(page.get_by_role("button", name="Delete …"))
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    delete = dialog.get_by_role("button", name="Delete")
    typed = dialog.get_by_label(f"Type {backend['name']} to delete it")
    await hands.type(typed, "something else")
    await expect(delete).to_be_disabled()
    await page.keyboard.press("Escape")
    await expect(dialog, "Escape closes it").not_to_be_visible()
    await expect(page.get_by_role("button", name="Delete …")).to_be_focused()
    assert (await api.get(f"/{backend['uid']}")).status_code == 200
    await hands.press(page.get_by_role("button", name="Delete …"))
    await hands.type(typed, backend["name"])
    await hands.press(delete)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Backends")
    assert (await api.get(f"/{backend['uid']}")).status_code == 404


@every_way
async def test_history_shows_what_changed_and_goes_back(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    backend = await made(priority=7)
    at = f"/{backend['uid']}"
    assert (await api.put(at, json={"priority": 8})).status_code == 200
    await desk.go(f"/backends{at}/history")
    entries = desk.page.get_by_role("list", name="Generations").get_by_role("listitem")
    second = desk.page.get_by_role("list", name="What generation 2 changed")
    await expect(second).to_have_text("priority7→8")
    await expect(entries.first).to_contain_text("In use")
    await desk.hands.press(desk.page.get_by_role("button", name="Return to generation 1"))
    await desk.told("It is as it was at generation 1; that is generation 3 now.")
    third = desk.page.get_by_role("list", name="What generation 3 changed")
    await expect(third).to_have_text("priority8→7")
    assert (await api.get(at)).json()["priority"] == 7


def record(model: str, kind: str, seconds: float, *, at: float) -> dict[str, object]:
    """A usage record as routers send it."""
    return {
        "request_id": uuid.uuid4().hex,
        "at": at,
        "model": model,
        "backend": f"{model}/{kind}",
        "target": kind,
        "backend_type": kind,
        "outcome": "ok",
        "total_seconds": seconds,
        "first_token_seconds": seconds / 4,
        "completion_tokens": 50,
        "decode_tokens_per_second": 50 / seconds,
    }


@every_way
async def test_backends_are_compared_with_verdicts_and_charts(
    desk: Desk, api: httpx.AsyncClient
) -> None:
    await desk.go("/")
    model = f"{mark()}-compared"
    now = time.time()
    records = [
        record(model, kind, seconds + (place % 5) / 50, at=now - 60 * place)
        for kind, seconds, count in (("ollama", 2.0, 30), ("mlx", 1.0, 30), ("openai", 1.5, 3))
        for place in range(count)
    ]
    assert (await api.post("/usage", json={"records": records})).is_success
    hands, page = desk.hands, desk.page
    await hands.press(page.get_by_role("link", name="Compare"))
    await desk.alive()
    await hands.type(page.get_by_label("Model"), model)
    await page.keyboard.press("Enter")
    table = page.get_by_role("region", name="Comparison")
    row = table.get_by_role("row")
    await expect(row.filter(has_text="Ollama")).to_contain_text("Baseline")
    await expect(row.filter(has_text="MLX")).to_contain_text("Faster")
    await expect(row.filter(has_text="MLX")).to_contain_text(re.compile(r"1\.9\d× \(1\.\d+ to"))
    few = row.filter(has_text="OpenAI API")
    await expect(few).to_contain_text("Not enough data")
    speeds = page.get_by_role(
        "img", name=re.compile(r"^Tokens per second: Ollama from .* MLX from")
    )
    await expect(speeds).to_be_visible()
    await expect(
        page.get_by_role("img", name=re.compile("^Time of a request, in seconds: "))
    ).to_be_visible()
    await hands.choose(page.get_by_label("Baseline"), "MLX")
    await expect(row.filter(has_text="Ollama")).to_contain_text("Slower")
    await hands.choose(page.get_by_label("By", exact=True), "Target")
    await expect(row.filter(has_text="Ollama")).to_contain_text("Baseline")


@every_way
async def test_a_prompt_is_answered_and_its_way_is_shown(desk: Desk, made: Made) -> None:
    backend = await made()
    await desk.go(f"/backends/{backend['uid']}/try")
    hands, page = desk.hands, desk.page
    way = page.get_by_role("list", name="Targets, in order of trying")
    await expect(way.get_by_role("listitem").first).to_contain_text("Would be asked first")
    await expect(way.get_by_role("listitem").nth(1)).to_contain_text("In reserve, place 2")
    await hands.type(page.get_by_label("Prompt"), "Good morning.")
    await hands.press(page.get_by_role("button", name="Send"))
    answer = page.get_by_role("region", name="Answer")
    await expect(answer).to_contain_text("Simulated mlx answers default_model: Good morning.")
    await expect(answer).to_contain_text(f"{backend['name']}/mlx (mlx) answers.")
    await expect(answer).to_contain_text(re.compile(r"Done in .*first token after .*tokens/s"))


@every_way
async def test_an_answer_is_cancelled(desk: Desk, made: Made) -> None:
    backend = await made()
    await desk.go(f"/backends/{backend['uid']}/try")
    hands, page = desk.hands, desk.page
    way = page.get_by_role("list", name="Targets, in order of trying")
    await expect(way).to_contain_text("Would be asked first")
    await page.get_by_label("Prompt").fill("word " * 2000)
    await hands.type(page.get_by_label("Tokens at most"), "2000")
    await hands.press(page.get_by_role("button", name="Send"))
    answer = page.get_by_role("region", name="Answer")
    await expect(answer).to_contain_text("word word word")
    await hands.press(page.get_by_role("button", name="Cancel"))
    await expect(answer).to_contain_text("Cancelled. The host was told to stop.")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


@every_way
async def test_routers_tell_their_configuration(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    await desk.go("/")
    backend = await made()
    await desk.hands.press(desk.page.get_by_role("link", name="Routers"))
    await desk.alive()
    await expect(desk.main).to_contain_text("Up to date")
    await expect(desk.main).to_contain_text(re.compile("Configuration[0-9a-f]{12}"))
    await desk.hands.press(desk.page.locator("summary"))
    row = desk.page.get_by_role("row").filter(has_text=backend["model_name"])
    await expect(row).to_contain_text("mlx: ")


async def test_an_open_router_follows_a_change_and_stays_open(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    backend = await made()
    await desk.go("/routers")
    await desk.page.locator("summary").click()
    row = desk.page.get_by_role("row").filter(has_text=backend["model_name"])
    # NB: a host is probed every 15 s, and routers are asked every few.
    await expect(row).to_contain_text("mlx: Healthy", timeout=60_000)
    await api.put(f"/{backend['uid']}", json={"priority": 3})
    await expect(row.get_by_role("cell").nth(1)).to_have_text("2", timeout=60_000)


@every_way
async def test_somebody_elses_change_is_never_overwritten(
    desk: Desk, made: Made, api: httpx.AsyncClient
) -> None:
    backend = await made(backend_type="ollama")
    await desk.go(f"/backends/{backend['uid']}/edit")
    hands, page = desk.hands, desk.page
    await hands.type(page.get_by_label("Priority"), "5")
    assert (await api.put(f"/{backend['uid']}", json={"priority": 6})).status_code == 200
    await hands.press(page.get_by_role("button", name="Save"))
    await expect(desk.main).to_contain_text("Somebody changed this backend")
    assert (await api.get(f"/{backend['uid']}")).json()["priority"] == 6
    await hands.press(page.get_by_role("button", name="Load what is there now"))
    await expect(page.get_by_label("Priority")).to_have_value("6")
    await hands.type(page.get_by_label("Priority"), "5")
    await hands.press(page.get_by_role("button", name="Save"))
    await desk.told("Saved.")
    assert (await api.get(f"/{backend['uid']}")).json()["priority"] == 5


@every_way
async def test_the_yaml_is_shown_and_copied(desk: Desk, made: Made) -> None:
    backend = await made()
    await desk.go(f"/backends/{backend['uid']}")
    yaml = desk.page.get_by_label("YAML of this backend")
    await expect(yaml).to_contain_text(f"modelName: {backend['model_name']}")
    await desk.hands.press(desk.page.get_by_role("button", name="Copy"))
    await desk.told("Copied.")
    copied = await desk.page.evaluate("navigator.clipboard.readText()")
    assert copied == await yaml.text_content()


@every_way
async def test_colours_are_chosen_and_kept(desk: Desk) -> None:
    await desk.go("/")
    colour = "getComputedStyle(document.body).backgroundColor"
    before = await desk.page.evaluate(colour)
    dark = before == "rgb(18, 19, 22)"
    other = "Colours: light" if dark else "Colours: dark"
    await desk.hands.choose(desk.page.get_by_label("Colours"), other)
    await desk.page.wait_for_function(f"{colour} !== '{before}'")
    await desk.go("/routers")
    assert await desk.page.evaluate(colour) != before
    await expect(desk.page.get_by_label("Colours").locator("option:checked")).to_have_text(other)
