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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from serval_serving.models.protowire import Field, Span, WireError, WireReader

SAVED_MODEL_FILE: Final = "saved_model.pb"
SERVE_TAG: Final = "serve"
DEFAULT_SIGNATURE: Final = "serving_default"
INIT_OP_SIGNATURE: Final = "__saved_model_init_op"
"""TensorFlow 2 keeps its initialiser as a signature of this name; nobody can call it."""
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
"""Types that no tensor of a request to Serval's server or of its reply has; nor those without a name here."""
QUANTIZED: Final = frozenset({"DT_QINT8", "DT_QUINT8", "DT_QINT32", "DT_QINT16", "DT_QUINT16"})
"""Those of them that the predict API carries, and other servers, such as TensorFlow Serving, with it."""
COMPOSITES: Final[Mapping[int, str]] = MappingProxyType({1: "sparse tensor", 3: "ragged tensor"})
"""Kinds of composite tensors that are known by name, by ``TypeSpecProto.TypeSpecClass``."""
COMPOSITE: Final = "composite tensor"
"""What the others are called."""

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

    def obstacle(self, *, quantized: bool) -> str:
        """Say why no request or reply can hold it, after "is"; empty if one can.

        Parameters
        ----------
        quantized:
            Whether the server carries `QUANTIZED` types.
        """
        if self.composite:
            return f"a {self.composite}"
        refused = NOT_CARRIED - QUANTIZED if quantized else NOT_CARRIED
        carried = self.dtype in DTYPE_NAMES.values() and self.dtype not in refused
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

    def obstacle(self, outputs: Iterable[str], *, quantized: bool = False) -> str:
        """Say why these outputs cannot be had, such as "output y is a ragged tensor"; empty if they can.

        Parameters
        ----------
        outputs:
            Aliases of the outputs that a request wants. Every request has all inputs.
        quantized:
            Whether the server carries `QUANTIZED` types.
        """
        wanted = {alias: self.outputs[alias] for alias in outputs}
        for role, tensors in (("input", self.inputs), ("output", wanted)):
            for alias, tensor in tensors.items():
                if words := tensor.obstacle(quantized=quantized):
                    return f"{role} {alias} is {words}"
        return ""

    def closed(self, *, quantized: bool) -> str:
        """Say why no request can be answered; empty if one can, which may want one output alone."""
        reasons = [self.obstacle([alias], quantized=quantized) for alias in self.outputs]
        return (reasons[0] if all(reasons) else "") if reasons else self.obstacle([], quantized=quantized)


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


def check_signatures(signatures: Mapping[str, Signature], *, quantized: bool) -> None:
    """Check that requests can be answered by at least one of a model's signatures.

    Parameters
    ----------
    quantized:
        Whether the server carries `QUANTIZED` types; Serval's own does not.

    Raises
    ------
    ModelInvalid
        If the model has none, or if none can be answered.
    """
    callable_ = {name: one for name, one in signatures.items() if name != INIT_OP_SIGNATURE}
    if not callable_:
        raise ModelInvalid("the model has no signature; export it with one")
    obstacles = {name: one.closed(quantized=quantized) for name, one in callable_.items()}
    if all(obstacles.values()):
        name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in obstacles else next(iter(obstacles))
        raise ModelInvalid(
            f"no signature of the model can be answered: of {name}, {obstacles[name]}, which the predict API"
            " cannot carry; export the model with a signature of plain tensors"
        )


def parse_saved_model(data: bytes | mmap.mmap, tags: Sequence[str] = (SERVE_TAG,)) -> SavedModel:
    """Read a serialised ``SavedModel`` message.

    Raises
    ------
    ModelInvalid
        If the message is damaged, has no graph with these tags, or that graph has no signature that can be
        answered.
    """
    reader = WireReader(data, MAX_FIELDS)
    try:
        graphs = [_graph(reader, reader.message(f)) for f in reader.fields(reader.whole()) if f.number == 2]
    except WireError as error:
        raise ModelInvalid(f"{SAVED_MODEL_FILE} is damaged or no SavedModel: {error}") from error
    return choose_graph(graphs, tags, SAVED_MODEL_FILE)


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


def choose_graph(graphs: Sequence[SavedModel], tags: Sequence[str], file: str) -> SavedModel:
    """Return the graph with exactly these tags, as TensorFlow chooses it.

    Parameters
    ----------
    graphs:
        All graphs of a SavedModel.
    tags:
        All tags of the graph that is wanted.
    file:
        Name of the file, for messages.

    Raises
    ------
    ModelInvalid
        If there is no such graph, or no request can be answered by it.
    """
    if not graphs:
        raise ModelInvalid(f"{file} holds no graph")
    for graph in graphs:
        if set(graph.tags) == set(tags):
            # Which server will load it is not known here.
            check_signatures(graph.signatures, quantized=True)
            return graph
    wanted = " and ".join(f"'{tag}'" for tag in tags)
    found = "; ".join(", ".join(f"'{tag}'" for tag in graph.tags) or "none" for graph in graphs)
    raise ModelInvalid(f"no graph has the tag {wanted} and no other one; tags found: {found}")


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
    return SavedModel(tuple(tags), by_name(signatures))


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
    return Signature(method, by_name(inputs), by_name(outputs))


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
            composite = COMPOSITES[1]
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
    return COMPOSITES.get(kinds[-1] if kinds else 0, COMPOSITE)


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


def by_name(entries: dict[str, _T]) -> Mapping[str, _T]:
    """Return the entries sorted by their names."""
    return MappingProxyType(dict(sorted(entries.items())))
