"""The conditions of an LLMBackend and their reasons: names that scripts match on, each a closed
set.

They stand here once; docs/operator.md lists the same, and a test compares the two.
"""

from enum import StrEnum


class Condition(StrEnum):
    """`status.conditions[].type`."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    CONFIG_PUBLISHED = "ConfigPublished"
    DATABASE_SYNCED = "DatabaseSynced"
    PROGRAMMED = "Programmed"
    AVAILABLE = "Available"
    DEGRADED = "Degraded"
    READY = "Ready"
    STALLED = "Stalled"
    RECONCILING = "Reconciling"
    PAUSED = "Paused"


class Accepted(StrEnum):
    """Why a resource is accepted, or not."""

    VALID = "Valid"
    INVALID = "Invalid"
    MODEL_NAME_CONFLICT = "ModelNameConflict"


class ResolvedRefs(StrEnum):
    """Whether every Secret, ConfigMap and Service that is referred to is there for the routers."""

    RESOLVED = "Resolved"
    NOT_ACCEPTED = "NotAccepted"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_NOT_ALLOWED = "SecretNotAllowed"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    KEY_MISSING = "KeyMissing"
    SERVICE_NOT_FOUND = "ServiceNotFound"
    READ_FAILED = "ReadFailed"
    TOO_LARGE = "TooLarge"
    NOT_OWNED = "NotOwned"
    PUBLISH_FAILED = "PublishFailed"


class ConfigPublished(StrEnum):
    """Whether the route is in the published configuration."""

    PUBLISHED = "Published"
    NOT_ACCEPTED = "NotAccepted"
    NOT_RESOLVED = "NotResolved"
    TOO_LARGE = "TooLarge"
    NOT_OWNED = "NotOwned"
    PUBLISH_FAILED = "PublishFailed"


class DatabaseSynced(StrEnum):
    """Whether the row is at this generation."""

    SYNCED = "Synced"
    PENDING = "Pending"
    NOT_ACCEPTED = "NotAccepted"
    DATABASE_UNAVAILABLE = "DatabaseUnavailable"
    SCHEMA_OUTDATED = "SchemaOutdated"


class Programmed(StrEnum):
    """Whether every running router has this generation in its table."""

    PROGRAMMED = "Programmed"
    PENDING = "Pending"
    NO_ROUTERS = "NoRouters"
    REJECTED_KEPT_LAST_GOOD = "RejectedKeptLastGood"
    ROUTER_UNREACHABLE = "RouterUnreachable"


class Available(StrEnum):
    """Whether one target at least can answer, as the routers see it."""

    TARGETS_HEALTHY = "TargetsHealthy"
    ALL_TARGETS_DOWN = "AllTargetsDown"
    DISABLED = "Disabled"
    UNKNOWN = "Unknown"


class Degraded(StrEnum):
    """Whether some target is down, as the routers see it."""

    TARGETS_DOWN = "TargetsDown"
    NO_TARGET_DOWN = "NoTargetDown"
    DISABLED = "Disabled"
    UNKNOWN = "Unknown"


class TargetState(StrEnum):
    """`status.targets[].state`: how a target stands with the routers together."""

    HEALTHY = "Healthy"
    DOWN = "Down"
    DRAINED = "Drained"
    UNKNOWN = "Unknown"


class TargetReason(StrEnum):
    """`status.targets[].reason`: the worst that any router says of a target. Worst last."""

    NOT_TOLD = "NotTold"
    NOT_PROBED = "NotProbed"
    HEALTHY = "Healthy"
    COOLING = "Cooling"
    DRAINED = "Drained"
    MODEL_MISSING = "ModelMissing"
    MISCONFIGURED = "Misconfigured"
    UNHEALTHY = "Unhealthy"
    EJECTED = "Ejected"
    UNUSABLE = "Unusable"


class Reconciling(StrEnum):
    """Why a resource is still on its way; the condition is there only while it is."""

    PUBLISHING = "Publishing"


class Paused(StrEnum):
    """Why nothing about a resource moves; the condition is there only while nothing does."""

    RECONCILIATION_PAUSED = "ReconciliationPaused"


class Ready(StrEnum):
    """Ready is Accepted, ResolvedRefs and ConfigPublished; when it is not, its reason is that of
    the first that fails.
    """

    READY = "Ready"
