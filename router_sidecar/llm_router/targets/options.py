"""What goes into an Ollama body besides the client's own words: a route's parameters and limits.

Ollama has two places for them, the body and its `options`; a name decides which.
"""

from collections.abc import Mapping
from typing import Any

from llm_router.targets.target import RESERVED, Terms

#: The exchange's sampling fields -> Ollama's options.
OPTIONS: Mapping[str, str] = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repeat_penalty",
    "stop": "stop",
}

#: Other options; see Ollama's api/types.go.
OTHERS = (
    "num_ctx num_keep num_batch num_gpu main_gpu num_thread use_mmap use_mlock typical_p "
    "repeat_last_n draft_num_predict tfs_z mirostat mirostat_tau mirostat_eta penalize_newline "
    "low_vram numa f16_kv vocab_only"
).split()

#: Names that go into `options`, a parameter of OpenAI's under the name that Ollama has for it.
OPTION: Mapping[str, str] = {
    **{name: name for name in (*OPTIONS.values(), *OTHERS)},
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "repetition_penalty": "repeat_penalty",
}

#: What an embedding of Ollama's has besides options.
EMBED_PARAMETERS = frozenset({*OPTION, "options", "keep_alive", "truncate", "dimensions"})


def fill(
    body: dict[str, Any],
    options: dict[str, Any],
    terms: Terms,
    *,
    names: frozenset[str] | None = None,
) -> None:
    """Set a route's parameters: defaults where the request says nothing, overrides always."""
    parameters = terms.parameters
    if not (parameters.defaults or parameters.overrides):
        return
    for given, wins in ((parameters.defaults, False), (parameters.overrides, True)):
        for name, value in given.items():
            if name in RESERVED or (names is not None and name not in names):
                continue
            if name == "options":
                for option, its in (value or {}).items():
                    _set(options, option, its, wins=wins)
            elif name in OPTION:
                _set(options, OPTION[name], value, wins=wins)
            else:
                _set(body, name, value, wins=wins)


def _set(into: dict[str, Any], name: str, value: Any, *, wins: bool) -> None:
    if not wins and into.get(name) is not None:
        return
    if value is not None:
        into[name] = [value] if name == "stop" and isinstance(value, str) else value
    elif wins:
        into.pop(name, None)


def keep(body: dict[str, Any], options: dict[str, Any], terms: Terms) -> None:
    """What decides how long a model stays loaded, and the options themselves."""
    if terms.num_ctx is not None:
        # NB: another value would load the model anew, so the route's is sent with each request.
        options["num_ctx"] = terms.num_ctx
    if body.get("keep_alive") is None:
        seconds = terms.defaults.keep_alive_seconds
        value = terms.keep_alive if seconds is None else seconds
        if value is not None:
            body["keep_alive"] = value
    if options or body.get("options"):
        body["options"] = options
