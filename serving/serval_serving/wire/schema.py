"""Descriptors of the predict API's messages, built at run time in a pool of their own.

The full names must be the official ones, since `GetModelMetadata` packs a message into an Any whose type
URL names it. In the default pool they would clash with the official stubs; in a private one both can live
in a process. Building them here needs no generated code, which would pin protobuf's version.
Field numbers: tensorflow/core/framework and tensorflow_serving/apis. Fields left out here are kept as
unknown fields, so nothing that passes through is lost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from serval_serving.wire.dtypes import DataType

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


class Field(NamedTuple):
    """One field: `kind` is a scalar's name, `enum:<full name>` or a message's full name."""

    number: int
    name: str
    kind: str
    label: str = "one"
    oneof: str = ""


def _many(number: int, name: str, kind: str) -> Field:
    return Field(number, name, kind, label="many")


def _map(number: int, name: str, kind: str) -> Field:
    """Build a map from string to `kind`."""
    return Field(number, name, kind, label="map")


_ENUMS: dict[str, dict[str, dict[str, int]]] = {
    "tensorflow": {"DataType": {member.name: member.value for member in DataType}},
    "tensorflow.error": {
        "Code": {
            "OK": 0,
            "CANCELLED": 1,
            "UNKNOWN": 2,
            "INVALID_ARGUMENT": 3,
            "DEADLINE_EXCEEDED": 4,
            "NOT_FOUND": 5,
            "ALREADY_EXISTS": 6,
            "PERMISSION_DENIED": 7,
            "RESOURCE_EXHAUSTED": 8,
            "FAILED_PRECONDITION": 9,
            "ABORTED": 10,
            "OUT_OF_RANGE": 11,
            "UNIMPLEMENTED": 12,
            "INTERNAL": 13,
            "UNAVAILABLE": 14,
            "DATA_LOSS": 15,
            "UNAUTHENTICATED": 16,
        }
    },
    "tensorflow.serving": {
        "ModelVersionStatus.State": {
            "UNKNOWN": 0,
            "START": 10,
            "LOADING": 20,
            "AVAILABLE": 30,
            "UNLOADING": 40,
            "END": 50,
        }
    },
}

_MESSAGES: dict[str, dict[str, tuple[Field, ...]]] = {
    "tensorflow.error": {},
    "tensorflow": {
        "TensorShapeProto": (
            _many(2, "dim", "tensorflow.TensorShapeProto.Dim"),
            Field(3, "unknown_rank", "bool"),
        ),
        "TensorShapeProto.Dim": (Field(1, "size", "int64"), Field(2, "name", "string")),
        "TensorProto": (
            Field(1, "dtype", "enum:tensorflow.DataType"),
            Field(2, "tensor_shape", "tensorflow.TensorShapeProto"),
            Field(3, "version_number", "int32"),
            Field(4, "tensor_content", "bytes"),
            _many(5, "float_val", "float"),
            _many(6, "double_val", "double"),
            _many(7, "int_val", "int32"),
            _many(8, "string_val", "bytes"),
            _many(9, "scomplex_val", "float"),
            _many(10, "int64_val", "int64"),
            _many(11, "bool_val", "bool"),
            _many(12, "dcomplex_val", "double"),
            _many(13, "half_val", "int32"),
            _many(16, "uint32_val", "uint32"),
            _many(17, "uint64_val", "uint64"),
        ),
        "TensorInfo": (
            Field(1, "name", "string", oneof="encoding"),
            Field(4, "coo_sparse", "tensorflow.TensorInfo.CooSparse", oneof="encoding"),
            Field(5, "composite_tensor", "tensorflow.TensorInfo.CompositeTensor", oneof="encoding"),
            Field(2, "dtype", "enum:tensorflow.DataType"),
            Field(3, "tensor_shape", "tensorflow.TensorShapeProto"),
        ),
        "TensorInfo.CooSparse": (
            Field(1, "values_tensor_name", "string"),
            Field(2, "indices_tensor_name", "string"),
            Field(3, "dense_shape_tensor_name", "string"),
        ),
        "TensorInfo.CompositeTensor": (_many(2, "components", "tensorflow.TensorInfo"),),
        "SignatureDef": (
            _map(1, "inputs", "tensorflow.TensorInfo"),
            _map(2, "outputs", "tensorflow.TensorInfo"),
            Field(3, "method_name", "string"),
            _map(4, "defaults", "tensorflow.TensorProto"),
        ),
        "MetaGraphDef": (
            Field(1, "meta_info_def", "tensorflow.MetaGraphDef.MetaInfoDef"),
            _map(5, "signature_def", "tensorflow.SignatureDef"),
        ),
        "MetaGraphDef.MetaInfoDef": (_many(4, "tags", "string"), Field(5, "tensorflow_version", "string")),
        "SavedModel": (
            Field(1, "saved_model_schema_version", "int64"),
            _many(2, "meta_graphs", "tensorflow.MetaGraphDef"),
        ),
    },
    "tensorflow.serving": {
        "ModelSpec": (
            Field(1, "name", "string"),
            Field(2, "version", "google.protobuf.Int64Value", oneof="version_choice"),
            Field(4, "version_label", "string", oneof="version_choice"),
            Field(3, "signature_name", "string"),
        ),
        "PredictRequest": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            _map(2, "inputs", "tensorflow.TensorProto"),
            _many(3, "output_filter", "string"),
        ),
        "PredictResponse": (
            Field(2, "model_spec", "tensorflow.serving.ModelSpec"),
            _map(1, "outputs", "tensorflow.TensorProto"),
        ),
        "SignatureDefMap": (_map(1, "signature_def", "tensorflow.SignatureDef"),),
        "GetModelMetadataRequest": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            _many(2, "metadata_field", "string"),
        ),
        "GetModelMetadataResponse": (
            Field(1, "model_spec", "tensorflow.serving.ModelSpec"),
            _map(2, "metadata", "google.protobuf.Any"),
        ),
        "StatusProto": (
            Field(1, "error_code", "enum:tensorflow.error.Code"),
            Field(2, "error_message", "string"),
        ),
        "ModelVersionStatus": (
            Field(1, "version", "int64"),
            Field(2, "state", "enum:tensorflow.serving.ModelVersionStatus.State"),
            Field(3, "status", "tensorflow.serving.StatusProto"),
        ),
        "GetModelStatusRequest": (Field(1, "model_spec", "tensorflow.serving.ModelSpec"),),
        "GetModelStatusResponse": (
            _many(1, "model_version_status", "tensorflow.serving.ModelVersionStatus"),
        ),
        "PrometheusConfig": (Field(1, "enable", "bool"), Field(2, "path", "string")),
        "MonitoringConfig": (Field(1, "prometheus_config", "tensorflow.serving.PrometheusConfig"),),
    },
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
    entry.field.add(
        name="value",
        number=2,
        type=_Proto.TYPE_MESSAGE,
        type_name=f".{field.kind}",
        label=_Proto.LABEL_OPTIONAL,
    )
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
    for name, fields in _MESSAGES[package].items():
        outer, _, inner = name.rpartition(".")
        # An outer message stands before its inner ones in the table.
        message = messages[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        messages[name] = message
        for field in fields:
            _add_field(message, field, package)
    for name, values in _ENUMS[package].items():
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
