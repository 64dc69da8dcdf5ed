"""What every front does with every feature on every type of target, as data.

    TABLE -> test_matrix.py, which asks the router for each cell
    TABLE -> render -> docs/conformance.md    (python tests/conformance/matrix.py --write)

An outcome is one of

    works            the answer has it, and the host was asked for it
    400: <field>     refused, and the error names the field; with another target that can, it moves
    dropped: <field> answered, and `x-llm-dropped` names the field
    model: <field>   the host was asked for it; a model that has no such thing refuses it

and holds for a streamed and for a whole answer alike. A feature that a front has not is not there.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"

TARGETS = ("ollama", "mlx", "openai")

WORKS = "works"

CHAT, TEXT = "openai_chat", "openai_completions"
OLLAMA_CHAT, OLLAMA_TEXT = "ollama_chat", "ollama_generate"
UNIFIED = "generate"
VECTORS, OLLAMA_VECTORS, OLDER_VECTORS = (
    "openai_embeddings",
    "ollama_embed",
    "ollama_embeddings",
)

#: Front -> its path, and whose client speaks it.
FRONTS: Mapping[str, tuple[str, str]] = {
    CHAT: ("/v1/chat/completions", "OpenAI chat"),
    TEXT: ("/v1/completions", "OpenAI text completions"),
    OLLAMA_CHAT: ("/api/chat", "Ollama chat"),
    OLLAMA_TEXT: ("/api/generate", "Ollama generate"),
    UNIFIED: ("/generate", "unified"),
    VECTORS: ("/v1/embeddings", "OpenAI embeddings"),
    OLLAMA_VECTORS: ("/api/embed", "Ollama embed"),
    OLDER_VECTORS: ("/api/embeddings", "Ollama embeddings"),
}

EMBEDDING = frozenset({VECTORS, OLLAMA_VECTORS, OLDER_VECTORS})

#: Feature -> how a client asks for it, in the page's words.
FEATURES: Mapping[str, str] = {
    "text": "a text",
    "system": "a system text",
    "turns": "several turns",
    "tools": "tools: the call, then its result",
    "tool choice": "`tool_choice: required`",
    "thinking": "thinking, switched on",
    "thinking level": "thinking, at a level",
    "json": "JSON",
    "schema": "JSON by a schema",
    "image": "an image",
    "image url": "an image by its URL",
    "logprobs": "log probabilities",
    "stop": "stop strings",
    "seed": "a seed and temperature 0",
    "top_k": "`top_k`",
    "limit": "a limit of tokens",
    "usage": "token counts",
    "n": "several answers",
    "suffix": "a suffix",
    "raw": "no chat template",
    "unknown": "an unknown field",
    "unknown option": "an option that only Ollama has",
    "vector": "one text",
    "vectors": "several texts",
    "dimensions": "a number of dimensions",
    "tokens": "tokens in place of text",
    "base64": "vectors as base64",
}

ALL = (WORKS, WORKS, WORKS)


def only(field: str, *, ollama: bool = False, openai: bool = False) -> tuple[str, str, str]:
    """Outcomes of what no MLX host has: a 400 that names the field, or it works."""
    refused = f"400: {field}"
    return WORKS if ollama else refused, refused, WORKS if openai else refused


#: Front -> feature -> the outcomes on TARGETS, in their order.
TABLE: Mapping[str, Mapping[str, tuple[str, str, str]]] = {
    CHAT: {
        "text": ALL,
        "system": ALL,
        "turns": ALL,
        "tools": ALL,
        "tool choice": only("tool_choice", openai=True),
        "thinking": ALL,
        "thinking level": ("model: think", WORKS, WORKS),
        "json": only("response_format", ollama=True, openai=True),
        "schema": only("response_format", ollama=True, openai=True),
        "image": only("image_url", ollama=True, openai=True),
        "image url": only("image_url.url", openai=True),
        "logprobs": only("logprobs", ollama=True, openai=True),
        "stop": ALL,
        "seed": ALL,
        "top_k": ALL,
        "limit": ALL,
        "usage": ALL,
        "n": only("n", openai=True),
        "unknown": ("dropped: x_unknown", "dropped: x_unknown", WORKS),
    },
    TEXT: {
        "text": ALL,
        "logprobs": only("logprobs", ollama=True, openai=True),
        "stop": ALL,
        "seed": ALL,
        "top_k": ALL,
        "limit": ALL,
        "usage": ALL,
        "n": only("n", openai=True),
        "suffix": only("suffix", ollama=True, openai=True),
        "tokens": only("prompt", openai=True),
        "unknown": ("dropped: x_unknown", "dropped: x_unknown", WORKS),
    },
    OLLAMA_CHAT: {
        "text": ALL,
        "system": ALL,
        "turns": ALL,
        "tools": ALL,
        "thinking": (WORKS, WORKS, "dropped: think"),
        "thinking level": ("model: think", WORKS, WORKS),
        "json": only("format", ollama=True, openai=True),
        "schema": only("format", ollama=True, openai=True),
        "image": only("images", ollama=True, openai=True),
        "logprobs": only("logprobs", ollama=True, openai=True),
        "stop": ALL,
        "seed": ALL,
        "top_k": (WORKS, WORKS, "dropped: options.top_k"),
        "limit": ALL,
        "usage": ALL,
        "unknown": (WORKS, "dropped: x_unknown", "dropped: x_unknown"),
        "unknown option": (WORKS, "dropped: options.mirostat", "dropped: options.mirostat"),
    },
    OLLAMA_TEXT: {
        "text": ALL,
        "system": ALL,
        "thinking": (WORKS, WORKS, "dropped: think"),
        "thinking level": ("model: think", WORKS, WORKS),
        "json": only("format", ollama=True, openai=True),
        "schema": only("format", ollama=True, openai=True),
        "image": only("images", ollama=True, openai=True),
        "logprobs": only("logprobs", ollama=True, openai=True),
        "stop": ALL,
        "seed": ALL,
        "top_k": (WORKS, WORKS, "dropped: options.top_k"),
        "limit": ALL,
        "usage": ALL,
        "suffix": only("suffix", ollama=True),
        "raw": ALL,
        "unknown": (WORKS, "dropped: x_unknown", "dropped: x_unknown"),
        "unknown option": (WORKS, "dropped: options.mirostat", "dropped: options.mirostat"),
    },
    UNIFIED: {
        "text": ALL,
        "system": ALL,
        "stop": ALL,
        "limit": ALL,
        "usage": ALL,
        "unknown": ("400: x_unknown", "400: x_unknown", "400: x_unknown"),
    },
    VECTORS: {
        "vector": only("embeddings", ollama=True, openai=True),
        "vectors": only("embeddings", ollama=True, openai=True),
        "dimensions": only("embeddings", ollama=True, openai=True),
        "tokens": ("400: input", "400: embeddings", WORKS),
        "base64": only("embeddings", ollama=True, openai=True),
        "usage": only("embeddings", ollama=True, openai=True),
        "unknown": ("dropped: x_unknown", "400: embeddings", WORKS),
    },
    OLLAMA_VECTORS: {
        "vector": only("embeddings", ollama=True, openai=True),
        "vectors": only("embeddings", ollama=True, openai=True),
        "dimensions": only("embeddings", ollama=True, openai=True),
        "usage": only("embeddings", ollama=True, openai=True),
        "unknown": (WORKS, "400: embeddings", "dropped: x_unknown"),
        "unknown option": (WORKS, "400: embeddings", "dropped: options"),
    },
    OLDER_VECTORS: {
        "vector": only("embeddings", ollama=True, openai=True),
        "unknown": (WORKS, "400: embeddings", "dropped: x_unknown"),
        "unknown option": (WORKS, "400: embeddings", "dropped: options"),
    },
}

#: Type -> the features that its real host does with the tests' tiny model; MLX stands in for an
#: OpenAI-type server. What is not here is asked of simulated hosts alone.
TOLD = frozenset("text system turns stop seed top_k limit usage unknown raw".split())
REAL: Mapping[str, frozenset[str]] = {
    "ollama": TOLD
    | frozenset(["json", "schema", "logprobs", "unknown option", "vector", "vectors", "base64"]),
    "mlx": TOLD,
    "openai": TOLD - {"raw"},
}


#: Features of which a real host's stream says no more than its whole answer.
ONCE = frozenset("system turns seed top_k unknown raw".split()) | {"unknown option"}


def real(front: str, target: str) -> frozenset[str]:
    """The features that a front may ask of a real host."""
    return frozenset() if target != "ollama" and front in EMBEDDING else REAL[target]


@dataclass(frozen=True, slots=True)
class Cell:
    """One question: may this client have this of that host?"""

    front: str
    target: str
    feature: str
    stream: bool
    outcome: str

    @property
    def verdict(self) -> str:
        """`works`, `400`, `dropped` or `model`."""
        return self.outcome.partition(":")[0]

    @property
    def field(self) -> str:
        """Which field is refused or dropped."""
        return self.outcome.partition(": ")[2]

    @property
    def real(self) -> bool:
        """Whether the real host can be asked."""
        told = self.feature in real(self.front, self.target)
        return told and self.verdict != "400" and not (self.stream and self.feature in ONCE)

    def __str__(self) -> str:
        mode = "stream" if self.stream else "whole"
        return f"{self.front}-{self.target}-{mode}-{self.feature.replace(' ', '_')}"


def cells() -> Iterator[Cell]:
    """Every cell that is a question."""
    for front, rows in TABLE.items():
        for feature, outcomes in rows.items():
            for target, outcome in zip(TARGETS, outcomes, strict=True):
                for stream in (False,) if front in EMBEDDING else (False, True):
                    yield Cell(front, target, feature, stream, outcome)


HEAD = """\
# Conformance

