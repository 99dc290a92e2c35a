"""Layers of images: a tar that is the same, byte for byte, for the same files.

Nothing of the machine goes into it: names are sorted, times and owners are 0, modes are fixed. A layer is
made again each time that it is read, so that it takes room neither in memory nor on a disk. gzip is optional:
its bytes depend on the version of zlib, and weights of eight bits shrink little.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from serval_serving.artifacts.folder import File

TAR: Final = "application/vnd.oci.image.layer.v1.tar"
GZIP: Final = f"{TAR}+gzip"
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755
_GZIP_WINDOW: Final = 31
"""Of zlib: the largest window, with a gzip header; zlib writes no time and no name into it."""

Chunks = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Blob:
    """Something that a registry stores under its digest.

    Attributes
    ----------
    media_type:
        As the manifest says it.
    digest:
        ``sha256:<hex>`` of its bytes.
    size:
        Bytes.
    chunks:
        Makes its bytes; may be called more than once.
    annotations:
        Of its entry in the manifest.
    """

    media_type: str
    digest: str
    size: int
    chunks: Chunks
    annotations: Mapping[str, str] = field(default_factory=dict)

    def descriptor(self) -> dict[str, Any]:
        """Return its entry in a manifest."""
        entry: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**entry, "annotations": dict(self.annotations)} if self.annotations else entry


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer.

    Attributes
    ----------
    blob:
        What is stored.
    diff_id:
        ``sha256:<hex>`` of the tar, without compression.
    made_by:
        For the image's history.
    """

    blob: Blob
    diff_id: str
    made_by: str


def bytes_blob(media_type: str, data: bytes) -> Blob:
    """Return a blob whose bytes are in memory."""
    return Blob(media_type, sha256_of((data,))[0], len(data), lambda: iter((data,)))


def make_layer(
    files: Sequence[File],
    *,
    below: str = "",
    compress: bool = False,
    made_by: str = "serval",
    annotations: Mapping[str, str] | None = None,
) -> Layer:
    """Make a layer of files, which are read once here and once more for each use.

    Parameters
    ----------
    files:
        In any order; no name twice.
    below:
        Folder of the image that they go to, without a slash at either end; empty for the root.
    compress:
        Whether to compress it by gzip.
    made_by:
        For the image's history.
    annotations:
        Of the layer's entry in the manifest.
    """
    placed = {str(PurePosixPath(below, file.name)): file for file in files}

    def plain() -> Iterator[bytes]:
        return _tar(placed)

    diff_id, size = sha256_of(plain())
    digest = diff_id
    chunks: Chunks = plain
    if compress:

        def packed() -> Iterator[bytes]:
            return _gzip(plain())

        chunks = packed
        digest, size = sha256_of(packed())
    blob = Blob(GZIP if compress else TAR, digest, size, chunks, dict(annotations or {}))
    return Layer(blob, diff_id, made_by)


def sha256_of(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the digest, as ``sha256:<hex>``, and the number of bytes."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return f"sha256:{digest.hexdigest()}", size


def _tar(placed: dict[str, File]) -> Iterator[bytes]:
    folders = {str(parent) for name in placed for parent in PurePosixPath(name).parents} - {"."}
    written = 0
    for name in sorted({*placed, *folders}):
        file = placed.get(name)
        head = _header(name, file)
        yield head
        written += len(head)
        if file is not None:
            yield from file.chunks()
            padding = -file.size % tarfile.BLOCKSIZE
            yield bytes(padding)
            written += file.size + padding
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def _header(name: str, file: File | None) -> bytes:
    info = tarfile.TarInfo(name)
    info.mode = _FOLDER_MODE if file is None else _FILE_MODE
    info.type = tarfile.DIRTYPE if file is None else tarfile.REGTYPE
    info.size = 0 if file is None else file.size
    return info.tobuf(tarfile.PAX_FORMAT)


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=_GZIP_WINDOW)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()
