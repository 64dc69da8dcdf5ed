"""The application of the stories, run in a pod by the image's Python beside an injected router.

Two workers ask the model at 127.0.0.1:11434 for as long as the pod lives: one for whole answers in
OpenAI's protocol, one for streams in Ollama's. Each answer is read to its end and checked. What
became of them is told at /counts of port 9000. It knows nothing of the cluster, the router or the
hosts, as no application does, and asks nobody else.
"""

import http.server
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

ROUTER = "http://127.0.0.1:11434"
MODEL = os.environ.get("MODEL", "phi3:mini")
#: Between the end of an answer and the next question, so that two processors are not filled.
PAUSE_SECONDS = 0.03
MESSAGES = [{"role": "user", "content": "one two three"}]

Ask = Callable[[httpx.Client, str], str]


@dataclass(slots=True)
class Counts:
    """What became of the requests so far.

    Attributes:
        ended: the number of the last request of each worker that is over; they are numbered from 1.
        failures: the number, the worker and the reason of each that failed.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    answered: Counter[str] = field(default_factory=Counter)
    ended: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    last: float = 0.0
    longest: float = 0.0

    def answer(self, worker: str, number: int, by: str) -> None:
        """One whole right answer of this type of host."""
        with self.lock:
            now = time.time()
            if self.last:
                self.longest = max(self.longest, now - self.last)
            self.last = now
            self.answered[by] += 1
            self.ended[worker] = number

    def failure(self, worker: str, number: int, why: str) -> None:
        """One request that got no whole right answer."""
        with self.lock:
            self.failures.append((worker, number, f"{time.time():.3f} {why}"))
            self.ended[worker] = number

    def told(self, *, anew: bool) -> dict[str, Any]:
        """All of it. `anew`: the longest pause is counted from here on."""
        with self.lock:
            told = {
                "answered": dict(self.answered),
                "ended": dict(self.ended),
                "failures": self.failures[-1000:],
                "failed": len(self.failures),
                "longest": max(self.longest, time.time() - self.last if self.last else 0.0),
            }
            if anew:
                self.longest = 0.0
            return told


def whole(client: httpx.Client, identity: str) -> str:
    """Ask for a whole answer. The type of the host that gave it."""
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 8}
    headers = {"x-request-id": identity}
    answer = client.post("/v1/chat/completions", json=body, headers=headers)
    if answer.status_code != httpx.codes.OK:
        raise ValueError(f"{answer.status_code} {answer.text[:200]}")
    if not answer.json()["choices"][0]["message"]["content"]:
        raise ValueError(f"an empty answer: {answer.text[:200]}")
    return answer.headers["x-llm-backend-type"]


def stream(client: httpx.Client, identity: str) -> str:
    """Ask for a stream and read it to its end. The type of the host that gave it."""
    body = {"model": MODEL, "messages": MESSAGES, "options": {"num_predict": 8}}
    headers = {"x-request-id": identity}
    with client.stream("POST", "/api/chat", json=body, headers=headers) as answer:
        lines = [json.loads(line) for line in answer.iter_lines() if line]
    if answer.status_code != httpx.codes.OK or not lines or not lines[-1].get("done"):
        raise ValueError(f"{answer.status_code} {json.dumps(lines)[-200:]}")
    if not "".join(line["message"]["content"] for line in lines):
        raise ValueError(f"an empty stream: {json.dumps(lines)[-200:]}")
    return answer.headers["x-llm-backend-type"]


def work(worker: str, ask: Ask, counts: Counts) -> None:
    """Ask for ever."""
    number = 0
    with httpx.Client(base_url=ROUTER, timeout=60, trust_env=False) as client:
        while True:
            number += 1
            try:
                counts.answer(worker, number, ask(client, f"{worker}-{number}"))
            except (httpx.HTTPError, ValueError, KeyError) as error:
                counts.failure(worker, number, f"{type(error).__name__}: {error}")
            time.sleep(PAUSE_SECONDS)


def serve(counts: Counts) -> None:
    """Tell the counts, for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(counts.told(anew="anew" in self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the counts say it all."""

    http.server.ThreadingHTTPServer(("0.0.0.0", 9000), Handler).serve_forever()


def main() -> None:
    """Both workers and the counts, until the pod ends."""
    counts = Counts()
    pod = os.environ.get("HOSTNAME", "orchestrator")
    asks: dict[str, Ask] = {"whole": whole, "stream": stream}
    for name, ask in asks.items():
        of = (f"{pod}-{name}", ask, counts)
        threading.Thread(target=work, args=of, daemon=True).start()
    serve(counts)


if __name__ == "__main__":
    main()
