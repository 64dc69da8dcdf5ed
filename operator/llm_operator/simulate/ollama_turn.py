"""One /api/generate or /api/chat of a simulated Ollama: from bound fields to NDJSON.

    fields -> prepare: Turn, or a reply at once (load, unload), or Refusal -> stream or whole answer

The order of the checks is Ollama's, because it decides which of two errors a client sees.
"""

import json
import random
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm_operator.simulate import answer
from llm_operator.simulate.answer import Answer
from llm_operator.simulate.behaviour import Behaviour, Kind, Mode
from llm_operator.simulate.binding import check_options, duration, format_error
from llm_operator.simulate.catalogue import KEEP_ALIVE, Catalogue, capabilities, full_name, go_time
from llm_operator.simulate.generation import Refusal


@dataclass(frozen=True, slots=True)
class Turn:
    """A generation that passed every check."""

    chat: bool
    model: str
    answer: Answer
    prompt: str
    prompt_tokens: int
    stream: bool
    raw: bool
    #: The model was in memory already.
    warm: bool
    #: Why the model runner does not start, which a stream learns only after it was opened.
    error: str

    def parts(self) -> Iterator[dict[str, Any]]:
        """What each token adds to the response, in order."""
        for token in self.answer.thinking:
            yield self._part("", thinking=token)
        if tool := self.answer.tool:
            function = {"index": 0, "name": tool.name, "arguments": tool.arguments}
            calls = [{"id": _call_id(), "function": function}]
            yield {"message": {"role": "assistant", "content": "", "tool_calls": calls}}
        for token in self.answer.tokens:
            yield self._part(token)

    def whole(self) -> dict[str, Any]:
        """All of them in one."""
        text, thinking = "".join(self.answer.tokens), "".join(self.answer.thinking)
        part = self._part(text, thinking=thinking)
        if self.answer.tool:
            (calls,) = (p["message"] for p in self.parts() if "tool_calls" in p.get("message", {}))
            part["message"]["tool_calls"] = calls["tool_calls"]
        return part

    def line(self, part: dict[str, Any], *, done: bool = False) -> dict[str, Any]:
        return {"model": self.model, "created_at": go_time()} | part | {"done": done}

    def last(self, part: dict[str, Any], timings: "Timings") -> dict[str, Any]:
        """The line that ends the answer, with its figures."""
        line = self.line(part, done=True) | {"done_reason": self.answer.finish}
        if not self.chat and not self.raw:
            line["context"] = answer.token_ids(self.prompt + "".join(self.answer.tokens))
        counts = {"prompt_eval_count": self.prompt_tokens, "eval_count": self.answer.evaluated}
        return line | timings.document(counts)

    def nothing(self) -> dict[str, Any]:
        return self._part("")

    def _part(self, text: str, *, thinking: str = "") -> dict[str, Any]:
        thought = {"thinking": thinking} if thinking else {}
        if self.chat:
            return {"message": {"role": "assistant", "content": text} | thought}
        return {"response": text} | thought


class Timings:
    """Nanoseconds of the phases of one generation; `cold` books the prefill as loading."""

    def __init__(self, *, cold: bool) -> None:
        self._cold = cold
        self._started = self._first = time.perf_counter_ns()

    def first_token(self) -> None:
        self._first = time.perf_counter_ns()

    def document(self, counts: dict[str, int]) -> dict[str, int]:
        now = time.perf_counter_ns()
        wait = max(self._first - self._started, 2)
        load, prefill = (wait - 1, 1) if self._cold else (1, wait - 1)
        return {
            "total_duration": max(now - self._started, 3),
            "load_duration": load,
            "prompt_eval_count": counts["prompt_eval_count"],
            "prompt_eval_duration": prefill,
            "eval_count": counts["eval_count"],
            "eval_duration": max(now - self._first, 1),
        }


