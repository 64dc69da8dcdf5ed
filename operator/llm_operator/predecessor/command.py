"""`llmb import`: the predecessor's rows as YAML of LLMBackends, and its metrics as usage records.

It prints and writes files; it applies nothing. What was asked for goes to standard output, what
there is to say about it to standard error, a line each.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llm_operator.command.documents import documents
from llm_operator.command.manifests import load
from llm_operator.command.text import count, err, plain
from llm_operator.command.validate import conflicts
from llm_operator.migrate import URL_VARIABLE
from llm_operator.predecessor import ask, reasons
from llm_operator.predecessor.ask import NoRows
from llm_operator.predecessor.backfill import NotStored, Tally, backfill
from llm_operator.predecessor.convert import Converted, convert
from llm_operator.predecessor.reasons import Finding
from llm_operator.predecessor.write import Form, Written, document, stream, write
from llm_operator.record import predecessor
from llm_operator.record.dsn import InvalidDatabaseURL
from llm_operator.record.predecessor import Unreadable
from llm_operator.record.upkeep import Keep
from llm_operator.resource.check import check
from llm_operator.resource.fields import SPEC

EPILOG = f"""\
Each row becomes one LLMBackend. What a resource can't say is kept in an annotation
llm.athena.dev/imported-COLUMN and told on standard error: as a warning, or, when a
person has to look at it, without that word. Where requests would go elsewhere than
before, the resource is switched off. Nothing is applied, and no file is written
over. docs/import.md has the way over, step by step.

A password may stand in PGPASSWORD instead of the URL, where ps does not show it.
Exits 0 when all came over, 1 when a person has to look at something, 2 for wrong
use or when something could not be read or written.

example:
  llmb import --from-postgres postgresql://athena@db.lan/athena_admin -n ai -o backends.yaml
  llmb import --from-api http://admin.lan:8080 --token-file token --folder backends/
  {URL_VARIABLE}=postgresql://llmb@db/llmb llmb import --metrics \\
    --from-postgres postgresql://athena@db.lan/athena_admin | kubectl apply --server-side -f -
