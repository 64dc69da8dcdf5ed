"""One value in a text of YAML -> the text in which it is another; every other line as it was.

    text, wanted -> nodes -> splices -> text -> nodes -> ... until it reads as wanted

The text is never written anew: a splice replaces what changes, so comments, order, quotes, line
ends and other documents stay to the byte. A comment stays where it is when what it speaks of goes,
but for one on the same line. An alias whose anchor changes becomes the value that it stood for.
Pure.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_operator.admin.store import words
from llm_operator.admin.store.nodes import Node, Sort, colon, documents

_ANCHOR = re.compile(r"&\S+[ \t]+(?=[^!\s])")
_COMMENT = re.compile(r"\s*\n([ \t]*)#")

#: Each round settles what the one before it laid bare: an alias, then what it was merged into.
ROUNDS = 12


class Unwritable(ValueError):
    """The text is written in a way that can't be changed like this."""


@dataclass(frozen=True, slots=True, order=True)
class Splice:
    """What stands from `start` to `end` becomes `text`.

    Attributes:
        late: it is of an alias, which may read as wanted once its anchor does.
    """

    start: int
    end: int
    text: str
    late: bool = False


def replaced(text: str, number: int, wanted: Mapping[str, Any]) -> str:
    """The text in which the document of that number, from 0, reads as wanted.

    Raises:
        Unwritable: it can't be made to.
        yaml.YAMLError: it can't be read.
    """
    others = _values(text)
    others[number] = dict(wanted)
    for _ in range(ROUNDS):
        root = documents(text)[number].root
        if same(root.value, wanted):
            break
        if root.sort is not Sort.MAPPING or not root.entries or not wanted:
            raise Unwritable("it holds no mapping")
        found = sorted(_Change(text).mapping(root, wanted))
        splices = [one for one in found if not one.late] or found
        text = _spliced(text, _inlined(root, splices) or splices)
    if not same(_values(text), others):
        raise Unwritable("it is written in a way that can't be changed here")
    return text


def removed(text: str, number: int) -> str:
    """The text without the document of that number; comments before the first document stay.

    Raises:
        Unwritable: what would be left is not all the others.
        yaml.YAMLError: it can't be read.
    """
    found = documents(text)
    one = found[number]
    left = text[: one.start] + text[one.end :]
    others = [each.root.value for place, each in enumerate(found) if place != number]
    if not same([value for value in _values(left) if value is not None], others):
        raise Unwritable("it is written in a way that can't be changed here")
    return left


def same(one: object, other: object) -> bool:
    """Whether two values are equal to every reader: 1 is not true."""
    return _canonical(one) == _canonical(other)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _values(text: str) -> list[Any]:
    return [document.root.value for document in documents(text)]


def _spliced(text: str, splices: Sequence[Splice]) -> str:
    parts, at = [], 0
    for splice in splices:
        if splice.start < at:
            raise Unwritable("it is written in a way that can't be changed here")
        parts += [text[at : splice.start], splice.text]
        at = splice.end
    return "".join((*parts, text[at:]))


def _inlined(root: Node, splices: Sequence[Splice]) -> list[Splice]:
    """The splices that must come first: values for aliases whose anchor would go."""
    nodes = list(root.within())
    going = {
        node.anchor
        for node in nodes
        if node.anchor and any(one.start <= node.start < one.end for one in splices)
    }
    aliases = [node for node in nodes if node.alias in going]
    left = [
        node
        for node in aliases
        if not any(one.start <= node.start and node.end <= one.end for one in splices)
    ]
    return [Splice(one.start, one.end, words.scalar(one.value, flow=True)) for one in left]


