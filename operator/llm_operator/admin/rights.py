"""What a caller may do, as an answer or as an error that says which right is missing.

It asks the gate and decides nothing of its own.
"""

import asyncio
from collections.abc import Iterable

from llm_operator.admin.errors import Forbidden
from llm_operator.admin.model import Caller, Verb
from llm_operator.admin.ports import Gate
from llm_operator.resource.model import GROUP, PLURAL


async def need(
    gate: Gate, caller: Caller, verb: Verb, namespace: str, *, subresource: str = ""
) -> None:
    """Pass when the caller may.

    Raises:
        Forbidden: not; the detail names the right.
        Away: nobody can say.
    """
    if not await gate.may(caller, verb, namespace, subresource=subresource):
        what = f"{PLURAL}.{GROUP}" + (f"/{subresource}" if subresource else "")
        where = f"namespace {namespace}" if namespace else "all namespaces"
        raise Forbidden(f"{caller.name} may not {verb} {what} in {where}")


async def readable(gate: Gate, caller: Caller, namespaces: Iterable[str]) -> frozenset[str]:
    """Those of the namespaces whose backends the caller may list.

    Raises:
        Forbidden: none, and not all of the cluster either.
        Away: nobody can say.
    """
    wanted = frozenset(namespaces)
    if await gate.may(caller, Verb.LIST, ""):
        return wanted
    names = sorted(wanted)
    answers = await asyncio.gather(*(gate.may(caller, Verb.LIST, name) for name in names))
    may = {name for name, allowed in zip(names, answers, strict=True) if allowed}
    if not may:
        where = ", ".join(sorted(wanted)) or "any namespace"
        raise Forbidden(f"{caller.name} may not list {PLURAL}.{GROUP} in {where}")
    return frozenset(may)
