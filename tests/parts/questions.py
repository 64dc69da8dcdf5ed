"""Requests of every kind whose right answer is known, and what became of each.

    ask(number) -> Question -> raw bytes -> (a router) -> verdict

Each request has its number in its text, and simulated hosts repeat the text, so an answer that is
cut, doubled or somebody else's is seen.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from parts.load import Reply, post

PATHS = ("/v1/chat/completions", "/api/chat", "/api/generate", "/v1/completions")
MODEL = "phi3:mini"

#: What each type of simulated host says before it repeats the text.
SAID = {
    "mlx": "Simulated mlx answers default_model: ",
    "ollama": "Simulated ollama answers phi3:mini: ",
}

#: The verdict of a stream that ended with an error, as it must when it can't go on.
BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Question:
    """One request."""

    number: int
    path: str
    stream: bool

    @property
    def text(self) -> str:
        return f"this is the request of number {self.number}"

    def raw(self) -> bytes:
        """The request as bytes."""
        body: dict[str, Any] = {"model": MODEL, "stream": self.stream}
        if "chat" in self.path:
            body["messages"] = [{"role": "user", "content": self.text}]
        else:
            body["prompt"] = self.text
        return post(self.path, json.dumps(body).encode())


def ask(number: int) -> Question:
    """The request of this number: all fronts, streamed and whole, take turns."""
    return Question(number, PATHS[number % 4], stream=bool(number // 4 % 2))


@dataclass(slots=True)
class Told:
    """An answer, read in its own protocol.

    Attributes:
        ended: it has the mark of a proper end, once, and nothing after it.
    """

    text: str = ""
    ended: bool = False
    error: bool = False


def verdict(question: Question, reply: Reply, *, text: str | None = None) -> str:
    """The type of the host that gave the whole right answer, BROKEN, or what is wrong.

    A broken stream is one that has begun, is the beginning of the right answer, ends with an error
    in the client's protocol and has no mark of a proper end.
    """
    if not reply.whole or reply.status != 200:
        return f"lost: {reply.status} {reply.error} {reply.body[:300]!r}"
    host = reply.headers.get("x-llm-backend-type", "")
    right = SAID[host] + question.text if text is None else text
    told = read(question, reply.body)
    if not told.error:
        return host if told.ended and told.text == right else f"wrong: {reply.body!r}"
    good = question.stream and told.text and not told.ended and right.startswith(told.text)
    return BROKEN if good else f"badly broken: {reply.body!r}"


def read(question: Question, body: bytes) -> Told:
    """What an answer says."""
    if not question.stream:
        document = json.loads(body)
        return Told(_said(document), ended=True, error="error" in document)
    return _events(body) if question.path.startswith("/v1") else _lines(body)


def _events(body: bytes) -> Told:
    parts = body.decode().split("\n\n")
    ended = parts[-2:] == ["data: [DONE]", ""] and parts.count("data: [DONE]") == 1
    data = [part.removeprefix("data: ") for part in parts if part.startswith("data: {")]
    told = _joined(map(json.loads, data))
    told.ended = ended or (told.error and "data: [DONE]" in parts)
    return told


def _lines(body: bytes) -> Told:
    pieces = [json.loads(line) for line in body.splitlines()]
    told = _joined(pieces)
    marks = [bool(piece.get("done")) for piece in pieces]
    told.ended = (marks[-1] and sum(marks) == 1) or (told.error and any(marks))
    return told


def _joined(pieces: Iterable[Any]) -> Told:
    told = Told()
    for piece in pieces:
        told.error = told.error or "error" in piece
        told.text += _said(piece)
    return told


def _said(piece: Any) -> str:
    if "choices" in piece:
        return "".join(_choice(choice) for choice in piece["choices"])
    return str(piece.get("message", {}).get("content", "") or piece.get("response", ""))


def _choice(choice: Any) -> str:
    said = choice.get("message") or choice.get("delta") or choice
    return str(said.get("content") or said.get("text") or "")
