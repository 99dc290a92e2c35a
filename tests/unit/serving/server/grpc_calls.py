"""Calls with the official stubs, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.wire import messages
from serval_serving.wire.tensors import from_array
from unit.serving.server.processes import Server
from unit.serving.wire.official import stubs

LIMIT = 30.0
Predict = Callable[..., Any]


def predictor(service: Any) -> Predict:
    """A function that builds a Predict request, sends it, and gives the reply."""

    def call(
        inputs: dict[str, Any],
        signature: str = "half_plus_two",
        name: str | None = "zoo",
        version: int | None = None,
        label: str = "",
        outputs: tuple[str, ...] = (),
        typed: bool = True,
        seconds: float | None = LIMIT,
    ) -> Any:
        request = stubs().predict.PredictRequest()
        if name is not None:
            request.model_spec.name = name
        if signature:
            request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        for alias, value in inputs.items():
            tensor = value if isinstance(value, messages.TensorProto) else from_array(value, typed=typed)
            request.inputs[alias].MergeFromString(tensor.SerializeToString())
        request.output_filter.extend(outputs)
        if seconds is None:
            return service.Predict.future(request).result(timeout=LIMIT)
        return service.Predict(request, timeout=seconds)

    return call


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def in_flight(server: Server) -> int:
    page = server.get("/monitoring/prometheus/metrics").data.decode()
    (line,) = [line for line in page.splitlines() if line.startswith("serval_requests_in_flight ")]
    return int(line.split()[1])


def signatures(service: Any) -> Any:
    request = stubs().metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "zoo"
    found = stubs().metadata.SignatureDefMap()
    assert service.GetModelMetadata(request, timeout=LIMIT).metadata["signature_def"].Unpack(found)
    return found.signature_def
