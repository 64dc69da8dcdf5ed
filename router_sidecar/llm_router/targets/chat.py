"""The OpenAI chat protocol on the upstream side: what the mlx and openai targets share.

Requests: how messages are written, what parameters do, and what is lost on the way. Answers:
server-sent events, ended by `[DONE]`; tool calls may come whole or in fragments, keyed by their
index.
"""

from collections.abc import Mapping, Set
from typing import Any

from llm_contract import Defaults, Parameters
from llm_router.errors import AttemptFailed, Cause
from llm_router.exchange import (
    REASONS,
    Call,
    Delta,
    Dialect,
    Event,
    Exchange,
    Finish,
    Kind,
    Message,
    Reason,
    Usage,
)
from llm_router.targets.logprobs import entries
from llm_router.targets.target import (
    RESERVED,
    Lines,
    broken,
    count,
    error_text,
    is_done,
    parsed,
    word,
)
from llm_router.targets.whole import ChatWhole

#: OpenAI fields that every translation of a chat carries over, or that its target must know.
TRANSLATED = frozenset(
    "model messages stream stream_options max_tokens max_completion_tokens temperature top_p "
    "top_k min_p seed stop presence_penalty frequency_penalty repetition_penalty tools "
    "response_format n".split()
)

#: The same of a text completion, which has no turns, tools or structure.
TRANSLATED_PROMPT = TRANSLATED - {"messages", "tools", "response_format"} | {"prompt"}

#: OpenAI fields with the values that say nothing, so that nothing is lost.
PLAIN: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "functions": ([],),
    "logprobs": (False,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True,),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("auto", "none"),
}

#: Ollama fields that a translation carries over, that `lacking` judges, or that only Ollama needs.
OLLAMA_KNOWN = frozenset(
    "model messages prompt system images stream raw options tools format think keep_alive suffix "
    "template context logprobs top_logprobs".split()
)

#: Two names of one field.
SYNONYMS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def lacking(exchange: Exchange, able: Set[str]) -> str | None:
    """The request's field that a server of this protocol can't honour, or None.

    Args:
        able: those of `Exchange.needs` that it can.
    """
    if not exchange.messages:
        # An empty request loads or unloads a model on Ollama; others have no such thing.
        return "messages" if exchange.kind is Kind.CHAT else "prompt"
    missing = exchange.needs - able if exchange.needs else None
    return min(missing) if missing else None


def fill(body: dict[str, Any], parameters: Parameters) -> None:
    """Set a route's parameters in a body: defaults where it says nothing, overrides always.

    An override of null takes the field away.
    """
    for name, value in parameters.defaults.items():
        if name in RESERVED or value is None or body.get(name) is not None:
            continue
        if body.get(SYNONYMS.get(name, name)) is None:
            body[name] = value
    for name, value in parameters.overrides.items():
        if name in RESERVED:
            continue
        body.pop(SYNONYMS.get(name, name), None)
        if value is None:
            body.pop(name, None)
        else:
            body[name] = value


def settle(body: dict[str, Any], defaults: Defaults) -> None:
    """Set a route's defaults where neither the request nor a parameter sets anything."""
    limit, temperature = defaults.max_tokens, defaults.temperature
    names = ("max_tokens", "max_completion_tokens")
    if limit is not None and all(body.get(name) is None for name in names):
        body["max_tokens"] = limit
    if temperature is not None and body.get("temperature") is None:
        body["temperature"] = temperature


def written(message: Message) -> dict[str, Any]:
    """One turn as OpenAI writes it."""
    # NB: content null in an assistant's turn breaks chat templates (mlx-lm issue 1739), so it is
    # "".
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.thinking:
        # The name that chat templates look for.
        turn["reasoning_content"] = message.thinking
    if message.images:
        parts = [{"type": "image_url", "image_url": {"url": _image(i)}} for i in message.images]
        turn["content"] = [*parts, {"type": "text", "text": message.text}]
    if message.calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.calls
        ]
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    if message.tool:
        turn["name"] = message.tool
    return turn


#: How the base64 of an image begins -> its type.
MEDIA = {"/9j/": "jpeg", "UklG": "webp", "R0lG": "gif"}


def _image(image: str) -> str:
    if image.startswith("http"):
        return image
    return f"data:image/{MEDIA.get(image[:4], 'png')};base64,{image}"


