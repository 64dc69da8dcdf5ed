"""`llmb status`: how LLMBackends stand, and what to do about those that are not well.

It asks the API server once, for the table that kubectl prints and the objects in it, and changes
nothing. The sentences are those of the status, with `advice` to each.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llm_operator.api import TABLE, NotConfigured
from llm_operator.command import context
from llm_operator.command.advice import Trouble, ready, troubles
from llm_operator.command.text import aligned, count, err, out, plain
from llm_operator.ports import Gone, PortError, Unavailable
from llm_operator.resource.model import GROUP, PLURAL, VERSION

EPILOG = """\
The API server is found by KUBECONFIG, else by the pod's service account, else by
~/.kube/config. Exits 0 when all are Ready, 1 when one is not or is not there, 2
for wrong use or when nobody can tell.

example:
  llmb status -A
  llmb status phi3-mini -n ai
  llmb status -A --output json | jq '.resources[] | select(.ready | not) | .name'
"""

#: Of every column but those for -o wide.
ALWAYS = 0


class Failed(Exception):
    """There is nothing to show; the message says what would change that."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb status`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Show LLMBackends, and say what is not well, why, and what to do."
    parser.epilog = EPILOG
    parser.add_argument("names", nargs="*", metavar="NAME", help="of LLMBackends (default: all)")
    parser.add_argument(
        "-n", "--namespace", metavar="NS", help="where they are (default: the context's)"
    )
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="look everywhere")
    parser.add_argument(
        "--output",
        choices=("table", "wide", "json"),
        default="table",
        help="the form (default: table)",
    )


async def run(arguments: argparse.Namespace) -> int:
    """Ask and print; the exit status."""
    try:
        if arguments.all_namespaces and (arguments.names or arguments.namespace):
            raise Failed("-A looks at all of every namespace: leave out NAME and --namespace")
        everywhere = arguments.all_namespaces
        namespace = "" if everywhere else arguments.namespace or context.namespace()
        columns, rows = await ask(namespace)
    except (Failed, NotConfigured) as error:
        err(f"llmb status: {plain(str(error))}")
        return 2
    items = [row["object"] for row in rows]
    there = {item["metadata"]["name"] for item in items}
    missing = [name for name in dict.fromkeys(arguments.names) if name not in there]
    if arguments.names:
        rows = [row for row in rows if row["object"]["metadata"]["name"] in arguments.names]
        items = [row["object"] for row in rows]
    if arguments.output == "json":
        out(json.dumps({"resources": [document(item) for item in items]}, indent=2))
    elif rows:
        wide = arguments.output == "wide"
        for line in (*table(columns, rows, wide=wide, everywhere=everywhere), *sentences(items)):
            out(line)
    elif not missing:
        where = f"namespace {namespace}" if namespace else "any namespace"
        err(f"There is no LLMBackend in {where}.")
    for name in missing:
        err(plain(f"llmb status: there is no LLMBackend {name} in namespace {namespace}"))
    return 1 if missing or not all(map(ready, items)) else 0


async def ask(namespace: str) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """The columns and rows of a namespace's table, or with "" of the cluster's.

    Raises:
        NotConfigured: nothing says where the API server is.
        Failed: it did not give it.
    """
    scope = f"namespaces/{namespace}/{PLURAL}" if namespace else PLURAL
    query = {"includeObject": "Object"}
    try:
        async with await context.connect() as api:
            answer = await api.get(f"/apis/{GROUP}/{VERSION}/{scope}", query=query, accept=TABLE)
    except PortError as error:
        raise Failed(why(error)) from None
    return answer["columnDefinitions"], answer["rows"] or ()


def why(error: PortError) -> str:
    """What an error means to somebody who asks for LLMBackends."""
    if isinstance(error, Gone):
        return (
            "the API server knows no LLMBackends: install the CRD by "
            "kubectl apply --server-side -f crds/llmbackends.yaml"
        )
    if isinstance(error, Unavailable):
        return f"the API server does not answer: see KUBECONFIG, or whether it runs ({error})"
    return f"the API server refused: {error}"


def table(
    columns: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    *,
    wide: bool,
    everywhere: bool,
) -> list[str]:
    """What kubectl prints."""
    shown = [n for n, column in enumerate(columns) if wide or column["priority"] == ALWAYS]
    cells = [[str(columns[n]["name"]).upper() for n in shown]]
    cells += [[_cell(row["cells"][n]) for n in shown] for row in rows]
    if everywhere:
        places = ["NAMESPACE", *(row["object"]["metadata"]["namespace"] for row in rows)]
        cells = [[place, *line] for place, line in zip(places, cells, strict=True)]
    return aligned(cells)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else plain(str(value))


def sentences(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A paragraph for each that is not well."""
    for item in items:
        found = troubles(item)
        if not found:
            continue
        metadata = item["metadata"]
        state = "is Ready, but" if ready(item) else "is not Ready"
        yield ""
        yield plain(f"{metadata['namespace']}/{metadata['name']} {state}:")
        for trouble in found:
            yield from _lines(trouble)
    well = sum(map(ready, items))
    yield ""
    yield f"{well} of {count(len(items), 'LLMBackend')} Ready."


def _lines(trouble: Trouble) -> Iterator[str]:
    about = f"{trouble.condition} is {trouble.status} ({trouble.reason}): "
    yield plain(f"  {about if trouble.condition else ''}{trouble.message}")
    if trouble.remedy:
        yield plain(f"    -> {trouble.remedy}")


def document(item: Mapping[str, Any]) -> dict[str, Any]:
    """One of them for programs."""
    metadata, status = item["metadata"], item.get("status") or {}
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "model": (item.get("spec") or {}).get("modelName"),
        "generation": metadata.get("generation"),
        "ready": ready(item),
        "troubles": [asdict(trouble) for trouble in troubles(item)],
        "status": status,
    }
