"""API and page of `llmb up`: the admin side of its folder, in this process and for this machine.

    browser, curl, router -> API, page -> resources folder, embedded Postgres

NB: what it is made of takes a second or two to import. `prepare` does that in a thread while the
router starts in its own process, and nothing of it is imported before, so that no request to the
router waits for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from llm_operator.health import NotListening
from llm_operator.standalone.files import FolderSource

HOST = "127.0.0.1"
#: Where routers send usage.
USAGE = "/api/llm-backends/usage"
#: The file with the one token, in the data folder.
TOKEN = "admin.token"


class NotServed(Exception):
    """It can't serve. The message says why and what to do."""


async def prepare(data: Path) -> None:
    """Import what `serving` needs, and make the token at the first start.

    Raises:
        NotServed: the token can't be written.
    """
    await asyncio.to_thread(_prepare, data / TOKEN)


def _prepare(token: Path) -> None:
    from llm_operator.admin import site  # noqa: F401
    from llm_operator.admin.access import TokenFileError, make_token_file

    try:
        make_token_file(token)
    except TokenFileError as error:
        raise NotServed(str(error)) from None


@asynccontextmanager
async def serving(
    data: Path, *, port: int, source: FolderSource, dsn: str, router: str, management: str
) -> AsyncIterator[None]:
    """Serve while the block runs; `prepare` comes before.

    Args:
        data: the data folder.
        port: to listen on, on this machine alone.
        source: what the operator reads the resources by.
        dsn: of the embedded Postgres.
        router: URL of the router, for the try-it box.
        management: URL of its management port.

    Raises:
        NotServed: the port is taken, or others may read the token.
    """
    from llm_operator.admin import server, site, wiring
    from llm_operator.admin.access import TokenFileError

    async with AsyncExitStack() as stack:
        try:
            listener = server.listen(HOST, port, change="choose another by --admin-port")
            stack.callback(listener.close)
            parts = wiring.folder(
                data,
                token=data / TOKEN,
                source=source,
                dsn=dsn,
                router=router,
                management=management,
            )
            admin = await stack.enter_async_context(parts)
        except (TokenFileError, NotListening) as error:
            raise NotServed(str(error)) from None
        await stack.enter_async_context(server.serving(site.build(admin, public=True), listener))
        yield
