"""The operator's settings: environment variables, read once at the start.

`TABLE` is the one list of them; --help and the documentation print it. A value that can't be used
is an error with the variable, the value and what would do; the value of a secret is never shown.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from llm_operator.namespace import Pace
from llm_operator.plan import Addresses
from llm_operator.resource.model import GROUP
from llm_operator.resource.urls import URL_RULES


class SettingsError(ValueError):
    """A setting is missing or can't be used. The message says which, and what would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One environment variable.

    Attributes:
        default: as text; None when it has to be set.
        expected: what its value has to be, for the error.
        read: text -> value; raises ValueError.
    """

    name: str
    meaning: str
    expected: str
    read: Callable[[str], Any]
    default: str | None = ""
    secret: bool = False

    def value(self, environment: Mapping[str, str]) -> Any:
        """What the environment says, or the default.

        Raises:
            SettingsError: it is missing, or not what is expected.
        """
        text = environment.get(self.name, "").strip()
        if not text and self.default is None:
            raise SettingsError(f"{self.name} is not set: it has to be {self.expected}")
        try:
            return self.read(text or self.default or "")
        except ValueError:
            # NB: a password can stand in any URL, also where none belongs.
            shown = "what is set" if self.secret or "@" in text else repr(text)
            raise SettingsError(f"{self.name}: {shown} is not {self.expected}") from None


def _number(minimum: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not minimum <= value < 86_400:
            raise ValueError
        return value

    return read


def _port(text: str, *, lowest: int = 0) -> int:
    value = int(text)
    if not lowest <= value <= 65_535:
        raise ValueError
    return value


def _url(text: str) -> str | None:
    if not text:
        return None
    # As strict as in a resource: it goes to every router just the same.
    for rule in URL_RULES:
        if not rule.holds(text):
            raise ValueError(rule.message)
    return text.rstrip("/")


def _names(text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names):
        raise ValueError
    return names


def _database(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError
    return text


def _lease(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    namespace, _, name = text.partition("/")
    label = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
    if not re.fullmatch(label, namespace) or not re.fullmatch(rf"{label}(\.{label})*", name):
        raise ValueError
    return namespace, name


def _lease_seconds(text: str) -> int:
    # NB: a Lease takes whole seconds only.
    value = int(text)
    if not 2 <= value <= 3600:
        raise ValueError
    return value


def _flag(text: str) -> bool:
    values = {"true": True, "false": False}
    if text.lower() not in values:
        raise ValueError
    return values[text.lower()]


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError
    return text.upper()


TABLE: tuple[Setting, ...] = (
    Setting(
        name="LLMB_DATABASE_URL",
        meaning="Postgres, for the record of all LLMBackends. Routing works without it.",
        expected="a URL such as postgresql://USER:PASSWORD@HOST:5432/NAME",
        read=_database,
        default=None,
        secret=True,
    ),
    Setting(
        name="LLMB_NAMESPACES",
        meaning="The namespaces to serve, separated by commas. Empty: all of the cluster.",
        expected="names of namespaces separated by commas",
        read=_names,
    ),
    Setting(
        name="LLMB_DEFAULT_OLLAMA_URL",
        meaning="The Ollama server of resources that name none. Empty: they have to.",
        expected="a URL such as http://ollama.models:11434",
        read=_url,
    ),
    Setting(
        name="LLMB_DEFAULT_MLX_URL",
        meaning="The MLX server of resources that name none. Empty: they have to.",
        expected="a URL such as http://mac-studio.lan:8080",
        read=_url,
    ),
    Setting(
        name="LLMB_RESYNC_SECONDS",
        meaning="Everything is compared and repaired this often.",
        expected="a number of seconds from 1 up",
        read=_number(1),
        default="60",
    ),
    Setting(
        name="LLMB_DEBOUNCE_SECONDS",
        meaning="A namespace is published when nothing has changed for this long.",
        expected="a number of seconds from 0 up",
        read=_number(0),
        default="0.1",
    ),
    Setting(
        name="LLMB_DEBOUNCE_MAX_SECONDS",
        meaning="It is published this long after the first change anyhow.",
        expected="a number of seconds from 0 up",
        read=_number(0),
        default="2",
    ),
    Setting(
        name="LLMB_LEASE",
        meaning="The Lease by which several replicas agree on the one that works. Empty: there is "
        "one replica.",
        expected="NAMESPACE/NAME of a Lease",
        read=_lease,
    ),
    Setting(
        name="LLMB_LEASE_SECONDS",
        meaning="A Lease that was not renewed for this long goes to another replica.",
        expected="a whole number of seconds from 2 to 3600",
        read=_lease_seconds,
        default="15",
    ),
    Setting(
        name="LLMB_NUDGE",
        meaning="After a publish, annotate the router pods, so that their kubelets refresh the "
        "mounted configuration at once.",
        expected="true or false",
        read=_flag,
        default="true",
    ),
    Setting(
        name="LLMB_ROUTER_SECONDS",
        meaning="Each router pod is asked this often what it runs.",
        expected="a number of seconds from 1 up",
        read=_number(1),
        default="10",
    ),
    Setting(
        name="LLMB_ROUTER_PORT",
        meaning=f"The management port of router pods without the annotation {GROUP}/router-port.",
        expected="a port from 1 to 65535",
        read=lambda text: _port(text, lowest=1),
        default="8081",
    ),
    Setting(
        name="LLMB_HEALTH_HOST",
        meaning="Where /healthz and /readyz listen. A kubelet asks from outside the pod.",
        expected="an address of this machine",
        read=str,
        default="0.0.0.0",
    ),
    Setting(
        name="LLMB_HEALTH_PORT",
        meaning="Their port. 0 takes a free one and logs it.",
        expected="a port from 0 to 65535",
        read=_port,
        default="8082",
    ),
    Setting(
        name="LLMB_LOG_LEVEL",
        meaning="How much is logged, as one JSON object a line on standard error.",
        expected="DEBUG, INFO, WARNING or ERROR",
        read=_level,
        default="INFO",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says.

    Attributes:
        namespaces: to serve; empty for all.
        resync: seconds between two rounds.
        lease: namespace and name of the Lease; None where there is one replica.
        lease_seconds: how long it is held without being renewed.
        nudge: annotate router pods after a publish.
        router_every: seconds between two questions to a router pod.
        router_port: of their management, where a pod does not say another.
    """

    database_url: str = field(repr=False)
    namespaces: frozenset[str]
    addresses: Addresses
    pace: Pace
    resync: float
    lease: tuple[str, str] | None
    lease_seconds: int
    nudge: bool
    router_every: float
    router_port: int
    health_host: str
    health_port: int
    log_level: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables of `TABLE`.

        Raises:
            SettingsError: the first one that can't be used.
        """
        of = {setting.name.removeprefix("LLMB_"): setting.value(environment) for setting in TABLE}
        return cls(
            database_url=of["DATABASE_URL"],
            namespaces=of["NAMESPACES"],
            addresses=Addresses(ollama=of["DEFAULT_OLLAMA_URL"], mlx=of["DEFAULT_MLX_URL"]),
            pace=Pace(quiet=of["DEBOUNCE_SECONDS"], longest=of["DEBOUNCE_MAX_SECONDS"]),
            resync=of["RESYNC_SECONDS"],
            lease=of["LEASE"],
            lease_seconds=of["LEASE_SECONDS"],
            nudge=of["NUDGE"],
            router_every=of["ROUTER_SECONDS"],
            router_port=of["ROUTER_PORT"],
            health_host=of["HEALTH_HOST"],
            health_port=of["HEALTH_PORT"],
            log_level=of["LOG_LEVEL"],
        )


def table(settings: Sequence[Setting] = TABLE) -> str:
    """The settings as text for --help."""
    rows = []
    for setting in settings:
        default = {None: "required", "": "unset"}.get(setting.default, setting.default)
        rows.append(f"  {setting.name} ({default})\n      {setting.meaning}")
    return "\n".join(rows)
