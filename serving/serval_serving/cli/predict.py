"""``serval predict``: files to scores, and where the time went."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from serval_serving.cli import times
from serval_serving.cli.errors import NOT_FOUND, OK, USAGE, CliError
from serval_serving.cli.extra import cluster_of
from serval_serving.cli.tables import table
from serval_serving.client.grpc_client import GrpcClient
from serval_serving.client.http_client import HttpClient
from serval_serving.client.timing import Timing
from serval_serving.client.values import jsonable
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE, TensorInfo
from serval_serving.wire.dtypes import DataType, numpy_dtype
from serval_serving.wire.errors import TensorError

MAX_BATCH: Final = 32
"""Files that one gRPC request carries, where the model leaves the batch open."""
_SCORE: Final = "score"
_STRING: Final = "DT_STRING"

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send requests.

    Attributes
    ----------
    address:
        ``host:port`` for gRPC, or a URL for HTTP.
    is_http:
        Which of the two.
    model:
        Name of the model; may be empty where the server has but one.
    """

    address: str
    is_http: bool
    model: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request was answered.

    Attributes
    ----------
    outputs:
        The outputs of each file that it carried.
    timings:
        Where the time went, each time that it was sent.
    """

    outputs: list[Outputs]
    timings: list[Timing]


def run(options: argparse.Namespace) -> int:
    """Score the files and print the result.

    Raises
    ------
    CliError
        If a file, the deployment or the wanted output is not there.
    ServingError
        What the server says.
    """
    if options.top < 1:
        raise CliError("--top must be at least 1", USAGE)
    if options.repeat < 1:
        raise CliError("--repeat must be at least 1", USAGE)
    labels = _labels(options.labels)
    contents = [_content(path) for path in options.files]
    with _endpoint(options) as endpoint:
        if endpoint.is_http and (options.model or options.version is not None or options.signature):
            raise CliError("/score takes no --model, --version or --signature; gRPC does", USAGE)
        ask = _by_http if endpoint.is_http else _by_grpc
        answers = list(ask(endpoint, contents, options))
    paths = iter(options.files)
    named = [(next(paths), outputs, answer.timings) for answer in answers for outputs in answer.outputs]
    if options.json:
        print(json.dumps([_as_json(*one, labels, options) for one in named]))
    else:
        print(_as_table([(path, outputs) for path, outputs, _ in named], labels, options))
        print()
        print(times.as_table([timing for answer in answers for timing in answer.timings]))
    return OK


@contextmanager
def _endpoint(options: argparse.Namespace) -> Iterator[Endpoint]:
    """Find out what the target means, and yield a way to it."""
    target, use_http = options.target, options.http
    if target.startswith(("http://", "https://")):
        if options.grpc:
            raise CliError("--grpc wants host:port, not a URL", USAGE)
        yield Endpoint(target, is_http=True, model=options.model)
        return
    if any(sign in target for sign in ":./"):
        yield Endpoint(f"http://{target}" if use_http else target, use_http, options.model)
        return
    cluster = cluster_of(options)
    found = cluster.model_deployment(target)
    model = options.model or found["spec"].get("model", {}).get("name") or target
    with cluster.address(target, "http" if use_http else "grpc") as address:
        yield Endpoint(f"http://{address}" if use_http else address, use_http, model)


def _by_http(endpoint: Endpoint, contents: list[bytes], options: argparse.Namespace) -> Iterator[Answer]:
    """Send one request per file to ``/score``."""
    with HttpClient(endpoint.address, timeout=options.timeout) as client:
        for content in contents:
            timings: list[Timing] = []
            for _ in range(options.repeat):
                scores = client.score(content, on_timing=timings.append)
            # The server answers a batch of one.
            row = scores[0] if scores.ndim > 0 and len(scores) == 1 else scores
            yield Answer([{_SCORE: row}], timings)


def _by_grpc(endpoint: Endpoint, contents: list[bytes], options: argparse.Namespace) -> Iterator[Answer]:
    """Ask the model what it takes, then send the files in batches."""
    with GrpcClient(endpoint.address, timeout=options.timeout) as client:
        metadata = client.metadata(endpoint.model, options.version)
        wanted = options.signature or DEFAULT_SIGNATURE
        signature = metadata.signatures.get(wanted)
        if signature is None:
            names = ", ".join(metadata.signatures)
            raise CliError(f"the model has no signature {wanted}; it has {names}", USAGE)
        if len(signature.inputs) != 1:
            names = ", ".join(signature.inputs)
            raise CliError(f"a model with one input is wanted; this one takes {names}", USAGE)
        name, info = next(iter(signature.inputs.items()))
        which = (endpoint.model, options.version, wanted)
        for batch, rows in _batches(info, contents):
            timings: list[Timing] = []
            for _ in range(options.repeat):
                outputs = client.predict({name: batch}, *which, on_timing=timings.append)
            yield Answer(
                [{key: _row(array, row, rows) for key, array in outputs.items()} for row in range(rows)],
                timings,
            )


def _batches(info: TensorInfo, contents: list[bytes]) -> Iterator[tuple[Array, int]]:
    """Yield arrays that fit the input, and the number of files in each."""
    if info.dtype != _STRING:
        yield from ((_numbers(info, content), 1) for content in contents)
        return
    limit = MAX_BATCH if not info.shape or info.shape[0] < 0 else info.shape[0]
    if info.shape == ():
        limit = 1
    for start in range(0, len(contents), limit):
        part = contents[start : start + limit]
        strings = np.array(part, dtype=object)
        yield strings.reshape(()) if info.shape == () else strings, len(part)


def _numbers(info: TensorInfo, content: bytes) -> Array:
    """Return the array in a .npy file as the input wants it; one without a batch gets a batch of one."""
    try:
        loaded: Array = np.load(io.BytesIO(content), allow_pickle=False)
        array: Array = loaded.astype(numpy_dtype(DataType[info.dtype]), copy=False)
    except (ValueError, EOFError, KeyError, TensorError) as error:
        raise CliError(
            f"the model takes {info.dtype}; a .npy file with such an array is wanted", USAGE
        ) from error
    if info.shape is not None and array.ndim == len(info.shape) - 1:
        array = array[np.newaxis]
    return array


def _row(array: Array, row: int, rows: int) -> Array:
    """Return what belongs to one file; an output that is not one row per file belongs to each."""
    return np.asarray(array[row]) if array.ndim > 0 and len(array) == rows else array


def _scores(outputs: Outputs, wanted: str) -> Array | None:
    """Return the output that holds one score per class; None where none is named and none is sure."""
    if wanted:
        if wanted not in outputs:
            raise CliError(f"there is no output {wanted}; there are {', '.join(outputs)}", USAGE)
        return outputs[wanted].reshape(-1)
    likely = [array for array in outputs.values() if array.dtype.kind == "f" and array.ndim == 1]
    return likely[0] if len(likely) == 1 else None


def _top(scores: Array, count: int, labels: list[str]) -> list[dict[str, Any]]:
    """Return the classes with the highest scores, the highest first."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [
        {
            "class": int(index),
            "label": labels[index] if index < len(labels) else str(index),
            "score": float(scores[index]),
        }
        for index in order
    ]


