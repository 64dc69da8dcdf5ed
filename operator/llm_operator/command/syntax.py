"""Text -> documents, as kubectl reads YAML and JSON.

Python's YAML and kubectl's differ in what a word without quotes is: `n` is false to kubectl, 1e3 a
number, 12:30 and 2026-01-01 are texts. A manifest that passes here has to mean the same there. A
mistake in one document ends none before it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import yaml

DEEP = "it is nested too deeply"

BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float"))

#: Tag -> what a word of it looks like, and the characters it begins with. The first that fits.
WORDS = (
    (
        BOOL,
        r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        "yYnNtTfFoO",
    ),
    (INT, r"[-+]?(0|[1-9][0-9_]*|0[xX][0-9a-fA-F_]+|0[oO]?[0-7_]+|0[bB][01_]+)", "-+0123456789"),
    (
        FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
#: Those that Python's YAML has otherwise, or has alone.
OWN = (BOOL, INT, FLOAT, *(f"tag:yaml.org,2002:{name}" for name in ("timestamp", "value")))


_OTHERS = {
    first: [(tag, words) for tag, words in resolvers if tag not in OWN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _OTHERS


for _tag, _words, _first in WORDS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_words})$"), list(_first))


class _Constructor(yaml.constructor.SafeConstructor):
    bool_values: ClassVar[dict[str, bool]] = {
        **yaml.constructor.SafeConstructor.bool_values,
        "y": True,
        "n": False,
    }


def bodies(file: str, text: str) -> Iterator[tuple[Any, str]]:
    """Each document's body and why it can't be read; empty ones are None with no fault."""
    if file.endswith(".json") or text.lstrip()[:1] in ("{", "["):
        found = list(_json(text))
        # NB: a flow mapping of YAML begins as JSON does.
        if file.endswith(".json") or not any(fault for _, fault in found):
            yield from found
            return
    yield from _yaml(text)


def _json(text: str) -> Iterator[tuple[Any, str]]:
    """One after the other, as kubectl takes them."""
    decoder, at = json.JSONDecoder(object_pairs_hook=_once), 0
    while (at := len(text) - len(text[at:].lstrip())) < len(text):
        try:
            body, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            yield None, f"line {error.lineno}, column {error.colno}: {error.msg}"
            return
        except (ValueError, RecursionError) as error:
            yield None, DEEP if isinstance(error, RecursionError) else str(error)
            return
        yield body, ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(twice)} is there twice")
    return found


def _yaml(text: str) -> Iterator[tuple[Any, str]]:
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node said that there is one"
            yield _constructed(node)
    except yaml.YAMLError as error:
        # NB: where the next document begins is not known any more.
        yield None, _told(error)
    except RecursionError:
        yield None, DEEP


def _constructed(node: yaml.Node) -> tuple[Any, str]:
    if fault := next(_twice(node, set()), ""):
        return None, fault
    try:
        return _Constructor().construct_document(node), ""
    except yaml.YAMLError as error:
        return None, _told(error)
    except (ValueError, TypeError) as error:
        # NB: of a tag that does not fit its value, say.
        return None, f"line {node.start_mark.line + 1} and on: {error}"


def _twice(node: yaml.Node, seen: set[int]) -> Iterator[str]:
    """Keys that a mapping has twice. NB: YAML's reader keeps the last without a word, and the API
    server refuses it.
    """
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _twice(item, seen)
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            line = key.start_mark.line + 1
            if key.value in lines:
                yield f"line {line}: the key {key.value!r} is in line {lines[key.value]} already"
            lines[key.value] = line
        yield from _twice(value, seen)


def _told(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
