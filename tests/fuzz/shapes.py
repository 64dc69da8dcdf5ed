"""What the tests here feed: JSON of every kind, bytes changed a little, bytes cut anywhere."""

import itertools
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.integers(),
    st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40]),
    st.floats(),
    st.floats(0, 1),
)

#: Texts with half surrogate pairs too.
TEXTS = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2),
    st.sampled_from(["", "m", "user", "text", "\x00", "a" * 300, "http://x", "data:,", "é"]),
)

SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)


def documents(names: st.SearchStrategy[str], *, leaves: int = 12) -> st.SearchStrategy[Any]:
    """JSON values whose objects have these names."""
    return st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=5)
        ),
        max_leaves=leaves,
    )


@st.composite
def changed(draw: st.DrawFn, data: bytes, *, words: tuple[bytes, ...] = (), most: int = 4) -> bytes:
    """Bytes with a few changes: flipped, cut out, doubled, put in, moved."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(made)))
        to = min(len(made), at + draw(st.integers(1, 12)))
        piece = bytes(made[at:to])
        match draw(st.sampled_from("flip drop double insert word move".split())):
            case "flip" if piece:
                made[at] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del made[at:to]
            case "double":
                made[at:at] = piece
            case "insert":
                made[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "word" if words:
                made[at:at] = draw(st.sampled_from(words))
            case "move":
                del made[at:to]
                other = draw(st.integers(0, len(made)))
                made[other:other] = piece
    return bytes(made)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Bytes in pieces, none of them empty."""
    if draw(st.booleans()) and draw(st.booleans()):
        return [data[at : at + 1] for at in range(len(data))]
    marks = draw(st.lists(st.integers(0, len(data)), max_size=8))
    ends = sorted({0, len(data), *marks})
    return [data[start:end] for start, end in itertools.pairwise(ends)]
