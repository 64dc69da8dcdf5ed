"""`llmb admin`: API and page for a cluster, one process, until a signal.

It sees to the order of things: settings, the address, what is behind API and page, the app on them.
It waits for nobody: it serves what it can while API server or Postgres are away.
"""

import argparse
import asyncio
import gc
import logging
import os
import sys
from contextlib import AsyncExitStack

from llm_operator import logs
from llm_operator.admin import server, site, wiring
from llm_operator.admin.settings import Settings, table
from llm_operator.api import NotConfigured
from llm_operator.health import NotListening
from llm_operator.record import InvalidDatabaseURL
from llm_operator.settings import SettingsError
from llm_operator.term import ended_by_signal

logger = logging.getLogger(__name__)

#: Exit codes: ended as asked; could not go on; not set up rightly.
ENDED, FAILED, WRONG = 0, 1, 2

EXAMPLE = """\
example:
  LLMB_DATABASE_URL=postgresql://llmb:secret@postgres:5432/llmb llmb admin

The API server is found by KUBECONFIG, else by the pod's service account, else by ~/.kube/config.
`llmb up` runs the same for a folder on one machine.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command; all it takes are environment variables."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Serve the admin API and the page; take in usage of routers."
    parser.epilog = f"settings (environment variables):\n{table()}\n\n{EXAMPLE}"


async def run(_: argparse.Namespace) -> int:
    """Run until a signal. Returns the exit status."""
    try:
        settings = Settings.from_environment(os.environ)
        logs.configure(settings.log_level)
        return await serve(settings)
    except (SettingsError, NotConfigured, InvalidDatabaseURL, NotListening) as error:
        sys.stderr.write(f"llmb admin: {error}\n")
        return WRONG
    except Exception:
        logger.exception("admin_failed")
        return FAILED


async def serve(settings: Settings, *, stop: asyncio.Event | None = None) -> int:
    """Run until `stop` is set or, in the main thread, until SIGTERM or SIGINT. Returns the exit
    code.

    Args:
        settings: of the admin service.
        stop: ends it; belongs to the running loop.

    Raises:
        NotConfigured: nothing names an API server.
        InvalidDatabaseURL: the database URL can't be used.
        NotListening: an address can't be listened on.
        SettingsError: the certificate can't be used.
    """
    stop = stop or asyncio.Event()
    ended_by_signal(stop)
    listener = server.listen(
        settings.host, settings.port, change="set LLMB_ADMIN_HOST and LLMB_ADMIN_PORT"
    )
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        admin = await stack.enter_async_context(wiring.cluster(settings))
        app = site.build(admin, public=settings.public)
        # NB: what was imported lives for ever; without this a full collection walks all of it, and
        # everybody waits 50 ms.
        gc.collect()
        gc.freeze()
        running = await stack.enter_async_context(
            server.serving(app, listener, certificate=settings.certificate)
        )
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if running.done():
            running.result()
            logger.error("admin_server_ended")
            return FAILED
    logger.info("admin_ended")
    return ENDED
