"""Reads what an ONNX model says of itself, without the onnx package and without ONNX Runtime.

The file is mapped and its weights are stepped over, so that gigabytes cost no memory. What is read are
inputs, outputs, versions, and the names of the files beside the model that hold weights. The field numbers
are those of ONNX's published messages (onnx.proto):

- ``ModelProto``: 1 IR version, 2 producer, 7 graph, 8 repeated ``OperatorSetIdProto`` {1 domain, 2 version},
  25 repeated ``FunctionProto`` {7 repeated node}
- ``GraphProto``: 1 repeated node, 5 repeated initializer, 11 and 12 repeated ``ValueInfoProto`` of inputs and
  outputs, 15 repeated sparse initializer {1 values, 2 indices}
- ``NodeProto``: 5 repeated ``AttributeProto`` {5 and 10 tensors, 6 and 11 graphs, 20 type, 22 and 23 sparse}
- ``TensorProto``: 8 name, 13 repeated external data {1 key, 2 value}, 14 where the data are
- ``ValueInfoProto``: 1 name, 2 ``TypeProto`` {1 tensor {1 element type, 2 shape}, others: no tensor}
- ``TensorShapeProto``: 1 repeated dimension {1 size, 2 symbol}
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_serving.models.protowire import Field, Span, WireError, WireReader
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE, ModelInvalid, Signature, TensorInfo

ONNX_FILE: Final = "model.onnx"
ONNX_SUFFIX: Final = ".onnx"
PREDICT_METHOD: Final = "tensorflow/serving/predict"
MAX_FILE_BYTES: Final = 2**31 - 1
"""No protocol buffer can be longer; larger models keep their weights in files beside them."""
MAX_FIELDS: Final = 5_000_000
"""Fields looked at; a model with ten thousand nodes has some 200,000 outside its weights."""
MAX_DEPTH: Final = 64
"""Graphs inside the nodes of graphs, as of conditions and loops."""

_EXTERNAL: Final = 1
_SHOWN: Final = 5
_UNTYPED: Final = "DT_INVALID"
_DTYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: _UNTYPED,
        1: "DT_FLOAT",
        2: "DT_UINT8",
        3: "DT_INT8",
        4: "DT_UINT16",
        5: "DT_INT16",
        6: "DT_INT32",
        7: "DT_INT64",
        8: "DT_STRING",
        9: "DT_BOOL",
        10: "DT_HALF",
        11: "DT_DOUBLE",
        12: "DT_UINT32",
        13: "DT_UINT64",
    }
)
"""TensorFlow's name of each element type that it has too, and that ONNX Runtime exchanges with callers."""
_NOT_EXCHANGED: Final[Mapping[int, str]] = MappingProxyType(
    {
        14: "complex64, which ONNX Runtime has no tensors of",
        15: "complex128, which ONNX Runtime has no tensors of",
        16: "bfloat16, which only weights can be; cast it to float",
    }
)
_KINDS: Final[Mapping[int, str]] = MappingProxyType(
    {4: "sequence", 5: "map", 7: "opaque value", 8: "sparse tensor", 9: "optional value"}
)
"""What a value is that is no tensor, by field of ``TypeProto``."""
_NUMBERS_OR_STRINGS: Final = tuple(bytes((0xA0, 0x01, kind)) for kind in (1, 2, 3, 6, 7, 8))
"""How an attribute ends, which is written in the order of its fields, that says of itself (field 20) to hold
no tensor and no graph. Trees of scikit-learn have millions of numbers in such attributes, one field each."""


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX model.

    Attributes
    ----------
    ir_version:
        Version of the file format.
    opset:
        Version of the standard operators; 0 where the model uses none of them.
    producer:
        The program that wrote it; may be empty.
    data_files:
        Files below the model's folder that hold weights, sorted, as the model names them, with the number of
        bytes that each must have.
    signatures:
        The only one, under the name of the default signature; tensors have their names in the model.
    """

    ir_version: int
    opset: int
    producer: str
    data_files: Mapping[str, int]
    signatures: Mapping[str, Signature]


@dataclass(slots=True)
class _Found:
    """What was met on the way through a model."""

    ir_version: int = 0
    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    graphs: int = 0
    initializers: set[str] = field(default_factory=set)
    inputs: dict[str, Span | None] = field(default_factory=dict)
    outputs: dict[str, Span | None] = field(default_factory=dict)
    data_files: dict[str, int] = field(default_factory=dict)


def choose_onnx_file(names: Iterable[str]) -> str | None:
    """Choose the model among the files of a version: ``model.onnx``, or the only ``*.onnx``; None without.

    Raises
    ------
    ModelInvalid
        If there are several and none has that name.
    """
    found = sorted(name for name in names if name.endswith(ONNX_SUFFIX) and not name.startswith("."))
    if ONNX_FILE in found:
        return ONNX_FILE
    if len(found) > 1:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        listed = ", ".join(found[:_SHOWN])
        raise ModelInvalid(f"there are several ONNX files and none is named {ONNX_FILE}: {listed}{more}")
    return found[0] if found else None


def onnx_file(directory: Path) -> Path | None:
    """Find the model in a version's folder; None where it holds none.

    Raises
    ------
    ModelInvalid
        If it is not clear which file is the model.
    OSError
        If the folder cannot be read.
    """
    name = choose_onnx_file(path.name for path in directory.iterdir() if path.is_file())
    return None if name is None else directory / name


def read_onnx_signature(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> OnnxModel:
    """Read an ONNX model and look for the files that it names.

    Parameters
    ----------
    path:
        The file, or the folder that holds it.
    max_bytes:
        Longest file that is looked at.

    Raises
    ------
    ModelInvalid
        If the file is missing, empty, too long, damaged or no ONNX model, takes or gives what is no tensor,
        or names a data file that is missing, too short or outside the model's folder.
    OSError
        If the file cannot be read.
    """
    if path.is_dir():
        path = onnx_file(path) or path / ONNX_FILE
    with ExitStack() as stack:
        if not path.is_file():
            raise ModelInvalid(f"there is no file {path.name}")
        file = stack.enter_context(path.open("rb"))
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ModelInvalid(f"{path.name} is empty")
        if size > max_bytes:
            raise ModelInvalid(
                f"{path.name} has {size} bytes; at most {max_bytes} are read."
                " Keep the weights in external data"
            )
        data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        model = parse_onnx(data, path.name)
    _check_data_files(path, model.data_files)
    return model


def parse_onnx(data: bytes | mmap.mmap, name: str = ONNX_FILE) -> OnnxModel:
    """Read a serialised ``ModelProto``; the files that it names are not looked for.

    Parameters
    ----------
    data:
        The message.
    name:
        What error texts call it.

    Raises
    ------
    ModelInvalid
        As `read_onnx_signature`, but for files.
    """
    reader = WireReader(data, MAX_FIELDS)
    found = _Found()
    try:
        _walk_model(reader, found)
        if not found.ir_version or not found.graphs:
            lacks = "no version of its format" if not found.ir_version else "no graph"
            raise ModelInvalid(f"{name} is damaged or no ONNX model: it has {lacks}")
        if not found.opsets:
            raise ModelInvalid(f"{name} does not say which version of the operators it uses")
        given = {name: span for name, span in found.inputs.items() if name not in found.initializers}
        inputs, outputs = _tensors(reader, "input", given), _tensors(reader, "output", found.outputs)
    except WireError as error:
        raise ModelInvalid(f"{name} is damaged or no ONNX model: {error}") from error
    untyped = [name for name, info in inputs.items() if info.dtype == _UNTYPED]
    if untyped:
        raise ModelInvalid(f"input {untyped[0]} has no type")
    if not outputs:
        raise ModelInvalid(f"{name} has no output")
    signatures = MappingProxyType({DEFAULT_SIGNATURE: Signature(PREDICT_METHOD, inputs, outputs)})
    opset, files = found.opsets.get("", 0), MappingProxyType(dict(sorted(found.data_files.items())))
    return OnnxModel(found.ir_version, opset, found.producer, files, signatures)


def _walk_model(reader: WireReader, found: _Found) -> None:
    """Visit the whole model."""
    for part in reader.fields(reader.whole()):
        if part.number == 1:
            found.ir_version = reader.integer(part)
        elif part.number == 2:
            found.producer = reader.text(part)
        elif part.number == 7:
            found.graphs += 1
            _walk_graph(reader, reader.message(part), found, 0)
        elif part.number == 8:
            _note_opset(reader, part, found)
        elif part.number == 25:
            for inner in reader.fields(reader.message(part)):
                if inner.number == 7:
                    _walk_node(reader, reader.message(inner), found, 1)


def _note_opset(reader: WireReader, part: Field, found: _Found) -> None:
    """Read one ``OperatorSetIdProto``. The standard operators have two names."""
    domain, version = "", 0
    for inner in reader.fields(reader.message(part)):
        if inner.number == 1:
            domain = reader.text(inner)
        elif inner.number == 2:
            version = reader.integer(inner)
    found.opsets["" if domain == "ai.onnx" else domain] = version


def _walk_graph(reader: WireReader, span: Span, found: _Found, depth: int) -> None:
    """Visit one graph; inputs and outputs count of the outermost only."""
    if depth > MAX_DEPTH:
        raise WireError(f"graphs are nested more than {MAX_DEPTH} deep")
    for part in reader.fields(span):
        if part.number == 1:
            _walk_node(reader, reader.message(part), found, depth + 1)
        elif part.number in (5, 15):
            tensor = _walk_tensor if part.number == 5 else _walk_sparse_tensor
            name = tensor(reader, reader.message(part), found)
            if depth == 0:
                found.initializers.add(name)
        elif part.number in (11, 12) and depth == 0:
            name, kind = _value_info(reader, reader.message(part))
            (found.inputs if part.number == 11 else found.outputs)[name] = kind


def _walk_node(reader: WireReader, span: Span, found: _Found, depth: int) -> None:
    """Visit the tensors and graphs in the attributes of one node."""
    for part in reader.fields(span):
        if part.number != 5:
            continue
        attribute = reader.message(part)
        if any(reader.ends_with(attribute, tail) for tail in _NUMBERS_OR_STRINGS):
            continue
        for inner in reader.fields(attribute):
            if inner.number in (5, 10):
                _walk_tensor(reader, reader.message(inner), found)
            elif inner.number in (22, 23):
                _walk_sparse_tensor(reader, reader.message(inner), found)
            elif inner.number in (6, 11):
                _walk_graph(reader, reader.message(inner), found, depth)


def _walk_sparse_tensor(reader: WireReader, span: Span, found: _Found) -> str:
    """Visit one ``SparseTensorProto`` and return its name, which is that of its values."""
    name = ""
    for part in reader.fields(span):
        if part.number in (1, 2):
            inner = _walk_tensor(reader, reader.message(part), found)
            name = inner if part.number == 1 else name
    return name


def _walk_tensor(reader: WireReader, span: Span, found: _Found) -> str:
    """Visit one ``TensorProto`` and return its name; note the file that holds its data, if one does."""
    name, place = "", 0
    entries: dict[str, str] = {}
    for part in reader.fields(span):
        if part.number == 8:
            name = reader.text(part)
        elif part.number == 13:
            pair = {inner.number: reader.text(inner) for inner in reader.fields(reader.message(part))}
            entries[pair.get(1, "")] = pair.get(2, "")
        elif part.number == 14:
            place = reader.integer(part)
    if place == _EXTERNAL:
        location = entries.get("location", "")
        needed = _natural(entries.get("offset", "0")) + _natural(entries.get("length", "0"))
        if not location:
            raise ModelInvalid(f"tensor {name} does not say where its data are")
        found.data_files[location] = max(needed, found.data_files.get(location, 0))
    return name


def _natural(text: str) -> int:
    """Read a number of bytes."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise WireError(f"{text[:20]!r} is no number of bytes")
    return int(text)


