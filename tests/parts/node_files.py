"""What the programs of a real node are configured with, as text. Pure: a folder in, files out."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import yaml

from parts import docker_archive

#: The network namespace that all of the node is in, and the control group that its pods are in.
SPACE = GROUP = "llmb-node"
#: The cable from the machine into that namespace: its two ends, and an address for each.
OUTSIDE, INSIDE = "llmb1", "llmb2"
OUTSIDE_ADDRESS, INSIDE_ADDRESS = "10.244.76.1", "10.244.76.2"
#: The pods' bridge in that namespace, and addresses that nothing else of the machine uses.
BRIDGE = "llmb0"
ADDRESS = "10.244.77.1"
PODS = "10.244.77.0/24"
SERVICES = "10.97.0.0/16"
FIRST_SERVICE = "10.97.0.1"
API_PORT = 16443
NAME = "llmb-node"
PAUSE = "docker.io/library/pause:llmb"


def containerd(folder: Path) -> str:
    """containerd with everything below the folder.

    NB: without restrict_oom_score_adj runc fails inside another sandbox, with "can't get final
    child's PID from pipe".
    """
    return f"""version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{socket(folder)}"
[ttrpc]
  address = "{folder}/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{folder}/runc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"
"""


def socket(folder: Path) -> Path:
    """Where containerd is asked."""
    return folder / "containerd.sock"


def network(folder: Path) -> str:
    """Pods are on the bridge, and get their addresses out of a file."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(folder / "addresses"),
            "ranges": [[{"subnet": PODS, "rangeStart": "10.244.77.10"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "1.0.0", "name": "llmb", "plugins": plugins})


def kubelet(folder: Path, *, authority: Path) -> str:
    """A kubelet that leaves the machine's own memory and firewall alone."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{socket(folder)}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{GROUP}",
            "failCgroupV1": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "resolvConf": str(folder / "resolv.conf"),
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "authentication": {
                "anonymous": {"enabled": False},
                "x509": {"clientCAFile": str(authority)},
            },
            "address": ADDRESS,
            "healthzBindAddress": ADDRESS,
            "podLogsDir": str(folder / "logs"),
            "volumePluginDir": str(folder / "volume-plugins"),
        }
    )


def proxy(kubeconfig: Path) -> str:
    """Services by iptables.

    NB: all of it is masqueraded, so that an answer between two pods of the one bridge comes back
    the way it went.
    """
    never = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "hostnameOverride": NAME,
            "bindAddress": ADDRESS,
            "healthzBindAddress": f"{ADDRESS}:10256",
            "metricsBindAddress": f"{ADDRESS}:10249",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "iptables": {"masqueradeAll": True},
            "conntrack": never,
        }
    )


def names(kubeconfig: Path) -> str:
    """CoreDNS on the bridge's address; what it does not know is not there.

    NB: two servers, since in one and the same the template would answer first, and for every name.
    """
    return f"""cluster.local {{
    bind {ADDRESS}
    errors
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
        ttl 2
    }}
}}
. {{
    bind {ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def kubeconfig(*, authority: Path, certificate: Path, key: Path) -> str:
    """How a program finds the API server, and who it is there."""
    cluster = {
        "server": f"https://{ADDRESS}:{API_PORT}",
        "certificate-authority": str(authority),
    }
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "node",
        "clusters": [{"name": "node", "cluster": cluster}],
        "users": [{"name": "node", "user": user}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "node"}}],
    }
    return yaml.safe_dump(config)


def write_pause(program: Path, archive: Path) -> None:
    """The image of the sandboxes, as a Docker archive with one file in it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(program, arcname="pause")
    config = {"Entrypoint": ["/pause"], "User": "65535:65535"}
    docker_archive.write(archive, name=PAUSE, config=config, layer=layer.getvalue())
