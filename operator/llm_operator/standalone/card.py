"""What `llmb up` tells a person: progress, the card, and when a resource becomes ready or not.

Words only: it decides nothing.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_operator.ports import Status, StatusWriter
from llm_operator.reasons import Condition
from llm_operator.resource.model import Resource
from llm_operator.simulate.behaviour import Kind
from llm_operator.standalone.hosts import Host

CARD = """
LLM Backend is up.

  Router      {router}    OpenAI, Ollama and unified API
  Probes      {management}    /readyz /status /metrics
  Resources   {resources}    one YAML file each; an edit is live within 2 s
  Ollama      {ollama}
  MLX         {mlx}
  Database    {database}
  Logs        {logs}

Ask something; x-llm-backend-type says who answered:

  curl -i {router}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Then change backendType in {example} and ask again.
Ctrl-C ends everything; the data stay in {data}.

"""

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


def show(
    *,
    router: str,
    management: str,
    data: Path,
    hosts: Mapping[Kind, Host],
    example: Path,
    model: str,
    database: str,
) -> None:
    """The card: where everything is, and one command that works."""
    say(
        CARD.format(
            router=router,
            management=management,
            resources=data / "resources",
            ollama=hosts[Kind.OLLAMA],
            mlx=hosts[Kind.MLX],
            database=database,
            logs=data / "logs",
            model=model,
            example=example,
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
