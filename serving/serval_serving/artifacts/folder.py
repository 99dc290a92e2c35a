"""Reads the files of an artifact's folder, which an untrusted program may have written.

The program that reads the folder may also hold a credential, in another file. So no link is followed, at no
level: each name is opened relative to the folder above it, which is open already.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from serval_serving.artifacts.errors import ArtifactFailure, artifact_invalid, artifact_too_large
from serval_serving.fetch.progress import human
from serval_serving.fetch.safety.safe_paths import MAX_DEPTH, shown

DEFAULT_MAX_BYTES: Final = 4 << 30
DEFAULT_MAX_ENTRIES: Final = 1000
CHUNK_BYTES: Final = 1 << 18
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Limits:
    """What a folder may have.

    Attributes
    ----------
    max_bytes:
        Of all files together.
    max_entries:
        Files and folders.
    """

    max_bytes: int = DEFAULT_MAX_BYTES
    max_entries: int = DEFAULT_MAX_ENTRIES


@dataclass(frozen=True, slots=True)
class File:
    """A file that goes into a layer.

    Attributes
    ----------
    name:
        Relative path, with ``/``.
    size:
        Bytes.
    chunks:
        Reads it from the start; may be called more than once.
    """

    name: str
    size: int
    chunks: Callable[[], Iterator[bytes]]


def bytes_file(name: str, data: bytes) -> File:
    """Return a file whose content is in memory."""
    return File(name, len(data), lambda: iter((data,)))


def read_folder(root: Path, limits: Limits) -> list[File]:
    """Return the files below `root`, sorted by name.

    Raises
    ------
    ArtifactFailure
        ``ArtifactInvalid`` if there is no such folder or it has links, devices, or names that cannot be
        shown; ``ArtifactTooLarge`` above the limits.
    """
    files: list[File] = []
    for count, (name, status) in enumerate(_entries(root), 1):
        if count > limits.max_entries:
            raise artifact_too_large(f"the artifact has more than the {limits.max_entries} entries allowed")
        if not stat.S_ISDIR(status.st_mode):
            files.append(File(name, status.st_size, _reader(root, name, status)))
    total = sum(file.size for file in files)
    if total > limits.max_bytes:
        raise artifact_too_large(
            f"the artifact has {human(total)}; at most {human(limits.max_bytes)} are allowed"
        )
    return sorted(files, key=lambda file: file.name)


def _entries(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file and folder below `root`, checked, with its relative path."""
    with _opened(root) as top:
        if not stat.S_ISDIR(os.fstat(top).st_mode):
            raise artifact_invalid(f"{root} is no folder")
        yield from _below(top, PurePosixPath())


def _below(folder: int, path: PurePosixPath) -> Iterator[tuple[str, os.stat_result]]:
    if len(path.parts) > MAX_DEPTH:
        raise artifact_invalid(f"{shown(str(path))} lies more than {MAX_DEPTH} folders deep")
    with os.scandir(folder) as found:
        for entry in found:
            inside = path / entry.name
            if not entry.name.isprintable() or "\\" in entry.name:
                raise artifact_invalid(f"{shown(str(inside))} has characters that no name may have")
            status = entry.stat(follow_symlinks=False)
            _check(status, str(inside))
            yield str(inside), status
            if stat.S_ISDIR(status.st_mode):
                with _opened(entry.name, folder) as inner:
                    yield from _below(inner, inside)


def _check(status: os.stat_result, name: str) -> None:
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise artifact_invalid(f"{shown(name)} is a symbolic link, which an artifact must not have")
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise artifact_invalid(f"{shown(name)} is a device, pipe or socket, no plain file or folder")
    if stat.S_ISREG(mode) and status.st_nlink > 1:
        raise artifact_invalid(f"{shown(name)} is a hard link, which an artifact must not have")


def _reader(root: Path, name: str, seen: os.stat_result) -> Callable[[], Iterator[bytes]]:
    """Return what reads a file, and fails if it is no longer the one that was seen."""

    def read() -> Iterator[bytes]:
        with _opened_below(root, PurePosixPath(name)) as descriptor:
            status = os.fstat(descriptor)
            _check(status, name)
            left = seen.st_size
            if (status.st_size, status.st_ino, status.st_dev) != (left, seen.st_ino, seen.st_dev):
                raise artifact_invalid(f"{shown(name)} changed while it was read")
            while left:
                chunk = os.read(descriptor, min(CHUNK_BYTES, left))
                if not chunk:
                    raise artifact_invalid(f"{shown(name)} changed while it was read")
                left -= len(chunk)
                yield chunk

    return read


@contextmanager
def _opened_below(root: Path, name: PurePosixPath) -> Iterator[int]:
    """Open a file step by step, so that no folder on the way is a link."""
    with _opened(root) as top:
        folder = os.dup(top)
        try:
            for part in name.parent.parts:
                with _opened(part, folder) as inner:
                    os.close(folder)
                    folder = os.dup(inner)
            with _opened(name.name, folder) as file:
                yield file
        finally:
            os.close(folder)


@contextmanager
def _opened(path: Path | str, folder: int | None = None) -> Iterator[int]:
    try:
        descriptor = os.open(path, _READ, dir_fd=folder)
    except OSError as error:
        raise _refused(error, str(path)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refused(error: OSError, name: str) -> ArtifactFailure:
    if error.errno == errno.ELOOP:
        return artifact_invalid(f"{shown(name)} is a symbolic link, which an artifact must not have")
    return artifact_invalid(f"{shown(name)} cannot be read: {error.strerror}")
