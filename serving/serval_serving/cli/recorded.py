"""Recorded requests: files of PredictionLog records, as samples and warm-up requests are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from serval_serving.cli.comparison import Outputs
from serval_serving.cli.errors import NOT_FOUND, USAGE, CliError
from serval_serving.client.calls import predict_outputs
from serval_serving.wire import messages, rpc
from serval_serving.wire.status import StatusError
from serval_serving.wire.tfrecord import read_records

PATTERNS: Final = ("*.tfrecord", "tf_serving_warmup_requests")
"""Names of files that are looked for in a folder."""
METHODS: Final = {
    "predict_log": rpc.PREDICT,
    "classify_log": rpc.CLASSIFY,
    "regress_log": rpc.REGRESS,
}
"""The method of each kind of record that can be sent again."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record.

    Attributes
    ----------
    name:
        Its file, and its number in the file, from 1.
    method:
        What it calls.
    request:
        The message. Its version is taken away, since that was of the server that recorded it.
    outputs:
        What was answered; None if the record has no reply.
    """

    name: str
    method: rpc.Method
    request: Any
    outputs: Outputs | None


def read(paths: Sequence[Path], limit: int) -> Iterator[Recorded]:
    """Yield the records of files, and of the files in folders, of at most `limit`.

    Kinds of records that cannot be sent again are passed over. A file that is cut in a later record, as
    that of a killed server, ends there with a warning.

    Raises
    ------
    CliError
        There is no such file, or it has something else.
    """
    count = 0
    for file in _files(paths):
        for found in _records_of(file):
            if count == limit:
                return
            count += 1
            yield found


def outputs_of(method: rpc.Method, reply: Any) -> Outputs:
    """Return the outputs of a reply as arrays: those of Predict, else labels and scores, or values.

    Raises
    ------
    ServingError
        An output cannot be read.
    """
    if method is rpc.PREDICT:
        return predict_outputs(reply)
    if method is rpc.REGRESS:
        return {"values": np.array([one.value for one in reply.result.regressions], np.float32)}
    rows = [one.classes for one in reply.result.classifications]
    return {
        "labels": np.array([one.label for row in rows for one in row], dtype=object),
        "scores": np.array([one.score for row in rows for one in row], np.float32),
    }


def _records_of(file: Path) -> Iterator[Recorded]:
    """Yield the records of a file, those that can be sent again."""
    whole = 0
    try:
        with file.open("rb") as stream:
            for whole, data in enumerate(read_records(stream, file), start=1):
                found = _recorded(f"{file.name}#{whole}", data)
                if found is not None:
                    yield found
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}", NOT_FOUND) from error
    except (StatusError, DecodeError) as error:
        if isinstance(error, DecodeError) or not whole:
            raise CliError(f"{file} has no PredictionLog records: {error}", USAGE) from error
        print(f"serval: {file} is cut after {whole} records; the rest of it is left out", file=sys.stderr)


def _recorded(name: str, data: bytes) -> Recorded | None:
    """Read a record; None for a kind that cannot be sent again."""
    log = messages.PredictionLog.FromString(data)
    kind = log.WhichOneof("log_type")
    method = METHODS.get(kind or "")
    if kind is None or method is None:
        return None
    call = getattr(log, kind)
    call.request.model_spec.ClearField("version")
    call.request.model_spec.ClearField("version_label")
    outputs = outputs_of(method, call.response) if call.HasField("response") else None
    return Recorded(name, method, call.request, outputs)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files, and those in the folders."""
    for path in paths:
        if path.is_dir():
            found = sorted({file for pattern in PATTERNS for file in path.rglob(pattern) if file.is_file()})
            if not found:
                raise CliError(f"{path} has no file {' or '.join(PATTERNS)}", NOT_FOUND)
            yield from found
        else:
            yield path
