"""The cache of the image builder: where things lie, how they are named, and who may write."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serval_lab.images.errors import ImageError
from serval_lab.settings import Settings

Progress = Callable[[str], None]
"""Takes one finished line for the user."""

KEY_LENGTH = 12
LOCK_LIMIT_S = 1800.0
LOCK_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Cache:
    """Folders of the image builder.

    Parameters
    ----------
    root:
        Everything lies below it; it may be deleted at any time when no build runs.
    """

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """The folder ``images`` of the lab's cache."""
        return cls(Settings.from_environment().cache / "images")

    @property
    def logs(self) -> Path:
        """Output of the programs that the builder runs, one file per step."""
        return self.root / "logs"

    @property
    def layout(self) -> Path:
        """OCI image layout with the newest images."""
        return self.root / "layout"

    def keyed(self, kind: str, key: str) -> Path:
        """Path of something named by what went into it, such as ``base-0123456789ab``."""
        return self.root / f"{kind}-{key}"

    def forget_others(self, keep: Path) -> None:
        """Delete what an earlier key left beside ``keep``: the same kind with another key."""
        kind = keep.name.rsplit("-", 1)[0]
        for path in self.root.glob(f"{kind}-*"):
            if path == keep or path.name.rsplit("-", 1)[0] != kind:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextmanager
    def locked(self, progress: Progress) -> Iterator[None]:
        """Hold the cache for oneself; a second build waits, and says so.

        Raises
        ------
        ImageError
            Another process held it for half an hour.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            deadline = time.monotonic() + LOCK_LIMIT_S
            told = False
            while not _try_lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise ImageError(f"another build has held {self.root} for {LOCK_LIMIT_S:.0f} s")
                if not told:
                    progress("images: waiting for another build")
                    told = True
                time.sleep(LOCK_POLL_S)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def key_of(parts: Iterable[str | bytes]) -> str:
    """Short name of some content; the same parts in the same order give the same key."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:KEY_LENGTH]


def contents(root: Path, names: Iterable[str]) -> Iterator[str | bytes]:
    """Names and contents of files and folders below ``root``, in a fixed order."""
    for name in names:
        top = root / name
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in files:
            yield path.relative_to(root).as_posix()
            yield path.read_bytes()


def snapshot(root: Path, names: Iterable[str], target: Path) -> None:
    """Copy files and folders as they are now, without byte code, so that a name made of them stays true.

    Raises
    ------
    ImageError
        One of ``names`` is not there.
    """
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        source, copy = root / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        elif source.is_file():
            shutil.copy2(source, copy)
        else:
            raise ImageError(f"{source} is missing: images are built from a checkout of the project")
