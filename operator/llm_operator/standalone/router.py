"""The router of `llmb up`: a process of its own, as in a pod, started again when it ends.

It holds our end of a pipe as its standard input and ends when that ends, so a killed `llmb up`
leaves no router that would block the next start.
"""

import asyncio
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

log = logging.getLogger(__name__)

#: Seconds until a router that ended is started again.
AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Where a router sends its usage records.

    Attributes:
        token_file: with the bearer token for it.
        spool: folder of those that were not delivered yet.
    """

    url: str
    token_file: Path
    spool: Path


class Router:
    """One supervised router process."""

    def __init__(
        self,
        config: Path,
        *,
        credentials: Path,
        port: int,
        management_port: int,
        usage: Usage,
        log_file: Path,
    ) -> None:
        self._settings = {
            "LLM_ROUTER_CONFIG": str(config),
            "LLM_ROUTER_CREDENTIALS": str(credentials),
            "LLM_ROUTER_PORT": str(port),
            "LLM_ROUTER_MANAGEMENT_HOST": "127.0.0.1",
            "LLM_ROUTER_MANAGEMENT_PORT": str(management_port),
            "LLM_ROUTER_USAGE_URL": usage.url,
            "LLM_ROUTER_USAGE_TOKEN_FILE": str(usage.token_file),
            "LLM_ROUTER_USAGE_SPOOL": str(usage.spool),
            "LLM_ROUTER_DRAIN_SECONDS": "2",
            "LLM_ROUTER_LIFELINE": "true",
        }
        self._log_file = log_file
        self._management = f"http://127.0.0.1:{management_port}"
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep one running until cancelled, then end it."""
        try:
            while True:
                await self._start()
                assert self._process is not None
                status = await self._process.wait()
                log.error("router_ended", extra={"status": status, "log": str(self._log_file)})
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            await self._end()

    async def ready(self, *, within: float) -> bool:
        """Whether it has a table to serve from, waiting so many seconds at most."""
        async with httpx.AsyncClient(timeout=1, trust_env=False) as client:
            try:
                async with asyncio.timeout(within):
                    while not await self._is_ready(client):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            except TimeoutError:
                return False
        return True

    async def reload(self) -> None:
        """Have it read its folders now: it follows a plain one only once a minute."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            try:
                await client.post(f"{self._management}/reload")
            except httpx.HTTPError as error:
                log.warning("router_not_reloaded", extra={"detail": str(error)})

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self._management}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _start(self) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("LLM_ROUTER_")}
        with self._log_file.open("ab") as output:
            # NB: a session of its own, so that Ctrl-C reaches us alone and we end it in order.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "llm_router.cli"),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=clean | self._settings,
                start_new_session=True,
            )

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(4):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
