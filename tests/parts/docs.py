"""The marked blocks of the documentation: what a test runs, what needs more than a test has.

A comment stands above each block of commands: `<!-- run: NAME -->` for those that a test runs as
they are written, `<!-- needs: WHAT -->` for others, and `<!-- file: NAME -->` for a file's content.
A page whose every block needs the same says so once, by `<!-- every block needs: WHAT -->`.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"(?:^<!-- (?P<kind>\w+): (?P<name>[^>]+?) -->\n+)?"
    r"(?:^```(?P<language>\w*)\n(?P<text>.*?)^```"
    r"|(?:(?<=\n\n)|\A)(?P<indented>(?:^    [^\n]*\n|^\n(?=    ))+))",
    re.MULTILINE | re.DOTALL,
)
EVERY = re.compile(r"^<!-- every block needs: [^>]+ -->$", re.MULTILINE)
#: What a line begins with that somebody types.
TYPED = (
    *("make", "llmb", "llm-router", "kubectl", "helm", "curl", "pip", "python", "python3", "kind"),
    *("pg_dump", "dbmate", "apt-get", "git", "docker", "buildah", "promtool", "psql", "cat"),
    *("bash", "export", "sha256sum", "flux", "argocd", "sed", ".venv/bin/llmb", ".venv/bin/pytest"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code and the comment above it, whose kind is "" where there is none."""

    kind: str
    name: str
    language: str
    text: str

    @property
    def typed(self) -> bool:
        """Whether it is commands."""
        if "──>" in self.text:
            return False
        lines = [line.split("#")[0].split() for line in self.text.splitlines()]
        return any(words[0] in TYPED for words in lines if words)


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, fenced or indented, in order."""
    for found in BLOCK.finditer(page.read_text()):
        kind, name, language, fenced, indented = (text or "" for text in found.groups())
        text = fenced or textwrap.dedent(indented)
        yield Block(kind=kind, name=name, language=language, text=text)


def unmarked(page: Path) -> list[str]:
    """The blocks of commands that nothing is said of."""
    if EVERY.search(page.read_text()):
        return []
    return [each.text for each in blocks(page) if each.typed and each.kind not in ("run", "needs")]


def commands(page: Path, name: str) -> list[str]:
    """The texts of the blocks that a test of this name runs."""
    return [each.text for each in blocks(page) if (each.kind, each.name) == ("run", name)]


def file(page: Path, name: str) -> str:
    """The content of the file that a page shows."""
    [found] = [each.text for each in blocks(page) if (each.kind, each.name) == ("file", name)]
    return found
