"""Delivery of usage records: batches by POST to one URL, each at least once.

    spool -> POST {"records": [...]} -> 2xx -> gone from the spool

The receiver knows a record that comes twice by its request id. It may be away for as long as the
spool lasts: a batch is tried until it is taken or refused. Redirects are not followed.
"""

import asyncio
import logging
import random
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx

from llm_router.usage.spool import Batch, Spool

log = logging.getLogger(__name__)

#: Seconds between two batches when there is little to send.
PERIOD = 2.0

#: Seconds from the first pause after a failure to the longest.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0

#: Seconds a receiver can ask for by Retry-After.
LONGEST_WAIT = 600.0

TIMEOUT = httpx.Timeout(10.0, connect=3.0)


class Fate(StrEnum):
    """What became of a batch."""

    SENT = "sent"
    REJECTED = "rejected"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one try came to.

    Attributes:
        wait: seconds the receiver asked for; None where it did not.
    """

    fate: Fate
    reason: str = ""
    wait: float | None = None


class Shipper:
    """Sends what the spool holds.

    Attributes:
        sent: records that were taken.
        rejected: records that the receiver refused for good.
    """

    def __init__(
        self, spool: Spool, *, url: str, token_file: Path | None, period: float = PERIOD
    ) -> None:
        self._spool = spool
        self._url = url
        self._token_file = token_file
        self._period = period
        self._failures = 0
        # NB: not httpx's own list of authorities: the system's, which SSL_CERT_FILE changes.
        verify = ssl.create_default_context() if url.startswith("https:") else False
        self._client = httpx.AsyncClient(timeout=TIMEOUT, verify=verify, trust_env=False)
        self.sent = 0
        self.rejected = 0

    async def run(self) -> None:
        """Deliver until cancelled; never raises."""
        while True:
            try:
                pause = await self.deliver()
            except Exception:
                log.exception("usage_shipper_failed")
                pause = LONGEST_PAUSE
            await asyncio.sleep(pause)

    async def deliver(self) -> float:
        """Try to send until there is little left; how many seconds to pause then."""
        while (batch := await self._spool.next()) is not None:
            answer = await self._post(batch)
            if answer.fate is Fate.AGAIN:
                return self._again(answer)
            await self._settle(batch, answer)
            if not batch.more:
                break
        return self._period

    async def empty(self) -> None:
        """At the end: send all there is, until one batch is not taken."""
        while (batch := await self._spool.next()) is not None:
            answer = await self._post(batch)
            if answer.fate is Fate.AGAIN:
                return
            await self._settle(batch, answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _settle(self, batch: Batch, answer: Answer) -> None:
        if self._failures:
            self._failures = 0
            log.info("usage_delivery_resumed", extra={"url": self._url})
        count = len(batch.lines)
        if answer.fate is Fate.SENT:
            self.sent += count
        else:
            self.rejected += count
            extra = {"url": self._url, "records": count, "reason": answer.reason}
            log.error("usage_rejected", extra=extra)
        await self._spool.done(batch)

    def _again(self, answer: Answer) -> float:
        if not self._failures:
            extra = {"url": self._url, "reason": answer.reason}
            log.warning("usage_delivery_failing", extra=extra)
        pause = min(FIRST_PAUSE * (1 << min(self._failures, 16)), LONGEST_PAUSE)
        self._failures += 1
        if answer.wait is not None:
            # NB: all routers were told the same.
            return answer.wait * random.uniform(1.0, 1.1)
        return pause * random.uniform(0.5, 1.0)

    async def _post(self, batch: Batch) -> Answer:
        headers = {"content-type": "application/json"}
        try:
            if self._token_file is not None:
                # NB: read at each batch, as the kubelet replaces a projected token.
                token = self._token_file.read_text(encoding="ascii").strip()
                headers["authorization"] = f"Bearer {token}"
            response = await self._client.post(self._url, content=batch.body(), headers=headers)
        except (OSError, ValueError) as error:
            # NB: not the error's words, which could repeat the token.
            return Answer(Fate.AGAIN, f"the token can't be read: {type(error).__name__}")
        except httpx.HTTPError as error:
            return Answer(Fate.AGAIN, f"{type(error).__name__}: {error}")
        # NB: a response and its stream hold each other, and with them the batch that was sent; with
        # the router's thresholds the collector would let a hundred megabytes of them gather.
        response.stream = httpx.ByteStream(b"")
        return judge(response.status_code, response.headers.get("retry-after"))


def judge(status: int, retry_after: str | None) -> Answer:
    """What a status means: 2xx is taken, any 4xx but 408 and 429 refused for good."""
    if 200 <= status < 300:
        return Answer(Fate.SENT)
    reason = f"status {status}"
    if 400 <= status < 500 and status not in (408, 429):
        return Answer(Fate.REJECTED, reason)
    wait = None
    if status in (429, 503) and retry_after is not None and retry_after.strip().isdecimal():
        wait = min(float(retry_after), LONGEST_WAIT)
    return Answer(Fate.AGAIN, reason, wait)
