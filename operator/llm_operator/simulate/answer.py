"""What a simulated model says: pure functions from a request to a fixed answer.

The same request always gives the same words, and the words say who answered. Nothing here knows
HTTP, time or a host's wire format.

    model, messages, tools, limits  ->  Answer (tokens, thinking, tool call, finish)
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_operator.simulate.behaviour import Kind


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The call a model makes of the first tool it was given."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is generated, token by token: the thinking, then the text, or a tool call."""

    tokens: tuple[str, ...]
    thinking: tuple[str, ...] = ()
    tool: ToolCall | None = None
    finish: str = "stop"

    @property
    def evaluated(self) -> int:
        """Tokens as both hosts count them: an answer that stops has generated its stop token."""
        call = words(json.dumps(self.tool.arguments)) if self.tool else ()
        made = len(self.thinking) + len(self.tokens) + len(call)
        return made if self.finish == "length" else made + 1


def words(text: str) -> tuple[str, ...]:
    """A text as tokens of one word each, the space kept in front of its word."""
    return tuple(re.findall(r"\s*\S+|\s+", text))


def sentence(kind: Kind, model: str, text: str, parameters: Mapping[str, object]) -> str:
    """The answer to a text. A text with the word "parameters" is told which ones arrived."""
    said = f"Simulated {kind} answers {model}: {text}"
    if "parameters" not in text:
        return said
    shown = (f"{name}={json.dumps(value)}" for name, value in sorted(parameters.items()))
    return f"{said} [{' '.join(shown)}]"


def compose(
    text: str, *, thinking: str = "", count: int = 0, limit: int = 0, stop: Sequence[str] = ()
) -> Answer:
    """The tokens of a text. `count` sets how many there are, `limit` how many are generated at
    most (0 = all), `stop` where the text ends."""
    thoughts, tokens = words(thinking), words(text)
    if count:
        extra = (f" t{number}" for number in range(len(tokens), count))
        tokens = (*tokens, *extra)[:count]
    tokens = _before(tokens, stop)
    finish = "stop"
    if limit and limit <= len(thoughts) + len(tokens):
        thoughts, finish = thoughts[:limit], "length"
        tokens = tokens[: limit - len(thoughts)]
    return Answer(tokens, thoughts, None, finish)


def _before(tokens: tuple[str, ...], stop: Sequence[str]) -> tuple[str, ...]:
    text = "".join(tokens)
    ends = [at for word in stop if word and (at := text.find(word)) >= 0]
    return words(text[: min(ends)]) if ends else tokens


def call(tools: object, text: str) -> ToolCall | None:
    """The call of the first tool, if there is one and the user's text has the word "tool"."""
    if not isinstance(tools, list) or not tools or "tool" not in text:
        return None
    function = tools[0].get("function") if isinstance(tools[0], dict) else None
    if not isinstance(function, dict):
        return None
    arguments = example(function.get("parameters") or {"type": "object"})
    return ToolCall(str(function.get("name", "")), arguments if isinstance(arguments, dict) else {})


def example(schema: object) -> Any:
    """A value that a JSON schema allows, as far as types, enums and properties say."""
    if not isinstance(schema, dict):
        return "simulated"
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    if "const" in schema:
        return schema["const"]
    for either in ("anyOf", "oneOf", "allOf"):
        if isinstance(options := schema.get(either), list) and options:
            return example(options[0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: example(inner) for name, inner in properties.items()}
    if kind == "array":
        return [example(schema["items"])] if "items" in schema else []
    return {"integer": 1, "number": 1.5, "boolean": True, "null": None}.get(kind, "simulated")


def structured(form: object, text: str) -> str:
    """The JSON text that `format` asks for."""
    value = example(form) if isinstance(form, dict) else {"answer": text}
    return json.dumps(value, ensure_ascii=False)


def last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message of the user, or of the last message."""
    of_user = [message for message in messages if message.get("role") == "user"]
    content = (of_user or list(messages) or [{}])[-1].get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """Tokens of a prompt: its words, and four for each message's template."""
    return sum(len(words(str(message.get("content") or ""))) + 4 for message in messages)


def token_ids(text: str) -> list[int]:
    """A number for each word, as a tokenizer would give."""
    return [int.from_bytes(hashlib.sha256(word.encode()).digest()[:2]) for word in words(text)]


def embedding(text: str, size: int) -> list[float]:
    """A vector for a text, seven digits to a number, not normalised."""
    stream = b"".join(
        hashlib.sha256(f"{block}:{text}".encode()).digest() for block in range(size // 16 + 1)
    )
    pairs = (stream[2 * i : 2 * i + 2] for i in range(size))
    return [round(int.from_bytes(pair) / 32768 - 1, 7) for pair in pairs]


def normalised(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [round(value / length, 7) for value in vector]
