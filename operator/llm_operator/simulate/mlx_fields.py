"""The fields that mlx_lm.server reads from a request, and how it checks them.

    JSON object -> Fields, or FieldError(text)

Defaults, ranges and texts are the real server's. What it does not know, it ignores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class FieldError(Exception):
    """A field that the server does not take."""


#: Field -> (default, types, least, most). The text of an error names the types in this order.
_RULES: dict[str, tuple[Any, tuple[type, ...], Any, Any]] = {
    "stream": (False, (bool,), None, None),
    "max_tokens": (512, (int,), 1, None),
    "temperature": (0.0, (float, int), 0, None),
    "top_p": (1.0, (float, int), 0, 1),
    "top_k": (0, (int,), 0, None),
    "min_p": (0.0, (float, int), 0, 1),
    "num_draft_tokens": (3, (int,), 0, None),
    "repetition_penalty": (0.0, (float, int), 0, None),
    "repetition_context_size": (20, (int,), 0, None),
    "presence_penalty": (0.0, (float, int), None, None),
    "presence_context_size": (20, (int,), 0, None),
    "frequency_penalty": (0.0, (float, int), None, None),
    "frequency_context_size": (20, (int,), 0, None),
    "logprobs": (False, (bool,), None, None),
    "top_logprobs": (-1, (int,), 0, 11),
    "xtc_probability": (0.0, (float,), 0, 1),
    "xtc_threshold": (0.1, (float,), 0, 1),
    "model": ("default_model", (str,), None, None),
    "adapters": (None, (str,), None, None),
    "seed": (None, (int,), None, None),
    "logit_bias": (None, (dict,), None, None),
}
#: Fields whose own names in the server differ from those in the request.
_NAMES = {"model": "requested_model", "adapters": "adapter"}
_OPTIONAL = ("adapters", "seed", "logit_bias")


@dataclass(frozen=True, slots=True)
class Fields:
    """A request that passed the checks."""

    model: str
    stream: bool
    max_tokens: int
    stop: object
    body: Mapping[str, Any]

    def given(self) -> dict[str, Any]:
        """The sampling parameters that were sent."""
        text = ("messages", "prompt", "tools", "model", "stream", "stream_options")
        return {name: value for name, value in self.body.items() if name not in text}


def check(body: Mapping[str, Any]) -> Fields:
    """Raises FieldError with the text of the first check that fails."""
    values = {name: body.get(name, rule[0]) for name, rule in _RULES.items()}
    if body.get("max_completion_tokens") is not None:
        values["max_tokens"] = body["max_completion_tokens"]
    for name, value in values.items():
        if not (name in _OPTIONAL and value is None):
            _check(name, value)
    _check_bias(values["logit_bias"])
    stop = body.get("stop") or []
    return Fields(
        model=values["model"],
        stream=values["stream"],
        max_tokens=values["max_tokens"],
        stop=[stop] if isinstance(stop, str) else stop,
        body=body,
    )


def _check(name: str, value: Any) -> None:
    _, types, least, most = _RULES[name]
    shown = _NAMES.get(name, name)
    if not isinstance(value, types):
        names = tuple(kind.__name__ for kind in types)
        raise FieldError(f"{shown} must be of type {names if len(names) > 1 else names[0]}")
    if name == "top_logprobs" and value == -1:
        return
    if least is not None and value < least:
        raise FieldError(f"{shown} must be at least {least}")
    if most is not None and value > most:
        raise FieldError(f"{shown} must be at most {most}")


def _check_bias(bias: Mapping[str, Any] | None) -> None:
    try:
        for token, value in (bias or {}).items():
            int(token), float(value)
    except ValueError as error:
        raise FieldError("logit_bias must be a dict of int to float") from error
