"""`llmb explain`: where a request for a model would go now, and why each other target is no better.

It asks a router's management port, which asks no host: nothing is generated and nothing changes.
Data flows a router's /explain -> here -> a table on standard output.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from llm_operator.command.text import aligned, plain

ROUTER = "http://127.0.0.1:8081"
SECONDS = 10.0

EPILOG = """Exits 0 when the request would be served, 1 when not, 2 for wrong use or no router.

example:
  llmb explain phi3:mini
  llmb explain phi3:mini --router http://127.0.0.1:11441 --path /api/chat --body request.json
  kubectl port-forward pod/orchestrator-0 8081 & llmb explain phi3:mini --output json
"""

COLUMNS = ("PLACE", "TARGET", "TYPE", "VERDICT", "WHY")


class Failed(Exception):
    """There is nothing to show; the message names the flag that changes it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb explain`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="the name that callers use, or an alias")
    parser.add_argument(
        "--router", default=ROUTER, metavar="URL", help=f"its management port (default: {ROUTER})"
    )
    parser.add_argument("--path", help="of the request (default: /v1/chat/completions)")
    parser.add_argument(
        "--body", metavar="FILE", help="a real request as JSON; - reads it from stdin"
    )
    parser.add_argument("--sticky", metavar="VALUE", help="of the route's sticky header")
    parser.add_argument("--output", choices=("table", "json"), default="table")


async def run(arguments: argparse.Namespace) -> int:
    """Ask and print; the exit status."""
    try:
        question = await asyncio.to_thread(_question, arguments)
        told = await ask(arguments.router, question)
    except Failed as failed:
        sys.stderr.write(f"llmb explain: {failed}\n")
        return 2
    text = json.dumps(told, indent=2) if arguments.output == "json" else table(told)
    sys.stdout.write(f"{text}\n")
    return 0 if told.get("would") else 1


async def ask(router: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """A router's answer.

    Raises:
        Failed: it gave none.
    """
    url = f"{router.rstrip('/')}/explain"
    try:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            answer = await client.post(url, json=question)
        document = answer.json()
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise Failed(f"{router!r} is no URL; give http://HOST:PORT by --router") from None
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise Failed(f"no router answers at {router} ({why}); give another by --router") from None
    except ValueError:
        document = None
    if answer.status_code == httpx.codes.BAD_REQUEST and isinstance(document, dict):
        raise Failed(str(document.get("detail")))
    if not answer.is_success or not isinstance(document, dict) or "would" not in document:
        message = f"{router} answered {answer.status_code} and is no router's management port"
        raise Failed(f"{message}; give that by --router")
    return document


def table(told: Mapping[str, Any]) -> str:
    """The answer for a person: a row a target, first the one that would be asked first."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for target in told["targets"]:
        place = str(target["place"] or "-")
        cells = (target["name"], target["type"], target["verdict"], target["why"])
        rows.append((place, *map(plain, cells)))
    lines = aligned(rows) if told["targets"] else []
    route = told.get("route")
    about = f"{told['model']}: {told['reason']}"
    if route:
        about += f" (route {route['name']}, configuration {told['config']})"
    return "\n".join([*lines, *([""] if lines else []), plain(about)])


def _question(arguments: argparse.Namespace) -> dict[str, Any]:
    question: dict[str, Any] = {"model": arguments.model}
    if arguments.path is not None:
        question["path"] = arguments.path
    if arguments.sticky is not None:
        question["sticky"] = arguments.sticky
    if arguments.body is not None:
        question["body"] = _read(arguments.body)
    return question


def _read(name: str) -> Any:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        return json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise Failed(f"{name}: {error.strerror}; name a readable file by --body") from None
    except ValueError as error:
        raise Failed(f"{name} is not JSON ({error}); --body takes a request as JSON") from None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
