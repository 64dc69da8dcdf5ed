"""Which backends of a list are told, and where the others are.

Pure. Without a limit a list is told whole, as the predecessor's was.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from llm_operator.admin import view
from llm_operator.admin.backends import Standing

T = TypeVar("T")

#: Entries of one page.
LARGEST = 1000
TOTAL = "X-Total-Count"


def chosen(
    found: Sequence[Standing], *, backend_type: str | None, search: str | None
) -> Sequence[Standing]:
    """Those of a type that have all words of a search somewhere.

    Args:
        search: words that have to be in model, aliases, name, address or description.
    """
    words = (search or "").casefold().split()
    if backend_type is None and not words:
        return found
    told = ((one, view.fields(one.backend)) for one in found)
    return [
        one
        for one, fields in told
        if (backend_type is None or fields["backend_type"] == backend_type)
        and _has(one, fields, words)
    ]


def page(
    found: Sequence[T], *, path: str, asked: Mapping[str, object], limit: int | None, offset: int
) -> tuple[Sequence[T], dict[str, str]]:
    """One page, and the headers that lead to the others.

    Args:
        found: all of them.
        path: of the list.
        asked: other parameters of the query, which the links keep; None for those not given.
        limit: entries of a page; None for all that there are.
        offset: entries before it.
    """
    total = len(found)
    headers = {TOTAL: str(total)}
    if limit is None:
        return (found[offset:] if offset else found), headers
    last = max(0, (total - 1) // limit * limit)
    places = {"first": 0, "last": last}
    if offset > 0:
        places["prev"] = min(max(0, offset - limit), last)
    if offset + limit < total:
        places["next"] = offset + limit
    links = [
        link(path, {**asked, "limit": limit, "offset": place}, relation=relation)
        for relation, place in places.items()
    ]
    return found[offset : offset + limit], headers | {"Link": ", ".join(links)}


def link(path: str, query: Mapping[str, object], *, relation: str) -> str:
    """One link of RFC 8288."""
    given = {name: _text(value) for name, value in query.items() if value is not None}
    return f'<{path}?{urlencode(given)}>; rel="{relation}"'


def _has(one: Standing, fields: Mapping[str, object], words: Sequence[str]) -> bool:
    aliases = fields["aliases"]
    places = (
        one.backend.resource.identity.name,
        fields["model_name"],
        fields["endpoint_url"],
        fields["description"],
        *(aliases if isinstance(aliases, list) else ()),
    )
    text = "\n".join(str(place) for place in places if place is not None).casefold()
    return all(word in text for word in words)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
