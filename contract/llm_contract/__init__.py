"""What the operator and the router share, and nothing else: the published routing configuration."""

from llm_contract.codec import checksum, dump, parse, verify
from llm_contract.errors import ChecksumMismatch, ContractError, Malformed, NewerVersion
from llm_contract.routing import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    SCHEMA_VERSION,
    Defaults,
    Route,
    RoutingConfig,
    Target,
    TargetType,
    Timeouts,
)

__all__ = [
    "CHECKSUM_KEY",
    "CONFIG_KEY",
    "SCHEMA_VERSION",
    "ChecksumMismatch",
    "ContractError",
    "Defaults",
    "Malformed",
    "NewerVersion",
    "Route",
    "RoutingConfig",
    "Target",
    "TargetType",
    "Timeouts",
    "checksum",
    "dump",
    "parse",
    "verify",
]
