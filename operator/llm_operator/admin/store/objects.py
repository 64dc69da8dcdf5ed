"""An object as the API server has it -> a backend. Pure.

A spec is judged once for each generation; what changes without a new one is a look at metadata.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_operator.admin.model import Backend
from llm_operator.admin.store.owners import owner
from llm_operator.resource.model import API_VERSION, KIND, Resource
from llm_operator.resource.parse import is_paused, parse


def backend(item: Mapping[str, Any], known: Backend | None = None) -> Backend:
    """The backend of an object.

    Args:
        known: the same object as it was seen before, if it was.
    """
    metadata = item["metadata"]
    spec = item.get("spec")
    if known is not None and known.version == metadata["resourceVersion"]:
        return known
    resource = _resource(item, known)
    if known is not None and known.resource.identity == resource.identity:
        # NB: the very same one, so that who keeps something about it knows that it still holds.
        spec = known.manifest.get("spec")
    return Backend(
        resource=resource,
        manifest={
            "apiVersion": API_VERSION,
            "kind": KIND,
            # NB: who owns which field is most of an object, and nobody here asks for it again.
            "metadata": {key: metadata[key] for key in metadata if key != "managedFields"},
            **({} if spec is None else {"spec": spec}),
        },
        version=metadata["resourceVersion"],
        owner=owner(metadata),
    )


def version(given: str) -> int:
    """A resourceVersion as a number: of two of one object the higher is the later."""
    return int(given) if given.isdecimal() else 0


def _resource(item: Mapping[str, Any], known: Backend | None) -> Resource:
    metadata = item["metadata"]
    # NB: an object in a list has neither kind nor version where the API server left them out.
    if known is None or known.resource.identity.generation != metadata["generation"]:
        return parse({**item, "apiVersion": API_VERSION, "kind": KIND})
    return replace(
        known.resource,
        deleting="deletionTimestamp" in metadata,
        status=item.get("status"),
        paused=is_paused(metadata),
    )
