"""A Docker archive of one layer, written without a builder: what a runtime imports as an image."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(archive: Path, *, name: str, config: Mapping[str, Any], layer: bytes) -> None:
    """Write an image, as `name` with its registry and tag; `layer` is a tar of its files."""
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as written:
        add(written, "config.json", json.dumps(image).encode())
        add(written, "layer.tar", layer)
        add(written, "manifest.json", json.dumps(manifest).encode())


def add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    """Put a file of these bytes into a tar."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))
