"""Make the file tree of an image: Python, what was installed, and the libraries that both load.

    /opt/llm/bin/python tree.py /image --name llm-router --program llm-router

Runs in the build stage with the virtual environment's own Python. Copies the interpreter, the
standard library, the environment and every shared library that one of them is linked to, each to
the path it had; leaves out what no process of ours loads (tests, pip, headers, Tk). All modules are
compiled. Nothing of the build's settings is copied: no pip.conf, no certificates but Debian's.
"""

import argparse
import compileall
import os
import py_compile
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import bom

#: Folders and modules of the standard library that a server never loads.
UNUSED = (
    "config-*",
    "dist-packages",
    "distutils",
    "ensurepip",
    "EXTERNALLY-MANAGED",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "sitecustomize.py",
    "test",
    "tests",
    "tkinter",
    "turtle.py",
    "turtledemo",
    "venv",
    "_curses*.so",
    "_dbm*.so",
    "_gdbm*.so",
    "_sqlite3*.so",
    "_test*.so",
    "_tkinter*.so",
    "_xxtest*.so",
    "nis*.so",
    "readline*.so",
)
#: What wheels carry beside the code that runs.
BESIDE = ("*.pxd", "*.pyi", "*.pyx", "*.c", "*.h", "*.hpp", "test", "tests", "__pycache__")
#: Distributions that install others.
INSTALLERS = ("pip", "setuptools", "wheel")
#: Opened by glibc when a thread ends; nothing is linked to it.
OPENED_LATER = "libgcc_s.so.1"

USER = 65532
ETC = {
    "passwd": f"root:x:0:0:root:/:/none\nllm:x:{USER}:{USER}:llm:/tmp:/none\n",
    "group": f"root:x:0:\nllm:x:{USER}:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def place(path: Path, *, root: Path) -> None:
    """Copy one file to where it is below the root: its real path, and the name it was asked by.

    NB: the loader and Python look for names that are links (libz.so.1, python3, /lib64).
    """
    real = path.resolve()
    copied = root / real.relative_to("/")
    if not copied.exists():
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, copied)
        copied.chmod(0o755 if os.access(real, os.X_OK) else 0o644)
    name = path.parent.resolve() / path.name
    if name != real:
        link = root / name.relative_to("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(real)


def copy(folder: Path, *, root: Path, without: Iterable[str]) -> None:
    """Copy a folder to where it is below the root; its links stay links."""
    into = root / folder.relative_to("/")
    ignore = shutil.ignore_patterns(*without, "__pycache__")
    shutil.copytree(folder, into, symlinks=True, ignore=ignore, dirs_exist_ok=True)


def remove(distribution: str, *, environment: Path) -> None:
    """Remove every file of an installed distribution, if it is installed."""
    try:
        files = metadata.distribution(distribution).files or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        Path(str(file.locate())).unlink(missing_ok=True)
    for folder, _, _ in os.walk(environment, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


def programs(environment: Path, *, kept: str) -> None:
    """Leave Python and one program in the environment's bin."""
    for path in (environment / "bin").iterdir():
        if path.name not in ("python", "python3", kept):
            path.unlink()


def linked(root: Path) -> Iterator[Path]:
    """The shared libraries that the programs and modules below the root are linked to."""
    objects = [path for path in root.rglob("*") if not path.is_symlink() and _elf(path)]
    for path in objects:
        told = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        for library in re.findall(r"(?:=> )?(/\S+) \(0x", told):
            # NB: those that a wheel brings are found beside it, and are there already.
            if not library.startswith(str(root)):
                yield Path(library)
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    yield from (Path(each) for each in re.findall(rf"{re.escape(OPENED_LATER)} .*=> (\S+)", known))


def _elf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def system(root: Path) -> None:
    """What the C library and OpenSSL read: links of a merged /usr, users, certificates, cache."""
    for name in ("lib", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
    for name, content in ETC.items():
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc" / name).write_text(content)
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    place(bundle, root=root)
    default = root / Path(ssl.get_default_verify_paths().openssl_cafile).relative_to("/")
    if not default.exists():
        default.parent.mkdir(parents=True, exist_ok=True)
        default.symlink_to(bundle)
    for path in [Path("/etc/ld.so.conf"), *Path("/etc/ld.so.conf.d").glob("*.conf")]:
        place(path, root=root)
    # NB: -X would leave the links alone, which `place` has made; the second cache is dates only.
    subprocess.run(["/sbin/ldconfig", "-X", "-r", root], check=True)
    shutil.rmtree(root / "var", ignore_errors=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def compiled(root: Path) -> None:
    """Compile all modules. Unchecked: an image's sources don't change, so nobody looks again."""
    compileall.compile_dir(
        root,
        maxlevels=20,
        stripdir=str(root),
        quiet=2,
        workers=0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def main() -> None:
    """Make one image's tree, with its SBOM inside."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--name", required=True, help="of the image")
    parser.add_argument("--program", required=True, help="the one command it keeps")
    parser.add_argument("--without", action="append", default=[], help="a package to leave out")
    given = parser.parse_args()
    root, environment = given.root, Path(sys.prefix)
    root.mkdir()
    for distribution in INSTALLERS:
        remove(distribution, environment=environment)
    programs(environment, kept=given.program)
    copy(environment, root=root, without=[*BESIDE, *given.without])
    copy(Path(sysconfig.get_path("stdlib")), root=root, without=UNUSED)
    place(Path(os.readlink(environment / "bin" / "python3")), root=root)
    for library in sorted(set(linked(root))):
        place(library, root=root)
    system(root)
    compiled(root)
    bom.write(root, name=given.name)


if __name__ == "__main__":
    main()
