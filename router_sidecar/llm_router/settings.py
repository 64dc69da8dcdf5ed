"""The router's settings: environment variables with the prefix LLM_ROUTER_, and nothing else.

One table, read by `from_environment`, by `llm-router --help` and by the docs' test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from llm_router.credentials import DEFAULT_FOLDER
from llm_router.transport import Origin

PREFIX = "LLM_ROUTER_"


class SettingError(ValueError):
    """A setting has a value that can't be used; the message names both and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a router is told at start. Times in seconds, sizes in bytes."""

    config: Path
    credentials: Path
    host: str
    port: int
    management_host: str
    management_port: int
    default_ollama_url: str | None
    reread_seconds: float
    connect_seconds: float
    stream_idle_seconds: float
    max_body_bytes: int
    max_head_bytes: int
    max_requests: int
    drain_seconds: float
    usage_url: str | None
    usage_token_file: Path | None
    usage_spool: Path | None
    usage_spool_bytes: int
    trace_ratio: float
    access_log: bool
    log_level: str
    lifeline: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read every setting.

        Raises:
            SettingError: a value of the wrong kind.
        """
        return cls(**{setting.name: setting.read(environment) for setting in TABLE})


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    default: str
    parse: Callable[[str], Any]
    meaning: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    def read(self, environment: Mapping[str, str]) -> Any:
        """The value in the environment, else the default; an empty value is unset."""
        value = environment.get(self.variable) or self.default
        # NB: beside a Service named llm-router, Kubernetes sets LLM_ROUTER_PORT=tcp://... in every
        # pod.
        if value.startswith("tcp://"):
            value = self.default
        try:
            return self.parse(value)
        except ValueError as error:
            # NB: a mistyped address can hold a password.
            shown = "(not shown)" if "@" in value else repr(value)
            raise SettingError(f"{self.variable}={shown}: {error}") from None


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"must be a number from {low:g} to {high:g}") from None
        if not low <= value <= high:
            raise ValueError(f"must be from {low:g} to {high:g}")
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _url(text: str) -> str | None:
    if not text:
        return None
    Origin.parse(text)
    return text.rstrip("/")


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def _flag(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


TABLE: tuple[Setting, ...] = (
    Setting("config", "/etc/llm-router", Path, "folder that the ConfigMap is mounted as"),
    Setting(
        "credentials",
        str(DEFAULT_FOLDER),
        Path,
        "folder that the Secret llm-router-credentials is mounted as; may be absent",
    ),
    Setting("host", "127.0.0.1", str, "address of the data port"),
    Setting("port", "11434", _whole(0, 65535), "data port; 11434 is an Ollama client's default"),
    Setting("management_host", "0.0.0.0", str, "address of the management port"),
    Setting("management_port", "8081", _whole(0, 65535), "probes, metrics and /status"),
    Setting("default_ollama_url", "", _url, "Ollama for unrouted models; unset: they are 404"),
    Setting("reread_seconds", "60", _number(1, 60), "everything is read again this often"),
    Setting("connect_seconds", "3", _number(0.05, 60), "until a connection to a host stands"),
    Setting("stream_idle_seconds", "60", _number(1, 3600), "between two tokens of an answer"),
    Setting("max_body_bytes", "33554432", _whole(1024, 2**30), "largest request body"),
    Setting("max_head_bytes", "65536", _whole(1024, 2**20), "largest head of a request"),
    Setting("max_requests", "1024", _whole(1, 100_000), "requests at once; one more gets a 503"),
    Setting("drain_seconds", "25", _number(0, 3600), "from SIGTERM until open answers are cut"),
    Setting("usage_url", "", _url, "where usage records are sent; unset: nowhere"),
    Setting("usage_token_file", "", _path, "bearer token for it, read anew for each batch"),
    Setting("usage_spool", "", _path, "folder for records not delivered yet; unset: memory"),
    Setting("usage_spool_bytes", "67108864", _whole(65536, 2**34), "largest spool"),
    Setting("trace_ratio", "0", _number(0, 1), "share of new traces that are sampled"),
    Setting("access_log", "false", _flag, "one line for each request, without its text"),
    Setting(
        "log_level", "INFO", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "least level logged"
    ),
    Setting("lifeline", "false", _flag, "end when standard input does, as a child process"),
)

assert [setting.name for setting in TABLE] == [field.name for field in fields(Settings)]
