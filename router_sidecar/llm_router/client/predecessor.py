"""What the predecessor's router was told and this one has no use for, and what replaces it.

Each is warned of once in a process. A value that is the predecessor's default says nothing.
"""

import threading
import warnings
from collections.abc import Mapping

#: Argument -> its default there, and the sentence that helps.
ARGUMENTS: Mapping[str, tuple[object, str]] = {
    "admin_url": (
        None,
        "admin_url is ignored: the router process has its configuration already. Name the "
        "router with url= or LLM_ROUTER_URL.",
    ),
    "cache_ttl": (
        60,
        "cache_ttl is ignored: nothing is cached here, and a change of an LLMBackend reaches the "
        "router by itself.",
    ),
    "persist_metrics": (
        True,
        "persist_metrics is ignored: the router process records each request, if its setting "
        "LLM_ROUTER_USAGE_URL is set.",
    ),
}

#: The same of environment variables.
ENVIRONMENT: Mapping[str, str] = {
    "ADMIN_API_URL": (
        "ADMIN_API_URL is ignored: the router process has its configuration already. Set "
        "LLM_ROUTER_URL to the router's address, and unset this."
    ),
    "OLLAMA_URL": (
        "OLLAMA_URL is ignored: models without an LLMBackend go to the router's "
        "LLM_ROUTER_DEFAULT_OLLAMA_URL. Set that, and unset this."
    ),
}

_lock = threading.Lock()
_warned: set[str] = set()


class LLMRouterWarning(UserWarning):
    """Something that the predecessor had is given, and has no effect."""


def warn(
    arguments: Mapping[str, object], environment: Mapping[str, str], *, stacklevel: int
) -> None:
    """Warn of what is given and has no effect, each once in a process.

    Args:
        arguments: by name, all of `ARGUMENTS`.
        stacklevel: as `warnings.warn` counts it from here; 2 is the caller.
    """
    found = [text for name, (default, text) in ARGUMENTS.items() if arguments[name] != default]
    found += [text for name, text in ENVIRONMENT.items() if environment.get(name)]
    for text in found:
        with _lock:
            known = text in _warned
            _warned.add(text)
        if not known:
            warnings.warn(text, LLMRouterWarning, stacklevel=stacklevel + 1)
