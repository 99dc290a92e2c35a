"""Command lines that call a signature, ready to run; only names of features are left to fill in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from serval_contract.ports import PORT_GRPC, PORT_HTTP
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE, Signature, TensorInfo
from serval_serving.wire.dtypes import DataType, codec_of
from serval_serving.wire.errors import TensorError

_STRING: Final = "DT_STRING"
_BYTES: Final = "DT_UINT8"
_BOOL: Final = "DT_BOOL"
_FLOATS: Final = frozenset({"DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16"})
_COMPLEX: Final = frozenset({"DT_COMPLEX64", "DT_COMPLEX128"})
_ZEROS: Final[Mapping[str, list[Any]]] = {
    "bool_val": [False],
    "float_val": [0.0],
    "double_val": [0.0],
    "scomplex_val": [0.0, 0.0],
    "dcomplex_val": [0.0, 0.0],
}
"""A zero in the fields of TensorProto; the others hold integers, `half_val` too."""
_TEXT: Final = "text"
_IMAGE: Final = "'$(base64 -w0 image.jpg)'"
"""Stands in a single-quoted shell word and leaves it for a moment, so that the shell fills in the file."""
_ON_EXAMPLES: Final[Mapping[str, str]] = {
    "tensorflow/serving/classify": "Classify",
    "tensorflow/serving/regress": "Regress",
}
_FEATURE: Final = "FEATURE"
"""Stands for a name that the signature does not tell."""
_EXAMPLE: Final = {"features": {"feature": {_FEATURE: {"float_list": {"value": [0.0]}}}}}
_LONGEST: Final = 4096
"""Characters of a line beyond which nobody would use it: numbers as JSON."""


def examples(key: str, signature: Signature, name: str, host: str, *, is_text: bool = False) -> Iterator[str]:
    """Yield command lines that call a signature.

    Parameters
    ----------
    key, signature:
        The signature and its name.
    name:
        The model's name.
    host:
        Where it is served.
    is_text:
        Whether strings are text, as those of ONNX are; else they may be files.
    """
    http = f"http://{host}:{PORT_HTTP}"
    url = f"{http}/v1/models/{name}"
    message: dict[str, Any] = {"model_spec": {"name": name, "signature_name": key}}
    infos = signature.inputs
    if signature.method in _ON_EXAMPLES:
        call = _ON_EXAMPLES[signature.method]
        body = _chosen(key) | {"examples": [{_FEATURE: 0.0}]}
        yield _sent(body, f"curl -d {{}} {url}:{call.lower()}", "@-")
        message["input"] = {"example_list": {"examples": [_EXAMPLE]}}
    elif all(info.dtype == _STRING or _field(info.dtype) for info in infos.values()):
        call = "Predict"
        if key == DEFAULT_SIGNATURE and len(infos) == 1:
            yield from _scoring(next(iter(infos.values())), http, is_text=is_text)
        yield from _by_rest(key, signature, url, is_text=is_text)
        message["inputs"] = {alias: _tensor(info, is_text=is_text) for alias, info in infos.items()}
    else:
        return
    yield "serval protoset serving.protoset"
    method = f"tensorflow.serving.PredictionService/{call}"
    grpcurl = f"grpcurl -plaintext -protoset serving.protoset -d {{}} {host}:{PORT_GRPC} {method}"
    yield _sent(message, grpcurl, "@")


def _by_rest(key: str, signature: Signature, url: str, *, is_text: bool) -> Iterator[str]:
    """Yield the line for the REST API's predict, where that takes all types and anybody would use it."""
    if any(info.dtype in _COMPLEX for info in signature.inputs.values()):
        return
    line = _sent(_chosen(key) | _values(signature, is_text=is_text), f"curl -d {{}} {url}:predict", "@-")
    if len(line) <= _LONGEST:
        yield line


def _sent(document: Mapping[str, Any], command: str, standard_input: str) -> str:
    """Write the line that sends a document.

    A file goes through a pipe: an argument of a program has at most 128 kB, what a shell's `echo` says may
    be of any length.
    """
    text = json.dumps(document)
    if _IMAGE in text:
        return f"echo '{text}' | {command.format(standard_input)}"
    return command.format(f"'{text}'")


def _chosen(key: str) -> dict[str, Any]:
    """Name the signature, where it must be named."""
    return {} if key == DEFAULT_SIGNATURE else {"signature_name": key}


def _scoring(info: TensorInfo, http: str, *, is_text: bool) -> Iterator[str]:
    """Yield the line that posts a file's bytes, where the input takes such."""
    open_dims = [dim for dim in info.shape or () if dim < 0]
    if info.dtype == _STRING:
        file = "text.txt" if is_text else "image.jpg"
    elif info.dtype == _BYTES and len(open_dims) <= 1:
        file = "image.jpg" if info.shape in {None, (-1,)} else "pixels.raw"
    else:
        return
    yield f"curl --data-binary @{file} {http}/score"


def _values(signature: Signature, *, is_text: bool) -> dict[str, Any]:
    """Return the inputs for the REST API: in rows, or by name where a tensor has no rows."""
    infos = signature.inputs
    if any(info.shape == () for info in (*infos.values(), *signature.outputs.values())):
        return {"inputs": {alias: _rest(info, _shape(info), is_text) for alias, info in infos.items()}}
    row = {alias: _rest(info, _shape(info)[1:], is_text) for alias, info in infos.items()}
    return {"instances": [next(iter(row.values())) if len(row) == 1 else row]}


def _shape(info: TensorInfo) -> tuple[int, ...]:
    """Return the shape of a batch of one, with open dimensions as 1."""
    if info.shape == ():
        return ()
    return (1, *(1 if dim < 0 else dim for dim in (info.shape or ())[1:]))


def _rest(info: TensorInfo, shape: tuple[int, ...], is_text: bool) -> Any:
    """Return an example value of the REST API."""
    if shape:
        return [_rest(info, shape[1:], is_text)] * shape[0]
    if info.dtype == _STRING:
        return _TEXT if is_text else {"b64": _IMAGE}
    if info.dtype == _BOOL:
        return False
    return 0.0 if info.dtype in _FLOATS else 0


def _tensor(info: TensorInfo, *, is_text: bool) -> dict[str, Any]:
    """Return an example TensorProto in JSON. A single value fills the whole shape."""
    content: dict[str, Any] = {
        "dtype": info.dtype,
        "tensor_shape": {"dim": [{"size": dim} for dim in _shape(info)]},
    }
    if info.dtype == _STRING:
        text = base64.b64encode(_TEXT.encode()).decode("ascii")
        return content | {"string_val": [text if is_text else _IMAGE]}
    field = _field(info.dtype)
    return content | {field: _ZEROS.get(field, [0])}


def _field(dtype: str) -> str:
    """Name the field of TensorProto that holds numbers of a type; empty where they cannot be sent."""
    try:
        return codec_of(DataType[dtype]).field
    except (KeyError, TensorError):
        return ""
