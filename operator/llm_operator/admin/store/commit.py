"""A backend and a spec -> the YAML to commit to a repository, or to keep in a folder. Pure.

What the API server, a GitOps tool or this admin wrote into the metadata is left out: the one has
no place in a file, and the others write it again.
"""

from collections.abc import Mapping
from typing import Any

from llm_operator.admin.store import words
from llm_operator.admin.store.owners import FLUX_MANAGERS, INSTANCES, TRACKING, owner
from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import API_VERSION, CHANGED_BY, CREATED_BY, KIND
from llm_operator.resource.schema import Field, Kind

_TOOLS_ANNOTATIONS = frozenset(
    (
        CHANGED_BY,
        CREATED_BY,
        TRACKING,
        "argocd.argoproj.io/installation-id",
        "kubectl.kubernetes.io/last-applied-configuration",
        "meta.helm.sh/release-name",
        "meta.helm.sh/release-namespace",
    )
)
_TOOLS_LABELS = frozenset(
    (
        "argocd.argoproj.io/instance",
        *(f"{prefix}/{key}" for prefix in FLUX_MANAGERS.values() for key in ("name", "namespace")),
    )
)
_HELM = ("app.kubernetes.io/managed-by", "Helm")
#: Prefixes of what kopf, which the operator is made with, may write.
_KOPF = ("kopf.dev/", "kopf.zalando.org/")


def commit_yaml(manifest: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """A manifest with this spec, as a document of YAML that ends in a line end."""
    metadata = manifest["metadata"]
    told: dict[str, Any] = {"name": metadata["name"]}
    if namespace := metadata.get("namespace"):
        told["namespace"] = namespace
    for key, kept in (("labels", _labels(metadata)), ("annotations", _annotations(metadata))):
        if kept:
            told[key] = kept
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": told, "spec": ordered(spec)}
    return words.block(document, 0) + "\n"


def ordered(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same spec, its fields in the schema's order."""
    found: dict[str, Any] = _ordered(SPEC, spec)
    return found


def _ordered(field: Field | None, value: Any) -> Any:
    if field is None or field.extensible:
        return value
    if field.kind is Kind.ARRAY and isinstance(value, list):
        return [_ordered(field.item, one) for one in value]
    if not isinstance(value, Mapping):
        return value
    known = [name for name in field.fields if name in value]
    others = [name for name in value if name not in field.fields]
    return {name: _ordered(field.fields.get(name), value[name]) for name in known + others}


def _labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    given = metadata.get("labels") or {}
    kept = {key: value for key, value in given.items() if key not in _TOOLS_LABELS}
    if kept.get(_HELM[0]) == _HELM[1]:
        del kept[_HELM[0]]
    found = owner(metadata)
    # NB: everybody uses this label; it is Argo CD's where it names the application.
    if found is not None and kept.get(INSTANCES[1]) == found.name:
        del kept[INSTANCES[1]]
    return kept


def _annotations(metadata: Mapping[str, Any]) -> dict[str, str]:
    given = metadata.get("annotations") or {}
    return {
        key: value
        for key, value in given.items()
        if key not in _TOOLS_ANNOTATIONS and not key.startswith(_KOPF)
    }
