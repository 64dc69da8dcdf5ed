"""Reading the mounted credentials: one revision at a time, and no value in any text."""

import logging
import os
import threading
from pathlib import Path

import pytest

from llm_router import credentials
from llm_router.credentials import MAX_BYTES, NONE, CredentialError, read
from parts.kubelet import project

SECRET = b"s3cret-value\n"


def test_has_the_files_of_the_revision(tmp_path: Path) -> None:
    project(tmp_path, {"a_token": SECRET, "_home-ca_ca.crt": b"pem"})
    found = read(tmp_path)
    assert dict(found.values) == {"a_token": SECRET, "_home-ca_ca.crt": b"pem"}
    assert found.value("a_token") == SECRET


def test_a_swap_changes_the_digest_and_nothing_else_does(tmp_path: Path) -> None:
    project(tmp_path, {"a": b"1", "b": b"2"})
    first = read(tmp_path)
    assert read(tmp_path).digest == first.digest
    seen = {first.digest}
    for files in ({"a": b"1", "b": b"3"}, {"a": b"12", "b": b""}, {"a": b"1"}, {"a1": b""}, {}):
        project(tmp_path, files)
        seen.add(read(tmp_path).digest)
    assert len(seen) == 6
    project(tmp_path, {"a": b"1", "b": b"2"})
    assert read(tmp_path).digest == first.digest


def test_a_plain_folder_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a_token").write_bytes(SECRET)
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert dict(read(tmp_path).values) == {"a_token": SECRET}


@pytest.mark.parametrize("folder", ["", "absent"])
def test_nothing_mounted_is_no_error(tmp_path: Path, folder: str) -> None:
    assert dict(read(tmp_path / folder).values) == {}


def test_no_folder_is_none() -> None:
    assert read(None) is NONE
    with pytest.raises(CredentialError, match=r"^credential 'k' is not mounted: no folder"):
        NONE.value("k")


def test_a_key_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    project(tmp_path, {"a_token": SECRET})
    with pytest.raises(CredentialError, match=f"^credential 'b' is not mounted in {tmp_path}: "):
        read(tmp_path).value("b")


def test_a_file_that_cannot_be_read_is_a_fault_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NB: permissions stop nobody who runs the tests as root.
    opened = Path.open

    def guarded(path: Path, mode: str) -> object:
        if path.name == "b":
            raise PermissionError(13, "Permission denied")
        return opened(path, mode)

    project(tmp_path, {"a": SECRET, "b": SECRET})
    whole = read(tmp_path)
    monkeypatch.setattr(Path, "open", guarded)
    found = read(tmp_path)
    assert found.value("a") == SECRET
    with pytest.raises(CredentialError, match=r"^credential 'b' can't be read: Permission denied$"):
        found.value("b")
    assert found.digest != whole.digest


def test_more_than_a_secret_can_hold_is_refused(tmp_path: Path) -> None:
    project(tmp_path, {"a": b"x" * (MAX_BYTES - 1), "b": b"y"})
    assert len(read(tmp_path).values) == 2
    project(tmp_path, {"a": b"x" * (MAX_BYTES - 1), "b": b"yy"})
    with pytest.raises(OSError, match=f"holds more than {MAX_BYTES} bytes"):
        read(tmp_path)


def test_no_folder_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        read(tmp_path / "file")


def test_never_gives_two_revisions_or_half_of_one(tmp_path: Path) -> None:
    names = [f"key{n}" for n in range(20)]
    project(tmp_path, dict.fromkeys(names, b"0"))
    ended = threading.Event()

    def swap() -> None:
        for number in range(1, 60):
            project(tmp_path, dict.fromkeys(names, str(number).encode()))
        ended.set()

    writer = threading.Thread(target=swap)
    writer.start()
    seen: set[bytes] = set()
    while not ended.is_set():
        try:
            found = read(tmp_path)
        except OSError:  # it changed five times in a row
            continue
        assert len(found.values) == len(names)
        (value,) = set(found.values.values())
        seen.add(value)
    writer.join(10)
    assert len(seen) > 1


def test_no_text_holds_a_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    project(tmp_path, {"a_token": SECRET})
    with caplog.at_level(logging.DEBUG):
        found = read(tmp_path)
        assert "s3cret" not in f"{found!r} {found}"
        assert found.digest not in repr(found)
        with pytest.raises(CredentialError) as caught:
            found.value("s")
    assert "s3cret" not in str(caught.value) + caplog.text


def test_the_default_folder_is_the_operators() -> None:
    assert str(credentials.DEFAULT_FOLDER) == "/etc/llm-router-credentials"
