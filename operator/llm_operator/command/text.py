"""What a terminal is shown: columns, counts, and no byte that would steer it."""

import sys
from collections.abc import Sequence

#: Where lines break that are meant to be read as text.
WIDTH = 100


def plain(text: str) -> str:
    """The text on one line. NB: it can quote a host or a manifest, and their bytes must not reach
    a terminal as they are.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of as many cells each -> lines, as kubectl prints them."""
    last = len(rows[0]) - 1 if rows else 0
    widths = [max(len(row[place]) for row in rows) for place in range(last)]
    padded = ([row[place].ljust(widths[place]) for place in range(last)] for row in rows)
    return ["  ".join([*cells, row[last]]) for cells, row in zip(padded, rows, strict=True)]


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def out(line: str) -> None:
    """A line of what was asked for."""
    sys.stdout.write(f"{line}\n")


def err(line: str) -> None:
    """A line about it."""
    sys.stderr.write(f"{line}\n")
