"""Resources -> YAML or JSON, in a stream or in files, none of which is ever written over.

The findings of a resource stand above it as comments, so that whoever reviews a commit of it has
them too.
"""

import json
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any

from llm_operator.admin.store.commit import commit_yaml
from llm_operator.command.text import plain
from llm_operator.predecessor.convert import Imported


class Form(Enum):
    """What a file or a stream is written in."""

    YAML = "yaml"
    JSON = "json"


class Written(Enum):
    """What became of a file.

    NEW: it was not there.
    SAME: it was there with this content.
    OTHER: it was there with other content, and has it still.
    """

    NEW = auto()
    SAME = auto()
    OTHER = auto()


def stream(resources: Sequence[Imported], form: Form) -> str:
    """All of them in one text."""
    if form is Form.YAML:
        return "".join(f"---\n{document(one, form)}" for one in resources)
    items = [one.manifest for one in resources]
    return _json({"apiVersion": "v1", "kind": "List", "items": items})


def document(resource: Imported, form: Form) -> str:
    """One of them."""
    if form is Form.JSON:
        return _json(resource.manifest)
    comments = "".join(f"# {plain(str(finding))}\n" for finding in resource.findings)
    body = commit_yaml(resource.manifest, resource.manifest["spec"])
    return f"{comments}{body}"


def write(path: Path, content: str) -> Written:
    """Make a file, unless there is one.

    Raises:
        OSError: it can't be made; nothing of it is left.
    """
    raw = content.encode()
    try:
        with path.open("xb") as file:
            try:
                file.write(raw)
                file.flush()
            except OSError:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        return Written.SAME if path.read_bytes() == raw else Written.OTHER
    return Written.NEW


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
