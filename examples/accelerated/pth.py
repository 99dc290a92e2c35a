"""Reads the arrays of a PyTorch state dict (.pth) without PyTorch, and executes nothing of the file.

A .pth file is a pickle, and a pickle may call any function. This reader allows only what a state dict needs.
The format is that of PyTorch before 1.6: pickles of a magic number, a protocol, the system, the dict and the
keys of its storages; then for each storage the number of its elements and their bytes. Newer files are zip
archives, which this reader refuses.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
MAX_BYTES = 2 << 30
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


@dataclass(frozen=True)
class _Storage:
    """A block of numbers that tensors share; its bytes come later in the file."""

    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _View:
    """A tensor: part of a storage, with the steps between its elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows the names of a state dict, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"the file wants {module}.{name}, which no state dict needs")

    def persistent_load(self, value: Any) -> _Storage:
        kind, dtype, key, *_ = value
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("the file refers to something that is no storage")
        return _Storage(str(key), dtype)


def _view(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _View:
    return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays by name, each with its own memory.

    Raises
    ------
    ValueError
        The file is no state dict of the older format, or is damaged.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_BYTES} bytes")
    with path.open("rb") as file:
        try:
            if _Unpickler(file).load() != MAGIC:
                raise ValueError(f"{path.name} is no state dict of the format before PyTorch 1.6")
            _protocol, _system = _Unpickler(file).load(), _Unpickler(file).load()
            views, keys = _Unpickler(file).load(), _Unpickler(file).load()
            tensors = {name: one for name, one in views.items() if isinstance(one, _View)}
            dtypes = {one.storage.key: one.storage.dtype for one in tensors.values()}
            storages = {key: _storage(file, dtypes[key]) for key in keys if key in dtypes}
            return {name: _array(one, storages[one.storage.key]) for name, one in tensors.items()}
        except (pickle.UnpicklingError, AttributeError, EOFError, KeyError, TypeError, struct.error) as error:
            raise ValueError(f"{path.name} cannot be read: {error}") from None


def _storage(file: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    (count,) = struct.unpack("<q", file.read(8))
    data = file.read(count * dtype.itemsize) if count >= 0 else b""
    if len(data) != count * dtype.itemsize:
        raise EOFError("the file is cut off")
    return np.frombuffer(data, dtype)


def _array(view: _View, storage: NDArray[Any]) -> NDArray[Any]:
    """Return a tensor as an array. Its strides count: many tensors are stored transposed."""
    last = view.offset + sum((size - 1) * step for size, step in zip(view.shape, view.strides, strict=True))
    if min((view.offset, *view.shape, *view.strides)) < 0 or (0 not in view.shape and last >= len(storage)):
        raise EOFError("a tensor reaches beyond its storage")
    steps = [step * storage.itemsize for step in view.strides]
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, steps).copy()
