"""Reads what a SavedModel says of itself, without TensorFlow.

Only tags and signatures are read; the graph, which may be large, is stepped over. The field numbers are those
of TensorFlow's published messages:

- ``SavedModel``: 1 schema version, 2 repeated ``MetaGraphDef``
- ``MetaGraphDef``: 1 ``MetaInfoDef`` {4 repeated tag}, 5 map of ``SignatureDef``
- ``SignatureDef``: 1 map of inputs, 2 map of outputs, 3 method name
- ``TensorInfo``: 1 name, 2 dtype, 3 ``TensorShapeProto``, 4 sparse tensor, 5 composite {1 type {1 class}}
- ``TensorShapeProto``: 2 repeated ``Dim`` {1 size}, 3 unknown rank
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from serval_serving.models.protowire import Field, Span, WireError, WireReader
from serval_serving.models.textproto import Message, TextError, Wanted, read_text

SAVED_MODEL_FILE: Final = "saved_model.pb"
SAVED_MODEL_TEXT: Final = "saved_model.pbtxt"
"""The same message as text. TensorFlow reads it if there is no `SAVED_MODEL_FILE`."""
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

NOT_CARRIED: Final = frozenset(
    {
        "DT_INVALID", "DT_QINT8", "DT_QUINT8", "DT_QINT32", "DT_QINT16", "DT_QUINT16", "DT_RESOURCE",
        "DT_VARIANT",
    }
)  # fmt: skip
"""Types that no tensor of a request or reply can have; nor can those without a name here."""
_COMPOSITES: Final[Mapping[int, str]] = MappingProxyType({1: "sparse tensor", 3: "ragged tensor"})
"""Kinds of composite tensors that are known by name, by ``TypeSpecProto.TypeSpecClass``."""
_COMPOSITE: Final = "composite tensor"
_TEXT_TENSOR: Final[Wanted] = {
    "name": None,
    "dtype": None,
    "tensor_shape": {"dim": {"size": None}, "unknown_rank": None},
    "coo_sparse": {},
    "composite_tensor": {"type_spec": {"type_spec_class": None}},
}
_TEXT_TENSORS: Final[Wanted] = {"key": None, "value": _TEXT_TENSOR}
_TEXT_SIGNATURE: Final[Wanted] = {"inputs": _TEXT_TENSORS, "outputs": _TEXT_TENSORS, "method_name": None}
_TEXT: Final[Wanted] = {
    "meta_graphs": {
        "meta_info_def": {"tags": None},
        "signature_def": {"key": None, "value": _TEXT_SIGNATURE},
    }
}
_TEXT_CLASSES: Final[Mapping[str, int]] = MappingProxyType({"SPARSE_TENSOR_SPEC": 1, "RAGGED_TENSOR_SPEC": 3})

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
    composite:
        Its kind if several tensors make it up, such as "sparse tensor"; empty for a single tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    composite: str = ""

    @property
    def obstacle(self) -> str:
        """Why no request or reply can hold it, after "is"; empty if one can."""
        if self.composite:
            return f"a {self.composite}"
        carried = self.dtype in DTYPE_NAMES.values() and self.dtype not in NOT_CARRIED
        return "" if carried else f"of type {self.dtype}"


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

    @property
    def obstacle(self) -> str:
        """Why it cannot be answered, such as "output y is a ragged tensor"; empty if it can."""
        for role, tensors in (("input", self.inputs), ("output", self.outputs)):
            for alias, tensor in tensors.items():
                if tensor.obstacle:
                    return f"{role} {alias} is {tensor.obstacle}"
        return ""


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


def check_signatures(signatures: Mapping[str, Signature]) -> None:
    """Check that requests can be answered by at least one of a model's signatures.

    Raises
    ------
    ModelInvalid
        If the model has none, or if none can be answered.
    """
    callable_ = {name: one for name, one in signatures.items() if name != INIT_OP_SIGNATURE}
    if not callable_:
        raise ModelInvalid("the model has no signature; export it with one")
    obstacles = {name: one.obstacle for name, one in callable_.items()}
    if all(obstacles.values()):
        name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in obstacles else next(iter(obstacles))
        raise ModelInvalid(
            f"no signature of the model can be answered: of {name}, {obstacles[name]}, which the predict API"
            " cannot carry; export the model with a signature of plain tensors"
        )


def read_saved_model(
    directory: Path, *, tags: Sequence[str] = (SERVE_TAG,), max_bytes: int = MAX_FILE_BYTES
) -> SavedModel:
    """Read the SavedModel in `directory`.

    Parameters
    ----------
    directory:
        The folder that holds ``saved_model.pb``, or else ``saved_model.pbtxt``.
    tags:
        All tags of the graph that is wanted.
    max_bytes:
        Longest file that is looked at.

    Raises
    ------
    ModelInvalid
        If the file is missing, empty, too long or damaged, has no graph with these tags, or that graph has no
        signature that can be answered.
    OSError
        If the file cannot be read.
    """
    is_text = not (directory / SAVED_MODEL_FILE).exists() and (directory / SAVED_MODEL_TEXT).is_file()
    path = directory / (SAVED_MODEL_TEXT if is_text else SAVED_MODEL_FILE)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ModelInvalid(f"there is no file {path.name}") from error
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ModelInvalid(f"{path.name} is empty")
        if size > max_bytes:
            raise ModelInvalid(f"{path.name} has {size} bytes; at most {max_bytes} are read")
        # Mapped, not read: the graph is stepped over, so its pages are never touched.
        data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return parse_saved_model_text(data, tags) if is_text else parse_saved_model(data, tags)


def parse_saved_model(data: bytes | mmap.mmap, tags: Sequence[str] = (SERVE_TAG,)) -> SavedModel:
    """Read a serialised ``SavedModel`` message.

    Raises
    ------
    ModelInvalid
        As `read_saved_model`, but for files.
    """
    reader = WireReader(data, MAX_FIELDS)
    try:
        graphs = [_graph(reader, reader.message(f)) for f in reader.fields(reader.whole()) if f.number == 2]
    except WireError as error:
        raise ModelInvalid(f"{SAVED_MODEL_FILE} is damaged or no SavedModel: {error}") from error
    return _chosen(graphs, tags, SAVED_MODEL_FILE)


def parse_saved_model_text(data: bytes | mmap.mmap, tags: Sequence[str] = (SERVE_TAG,)) -> SavedModel:
    """Read a ``SavedModel`` message in text form.

    Raises
    ------
    ModelInvalid
        As `parse_saved_model`.
    """
    try:
        graphs = [_text_graph(one) for one in read_text(data, _TEXT).get("meta_graphs", [])]
    except (TextError, AttributeError) as error:
        words = error if isinstance(error, TextError) else "a message is expected where a value is"
        raise ModelInvalid(f"{SAVED_MODEL_TEXT} is damaged or no SavedModel: {words}") from error
    return _chosen(graphs, tags, SAVED_MODEL_TEXT)


def parse_signature(data: bytes) -> Signature:
    """Read a serialised ``SignatureDef`` message.

    Raises
    ------
    ModelInvalid
        If the message is damaged.
    """
    reader = WireReader(data, MAX_FIELDS)
    try:
        return _signature(reader, reader.whole())
    except WireError as error:
        raise ModelInvalid(f"a signature is damaged: {error}") from error


def _chosen(graphs: Sequence[SavedModel], tags: Sequence[str], file: str) -> SavedModel:
    """Return the graph with exactly these tags, as TensorFlow chooses it, checked."""
    if not graphs:
        raise ModelInvalid(f"{file} holds no graph")
    for graph in graphs:
        if set(graph.tags) == set(tags):
            check_signatures(graph.signatures)
            return graph
    wanted = " and ".join(f"'{tag}'" for tag in tags)
    found = "; ".join(", ".join(f"'{tag}'" for tag in graph.tags) or "none" for graph in graphs)
    raise ModelInvalid(f"no graph has the tag {wanted} and no other one; tags found: {found}")


def _text_graph(graph: Message) -> SavedModel:
    """Read tags and signatures of one ``MetaGraphDef`` in text form."""
    tags = [tag for info in graph.get("meta_info_def", []) for tag in info.get("tags", [])]
    signatures = {}
    for name, value in _text_entries(graph.get("signature_def", [])):
        inputs = {key: _text_tensor(one) for key, one in _text_entries(value.get("inputs", []))}
        outputs = {key: _text_tensor(one) for key, one in _text_entries(value.get("outputs", []))}
        signatures[name] = Signature(value.get("method_name", [""])[-1], _sorted(inputs), _sorted(outputs))
    signatures.pop(INIT_OP_SIGNATURE, None)
    return SavedModel(tuple(tags), _sorted(signatures))


def _text_entries(entries: Sequence[Message]) -> Iterator[tuple[str, Message]]:
    """Yield keys and values of a map in text form."""
    for entry in entries:
        yield entry.get("key", [""])[-1], entry.get("value", [{}])[-1]


def _text_tensor(info: Message) -> TensorInfo:
    """Read one ``TensorInfo`` in text form."""
    dtype = info.get("dtype", ["DT_INVALID"])[-1]
    shape: tuple[int, ...] | None = ()
    for one in info.get("tensor_shape", []):
        sizes = [dim.get("size", ["0"])[-1] for dim in one.get("dim", [])]
        try:
            known = tuple(int(size) for size in sizes)
        except ValueError as error:
            raise TextError("the size of a dimension is no number") from error
        shape = None if one.get("unknown_rank", ["false"])[-1] in ("true", "True", "t", "1") else known
    composite = _COMPOSITES[1] if "coo_sparse" in info else ""
    for one in info.get("composite_tensor", []):
        kinds = [spec.get("type_spec_class", [""])[-1] for spec in one.get("type_spec", [])]
        composite = _COMPOSITES.get(_TEXT_CLASSES.get(kinds[-1] if kinds else "", 0), _COMPOSITE)
    name = dtype_name(int(dtype)) if dtype.isdigit() and len(dtype) < 6 else dtype
    return TensorInfo(info.get("name", [""])[-1], name, shape, composite)


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
    name, dtype, composite = "", 0, ""
    shape: tuple[int, ...] | None = ()
    for field in reader.fields(span) if span else ():
        if field.number == 1:
            name = reader.text(field)
        elif field.number == 2:
            dtype = reader.integer(field)
        elif field.number == 3:
            shape = _shape(reader, reader.message(field))
        elif field.number == 4:
            composite = _COMPOSITES[1]
        elif field.number == 5:
            composite = _composite(reader, reader.message(field))
    return TensorInfo(name, dtype_name(dtype), shape, composite)


def _composite(reader: WireReader, span: Span) -> str:
    """Say what one ``CompositeTensor`` is."""
    kinds = [
        reader.integer(inner)
        for field in reader.fields(span)
        if field.number == 1
        for inner in reader.fields(reader.message(field))
        if inner.number == 1
    ]
    return _COMPOSITES.get(kinds[-1] if kinds else 0, _COMPOSITE)


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
