"""What a stage of a Job reports: one line of JSON, the termination message of its container.

A stage is a container of a Job's pod. The line is small. What does not fit into it is a file that the stage
stores elsewhere; the line then has the file's name, digest and size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from serval_contract.models import DIGEST
from serval_contract.report_line import (
    MAX_INTEGER,
    MAX_LINE_BYTES,
    dump_line,
    find_line,
    is_integer,
    is_text,
    shortened,
)

MAX_FILES: Final = 32
MAX_FILE_NAME: Final = 253
MAX_STAGE_NAME: Final = 63
"""A stage has the name of its container."""
REASON: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
"""How a reason is written: one word that programs read."""
MAX_DEPTH: Final = 8
"""Levels of objects and lists in a result."""

_KIND: Final = "stage"


@dataclass(frozen=True, slots=True)
class StageFile:
    """A file that a stage stored.

    Parameters
    ----------
    name:
        Name or relative path.
    digest:
        ``sha256:<hex>`` over its content.
    size:
        In bytes.
    """

    name: str
    digest: str
    size: int

    def fields(self) -> dict[str, Any]:
        """Return the file as JSON data."""
        return {"name": self.name, "digest": self.digest, "bytes": self.size}


@dataclass(frozen=True, slots=True)
class StageReport:
    """What a stage did, or why it failed. Whether it failed, the exit code of its container says.

    Parameters
    ----------
    stage:
        Name of the stage.
    result:
        A small JSON object; its keys are the stage's own.
    files:
        Files that the stage stored, at most `MAX_FILES`.
    reason:
        Why it failed, in the form of `REASON`; empty if it did not fail or the line has no usable reason.
    message:
        What happened, for the user.
    permanent:
        Whether another attempt with the same inputs would fail in the same way.
    """

    stage: str
    result: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[StageFile, ...] = ()
    reason: str = ""
    message: str = ""
    permanent: bool = False

    def dump(self) -> str:
        """Return the line, of at most `MAX_LINE_BYTES`; a long message is cut.

        Raises
        ------
        ValueError
            The result and the files do not fit, or `parse_stage_report` would refuse them.
        """
        line = dump_line(
            _KIND,
            {
                "stage": self.stage,
                "result": dict(self.result),
                "files": [one.fields() for one in self.files],
                "reason": self.reason,
                "message": shortened(self.message),
                "permanent": self.permanent,
            },
        )
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(
                f"the report has {len(line)} bytes, more than {MAX_LINE_BYTES}: store the result as a file"
            )
        read = parse_stage_report(line)
        if read is None or (read.result, read.files) != (dict(self.result), self.files):
            raise ValueError("the result or the files cannot be read back: see serval_contract.stage_report")
        return line


def parse_stage_report(text: str) -> StageReport | None:
    """Find the report in a termination message, which may be the end of a log; None if there is none.

    What is not as `StageReport` describes it is left out.
    """
    if len(text) > 2 * MAX_LINE_BYTES:
        text = text[-2 * MAX_LINE_BYTES :]
    fields = find_line(_KIND, text)
    if fields is None:
        return None
    stage, reason, message = fields.get("stage"), fields.get("reason"), fields.get("message")
    return StageReport(
        stage=stage if is_text(stage, MAX_STAGE_NAME) else "",
        result=parse_result(fields.get("result")),
        files=parse_files(fields.get("files")),
        reason=reason if isinstance(reason, str) and REASON.fullmatch(reason) else "",
        message=shortened(message) if isinstance(message, str) else "",
        permanent=fields.get("permanent") is True,
    )


def parse_result(value: object) -> dict[str, Any]:
    """Return a result; empty if a value of it is nothing that the API server stores unchanged."""
    return dict(value) if isinstance(value, Mapping) and _is_plain(value, MAX_DEPTH) else {}


def parse_files(value: object) -> tuple[StageFile, ...]:
    """Return files as the line or a status lists them; none if one of them is not as `StageFile` says."""
    if not isinstance(value, list) or len(value) > MAX_FILES:
        return ()
    files = tuple(file for one in value if (file := _file(one)))
    return files if len(files) == len(value) else ()


def _file(value: object) -> StageFile | None:
    if not isinstance(value, Mapping):
        return None
    name, digest, size = value.get("name"), value.get("digest"), value.get("bytes")
    if not is_text(name, MAX_FILE_NAME) or not name or not is_integer(size, least=0):
        return None
    return StageFile(name, digest, size) if isinstance(digest, str) and DIGEST.fullmatch(digest) else None


def _is_plain(value: object, depth: int) -> bool:
    """Whether a JSON value has bounded depth, finite numbers and texts that can be encoded."""
    match value:
        case None | bool():
            return True
        case int():
            return abs(value) <= MAX_INTEGER
        case float():
            return math.isfinite(value)
        case str():
            return _is_encodable(value)
        case list():
            return depth > 0 and all(_is_plain(one, depth - 1) for one in value)
        case Mapping():
            return depth > 0 and all(
                isinstance(name, str) and _is_encodable(name) and _is_plain(one, depth - 1)
                for name, one in value.items()
            )
        case _:
            return False


def _is_encodable(text: str) -> bool:
    """Whether a text has no halves of surrogate pairs, which JSON can name but UTF-8 cannot hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