def _value_info(reader: WireReader, span: Span) -> tuple[str, Span | None]:
    """Read one ``ValueInfoProto``: its name, and where its type is described."""
    name, kind = "", None
    for part in reader.fields(span):
        if part.number == 1:
            name = reader.text(part)
        elif part.number == 2:
            kind = reader.message(part)
    return name, kind


def _tensors(reader: WireReader, role: str, spans: Mapping[str, Span | None]) -> Mapping[str, TensorInfo]:
    """Read the types of all inputs or outputs, sorted by name."""
    return MappingProxyType({name: _tensor(reader, role, name, spans[name]) for name in sorted(spans)})


def _tensor(reader: WireReader, role: str, name: str, span: Span | None) -> TensorInfo:
    """Read one ``TypeProto``. Outputs may come without a type; then nothing is known of them."""
    element = 0
    shape: tuple[int, ...] | None = None
    for part in reader.fields(span) if span else ():
        if part.number in _KINDS:
            raise ModelInvalid(
                f"{role} {name} is a {_KINDS[part.number]}, and only tensors can be served; converters have"
                " options for it, such as zipmap=False for classifiers of scikit-learn"
            )
        if part.number == 1:
            for inner in reader.fields(reader.message(part)):
                if inner.number == 1:
                    element = reader.integer(inner)
                elif inner.number == 2:
                    shape = _shape(reader, reader.message(inner))
    if element in _NOT_EXCHANGED:
        raise ModelInvalid(f"{role} {name} is {_NOT_EXCHANGED[element]}")
    if element not in _DTYPES:
        raise ModelInvalid(
            f"{role} {name} has ONNX's element type {element}, which the predict API cannot carry"
        )
    return TensorInfo(name, _DTYPES[element], shape)


