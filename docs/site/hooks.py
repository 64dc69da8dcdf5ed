"""What the site does with the pages of docs/ besides rendering them.

A page names files of the repository by links that leave docs/, which a forge follows and a site
can't; they become the files' names. A folder in the navigation stands for its pages.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)\s]*)?\)")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """A folder in the navigation becomes the list of its pages, by their titles."""
    config.nav = [_filled(entry, Path(config.docs_dir)) for entry in config.nav]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link out of docs/ becomes what it says, and the file's name if that is something else."""
    return LINK.sub(lambda link: _named(link, page.file.src_uri), markdown)


def _named(link: re.Match[str], page: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link[2]))
    if not path.startswith("../"):
        return link[0]
    text, name = link[1], path.removeprefix("../")
    return text if PurePosixPath(name).name in text else f"{text} (`{name}`)"


def _filled(entry: Any, docs: Path) -> Any:
    if isinstance(entry, str):
        return entry
    return {title: _pages(below, docs) for title, below in entry.items()}


def _pages(below: Any, docs: Path) -> Any:
    if isinstance(below, list):
        return [_filled(entry, docs) for entry in below]
    if not below.endswith("/"):
        return below
    pages = sorted((docs / below).glob("*.md"))
    return [{_title(page): f"{below}{page.name}"} for page in pages]


def _title(page: Path) -> str:
    found = TITLE.search(page.read_text())
    return found[1] if found else page.stem
