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
    READY = "Ready"
    STALLED = "Stalled"


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


class Ready(StrEnum):
    """Ready is Accepted, ResolvedRefs and ConfigPublished; when it is not, its reason is that of
    the first that fails.
    """

    READY = "Ready"
