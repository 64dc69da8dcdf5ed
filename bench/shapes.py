"""What is asked of the stub, as model names, and the requests that ask it.

A model name says how the stub answers, so every proxy under test carries the order through without
knowing it: `bench-static`, `bench-paced-RATE-COUNT-WAIT` (WAIT in ms before the first token) and
`bench-fast-COUNT`. This module is shared by the stub, the load and the routers' configurations, and
imports nothing of them.
"""

import json
import re
from dataclasses import dataclass

#: The path every request takes at the client's side, and its model's prefix for the other protocol.
OPENAI_CHAT = "/v1/chat/completions"
TRANSLATED = "translated/"
NAME = re.compile(rb'"model"\s*:\s*"bench-(static|paced-(\d+)-(\d+)-(\d+)|fast-(\d+))"')
STATIC = "bench-static"

#: About what a short question of an orchestrator is.
MESSAGES = [
    {"role": "system", "content": "You answer with one short sentence and nothing else."},
    {"role": "user", "content": "Which river flows through the town of Basel, and where to?"},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """One pattern of streams: `starts` of them, one `every` so many seconds.

    Attributes:
        label: its name.
        open: how many streams are open at once.
        rate: events a second in each stream; 0 is as fast as they are read.
        count: events in each stream.
        wait_ms: before the first token.
    """

    label: str
    open: int
    rate: int
    count: int
    starts: int
    every: float
    wait_ms: int = 20

    @property
    def model(self) -> str:
        """The model name that orders one such stream."""
        if self.rate == 0:
            return f"bench-fast-{self.count}"
        return f"bench-paced-{self.rate}-{self.count}-{self.wait_ms}"

    @property
    def seconds(self) -> float:
        """How long the pattern lasts when nothing slows it; a guess where the rate is 0."""
        each = self.count / self.rate + self.wait_ms / 1000 if self.rate else 2.0
        return self.starts * self.every + each


def spoken(streams: int, *, seconds: float) -> Paced:
    """`streams` open at a time at a chat's pace, each of one second, new ones all along."""
    starts = max(1, round(streams * seconds))
    return Paced(
        label=f"{streams} streams",
        open=streams,
        rate=50,
        count=50,
        starts=starts,
        every=1 / streams,
    )


def steady(*, seconds: float) -> Paced:
    """16 streams paced at 400 events/s: about one read for each event, and a busy core."""
    return Paced(
        label="16 x 400/s", open=16, rate=400, count=round(400 * seconds), starts=16, every=0.0101
    )


def fast(*, events: int) -> Paced:
    """16 streams as fast as they are read: what one core carries at most."""
    return Paced(label="fast", open=16, rate=0, count=events, starts=16, every=0.0, wait_ms=0)


def body(model: str, *, stream: bool) -> bytes:
    """The request."""
    document = {"model": model, "messages": MESSAGES, "stream": stream, "temperature": 0.2}
    return json.dumps(document, separators=(",", ":")).encode()
