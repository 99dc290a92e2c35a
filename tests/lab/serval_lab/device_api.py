"""Messages of the kubelet's device plugin API, v1beta1, as far as the lab speaks it.

Built at run time from the tables below, so that no code generator is needed. Numbers and names are those
of ``k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1``; fields that the lab never sets are left out, and a map
is written as what it is on the wire: repeated entries of key and value.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "v1beta1"
VERSION: Final = "v1beta1"
HEALTHY: Final = "Healthy"
UNHEALTHY: Final = "Unhealthy"
REGISTRATION: Final = "v1beta1.Registration"
DEVICE_PLUGIN: Final = "v1beta1.DevicePlugin"

_STRING, _BOOL = "string", "bool"
_MESSAGES: dict[str, list[tuple[int, str, str, bool]]] = {
    # Each field is its number, name, type, and whether it is repeated.
    "Empty": [],
    "DevicePluginOptions": [(1, "pre_start_required", _BOOL, False)],
    "RegisterRequest": [
        (1, "version", _STRING, False),
        (2, "endpoint", _STRING, False),
        (3, "resource_name", _STRING, False),
        (4, "options", "DevicePluginOptions", False),
    ],
    "Device": [(1, "ID", _STRING, False), (2, "health", _STRING, False)],
    "ListAndWatchResponse": [(1, "devices", "Device", True)],
    "ContainerAllocateRequest": [(1, "devices_ids", _STRING, True)],
    "AllocateRequest": [(1, "container_requests", "ContainerAllocateRequest", True)],
    "Entry": [(1, "key", _STRING, False), (2, "value", _STRING, False)],
    "Mount": [(1, "container_path", _STRING, False), (2, "host_path", _STRING, False)],
    "ContainerAllocateResponse": [(1, "envs", "Entry", True), (2, "mounts", "Mount", True)],
    "AllocateResponse": [(1, "container_responses", "ContainerAllocateResponse", True)],
    "PreStartContainerResponse": [],
}


def messages() -> dict[str, Any]:
    """Return the message classes by name, from a descriptor pool of their own."""
    field = descriptor_pb2.FieldDescriptorProto
    scalars = {_STRING: field.TYPE_STRING, _BOOL: field.TYPE_BOOL}
    file = descriptor_pb2.FileDescriptorProto(name="deviceplugin.proto", package=PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, name, kind, repeated in fields:
            entry = described.field.add(name=name, number=number)
            entry.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            entry.type = scalars.get(kind, field.TYPE_MESSAGE)
            if kind not in scalars:
                entry.type_name = f".{PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _MESSAGES
    }
