"""What a simulated host is told to do: how fast it answers and how it fails.

One frozen value, given on the command line, in Python or as JSON at run time, read anew for every
request. It holds no state and does no I/O.

    flags / JSON / Python  ->  Behaviour  ->  the host that answers
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum


class Kind(StrEnum):
    """The host that is simulated."""

    OLLAMA = "ollama"
    MLX = "mlx"


class Mode(StrEnum):
    """How a host fails; see MODES for the number that may follow after a colon."""

    OK = "ok"
    STATUS = "status"
    REFUSE_MODEL = "refuse-model"
    HANG_BEFORE_HEADERS = "hang-before-headers"
    HANG_MID_STREAM = "hang-mid-stream"
    CUT_MID_STREAM = "cut-mid-stream"
    ERROR_LINE = "error-line"
    NO_DONE = "no-done"
    CLOSE_WITHOUT_RESPONSE = "close-without-response"
    ZOMBIE = "zombie"
    GENERATION_DIED = "generation-died"
    COLD_LOAD = "cold-load"


#: Mode -> (the number it takes when none is given, or None where it takes none; what it does).
MODES: dict[Mode, tuple[int | None, str]] = {
    Mode.OK: (None, "answer"),
    Mode.STATUS: (503, "answer generation requests with this HTTP status"),
    Mode.REFUSE_MODEL: (None, "answer 404 as for a model that is not there"),
    Mode.HANG_BEFORE_HEADERS: (None, "accept every request, health too, and send nothing"),
    Mode.HANG_MID_STREAM: (1, "send this many tokens, then nothing"),
    Mode.CUT_MID_STREAM: (1, "send this many tokens, then close"),
    Mode.ERROR_LINE: (1, "send this many tokens, then an error line (mlx has none: close)"),
    Mode.NO_DONE: (None, "send all tokens and end cleanly, without done or [DONE]"),
    Mode.CLOSE_WITHOUT_RESPONSE: (None, "read every request, health too, and close"),
    Mode.ZOMBIE: (None, "answer health, never a generation request"),
    Mode.GENERATION_DIED: (None, "answer as with a dead model runner (mlx: health is 503)"),
    Mode.COLD_LOAD: (None, "take ttft_ms for the first request of a model only"),
}


class BehaviourError(ValueError):
    """A behaviour that cannot be: the message names the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The knobs of a simulated host. Zero milliseconds, rates and counts mean "not limited"."""

    mode: str = "ok"
    #: Seconds in the Retry-After header of `status`.
    retry_after: int | None = None
    #: Error text of `status` and `error-line` in place of the host's own.
    message: str = ""
    #: Milliseconds until the first token: prefill, or with `cold-load` the load of the model.
    ttft_ms: float = 0
    tokens_per_second: float = 0
    #: Tokens in every answer; 0 leaves the answer as it is.
    tokens: int = 0
    #: mlx: keepalive comments during prefill. A real server sends at least one.
    keepalives: int = 1
    #: Models that think.
    thinking: tuple[str, ...] = ()
    #: ollama: what every model can do, as /api/show lists it.
    capabilities: tuple[str, ...] = ("completion", "tools")
    #: mlx: a field out of range is answered with 400 (mlx-lm 0.32.2), or the connection is closed
    #: without a response, as releases before it did.
    field_errors: str = "answer"

    def __post_init__(self) -> None:
        _number_of(self.mode)
        for name in ("retry_after", "tokens", "keepalives"):
            _check_number(name, getattr(self, name), int)
        for name in ("ttft_ms", "tokens_per_second"):
            _check_number(name, getattr(self, name), int | float)
        if not isinstance(self.message, str):
            raise BehaviourError(f"message is {self.message!r}; give a text")
        for name in ("thinking", "capabilities"):
            _check_names(name, getattr(self, name))
        if self.field_errors not in ("answer", "close"):
            raise BehaviourError(f"field_errors is {self.field_errors!r}; use answer or close")

    @property
    def failure(self) -> Mode:
        """The mode without its number."""
        return Mode(self.mode.partition(":")[0])

    @property
    def number(self) -> int:
        """The number of the mode: a status, or the tokens before it fails."""
        return _number_of(self.mode)

    def fails(self, mode: Mode) -> bool:
        return self.failure is mode

    def changed(self, document: Mapping[str, object]) -> "Behaviour":
        """This behaviour with the fields of a JSON object in place of its own."""
        known = {field.name for field in fields(self)}
        if unknown := sorted(set(document) - known):
            raise BehaviourError(f"no knob {unknown[0]!r}; there are {', '.join(sorted(known))}")
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        return replace(self, **given)  # type: ignore[arg-type]

    def document(self) -> dict[str, object]:
        return asdict(self)


def add_behaviour(parser: argparse.ArgumentParser) -> None:
    """One flag per knob."""
    plain = Behaviour()
    modes = "; ".join(
        f"{mode}{'' if number is None else '[:N]'} = {what}"
        for mode, (number, what) in MODES.items()
    )
    parser.add_argument("--mode", default=plain.mode, help=modes)
    parser.add_argument("--retry-after", type=int, metavar="S", help="Retry-After of status")
    parser.add_argument("--message", default="", help="error text in place of the host's own")
    parser.add_argument("--ttft-ms", type=float, default=0, help="milliseconds to the first token")
    parser.add_argument("--tokens-per-second", type=float, default=0, help="0 = as fast as it can")
    parser.add_argument("--tokens", type=int, default=0, help="tokens in each answer; 0 = its own")
    parser.add_argument(
        "--keepalives", type=int, default=plain.keepalives, help="mlx: comments during prefill"
    )
    parser.add_argument(
        "--thinking", action="append", metavar="MODEL", default=[], help="a model that thinks"
    )
    parser.add_argument(
        "--capability", action="append", dest="capabilities", help="ollama: what models can do"
    )
    parser.add_argument(
        "--field-errors",
        choices=("answer", "close"),
        default=plain.field_errors,
        help="mlx: answer a bad field with 400, or close as before 0.32.2",
    )


def behaviour_from(arguments: argparse.Namespace) -> Behaviour:
    """The behaviour that the flags of add_behaviour say. Raises BehaviourError."""
    given = {field.name: getattr(arguments, field.name) for field in fields(Behaviour)}
    return Behaviour().changed({k: v for k, v in given.items() if v is not None})


def _number_of(mode: str) -> int:
    if not isinstance(mode, str):
        raise BehaviourError(f"mode is {mode!r}; use one of {', '.join(MODES)}")
    name, colon, text = mode.partition(":")
    if name not in list(Mode):
        raise BehaviourError(f"mode is {mode!r}; use one of {', '.join(MODES)}")
    default, _ = MODES[Mode(name)]
    if not colon:
        return default or 0
    if default is None or not text.isdecimal():
        form = name if default is None else f"{name}:{default}"
        raise BehaviourError(f"mode is {mode!r}; write it as {form}")
    if name == Mode.STATUS and not 400 <= int(text) <= 599:
        raise BehaviourError(f"mode is {mode!r}; the status must be 400 to 599")
    return int(text)


def _check_number(name: str, value: object, kind: object) -> None:
    if value is None and name == "retry_after":
        return
    whole = kind is int
    good = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not good or value < 0:  # type: ignore[operator]
        expected = "a whole number" if whole else "a number"
        raise BehaviourError(f"{name} is {value!r}; give {expected}, 0 or more")


def _check_names(name: str, value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
        raise BehaviourError(f"{name} is {value!r}; give a list of texts")
