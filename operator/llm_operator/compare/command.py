"""`llmb compare`: how fast each backend of a model was, from recorded traffic.

It asks the admin API, which reads Postgres: nothing is generated and nothing changes. Data flows
GET /api/llm-backends/compare -> `document` -> `table` on standard output.
"""

import argparse
import asyncio
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from llm_operator.command.text import err, out, plain
from llm_operator.compare import document, table
from llm_operator.compare.document import Report
from llm_operator.compare.statistics import ENOUGH, Verdict

ADMIN = "http://127.0.0.1:8090"
PATH = "/api/llm-backends/compare"
SETTING = "LLMB_ADMIN_TOKEN_FILE"
TOKEN = Path("llmb-data/admin.token")
SECONDS = 30.0

EPILOG = f"""The speedup is the baseline's average time by the backend's, with its 95 % interval.
Times and rates are of requests that the first target asked has answered. With fewer
than {ENOUGH} of them on either side it says "not enough data" instead of a number.

Exits 0 when each model has two backends with enough data, 1 when one has not, 2 for
wrong use or no admin API.

settings:
  {SETTING}  file with the bearer token; --token-file wins

example:
  llmb compare phi3:mini
  llmb compare phi3:mini llama3.1:8b --since 7d --baseline ollama
  llmb compare phi3:mini --by target --since 2026-11-01T00:00:00Z --until 2026-11-08T00:00:00Z
"""

_AGO = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Failed(Exception):
    """There is nothing to show; the message names the flag that changes it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `llmb compare`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="the name that callers use, not an alias"
    )
    parser.add_argument(
        "--admin", default=ADMIN, metavar="URL", help=f"the admin API (default: {ADMIN})"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"(default: {TOKEN}, if it is there)"
    )
    parser.add_argument(
        "--since", default="24h", metavar="TIME", help="30m, 24h, 7d or an ISO time (default: 24h)"
    )
    parser.add_argument("--until", metavar="TIME", help="likewise (default: now)")
    parser.add_argument(
        "--baseline", metavar="BACKEND", help="what to compare with (default: ollama, or slowest)"
    )
    parser.add_argument(
        "--by", choices=("backend_type", "target"), default="backend_type", help="one row for each"
    )
    parser.add_argument("--namespace", help="of the routers (default: all)")
    parser.add_argument("--output", choices=("table", "json"), default="table")


async def run(arguments: argparse.Namespace) -> int:
    """Ask and print; the exit status."""
    try:
        token = await asyncio.to_thread(_token, arguments.token_file)
        asked = _question(arguments, now=datetime.now(UTC))
        told = await ask(arguments.admin, token, arguments.models, asked)
    except Failed as failed:
        err(f"llmb compare: {failed}")
        return 2
    reports = [report for report, _ in told]
    if arguments.output == "json":
        out(json.dumps([answer for _, answer in told], indent=2))
    else:
        _print(reports)
    return 0 if all(_enough(report) for report in reports) else 1


async def ask(
    admin: str, token: str, models: list[str], question: dict[str, str]
) -> list[tuple[Report, Any]]:
    """The answer for each model, read and as it came.

    Raises:
        Failed: there is none.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = f"{admin.rstrip('/')}{PATH}"
    told = []
    try:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False, headers=headers) as client:
            for model in models:
                answer = await client.get(url, params={"model": model, **question})
                told.append(_read(answer, admin))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise Failed(f"{admin!r} is no URL; give http://HOST:PORT by --admin") from None
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        message = f"no admin API answers at {admin} ({why})"
        raise Failed(f"{message}; give another by --admin") from None
    return told


def _read(answer: httpx.Response, admin: str) -> tuple[Report, Any]:
    try:
        told = answer.json()
    except ValueError:
        told = None
    if answer.is_success:
        try:
            return document.read(told), told
        except ValueError as error:
            message = f"{admin} is no admin API of this release ({error})"
            raise Failed(f"{message}; give another by --admin") from None
    detail = told.get("detail") if isinstance(told, dict) else None
    if not isinstance(detail, str):
        message = f"{admin} answered {answer.status_code} and is no admin API"
        raise Failed(f"{message}; give another by --admin")
    hint = f"; give a token by --token-file or {SETTING}"
    unknown = answer.status_code == httpx.codes.UNAUTHORIZED
    raise Failed(f"{plain(detail)}{hint if unknown else ''}")


def _print(reports: list[Report]) -> None:
    if any(report.comparison.backends for report in reports):
        blocks = [table.summary(reports)]
    else:
        blocks = []
    blocks += [table.full(report) for report in reports]
    out("\n\n".join("\n".join(block) for block in blocks))


def _enough(report: Report) -> bool:
    verdicts = [backend.verdict for backend in report.comparison.backends]
    return len(verdicts) > 1 and Verdict.UNKNOWN not in verdicts


def _question(arguments: argparse.Namespace, *, now: datetime) -> dict[str, str]:
    since = instant(arguments.since, "--since", now=now)
    until = now if arguments.until is None else instant(arguments.until, "--until", now=now)
    if since >= until:
        raise Failed(f"--since {arguments.since} is not before --until {arguments.until or 'now'}")
    question = {"since": since.isoformat(), "until": until.isoformat(), "by": arguments.by}
    for name in ("baseline", "namespace"):
        if value := getattr(arguments, name):
            question[name] = value
    return question


def instant(text: str, flag: str, *, now: datetime) -> datetime:
    """The time that is meant: so long ago, or as it is said; without a zone it is of UTC.

    Raises:
        Failed: it is neither.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return now - timedelta(**{_UNITS[ago["unit"]]: int(ago["count"])})
        said = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Failed(f"{flag} {text!r} is no time; give 24h, 7d or 2026-11-01T00:00:00Z") from None
    return said.astimezone(UTC) if said.tzinfo else said.replace(tzinfo=UTC)


def _token(given: Path | None) -> str:
    """The bearer token; "" when none is named and there is none by default."""
    named = given or (Path(os.environ[SETTING]) if os.environ.get(SETTING) else None)
    try:
        token = (named or TOKEN).read_text().strip()
    except FileNotFoundError:
        if named is None:
            return ""
        raise Failed(f"{named}: there is no such file; name the token's by --token-file") from None
    except (OSError, ValueError):
        message = f"{named or TOKEN} can't be read"
        raise Failed(f"{message}; name the token's file by --token-file") from None
    if not token.isascii() or not token.isprintable():
        raise Failed(f"{named or TOKEN} holds no token; name the token's file by --token-file")
    return token
