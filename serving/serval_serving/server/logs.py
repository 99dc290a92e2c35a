"""Logging of the process: one line per event on stderr, never a payload."""

from __future__ import annotations

import logging
import sys

from aiohttp.http_exceptions import HttpProcessingError
from google.protobuf.message import DecodeError

from serval_serving.server.access import LOGGER

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class _NoBadRequests(logging.Filter):
    """Drops the libraries' tracebacks about bytes that are no request: they quote what was sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, (DecodeError, HttpProcessingError))


def set_up(*, access: bool = False) -> None:
    """Send the log to stderr: ours from INFO on, that of libraries from WARNING on; requests where wanted."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_NoBadRequests())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("serval_serving").setLevel(logging.INFO)
    logging.getLogger(LOGGER).setLevel(logging.INFO if access else logging.WARNING)
