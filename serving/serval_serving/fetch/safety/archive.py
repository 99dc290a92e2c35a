"""Unpacks an archive that nobody vouches for.

Only plain files and folders come out, each inside the destination. The archive's own word is trusted nowhere:
what is counted is what is written. The libraries only read: `tarfile` itself extracts nothing, as its safety
filters are missing from early releases of Python 3.11, such as Debian 12's.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from backports import zstd

from serval_serving.fetch.errors import from_os_error, rejected
from serval_serving.fetch.progress import Deadline, Progress, human
from serval_serving.fetch.safety.limits import Budget
from serval_serving.fetch.safety.safe_paths import place, shown

MAX_RATIO: Final = 200
"""Bytes out per byte in. Deflate reaches 1032 on zeros; trained weights hardly shrink."""
RATIO_FLOOR_BYTES: Final = 64 << 20
"""The ratio is not judged below this size: a small model of zeros is harmless."""
SKIPPED_RATIO: Final = 1100
"""Bytes of skipped entries per byte in. Deflate cannot reach it: layers have sparse files as lastlog."""
SKIPPED_FLOOR_BYTES: Final = 16 << 30
"""That ratio is not judged below this size. To unpack it takes a minute or less."""
MAX_HEADER_BYTES: Final = 1 << 20
"""Most bytes that the headers of one entry may have together. Parsed, they take up to 20 times the memory."""
MAX_GLOBAL_BYTES: Final = 1 << 16
"""Most characters of a tar's global headers, which the library keeps. `git archive` writes one of 52."""
ZIP_DIRECTORY_BYTES: Final = 256
"""Room in a zip's directory for each entry that is allowed, on average: 46 bytes and its name."""
_COPY_BYTES: Final = 1 << 18
_STEP_BYTES: Final = 64 << 20
"""Bytes that are read over at once, between two looks at the deadline."""
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_OPTIONS: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: 27}
"""No stream may ask for more than 128 MiB of memory; `zstd` without `--long` stays below that."""
_ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MAGIC: Final = b"ustar"
_TAR_MAGIC_OFFSET: Final = 257
_HEAD_BYTES: Final = _TAR_MAGIC_OFFSET + len(_TAR_MAGIC)
_ENCRYPTED: Final = 0x1
_DAMAGED: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    zstd.ZstdError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,
)
"""What the libraries raise on damaged archives; the last four come out of senseless headers."""

_Readable = IO[bytes] | gzip.GzipFile | zstd.ZstdFile


def is_archive(path: Path) -> bool:
    """Return whether the first bytes of the file are those of an archive that can be unpacked.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    packed = head.startswith((_GZIP_MAGIC, _ZSTD_MAGIC, *_ZIP_MAGICS))
    return packed or head[_TAR_MAGIC_OFFSET:] == _TAR_MAGIC


def holds_files(path: Path) -> bool:
    """Return whether the file is an archive of files: a zip or a tar, also a packed one; not any packed file.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(_ZIP_MAGICS):
            return True
        file.seek(0)
        try:
            if head.startswith(_GZIP_MAGIC):
                head = gzip.GzipFile(fileobj=file, mode="rb").read(_HEAD_BYTES)
            elif head.startswith(_ZSTD_MAGIC):
                head = zstd.ZstdFile(file, "r", options=_ZSTD_OPTIONS).read(_HEAD_BYTES)
        except _DAMAGED:
            return False
    return head[_TAR_MAGIC_OFFSET:] == _TAR_MAGIC


