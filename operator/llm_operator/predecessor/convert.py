"""The predecessor's rows -> LLMBackends, and what there is to say about them. Pure.

Every row gives a resource that the API server takes, or a finding that says why not. What the spec
does not say as the row did stands in an annotation, `llm.athena.dev/imported-` and the column, so
that the row can be told from the resource. Where requests would go elsewhere than before, the
resource is switched off.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_operator.admin.store.names import resource_name
from llm_operator.predecessor import reasons
from llm_operator.predecessor.columns import COLUMNS, NEEDED, clean
from llm_operator.predecessor.reading import Reading, text
from llm_operator.predecessor.reasons import Finding, Said, say
from llm_operator.predecessor.urls import address
from llm_operator.resource.check import show
from llm_operator.resource.fields import SPEC
from llm_operator.resource.model import API_VERSION, IMPORTED, KIND, BackendType

Row = Mapping[str, object]

#: Bytes of an annotation at most. NB: all of an object's together may have 256 KiB.
MOST = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A resource, and the findings about its row.

    Attributes:
        off: it was switched off here, because of a finding.
    """

    manifest: Mapping[str, Any]
    row: str
    model: str
    off: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """Of the resource."""
        return str(self.manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """All of them.

    Attributes:
        findings: about no resource: rows that gave none, and columns.
        rows: how many there were.
    """

    resources: tuple[Imported, ...] = ()
    findings: tuple[Finding, ...] = ()
    rows: int = 0


def convert(
    given: Sequence[object], *, namespace: str | None = None, ollama_url: str | None = None
) -> Converted:
    """Turn rows into resources.

    Args:
        given: rows as JSON has them; the order does not matter.
        namespace: for the manifests; None leaves it to whoever applies them.
        ollama_url: of the fallback of `auto`; None leaves it to the operator.
    """
    rows: list[Row] = []
    findings: list[Finding] = []
    for place, one in enumerate(given, start=1):
        if not isinstance(one, Mapping):
            findings.append(
                _finding(f"at {place}", "", "", say(reasons.NOT_A_ROW, given=show(one)))
            )
        elif not _model(one):
            findings.append(_finding(_id(one), "", "model_name", say(reasons.NO_MODEL)))
        else:
            rows.append(one)
    rows.sort(key=_order)
    names: dict[str, Row] = {}
    for row in rows:
        names[resource_name(_model(row), names)] = row
    return Converted(
        resources=tuple(
            _imported(row, name, namespace=namespace, ollama_url=ollama_url)
            for name, row in names.items()
        ),
        findings=(*findings, *_of_columns(rows)),
        rows=len(given),
    )


def _imported(row: Row, name: str, *, namespace: str | None, ollama_url: str | None) -> Imported:
    readings = _readings(row)
    spec = {COLUMNS[column].field: one.value for column, one in readings.items()}
    said = [(column, _named(one, name)) for column, told in readings.items() for one in told.said]
    fallback, more = _beside(spec, _model(row), ollama_url)
    said += more
    spec["fallbackEndpointURL"] = fallback
    spec["modelName"] = spec["modelName"] or name
    off = any(one.reason.off for _, one in said) and spec.get("enabled") is not False
    if off:
        spec["enabled"] = False
        before = readings.get("enabled", Reading())
        readings["enabled"] = replace(before, kept=before.kept or "true")
    annotations, more = _annotations(row, readings)
    # NB: a description's characters are told of already.
    said += [one for one in more if one not in said]
    model = clean(_model(row))[0]
    place = {} if namespace is None else {"namespace": namespace}
    return Imported(
        manifest={
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, **place, "annotations": annotations},
            "spec": {one: spec[one] for one in SPEC.fields if spec.get(one) is not None},
        },
        row=_id(row),
        model=model,
        off=off,
        findings=tuple(_finding(_id(row), model, column, one) for column, one in said),
    )


