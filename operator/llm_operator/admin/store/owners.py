"""Which GitOps pipeline a resource belongs to, by the marks that Argo CD and Flux leave. Pure.

A mark is copied along when a person copies a manifest; who wrote an object the API server itself
notes, in `managedFields`. So a label counts only where the tool's own field manager wrote the
object too. Argo CD's tracking annotation names the object it was made for, and counts where that
is this one.

NB: a pipeline that was taken away and left its resources leaves its marks as well; such a resource
is the pipeline's until somebody removes the annotation or the labels.
"""

from collections.abc import Mapping
from typing import Any

from llm_operator.admin.model import Owner
from llm_operator.resource.model import GROUP, KIND

ARGO, FLUX = "Argo CD", "Flux"

TRACKING = "argocd.argoproj.io/tracking-id"
#: Argo CD's label, by default and where another was chosen; the first is everybody's.
INSTANCES = ("argocd.argoproj.io/instance", "app.kubernetes.io/instance")
#: What the names of Argo CD's field managers begin with.
ARGO_MANAGER = "argocd-"

#: Flux's field manager -> what its labels begin with.
FLUX_MANAGERS: Mapping[str, str] = {
    "kustomize-controller": "kustomize.toolkit.fluxcd.io",
    "helm-controller": "helm.toolkit.fluxcd.io",
}


def owner(metadata: Mapping[str, Any]) -> Owner | None:
    """The pipeline that an object's metadata, `managedFields` too, speaks of; None for none."""
    labels, annotations = _texts(metadata, "labels"), _texts(metadata, "annotations")
    managers = _managers(metadata)
    if application := _tracked(annotations.get(TRACKING, ""), metadata):
        return Owner(tool=ARGO, name=application)
    if any(manager.startswith(ARGO_MANAGER) for manager in managers):
        for label in INSTANCES:
            if application := labels.get(label, ""):
                return Owner(tool=ARGO, name=application)
    for manager, prefix in FLUX_MANAGERS.items():
        name, namespace = labels.get(f"{prefix}/name", ""), labels.get(f"{prefix}/namespace", "")
        if name and manager in managers:
            return Owner(tool=FLUX, name=f"{namespace}/{name}" if namespace else name)
    return None


def _tracked(tracking: str, metadata: Mapping[str, Any]) -> str:
    """The application of `APP:GROUP/KIND:NAMESPACE/NAME`, if that names this object; else ""."""
    application, _, target = tracking.partition(":")
    this = f"{GROUP}/{KIND}:{metadata.get('namespace')}/{metadata.get('name')}"
    if target != this:
        return ""
    # NB: of an application outside Argo CD's own namespace, NAMESPACE_APP; no name holds a `_`.
    return application.replace("_", "/", 1)


def _managers(metadata: Mapping[str, Any]) -> frozenset[str]:
    entries = metadata.get("managedFields")
    return frozenset(
        str(entry.get("manager"))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, Mapping) and not entry.get("subresource")
    )


def _texts(metadata: Mapping[str, Any], key: str) -> Mapping[str, str]:
    given = metadata.get(key)
    pairs = given.items() if isinstance(given, Mapping) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}
