"""GetModelMetadata and GetModelStatus, for gRPC and HTTP alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from serval_serving.engines.base import DeviceReport
from serval_serving.models.states import VersionStatus
from serval_serving.server.inference import NO_SPEC, Inference, Target
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError, invalid, number_of

SIGNATURE_DEF = "signature_def"
"""The only metadata field that a request may name."""
DEVICE = "device"
"""A field that replies about models with a device of their own have too: a `google.protobuf.Struct`."""

NO_FIELD = "GetModelMetadataRequest must specify at least one metadata_field"


def model_status(inference: Inference, target: Target) -> messages.GetModelStatusResponse:
    """Report the states of one version, or of all versions ever seen; a label is not looked at.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT without a model spec, NOT_FOUND for an unknown model or version.
    """
    if target.name is None:
        raise invalid(NO_SPEC)
    response = messages.GetModelStatusResponse()
    for status in _statuses(inference, target.name, target.version):
        response.model_version_status.add(
            version=status.version,
            state=status.state,
            status=messages.StatusProto(error_code=number_of(status.code), error_message=status.message),
        )
    return response


def model_metadata(
    inference: Inference, target: Target, fields: Sequence[str]
) -> messages.GetModelMetadataResponse:
    """Report the signatures of a version that serves.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT for a request without model spec or with other fields than `signature_def`,
        NOT_FOUND for a model or version that does not serve, UNAVAILABLE for one whose device is being
        programmed or is unhealthy.
    """
    if target.name is None:
        raise invalid(NO_SPEC)
    if not fields:
        raise invalid(NO_FIELD)
    for field in fields:
        if field != SIGNATURE_DEF:
            raise invalid(f"Metadata field {field} is not supported")
    with inference.acquire(target) as handle:
        response = messages.GetModelMetadataResponse(model_spec=messages.ModelSpec(name=handle.name))
        response.model_spec.version.value = handle.version
        response.metadata[SIGNATURE_DEF].Pack(handle.model.signature_defs)
        report = handle.device_report()
        if report is not None:
            response.metadata[DEVICE].Pack(_device(report))
    return response


def device_of(response: messages.GetModelMetadataResponse) -> dict[str, Any] | None:
    """Read the device in the metadata of a model; None for a model without one."""
    if DEVICE not in response.metadata:
        return None
    described = Struct()
    response.metadata[DEVICE].Unpack(described)
    return dict(described)


def _device(report: DeviceReport) -> Struct:
    """Describe a device that runs its model."""
    described = Struct()
    described.update({"engine": report.engine, "computesOn": report.computes_on, "emulated": report.emulated})
    return described


def _statuses(inference: Inference, name: str, version: int | None) -> Sequence[VersionStatus]:
    """Look up the states."""
    model = inference.model(name)
    if version is None:
        statuses = model.statuses() if model else ()
        if not statuses:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        return statuses
    status = model.status(version) if model else None
    if status is None:
        raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {name}")
    return [status]
