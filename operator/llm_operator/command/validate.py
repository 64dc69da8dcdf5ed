"""`llmb validate`: the CRD's rules, offline.

What it finds is what the API server, and then the operator, would say, without either of them. It
writes nothing and asks nobody, so it fits a pre-commit hook.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from llm_contract import RoutingConfig
from llm_operator.command.documents import Unreadable, read
from llm_operator.command.manifests import Finding, Loaded, Manifest, load
from llm_operator.command.text import count, err, out, plain
from llm_operator.plan import Addresses, plan
from llm_operator.reasons import Accepted

EPILOG = """\
One line for each mistake: FILE:DOCUMENT: FIELD: REASON; documents count from 1.
Two resources of one namespace that claim one model name or alias are a warning.
Exits 0 when there are at most warnings, 1 when something is wrong, 2 when a file
can't be read.

example:
  llmb validate backends/
  kustomize build overlays/prod | llmb validate -
  llmb validate --output json phi3.yaml | jq '.findings[].message'
"""

#: NB: which addresses the operator has by default is not known here, and not asked for.
ANY = Addresses(ollama="http://ollama:11434", mlx="http://mlx:8080")

ORDER = (
    "Of those that claim one name it belongs to the lowest spec.priority, then the oldest, then "
    "the first by name."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb validate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Check manifests of LLMBackends as the API server would, without one."
    parser.epilog = EPILOG
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML or JSON, a folder of such, or - for stdin"
    )
    parser.add_argument(
        "-n", "--namespace", metavar="NS", help="of manifests that name none (default: default)"
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="the form (default: text)"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Check and print; the exit status."""
    try:
        loaded = load(read(arguments.files), namespace=arguments.namespace)
    except Unreadable as error:
        err(f"llmb validate: {plain(str(error))}")
        return 2
    findings = sorted((*loaded.findings, *conflicts(loaded.manifests)), key=_place)
    if arguments.output == "json":
        out(json.dumps(document(loaded, findings), indent=2))
    else:
        for finding in findings:
            out(plain(str(finding)))
        for line in summary(loaded, findings):
            err(line)
    return 0 if all(finding.warning for finding in findings) else 1


def conflicts(manifests: Iterable[Manifest]) -> Iterator[Finding]:
    """What of a valid resource goes to another one of its namespace."""
    by_namespace: dict[str, dict[str, Manifest]] = defaultdict(dict)
    for one in manifests:
        by_namespace[one.resource.identity.namespace][one.resource.identity.uid] = one
    for several in by_namespace.values():
        # NB: whether one is paused says nothing of the file.
        resources = [replace(one.resource, paused=False) for one in several.values()]
        planned = plan(resources, addresses=ANY, published=RoutingConfig())
        for uid, verdict in planned.verdicts.items():
            if verdict.reason is Accepted.MODEL_NAME_CONFLICT:
                told = verdict.message.removeprefix("Valid. ")
                field = "spec.aliases" if verdict.routed else "spec.modelName"
                yield several[uid].finding(told, at=field, warning=True)


def summary(loaded: Loaded, findings: Sequence[Finding]) -> Iterator[str]:
    """The end of the text: what was looked at, and what was not."""
    if loaded.skipped:
        kinds = ", ".join(f"{number} {plain(kind)}" for kind, number in loaded.skipped.items())
        yield f"Not looked at, being no LLMBackends: {kinds}."
    if not loaded.checked:
        yield "There is no LLMBackend in what was given."
        return
    if any("belongs to" in finding.message for finding in findings if finding.warning):
        yield ORDER
    wrong = {(f.document.place, f.document.within) for f in findings if not f.warning}
    warnings = sum(finding.warning for finding in findings)
    verdict = f"{len(wrong)} wrong" if wrong else "all valid"
    more = f", {count(warnings, 'warning')}" if warnings else ""
    yield f"{count(loaded.checked, 'LLMBackend')} checked: {verdict}{more}."


def _place(finding: Finding) -> tuple[str, int]:
    return finding.document.file, finding.document.number


def document(loaded: Loaded, findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "checked": loaded.checked,
        "skipped": dict(loaded.skipped),
        "valid": all(finding.warning for finding in findings),
        "findings": [
            {
                "file": finding.document.file,
                "document": finding.document.number,
                "resource": finding.resource,
                "field": f"{finding.document.within}{finding.field}".rstrip("."),
                "message": finding.message,
                "severity": "warning" if finding.warning else "error",
            }
            for finding in findings
        ],
    }
