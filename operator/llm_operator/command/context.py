"""The API server and the namespace that kubectl would take: those of the kubeconfig's current
context, or the pod's.

How the API server is reached is a matter of `api`; the kubeconfig is read for the namespace alone.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llm_operator.api import API

DEFAULT = "default"
POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def connect() -> API:
    """The API server.

    Raises:
        NotConfigured: nothing says where it is.
    """
    # NB: the client warns on standard error of what its exception says too.
    logging.getLogger("kubernetes").addHandler(logging.NullHandler())
    return await API.connect()


def namespace() -> str:
    """Its name; `default` when nothing says another."""
    named = os.environ.get("KUBECONFIG")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _text(POD).strip() or DEFAULT
    configs = [_config(Path(p)) for p in (named or _usual()).split(os.pathsep) if p]
    current = next((c["current-context"] for c in configs if c.get("current-context")), None)
    for context in _contexts(configs):
        if context.get("name") == current:
            return str((context.get("context") or {}).get("namespace") or DEFAULT)
    return DEFAULT


def _usual() -> str:
    return str(Path.home() / ".kube" / "config")


def _contexts(configs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for config in configs:
        yield from (one for one in config.get("contexts") or () if isinstance(one, dict))


def _config(path: Path) -> dict[str, Any]:
    # NB: one that can't be read keeps nobody from asking; `api` says what is wrong with it.
    try:
        found = yaml.safe_load(_text(path))
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
