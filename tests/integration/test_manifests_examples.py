"""The examples beside the manifests are what they say, and the API server takes them."""

import pytest
import yaml

from parts.control_plane import ControlPlane
from parts.manifests import MANIFESTS, render

EXAMPLES = MANIFESTS / "examples"


def test_every_pod_gets_the_url_of_cloudnative_pg() -> None:
    references = []
    for each in render(EXAMPLES / "cloudnative-pg"):
        if each["kind"] in ("Deployment", "Job"):
            [container] = each["spec"]["template"]["spec"]["containers"]
            [url] = [one for one in container["env"] if one["name"] == "LLMB_DATABASE_URL"]
            references.append(url["valueFrom"]["secretKeyRef"])
    assert references == [{"name": "llm-backend-postgres-app", "key": "uri"}] * 3


@pytest.mark.parametrize("example", ["router-network-policy"])
def test_the_api_server_takes_it(example: str, control_plane: ControlPlane, namespace: str) -> None:
    objects = render(EXAMPLES / example)
    for each in objects:
        each["metadata"]["namespace"] = namespace
    text = yaml.safe_dump_all(objects)
    control_plane.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)
