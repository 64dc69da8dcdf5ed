"""What a real node of the tests is configured with; `make e2e` shows that it runs."""

import json
import os
import ssl
import tarfile
from ipaddress import ip_address, ip_network
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from pytest_mock import MockerFixture

from parts import node, node_files, node_flags, node_space
from parts.node_keys import Authority

FOLDER = Path("/a/folder")


def test_everything_is_below_the_folder() -> None:
    """What a run leaves is found by the folder's name; other folders are the system's programs."""
    text = node_files.containerd(FOLDER) + node_files.network(FOLDER)
    paths = [word.strip('"{}[],') for word in text.replace(":", " ").split() if "/" in word]
    ours = [path for path in paths if path.startswith("/")]
    assert ours
    assert {p for p in ours if not p.startswith(f"{FOLDER}/")} == {"/usr/lib/cni"}


def test_no_other_machine_is_named() -> None:
    """Names that the cluster does not know are not asked for elsewhere."""
    assert "forward" not in node_files.names(FOLDER / "kubeconfig")


@pytest.mark.parametrize(
    "program", [*node_flags.control_plane(FOLDER), *node_flags.machine(FOLDER)]
)
def test_every_program_writes_below_the_folder(program: str) -> None:
    values = [word.partition("=")[2] for word in node_flags.words(program, FOLDER)]
    assert values
    assert all(text.startswith(f"{FOLDER}/") for text in values if text.startswith("/"))


class TestOneAtATime:
    """The mark is read before anything is changed, so no right of root is needed here."""

    @pytest.fixture
    def mark(self, mocker: MockerFixture, tmp_path: Path) -> Path:
        mark = tmp_path / "mark"
        mocker.patch.object(node_space, "MARK", mark)
        return mark

    def test_a_living_run_is_left_alone(self, mark: Path) -> None:
        mark.write_text(f"{FOLDER}\n{os.getpid()}")
        with pytest.raises(AssertionError, match=f"process {os.getpid()} has its own in {FOLDER}"):
            node_space.make(mark.parent)

    def test_the_stop_of_a_node_that_never_began_leaves_another_alone(self, mark: Path) -> None:
        mark.write_text(f"{FOLDER}\n{os.getpid()}")
        node.Node(folder=mark.parent).stop()
        assert node_space.marked() == (FOLDER, os.getpid())

    def test_without_a_mark_there_is_nothing_to_clear(self, mark: Path) -> None:
        node_space.clear()
        assert node_space.marked() == (None, None)
        assert not mark.exists()


def test_what_is_unknown_is_answered_by_another_server() -> None:
    """In one server CoreDNS asks the template first, and every name would be unknown."""
    known, unknown = node_files.names(FOLDER / "kubeconfig").split("\n}\n")[:2]
    assert "kubernetes" in known
    assert "template" not in known
    assert "template" in unknown


def test_no_two_networks_overlap() -> None:
    pods, services = (ip_network(each) for each in (node_files.PODS, node_files.SERVICES))
    cable = ip_network(f"{node_files.OUTSIDE_ADDRESS}/30", strict=False)
    assert ip_address(node_files.INSIDE_ADDRESS) in cable
    assert ip_address(node_files.ADDRESS) in pods
    assert ip_address(node_files.FIRST_SERVICE) == services[1]
    assert not any(one.overlaps(two) for one, two in combinations((pods, services, cable), 2))


def test_the_kubelet_leaves_the_machine_alone() -> None:
    told = yaml.safe_load(node_files.kubelet(FOLDER, authority=FOLDER / "ca.crt"))
    assert told["makeIPTablesUtilChains"] is False
    assert told["cgroupRoot"] == f"/{node_files.GROUP}"
    assert told["authentication"]["anonymous"] == {"enabled": False}


def test_pods_get_addresses_of_the_bridge() -> None:
    [bridge, _] = json.loads(node_files.network(FOLDER))["plugins"]
    assert bridge["bridge"] == node_files.BRIDGE
    assert bridge["ipam"]["ranges"][0][0]["subnet"] == node_files.PODS


def test_a_certificate_is_signed_by_its_authority(tmp_path: Path) -> None:
    keys = Authority.new(tmp_path)
    certificate, key = keys.issue("server", common="server", hosts=("127.0.0.1", "name.svc"))
    # NB: raises unless the two belong together.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    assert ssl.create_default_context(cafile=str(keys.certificate)).get_ca_certs()
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_image_of_the_sandboxes(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"a program")
    node_files.write_pause(program, tmp_path / "pause.tar")
    with tarfile.open(tmp_path / "pause.tar") as archive:
        [manifest] = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        names = archive.getnames()
    assert manifest["RepoTags"] == [node_files.PAUSE]
    assert {manifest["Config"], *manifest["Layers"]} < set(names)


def test_what_is_missing_says_what_to_install(mocker: MockerFixture) -> None:
    mocker.patch.object(node.shutil, "which", return_value=None)
    mocker.patch.object(node.os, "geteuid", return_value=1000)
    root, packages, *_ = node.missing()
    assert root == "it needs root"
    assert packages.startswith("apt-get install ")
    assert set(node.PACKAGES.values()) == set(packages.split()[2:])
