"""The bill of materials of an image's tree, as CycloneDX 1.6 JSON at a fixed path inside it.

Three kinds of parts: Python itself, the distributions that are installed (their own metadata), and
the Debian packages that the system's files came from (dpkg's lists). Equal trees give equal bytes:
no date, and a serial number made from the content.
"""

import json
import platform
import subprocess
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

#: Where the document lies in the image, below the root; `{name}` is the image's name.
PLACE = "usr/share/sbom/{name}.cdx.json"
PROJECT = "llm-backend"

Component = dict[str, Any]


def interpreter() -> Component:
    """Python, which is no Debian package in every base."""
    version = platform.python_version()
    return _component("python", version, purl=f"pkg:generic/python@{version}")


def distributions() -> Iterator[Component]:
    """Every installed distribution but the project's own."""
    for found in metadata.distributions():
        name = found.metadata["Name"].lower().replace("_", "-")
        if name != PROJECT:
            component = _component(name, found.version, purl=f"pkg:pypi/{name}@{found.version}")
            if "License-Expression" in found.metadata:
                component["licenses"] = [{"expression": found.metadata["License-Expression"]}]
            yield component


def packages(root: Path) -> Iterator[Component]:
    """The Debian packages that files below the root came from."""
    copied = {_merged(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    form = "${binary:Package}\t${Version}\t${Architecture}\n"
    told = subprocess.run(
        ["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True
    )
    for row in told.stdout.splitlines():
        package, version, architecture = row.split("\t")
        files = Path("/var/lib/dpkg/info", f"{package}.list").read_text().splitlines()
        if copied.isdisjoint(_merged(Path(file.removeprefix("/"))) for file in files):
            continue
        name = package.partition(":")[0]
        purl = f"pkg:deb/debian/{name}@{quote(version)}?arch={architecture}"
        yield _component(name, version, purl=purl)


def _merged(path: Path) -> str:
    # NB: dpkg's lists name /lib/... where a merged /usr has /usr/lib/...
    return str(path).removeprefix("usr/")


def _component(name: str, version: str, *, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def document(root: Path, *, name: str) -> dict[str, Any]:
    """The bill of materials of the tree below the root, of the image with this name."""
    version = metadata.version(PROJECT)
    parts = [interpreter(), *distributions(), *packages(root)]
    # NB: Debian's Python is a package too, and would be listed twice with one reference.
    unique = {part["bom-ref"]: part for part in parts}
    components = [unique[key] for key in sorted(unique)]
    subject = f"{name}@{version}"
    content = json.dumps([subject, components], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": subject,
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
    }


def write(root: Path, *, name: str) -> None:
    """Write the document to its place below the root."""
    path = root / PLACE.format(name=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(root, name=name), indent=1, sort_keys=True) + "\n")
