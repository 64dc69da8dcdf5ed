"""The documentation is whole: every page in the navigation, every command run or marked."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from parts import docs

SITE = docs.DOCS / "site"
PAGES = sorted(page for page in docs.DOCS.rglob("*.md"))
ALL = [*PAGES, *(docs.ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
ALL += sorted((docs.ROOT / "manifests").rglob("*.md"))


def named(page: Path) -> str:
    return str(page.relative_to(docs.ROOT))


def loaded(name: str) -> ModuleType:
    """A file of the site, which is no package."""
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(nav: Any) -> list[str]:
    """The pages and folders of a navigation."""
    if isinstance(nav, str):
        return [nav]
    return [leaf for entry in nav for below in entry.values() for leaf in leaves(below)]


def test_every_page_is_in_the_navigation() -> None:
    listed = leaves(yaml.safe_load((docs.ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(set(listed))
    missing = [
        path
        for path in (str(page.relative_to(docs.DOCS)) for page in PAGES)
        if path not in listed and f"{Path(path).parent}/" not in listed
    ]
    assert missing == []
    assert [path for path in listed if not (docs.DOCS / path).exists()] == []


def test_the_reference_is_the_definition_s() -> None:
    reference = loaded("reference")
    made = reference.page(yaml.safe_load(reference.DEFINITION.read_text()))
    assert made == reference.PAGE.read_text(), "run `python docs/site/reference.py`"


@pytest.mark.parametrize("page", ALL, ids=named)
def test_every_command_is_run_or_marked(page: Path) -> None:
    assert docs.unmarked(page) == [], "say `<!-- run: NAME -->` or `<!-- needs: WHAT -->` above it"


def test_an_unmarked_command_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n    kubectl get pods\n\n<!-- needs: a cluster -->\n\n    helm list\n")
    assert docs.unmarked(page) == ["kubectl get pods\n"]


@pytest.mark.parametrize(
    ("link", "text"),
    [
        ("[the file](../crds/x.yaml)", "the file (`crds/x.yaml`)"),
        ("[crds/x.yaml](../crds/x.yaml#part)", "crds/x.yaml"),
        ("[router](router.md)", "[router](router.md)"),
    ],
)
def test_a_link_out_of_the_site_is_a_name(link: str, text: str) -> None:
    class Page:
        class file:  # noqa: N801
            src_uri = "page.md"

    assert loaded("hooks").on_page_markdown(f"see {link}.", page=Page) == f"see {text}."
