"""GetModelMetadata, GetModelStatus and health, from a live server of the model `zoo`."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_serving.server.grpc_service import HEALTH_NAMES
from unit.serving.server.grpc_calls import LIMIT, refused, signatures
from unit.serving.wire.official import stubs

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def model_service(zoo_channel: grpc.Channel) -> Any:
    return stubs().model_service.ModelServiceStub(zoo_channel)


def test_metadata(service: Any) -> None:
    request = stubs().metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "zoo"
    reply = service.GetModelMetadata(request, timeout=LIMIT)
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("zoo", 7)
    assert reply.metadata["signature_def"].type_url == (
        "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    )
    found = signatures(service)["images"]
    assert found.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in found.inputs["images"].tensor_shape.dim] == [-1, 8, 8, 3]


@pytest.mark.parametrize(
    ("name", "fields", "answer"),
    [
        (None, ["signature_def"], (INVALID, "Missing ModelSpec")),
        ("zoo", [], (INVALID, "GetModelMetadataRequest must specify at least one metadata_field")),
        ("zoo", ["x"], (INVALID, "Metadata field x is not supported")),
        (
            "nope",
            ["signature_def"],
            (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nope)"),
        ),
    ],
)
def test_metadata_refused(
    service: Any, name: str | None, fields: list[str], answer: tuple[grpc.StatusCode, str]
) -> None:
    request = stubs().metadata.GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
    assert refused(lambda: service.GetModelMetadata(request, timeout=LIMIT)) == answer


# GetModelStatus.


@pytest.mark.parametrize("label", ["", "canary"])
def test_status_of_all_versions_whatever_the_label(model_service: Any, label: str) -> None:
    request = stubs().status.GetModelStatusRequest()
    request.model_spec.name = "zoo"
    request.model_spec.version_label = label
    (status,) = model_service.GetModelStatus(request, timeout=LIMIT).model_version_status
    available = stubs().status.ModelVersionStatus.AVAILABLE
    assert (status.version, status.state, status.status.error_code) == (7, available, 0)


@pytest.mark.parametrize(
    ("name", "version", "answer"),
    [
        (None, None, (INVALID, "Missing ModelSpec")),
        ("nope", None, (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model nope")),
        ("zoo", 9, (grpc.StatusCode.NOT_FOUND, "Could not find version 9 of model zoo")),
        ("nope", 9, (grpc.StatusCode.NOT_FOUND, "Could not find version 9 of model nope")),
    ],
)
def test_status_refused(
    model_service: Any, name: str | None, version: int | None, answer: tuple[grpc.StatusCode, str]
) -> None:
    request = stubs().status.GetModelStatusRequest()
    if name is not None:
        request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    assert refused(lambda: model_service.GetModelStatus(request, timeout=LIMIT)) == answer


# Health.


@pytest.mark.parametrize("name", HEALTH_NAMES)
def test_health_knows_the_services_by_both_names(zoo_channel: grpc.Channel, name: str) -> None:
    stub = health_pb2_grpc.HealthStub(zoo_channel)
    reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=LIMIT)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_others(zoo_channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(zoo_channel)
    request = health_pb2.HealthCheckRequest(service="nope")
    assert refused(lambda: stub.Check(request, timeout=LIMIT))[0] is grpc.StatusCode.NOT_FOUND