class _Change:
    """The splices that make a part of a text another value."""

    def __init__(self, text: str) -> None:
        self._text = text
        first = text.find("\n")
        self._newline = "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"

    def mapping(self, node: Node, wanted: Mapping[str, Any]) -> Iterator[Splice]:
        """Splices for a mapping some of whose keys stay."""
        stay = [(key, value) for key, value in node.entries if key.value in wanted]
        own = {key.value: (key, value) for key, value in stay}
        for key, value in stay:
            if own[key.value] == (key, value):
                yield from self._value(key, value, wanted[key.value], node)
        gone = {id(key) for key, _ in node.entries if not key.merges and key.value not in wanted}
        if any(name not in wanted for name in node.value if not _is_own(node, name)):
            # What it merges holds a field too many: the others are written out in the next round.
            gone |= {id(key) for key, _ in node.entries if key.merges}
        spans = [(key.start, key, value) for key, value in node.entries]
        yield from self._gone(node, [(at, v.end, id(k) in gone) for at, k, v in spans])
        after = stay[0]
        for name, value in wanted.items():
            if name in own:
                after = own[name]
            elif name not in node.value or not same(node.value[name], value):
                yield self._added(node, after, name, value)

    def sequence(self, node: Node, wanted: Sequence[Any]) -> Iterator[Splice]:
        """Splices for a sequence some of whose items stay."""
        before = [_token(value) for value in node.value]
        matched = difflib.SequenceMatcher(None, before, list(map(_token, wanted)), autojunk=False)
        gone: set[int] = set()
        last = -1
        for _, a, b, c, d in matched.get_opcodes():
            paired = min(b - a, d - c)
            for place in range(paired):
                last = a + place
                dash, item = node.items[last]
                yield from self._item(dash, item, wanted[c + place], node)
            gone |= set(range(a + paired, b))
            for value in wanted[c + paired : d]:
                yield self._appended(node, last, value)
        spans = [(item.start if node.flow else dash, item.end) for dash, item in node.items]
        yield from self._gone(node, [(*span, at in gone) for at, span in enumerate(spans)])

    # A value.

    def _value(self, key: Node, node: Node, wanted: Any, parent: Node) -> Iterator[Splice]:
        inner = self._inner(node, wanted)
        if inner is not None:
            yield from inner
        elif parent.flow:
            yield self._in_place(node, wanted, style=_quotes(parent))
        elif self._is_word(node) and not (isinstance(wanted, Mapping | list) and wanted):
            yield self._word(node, wanted, self._column(key.start))
        else:
            indent = self._column(key.start)
            made = words.after_key(wanted, indent, texts=self._is_free(node.end, indent))
            start, late = colon(self._text, key), bool(node.alias)
            yield Splice(start, node.end, self._lines(made), late=late)

    def _item(self, dash: int, node: Node, wanted: Any, parent: Node) -> Iterator[Splice]:
        inner = self._inner(node, wanted)
        if inner is not None:
            yield from inner
        elif parent.flow:
            yield self._in_place(node, wanted, style=_quotes(parent))
        elif self._is_word(node) and not (isinstance(wanted, Mapping | list) and wanted):
            yield self._word(node, wanted, self._column(dash))
        else:
            indent = self._column(dash)
            made = words.item(wanted, indent, texts=self._is_free(node.end, indent))
            yield Splice(dash + 1, node.end, self._lines(made), late=bool(node.alias))

    def _inner(self, node: Node, wanted: Any) -> Iterator[Splice] | None:
        """Splices within the value; none where it is to be replaced as a whole."""
        if same(node.value, wanted):
            return iter(())
        if node.alias or not wanted:
            return None
        if node.sort is Sort.MAPPING and isinstance(wanted, Mapping):
            stays = any(not k.merges and k.value in wanted for k, _ in node.entries)
            return self.mapping(node, wanted) if stays else None
        if node.sort is Sort.SEQUENCE and isinstance(wanted, list) and node.items:
            nested = not node.flow and not self._begins_line(node.items[0][0])
            return None if nested else self.sequence(node, wanted)
        return None

    def _is_word(self, node: Node) -> bool:
        """Whether it has a text of its own, in place of which another goes."""
        return node.end > node.start and (bool(node.alias) or node.sort is Sort.SCALAR)

    def _word(self, node: Node, wanted: Any, indent: int) -> Splice:
        block = None
        if isinstance(wanted, str) and self._is_free(node.end, indent):
            block = words.literal(wanted, indent + words.STEP)
        style = "" if node.alias or not isinstance(node.value, str) else node.style
        made = block or words.scalar(wanted, style=style)
        start = self._after_anchor(node)
        return Splice(start, node.end, self._lines(made), late=bool(node.alias))

    def _in_place(self, node: Node, wanted: Any, *, style: str) -> Splice:
        quotes = style if style == '"' else node.style if isinstance(node.value, str) else ""
        made = words.scalar(wanted, style=quotes if quotes in ("'", '"') else "", flow=True)
        before = self._text[node.start - 1 : node.start]
        gap = " " if node.start == node.end and before == ":" else ""
        start = self._after_anchor(node) if node.sort is Sort.SCALAR else node.start
        return Splice(start, node.end, gap + made, late=bool(node.alias))

    # Entries and items that come and go.

    def _added(self, node: Node, after: tuple[Node, Node], name: str, value: Any) -> Splice:
        key, last = after
        if not node.flow:
            indent = self._column(key.start)
            texts = self._is_free(self._line_end(last.end), indent)
            return self._line(last.end, words.entry(name, value, indent, texts=texts))
        style = _quotes(node)
        told = words.scalar(name, style=style, flow=True)
        made = f"{told}: {words.scalar(value, style=style, flow=True)}"
        return self._flowing(key.start, last.end, made)

    def _appended(self, node: Node, last: int, value: Any) -> Splice:
        dash, item = node.items[max(last, 0)]
        if node.flow:
            made = words.scalar(value, style=_quotes(node), flow=True)
            if last < 0:
                return Splice(item.start, item.start, f"{made}, ")
            return self._flowing(item.start, item.end, made)
        indent = self._column(dash)
        texts = last >= 0 and self._is_free(self._line_end(item.end), indent)
        made = f"{' ' * indent}-{words.item(value, indent, texts=texts)}"
        if last < 0:
            start = dash - indent
            return Splice(start, start, self._lines(made) + self._newline)
        return self._line(item.end, made)

    def _flowing(self, start: int, end: int, made: str) -> Splice:
        """Something after what stands from start to end in [] or {}."""
        own_line = self._begins_line(start)
        gap = self._newline + " " * self._column(start) if own_line else " "
        return Splice(end, end, f",{gap}{made}")

    def _line(self, end: int, made: str) -> Splice:
        """A line, or more, after the one on which something ends."""
        at = self._text.find("\n", end)
        if at < 0:
            at = len(self._text)
            return Splice(at, at, self._newline + self._lines(made))
        return Splice(at + 1, at + 1, self._lines(made) + self._newline)

    def _gone(self, node: Node, spans: Sequence[tuple[int, int, bool]]) -> Iterator[Splice]:
        """Take away entries or items, each from where to where, and whether it goes."""
        stayed = shares = False
        for place, (start, end, goes) in enumerate(spans):
            if not goes:
                stayed, shares = True, False
            elif node.flow and stayed:
                yield Splice(spans[place - 1][1], end, "")
            elif not node.flow and not shares and (stayed or self._begins_line(start)):
                at = self._text.find("\n", end)
                yield Splice(self._line_start(start), len(self._text) if at < 0 else at + 1, "")
            else:
                # It stands behind a dash or a bracket: what comes after it moves there.
                shares = True
                yield Splice(start, spans[place + 1][0], "")

    # Places in the text.

    def _after_anchor(self, node: Node) -> int:
        """Where a word begins, so that whoever refers to it goes on to."""
        found = _ANCHOR.match(self._text, node.start, node.end)
        return found.end() if node.anchor and found else node.start

    def _lines(self, made: str) -> str:
        return made.replace("\n", self._newline)

    def _line_start(self, at: int) -> int:
        return self._text.rfind("\n", 0, at) + 1

    def _column(self, at: int) -> int:
        return at - self._line_start(at)

    def _begins_line(self, at: int) -> bool:
        return not self._text[self._line_start(at) : at].strip()

    def _line_end(self, at: int) -> int:
        end = self._text.find("\n", at)
        return len(self._text) if end < 0 else end

    def _is_free(self, at: int, indent: int) -> bool:
        """Whether a text of several lines may end here: the line ends too, and no comment follows
        that stands so deep that it would become part of the text.
        """
        if self._text[at : self._line_end(at)].strip():
            return False
        comment = _COMMENT.match(self._text, at)
        return comment is None or len(comment[1]) <= indent


def _is_own(node: Node, name: object) -> bool:
    return any(not key.merges and key.value == name for key, _ in node.entries)


def _quotes(node: Node) -> str:
    """The quotes of all keys in {}, or else of all texts in []: " in JSON."""
    inner = list(node.within())
    keys = [key.style for one in inner for key, _ in one.entries]
    texts = [one.style for one in inner if isinstance(one.value, str) and not one.alias]
    return '"' if set(keys or texts) == {'"'} else ""


def _token(value: Any) -> str:
    """What an item is known by: its name, or all of it."""
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return f"name {value['name']}"
    return _canonical(value)