def dropped_openai(exchange: Exchange, *, kept: Set[str]) -> tuple[str, ...]:
    """The fields an OpenAI client set that a translation does not carry."""
    carried = TRANSLATED if exchange.kind is Kind.CHAT else TRANSLATED_PROMPT
    body = exchange.body
    if body.keys() <= carried:
        return ()
    asked = [
        name
        for name, value in body.items()
        if name not in carried and name not in kept and name not in exchange.needs
        if value is not None and value not in PLAIN.get(name, ())
    ]
    return tuple(sorted(asked))


def dropped_ollama(exchange: Exchange, *, options: Set[str]) -> set[str]:
    """The fields an Ollama client set that a translation with these options does not carry."""
    asked = exchange.body.get("options") or {}
    left = {name for name, value in asked.items() if value is not None} - options
    known = OLLAMA_KNOWN if exchange.dialect is Dialect.OLLAMA else exchange.body.keys()
    other = {name for name, value in exchange.body.items() if value is not None} - known
    return other | {f"options.{name}" for name in left}


class ChatDecoder:
    """Server-sent events of chat or text completion chunks -> events."""

    __slots__ = (
        "_calls",
        "_fragments",
        "_lines",
        "_reason",
        "_usage",
        "_whole",
        "done",
        "started",
    )

    def __init__(self, *, fragments: bool = False, whole: ChatWhole | None = None) -> None:
        """Read an answer.

        Args:
            fragments: hand tool calls on as they come.
            whole: where the answer is joined too, in the client's own protocol.
        """
        self.started = False
        self.done = False
        self._lines = Lines()
        self._reason: Reason | None = None
        self._usage = Usage()
        self._calls: dict[int, Call] = {}
        self._fragments = fragments
        self._whole = whole

    def feed(self, data: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            # Comments (`: keepalive`) and the empty lines between events carry nothing.
            if line[:5] == b"data:":
                self._data(line[5:], events)
        return events

    def _data(self, payload: bytes, events: list[Event]) -> None:
        if self.done:
            raise broken("went on after [DONE]")
        if is_done(payload):
            self._end(events)
            return
        chunk = parsed(payload)
        if chunk.get("error") is not None:
            raise AttemptFailed(Cause.BROKEN_STREAM, f"the host broke off: {error_text(payload)}")
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage.prompt_tokens = count(usage.get("prompt_tokens"))
            self._usage.completion_tokens = count(usage.get("completion_tokens"))
        for choice in chunk.get("choices") or ():
            self._choice(choice, events)
        if self._whole is not None:
            self._whole.add(chunk, len(payload))

    def _choice(self, choice: Mapping[str, Any], events: list[Event]) -> None:
        piece = choice.get("delta") or {}
        # A refusal is what the model says in place of an answer.
        text = piece.get("content") or choice.get("text") or piece.get("refusal") or ""
        thinking = piece.get("reasoning") or piece.get("reasoning_content") or ""
        if type(text) is not str or type(thinking) is not str:
            raise TypeError(piece)
        logprobs = choice.get("logprobs")
        extras = entries(logprobs) if logprobs else None
        if text or thinking:
            self.started = True
        if text or thinking or extras:
            events.append(Delta(text, thinking, (), extras))
        if fragments := piece.get("tool_calls"):
            self._called(fragments, events)
        if named := choice.get("finish_reason"):
            self.started = True
            self._reason = REASONS.get(named, Reason.STOP)
            if self._calls:
                events.append(Delta(calls=tuple(self._calls.values())))
                self._calls = {}

    def _called(self, fragments: list[dict[str, Any]], events: list[Event]) -> None:
        self.started = True
        if self._fragments:
            if any(type(fragment) is not dict for fragment in fragments):
                raise TypeError(fragments)
            events.append(Delta(fragments=tuple(fragments)))
            return
        for fragment in fragments:
            self._fragment(fragment)

    def _fragment(self, fragment: Mapping[str, Any]) -> None:
        index = fragment.get("index")
        if index is None:
            index = len(self._calls)
        function = fragment.get("function") or {}
        begun = self._calls.get(index)
        if begun is None:
            begun = Call(id=f"call_{index}", name="", arguments="")
        self._calls[index] = Call(
            id=word(fragment.get("id")) or begun.id,
            name=begun.name + word(function.get("name")),
            arguments=begun.arguments + word(function.get("arguments")),
        )

    def _end(self, events: list[Event]) -> None:
        if self._reason is None:
            raise broken("said [DONE] without a finish reason")
        self.done = True
        whole = self._whole.written() if self._whole is not None else None
        events.append(Finish(self._reason, self._usage, whole=whole))
