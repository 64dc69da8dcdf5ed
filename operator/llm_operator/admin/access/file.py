"""Who may, on one machine: whoever has the token of a file, and they may do everything.

The file is for its owner's eyes alone, or it is not used. It is read anew when it changes, so the
token can be replaced while this runs. Nothing but `make_token_file` writes it.
"""

import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from llm_operator.admin.access import bearer
from llm_operator.admin.access.guard import NO_TOKEN, PAUSE, Guard
from llm_operator.admin.errors import Away, Unauthorized
from llm_operator.admin.model import Caller, Verb

logger = logging.getLogger(__name__)

#: Characters of a token at least, since nothing but its length keeps it from being guessed.
SHORTEST = 16
#: Whoever has it.
ANYBODY = Caller(name="token")

UNUSABLE = "the file of the token can't be used now; the log of this service says why"
#: Seconds after which to come again while the file can't be used.
RETRY = 5.0

#: What a change of the file shows in: its number, times, size and rights.
Look = tuple[int, int, int, int]


class TokenFileError(Exception):
    """The file can't be used. The message names it and says what to do."""


class FileGate:
    """A `Gate` with one token."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: float = PAUSE,
    ) -> None:
        """Read the file.

        Args:
            path: of the file; `make_token_file` makes one.
            clock: seconds, monotonic.
            pause: seconds that the answer to a wrong token waits.

        Raises:
            TokenFileError: it is not there, others may read it, or it holds no token.
        """
        self._path = path
        self._guard = Guard(clock=clock, pause=pause)
        self._look, self._token = read(path)
        #: Why the file can't be used, as it was logged last.
        self._told = ""

    async def caller(self, token: str, *, peer: str) -> Caller:
        """`ANYBODY`, for the token. Raises as `Gate` says."""
        if not token:
            raise Unauthorized(NO_TOKEN)
        if bearer.fit(token) and hmac.compare_digest(token.encode(), self._current()):
            return ANYBODY
        self._guard.admit(peer)
        await self._guard.refuse(peer)

    async def may(
        self, caller: Caller, verb: Verb, namespace: str, *, subresource: str = ""
    ) -> bool:
        """Yes."""
        return True

    def _current(self) -> bytes:
        """The token as the file has it now.

        Raises:
            Away: the file can't be used any more, and so no token can.
        """
        try:
            if _look(os.stat(self._path)) != self._look:
                self._look, self._token = read(self._path)
                logger.info("token_file_read", extra={"file": str(self._path)})
        except OSError as error:
            self._unusable(f"{self._path}: {error.strerror}")
        except TokenFileError as error:
            self._unusable(str(error))
        self._told = ""
        return self._token

    def _unusable(self, reason: str) -> NoReturn:
        if reason != self._told:
            self._told = reason
            logger.warning("token_file_unusable", extra={"reason": reason})
        raise Away(UNUSABLE, retry_after=RETRY) from None


def make_token_file(path: Path) -> bool:
    """Make the file with a new token, for its owner's eyes alone; one that is there stays.

    Returns:
        Whether it was made.

    Raises:
        TokenFileError: it can't be written.
    """
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise TokenFileError(f"{path} can't be made: {error.strerror}") from error
    try:
        with open(made, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise TokenFileError(f"{path} can't be written: {error.strerror}") from error
    return True


def read(path: Path) -> tuple[Look, bytes]:
    """What the file looks like, and the token in it.

    Raises:
        TokenFileError: it is not there, others may read it, or it holds no token.
    """
    try:
        # NB: a pipe of that name must not hold the whole service up.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            _judge(path, found)
            content = file.read(bearer.LONGEST + 2)
    except OSError as error:
        raise TokenFileError(f"{path} can't be read: {error.strerror}") from error
    token = content.strip().decode("latin-1")
    if not bearer.fit(token) or len(token) < SHORTEST:
        raise TokenFileError(
            f"{path} holds no token, which is one line of {SHORTEST} to {bearer.LONGEST} printable "
            "ASCII characters: delete the file, and the next start makes a new one"
        )
    return _look(found), token.encode()


def _judge(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise TokenFileError(f"{path} is no file")
    if found.st_uid != os.geteuid():
        raise TokenFileError(
            f"{path} belongs to user {found.st_uid}, not to user {os.geteuid()} as whom this runs: "
            "whoever owns it can change it"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & ~0o600:
        raise TokenFileError(
            f"{path} has mode {mode:04o}, so others may use the token: chmod 600 {path}"
        )


def _look(found: os.stat_result) -> Look:
    # NB: the change time is of the rights too, and nobody can set it back.
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