def _readings(row: Row) -> dict[str, Reading]:
    """Each column that is for the spec, read; those that the row does not have left out."""
    found: dict[str, Reading] = {}
    for column, about in COLUMNS.items():
        if about.read is not None and (column in row or column in NEEDED):
            found[column] = about.read(row.get(column))
    kind = BackendType(str(found["backend_type"].value))
    found["endpoint_url"] = address(row.get("endpoint_url"), kind)
    if kind is BackendType.OPENAI and found["endpoint_url"].value is None:
        found["backend_type"] = Reading(
            value=BackendType.OLLAMA.value, kept=kind.value, said=(say(reasons.NO_ADDRESS),)
        )
    return found


def _beside(
    spec: Mapping[str, object], model: str, ollama_url: str | None
) -> tuple[str | None, list[tuple[str, Said]]]:
    """The fallback, and what differs from the predecessor without a column that says so."""
    said: list[tuple[str, Said]] = []
    fallback = None
    if spec["backendType"] == BackendType.AUTO:
        url = str(spec["endpointURL"] or "")
        if ollama_url is None:
            said.append(("backend_type", say(reasons.NO_FALLBACK)))
        elif ollama_url.rstrip("/") == url.rstrip("/"):
            said.append(("backend_type", say(reasons.SAME_FALLBACK)))
        else:
            fallback = ollama_url
    if spec["backendType"] in (BackendType.AUTO, BackendType.MLX):
        said.append(("backend_type", say(reasons.MLX_MODEL, model=show(model))))
    return fallback, said


def _annotations(
    row: Row, readings: Mapping[str, Reading]
) -> tuple[dict[str, str], list[tuple[str, Said]]]:
    """What the spec does not say, and what it lost on the way there."""
    annotations: dict[str, str] = {}
    said: list[tuple[str, Said]] = []
    for column in COLUMNS:
        if column in readings:
            whole = readings[column].kept
        else:
            whole = "" if row.get(column) is None else text(row[column])
        value, more = clean(whole)
        raw = value.encode()
        if len(raw) > MOST:
            value = raw[:MOST].decode(errors="ignore")
            more = (*more, say(reasons.CUT, most=MOST))
        if value:
            annotations[annotation(column)] = value
        said += [(column, one) for one in more]
    return annotations, said


def annotation(column: str) -> str:
    """The annotation that keeps a column's value."""
    return IMPORTED + column.replace("_", "-")


def _of_columns(rows: Sequence[Row]) -> Iterator[Finding]:
    """What is true of a column in all rows."""
    for column, about in COLUMNS.items():
        if rows and about.default and not any(column in row for row in rows):
            yield _finding("", "", column, say(reasons.ABSENT, default=about.default))
    unknown = Counter(
        str(column)
        for row in rows
        for column, value in row.items()
        if column not in COLUMNS and value is not None
    )
    for column in sorted(unknown):
        number = unknown[column]
        count = f"{number} row{'' if number == 1 else 's'}"
        yield _finding("", "", column, say(reasons.UNKNOWN, rows=count))


def _named(said: Said, name: str) -> Said:
    # NB: what stands in for a model's name is that of the resource.
    if said.reason is reasons.BAD_MODEL:
        return replace(said, values={**said.values, "stand_in": name})
    return said


def _finding(row: str, model: str, field: str, said: Said) -> Finding:
    return Finding(row=row, model=model, field=field, text=said.text, lost=said.reason.lost)


def _model(row: Row) -> str:
    given = row.get("model_name")
    return "" if given is None else text(given).strip()


def _id(row: Row) -> str:
    given = row.get("id")
    return "?" if given is None else clean(text(given))[0][:64]


def _order(row: Row) -> tuple[int, int, str, str]:
    """By id. NB: total over the names, so that rows without one give the same at each import."""
    given = row.get("id")
    number = given if isinstance(given, int) else 0
    return (0 if isinstance(given, int) else 1, number, _id(row), _model(row))
