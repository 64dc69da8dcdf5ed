"""The rules of a spec that its schema can't say: of one text, and between fields.

The same as in crds/llmbackends.yaml, message for message, because folders have no API server and an
object can be older than a rule. Tests keep the two equal: whoever changes one changes the other. No
check does I/O. Rules of a URL are in `llm_operator.resource.urls`.
"""

import re
from collections.abc import Mapping
from typing import Any

from llm_contract import headers
from llm_operator.resource.model import BackendType
from llm_operator.resource.schema import Rule


def _matches(pattern: str, message: str) -> Rule:
    # NB: `\Z` here is `$` in the CRD; Python's `$` also matches before a last line feed.
    compiled = re.compile(rf"^{pattern}\Z")
    return Rule(message=message, holds=lambda text: bool(compiled.search(text)))


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"

MODEL_NAME = _matches(
    r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*",
    "must start with a letter or digit and hold only letters, digits and . _ : / @ + -",
)
PLAIN_TEXT = _matches(
    r"[!-~]([ -~]*[!-~])?", "must be plain ASCII text without a space at either end"
)
LABEL = _matches(_LABEL, "must be a lowercase RFC 1123 label: a-z, 0-9 and -")
OBJECT_NAME = _matches(
    rf"{_LABEL}([.]{_LABEL})*", "must be a lowercase RFC 1123 subdomain: a-z, 0-9, - and ."
)
DATA_KEY = _matches(r"[-._a-zA-Z0-9]+", "must hold only letters, digits and - _ .")
SERVER_NAME = _matches(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "must be a host name")
HEALTH_PATH = _matches(
    r'/[!-"$-~]*', "must start with / and hold no spaces, no # and only plain ASCII characters"
)
KEEP_ALIVE = _matches(
    r"(-1|[0-9]{1,8}|([0-9]{1,8}(ms|s|m|h)){1,4})",
    "must be -1, a number of seconds, or a duration like 30m or 1h30m",
)
AUTH_SCHEME = Rule(
    message="must be one word of plain ASCII, or nothing at all",
    holds=lambda scheme: not scheme or headers.is_name(scheme),
)
HEADER = Rule(
    message="must be a header name: letters, digits and - mostly, no spaces and no colon",
    holds=headers.is_name,
)
EDITABLE_HEADER = Rule(message="is a header that the router writes itself", holds=headers.may_edit)
SETTABLE_HEADER = Rule(
    message="is a header that the router writes itself; a credential goes into auth",
    holds=headers.may_set,
)


def _is_https(target: Mapping[str, Any]) -> bool:
    url: str = target.get("endpointURL", "")
    return url.startswith("https://") or target.get("serviceRef", {}).get("scheme") == "https"


TARGET: tuple[Rule, ...] = (
    Rule(
        field="endpointURL",
        message="set exactly one of endpointURL and serviceRef",
        reads=("endpointURL", "serviceRef"),
        holds=lambda target: ("endpointURL" in target) != ("serviceRef" in target),
    ),
    Rule(
        field="weight",
        message="weight is a share of a tier; set tier on all targets",
        reads=("weight", "tier"),
        holds=lambda target: "weight" not in target or "tier" in target,
    ),
    Rule(
        field="auth",
        message="the credential would go over plain http; use https, or set allowPlaintext: true",
        reads=("auth.allowPlaintext", "endpointURL", "serviceRef"),
        holds=lambda target: (
            "auth" not in target or target["auth"]["allowPlaintext"] or _is_https(target)
        ),
    ),
    Rule(
        field="tls",
        message="needs https, in endpointURL or serviceRef.scheme",
        reads=("endpointURL", "serviceRef"),
        holds=lambda target: "tls" not in target or _is_https(target),
    ),
    Rule(
        field="ollama",
        message="only type ollama has these settings",
        reads=("type",),
        holds=lambda target: "ollama" not in target or target["type"] == BackendType.OLLAMA,
    ),
)

