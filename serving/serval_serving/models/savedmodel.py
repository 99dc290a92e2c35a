"""Reads what a SavedModel says of itself, without TensorFlow.

Only tags and signatures are read; the graph, which may be large, is stepped over. The field numbers are those
of TensorFlow's published messages:

- ``SavedModel``: 1 schema version, 2 repeated ``MetaGraphDef``
- ``MetaGraphDef``: 1 ``MetaInfoDef`` {4 repeated tag}, 5 map of ``SignatureDef``
- ``SignatureDef``: 1 map of inputs, 2 map of outputs, 3 method name
- ``TensorInfo``: 1 name, 2 dtype, 3 ``TensorShapeProto``
- ``TensorShapeProto``: 2 repeated ``Dim`` {1 size}, 3 unknown rank
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from serval_serving.models.protowire import Field, Span, WireError, WireReader

SAVED_MODEL_FILE: Final = "saved_model.pb"
SERVE_TAG: Final = "serve"
DEFAULT_SIGNATURE: Final = "serving_default"
INIT_OP_SIGNATURE: Final = "__saved_model_init_op"
"""TensorFlow 2 keeps its initialiser as a signature of this name; nobody can call it."""
MAX_FILE_BYTES: Final = 2**31 - 1
"""No protocol buffer can be longer."""
MAX_FIELDS: Final = 500_000
"""Fields looked at; a model with a hundred signatures has a few thousand outside its graph."""

DTYPE_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "DT_INVALID",
        1: "DT_FLOAT",
        2: "DT_DOUBLE",
        3: "DT_INT32",
        4: "DT_UINT8",
        5: "DT_INT16",
        6: "DT_INT8",
        7: "DT_STRING",
        8: "DT_COMPLEX64",
        9: "DT_INT64",
        10: "DT_BOOL",
        11: "DT_QINT8",
        12: "DT_QUINT8",
        13: "DT_QINT32",
        14: "DT_BFLOAT16",
        15: "DT_QINT16",
        16: "DT_QUINT16",
        17: "DT_UINT16",
        18: "DT_COMPLEX128",
        19: "DT_HALF",
        20: "DT_RESOURCE",
        21: "DT_VARIANT",
        22: "DT_UINT32",
        23: "DT_UINT64",
    }
)
"""Names of the types of TensorFlow's ``types.proto`` that a signature can carry."""

_T = TypeVar("_T")


class ModelInvalid(Exception):
    """The files are no model that can be served; the text says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a signature.

    Attributes
    ----------
    name:
        Name of the tensor in the graph; empty for a composite tensor.
    dtype:
        TensorFlow's name of the element type, such as ``DT_FLOAT``; ``DT_<number>`` for one not known here.
    shape:
        The dimensions, -1 for one that is open; None where even their number is open.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry point of a model.

    Attributes
    ----------
    method:
        Method name, such as ``tensorflow/serving/predict``.
    inputs, outputs:
        The tensors by alias, sorted by alias.
    """

    method: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class SavedModel:
    """The graph of a SavedModel that carries the wanted tag.

    Attributes
    ----------
    tags:
        All tags of the graph.
    signatures:
        The signatures that can be called, by name, sorted.
    """

    tags: tuple[str, ...]
    signatures: Mapping[str, Signature]


def dtype_name(number: int) -> str:
    """Return TensorFlow's name of an element type, such as ``DT_FLOAT``; ``DT_<number>`` if unknown."""
    return DTYPE_NAMES.get(number, f"DT_{number}")


def read_saved_model(directory: Path, *, tag: str = SERVE_TAG, max_bytes: int = MAX_FILE_BYTES) -> SavedModel:
    """Read the SavedModel in `directory`.

    Parameters
    ----------
    directory:
        The folder that holds ``saved_model.pb``.
    tag:
        The graph that is wanted.
    max_bytes:
        Longest file that is looked at.

    Raises
    ------
    ModelInvalid
        If the file is missing, empty, too long or damaged, has no graph with the tag, or that graph has no
        signature.
    OSError
        If the file cannot be read.
    """
    path = directory / SAVED_MODEL_FILE
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ModelInvalid(f"there is no file {SAVED_MODEL_FILE}") from error
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ModelInvalid(f"{SAVED_MODEL_FILE} is empty")
        if size > max_bytes:
            raise ModelInvalid(f"{SAVED_MODEL_FILE} has {size} bytes; at most {max_bytes} are read")
        # Mapped, not read: the graph is stepped over, so its pages are never touched.
        data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return parse_saved_model(data, tag=tag)


