"""One completion of a simulated mlx_lm.server: from a request to OpenAI-like packets.

    Fields, path -> prepare: Turn, or Refusal, FieldError or Fatal -> packets

Fields stand in the real server's order, so that a packet is the same text.
"""

import json
import platform
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm_operator.simulate import answer
from llm_operator.simulate.answer import Answer
from llm_operator.simulate.behaviour import Behaviour, Kind
from llm_operator.simulate.generation import Refusal
from llm_operator.simulate.mlx_fields import FieldError, Fields

DEFAULT_MODEL = "default_model"
#: A model name that accepts every name.
ANY = "*"
FINGERPRINT = f"0.32.2-0.32.4-{platform.platform()}-simulated"

_REPOSITORY = re.compile(r"([\w.-]+/)?[\w.-]{1,96}", re.ASCII)


class Fatal(Exception):
    """A request on which the server's generation thread ends for good."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A generation that passed every check."""

    chat: bool
    stream: bool
    model: str
    answer: Answer
    prompt_tokens: int
    usage_wanted: bool
    #: `stream_options` without `include_usage`, on which the server fails after the last token.
    usage_broken: bool
    id: str
    created: int

    @property
    def kind(self) -> str:
        if not self.chat:
            return "text_completion"
        return "chat.completion.chunk" if self.stream else "chat.completion"

    def packets(self) -> Iterator[dict[str, Any]]:
        """What is streamed for each token."""
        for token in self.answer.thinking:
            yield self._packet({"reasoning": token}, None)
        for token in self.answer.tokens:
            yield self._packet({"content": token} if self.chat else {"text": token}, None)
        if self.answer.tool:
            yield self._packet({"tool_calls": [self._call(streaming=True)]}, None)

    def last(self) -> dict[str, Any]:
        """What ends the choices of a stream."""
        return self._packet({} if self.chat else {"text": ""}, self._finish())

    def usage_packet(self) -> dict[str, Any]:
        # NB: of this kind for completions too, as on the real server.
        return self._head("chat.completion") | {"choices": []} | self._usage()

    def whole(self) -> dict[str, Any]:
        """The response of a request that does not stream."""
        text = "".join(self.answer.tokens)
        content: dict[str, Any] = {"content": text or None} if self.chat else {"text": text}
        if self.answer.thinking:
            content["reasoning"] = "".join(self.answer.thinking)
        if self.answer.tool:
            content["tool_calls"] = [self._call(streaming=False)]
        return self._packet(content, self._finish()) | self._usage()

    def _packet(self, content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self.chat:
            choice["delta" if self.stream else "message"] = {"role": "assistant"} | content
        else:
            choice |= content
        return self._head(self.kind) | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "system_fingerprint": FINGERPRINT,
            "object": kind,
            "model": self.model,
            "created": self.created,
        }

    def _usage(self) -> dict[str, Any]:
        made = self.answer.evaluated
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self.prompt_tokens + made,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        return {"usage": usage}

    def _finish(self) -> str:
        return "tool_calls" if self.answer.tool else self.answer.finish

    def _call(self, *, streaming: bool) -> dict[str, Any]:
        assert self.answer.tool is not None
        arguments = json.dumps(self.answer.tool.arguments, ensure_ascii=False)
        function = {"name": self.answer.tool.name, "arguments": arguments}
        call: dict[str, Any] = {"function": function, "type": "function", "id": str(uuid.uuid4())}
        return call | {"index": 0} if streaming else call


def prepare(fields: Fields, *, chat: bool, models: tuple[str, ...], behaviour: Behaviour) -> Turn:
    """The generation a request asks for. Raises FieldError, Refusal or Fatal."""
    messages = _messages(fields) if chat else _prompt(fields)
    if not _held(fields.model, models):
        raise Refusal(404, not_found(fields.model))
    stop = _stop(fields.stop)
    messages = _texts(messages)
    options = fields.body.get("stream_options")
    broken = options is not None and not (isinstance(options, dict) and "include_usage" in options)
    return Turn(
        chat=chat,
        stream=fields.stream,
        model=fields.model,
        answer=_answer(fields, messages, chat=chat, behaviour=behaviour, stop=stop),
        prompt_tokens=answer.prompt_tokens(messages),
        usage_wanted=isinstance(options, dict) and bool(options.get("include_usage")),
        usage_broken=broken,
        id=f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4()}",
        created=int(time.time()),
    )


