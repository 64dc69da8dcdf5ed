"""`llmb render`: the routing.json that manifests give, byte for byte as the operator publishes it.

It plans as the operator does and writes to standard output alone. What a cluster knows and files do
not it says on standard error: uids that are made up, what is paused.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from llm_contract import RoutingConfig, checksum, dump
from llm_operator.command.documents import Unreadable, read
from llm_operator.command.manifests import Loaded, Manifest, load
from llm_operator.command.text import count, err, plain
from llm_operator.plan import Addresses, Verdict, plan
from llm_operator.publish.outcome import Place, decide
from llm_operator.reasons import Accepted, ConfigPublished
from llm_operator.settings import TABLE, SettingsError

EPILOG = """\
References to Secrets, ConfigMaps and Services are taken for there. The uid and
generation of a route come from the API server: files that lack them get a uid
made of namespace and name, and generation 1. Exits 0, 1 when something is
invalid (stderr says what, stdout is empty), or 2 for wrong use.

example:
  llmb render --default-ollama-url http://ollama.models:11434 backends/ | jq .
  kubectl get llmbackends -n ai -o yaml | llmb render - | sha256sum
  diff <(git show main:phi3.yaml | llmb render -) <(llmb render phi3.yaml)
"""

#: The operator's settings for resources that name no URL.
OLLAMA, MLX = "LLMB_DEFAULT_OLLAMA_URL", "LLMB_DEFAULT_MLX_URL"

PLACE = Place(name="routing.json", remedy="")


class WrongUse(Exception):
    """The arguments don't say what to do. The message says which would."""


class Invalid(Exception):
    """There is nothing to publish; `lines` says why."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb render`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Print the routing.json of one namespace, as the operator would publish it for these files."
    )
    parser.epilog = EPILOG
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML or JSON, a folder of such, or - for stdin"
    )
    parser.add_argument(
        "-n",
        "--namespace",
        metavar="NS",
        help="the one to print, and that of manifests that name none (needed only for several)",
    )
    for flag, variable in (("ollama", OLLAMA), ("mlx", MLX)):
        parser.add_argument(
            f"--default-{flag}-url",
            metavar="URL",
            help=f"of resources that name none (default: ${variable}, as for the operator)",
        )


async def run(arguments: argparse.Namespace) -> int:
    """Plan and print; the exit status."""
    try:
        addresses = _addresses(arguments)
        loaded = load(read(arguments.files), namespace=arguments.namespace)
        namespace = _namespace(loaded.manifests, arguments.namespace)
        raw, notes = rendered(loaded, namespace, addresses)
    except (Unreadable, SettingsError, WrongUse) as error:
        err(f"llmb render: {plain(str(error))}")
        return 2
    except Invalid as invalid:
        for line in invalid.lines:
            err(plain(line))
        if any(variable in line for line in invalid.lines for variable in (OLLAMA, MLX)):
            err("Give default addresses by --default-ollama-url and --default-mlx-url.")
        err("Nothing is printed, because not everything is valid.")
        return 1
    for note in notes:
        err(plain(note))
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()
    return 0


def rendered(loaded: Loaded, namespace: str, addresses: Addresses) -> tuple[bytes, list[str]]:
    """The bytes, and what there is to know about them.

    Raises:
        Invalid: the operator would not publish all of it.
    """
    here = [one for one in loaded.manifests if one.resource.identity.namespace == namespace]
    # NB: of two under one name, which one counts would be a guess.
    findings = [f for f in loaded.findings if not f.warning or f.field == "metadata.name"]
    if findings:
        raise Invalid([str(replace(finding, warning=False)) for finding in findings])
    resources = [replace(one.resource, paused=False) for one in here]
    planned = plan(resources, addresses=addresses, published=RoutingConfig())
    verdicts = planned.verdicts
    if lines := list(_told(here, verdicts, Accepted.INVALID)):
        raise Invalid(lines)
    raw = dump(planned.config)
    outcome = decide(None, raw, checksum=checksum(raw), place=PLACE)
    if outcome.reason is not ConfigPublished.PUBLISHED:
        raise Invalid([f"{outcome.message}."])
    conflicts = _told(here, verdicts, Accepted.MODEL_NAME_CONFLICT)
    return raw, [*(f"note: {line}" for line in conflicts), *_notes(here, namespace)]


def _told(
    manifests: Iterable[Manifest], verdicts: Mapping[str, Verdict], reason: Accepted
) -> Iterator[str]:
    for one in manifests:
        verdict = verdicts.get(one.resource.identity.uid)
        if verdict is not None and verdict.reason is reason:
            told = verdict.message.removeprefix("Valid. ")
            yield f"{one.document.place}: {one.resource.identity}: {told}"


def _notes(manifests: Sequence[Manifest], namespace: str) -> Iterator[str]:
    if not manifests:
        yield f"note: there is no LLMBackend of namespace {namespace} in what was given"
    for one in manifests:
        if one.resource.paused:
            yield (
                f"note: {one.resource.identity} is paused: the operator keeps the route it has, "
                "and this is the one it gets afterwards"
            )
    if made := sum(not one.named for one in manifests):
        yield (
            f"note: {count(made, 'uid')} made up, since the API server gives them; "
            "published bytes differ in that"
        )


def _namespace(manifests: Iterable[Manifest], asked: str | None) -> str:
    names = sorted({one.resource.identity.namespace for one in manifests})
    if asked is not None or len(names) == 1:
        return asked or names[0]
    if names:
        raise WrongUse(
            f"there are LLMBackends of the namespaces {', '.join(names)}, and each has its own "
            "routing.json: choose one by --namespace"
        )
    return "default"


def _addresses(arguments: argparse.Namespace) -> Addresses:
    given = {OLLAMA: arguments.default_ollama_url, MLX: arguments.default_mlx_url}
    flags = {name: value for name, value in given.items() if value is not None}
    of = {
        setting.name: setting.value({**os.environ, **flags})
        for setting in TABLE
        if setting.name in given
    }
    return Addresses(ollama=of[OLLAMA], mlx=of[MLX])
