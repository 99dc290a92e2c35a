"""Descriptors of the predict API's messages, built at run time in a pool of their own.

The full names must be the official ones, since `GetModelMetadata` packs a message into an Any whose type
URL names it. In the default pool they would clash with the official stubs; in a private one both can live
in a process. Building them here needs no generated code, which would pin protobuf's version.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from serval_serving.wire.fields import ENUMS, MESSAGES, Field

_Proto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _Proto.TYPE_DOUBLE,
    "float": _Proto.TYPE_FLOAT,
    "int64": _Proto.TYPE_INT64,
    "uint64": _Proto.TYPE_UINT64,
    "int32": _Proto.TYPE_INT32,
    "uint32": _Proto.TYPE_UINT32,
    "bool": _Proto.TYPE_BOOL,
    "string": _Proto.TYPE_STRING,
    "bytes": _Proto.TYPE_BYTES,
}

_DEPENDENCIES = {
    "tensorflow.error": (),
    "tensorflow": (),
    "tensorflow.serving": (
        "serval/tensorflow.proto",
        "serval/tensorflow.error.proto",
        wrappers_pb2.DESCRIPTOR.name,
        any_pb2.DESCRIPTOR.name,
    ),
}


def _add_map_entry(message: descriptor_pb2.DescriptorProto, field: Field, package: str) -> str:
    """Add the nested entry message that a map field stands for; its full name is the answer."""
    name = "".join(part.title() for part in field.name.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Proto.TYPE_STRING, label=_Proto.LABEL_OPTIONAL)
    value = entry.field.add(name="value", number=2, label=_Proto.LABEL_OPTIONAL)
    if field.kind in _SCALARS:
        value.type = _SCALARS[field.kind]
    else:
        value.type = _Proto.TYPE_MESSAGE
        value.type_name = f".{field.kind}"
    return f"{package}.{message.name}.{name}"


def _add_field(message: descriptor_pb2.DescriptorProto, field: Field, package: str) -> None:
    """Add one field with its type, label and oneof."""
    proto = message.field.add(name=field.name, number=field.number)
    proto.label = _Proto.LABEL_OPTIONAL if field.label == "one" else _Proto.LABEL_REPEATED
    if field.label == "map":
        proto.type = _Proto.TYPE_MESSAGE
        proto.type_name = "." + _add_map_entry(message, field, package)
    elif field.kind in _SCALARS:
        proto.type = _SCALARS[field.kind]
    elif field.kind.startswith("enum:"):
        proto.type = _Proto.TYPE_ENUM
        proto.type_name = "." + field.kind.removeprefix("enum:")
    else:
        proto.type = _Proto.TYPE_MESSAGE
        proto.type_name = f".{field.kind}"
    if field.oneof:
        names = [oneof.name for oneof in message.oneof_decl]
        if field.oneof not in names:
            message.oneof_decl.add(name=field.oneof)
            names.append(field.oneof)
        proto.oneof_index = names.index(field.oneof)


def _file(package: str) -> descriptor_pb2.FileDescriptorProto:
    """Build the file descriptor of one package."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"serval/{package}.proto", package=package, syntax="proto3", dependency=_DEPENDENCIES[package]
    )
    messages: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in MESSAGES[package].items():
        outer, _, inner = name.rpartition(".")
        # An outer message stands before its inner ones in the table.
        message = messages[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        messages[name] = message
        for field in fields:
            _add_field(message, field, package)
    for name, values in ENUMS[package].items():
        outer, _, inner = name.rpartition(".")
        enum = messages[outer].enum_type.add(name=inner) if outer else file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    return file


def build_pool() -> descriptor_pool.DescriptorPool:
    """Build a fresh pool that holds every message of this module and the well-known types they use."""
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for package in ("tensorflow.error", "tensorflow", "tensorflow.serving"):
        pool.AddSerializedFile(_file(package).SerializeToString())
    return pool


def message_class(pool: descriptor_pool.DescriptorPool, full_name: str) -> Any:
    """Make the class of one message of a pool.

    Raises
    ------
    KeyError
        The pool holds no such message.
    """
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))
