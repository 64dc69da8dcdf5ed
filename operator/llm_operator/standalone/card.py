"""What `llmb up` tells a person: progress, the card, and when a resource becomes ready or not.

Words only: it decides nothing.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llm_operator.ports import Status, StatusWriter
from llm_operator.reasons import Condition
from llm_operator.resource.model import Resource
from llm_operator.simulate.behaviour import Kind
from llm_operator.standalone.hosts import Host

CARD = """
LLM Backend is up.

  Router      {router}    OpenAI, Ollama and unified API
  Probes      {management}    /readyz /status /metrics
  Admin       {admin}    page and API; the token: cat {token}
  Resources   {resources}    one YAML file each; an edit is live within 2 s
  Ollama      {ollama}
  MLX         {mlx}
  Database    {database}
  Logs        {logs}

{next}
Ctrl-C ends everything; the data stay in {data}.

"""

ASK = """\
Ask something; x-llm-backend-type says who answered:

  curl -i {router}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Then change backendType in {file} and ask again."""

MAKE = "There is no resource yet: make one on the page, or write a file into {resources}."

EXAMPLE = """\
# Where one model is served. Edit and save: the router follows within 2 seconds.
apiVersion: llm.athena.dev/v1alpha1
kind: LLMBackend
metadata:
  name: {name}
spec:
  modelName: {model}
  # ollama | mlx | openai | auto (MLX first, then Ollama)
  backendType: auto
  # Without these, the hosts that `llmb up` found or simulates are used:
  # endpointURL: http://mac-studio.lan:8080
  # fallbackEndpointURL: http://mac-studio.lan:11434
  maxTokens: 2048
  temperature: 0.7
  timeoutSeconds: 60
  description: An example; change backendType and ask again.
"""


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """The URLs of what listens on this machine."""

    router: str
    management: str
    admin: str

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """By the flags of `llmb up`."""
        url = "http://127.0.0.1:{}".format
        return cls(
            router=url(arguments.port),
            management=url(arguments.management_port),
            admin=url(arguments.admin_port),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A resource to begin with."""

    file: Path
    model: str


def show(
    at: At,
    *,
    data: Path,
    hosts: Mapping[Kind, Host],
    example: Example | None,
    database: str,
    token: Path,
) -> None:
    """The card: where everything is, and one command that works."""
    resources = data / "resources"
    if example is None:
        begin = MAKE.format(resources=resources)
    else:
        begin = ASK.format(router=at.router, model=example.model, file=example.file)
    say(
        CARD.format(
            router=at.router,
            management=at.management,
            admin=at.admin,
            token=token,
            resources=resources,
            ollama=hosts[Kind.OLLAMA],
            mlx=hosts[Kind.MLX],
            database=database,
            logs=data / "logs",
            next=begin,
            data=data,
        )
    )


class Announced:
    """A `StatusWriter` that also says when a resource becomes ready, or stops being so."""

    def __init__(self, writer: StatusWriter) -> None:
        self._writer = writer
        self._said: dict[str, str] = {}

    async def write(self, resource: Resource, status: Status) -> None:
        """Pass it on, and say what is new for a person."""
        await self._writer.write(resource, status)
        line = verdict(resource, status)
        if line and self._said.get(resource.identity.uid) != line:
            self._said[resource.identity.uid] = line
            say(f"{time.strftime('%H:%M:%S')}  {line}")


def verdict(resource: Resource, status: Status) -> str:
    """A status as one line; "" while there is nothing to say yet."""
    conditions: Any = status.get("conditions")
    ready = next((c for c in conditions or () if c["type"] == Condition.READY), None)
    name, generation = resource.identity.name, resource.identity.generation
    if ready is None or ready["status"] == "Unknown":
        return ""
    if ready["status"] == "True" and resource.spec is not None:
        kind, model = resource.spec.kind, resource.spec.model_name
        return f"{name} (generation {generation}) is ready: {model} by {kind}"
    return f"{name} (generation {generation}) is not ready: {ready['message']}"
