"""Warm-up: requests that come with a version are run before it serves.

They lie in `assets.extra/tf_serving_warmup_requests`, a TFRecord file of PredictionLogs. Files of samples
(`serval_serving.server.sample_files`) are of this form.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from serval_serving.models.handle import ServableHandle
from serval_serving.server import examples
from serval_serving.server.inference import Deadline, Inference
from serval_serving.server.predict import predict, target_of
from serval_serving.wire import messages
from serval_serving.wire.predict_codec import request_of
from serval_serving.wire.status import StatusError, invalid, status_text
from serval_serving.wire.tfrecord import read_records

FOLDER: Final = "assets.extra"
FILE: Final = "tf_serving_warmup_requests"
MAX_RECORDS: Final = 1000

_log = logging.getLogger(__name__)


class WarmUp:
    """Runs the requests that a version brings.

    Parameters
    ----------
    inference:
        Runs them.
    iterations:
        How often each is run.
    """

    def __init__(self, inference: Inference, iterations: int = 1) -> None:
        self._inference = inference
        self._iterations = iterations

    def __call__(self, handle: ServableHandle) -> None:
        """Run the requests that a version brings; none is no error.

        Raises
        ------
        StatusError
            The file is damaged or holds too many requests, or a request failed.
        """
        path = handle.path
        file = path / FOLDER / FILE
        if not file.is_file():
            return
        started = time.monotonic()
        try:
            count = self._run(handle, file)
        except StatusError as error:
            self._observe(path, status_text(error.code, error.message), started)
            raise StatusError(error.code, f"warm-up failed: {error.message}") from error
        except OSError as error:
            self._observe(path, grpc.StatusCode.UNKNOWN.name, started)
            raise StatusError(grpc.StatusCode.UNKNOWN, f"{file} cannot be read: {error}") from error
        self._observe(path, grpc.StatusCode.OK.name, started)
        _log.info("warmed up model=%s version=%d records=%d", handle.name, handle.version, count)

    def _run(self, handle: ServableHandle, file: Path) -> int:
        """Run all records, and count them."""
        count = 0
        with file.open("rb") as stream:
            for record in read_records(stream, file):
                try:
                    log = messages.PredictionLog.FromString(record)
                except DecodeError as error:
                    raise invalid(f"Failed to parse warmup record {count} from {file}") from error
                count += 1
                if count > MAX_RECORDS:
                    raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
                for _ in range(self._iterations):
                    self._replay(handle, log)
        return count

    def _replay(self, handle: ServableHandle, log: messages.PredictionLog) -> None:
        """Run one request on this version, whichever it was for."""
        inference, forever = self._inference, Deadline()
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            predict(inference, handle, request_of(log.predict_log.request), forever)
        elif kind == "classify_log":
            request = log.classify_log.request
            examples.score(inference, handle, examples.CLASSIFY, target_of(request), request.input, forever)
        elif kind == "regress_log":
            given = log.regress_log.request
            examples.score(inference, handle, examples.REGRESS, target_of(given), given.input, forever)
        elif kind == "multi_inference_log":
            several = log.multi_inference_log.request
            tasks = [(target_of(task), task.method_name) for task in several.tasks]
            examples.score_several(inference, handle, tasks, several.input, forever)
        else:
            message = f"Unsupported log_type for warmup: {kind or 'none'}"
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, message)

    def _observe(self, path: Path, status: str, started: float) -> None:
        """Count the warm-up."""
        microseconds = (time.monotonic() - started) * 1e6
        self._inference.metrics.warm_up_latency.observe(microseconds, str(path), status)