def not_found(model: str) -> str:
    """The text of a model that cannot be loaded: no name of the hub's, or not on the hub."""
    if not _REPOSITORY.fullmatch(model) or model == DEFAULT_MODEL:
        return (
            "Repo id must use alphanumeric chars, '-', '_' or '.'. The name cannot start or end "
            f"with '-' or '.' and the maximum length is 96: '{model}'."
        )
    url = f"https://huggingface.co/api/models/{model}/revision/main"
    return f"404 Client Error.\n\nRepository Not Found for url: {url}."


def _held(model: str, models: tuple[str, ...]) -> bool:
    return model == DEFAULT_MODEL or model in models or ANY in models


def _messages(fields: Fields) -> list[dict[str, Any]]:
    if "messages" not in fields.body:
        raise FieldError("Request did not contain messages")
    try:
        # NB: what is no list of objects fails here with Python's own words, as it does there.
        for message in fields.body["messages"]:
            message.get("content")
    except (AttributeError, TypeError) as error:
        raise FieldError(str(error)) from error
    return list(fields.body["messages"])


def _prompt(fields: Fields) -> list[dict[str, Any]]:
    if "prompt" not in fields.body:
        raise FieldError("Request did not contain a prompt")
    prompt = fields.body["prompt"]
    if isinstance(prompt, list):
        raise Fatal
    if not isinstance(prompt, str):
        # NB: the start of the real text, which goes on for lines and is the tokenizer library's.
        raise Refusal(404, "text input must be of type `str`")
    return [{"role": "user", "content": prompt}]


def _stop(stop: Any) -> tuple[str, ...]:
    try:
        words = tuple(stop)
    except TypeError as error:
        raise Fatal from error
    if not all(isinstance(word, str) for word in words):
        raise Fatal
    return words


def _texts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with their content as text."""
    if not messages:
        raise Refusal(
            404,
            "Cannot apply chat template to an empty conversation. Provide at least one message.",
        )
    for message in messages:
        _check_calls(message)
    return [message | {"content": _text(message)} for message in messages]


def _check_calls(message: dict[str, Any]) -> None:
    """The arguments of earlier tool calls are read for the template."""
    for call in message.get("tool_calls") or ():
        arguments = (call.get("function") or {}).get("arguments")
        if isinstance(arguments, str) and arguments:
            try:
                json.loads(arguments)
            except ValueError as error:
                raise Refusal(404, str(error)) from error


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        kinds = [part.get("type") if isinstance(part, dict) else None for part in content]
        if set(kinds) - {"text"}:
            raise Refusal(404, "Only 'text' content type is supported.")
        return "".join(str(part.get("text", "")) for part in content)
    return content if isinstance(content, str) else ""


def _answer(
    fields: Fields,
    messages: list[dict[str, Any]],
    *,
    chat: bool,
    behaviour: Behaviour,
    stop: tuple[str, ...],
) -> Answer:
    text = answer.last_user_text(messages)
    wish = fields.body.get("chat_template_kwargs") or {}
    thinks = fields.model in behaviour.thinking or ANY in behaviour.thinking
    thinks = chat and thinks and bool(wish.get("enable_thinking", True))
    thinking = f"Simulated thinking about: {text}" if thinks else ""
    if chat and (tool := answer.call(fields.body.get("tools"), text)):
        return Answer((), answer.words(thinking), tool)
    return answer.compose(
        answer.sentence(Kind.MLX, fields.model, text, fields.given()),
        thinking=thinking,
        count=behaviour.tokens,
        limit=fields.max_tokens,
        stop=stop,
    )