def zip_names(path: Path, max_entries: int, deadline: Deadline) -> tuple[str, ...]:
    """Return the names in the directory of a zip; none if the file is no zip.

    Parameters
    ----------
    max_entries:
        How many entries the directory has room for.

    Raises
    ------
    FetchError
        If the zip is damaged, or its directory is too long.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        if not file.read(_HEAD_BYTES).startswith(_ZIP_MAGICS):
            return ()
        try:
            with zipfile.ZipFile(_guarded_zip(file, max_entries, deadline)) as archive:
                return tuple(archive.namelist())
        except _DAMAGED as error:
            raise rejected(f"the archive is damaged: {error or type(error).__name__}") from error


class Unpacker:
    """Unpacks archives within limits.

    Parameters
    ----------
    budget:
        What the model may take; several archives of one model share it.
    deadline:
        When the whole fetch must be over.
    progress:
        Is told of every piece.
    """

    def __init__(self, budget: Budget, deadline: Deadline, progress: Progress) -> None:
        self._budget = budget
        self._deadline = deadline
        self._progress = progress
        self._archive_bytes = 0
        self._bytes = 0
        self._skipped = 0

    def unpack(self, archive: Path, to: Path) -> None:
        """Unpack `archive` into the folder `to`. What it is, its first bytes say, not its name.

        Raises
        ------
        FetchError
            If it is no archive, is damaged, holds anything but plain files and folders, names a place
            outside, has too many entries, or is too large once unpacked.
        """
        self._archive_bytes = archive.stat().st_size
        self._bytes = self._skipped = 0
        self._progress.start("unpacked", None)
        try:
            to.mkdir(parents=True, exist_ok=True)
            with archive.open("rb") as file:
                self._dispatch(file, to)
        except _DAMAGED as error:
            raise rejected(f"the archive is damaged: {error or type(error).__name__}") from error
        except OSError as error:
            raise from_os_error(error, "an entry of the archive", to) from error

    def _dispatch(self, file: IO[bytes], to: Path) -> None:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        if head.startswith(_ZIP_MAGICS):
            self._zip(file, to)
        elif head.startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=file, mode="rb") as plain:
                self._tar(plain, to)
        elif head.startswith(_ZSTD_MAGIC):
            with zstd.ZstdFile(file, "r", options=_ZSTD_OPTIONS) as plain:
                self._tar(plain, to)
        elif head[_TAR_MAGIC_OFFSET:] == _TAR_MAGIC:
            self._tar(file, to)
        else:
            raise rejected(
                f"the file is no tar, tar.gz, tar.zst or zip archive; it begins with {head[:16]!r}"
            )

    def _tar(self, file: _Readable, to: Path) -> None:
        guarded = _Guarded(file, MAX_HEADER_BYTES, self._deadline)
        with tarfile.open(fileobj=guarded, mode="r:") as archive:
            while (member := archive.next()) is not None:
                guarded.expect_data()
                kept = self._bytes
                self._member(archive, member, to)
                if self._bytes == kept:
                    self._skip(archive.offset - member.offset_data)
                # The library keeps every entry, also those that a subclass steps over.
                archive.members.clear()  # type: ignore[attr-defined]  # typeshed leaves it out
                self._check_ratio(archive.offset - self._skipped)
                _check_global(archive.pax_headers)
                guarded.expect_header()
            # A header that cannot be read ends the loop without a word; a true end is zeros or nothing.
            file.seek(archive.offset)
            if any(file.read(tarfile.BLOCKSIZE)):
                raise rejected(f"the archive is damaged after {self._budget.entries} entries")

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
        """Write one entry of a tar."""
        path = place(member.name, to)
        if not (member.isreg() or member.isdir()) or member.issparse() or member.size < 0:
            raise rejected(f"{shown(member.name)} is {tar_kind(member)}, no plain file or folder")
        if member.isdir():
            self._folder(path, to)
            return
        source = archive.extractfile(member)
        if source is not None:
            with source:
                self._file(source, path, to)

    def _zip(self, file: IO[bytes], to: Path) -> None:
        guarded = _guarded_zip(file, self._budget.max_entries, self._deadline)
        with zipfile.ZipFile(guarded) as archive:
            guarded.expect_data()
            for info in archive.infolist():
                # The name as it stands in the file: the library's `filename` ends at a NUL.
                path = place(info.orig_filename, to)
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise rejected(f"{shown(info.filename)} is a link or device, no plain file or folder")
                if info.flag_bits & _ENCRYPTED:
                    raise rejected(f"{shown(info.filename)} is encrypted")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise rejected(f"{shown(info.filename)} is packed neither by 'store' nor by 'deflate'")
                if info.is_dir():
                    self._folder(path, to)
                    continue
                with archive.open(info) as source:
                    self._file(source, path, to)

    def _folder(self, path: Path, to: Path) -> None:
        """Make the folder `path` and those above it, each counted."""
        for folder in reversed([path, *path.parents]):
            if folder.is_relative_to(to) and not folder.is_dir():
                self._budget.entry()
                folder.mkdir()

    def _file(self, source: IO[bytes], path: Path, to: Path) -> None:
        """Write one file; a second one of the same name is an error of the operating system."""
        self._budget.entry()
        self._folder(path.parent, to)
        with path.open("xb") as target:
            while chunk := source.read(_COPY_BYTES):
                self._deadline.check()
                self._count(len(chunk))
                target.write(chunk)
                self._progress.add(len(chunk))

    def _count(self, count: int) -> None:
        """Count what was unpacked; raise if the archive is a bomb or the model too large."""
        self._bytes += count
        over = self._budget.bytes + count > self._budget.max_bytes
        self._check_ratio(self._bytes, 0 if over else RATIO_FLOOR_BYTES)
        self._budget.grow(count)

    def _skip(self, count: int) -> None:
        """Count the content of an entry that is not kept, before it is read over; raise if it is too much."""
        # Early releases of Python 3.11 follow such an entry back to itself, for ever.
        if count < 0:
            raise rejected("the archive is damaged: an entry has less than no bytes")
        self._skipped += count
        if self._skipped > max(SKIPPED_FLOOR_BYTES, SKIPPED_RATIO * self._archive_bytes):
            raise rejected(f"entries of the archive that are not kept have more than {human(self._skipped)}")

    def _check_ratio(self, unpacked: int, floor: int = RATIO_FLOOR_BYTES) -> None:
        """Raise if the archive is a bomb: more than `floor` bytes, and too many for its size, came out of it.

        In a tar, headers count too.
        """
        if unpacked > max(floor, MAX_RATIO * self._archive_bytes):
            raise rejected(
                f"{human(self._archive_bytes)} unpack to more than {human(unpacked)}; over {MAX_RATIO}"
                " times the size is refused (pack such a model without compression)"
            )


class _Guarded(io.BufferedIOBase):
    """A file whose headers have a limit.

    `tarfile` and `zipfile` read headers of any length and number that the archive claims into memory.

    Parameters
    ----------
    file:
        The archive.
    limit:
        Most bytes between two calls of `expect_header`, without those after `expect_data`.
    deadline:
        When what is read over, which a packed file has to unpack, must be over.
    """

    def __init__(self, file: _Readable, limit: int, deadline: Deadline) -> None:
        self._file = file
        self._deadline = deadline
        self._limit = limit
        self._of_headers = 0
        self._in_data = False

    def expect_header(self) -> None:
        """Begin the headers of the next entry."""
        self._of_headers, self._in_data = 0, False

    def expect_data(self) -> None:
        """Begin the content of an entry, which its reader counts."""
        self._in_data = True

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._limit + 1 if size is None or size < 0 else size
        data = self._file.read(min(wanted, self._limit + 1))
        if not self._in_data:
            self._of_headers += len(data)
        if max(len(data), self._of_headers) > self._limit:
            raise rejected("a header of the archive is longer than any model needs")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        place = self._file.tell()
        while whence == 0 and offset - place > _STEP_BYTES:
            self._deadline.check()
            before, place = place, self._file.seek(place + _STEP_BYTES)
            if place <= before:
                break
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _guarded_zip(file: _Readable, max_entries: int, deadline: Deadline) -> _Guarded:
    """Return a zip whose directory has room for `max_entries` entries."""
    return _Guarded(file, max(MAX_HEADER_BYTES, max_entries * ZIP_DIRECTORY_BYTES), deadline)


def _check_global(headers: Mapping[str, str]) -> None:
    """Raise if the global headers of a tar, which add up, are more than any archive needs."""
    if sum(len(name) + len(text) for name, text in headers.items()) > MAX_GLOBAL_BYTES:
        raise rejected("the global headers of the archive are longer than any model needs")


def tar_kind(member: tarfile.TarInfo) -> str:
    """Return in words what an entry is that is neither a plain file nor a folder."""
    if member.issym():
        return "a symbolic link"
    if member.islnk():
        return "a hard link"
    return "a sparse file" if member.issparse() else "a device, pipe or something unknown"
