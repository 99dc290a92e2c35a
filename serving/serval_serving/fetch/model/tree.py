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

from serval_serving.fetch.errors import denied, from_os_error, rejected, unavailable
from serval_serving.fetch.model.versions import Listing
from serval_serving.fetch.progress import Deadline, Progress
from serval_serving.fetch.safety.limits import Budget
from serval_serving.fetch.safety.safe_paths import MAX_DEPTH

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
                raise rejected(f"{self.shown(path)} leads out of the volume or image")
            status = os.fstat(descriptor)
            self._check_kind(status, path)
            yield Opened(descriptor, status.st_size, stat.S_ISDIR(status.st_mode))
        finally:
            os.close(descriptor)

    def listing(self, path: Path) -> Listing:
        """Return the names in the folder `path`. Links count as what they lead to; broken ones do not.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        FetchError
            As `opened` does.
        """
        files, folders = [], []
        with self.opened(path) as folder:
            for name in folder.names() if folder.is_folder else []:
                try:
                    mode = (path / name).stat().st_mode
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise self._refused(error, path / name) from error
                if stat.S_ISDIR(mode):
                    folders.append(name)
                elif stat.S_ISREG(mode):
                    files.append(name)
        return Listing(tuple(files), tuple(folders))

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
    budget:
        What the model may take.
    deadline:
        When the whole fetch must be over.
    progress:
        Is told of every piece.
    """

    def __init__(self, tree: BoundedTree, budget: Budget, deadline: Deadline, progress: Progress) -> None:
        self._tree = tree
        self._budget = budget
        self._deadline = deadline
        self._progress = progress

    def copy(self, path: Path, to: Path) -> None:
        """Copy the folder or file `path` to the new `to`; links become what they point to.

        Raises
        ------
        FetchError
            If something in it leads out of the tree, is no plain file or folder, or is over a limit.
        """
        self._progress.start("copied", None)
        self._copy(path, to, 0)

    def _copy(self, path: Path, to: Path, depth: int) -> None:
        shown = self._tree.shown(path)
        if depth > MAX_DEPTH:
            raise rejected(f"{shown} lies more than {MAX_DEPTH} folders deep, or in a circle")
        self._deadline.check()
        self._budget.entry()
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
            raise from_os_error(error, f"the copy of {shown}", to.parent) from error

    def _file(self, source: Opened, path: Path, to: Path) -> None:
        """Copy one file, as long as it was when it was opened."""
        copied = 0
        with to.open("xb") as target:
            while chunk := os.read(source.descriptor, _COPY_BYTES):
                self._deadline.check()
                copied += len(chunk)
                self._budget.grow(len(chunk))
                target.write(chunk)
                self._progress.add(len(chunk))
        if copied != source.size:
            raise unavailable(f"{self._tree.shown(path)} changed while it was copied", again=False)


class Linker(Copier):
    """Makes links to the files of a tree, whose bytes stay where they are; folders become folders."""

    def _file(self, source: Opened, path: Path, to: Path) -> None:
        self._budget.grow(source.size)
        to.symlink_to(path)
