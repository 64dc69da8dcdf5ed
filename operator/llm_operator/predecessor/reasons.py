"""What there is to say about a row that does not come over as it is: each sentence once.

Pure data. `docs/import.md` has the same table, and a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One kind of thing to say.

    Attributes:
        text: a format of the sentence.
        lost: something did not come over, so a person has to look at it.
        off: where requests of this row should go is not known any more, so the resource is
            switched off instead of sending them elsewhere.
    """

    text: str
    lost: bool = False
    off: bool = False


NOT_A_ROW = Reason(text="is {given} and no row, so nothing was imported of it", lost=True)
NO_MODEL = Reason(text="has no model name, so nothing was imported of this row", lost=True)
BAD_MODEL = Reason(
    text="{rule}; {stand_in} stands in its place, and the resource is switched off",
    lost=True,
    off=True,
)
BAD_TYPE = Reason(
    text="{given} is none of {known}; ollama stands in its place, and the resource is switched off",
    lost=True,
    off=True,
)
NO_ADDRESS = Reason(
    text="type openai needs an address; ollama stands in its place while it is switched off",
    lost=True,
    off=True,
)
SPELT = Reason(text="is {given} there and {value} here")
NO_URL = Reason(
    text="is empty; the resource is switched off, since the default address was not asked before",
    lost=True,
    off=True,
)
BAD_URL = Reason(
    text="{rule}; it is left out, and the resource is switched off", lost=True, off=True
)
USER_INFO = Reason(
    text="holds a user name or password, which is left out, and the resource is switched off; "
    "put it into a Secret and name that in targets[].auth",
    lost=True,
    off=True,
)
QUERY = Reason(
    text="has a query or fragment, which is left out, and the resource is switched off",
    lost=True,
    off=True,
)
NO_SCHEME = Reason(text="has no scheme; http:// is put before it")
OWN_PATH = Reason(text="ends in {path}, which the router adds itself; it is left out")
LOCALHOST = Reason(
    text="{host} is the pod itself in a cluster; name the machine, unless the router runs on it"
)
NO_FALLBACK = Reason(
    text="auto fell back to http://localhost:11434 there, and falls back to the operator's default "
    "Ollama address here; set another by --ollama-url"
)
SAME_FALLBACK = Reason(
    text="endpoint_url is what --ollama-url names too, and a host can't be its own fallback; the "
    "operator's default Ollama address is the fallback"
)
MLX_MODEL = Reason(
    text="MLX was asked for {model} there, and is asked for the model it was started with here; "
    "set spec.upstreamModel where it has several"
)
NO_FLAG = Reason(text="is null, which the predecessor took for false")
BAD_FLAG = Reason(
    text="{given} is neither true nor false; the resource is switched off", lost=True, off=True
)
NO_LIMIT = Reason(text="is null, no limit there; the default of 60 s is the limit here")
NOT_A_NUMBER = Reason(text="{given} is no number; it is left out, so {default} counts", lost=True)
OUT_OF_BOUNDS = Reason(
    text="{given} is not from {low} to {high}; it is left out, so {default} counts", lost=True
)
CLAMPED = Reason(text="{given} is not from {low} to {high}; {value} stands in its place")
FRACTION = Reason(text="{given} is no whole number; it is rounded up to {value}")
TOO_LONG = Reason(text="has {length} characters; the first {most} stand in the resource")
NOT_TEXT = Reason(
    text="holds characters that a resource can't carry; U+FFFD stands for each of them", lost=True
)
CUT = Reason(text="is too long for an annotation; the first {most} bytes stand there", lost=True)
ABSENT = Reason(text="is in no row; {default} counts")
UNKNOWN = Reason(
    text="has no place in a resource, and its values, which may be secrets, are not written: "
    "{rows} with one",
    lost=True,
)
REFUSED = Reason(text="{rule}", lost=True)

#: Name -> reason, in the order of the documentation.
REASONS: Mapping[str, Reason] = {
    name: value for name, value in list(globals().items()) if isinstance(value, Reason)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to say, and where.

    Attributes:
        row: the row's id; "" when it is about all of them.
        model: of the row, as it is there.
        field: the predecessor's name of it; "" when it is about the whole row.
    """

    row: str = ""
    model: str = ""
    field: str = ""
    text: str
    lost: bool = False

    def __str__(self) -> str:
        who = f"row {self.row} ({self.model})" if self.model else f"row {self.row}"
        level = "" if self.lost else "warning"
        return ": ".join(filter(None, (who if self.row else "", level, self.field, self.text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A reason with what it is about."""

    reason: Reason
    values: Mapping[str, object]

    @property
    def text(self) -> str:
        """The sentence."""
        return self.reason.text.format(**self.values)


def say(reason: Reason, **values: object) -> Said:
    """A reason with its values."""
    return Said(reason=reason, values=values)
