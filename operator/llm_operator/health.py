"""/healthz, /readyz and /metrics: whether to restart this process, whether it is at work, and how
much.

They only ask; they never look at the database or the API server themselves, because a restart helps
neither.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

logger = logging.getLogger(__name__)

#: "" when all is well, else what is not.
Check = Callable[[], str]

#: NB: all answers go without keep-alive; kopf would wait for the task of an open connection when it
#: ends.
CLOSE = {"Connection": "close"}
#: The format of /metrics.
EXPOSITION = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class NotListening(Exception):
    """The address can't be listened on. The message says which, why and what to set."""


@asynccontextmanager
async def serving(
    host: str,
    port: int,
    *,
    healthy: Check,
    ready: Check,
    well: Check = lambda: "ok",
    metrics: Callable[[], bytes] | None = None,
) -> AsyncIterator[tuple[str, int]]:
    """Answer on an address while the block runs; the address it got is what the block is given.

    Args:
        host: to listen on.
        port: to listen on; 0 for a free one.
        healthy: what /healthz asks.
        ready: what /readyz asks.
        well: what /readyz says when nothing is missing.
        metrics: the exposition; None for none.

    Raises:
        NotListening: the address is taken, or not of this machine.
    """
    app = web.Application()
    app.router.add_get("/healthz", _answer(healthy, lambda: "ok"))
    app.router.add_get("/readyz", _answer(ready, well))
    if metrics is not None:
        app.router.add_get("/metrics", _exposition(metrics))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise NotListening(
                f"can't listen on {host}:{port} ({error.strerror}): "
                "set LLMB_HEALTH_HOST and LLMB_HEALTH_PORT"
            ) from error
        address = runner.addresses[0]
        logger.info("health_listening", extra={"host": address[0], "port": address[1]})
        yield address[0], address[1]
    finally:
        await runner.cleanup()


def _answer(check: Check, well: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        problem = check()
        status = 503 if problem else 200
        return web.Response(text=f"{problem or well()}\n", status=status, headers=CLOSE)

    return answer


def _exposition(
    render: Callable[[], bytes],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=render(), headers=CLOSE | EXPOSITION)

    return answer
