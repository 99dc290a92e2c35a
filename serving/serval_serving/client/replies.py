"""What a server says of its models, the same for both protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from serval_serving.client.errors import INTERNAL, ServingError
from serval_serving.models.savedmodel import Signature, TensorInfo, dtype_name
from serval_serving.wire import messages
from serval_serving.wire.status import code_of

_STATES: Final = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
SIGNATURE_DEF: Final = "signature_def"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Which model answers, and how it is called.

    Attributes
    ----------
    name:
        The model's name.
    version:
        The version that answers.
    signatures:
        The signatures, by name.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """State of one version.

    Attributes
    ----------
    version:
        Its number.
    state:
        ``START``, ``LOADING``, ``AVAILABLE``, ``UNLOADING``, ``END`` or ``UNKNOWN``.
    code:
        Name of a gRPC status; ``OK`` unless loading failed.
    message:
        Why it failed.
    """

    version: int
    state: str
    code: str
    message: str


def metadata_of_message(reply: messages.GetModelMetadataResponse) -> ModelMetadata:
    """Read metadata that came by gRPC.

    Raises
    ------
    ServingError
        If the packed signatures are damaged.
    """
    try:
        packed = messages.SignatureDefMap.FromString(reply.metadata[SIGNATURE_DEF].value)
    except DecodeError as error:
        raise ServingError(INTERNAL, "the metadata cannot be read") from error
    definitions = packed.signature_def
    signatures = {
        name: Signature(
            definitions[name].method_name,
            _tensors_of_message(definitions[name].inputs),
            _tensors_of_message(definitions[name].outputs),
        )
        for name in sorted(definitions)
    }
    return ModelMetadata(reply.model_spec.name, reply.model_spec.version.value, signatures)


def status_of_message(reply: messages.GetModelStatusResponse) -> list[VersionStatus]:
    """Read states that came by gRPC."""
    return [
        VersionStatus(
            status.version,
            _STATES.get(status.state, "UNKNOWN"),
            code_of(status.status.error_code).name,
            status.status.error_message,
        )
        for status in reply.model_version_status
    ]


def metadata_of_json(reply: Any) -> ModelMetadata:
    """Read metadata that came by HTTP.

    Raises
    ------
    LookupError, TypeError, ValueError
        If it is not of the REST API's form.
    """
    definitions = reply["metadata"][SIGNATURE_DEF][SIGNATURE_DEF]
    signatures = {
        name: Signature(
            definition.get("method_name", ""),
            _tensors_of_json(definition.get("inputs", {})),
            _tensors_of_json(definition.get("outputs", {})),
        )
        for name, definition in sorted(definitions.items())
    }
    spec = reply["model_spec"]
    return ModelMetadata(spec["name"], int(spec["version"]), signatures)


def status_of_json(reply: Any) -> list[VersionStatus]:
    """Read states that came by HTTP.

    Raises
    ------
    LookupError, TypeError, ValueError
        If it is not of the REST API's form.
    """
    return [
        VersionStatus(
            int(entry["version"]),
            entry["state"],
            entry["status"].get("error_code", "OK"),
            entry["status"].get("error_message", ""),
        )
        for entry in reply["model_version_status"]
    ]


def _tensors_of_message(infos: Mapping[str, messages.TensorInfo]) -> dict[str, TensorInfo]:
    tensors = {}
    for alias in sorted(infos):
        info = infos[alias]
        shape = info.tensor_shape
        dims = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
        tensors[alias] = TensorInfo(info.name, dtype_name(info.dtype), dims)
    return tensors


def _tensors_of_json(infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    tensors = {}
    for alias, info in sorted(infos.items()):
        shape = info.get("tensor_shape", {})
        dims = tuple(int(dim["size"]) for dim in shape.get("dim", ()))
        tensors[alias] = TensorInfo(
            info.get("name", ""), info["dtype"], None if shape.get("unknown_rank") else dims
        )
    return tensors
