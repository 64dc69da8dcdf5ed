"""`llmb uninstall --strip-finalizers`: lets LLMBackends go whose operator is gone.

It takes one finalizer off each and touches nothing else of them: others' finalizers stay, nothing
is deleted. It asks as often as it may take and not for ever, and can be run again at any time.
"""

import argparse
import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from llm_operator.api import API, METADATA, NotConfigured
from llm_operator.command import context
from llm_operator.command.status import why
from llm_operator.command.text import count, err, out, plain
from llm_operator.ports import Gone, PortError, Refused, Unavailable
from llm_operator.resource.model import FINALIZER, GROUP, PLURAL, VERSION

OPERATOR = "llm-backend-operator"
MERGE = "application/merge-patch+json"

#: Objects changed at once; rounds over all of them; seconds between two, and for everything.
AT_ONCE, ROUNDS, PAUSE, LONGEST = 10, 5, 1.0, 300.0

ORDER = """\
To uninstall, take this order:
  1. kubectl delete llmbackends --all -A
     While the operator runs: it takes their routes down and lets them go.
  2. Delete the operator, with its roles and its service account.
  3. kubectl delete -f crds/llmbackends.yaml

If the operator went first, LLMBackends that are being deleted wait for it, and so
do their namespaces. Then run:
  llmb uninstall --strip-finalizers
"""

EPILOG = f"""\
{ORDER}
Without --yes it says what it would do, and changes nothing. The API server is
found by KUBECONFIG, else by the pod's service account, else by ~/.kube/config.
Exits 0 when no LLMBackend has the finalizer any more, 1 when one still has it, 2
for wrong use or when nobody can tell.

example:
  llmb uninstall --strip-finalizers            what would be done
  llmb uninstall --strip-finalizers --yes      do it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb uninstall`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Explain how to uninstall, and let LLMBackends go whose operator is gone."
    parser.epilog = EPILOG
    parser.add_argument(
        "--strip-finalizers",
        action="store_true",
        help=f"take the finalizer {FINALIZER} off all LLMBackends",
    )
    parser.add_argument("--yes", action="store_true", help="do it; without it, say what would be")
    parser.add_argument(
        "-n", "--namespace", metavar="NS", help="look there alone (default: everywhere)"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Look, and with --yes strip; the exit status."""
    if not arguments.strip_finalizers:
        err(ORDER.rstrip())
        return 2
    try:
        async with asyncio.timeout(LONGEST), await context.connect() as api:
            return await _uninstall(api, arguments.namespace, sure=arguments.yes)
    except Gone:
        out("The API server knows no LLMBackends: there is nothing to do.")
        return 0
    except NotConfigured as error:
        told = str(error)
    except PortError as error:
        told = why(error)
    except TimeoutError:
        told = f"not done within {LONGEST:.0f} seconds: run it again, it goes on from there"
    err(f"llmb uninstall: {plain(told)}")
    return 2


async def _uninstall(api: API, namespace: str | None, *, sure: bool) -> int:
    held = await _held(api, namespace)
    if not held:
        out(f"No LLMBackend has the finalizer {FINALIZER}: there is nothing to do.")
        return 0
    running = await signs(api)
    for sign in running:
        err(plain(f"warning: an operator still runs: {sign}"))
    if running:
        err("warning: it puts the finalizer back. Delete the LLMBackends or the operator first.")
    places = {item["metadata"]["namespace"] for item in held}
    going = sum("deletionTimestamp" in item["metadata"] for item in held)
    about = f"{count(len(held), 'LLMBackend')} in {count(len(places), 'namespace')}"
    if not sure:
        out(f"This would take the finalizer {FINALIZER} off {about}.")
        out(f"{going} of them are being deleted, and would be gone at once; the others stay.")
        err("Nothing was changed. To do it, add --yes.")
        return 2
    return await _strip(api, namespace, held)


