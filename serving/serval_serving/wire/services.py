"""Descriptors of the predict API's services, for tools that must be told the API."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2

from serval_serving.wire import rpc

METHODS: Final = (
    rpc.PREDICT,
    rpc.CLASSIFY,
    rpc.REGRESS,
    rpc.MULTI_INFERENCE,
    rpc.GET_MODEL_METADATA,
    rpc.GET_MODEL_STATUS,
    rpc.HANDLE_RELOAD_CONFIG,
)
SERVICES_FILE: Final = "serval/services.proto"


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """Return the descriptors of all services and what they need, dependencies first."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    services = descriptor_pb2.FileDescriptorProto(name=SERVICES_FILE, syntax="proto3")
    by_name: dict[str, descriptor_pb2.ServiceDescriptorProto] = {}
    for method in METHODS:
        services.package, _, name = method.service.rpartition(".")
        service = by_name.get(name) or by_name.setdefault(name, services.service.add(name=name))
        service.method.add(
            name=method.name,
            input_type="." + method.request.DESCRIPTOR.full_name,
            output_type="." + method.response.DESCRIPTOR.full_name,
        )
        for message in (method.request, method.response):
            _add(message.DESCRIPTOR.file, files)
            if message.DESCRIPTOR.file.name not in services.dependency:
                services.dependency.append(message.DESCRIPTOR.file.name)
    return descriptor_pb2.FileDescriptorSet(file=[*files.values(), services])


def _add(file: Any, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """Add a file's descriptor behind those that it needs."""
    if file.name in files:
        return
    for needed in file.dependencies:
        _add(needed, files)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    files[file.name] = proto