"""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Failed(Exception):
    """There is nothing to print, or it could not be written. The message says what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb import`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Turn the predecessor's configuration into LLMBackends."
    parser.epilog = EPILOG
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--from-postgres", metavar="URL", help="the predecessor's database")
    source.add_argument("--from-api", metavar="URL", help="the predecessor's admin API")
    parser.add_argument("--token-file", metavar="FILE", help="of the API")
    parser.add_argument("-n", "--namespace", metavar="NS", help="written into each manifest")
    parser.add_argument(
        "--ollama-url", metavar="URL", help="what auto falls back to (default: the operator's)"
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("-o", metavar="FILE", dest="file", help="instead of standard output")
    place.add_argument("--folder", metavar="DIR", help="one file for each resource, there")
    parser.add_argument(
        "--output", choices=[form.value for form in Form], default=Form.YAML.value, help="the form"
    )
    parser.add_argument(
        "--metrics", action="store_true", help="also store the predecessor's metrics as usage"
    )
    parser.add_argument(
        "--to", metavar="URL", help=f"the database to store them in (default: ${URL_VARIABLE})"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Read, tell and write; the exit status."""
    # NB: what these log is told here, in words.
    logging.getLogger("llm_operator.record").addHandler(logging.NullHandler())
    try:
        to = _checked(arguments)
        found = checked(await _converted(arguments))
        fine = _written(found, arguments)
        _tell(found)
        if to is not None:
            fine &= await _backfilled(arguments, to)
    except (Failed, NoRows, Unreadable) as error:
        err(f"llmb import: {plain(str(error))}")
        return 2
    return 0 if fine and not any(finding.lost for finding in _findings(found)) else 1


def checked(found: Converted) -> Converted:
    """The same with what `llmb validate` says of the resources."""
    loaded = load(documents("import", stream(found.resources, Form.YAML)))
    more: dict[int, list[Finding]] = {}
    for one in (*loaded.findings, *conflicts(loaded.manifests)):
        place = one.document.number - 1
        about = found.resources[place]
        told = Finding(
            row=about.row,
            model=about.model,
            field=one.field,
            text=reasons.REFUSED.text.format(rule=one.message),
            lost=reasons.REFUSED.lost,
        )
        more.setdefault(place, []).append(told)
    resources = tuple(
        replace(one, findings=(*one.findings, *more.get(place, ())))
        for place, one in enumerate(found.resources)
    )
    return replace(found, resources=resources)


def _checked(arguments: argparse.Namespace) -> str | None:
    """Where metrics go to; None for nowhere."""
    if arguments.namespace is not None and not _NAMESPACE.fullmatch(arguments.namespace):
        raise Failed("--namespace: must be a lowercase RFC 1123 label: a-z, 0-9 and -, at most 63")
    if arguments.ollama_url is not None:
        for one in check(SPEC.fields["fallbackEndpointURL"], arguments.ollama_url, "")[1]:
            raise Failed(f"--ollama-url: {one.message}")
    if arguments.token_file is not None and arguments.from_api is None:
        raise Failed("--token-file is for --from-api alone")
    if not arguments.metrics:
        if arguments.to is not None:
            raise Failed("--to is for --metrics alone")
        return None
    if arguments.from_postgres is None:
        raise Failed("--metrics needs --from-postgres: the API tells the last 1,000 alone")
    to: str = arguments.to or os.environ.get(URL_VARIABLE, "")
    if not to:
        raise Failed(f"--metrics needs a database to store them in: give --to or {URL_VARIABLE}")
    return to


async def _converted(arguments: argparse.Namespace) -> Converted:
    rows: Sequence[object]
    if arguments.from_postgres is not None:
        try:
            rows = await predecessor.backends(arguments.from_postgres)
        except InvalidDatabaseURL as error:
            raise Failed(f"--from-postgres: {error}") from None
    else:
        token = _token(arguments.token_file) if arguments.token_file is not None else ""
        rows = await ask.backends(arguments.from_api, token=token)
    return convert(rows, namespace=arguments.namespace, ollama_url=arguments.ollama_url)


def _token(name: str) -> str:
    try:
        token = Path(name).read_text(encoding="ascii").strip()
    except OSError as error:
        raise Failed(f"--token-file: {name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise Failed(f"--token-file: {name} holds no token; it is one line of plain ASCII")
    return token


def _written(found: Converted, arguments: argparse.Namespace) -> bool:
    """Put them where they were asked for. Returns whether all of them are there."""
    form = Form(arguments.output)
    if arguments.file is None and arguments.folder is None:
        # NB: bytes, since standard output may be of an encoding that lacks a character.
        sys.stdout.buffer.write(stream(found.resources, form).encode())
        sys.stdout.buffer.flush()
        return True
    try:
        outcomes = [(path, write(path, text)) for path, text in _files(found, arguments, form)]
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror or error}") from None
    for path, outcome in outcomes:
        if outcome is Written.OTHER:
            err(plain(f"{path}: is there with other content, and was left as it is"))
    new = sum(outcome is Written.NEW for _, outcome in outcomes)
    same = sum(outcome is Written.SAME for _, outcome in outcomes)
    err(f"{count(new, 'file')} written, {same} there already.")
    return all(outcome is not Written.OTHER for _, outcome in outcomes)


def _files(
    found: Converted, arguments: argparse.Namespace, form: Form
) -> Iterator[tuple[Path, str]]:
    if arguments.file is not None:
        yield Path(arguments.file), stream(found.resources, form)
        return
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for one in found.resources:
        yield folder / f"{one.name}.{form.value}", document(one, form)


def _findings(found: Converted) -> Iterable[Finding]:
    yield from found.findings
    for one in found.resources:
        yield from one.findings


def _tell(found: Converted) -> None:
    findings = list(_findings(found))
    for finding in findings:
        err(plain(str(finding)))
    made = len(found.resources)
    lost = sum(finding.lost for finding in findings)
    off = sum(one.off for one in found.resources)
    err(
        f"{count(found.rows, 'row')}: {count(made, 'LLMBackend')}, {off} of them switched off by "
        f"this import, {found.rows - made} not imported; {lost} to look at, "
        f"{count(len(findings) - lost, 'warning')}."
    )


async def _backfilled(arguments: argparse.Namespace, to: str) -> bool:
    """Store the metrics. Returns whether each became a record."""
    try:
        tally = await backfill(
            arguments.from_postgres, to, namespace=arguments.namespace or "", say=err
        )
    except InvalidDatabaseURL as error:
        raise Failed(f"--to: {error}") from None
    except NotStored as error:
        raise Failed(f"--to: {error}") from None
    for line in told(tally):
        err(plain(line))
    return not tally.passed.counts


def told(tally: Tally) -> Iterator[str]:
    """The end of the metrics, line by line."""
    for why, number in tally.passed.counts.items():
        ids = ", ".join(tally.passed.first[why])
        more = ", ..." if number > len(tally.passed.first[why]) else ""
        yield f"metrics: {why} ({count(number, 'row')}: {ids}{more})"
    keep = Keep()
    if tally.old:
        yield (
            f"warning: metrics: {tally.old:,} are older than {keep.usage} days: the operator drops "
            "their records at its next upkeep; their hourly sums stay"
        )
    if tally.ancient:
        yield (
            f"warning: metrics: {tally.ancient:,} are older than {keep.hourly} days: the operator "
            "drops their hourly sums too"
        )
    known = tally.records - tally.new
    yield (
        f"{count(tally.count, 'metric')}: {tally.new:,} stored, {known:,} there already, "
        f"{tally.count - tally.records:,} left out. tokens_per_second is not taken over: it was "
        "measured over the whole time; tokens and seconds are."
    )