TLS = Rule(
    field="insecureSkipVerify",
    message="nothing is verified, so caRef has no use; remove one of the two",
    reads=("insecureSkipVerify",),
    holds=lambda tls: not tls["insecureSkipVerify"] or "caRef" not in tls,
)
ACTIVE_CHECK = Rule(
    field="timeoutSeconds",
    message="must be less than intervalSeconds",
    reads=("timeoutSeconds", "intervalSeconds"),
    holds=lambda check: check["timeoutSeconds"] < check["intervalSeconds"],
)
PASSIVE_CHECK = Rule(
    field="maxEjectSeconds",
    message="must not be less than ejectSeconds",
    reads=("maxEjectSeconds", "ejectSeconds"),
    holds=lambda check: check["ejectSeconds"] <= check["maxEjectSeconds"],
)


def _fallback_differs(spec: Mapping[str, Any]) -> bool:
    first, second = spec.get("endpointURL"), spec.get("fallbackEndpointURL")
    if first is None or second is None:
        return True
    return second not in (first, f"{first}/") and first != f"{second}/"


def _all_or_none_has_a_tier(spec: Mapping[str, Any]) -> bool:
    return len({"tier" in target for target in spec.get("targets", ())}) < 2


def _takes_traffic(spec: Mapping[str, Any]) -> bool:
    targets = spec.get("targets", ())
    return not targets or any(t["enabled"] and t.get("weight", 1) > 0 for t in targets)


def _is_in_time(timeouts: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    return bool(timeouts.get("firstTokenSeconds", 0) <= spec["timeoutSeconds"])


def _not_beside_targets(name: str) -> Rule:
    return Rule(
        field=name,
        message="each of targets has its own; remove it, or remove targets",
        holds=lambda spec: "targets" not in spec or name not in spec,
    )


#: The fields that say in the simple form what each target says in the full one.
SIMPLE = ("backendType", "endpointURL", "fallbackEndpointURL", "upstreamModel")

SPEC: tuple[Rule, ...] = (
    Rule(
        field="backendType",
        message="set it to ollama, mlx, openai or auto, or list targets",
        reads=("backendType", "targets"),
        holds=lambda spec: "backendType" in spec or "targets" in spec,
    ),
    *(_not_beside_targets(name) for name in SIMPLE),
    Rule(
        field="endpointURL",
        message="backendType openai has no default address; set the server's URL",
        reads=("backendType", "endpointURL"),
        holds=lambda spec: spec.get("backendType") != BackendType.OPENAI or "endpointURL" in spec,
    ),
    Rule(
        field="fallbackEndpointURL",
        message="only backendType auto has a fallback; remove it, or set backendType: auto",
        reads=("backendType", "fallbackEndpointURL"),
        holds=lambda spec: (
            "fallbackEndpointURL" not in spec
            or spec.get("backendType", BackendType.AUTO) == BackendType.AUTO
        ),
    ),
    Rule(
        field="fallbackEndpointURL",
        message="must differ from endpointURL; a host can't be its own fallback",
        reads=("endpointURL", "fallbackEndpointURL"),
        holds=_fallback_differs,
    ),
    Rule(
        field="aliases",
        message="must not repeat modelName",
        reads=("modelName", "aliases"),
        holds=lambda spec: spec["modelName"] not in spec.get("aliases", ()),
    ),
    Rule(
        field="targets",
        message="set tier on all targets or on none",
        reads=("targets",),
        holds=_all_or_none_has_a_tier,
    ),
    Rule(
        field="targets",
        message="one at least must be enabled and weigh more than 0; "
        "to drain all, set spec.enabled: false",
        reads=("targets",),
        holds=_takes_traffic,
    ),
    Rule(
        field="targets",
        message="firstTokenSeconds of a target must not exceed timeoutSeconds",
        reads=("targets", "timeoutSeconds"),
        holds=lambda spec: all(
            _is_in_time(t.get("timeouts", {}), spec) for t in spec.get("targets", ())
        ),
    ),
    Rule(
        field="timeouts.firstTokenSeconds",
        message="must not exceed timeoutSeconds",
        reads=("timeouts.firstTokenSeconds", "timeoutSeconds"),
        holds=lambda spec: _is_in_time(spec.get("timeouts", {}), spec),
    ),
    Rule(
        field="stickyHeader",
        message="needs targets that share a tier; set tier on all of them",
        reads=("stickyHeader", "targets"),
        holds=lambda spec: (
            "stickyHeader" not in spec or any("tier" in t for t in spec.get("targets", ()))
        ),
    ),
)
