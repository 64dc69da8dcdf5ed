"""The site builds without a broken link, and a browser that reads it asks nobody else."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from parts import docs

#: What a page loads by itself; a link that a person clicks is none.
LOADED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=["']?([^"'\s>]+)""")
STYLED = re.compile(r"url\(['\"]?([^'\")]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder],
        cwd=docs.ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {page.relative_to(docs.DOCS).with_suffix(".html") for page in docs.DOCS.rglob("*.md")}
    assert [str(page) for page in pages if not (site / page).exists()] == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    foreign = set()
    for page in site.rglob("*.html"):
        foreign |= {link for link in LOADED.findall(page.read_text()) if "//" in link}
    for style in site.rglob("*.css"):
        foreign |= {link for link in STYLED.findall(style.read_text()) if link.startswith("http")}
    assert {link for link in foreign if not link.startswith("data:")} == set()


def test_the_site_s_own_programs_are_no_pages(site: Path) -> None:
    assert not (site / "site").exists()
