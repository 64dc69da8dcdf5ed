"""/healthz and /readyz: whether to restart this process, and whether it is at work.

Both only ask; they never look at the database or the API server themselves, because a restart helps
neither.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

logger = logging.getLogger(__name__)

#: "" when all is well, else what is not.
Check = Callable[[], str]


class NotListening(Exception):
    """The address can't be listened on. The message says which, why and what to set."""


@asynccontextmanager
async def serving(
    host: str, port: int, *, healthy: Check, ready: Check
) -> AsyncIterator[tuple[str, int]]:
    """Answer on an address while the block runs; the address it got is what the block is given.

    Raises:
        NotListening: the address is taken, or not of this machine.
    """
    app = web.Application()
    app.router.add_get("/healthz", _answer(healthy))
    app.router.add_get("/readyz", _answer(ready))
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


def _answer(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        problem = check()
        # NB: no keep-alive; kopf would wait for the task of an open connection when it ends.
        headers = {"Connection": "close"}
        return web.Response(
            text=f"{problem or 'ok'}\n", status=503 if problem else 200, headers=headers
        )

    return answer
