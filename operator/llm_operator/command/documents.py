"""Files, folders and standard input -> documents, each with its place.

YAML and JSON, any number of documents a file; of a folder every .yaml, .yml and .json file in it
and below, hidden ones left out. A document that can't be read is a document with a fault, so that
one mistake hides no other. It knows nothing of what the documents mean.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_operator.command.syntax import bodies

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


class Unreadable(Exception):
    """Something named on the command line is not there or can't be read. The message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file.

    Attributes:
        file: as it was named, or found.
        number: its position in the file, from 1.
        within: where in the document it is, as `items[2].`; "" for all of it.
        fault: why it can't be read; "" when it can.
    """

    file: str
    number: int
    body: Any = None
    within: str = ""
    fault: str = ""

    @property
    def place(self) -> str:
        """For people, and for editors that jump there."""
        return f"{self.file}:{self.number}"


def read(names: Sequence[str]) -> list[Document]:
    """All documents, empty ones left out.

    Raises:
        Unreadable: the first name that can't be used.
    """
    return [document for file, text in _texts(names) for document in documents(file, text)]


def documents(file: str, text: str) -> Iterator[Document]:
    """The documents in a text, those with something in them; each `List` taken apart."""
    for number, (body, fault) in enumerate(bodies(file, text), start=1):
        document = Document(file=file, number=number, body=body, fault=fault)
        if body is not None or fault:
            yield from _parts(document)


def _texts(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    if names.count(STDIN) > 1:
        raise Unreadable("standard input (-) can be read once")
    for name in names:
        try:
            if name == STDIN:
                yield "stdin", sys.stdin.buffer.read().decode("utf-8-sig")
                continue
            path = Path(name)
            for file in _files(path) if path.is_dir() else (path,):
                yield str(file), file.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise Unreadable(f"{name}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise Unreadable(f"{name}: it holds bytes that are no UTF-8 text") from None


def _files(folder: Path) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise Unreadable(f"{folder}: there is no .yaml, .yml or .json file in this folder")
    return found


def _parts(document: Document) -> Iterator[Document]:
    """The document, or what is in it when it is a list, as `kubectl get -o yaml` prints one."""
    body = document.body
    if not isinstance(body, dict) or not isinstance(items := body.get("items"), list):
        yield document
        return
    if not str(body.get("kind", "")).endswith("List"):
        yield document
        return
    for place, item in enumerate(items):
        yield Document(
            file=document.file, number=document.number, body=item, within=f"items[{place}]."
        )
