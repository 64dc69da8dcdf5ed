"""Build a release into a folder: wheel, sdist, charts, install.yaml, images, SBOMs, checksums.

    python -m release                        from a clean tree with the version's tag
    python -m release --snapshot             from the tree as it is

Exit status: 0, or 1 with what to do. docs/release.md says what each file is.
"""

import argparse
import shutil
import sys
from pathlib import Path

from release import artifacts, git, tools


def build(into: Path, *, snapshot: bool, images: bool) -> None:
    """Make every part of a release in an empty folder.

    Raises:
        Refused: the tree or a program is not as a release needs it.
    """
    if not snapshot:
        git.check()
    helm, kubectl = tools.program("tools", "helm"), tools.program("control-plane", "kubectl")
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    artifacts.distributions(into)
    artifacts.charts(into, helm=helm)
    artifacts.manifest(into, kubectl=kubectl)
    if images:
        artifacts.images(into)
    artifacts.sums(into)


def main() -> None:
    """Build it and list what it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("dist/release"), help="emptied first")
    parser.add_argument("--snapshot", action="store_true", help="without a tag, dirty or not")
    parser.add_argument("--no-images", dest="images", action="store_false", help="all but images")
    given = parser.parse_args()
    out = given.out.resolve()
    try:
        build(out, snapshot=given.snapshot, images=given.images)
    except git.Refused as refused:
        sys.exit(f"release: {refused}")
    sys.stdout.write((out / artifacts.SUMS).read_text())


if __name__ == "__main__":
    main()
