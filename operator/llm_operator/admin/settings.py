"""The settings of `llmb admin`: environment variables, read once at the start.

`TABLE` is the one list of them; --help and docs/admin.md print it. What the operator has too is the
operator's row, so that both read a value alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from llm_operator import settings as operator
from llm_operator.settings import Setting, SettingsError

#: Where the kubelet puts the namespace of the pod that this runs in.
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_ROWS = {row.name: row for row in operator.TABLE}
_url, _port = _ROWS["LLMB_DEFAULT_OLLAMA_URL"], _ROWS["LLMB_HEALTH_PORT"]


def _namespace(text: str) -> str:
    if text and not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise ValueError
    return text


def _audiences(text: str) -> tuple[str, ...]:
    return tuple(audience for each in text.split(",") if (audience := each.strip()))


def _file(text: str) -> Path | None:
    return Path(text) if text else None


TABLE: tuple[Setting, ...] = (
    replace(
        _ROWS["LLMB_DATABASE_URL"],
        meaning="Postgres, for ids, history and usage. Backends are shown and written without it.",
    ),
    replace(
        _ROWS["LLMB_NAMESPACES"],
        meaning="The namespaces to show and write, separated by commas; as the operator's. Empty: "
        "all of the cluster.",
    ),
    Setting(
        name="LLMB_ADMIN_NAMESPACE",
        meaning="The namespace of a backend for which none is named. Empty: the only one of "
        "LLMB_NAMESPACES, else the pod's own, else default.",
        expected="the name of a namespace, one of LLMB_NAMESPACES where that is set",
        read=_namespace,
    ),
    Setting(
        name="LLMB_ADMIN_HOST",
        meaning="Where API and page listen.",
        expected="an address of this machine",
        read=str,
        default="0.0.0.0",
    ),
    replace(
        _port,
        name="LLMB_ADMIN_PORT",
        meaning="Their port. 0 takes a free one and logs it.",
        default="8090",
    ),
    replace(
        _ROWS["LLMB_NUDGE"],
        name="LLMB_ADMIN_PUBLIC",
        meaning="Whether GET /public and GET /model/NAME answer without a token.",
        default="true",
    ),
    Setting(
        name="LLMB_ADMIN_AUDIENCES",
        meaning="Audiences that a token may be made for, separated by commas. Empty: the API "
        "server's own.",
        expected="audiences separated by commas",
        read=_audiences,
    ),
    Setting(
        name="LLMB_ADMIN_TLS_CERTIFICATE",
        meaning="The certificate chain to serve HTTPS with, a PEM file read anew every minute. "
        "Empty: HTTP.",
        expected="a file",
        read=_file,
    ),
    Setting(
        name="LLMB_ADMIN_TLS_KEY",
        meaning="Its private key, a PEM file.",
        expected="a file, set together with LLMB_ADMIN_TLS_CERTIFICATE",
        read=_file,
    ),
    replace(
        _url,
        name="LLMB_ADMIN_ROUTER_URL",
        meaning="The router that the page's try-it box asks. Empty: there is no such box.",
        expected="a URL such as http://llm-router.models:11440",
    ),
    replace(
        _url,
        name="LLMB_ADMIN_ROUTER_MANAGEMENT_URL",
        meaning="The management port of that router, for the way that a request takes.",
        expected="a URL such as http://llm-router.models:8081",
    ),
    _ROWS["LLMB_ROUTER_PORT"],
    _ROWS["LLMB_LOG_LEVEL"],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says.

    Attributes:
        namespaces: to show and write; empty for all.
        namespace: of a backend for which none is named.
        public: whether the two public routes answer.
        audiences: of tokens; empty for the API server's own.
        certificate: files of the chain and its key; None for HTTP.
        router_url: for the try-it box; None for none, and likewise its management port.
        router_port: of routers' management, where a pod does not say another.
    """

    database_url: str = field(repr=False)
    namespaces: frozenset[str]
    namespace: str
    host: str
    port: int
    public: bool
    audiences: tuple[str, ...]
    certificate: tuple[Path, Path] | None
    router_url: str | None
    router_management_url: str | None
    router_port: int
    log_level: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, pod: Path = POD_NAMESPACE) -> Self:
        """Read the variables of `TABLE`.

        Args:
            environment: the variables.
            pod: the file that says which namespace this runs in, where there is one.

        Raises:
            SettingsError: the first one that can't be used.
        """
        of = {setting.name.removeprefix("LLMB_"): setting.value(environment) for setting in TABLE}
        namespaces: frozenset[str] = of["NAMESPACES"]
        return cls(
            database_url=of["DATABASE_URL"],
            namespaces=namespaces,
            namespace=_own(of["ADMIN_NAMESPACE"], namespaces, pod),
            host=of["ADMIN_HOST"],
            port=of["ADMIN_PORT"],
            public=of["ADMIN_PUBLIC"],
            audiences=of["ADMIN_AUDIENCES"],
            certificate=_pair(of["ADMIN_TLS_CERTIFICATE"], of["ADMIN_TLS_KEY"]),
            router_url=of["ADMIN_ROUTER_URL"],
            router_management_url=of["ADMIN_ROUTER_MANAGEMENT_URL"],
            router_port=of["ROUTER_PORT"],
            log_level=of["LOG_LEVEL"],
        )


def _own(named: str, namespaces: frozenset[str], pod: Path) -> str:
    """The namespace of what names none."""
    if not named:
        if len(namespaces) == 1:
            return next(iter(namespaces))
        return pod.read_text(encoding="ascii").strip() if pod.exists() else "default"
    if namespaces and named not in namespaces:
        raise SettingsError(
            f"LLMB_ADMIN_NAMESPACE: {named!r} is not one of LLMB_NAMESPACES "
            f"({', '.join(sorted(namespaces))}): set it to one of them"
        )
    return named


def _pair(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingsError(
            "LLMB_ADMIN_TLS_CERTIFICATE and LLMB_ADMIN_TLS_KEY go together: set both, or neither"
        )
    return certificate, key


def table() -> str:
    """The settings as text for --help."""
    return operator.table(TABLE)
