"""The predecessor's admin API -> its rows. One GET, and nothing else is asked of it.

No message holds the token, or a user name or password that stands in the URL.
"""

import asyncio
import json
from typing import Any

import httpx

PATH = "/api/llm-backends"
#: Seconds for all of it, and bytes at most.
SECONDS, MOST = 60.0, 64 * 1024 * 1024

_REFUSED = {
    401: "wants a token: give its file by --token-file",
    403: "says that the token may not read backends",
    404: f"has no {PATH}: give the address of the predecessor's admin API",
}


class NoRows(Exception):
    """The API gave none. The message says why."""


async def backends(url: str, *, token: str = "") -> list[Any]:
    """What the API's list holds; what each one is has to be looked at.

    Raises:
        NoRows: it can't be asked, or its answer is no list.
    """
    base = url.rstrip("/").removesuffix(PATH)
    try:
        shown = str(httpx.URL(base).copy_with(userinfo=b"", query=None, fragment=None))
        status, raw = await _get(f"{base}{PATH}", token)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise NoRows("--from-api: this is no URL; give http://HOST:PORT") from None
    except (httpx.HTTPError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise NoRows(f"{shown}: no answer ({why})") from None
    if status != httpx.codes.OK:
        raise NoRows(f"{shown}: {_REFUSED.get(status, f'answered {status} instead of a list')}")
    if len(raw) > MOST:
        raise NoRows(f"{shown}: the list is longer than {MOST // 1024**2} MiB")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, list):
        raise NoRows(f"{shown}: answered something that is no list of backends in JSON")
    return document


async def _get(url: str, token: str) -> tuple[int, bytes]:
    # NB: a redirect is not followed: the token is for this host.
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    raw = bytearray()
    async with (
        asyncio.timeout(SECONDS),
        httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        async for piece in answer.aiter_bytes():
            raw += piece
            if len(raw) > MOST:
                break
        return answer.status_code, bytes(raw)
