"""The gate of one machine: a token in a file that is for its owner's eyes alone."""

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_operator.admin.access import FileGate, TokenFileError, file, limit, make_token_file
from llm_operator.admin.errors import Away, TooMany, Unauthorized
from llm_operator.admin.model import USAGE, Verb
from parts.clock import Clock

PEER = "127.0.0.1"
FIRST, SECOND = "first-token-of-the-file", "second-token-of-the-file"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "admin.token", FIRST)


@pytest.fixture
def gate(path: Path) -> FileGate:
    return FileGate(path, clock=Clock(), pause=0)


def write(path: Path, text: str, *, mode: int = 0o600) -> Path:
    """As an editor does: a new file in place of the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(mode)
    if path.is_dir():
        path.rmdir()
    return fresh.replace(path)


async def test_the_token_is_good_for_everything(gate: FileGate) -> None:
    caller = await gate.caller(FIRST, peer=PEER)
    assert (caller.name, caller.namespace) == ("token", "")
    assert all([await gate.may(caller, verb, "default") for verb in Verb])
    assert await gate.may(caller, Verb.CREATE, "default", subresource=USAGE)


@pytest.mark.parametrize(
    "token",
    [
        SECOND,
        FIRST + "x",
        FIRST[:-1],
        FIRST.upper(),
        f" {FIRST}",
        f"{FIRST}\n",
        "käse",
        "\ud800",
        "x" * 9000,
        "\x00",
    ],
)
async def test_any_other_is_unknown(gate: FileGate, token: str) -> None:
    with pytest.raises(Unauthorized):
        await gate.caller(token, peer=PEER)


async def test_none_at_all_is_told_what_to_send_and_not_counted(gate: FileGate) -> None:
    for _ in range(3 * limit.PEER.most):
        with pytest.raises(Unauthorized, match="Authorization: Bearer TOKEN"):
            await gate.caller("", peer=PEER)
    with pytest.raises(Unauthorized, match="unknown"):
        await gate.caller(SECOND, peer=PEER)


@pytest.mark.parametrize("token", [SECOND, "two words"])
async def test_too_many_wrong_ones_are_refused_and_the_right_one_is_not(
    gate: FileGate, token: str
) -> None:
    for _ in range(limit.PEER.most):
        with pytest.raises(Unauthorized):
            await gate.caller(token, peer=PEER)
    with pytest.raises(TooMany) as refused:
        await gate.caller(token, peer=PEER)
    assert refused.value.retry_after == limit.PEER.first
    assert await gate.caller(FIRST, peer=PEER)


async def test_a_new_token_replaces_the_old_one_at_once(gate: FileGate, path: Path) -> None:
    assert await gate.caller(FIRST, peer=PEER)
    write(path, f"{SECOND}\n")
    assert await gate.caller(SECOND, peer=PEER)
    with pytest.raises(Unauthorized):
        await gate.caller(FIRST, peer=PEER)


def gone(path: Path) -> None:
    path.unlink()


def opened(path: Path) -> None:
    path.chmod(0o640)


def emptied(path: Path) -> None:
    path.write_text("")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [gone, opened, emptied, a_folder])
async def test_spoilt_while_it_runs_nobody_gets_in_until_it_is_mended(
    gate: FileGate,
    path: Path,
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    spoil(path)
    for _ in range(3):
        with pytest.raises(Away) as refused:
            await gate.caller(FIRST, peer=PEER)
        assert refused.value.retry_after
        assert str(path) not in refused.value.detail
    (told,) = caplog.records
    assert told.getMessage() == "token_file_unusable"
    assert str(path) in told.__dict__["reason"]
    write(path, SECOND)
    assert await gate.caller(SECOND, peer=PEER)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_for_its_owner_alone_is_taken(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert file.read(path)[1] == FIRST.encode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o660, 0o610, 0o700, 0o4600])
def test_a_file_for_others_is_refused_with_what_to_do(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(TokenFileError) as refused:
        FileGate(path)
    assert f"has mode {mode:04o}" in str(refused.value)
    assert f"chmod 600 {path}" in str(refused.value)


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(TokenFileError, match=f"belongs to user {owner}, not to user {owner + 1}"):
        FileGate(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"short", b"x" * 15, b"first line of it\nsecond line of it", b"\xff" * 20],
)
def test_what_is_no_token_is_refused_and_not_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(TokenFileError, match="holds no token") as refused:
        FileGate(path)
    shown = content.strip().decode("latin-1")
    assert not shown or shown not in str(refused.value)


def test_a_file_that_is_too_long_is_refused(path: Path) -> None:
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(TokenFileError, match="holds no token"):
        FileGate(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(TokenFileError, match="is no file"):
        FileGate(tmp_path / "pipe")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match=r"admin\.token can't be read: No such file"):
        FileGate(tmp_path / "admin.token")


class TestMade:
    async def test_a_new_one_is_secret_and_good(self, tmp_path: Path) -> None:
        path = tmp_path / "admin.token"
        before = os.umask(0)
        try:
            assert make_token_file(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        token = path.read_text().strip()
        assert len(token) >= 43
        assert await FileGate(path).caller(token, peer=PEER)

    def test_each_is_another(self, tmp_path: Path) -> None:
        for name in "ab":
            make_token_file(tmp_path / name)
        assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()

    def test_one_that_is_there_stays(self, path: Path) -> None:
        assert not make_token_file(path)
        assert path.read_text() == FIRST

    def test_a_link_to_nowhere_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "admin.token").symlink_to(tmp_path / "elsewhere")
        assert not make_token_file(tmp_path / "admin.token")
        assert not (tmp_path / "elsewhere").exists()

    def test_without_a_folder_it_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(TokenFileError, match="can't be made: No such file"):
            make_token_file(tmp_path / "nowhere" / "admin.token")


async def test_no_token_is_in_a_log_or_an_error(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gate = FileGate(path, clock=Clock(), pause=0)
    write(path, SECOND)
    guess = "a-guess-at-the-token"
    told = []
    for token in [SECOND, *[guess] * (limit.PEER.most + 1)]:
        try:
            await gate.caller(token, peer=PEER)
        except (Unauthorized, TooMany) as error:
            told.append(repr(error))
    opened(path)
    with pytest.raises(Away) as refused:
        await gate.caller(SECOND, peer=PEER)
    told += [repr(refused.value), *(repr(vars(record)) for record in caplog.records)]
    assert len(told) >= limit.PEER.most + 3
    assert not any(each in text for text in told for each in (FIRST, SECOND, guess))
