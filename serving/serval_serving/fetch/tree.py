"""A folder that is read within its bounds, though others may write to it.

Symbolic links are followed, since Kubernetes itself builds volumes out of them, but only inside the folder.
What is judged is the file that was opened, by the path that the kernel knows it under, so that a link which
changes between look and open leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import denied, rejected, too_large, unavailable, written_badly
from serval_serving.fetch.progress import Deadline, Progress, human

MAX_DEPTH: Final = 32
"""Folders inside folders; also what ends a circle of links."""
IGNORED: Final = frozenset({"lost+found"})
"""Made by the file system at a volume's root; never part of a model, and not readable."""
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """A file or folder inside the bounds.

    Attributes
    ----------
    descriptor:
        Open file descriptor, closed by whoever opened it.
    size:
        Bytes of a file.
    is_folder:
        Whether it is a folder; otherwise it is a plain file.
    """

    descriptor: int
    size: int
    is_folder: bool

    def names(self) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(set(os.listdir(self.descriptor)) - IGNORED)  # noqa: PTH208 - pathlib takes no descriptor


class BoundedTree:
    """Everything below one folder.

    Parameters
    ----------
    root:
        The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = os.path.realpath(root)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Opened]:
        """Open the file or folder `path`, which lies below the root.

        Raises
        ------
        FileNotFoundError
            If it, or what it links to, is not there.
        FetchError
            If it lies outside the bounds, is neither file nor folder, or may not be read.
        """
        try:
            self._check_kind(path.stat(), path)
            # Not blocking: in the meantime the file may have become a pipe that nobody writes to.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._refused(error, path) from error
        try:
            real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - the kernel's word, not a path
            if real != self._real and not real.startswith(self._real.rstrip("/") + "/"):
                raise rejected(f"{self.shown(path)} leads out of the volume")
            status = os.fstat(descriptor)
            self._check_kind(status, path)
            yield Opened(descriptor, status.st_size, stat.S_ISDIR(status.st_mode))
        finally:
            os.close(descriptor)

    def folders(self, path: Path) -> list[str]:
        """Return the names of the folders in the folder `path`, sorted."""
        with self.opened(path) as folder:
            return [name for name in folder.names() if (path / name).is_dir()]

    def has_file(self, path: Path) -> bool:
        """Return whether `path` is a plain file inside the bounds."""
        try:
            with self.opened(path) as found:
                return not found.is_folder
        except FileNotFoundError:
            return False

    def shown(self, path: Path) -> str:
        """Return `path` as it may stand in a message: as seen from the root."""
        inside = path.relative_to(self.root).as_posix()
        return repr("/" if inside == "." else f"/{inside}")

    def _check_kind(self, status: os.stat_result, path: Path) -> None:
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise rejected(f"{self.shown(path)} is a device, pipe or socket, no plain file or folder")

    def _refused(self, error: OSError, path: Path) -> Exception:
        """Say why `path` cannot be opened."""
        if error.errno in (errno.EACCES, errno.EPERM):
            return denied(f"{self.shown(path)} may not be read by user {os.getuid()}")
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR):
            return rejected(f"{self.shown(path)} cannot be opened: {error.strerror}")
        return unavailable(f"{self.shown(path)} cannot be opened: {error.strerror}", again=False)


class Copier:
    """Copies folders out of a tree, within limits.

    Parameters
    ----------
    tree:
        Where to read.
    max_bytes:
        Most bytes that all files may have together.
    max_entries:
        Most files and folders.
    deadline:
        When the whole fetch must be over.
    progress:
        Is told of every piece.
    """

    def __init__(
        self, tree: BoundedTree, *, max_bytes: int, max_entries: int, deadline: Deadline, progress: Progress
    ) -> None:
        self._tree = tree
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._deadline = deadline
        self._progress = progress
        self._bytes = 0
        self._entries = 0

    def copy(self, path: Path, to: Path) -> None:
        """Copy the folder `path` to the new folder `to`; links become what they point to.

        Raises
        ------
        FetchError
            If something in it leads out of the tree, is no plain file or folder, or is over a limit.
        """
        self._bytes = self._entries = 0
        self._progress.start("copied", None)
        self._copy(path, to, 0)

    def _copy(self, path: Path, to: Path, depth: int) -> None:
        shown = self._tree.shown(path)
        if depth > MAX_DEPTH:
            raise rejected(f"{shown} lies more than {MAX_DEPTH} folders deep, or in a circle")
        self._deadline.check()
        self._entries += 1
        if self._entries > self._max_entries:
            raise rejected(f"the model has more than the {self._max_entries} entries allowed")
        try:
            with self._tree.opened(path) as source:
                if not source.is_folder:
                    self._file(source, path, to)
                    return
                to.mkdir(parents=True)
                names = source.names()
            for name in names:
                self._copy(path / name, to / name, depth + 1)
        except FileNotFoundError as error:
            raise unavailable(f"{shown} is gone, or links to nothing", again=False) from error
        except OSError as error:
            raise written_badly(error, f"the copy of {shown}", to.parent) from error

    def _file(self, source: Opened, path: Path, to: Path) -> None:
        """Copy one file, as long as it was when it was opened."""
        copied = 0
        with to.open("xb") as target:
            while chunk := os.read(source.descriptor, _COPY_BYTES):
                self._deadline.check()
                copied += len(chunk)
                self._bytes += len(chunk)
                if self._bytes > self._max_bytes:
                    raise too_large(f"the model has more than the {human(self._max_bytes)} allowed")
                target.write(chunk)
                self._progress.add(len(chunk))
        if copied != source.size:
            raise unavailable(f"{self._tree.shown(path)} changed while it was copied", again=False)
