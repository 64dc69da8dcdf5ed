"""What can be wrong with a published configuration.

    ContractError
    ├── Malformed          the bytes are not a routing configuration; `path` says where
    ├── ChecksumMismatch   the bytes are not those the checksum was taken of
    └── NewerVersion       a schemaVersion this release can't read

Every message names the place, the value and what was expected. A reader that meets one keeps its
last good configuration.
"""


class ContractError(ValueError):
    """Any reason not to take a published configuration."""


class Malformed(ContractError):
    """The bytes are not a routing configuration.

    Attributes:
        path: where in the document, as `routes[3].targets[0].url`; empty for the document itself.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)


class ChecksumMismatch(ContractError):
    """The checksum beside the configuration is of other bytes."""


class NewerVersion(ContractError):
    """A schemaVersion above the ones this release reads."""
