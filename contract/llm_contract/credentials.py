"""How a value of a Secret or ConfigMap is named inside the one Secret that routers mount.

The operator copies values under these names and publishes the names; a router reads the file of
that name. One pure function, so that the two never differ.
"""

from enum import StrEnum

#: The keys of a Secret of type kubernetes.io/tls.
CLIENT_CERTIFICATE = "tls.crt"
CLIENT_KEY = "tls.key"

#: The longest name of a Secret or ConfigMap that a resource may refer to, and the longest key in
#: it.
MAX_NAME = 126
MAX_KEY = 125


class SourceKind(StrEnum):
    """What a credential or certificate is copied from."""

    SECRET = "Secret"
    CONFIG_MAP = "ConfigMap"


def credential_key(kind: SourceKind, name: str, key: str) -> str:
    """The key in the mounted Secret for one key of an object of the same namespace.

    A Secret's is `<name>_<key>`, a ConfigMap's `_<name>_<key>`. An object's name is of a-z, 0-9, -
    and . alone, and starts with neither, so the first `_` tells the kind and ends the name: no two
    sources share a key. The result keeps the alphabet of a Secret's keys (letters, digits, - _ .).
    Within `MAX_NAME` and `MAX_KEY` it is not longer than the 253 characters such a key may have.

    >>> credential_key(SourceKind.SECRET, "mac-a-token", "token")
    'mac-a-token_token'
    >>> credential_key(SourceKind.CONFIG_MAP, "home-ca", "ca.crt")
    '_home-ca_ca.crt'
    """
    prefix = "_" if kind is SourceKind.CONFIG_MAP else ""
    return f"{prefix}{name}_{key}"