async def _strip(api: API, namespace: str | None, held: Sequence[Mapping[str, Any]]) -> int:
    done: set[str] = set()
    told: dict[str, str] = {}
    slots = asyncio.Semaphore(AT_ONCE)
    for last in (*[False] * (ROUNDS - 1), True):
        uids = [item["metadata"]["uid"] for item in held]
        answers = await asyncio.gather(*(_release(api, item, slots) for item in held))
        told = dict(zip(uids, answers, strict=True))
        done |= {uid for uid, answer in told.items() if not answer}
        held = await _held(api, namespace)
        if not held:
            _tell_done(len(done))
            return 0
        if not last:
            await asyncio.sleep(PAUSE)
    for metadata in (item["metadata"] for item in held):
        reason = told.get(metadata["uid"]) or "Somebody put it back: does an operator run?"
        err(plain(f"{metadata['namespace']}/{metadata['name']} still has it. {reason}"))
    return 1


def _tell_done(number: int) -> None:
    out(f"Took the finalizer off {count(number, 'LLMBackend')}; none has it any more.")
    out("What was published stays where it is, and routers serve on by it. To see it:")
    out(f"  kubectl get configmaps,secrets -A -l app.kubernetes.io/managed-by={OPERATOR}")


async def _release(api: API, item: Mapping[str, Any], slots: asyncio.Semaphore) -> str:
    """Take the finalizer off one; why that did not work, or ""."""
    metadata = item["metadata"]
    kept = [one for one in metadata["finalizers"] if one != FINALIZER]
    # NB: with the version that was read, so that a finalizer that comes meanwhile is not lost.
    change = {"resourceVersion": metadata["resourceVersion"], "finalizers": kept}
    path = f"{_path(metadata['namespace'])}/{metadata['name']}"
    async with slots:
        try:
            await api.request("PATCH", path, body={"metadata": change}, content=MERGE)
        except Gone:
            pass
        except (Unavailable, Refused) as error:
            return str(error)
    return ""


async def _held(api: API, namespace: str | None) -> list[Mapping[str, Any]]:
    """The metadata of those that have the finalizer."""
    answer = await api.get(_path(namespace), accept=METADATA)
    # NB: a list of metadata with nothing in it has null there.
    items: Sequence[Mapping[str, Any]] = answer["items"] or ()
    return [item for item in items if FINALIZER in (item["metadata"].get("finalizers") or ())]


def _path(namespace: str | None) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{PLURAL}"


async def signs(api: API) -> list[str]:
    """What speaks for an operator that runs, as far as that may be looked at."""
    leases = await _items(api, "/apis/coordination.k8s.io/v1/leases", {})
    selector = f"spec.serviceAccountName={OPERATOR},status.phase=Running"
    pods = await _items(api, "/api/v1/pods", {"fieldSelector": selector})
    return [*_leases(leases), *_pods(pods)]


async def _items(api: API, path: str, query: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    try:
        found: Sequence[Mapping[str, Any]] = (await api.get(path, query=query))["items"]
    except PortError as error:
        err(plain(f"note: whether an operator runs can't be told by {path}: {error}"))
        return ()
    return found


def _leases(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for item in items:
        metadata, spec = item["metadata"], item.get("spec") or {}
        name = f"{metadata['namespace']}/{metadata['name']}"
        ours = metadata["name"].startswith(OPERATOR) or name == os.environ.get("LLMB_LEASE")
        if ours and spec.get("holderIdentity") and _fresh(spec):
            yield f"Lease {name} is held by {spec['holderIdentity']}"


def _fresh(spec: Mapping[str, Any]) -> bool:
    try:
        renewed = datetime.fromisoformat(str(spec.get("renewTime")))
    except ValueError:
        return False
    lasts = timedelta(seconds=spec.get("leaseDurationSeconds") or 0)
    return renewed + lasts > datetime.now(UTC)


def _pods(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for item in items:
        yield f"pod {item['metadata']['namespace']}/{item['metadata']['name']}"
