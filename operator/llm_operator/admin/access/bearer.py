"""What can be said of a bearer token without asking anybody.

Pure. Nothing here says that a token is good.
"""

import base64
import json
import re

#: Characters of a token at most. NB: a service account's has about a thousand.
LONGEST = 8192

_FORM = re.compile(rf"[!-~]{{1,{LONGEST}}}")


def fit(token: str) -> bool:
    """Whether it has the form of a token: printable ASCII, no space, not longer than any is."""
    return _FORM.fullmatch(token) is not None


def lifetime(token: str, *, most: float, now: float) -> float:
    """Seconds for which a token that was found good may be taken for good.

    Args:
        token: one that the API server has just accepted.
        most: for a token that does not say when it ends.
        now: Unix seconds.
    """
    ends = _ends(token)
    return most if ends is None else max(0.0, min(most, ends - now))


def _ends(token: str) -> float | None:
    """When a JWT says that it ends, in Unix seconds; None for what is no JWT, or has no end.

    NB: its signature is not looked at, so this may only ever shorten what somebody else allowed.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
