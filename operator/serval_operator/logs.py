"""Logs of the process: one line per record, with the key of the object that the work is about.

The key is bound in a context variable, so whatever is logged on the way (by other modules, in tasks started
for the same reconcile) carries it. Secrets are removed from every line, whoever wrote it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any

import orjson

from serval_operator.api.text import scrub

JSON = "json"
LONGEST_MESSAGE = 4096
"""Characters of a message; a longer one is cut."""

QUIET_LOGGERS = ("kopf", "aiohttp", "asyncio", "urllib3", "client")
"""Libraries that tell of their every step. Below debug level only their warnings are kept."""

_key: ContextVar[str] = ContextVar("serval_log_key", default="")


@contextmanager
def bound(key: str) -> Iterator[None]:
    """Within the block, each record carries a key as text, such as ``ModelDeployment vision/resnet50``."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and key and error where there are some."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(record.getMessage(), LONGEST_MESSAGE),
        }
        if key := _key.get():
            line["object"] = key
        if record.exc_info:
            line["error"] = _scrub_lines(self.formatException(record.exc_info))
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, followed by the trace of an error."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        key = f" [{_key.get()}]" if _key.get() else ""
        message = scrub(record.getMessage(), LONGEST_MESSAGE)
        line = f"{moment} {record.levelname.lower():7} {record.name}{key} {message}"
        if record.exc_info:
            line += "\n" + _scrub_lines(self.formatException(record.exc_info))
        return line


def configure(level: str, style: str, stream: IO[str] | None = None) -> None:
    """Route all logs of the process to one stream (standard error by default).

    Parameters
    ----------
    level:
        Least level, by name, in lower case.
    style:
        ``json`` or ``text``.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == JSON else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    least = logging.DEBUG if root.level <= logging.DEBUG else max(root.level, logging.WARNING)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(least)


def _scrub_lines(text: str) -> str:
    """Scrub a trace line by line, keeping its indentation."""
    lines = []
    for line in text.splitlines():
        words = line.lstrip()
        lines.append(line[: len(line) - len(words)] + scrub(words, LONGEST_MESSAGE))
    return "\n".join(lines)
