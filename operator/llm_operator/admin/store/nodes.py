"""Text of YAML -> its documents as trees that know where in the text each part stands. Pure.

A tree says what is an alias and what has an anchor, which a reader of values forgets, and holds
the value of each part, as the operator's own reader of a folder has it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_COLON = re.compile(r"\s*:")


class Sort(Enum):
    """What a node is."""

    SCALAR = 1
    MAPPING = 2
    SEQUENCE = 3


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """One value in the text.

    Attributes:
        start: where its text begins, an anchor and a tag included.
        end: where the last text that belongs to it ends; comments and line ends after it do not.
        value: as it is read.
        style: of a scalar: "", ', ", | or >.
        flow: it is written in [] or {}, or is in something that is.
        anchor: its name; "" without one.
        alias: the name of the anchor that stands here instead of a value; "" for none.
        entries: of a mapping: keys and values.
        items: of a sequence: where the dash is, and the value; no dash is -1.
    """

    sort: Sort
    start: int
    end: int
    value: Any = None
    style: str = ""
    flow: bool = False
    anchor: str = ""
    alias: str = ""
    entries: list[tuple["Node", "Node"]] = field(default_factory=list)
    items: list[tuple[int, "Node"]] = field(default_factory=list)

    @property
    def merges(self) -> bool:
        """Whether it is the key << of a merge."""
        return self.sort is Sort.SCALAR and self.value == "<<" and not self.style

    def within(self) -> Iterator["Node"]:
        """This and all in it."""
        yield self
        for key, value in self.entries:
            yield from key.within()
            yield from value.within()
        for _, item in self.items:
            yield from item.within()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document: from where it begins to where the next does."""

    start: int
    end: int
    root: Node


def documents(text: str) -> list[Document]:
    """All documents, the empty ones too.

    Raises:
        yaml.YAMLError: it can't be read.
    """
    tree = _Tree(text)
    found = list(tree.documents())
    starts = [*(start for start, _ in found), len(text)]
    return [
        Document(start=start, end=starts[place + 1], root=root)
        for place, (start, root) in enumerate(found)
    ]


def colon(text: str, key: Node) -> int:
    """Where the colon after a key ends."""
    found = _COLON.match(text, key.end)
    return found.end() if found else key.end


class _Tree:
    def __init__(self, text: str) -> None:
        self._text = text
        # NB: events have what the composed tree of PyYAML forgets; its stubs say little of them.
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        tokens: Iterator[Any] = iter(yaml.scan(text, Loader=yaml.SafeLoader))
        self._dashes: list[int] = [
            token.start_mark.index for token in tokens if isinstance(token, yaml.BlockEntryToken)
        ]
        self._resolver: Any = yaml.SafeLoader("")
        self._anchors: dict[str, Node] = {}

    def documents(self) -> Iterator[tuple[int, Node]]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                yield _at(event.start_mark), self._node(next(self._events), flow=False)

    def _node(self, event: Any, *, flow: bool) -> Node:
        start, end = _at(event.start_mark), _at(event.end_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor or "", start, end, flow=flow)
        sort = Sort.SCALAR
        if isinstance(event, yaml.CollectionStartEvent):
            sort = Sort.MAPPING if isinstance(event, yaml.MappingStartEvent) else Sort.SEQUENCE
            flow = flow or bool(event.flow_style)
        node = Node(sort=sort, start=start, end=end, flow=flow, anchor=event.anchor or "")
        if sort is Sort.SCALAR:
            self._scalar(node, event)
        elif sort is Sort.MAPPING:
            self._mapping(node)
        else:
            self._sequence(node)
        # NB: only now, so that nothing can hold itself.
        if node.anchor:
            self._anchors[node.anchor] = node
        return node

    def _alias(self, anchor: str, start: int, end: int, *, flow: bool) -> Node:
        meant = self._anchors.get(anchor)
        if meant is None:
            raise yaml.YAMLError(f"the alias *{anchor} stands before its anchor, or within it")
        return Node(
            sort=meant.sort, start=start, end=end, value=meant.value, flow=flow, alias=anchor
        )

    def _scalar(self, node: Node, event: Any) -> None:
        node.style = event.style or ""
        if node.style in ("|", ">"):
            # NB: its event ends where the next thing begins, empty lines between included.
            node.end = node.start + len(self._text[node.start : node.end].rstrip())
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag == _MERGE:
            node.value = "<<"
            return
        made = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        node.value = yaml.constructor.SafeConstructor().construct_document(made)

    def _mapping(self, node: Node) -> None:
        own: dict[Any, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, flow=node.flow)
            value = self._node(next(self._events), flow=node.flow)
            node.entries.append((key, value))
            if key.merges:
                merged.append(value.value)
            elif isinstance(key.value, list | dict):
                raise yaml.YAMLError("a key is no scalar")
            else:
                own[key.value] = value.value
        node.value = _merged(merged) | own
        self._close(node, event, [value for _, value in node.entries])

    def _sequence(self, node: Node) -> None:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, flow=node.flow)
            node.items.append((-1 if node.flow else self._dash(item.start), item))
        node.value = [item.value for _, item in node.items]
        self._close(node, event, [item for _, item in node.items])

    def _close(self, node: Node, event: Any, inner: list[Node]) -> None:
        # NB: a block has no end of its own; its event's is where the next thing begins.
        node.end = _at(event.end_mark) if node.flow or not inner else inner[-1].end

    def _dash(self, start: int) -> int:
        # NB: an item that is a block list begins at a dash of its own.
        return self._dashes[bisect_left(self._dashes, start) - 1]


def _at(mark: Any) -> int:
    assert mark is not None, "a parser of text knows where it is"
    return int(mark.index)


def _merged(given: list[Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for one in given:
        for mapping in one if isinstance(one, list) else [one]:
            if not isinstance(mapping, dict):
                raise yaml.YAMLError("what << merges is no mapping")
            found = mapping | found
    return found
