"""Documents -> the LLMBackends among them, and what is wrong with each.

The rules are those of `resource`, so that a file that passes here passes at the API server. It does
no I/O. What only the API server gives, a uid, is made up from namespace and name, so that equal
files give equal values.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llm_operator.command.documents import Document
from llm_operator.resource.model import GROUP, KIND, Resource
from llm_operator.resource.parse import NotAResource, parse

NAMESPACE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to say about a document.

    Attributes:
        resource: NAMESPACE/NAME; "" when there is none to speak of.
        field: its path; "" when it is about all of the document.
        warning: nothing has to be done about it.
    """

    document: Document
    resource: str = ""
    field: str = ""
    message: str
    warning: bool = False

    def __str__(self) -> str:
        level = ("warning",) if self.warning else ()
        at = (f"{self.document.within}{self.field}".rstrip("."),)
        return ": ".join(filter(None, (self.document.place, *level, *at, self.message)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One LLMBackend.

    Attributes:
        named: its uid came with it.
    """

    document: Document
    resource: Resource
    named: bool

    def finding(self, message: str, *, at: str, warning: bool = False) -> Finding:
        """Something to say about it."""
        return Finding(
            document=self.document,
            resource=str(self.resource.identity),
            field=at,
            message=message,
            warning=warning,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the documents hold.

    Attributes:
        manifests: of each NAMESPACE/NAME the last, as applying them one by one would leave it.
        findings: errors of single documents, and where one replaces another.
        skipped: kind -> how many there were of what is no LLMBackend.
        checked: how many LLMBackends there were, whether right or wrong.
    """

    manifests: tuple[Manifest, ...] = ()
    findings: tuple[Finding, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    checked: int = 0


def load(documents: Iterable[Document], *, namespace: str | None = None) -> Loaded:
    """Find the LLMBackends.

    Args:
        documents: in their order.
        namespace: of manifests that name none.
    """
    found: dict[str, Manifest] = {}
    findings: list[Finding] = []
    skipped: Counter[str] = Counter()
    checked = 0
    for document in documents:
        if not document.fault and (kind := _foreign(document.body)):
            skipped[kind] += 1
            continue
        checked += 1
        try:
            manifest = _manifest(document, namespace)
        except NotAResource as error:
            findings.append(Finding(document=document, message=str(error)))
            continue
        name = str(manifest.resource.identity)
        if before := found.pop(name, None):
            told = f"{name} is in {before.document.place} too; the last one applied is what stays"
            findings.append(manifest.finding(told, at="metadata.name", warning=True))
        found[name] = manifest
        findings += (
            manifest.finding(one.message, at=one.path) for one in manifest.resource.problems
        )
    return Loaded(
        manifests=_distinct(found.values()),
        findings=tuple(findings),
        skipped=skipped,
        checked=checked,
    )


def _foreign(body: object) -> str:
    """The kind of a manifest that is none of ours; "" for ours, and for what is no manifest."""
    if not isinstance(body, Mapping):
        return ""
    kind, version = body.get("kind"), str(body.get("apiVersion"))
    if kind == KIND or version.startswith(f"{GROUP}/"):
        return ""
    return kind if isinstance(kind, str) and kind else "no kind"


def _manifest(document: Document, namespace: str | None) -> Manifest:
    if document.fault:
        raise NotAResource(document.fault)
    resource = parse(document.body)
    given: Mapping[str, Any] = document.body["metadata"]
    place = resource.identity.namespace if given.get("namespace") else namespace or NAMESPACE
    identity = replace(resource.identity, namespace=place)
    return Manifest(
        document=document,
        resource=replace(resource, identity=identity),
        named=bool(identity.uid),
    )


def _distinct(manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """With a uid each. NB: a copied file may carry another's."""
    seen: set[str] = set()
    distinct = []
    for one in manifests:
        identity = one.resource.identity
        if not one.named or identity.uid in seen:
            made = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{GROUP}/{identity}"))
            resource = replace(one.resource, identity=replace(identity, uid=made))
            one = replace(one, resource=resource, named=False)
        seen.add(one.resource.identity.uid)
        distinct.append(one)
    return tuple(distinct)
