"""What `helm test` runs in the chart's own image: whether the operator is at work.

    check.py LEASE [ADMIN_URL]

LEASE is NAMESPACE/NAME. It waits until the API server serves LLMBackends, an operator renews the
Lease and, if a URL is given, the admin API there is ready. It reads and changes nothing. One line
for each; exit 1 after two minutes without. The standard library is all it needs.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
WITHIN, EVERY = float(os.environ.get("WITHIN", "120")), 1.0


def ask(path: str) -> Any:
    """GET of the API server, as this pod's service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    where = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    token = (ACCOUNT / "token").read_text()
    request = urllib.request.Request(where + path, headers={"Authorization": f"Bearer {token}"})
    tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=5, context=tls) as answer:
        return json.load(answer)


def served() -> bool:
    """Whether LLMBackends are a resource there."""
    found = ask("/apis/llm.athena.dev/v1alpha1")["resources"]
    return any(each["name"] == "llmbackends" for each in found)


def renewed(lease: str, seen: set[str]) -> bool:
    """Whether the Lease was renewed since the first look. NB: so no two clocks are compared."""
    namespace, _, name = lease.partition("/")
    spec = ask(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")["spec"]
    if spec.get("holderIdentity"):
        seen.add(spec["renewTime"])
    return len(seen) > 1


def ready(url: str) -> bool:
    """Whether the admin API is. NB: of its certificate, which may be for another name, no more is
    asked than that it speaks TLS."""
    tls = ssl._create_unverified_context() if url.startswith("https:") else None
    with urllib.request.urlopen(f"{url}/readyz", timeout=5, context=tls) as answer:
        return bool(answer.status == 200)


def wait(what: str, check: Callable[[], bool]) -> None:
    """Say `what` once the check is true. Raises SystemExit with the last reason why it is not."""
    until, why = time.monotonic() + WITHIN, "not so"
    while time.monotonic() < until:
        try:
            if check():
                sys.stdout.write(f"{what}\n")
                sys.stdout.flush()
                return
        except (OSError, ValueError, KeyError) as error:
            why = f"{type(error).__name__}: {error}"
        time.sleep(EVERY)
    sys.exit(f"not within {WITHIN:.0f} s: {what} ({why})")


def main(lease: str, admin: str = "") -> None:
    """Wait for each in turn."""
    seen: set[str] = set()
    wait("the API server serves LLMBackends", served)
    wait("an operator is at work", lambda: renewed(lease, seen))
    if admin:
        wait("the admin API is ready", lambda: ready(admin))


if __name__ == "__main__":
    main(*sys.argv[1:])
