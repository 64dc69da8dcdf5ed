"""Build both images, once for each state of the sources, with whichever builder is here.

    python3 images/build.py --out dist/images
    python3 images/build.py --out dist/images --base docker.io/library/python:3.13-slim

Docker and podman are used where they answer, buildah otherwise. Without `--base`, Docker and podman
take the base that the Dockerfile names; buildah, which needs no hub, has debootstrap make one of
Debian packages. Packages come by this machine's own pip settings, which are mounted for the build
alone and reach no layer.

Written to the folder: llm-backend.tar and llm-router.tar (Docker archives), their bills of
materials (NAME.cdx.json) and images.json, {name: {tag, digest, bytes, compressed}}, sizes in bytes.
Progress goes to standard error.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import bom  # noqa: E402

from parts import build as parts  # noqa: E402

HERE = ROOT / "images"
DOCKERFILE = HERE / "Dockerfile"
#: Target of the Dockerfile -> the image's name.
TARGETS = {"operator": "llm-backend", "router": "llm-router"}
#: What goes into the images; the build's ignore file lets no other path through.
SOURCES = (
    *("LICENSE", "README.md", "contract", "crds", "images/bom.py", "images/tree.py", "locks"),
    *("migrations", "operator", "pyproject.toml", "router_sidecar"),
)
#: The Debian of a base made here, and the packages it has beside the smallest set.
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
#: The settings of pip that say where packages come from and how they are got.
PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
#: Hours after which another state's images leave the cache.
KEPT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What the images say of themselves: the version, the commit and where its source is."""

    version: str
    revision: str
    source: str
    #: Seconds since 1970 of the commit: the time of every file, so equal sources give equal images.
    epoch: int


def project_version() -> str:
    """The project's version, from its one place."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def labels() -> Labels:
    """From pyproject.toml and git; outside a checkout of git, revision and source are empty."""
    source = _git("remote", "get-url", "origin")
    return Labels(
        version=project_version(),
        revision=_git("rev-parse", "HEAD"),
        # NB: a path of this machine or a URL with a password is nobody's business.
        source=source if source.startswith("https://") and "@" not in source else "",
        epoch=int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or 0),
    )


def _git(*args: str) -> str:
    try:
        ended = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""


def sources() -> Iterator[Path]:
    """Every file that goes into the images, in order."""
    for name in SOURCES:
        path = ROOT / name
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in below if each.is_file() and "__pycache__" not in each.parts)


def fingerprint(said: Labels, *, base: str) -> str:
    """Twelve hex digits of everything the images are made from."""
    digest = hashlib.sha256(f"{said}\n{base}\n".encode())
    for path in [DOCKERFILE, Path(__file__), *sources()]:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(ROOT)} {content}\n".encode())
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """A program that builds images, and how it is asked."""

    command: tuple[str, ...]
    build: tuple[str, ...]
    #: Arguments that write an image to a Docker archive.
    save: Callable[[str, Path], Sequence[str]]
    own_base: bool = False


def builder() -> Builder:
    """The builder of this machine. Exit 1 where there is none."""
    for program in ("docker", "podman"):
        if shutil.which(program) and _answers(program, "info"):
            # NB: Docker's own form is podman's default too.
            return Builder(
                command=(program,),
                build=("build", "-q"),
                save=lambda image, file: ("save", "-o", str(file), image),
            )
    if shutil.which("buildah") is None:
        parts.say("images need docker, podman or buildah: install one of them")
        sys.exit(1)
    driver = os.environ.get("STORAGE_DRIVER") or "overlay"
    if not _answers(*_buildah(driver), "info"):
        driver = "vfs"
    return Builder(
        command=_buildah(driver),
        build=(
            *("build", "-q", "--layers", "--isolation", "chroot"),
            *("--ignorefile", f"{DOCKERFILE}.dockerignore"),
        ),
        save=lambda image, file: ("push", "-q", image, f"docker-archive:{file}:{image}"),
        own_base=shutil.which("debootstrap") is not None,
    )


def _buildah(driver: str) -> tuple[str, ...]:
    # NB: a storage of its own, for each driver one: buildah's is left as it is.
    storage = parts.cache() / f"images-storage-{driver}"
    return (
        *("buildah", "--storage-driver", driver, "--root", str(storage)),
        *("--runroot", f"{storage}-run"),
    )


def _answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def mirror() -> str:
    """The first address in this machine's own apt sources."""
    for file in sorted(Path("/etc/apt").glob("sources.list.d/*.sources")):
        for line in file.read_text().splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    for line in Path("/etc/apt/sources.list").read_text().splitlines():
        words = line.split()
        if words[:1] == ["deb"]:
            return next(word for word in words if "://" in word)
    raise SystemExit("no apt source names an address: give a base by --base")