What each client protocol gets from each type of host. This page is written from the table that the
tests ask the router by, with `python tests/conformance/matrix.py --write`; nobody edits it by hand.

- **works**: the host was asked for it, and the client's answer has it. A `*` says that the real
  host was asked too, and not only a simulated one: Ollama, mlx_lm.server, and mlx_lm.server again
  as a server with an OpenAI `/v1`. Their models are tiny and can't think, see or call tools.
- **400: field**: this type of host can't do it, and the error names the field. Where the route has
  a target that can, the request goes there.
- **dropped: field**: the answer is there without it, and `x-llm-dropped` names the field.
- **model: field**: the host is asked for it. Few models of such a host have it; where this one has
  not, its refusal counts as a 400 above.

What a table does not list, its protocol has no words for. Each cell holds for whole answers and,
where the protocol has them, for streams. Every answer is read strictly in the client's own
protocol: keys and types, one role, one id, why it ended, counts only where they belong, framing,
content type and headers.
"""


def render() -> str:
    """The page."""
    parts = [HEAD]
    for front, rows in TABLE.items():
        path, title = FRONTS[front]
        modes = "whole" if front in EMBEDDING else "whole and streamed"
        parts.append(f"\n## {title}: `POST {path}`, {modes}\n")
        parts.append(f"| | {' | '.join(TARGETS)} |\n|---|{'---|' * len(TARGETS)}")
        for feature, words in FEATURES.items():
            if feature not in rows:
                continue
            shown = [
                _shown(outcome, real=feature in real(front, target))
                for target, outcome in zip(TARGETS, rows[feature], strict=True)
            ]
            parts.append(f"| {words} | {' | '.join(shown)} |")
    return "\n".join(parts) + "\n"


def _shown(outcome: str, *, real: bool) -> str:
    verdict, _, field = outcome.partition(": ")
    star = " *" if real and verdict in (WORKS, "dropped") else ""
    return f"{verdict}: `{field}`{star}" if field else f"{verdict}{star}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: python {sys.argv[0]} --write")
    PAGE.write_text(render())