def parse_saved_model(data: bytes | mmap.mmap, *, tag: str = SERVE_TAG) -> SavedModel:
    """Read a serialised ``SavedModel`` message.

    Raises
    ------
    ModelInvalid
        If the message is damaged, has no graph with the tag, or that graph has no signature.
    """
    reader = WireReader(data, MAX_FIELDS)
    try:
        graphs = [_graph(reader, reader.message(f)) for f in reader.fields(reader.whole()) if f.number == 2]
    except WireError as error:
        raise ModelInvalid(f"{SAVED_MODEL_FILE} is damaged or no SavedModel: {error}") from error
    if not graphs:
        raise ModelInvalid(f"{SAVED_MODEL_FILE} holds no graph")
    for graph in graphs:
        if tag in graph.tags:
            if not graph.signatures:
                raise ModelInvalid(f"the graph tagged '{tag}' has no signature; export the model with one")
            return graph
    found = ", ".join(repr(t) for graph in graphs for t in graph.tags) or "none"
    raise ModelInvalid(f"no graph is tagged '{tag}'; tags found: {found}")


def _graph(reader: WireReader, span: Span) -> SavedModel:
    """Read tags and signatures of one ``MetaGraphDef``."""
    tags: list[str] = []
    signatures: dict[str, Signature] = {}
    for field in reader.fields(span):
        if field.number == 1:
            info = reader.fields(reader.message(field))
            tags += [reader.text(inner) for inner in info if inner.number == 4]
        elif field.number == 5:
            name, value = _entry(reader, field)
            signatures[name] = _signature(reader, value)
    signatures.pop(INIT_OP_SIGNATURE, None)
    return SavedModel(tuple(tags), _sorted(signatures))


def _signature(reader: WireReader, span: Span | None) -> Signature:
    """Read one ``SignatureDef``."""
    method = ""
    inputs: dict[str, TensorInfo] = {}
    outputs: dict[str, TensorInfo] = {}
    for field in reader.fields(span) if span else ():
        if field.number in (1, 2):
            alias, value = _entry(reader, field)
            (inputs if field.number == 1 else outputs)[alias] = _tensor(reader, value)
        elif field.number == 3:
            method = reader.text(field)
    return Signature(method, _sorted(inputs), _sorted(outputs))


def _tensor(reader: WireReader, span: Span | None) -> TensorInfo:
    """Read one ``TensorInfo``. Absent fields have their default, as the format says."""
    name, dtype = "", 0
    shape: tuple[int, ...] | None = ()
    for field in reader.fields(span) if span else ():
        if field.number == 1:
            name = reader.text(field)
        elif field.number == 2:
            dtype = reader.integer(field)
        elif field.number == 3:
            shape = _shape(reader, reader.message(field))
    return TensorInfo(name, dtype_name(dtype), shape)


def _shape(reader: WireReader, span: Span) -> tuple[int, ...] | None:
    """Read one ``TensorShapeProto``."""
    dims: list[int] = []
    unknown_rank = False
    for field in reader.fields(span):
        if field.number == 2:
            sizes = [reader.integer(f) for f in reader.fields(reader.message(field)) if f.number == 1]
            dims.append(sizes[-1] if sizes else 0)
        elif field.number == 3:
            unknown_rank = bool(reader.integer(field))
    return None if unknown_rank else tuple(dims)


def _entry(reader: WireReader, field: Field) -> tuple[str, Span | None]:
    """Read one map entry: its key, and where its value lies (None for an empty value)."""
    key = ""
    value: Span | None = None
    for inner in reader.fields(reader.message(field)):
        if inner.number == 1:
            key = reader.text(inner)
        elif inner.number == 2:
            value = reader.message(inner)
    return key, value


def _sorted(entries: dict[str, _T]) -> Mapping[str, _T]:
    return MappingProxyType(dict(sorted(entries.items())))
