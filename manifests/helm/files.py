"""Copies into the chart what kustomize applies too: a chart can't read files outside its folder.

    python3 manifests/helm/files.py

Run it after a change to one of the sources; a test says so. What differs between releases, the
pods, is in the chart's templates, and tests/integration/test_helm_equal.py compares the outcome.
"""

from pathlib import Path

MANIFESTS = Path(__file__).resolve().parents[1]
FILES = MANIFESTS / "helm" / "llm-backend" / "files"

#: File of the chart -> what it is a copy of, below manifests/.
SOURCES = {
    "llmbackends.yaml": "../crds/llmbackends.yaml",
    "rbac.yaml": "base/rbac.yaml",
    "people.yaml": "base/people.yaml",
    "advice.yaml": "base/advice.yaml",
    "served.yaml": "overlays/namespaced/served/role.yaml",
    "network-policy.yaml": "components/network-policy/policy.yaml",
    "budget.yaml": "components/ha/budget.yaml",
    "injection.yaml": "components/injection/policy.yaml",
    "postgres.yaml": "components/postgres/postgres.yaml",
    "admin/rbac.yaml": "components/admin/rbac.yaml",
    "admin/usage.yaml": "components/admin/usage.yaml",
    "admin/policy.yaml": "components/admin/policy.yaml",
    "admin/served.yaml": "components/admin/served/binding.yaml",
    "admin/usage-from.yaml": "components/admin/models/usage.yaml",
    "metrics/service.yaml": "components/metrics/service.yaml",
    "metrics/podmonitors.yaml": "observability/podmonitors.yaml",
    "metrics/rules.yaml": "observability/rules.yaml",
    "metrics/admin-podmonitor.yaml": "observability/admin/podmonitor.yaml",
    "metrics/admin-rbac.yaml": "observability/admin/rbac.yaml",
}
COPIES = {name: MANIFESTS / source for name, source in SOURCES.items()} | {
    f"dashboards/{source.name}": source
    for source in sorted((MANIFESTS / "observability" / "dashboards").glob("*.json"))
}


def copy() -> None:
    """Write every copy, and take away what is none."""
    for name, source in COPIES.items():
        target = FILES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    for file in FILES.rglob("*"):
        if file.is_file() and str(file.relative_to(FILES)) not in COPIES:
            file.unlink()


if __name__ == "__main__":
    copy()
