"""What the programs of a real node are started with. Pure: a folder in, words out."""

from pathlib import Path

from parts.node_files import ADDRESS, API_PORT, NAME, SERVICES

ETCD = f"http://{ADDRESS}:12379"

Flags = dict[str, str]


def words(program: str, folder: Path) -> list[str]:
    """The words after the program's name.

    NB: a switch takes its value only by an equals sign.
    """
    flags = control_plane(folder) | machine(folder)
    return [f"--{flag}={text}" for flag, text in flags[program].items()]


def control_plane(folder: Path) -> dict[str, Flags]:
    """What decides: by program, each flag's value."""
    keys = folder / "keys"
    accounts = str(keys / "service-accounts.key")
    peers = f"http://{ADDRESS}:12380"
    controllers = {
        "kubeconfig": str(folder / "admin.kubeconfig"),
        "bind-address": ADDRESS,
        "leader-elect": "false",
    }
    server = {
        "etcd-servers": ETCD,
        "secure-port": str(API_PORT),
        "bind-address": ADDRESS,
        "advertise-address": ADDRESS,
        "tls-cert-file": str(keys / "kube-apiserver.crt"),
        "tls-private-key-file": str(keys / "kube-apiserver.key"),
        "client-ca-file": str(keys / "ca.crt"),
        "kubelet-client-certificate": str(keys / "admin.crt"),
        "kubelet-client-key": str(keys / "admin.key"),
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-key-file": accounts,
        "service-account-signing-key-file": accounts,
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-cluster-ip-range": SERVICES,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        # NB: else one open watch keeps it from ending for a minute.
        "shutdown-watch-termination-grace-period": "1s",
    }
    issuer = {"service-account-private-key-file": accounts, "root-ca-file": str(keys / "ca.crt")}
    etcd = {
        "data-dir": str(folder / "etcd"),
        "unsafe-no-fsync": "true",
        "listen-client-urls": ETCD,
        "advertise-client-urls": ETCD,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
    }
    return {
        "etcd": etcd,
        "kube-apiserver": server,
        "kube-controller-manager": controllers | issuer,
        "kube-scheduler": controllers,
    }


def machine(folder: Path) -> dict[str, Flags]:
    """What runs pods, and lets them find each other: by program, each flag's value."""
    kubelet = {
        "config": str(folder / "kubelet.yaml"),
        "kubeconfig": str(folder / "kubelet.kubeconfig"),
        "hostname-override": NAME,
        "node-ip": ADDRESS,
        "root-dir": str(folder / "kubelet"),
        "cert-dir": str(folder / "kubelet-keys"),
    }
    return {
        "containerd": {"config": str(folder / "containerd.toml")},
        "kubelet": kubelet,
        "kube-proxy": {"config": str(folder / "kube-proxy.yaml")},
        "coredns": {"conf": str(folder / "Corefile")},
    }
