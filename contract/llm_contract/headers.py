"""Which request headers a resource may name, and what it may put into them.

Both sides ask: the operator before it publishes a name, the router before it believes one. Pure
tests of text; names are compared without regard to case.
"""

import re

#: What the router itself says about a connection, a body or its coding. Nobody sets or removes it.
RESERVED = (
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "accept-encoding",
)

#: What is not set as text because it is a secret; `auth` names a Secret for it.
SECRET = ("authorization",)

# NB: `\Z`, because `$` also matches before a last line feed, which would be a header of its own.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[!-~]([ -~\t]*[!-~])?\Z")


def is_name(text: str) -> bool:
    """Whether it is a header name at all: a token of RFC 9110."""
    return bool(_NAME.match(text))


def is_value(text: str) -> bool:
    """Whether it is plain ASCII text: not empty, no space at either end, no line end or other
    control character but tabs.
    """
    return bool(_VALUE.match(text))


def may_edit(name: str) -> bool:
    """Whether the router lets a resource remove the header, or put a credential into it."""
    return name.lower() not in RESERVED


def may_set(name: str) -> bool:
    """Whether a resource may set the header to a text that everyone can read."""
    return name.lower() not in RESERVED and name.lower() not in SECRET
