"""Reads the file of a SavedModel, which may be a message in binary or in text form."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_serving.models.savedmodel import (
    COMPOSITE,
    COMPOSITES,
    INIT_OP_SIGNATURE,
    SAVED_MODEL_FILE,
    SERVE_TAG,
    ModelInvalid,
    SavedModel,
    Signature,
    TensorInfo,
    by_name,
    choose_graph,
    dtype_name,
    parse_saved_model,
)
from serval_serving.models.textproto import Message, TextError, Wanted, read_text

SAVED_MODEL_TEXT: Final = "saved_model.pbtxt"
"""A SavedModel in text form. TensorFlow reads it if there is no `SAVED_MODEL_FILE`."""
MAX_FILE_BYTES: Final = 2**31 - 1
"""No protocol buffer can be longer."""
MAX_TEXT_BYTES: Final = 256 * 1024**2
"""Longest SavedModel in text form. Its graph has to be read too, token by token."""
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
        Longest file that is looked at; of one in text form at most `MAX_TEXT_BYTES`.

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
        most = min(max_bytes, MAX_TEXT_BYTES) if is_text else max_bytes
        if size > most:
            raise ModelInvalid(f"{path.name} has {size} bytes; at most {most} are read")
        # Mapped, not read: the graph is stepped over, so its pages are never touched.
        data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return parse_saved_model_text(data, tags) if is_text else parse_saved_model(data, tags)


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
    return choose_graph(graphs, tags, SAVED_MODEL_TEXT)


def _text_graph(graph: Message) -> SavedModel:
    """Read tags and signatures of one ``MetaGraphDef`` in text form."""
    tags = [tag for info in graph.get("meta_info_def", []) for tag in info.get("tags", [])]
    signatures = {}
    for name, value in _text_entries(graph.get("signature_def", [])):
        inputs = {key: _text_tensor(one) for key, one in _text_entries(value.get("inputs", []))}
        outputs = {key: _text_tensor(one) for key, one in _text_entries(value.get("outputs", []))}
        signatures[name] = Signature(value.get("method_name", [""])[-1], by_name(inputs), by_name(outputs))
    signatures.pop(INIT_OP_SIGNATURE, None)
    return SavedModel(tuple(tags), by_name(signatures))


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
    composite = COMPOSITES[1] if "coo_sparse" in info else ""
    for one in info.get("composite_tensor", []):
        kinds = [spec.get("type_spec_class", [""])[-1] for spec in one.get("type_spec", [])]
        composite = COMPOSITES.get(_TEXT_CLASSES.get(kinds[-1] if kinds else "", 0), COMPOSITE)
    name = dtype_name(int(dtype)) if dtype.isdigit() and len(dtype) < 6 else dtype
    return TensorInfo(info.get("name", [""])[-1], name, shape, composite)
