"""What Argo CD makes of an object by a health script, in a Lua runtime as it runs scripts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lupa import lua51

from parts.manifests import MANIFESTS

GITOPS = MANIFESTS / "gitops"
HEALTH = GITOPS / "argocd" / "health.lua"


@dataclass(frozen=True, slots=True)
class Health:
    """What Argo CD shows: one word of Healthy, Progressing, Degraded, Suspended; and a sentence."""

    status: str
    message: str


def health(backend: Any, *, script: Path = HEALTH) -> Health:
    """Of one object. NB: Argo CD's own runtime is Lua 5.1 too, and opens no library of files."""
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    for library in ("io", "os", "package", "require", "dofile", "loadfile", "debug", "python"):
        lua.globals()[library] = None
    lua.globals()["obj"] = lua.table_from(backend, recursive=True)
    found = lua.execute(script.read_text())
    return Health(status=str(found["status"]), message=str(found["message"]))