def _as_json(
    path: Path, outputs: Outputs, timings: list[Timing], labels: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    content: dict[str, Any] = {"file": str(path), "outputs": jsonable(outputs)}
    scores = _scores(outputs, options.output)
    if scores is not None:
        content["top"] = _top(scores, options.top, labels)
    content["milliseconds"] = [times.as_json(timing) for timing in timings]
    return content


def _as_table(named: list[tuple[Path, Outputs]], labels: list[str], options: argparse.Namespace) -> str:
    ranked, raw = [], []
    for path, outputs in named:
        scores = _scores(outputs, options.output)
        if scores is None:
            raw += [(path.name, key, json.dumps(jsonable(array))) for key, array in outputs.items()]
            continue
        for rank, entry in enumerate(_top(scores, options.top, labels), start=1):
            ranked.append((path.name, str(rank), entry["label"], f"{entry['score']:.4f}"))
    parts = [table(("FILE", "RANK", "CLASS", "SCORE"), ranked)] if ranked else []
    if raw:
        parts.append(table(("FILE", "OUTPUT", "VALUE"), raw))
    return "\n\n".join(parts)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", NOT_FOUND) from error


def _labels(path: Path | None) -> list[str]:
    return [] if path is None else _content(path).decode("utf-8", "replace").splitlines()