def own_base(using: Builder) -> str:
    """The name of a base made of Debian packages, made now if it is not there."""
    recipe = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
    name = f"localhost/llm-backend-base:{recipe}"
    if _answers(*using.command, "inspect", "--type", "image", name):
        return name
    with tempfile.TemporaryDirectory(dir=parts.cache()) as made:
        tree = Path(made) / "root"
        include = f"--include={','.join(PACKAGES)}"
        command = ["debootstrap", "--variant=minbase", include, SUITE, str(tree), mirror()]
        parts.run(command, cwd=ROOT, what=f"a base of Debian {SUITE} (a minute)")
        for package in (tree / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        container = _said(*using.command, "from", "scratch")
        copy = [*using.command, "copy", "-q", container, str(tree), "/"]
        parts.run(copy, cwd=ROOT, what="copy the base")
        commit = [*using.command, "commit", "-q", "--rm", container, name]
        parts.run(commit, cwd=ROOT, what="commit the base")
    return name


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def secrets(folder: Path) -> list[str]:
    """The build's secrets: pip's settings as it knows them here, and the certificates they name."""
    told = _said(sys.executable, "-m", "pip", "config", "list")
    rows = [row.partition("=") for row in told.splitlines()]
    # NB: `:env:.cert` stands after `global.cert`, and wins as it does for pip.
    known = {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in rows}
    settings = [f"{key} = {known[key]}" for key in PIP if key in known]
    given = []
    if "cert" in known:
        settings.append("cert = /run/secrets/certificates")
        given.append(f"id=certificates,src={known['cert']}")
    file = folder / "pip.conf"
    file.write_text("\n".join(["[global]", *settings, ""]))
    given.append(f"id=pip,src={file}")
    return [word for each in given for word in ("--secret", each)]


def images(into: Path, *, using: Builder, base: str, said: Labels) -> None:
    """Build both images and write what the module's docstring lists to the folder."""
    arguments = {"VERSION": said.version, "REVISION": said.revision, "SOURCE": said.source}
    if base:
        arguments["BASE_IMAGE"] = base
    given = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
    if using.own_base or using.command[0] == "podman":
        given += ["--timestamp", str(said.epoch)]
    else:
        given += ["--build-arg", f"SOURCE_DATE_EPOCH={said.epoch}"]
    facts = {}
    for target, name in TARGETS.items():
        image = f"docker.io/library/{name}:{said.version}"
        with tempfile.TemporaryDirectory() as folder:
            command = [*using.command, *using.build, *secrets(Path(folder)), *given]
            command += ["--target", target, "-f", str(DOCKERFILE), "-t", image, str(ROOT)]
            parts.run(command, cwd=ROOT, what=f"image {name} (a minute or two)")
        archive = into / f"{name}.tar"
        save = [*using.command, *using.save(image, archive)]
        parts.run(save, cwd=ROOT, what=f"archive {archive.name}")
        facts[name] = {"tag": said.version, **measured(archive)}
        (into / f"{name}.cdx.json").write_bytes(held(archive, bom.PLACE.format(name=name)))
    (into / "images.json").write_text(json.dumps(facts, indent=2) + "\n")


def measured(archive: Path) -> dict[str, str | int]:
    """The digest of an archive's image (its identifier) and the size of its layers."""
    size = compressed = 0
    with tarfile.open(archive) as opened:
        manifest = _manifest(opened)
        config = opened.extractfile(manifest["Config"])
        assert config is not None
        digest = hashlib.sha256(config.read()).hexdigest()
        for layer in manifest["Layers"]:
            file = opened.extractfile(layer)
            assert file is not None
            content = file.read()
            size += len(content)
            compressed += len(gzip.compress(content, compresslevel=6, mtime=0))
    return {"digest": f"sha256:{digest}", "bytes": size, "compressed": compressed}


def held(archive: Path, path: str) -> bytes:
    """The bytes of one file of an archive's image.

    Raises:
        FileNotFoundError: no layer has it.
    """
    with tarfile.open(archive) as opened:
        for layer in reversed(_manifest(opened)["Layers"]):
            with tarfile.open(fileobj=opened.extractfile(layer)) as files:
                for member in files:
                    if member.name.removeprefix("./").lstrip("/") == path:
                        content = files.extractfile(member)
                        assert content is not None
                        return content.read()
    raise FileNotFoundError(f"{archive.name}: no file /{path}")


def _manifest(opened: tarfile.TarFile) -> Any:
    file = opened.extractfile("manifest.json")
    assert file is not None
    (manifest,) = json.load(file)
    return manifest


def forget(*, but: Path) -> None:
    """Remove the images of other states that were built long ago from the cache."""
    for folder in parts.cache().glob("images-????????????"):
        if folder != but and time.time() - folder.stat().st_mtime > KEPT * 3600:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(".lock").unlink(missing_ok=True)


def provide(base: str) -> Path:
    """The folder of the images of the sources as they are, built now if it is not there."""
    said = labels()
    using = builder()
    target = parts.cache() / f"images-{fingerprint(said, base=base)}"

    def step(folder: Path) -> None:
        made = base or (own_base(using) if using.own_base else "")
        images(folder, using=using, base=made, said=said)

    folder: Path = parts.built(target, steps=[step])
    forget(but=folder)
    return folder


def main() -> None:
    """Build both images and copy them to the folder that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--base", default="", help="a Debian image with Python 3.11 or newer")
    given = parser.parse_args()
    folder = provide(given.base)
    given.out.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        shutil.copy2(file, given.out / file.name)
    facts = json.loads((folder / "images.json").read_text())
    for name, each in facts.items():
        size = f"{each['bytes'] / 1e6:.0f} MB"
        sys.stdout.write(f"{name}:{each['tag']}  {size}  {each['digest'][:19]}\n")


if __name__ == "__main__":
    main()
