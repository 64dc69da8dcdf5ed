"""Log lines as one JSON object each: time, level, logger, event, and the key-values of `extra`.

Events are constants, so that a search finds all of a kind; whatever varies is a key of its own. The
router's lines have the same keys, so that one query reads both.
"""

import json
import logging
import sys
import time
from typing import TextIO

#: What every record has besides `extra`, and what kopf hands to its own formatter.
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OF_KOPF = frozenset({"settings", "k8s_skip"})


class JSONFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time first, and what can't be JSON as its text."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        extra = vars(record).keys() - _PLAIN - _OF_KOPF
        line |= {key: getattr(record, key) for key in sorted(extra)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send every logger's lines to standard error, and no others."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if level == "INFO":
        # NB: kopf tells of every handler of every object at this level, thousands of lines a burst.
        logging.getLogger("kopf").setLevel(logging.WARNING)
    # NB: it writes several lines a probe while the database is away; the record says it once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
