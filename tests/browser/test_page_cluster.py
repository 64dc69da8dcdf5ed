"""The page in a cluster: who may do what, and what belongs to a GitOps pipeline."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, expect

from browser.desk import Desk, Hands, Way, every_way
from parts.access import expect as accepted
from parts.service import Cluster

GROUP = "/apis/llm.athena.dev/v1alpha1"


@pytest_asyncio.fixture(loop_scope="session")
async def page_of(
    context: BrowserContext, cluster: Cluster, way: Way
) -> AsyncIterator[Callable[[str], Any]]:
    """Sign in with a token of the cluster."""

    async def signed_in(token: str) -> Desk:
        page = await context.new_page()
        site: Any = SimpleNamespace(admin=cluster.url, token=token)
        desk = Desk(page, site, Hands(page, keyboard=way.keyboard))
        await page.goto(f"{cluster.url}/sign-in")
        await desk.sign_in()
        await desk.alive()
        return desk

    yield signed_in


@pytest.fixture
def managed(cluster: Cluster) -> dict[str, Any]:
    """A backend that Argo CD manages."""
    identity = f"shop:llm.athena.dev/LLMBackend:{cluster.namespace}/managed"
    manifest = {
        "apiVersion": "llm.athena.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {
            "name": "managed",
            "annotations": {"argocd.argoproj.io/tracking-id": identity},
        },
        "spec": {"modelName": "managed:1b", "backendType": "ollama"},
    }
    path = f"{GROUP}/namespaces/{cluster.namespace}/llmbackends"
    with cluster.control_plane.client() as administrator:
        found = administrator.get(f"{path}/managed")
        if found.status_code == httpx.codes.NOT_FOUND:
            found = administrator.post(path, json=manifest)
        accepted(found)
    document: dict[str, Any] = found.json()
    return document


@every_way
async def test_what_a_pipeline_manages_gets_the_yaml_to_commit(
    page_of: Callable[[str], Any], cluster: Cluster, managed: dict[str, Any]
) -> None:
    desk = await page_of(cluster.token)
    uid = managed["metadata"]["uid"]
    await expect(desk.row("managed:1b")).to_contain_text("Argo CD (shop)")
    await desk.go(f"/backends/{uid}")
    await expect(desk.main).to_contain_text("Managed by Argo CD (shop)")
    await desk.hands.press(desk.page.get_by_role("button", name="MLX"))
    await desk.told("is managed by Argo CD (shop)")
    dialog = desk.page.get_by_role("dialog", name="managed by a pipeline")
    await expect(dialog).to_be_visible()
    await expect(dialog.get_by_label("YAML to commit")).to_contain_text("backendType: mlx")
    await desk.hands.press(dialog.get_by_role("button", name="Copy"))
    copied = await desk.page.evaluate("navigator.clipboard.readText()")
    assert "backendType: mlx" in copied
    assert "tracking-id" not in copied
    await desk.page.keyboard.press("Escape")
    await expect(dialog).not_to_be_visible()
    await desk.go(f"/backends/{uid}/edit")
    await desk.hands.type(desk.page.get_by_label("Priority"), "7")
    await desk.hands.press(desk.page.get_by_role("button", name="Show the YAML to commit"))
    await expect(dialog.get_by_label("YAML to commit")).to_contain_text("priority: 7")


async def test_who_may_only_look_is_told_which_right_is_missing(
    page_of: Callable[[str], Any], cluster: Cluster, managed: dict[str, Any]
) -> None:
    desk = await page_of(cluster.reader.token)
    await expect(desk.row("managed:1b")).to_be_visible()
    await desk.row("managed:1b").get_by_role("switch").click()
    await desk.told("may not update llmbackends.llm.athena.dev")


async def test_who_may_nothing_is_told_so(page_of: Callable[[str], Any], cluster: Cluster) -> None:
    desk = await page_of(cluster.stranger.token)
    await desk.told("may not list llmbackends.llm.athena.dev")


async def test_who_was_deleted_is_signed_out(
    page_of: Callable[[str], Any], cluster: Cluster, managed: dict[str, Any]
) -> None:
    user = cluster.control_plane.create_user("leaving")
    name = user.name.rpartition(":")[2]
    desk = await page_of(user.token)
    with cluster.control_plane.client() as administrator:
        accepted(administrator.delete(f"/api/v1/namespaces/default/serviceaccounts/{name}"))
    await expect(desk.page.get_by_label("Token")).to_be_visible(timeout=60_000)
    await expect(desk.page.get_by_role("alert")).to_contain_text("is not accepted any more")
