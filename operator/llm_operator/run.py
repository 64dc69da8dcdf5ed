"""`llmb operator`: one process that keeps a cluster's published routes, record and statuses right.

It sees to the order of things: settings, the health server, the API server with the CRD and the
rights, the Lease where there is one, and then a `term`. A process leads once at most: what it knows
is as fresh as its term, and when its watch is lost for good, or its Lease, it exits and Kubernetes
starts a new one.
"""

import argparse
import asyncio
import logging
import os
import random
import sys
from contextlib import suppress

from llm_operator import health, logs
from llm_operator.api import API, NotConfigured
from llm_operator.cluster import Cluster
from llm_operator.ports import PortError
from llm_operator.record import InvalidDatabaseURL
from llm_operator.settings import Settings, SettingsError, table
from llm_operator.term import Term, ended_by_signal

logger = logging.getLogger(__name__)

#: Exit codes: ended as asked; could not go on; not set up rightly.
ENDED, FAILED, WRONG = 0, 1, 2

#: Seconds between two looks at an API server that is not ready for the operator: at first, and at
#: most.
LOOK, LOOK_LONGEST = 1.0, 10.0

EXAMPLE = """\
example:
  LLMB_DATABASE_URL=postgresql://llmb:secret@postgres:5432/llmb llmb operator

The API server is found by KUBECONFIG, else by the pod's service account, else by ~/.kube/config.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command; all it takes are environment variables."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Watch LLMBackends; publish their routes, record them in Postgres, report in their status."
    )
    parser.epilog = f"settings (environment variables):\n{table()}\n\n{EXAMPLE}"


async def run(_: argparse.Namespace) -> int:
    """Run until a signal. Returns the exit status."""
    try:
        settings = Settings.from_environment(os.environ)
        logs.configure(settings.log_level)
        return await serve(settings)
    except (SettingsError, NotConfigured, InvalidDatabaseURL, health.NotListening) as error:
        sys.stderr.write(f"llmb operator: {error}\n")
        return WRONG
    except Exception:
        logger.exception("operator_failed")
        return FAILED


async def serve(settings: Settings, *, stop: asyncio.Event | None = None) -> int:
    """Run until `stop` is set or, in the main thread, until SIGTERM or SIGINT. Returns the exit
    code.

    With a Lease it stands by until it holds that, and gives it back at the end. A standby is ready:
    it does all that is its part, and a rollout that waited for it to lead would wait for ever,
    because the old leader is ended only once the new replica is ready.

    Args:
        settings: of the operator.
        stop: ends it; belongs to the running loop.

    Raises:
        NotConfigured: nothing names an API server.
        InvalidDatabaseURL: the database URL can't be used.
        NotListening: the health address can't be listened on.
        Exception: the watch is lost for good.
    """
    stop = stop or asyncio.Event()
    ended_by_signal(stop)
    async with await API.connect() as api:
        term = Term(settings, api)
        async with health.serving(
            settings.health_host,
            settings.health_port,
            healthy=lambda: term.healthy(),
            ready=lambda: term.ready(),
            well=lambda: term.well(),
            metrics=term.metrics.render,
        ):
            lease_namespace = settings.lease[0] if settings.lease else ""
            cluster = Cluster(api, namespaces=settings.namespaces)
            if not await admitted(cluster, stop, lease_namespace=lease_namespace):
                return ENDED if stop.is_set() else FAILED
            if term.election is None:
                return await lead(term, stop)
            term.stand_by()
            if not await term.election.gained(stop):
                return ENDED
            try:
                return await lead(term, stop)
            finally:
                # NB: only now, because until here something may still be written.
                await term.election.release()


async def lead(term: Term, stop: asyncio.Event) -> int:
    """Work until `stop` is set or the watch is lost. Returns the exit code."""
    if not await term.lead(stop):
        logger.error("watch_ended")
        return FAILED
    logger.info("operator_ended")
    return ENDED


async def admitted(cluster: Cluster, stop: asyncio.Event, *, lease_namespace: str = "") -> bool:
    """Whether the operator may start, waiting for the API server and the CRD as long as it takes.

    NB: kopf looks for the CRD once, at its start, and a missing right it would retry for ever in
    silence.
    """
    pause, told = LOOK, ""
    while not stop.is_set():
        try:
            if await cluster.serves():
                break
            problem = "the API server has no LLMBackends: install crds/llmbackends.yaml"
        except PortError as error:
            problem = str(error)
        if problem != told:
            logger.warning("waiting_for_api_server", extra={"detail": problem})
            told = problem
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, LOOK_LONGEST)
    return not stop.is_set() and await _allowed(cluster, lease_namespace)


async def _allowed(cluster: Cluster, lease_namespace: str) -> bool:
    lacking = await cluster.lacking(lease_namespace)
    if lacking:
        logger.error("rights_missing", extra={"rights": lacking})
    return not lacking
