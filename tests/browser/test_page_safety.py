"""What the page keeps from others: the token, the session, and any host but its own."""

import asyncio
import json
import re

import httpx
from playwright.async_api import Browser, BrowserContext, expect

from browser.desk import Desk


async def test_a_wrong_token_is_told_and_a_good_one_goes_where_one_wanted_to(
    visitor: Desk,
) -> None:
    page = visitor.page
    await page.goto(f"{visitor.up.admin}/compare?hours=1")
    await expect(page).to_have_url(re.compile("/sign-in"))
    await expect(page.get_by_label("Token")).to_be_focused()
    await expect(page.get_by_text("admin.token", exact=True)).to_be_visible()
    await visitor.sign_in("wrong")
    await expect(page.get_by_role("alert")).to_contain_text("This token is not accepted")
    await expect(page.get_by_label("Token")).to_have_attribute("aria-invalid", "true")
    await visitor.sign_in()
    await visitor.alive()
    await expect(page).to_have_url(f"{visitor.up.admin}/compare?hours=1")


async def test_the_token_is_nowhere_in_the_browser(desk: Desk, context: BrowserContext) -> None:
    token = desk.up.token
    for path in ("/", "/new", "/routers", "/compare"):
        await desk.go(path)
        assert token not in await desk.page.content()
        stores = await desk.page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        )
        assert token not in stores
        assert json.loads(stores)[2] == "", "no script sees the cookie"
    assert token not in json.dumps(await context.cookies())
    assert not any(token in url for url in desk.requests)
    sources = await asyncio.gather(*(_source(context, desk.up.admin + p) for p in ("/", "/new")))
    assert not any(token in source for source in sources)


async def _source(context: BrowserContext, url: str) -> str:
    return await (await context.request.get(url, headers={"accept": "text/html"})).text()


async def test_the_cookie_is_for_this_site_and_no_script(
    desk: Desk, context: BrowserContext
) -> None:
    (cookie,) = await context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert not cookie["secure"], "this server speaks plain HTTP"
    assert cookie["expires"] == -1, "gone with the browser"


async def test_signing_out_closes_every_page(desk: Desk, context: BrowserContext) -> None:
    await desk.go("/")
    other = await context.new_page()
    await other.goto(f"{desk.up.admin}/routers")
    await other.wait_for_function("window.did_handshake === true")
    await desk.page.get_by_role("button", name="Sign out").click()
    await expect(desk.page.get_by_label("Token")).to_be_visible()
    await expect(other.get_by_label("Token")).to_be_visible()
    assert await context.cookies() == []


async def test_nothing_is_written_where_the_server_runs(desk: Desk) -> None:
    assert not [path.name for path in desk.up.folder.iterdir() if "nicegui" in path.name]


async def test_the_api_answers_as_if_there_were_no_page(desk: Desk) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        unknown = await client.get(f"{desk.up.admin}/api/unknown")
        assert unknown.status_code == 404
        assert unknown.headers["content-type"].startswith("application/json")
        wrong = await client.put(f"{desk.up.admin}/api/llm-backends/public")
        assert wrong.status_code in (401, 405)
        assert (await client.get(f"{desk.up.admin}/healthz")).text == "ok\n"


async def test_strangers_get_nothing_of_nicegui(desk: Desk, context: BrowserContext) -> None:
    await desk.go("/")
    scripts = [url for url in desk.requests if "/_nicegui/" in url]
    assert scripts
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        for url in scripts:
            assert (await client.get(url)).status_code == 401


async def test_a_socket_speaks_for_its_own_pages_alone(desk: Desk, browser: Browser) -> None:
    """Somebody else who is signed in, and has learnt the ids of a page, can't use it."""
    await desk.go("/")
    stolen = await desk.page.evaluate(
        """() => {
            const [id, element] = Object.entries(mounted_app.elements).find(
                ([, one]) => one.props?.type === "search");
            return {client_id: window.clientId, id: +id,
                listener_id: element.events[0].listener_id, args: ['"hijacked"']};
        }"""
    )
    other = await browser.new_context()
    url = desk.up.admin
    form = {"token": desk.up.token}
    await other.request.post(f"{url}/sign-in", form=form, headers={"Origin": url})
    page = await other.new_page()
    await page.goto(f"{url}/routers")
    await page.wait_for_function("window.did_handshake === true")
    said = {"client_id": stolen["client_id"], "level": "error", "message": "from another session"}
    await page.evaluate(
        "([event, log]) => (socket.emit('event', event), socket.emit('log', log))", [stolen, said]
    )
    # NB: what is sent over one socket is taken in order, so once this is answered, so was that.
    await page.get_by_label("Colours").select_option("dark")
    await page.wait_for_function("document.documentElement.style.colorScheme === 'dark'")
    await desk.page.get_by_label("State").select_option("Serving")
    await expect(desk.page).to_have_url(re.compile("state=good"))
    assert "hijacked" not in desk.page.url
    assert "from another session" not in (desk.up.data / "logs" / "operator.log").read_text()
    await other.close()