def prepare(
    fields: dict[str, Any], *, chat: bool, catalogue: Catalogue, behaviour: Behaviour
) -> Turn | dict[str, Any]:
    """The generation a request asks for, or the reply to a mere load or unload."""
    model = fields.get("model", "")
    _check_model(fields, chat=chat, catalogue=catalogue)
    empty = not (fields.get("messages") if chat else fields.get("prompt"))
    keep = duration(fields["keep_alive"]) if "keep_alive" in fields else KEEP_ALIVE
    if empty and keep == 0:
        catalogue.unload(model)
        return _no_generation(model, "unload", chat=chat)
    if not chat and fields.get("raw") and _templated(fields):
        raise Refusal(400, "raw mode does not support template, system, or context")
    if not chat:
        _check_level(fields)
    _check_capabilities(fields, chat=chat, able=capabilities(model, behaviour))
    check_options(fields.get("options", {}))
    warm = catalogue.warm(model, now=time.time())
    catalogue.load(model, now=time.time(), seconds=keep)
    if empty:
        return _no_generation(model, "load", chat=chat)
    if chat:
        _check_level(fields)
    return _turn(fields, chat=chat, behaviour=behaviour, warm=warm)


def _check_model(fields: dict[str, Any], *, chat: bool, catalogue: Catalogue) -> None:
    if not 0 <= fields.get("top_logprobs", 0) <= 20:
        raise Refusal(400, "top_logprobs must be between 0 and 20")
    model = fields.get("model", "")
    if chat and full_name(model) is None:
        raise Refusal(400, "model is required")
    if not catalogue.has(model):
        raise Refusal(404, f"model '{model}' not found")


def _templated(fields: dict[str, Any]) -> bool:
    return any(fields.get(name) for name in ("template", "system", "context"))


def _check_level(fields: dict[str, Any]) -> None:
    # NB: only the gpt-oss family takes levels, and no simulated model is of it.
    if isinstance(level := fields.get("think"), str):
        raise Refusal(400, f"think value {json.dumps(level)} is not supported for this model")


def _check_capabilities(fields: dict[str, Any], *, chat: bool, able: list[str]) -> None:
    model = fields["model"]
    if "thinking" not in able and fields.get("think"):
        raise Refusal(400, f"{json.dumps(model)} does not support thinking")
    if "completion" not in able:
        raise Refusal(400, f"{json.dumps(model)} does not support {'chat' if chat else 'generate'}")
    needed, asked = ("tools", "tools") if chat else ("insert", "suffix")
    if fields.get(asked) and needed not in able:
        name = full_name(model) or model
        library = name if "/" in name else f"library/{name}"
        raise Refusal(400, f"registry.ollama.ai/{library} does not support {needed}")


def _no_generation(model: str, reason: str, *, chat: bool) -> dict[str, Any]:
    head: dict[str, Any] = {"model": model, "created_at": go_time()}
    if chat:
        head["message"] = {"role": "assistant", "content": ""}
    else:
        head["response"] = ""
    return head | {"done": True, "done_reason": reason}


def _turn(fields: dict[str, Any], *, chat: bool, behaviour: Behaviour, warm: bool) -> Turn:
    messages = fields["messages"] if chat else _as_messages(fields)
    text = answer.last_user_text(messages)
    return Turn(
        chat=chat,
        model=fields["model"],
        answer=_answer(fields, text, chat=chat, behaviour=behaviour),
        prompt=text,
        prompt_tokens=answer.prompt_tokens(messages),
        stream=fields.get("stream", True),
        raw=bool(fields.get("raw")),
        warm=warm,
        error=format_error(fields.get("format")),
    )


def _as_messages(fields: dict[str, Any]) -> list[dict[str, Any]]:
    system = fields.get("system")
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": fields["prompt"]}]


def _answer(fields: dict[str, Any], text: str, *, chat: bool, behaviour: Behaviour) -> Answer:
    model, options = fields["model"], fields.get("options", {})
    thinks = "thinking" in capabilities(model, behaviour) and fields.get("think", True)
    thinking = f"Simulated thinking about: {text}" if thinks else ""
    if chat and (tool := answer.call(fields.get("tools"), text)):
        return Answer((), answer.words(thinking), tool)
    said = answer.sentence(Kind.OLLAMA, model, text, options)
    if form := fields.get("format"):
        said = answer.structured(form, said)
    return answer.compose(
        said,
        thinking=thinking,
        count=behaviour.tokens,
        # NB: the runner takes 0 for "no limit", as it does every number below it.
        limit=max(int(options.get("num_predict") or 0), 0),
        stop=options.get("stop") or (),
    )


def _call_id() -> str:
    return "call_" + "".join(random.choices(string.ascii_lowercase + string.digits, k=8))


def cold(behaviour: Behaviour, turn: Turn) -> bool:
    """The wait for the first token is the load of the model."""
    return behaviour.fails(Mode.COLD_LOAD) and not turn.warm
