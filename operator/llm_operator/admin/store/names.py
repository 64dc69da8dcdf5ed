"""Names for resources that were given none, and for who asked. Pure."""

import re
import unicodedata
from collections.abc import Container

#: Characters of a name: a label of RFC 1123, which fits everywhere that names go.
LONGEST = 63
#: Of a model whose name holds nothing that a resource's name may.
NAMELESS = "model"
#: Characters of who asked; longer ones end in dots.
LONGEST_BY = 253

_OTHERS = re.compile(r"[^a-z0-9]+")
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def resource_name(model: str, taken: Container[str] = ()) -> str:
    """A name for the resource of a model: `phi3-mini` for phi3:mini, `phi3-mini-2` if that is
    taken. The same for the same, always.
    """
    plain = unicodedata.normalize("NFKD", model).encode("ascii", "ignore").decode().lower()
    # NB: letters with marks become those without; whatever else is not of ASCII goes.
    base = _OTHERS.sub("-", plain).strip("-") or NAMELESS
    name, number = base[:LONGEST].rstrip("-"), 1
    while name in taken:
        number += 1
        suffix = f"-{number}"
        name = base[: LONGEST - len(suffix)].rstrip("-") + suffix
    return name


def who(by: str) -> str:
    """Who asked, as the value of an annotation: one line of text."""
    told = _UNSHOWN.sub(" ", by).strip()
    return told if len(told) <= LONGEST_BY else f"{told[: LONGEST_BY - 3]}..."