def _shape(reader: WireReader, span: Span) -> tuple[int, ...]:
    """Read one ``TensorShapeProto``: -1 for a dimension with a symbol or without a size."""
    dims = []
    for part in reader.fields(span):
        if part.number == 1:
            inner = list(reader.fields(reader.message(part)))
            sizes = [reader.integer(one) for one in inner if one.number == 1]
            dims.append(max(sizes[-1], -1) if sizes else -1)
    return tuple(dims)


def _check_data_files(model: Path, needed: Mapping[str, int]) -> None:
    """Look for the files that the file `model` names: below its folder, links followed, and long enough.

    If `model` is a link, as in a folder of links into an image, its data may be beside the file that it leads
    to. ONNX Runtime has the same rule.
    """
    folder = model.parent
    bounds = (folder.resolve(), model.resolve().parent)
    for location, size in needed.items():
        path = folder / location
        if Path(location).is_absolute() or ".." in path.parts[len(folder.parts) :]:
            raise ModelInvalid(f"data file {location} lies outside the model's folder")
        try:
            found = path.stat()
        except (OSError, ValueError) as error:
            # ValueError: a name that no file system takes.
            raise ModelInvalid(f"data file {location} is missing") from error
        if not stat.S_ISREG(found.st_mode):
            raise ModelInvalid(f"data file {location} is no file")
        real = path.resolve()
        if not any(real.is_relative_to(one) for one in bounds):
            raise ModelInvalid(f"data file {location} leads outside the model's folder")
        if found.st_size < size:
            raise ModelInvalid(f"data file {location} has {found.st_size} bytes; the model needs {size}")
