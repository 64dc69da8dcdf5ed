"""The pictures of docs/page.md, taken anew: PYTHONPATH=tests python -m browser.pictures docs/images

It starts `llmb up` in a folder of its own with simulated hosts, makes some backends and traffic,
and ends it again. Times and names of hosts in the pictures are those of that run.
"""

import argparse
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, expect, sync_playwright

from parts.eventually import eventually
from parts.up import Up, folder

TARGETS = [
    {"name": "mac-studio", "type": "mlx", "endpointURL": "{mlx}", "tier": 0},
    {"name": "gpu-box", "type": "ollama", "endpointURL": "http://127.0.0.1:9", "tier": 1},
]

BACKENDS: tuple[Mapping[str, Any], ...] = (
    {"model_name": "llama3.1:70b", "targets": TARGETS, "description": "For long answers."},
    {"model_name": "qwen2.5-coder:7b", "backend_type": "mlx", "description": "For the editors."},
    {"model_name": "gemma3:4b", "backend_type": "ollama", "enabled": False},
)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="the folder to write to")
    images: Path = parser.parse_args().images
    images.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="llmb-"))
    place.chmod(0o755)
    try:
        with folder(place) as up:
            up.start()
            uids = prepared(up)
            take(up, uids, images)
    finally:
        shutil.rmtree(place)


def prepared(up: Up) -> Mapping[str, str]:
    """Backends with a history, and a day of traffic of two hosts. Model -> uid."""
    with up.client() as api:
        hosts = {"mlx": up.told("MLX"), "ollama": up.told("Ollama")}
        for one in BACKENDS:
            targets = [
                {**each, "endpointURL": each["endpointURL"].format(**hosts)}
                for each in one.get("targets", ())
            ]
            made = api.post(
                f"{up.admin}/api/llm-backends", json={**one, "targets": targets or None}
            )
            assert made.is_success, made.text
        listed = api.get(f"{up.admin}/api/llm-backends").json()
        uids = {one["model_name"]: one["uid"] for one in listed}
        coder = uids["qwen2.5-coder:7b"]
        for change in ({"priority": 50}, {"backend_type": "ollama", "timeout_seconds": 90}):
            assert api.put(f"/{coder}", json=change).is_success
        sent = list(records("phi3:mini"))
        for at in range(0, len(sent), 400):
            assert api.post("/usage", json={"records": sent[at : at + 400]}).is_success
        for model in ("phi3:mini", "llama3.1:70b", "qwen2.5-coder:7b"):
            for _ in range(6):
                eventually(lambda model=model: up.ask(model).is_success, within=20)
        eventually(lambda: settled(api, up), within=90)
    return uids


def settled(api: httpx.Client, up: Up) -> bool:
    """Whether routers have judged every target that takes requests."""
    listed = api.get(f"{up.admin}/api/llm-backends").json()
    states = [t["state"] for one in listed if one["enabled"] for t in one["live_targets"]]
    return "Unknown" not in states and "Down" in states


def records(model: str) -> Iterator[dict[str, object]]:
    """A day of requests, as routers send them: MLX is faster, and slower at noon."""
    now = time.time()
    for place in range(240):
        for kind, seconds in (("mlx", 1.1), ("ollama", 1.9)):
            wave = 1 + 0.18 * ((place // 20) % 5 - 2) / 2 + 0.1 * ((place * 7) % 10 - 5) / 5
            yield {
                "request_id": uuid.uuid4().hex,
                "at": now - 360 * place,
                "model": model,
                "backend_type": kind,
                "target": kind,
                "outcome": "ok",
                "total_seconds": seconds * wave,
                "first_token_seconds": 0.2 * wave,
                "completion_tokens": 60,
                "decode_tokens_per_second": 60 / seconds / wave,
            }


def take(up: Up, uids: Mapping[str, str], images: Path) -> None:
    """All pictures, with one browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme, width in (("light", 1200), ("dark", 1200), ("dark", 390)):
            context = browser.new_context(
                color_scheme=scheme,  # type: ignore[arg-type]
                viewport={"width": width, "height": 760},
                reduced_motion="reduce",
            )
            page = context.new_page()
            page.goto(f"{up.admin}/sign-in")
            page.get_by_label("Token").fill(up.token)
            page.get_by_role("button", name="Sign in").click()
            if width < 800:
                shot(page, up, "/", images / "page-list-narrow.png")
            elif scheme == "light":
                shot(page, up, "/", images / "page-list.png")
                shot(page, up, "/compare?model=phi3:mini", images / "page-compare.png", height=860)
                path = f"/backends/{uids['qwen2.5-coder:7b']}/history"
                shot(page, up, path, images / "page-history.png")
                path = f"/backends/{uids['phi3:mini']}/edit"
                shot(page, up, path, images / "page-settings.png", wrong="60s")
            else:
                path = f"/backends/{uids['llama3.1:70b']}"
                shot(page, up, path, images / "page-backend.png", height=1040)
                path = f"/backends/{uids['llama3.1:70b']}/try"
                shot(page, up, path, images / "page-try.png", height=820, ask=True)
            context.close()
        browser.close()


def shot(
    page: Page,
    up: Up,
    path: str,
    file: Path,
    *,
    height: int = 760,
    ask: bool = False,
    wrong: str = "",
) -> None:
    """One picture. `ask`: of an answer; `wrong`: with this typed where a number belongs."""
    width = (page.viewport_size or {})["width"]
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{up.admin}{path}")
    page.wait_for_function("window.did_handshake === true")
    if ask:
        page.get_by_label("Prompt").fill("Which host are you, and what is this page for?")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("Done in")).to_be_visible(timeout=20_000)
    if wrong:
        field = page.get_by_role("textbox", name="Timeout seconds")
        field.fill(wrong)
        expect(page.get_by_text("without quotes or unit")).to_be_visible(timeout=20_000)
        field.evaluate("e => e.scrollIntoView({block: 'center'})")
    page.screenshot(path=file)


if __name__ == "__main__":
    main()
