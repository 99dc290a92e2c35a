"""TFRecord files: records of any bytes, as TensorFlow reads and writes them.

A record is its length (8 bytes), the masked CRC-32C of that (4), the data, and the masked CRC-32C of the data
(4), all little-endian. The format is described in the documentation of `tf.data.TFRecordDataset`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import grpc
import numpy as np

from serval_serving.wire.status import StatusError

NOT_RECORDS: Final = "{what} in {path}. Please verify your warmup data is in TFRecord format."

_HEADER: Final = struct.Struct("<QI")
_LENGTH: Final = struct.Struct("<Q")
_SUM: Final = struct.Struct("<I")
_POLYNOMIAL: Final = 0x82F63B78
_MASK_DELTA: Final = 0xA282EAD8
_ALL: Final = 0xFFFFFFFF
_LANE: Final = 1024
"""Bytes that one step of numpy takes from each of many places of large data at once."""
_LARGE: Final = 16 * _LANE


def read_records(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the data of each record of a TFRecord file. What is added to it meanwhile is left alone.

    Checksums are not compared: a file that was cut or damaged shows in lengths and messages, and computing
    them in Python takes longer than using the records.

    Raises
    ------
    StatusError
        DATA_LOSS: the file ends within a record.
    """
    size = path.stat().st_size
    while stream.tell() < size and (header := stream.read(_HEADER.size)):
        length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else size
        if stream.tell() + length + _SUM.size > size:
            what = NOT_RECORDS.format(what=f"a record is cut at byte {stream.tell()}", path=path)
            raise StatusError(grpc.StatusCode.DATA_LOSS, what)
        yield stream.read(length)
        stream.read(_SUM.size)


def record(data: bytes) -> bytes:
    """Write one record."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, _masked(length), data, _masked(data)))


def crc32c(data: bytes) -> int:
    """Compute CRC-32C (RFC 3720, appendix B.4).

    Large data is cut into lanes of equal length, which numpy goes through side by side; leading zeros change
    nothing in a register that begins with zero. 1 MB takes about 10 ms, and 100 ms byte by byte.
    """
    if len(data) < _LARGE:
        return _byte_by_byte(data)
    head = bytes(byte ^ 0xFF for byte in data[:4])
    lanes = -(-len(data) // _LANE)
    padded = np.zeros(lanes * _LANE, np.uint8)
    start = padded.size - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] = np.frombuffer(head, np.uint8)
    table = _table()
    register = np.zeros(lanes, np.uint32)
    for column in padded.reshape(lanes, _LANE).T:
        register = table[(register ^ column) & 0xFF] ^ (register >> 8)
    first, second, third, fourth = _lane_of_zeros()
    total = 0
    for lane in register.tolist():
        shifted = first[total & 0xFF] ^ second[total >> 8 & 0xFF] ^ third[total >> 16 & 0xFF]
        total = shifted ^ fourth[total >> 24] ^ lane
    return total ^ _ALL


def _masked(data: bytes) -> bytes:
    """Return the masked checksum, which is one of data that may itself contain checksums."""
    value = crc32c(data)
    return _SUM.pack(((value >> 15 | value << 17) + _MASK_DELTA) & _ALL)


def _byte_by_byte(data: bytes) -> int:
    """Compute CRC-32C of small data."""
    table = _plain_table()
    register = _ALL
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ _ALL


@cache
def _table() -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return what each byte does to the register."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values


@cache
def _plain_table() -> list[int]:
    """Return the same table as numbers of Python, which are faster one at a time."""
    found: list[int] = _table().tolist()
    return found


@cache
def _lane_of_zeros() -> tuple[list[int], ...]:
    """Return what a lane of zeros does to each byte of the register, the lowest first."""
    table = _table()
    register = np.concatenate([np.arange(256, dtype=np.uint32) << shift for shift in (0, 8, 16, 24)])
    for _ in range(_LANE):
        register = table[register & 0xFF] ^ (register >> 8)
    return tuple(part.tolist() for part in register.reshape(4, 256))
