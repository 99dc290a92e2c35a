"""Archives whose headers, not whose files, are larger than a memory."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Mapping

from unit.serving.fetch.builders import tar_of, zipped

RECORDS = 40_000
"""Records of a pax header that has just under a mebibyte."""


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _special(kind: bytes, body: bytes) -> bytes:
    info = tarfile.TarInfo("special")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + _padded(body)


def _file(name: str) -> bytes:
    return tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)


def _records(first: int) -> bytes:
    lines = (f" k{number:07}=v\n" for number in range(first, first + RECORDS))
    return b"".join(f"{len(line) + 2}{line}".encode() for line in lines)


def _sparse_blocks() -> bytes:
    """A sparse file in the old form of GNU, which announces another block of places for ever."""
    info = tarfile.TarInfo("sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return _file("first") + bytes(head) + ((b"%011o\0" % 512) * 42 + b"\1" + bytes(7)) * 60_000


def _sparse_map() -> bytes:
    """A sparse file in the newest form, whose map has two million lines."""
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    body = b"9999999\n" + b"1\n" * 2_000_000
    info.size = len(body)
    return _file("first") + info.tobuf(tarfile.PAX_FORMAT) + _padded(body)


def _global_headers() -> bytes:
    return b"".join(
        _special(tarfile.XGLTYPE, _records(number * RECORDS)) + _file(f"f{number}") for number in range(8)
    )


def _headers_at_the_limit() -> bytes:
    """Three files, each with one header that is just short enough."""
    return b"".join(_special(tarfile.XHDTYPE, _records(0)) + _file(f"f{number}") for number in range(3))


def _many_headers() -> bytes:
    """One file with many headers of its own, each of which is short enough."""
    return _file("first") + _special(tarfile.XHDTYPE, _records(0)) * 20 + _file("f")


def links(count: int) -> bytes:
    """So many links, which layers of an operating system may have and a model may not."""
    info = tarfile.TarInfo("usr/link")
    info.type, info.linkname = tarfile.SYMTYPE, "file"
    return tar_of(*[info] * count)


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "sparse file with endless places": lambda: gzip.compress(_sparse_blocks(), 1),
    "sparse file with a long map": lambda: gzip.compress(_sparse_map(), 1),
    "global headers": lambda: gzip.compress(_global_headers(), 1),
    "many headers of one file": lambda: gzip.compress(_many_headers(), 1),
    "directory of a zip": lambda: zipped({f"{number}": b"" for number in range(60_000)}),
}
ACCEPTED: Mapping[str, Callable[[], bytes]] = {
    "long headers": lambda: gzip.compress(_headers_at_the_limit(), 1),
    "files in a zip": lambda: zipped({f"{number:040}": b"" for number in range(9_000)}),
}
