"""Stacks the layers of an image, of which only files and folders are kept."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import rejected
from serval_serving.fetch.model.versions import IMAGE_FOLDER
from serval_serving.fetch.progress import Deadline, Progress
from serval_serving.fetch.safety.archive import Unpacker
from serval_serving.fetch.safety.limits import Budget
from serval_serving.fetch.safety.safe_paths import place, shown

WHITEOUT: Final = ".wh."
"""Begins the name of an entry that removes what lower layers have under the rest of the name."""
OPAQUE: Final = ".wh..wh..opq"
"""Name of an entry that removes all that lower layers have in its folder."""


class LayerUnpacker(Unpacker):
    """Unpacks layers one on top of the other, within the limits of an `Unpacker`.

    Links and devices are stepped over, as an operating system below the model has them; in the folder
    `IMAGE_FOLDER` they are refused.

    Parameters
    ----------
    budget, deadline, progress:
        As for an `Unpacker`.
    only:
        The one folder of the image that is kept; None for all.
    """

    def __init__(self, budget: Budget, deadline: Deadline, progress: Progress, only: str | None) -> None:
        super().__init__(budget, deadline, progress)
        self._only = only
        self._of_this_layer: set[Path] = set()

    def unpack(self, archive: Path, to: Path) -> None:
        """Unpack one layer into the folder `to`, which may hold those below it.

        Raises
        ------
        FetchError
            As an `Unpacker`.
        """
        self._of_this_layer = set()
        super().unpack(archive, to)

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
        if self._is_elsewhere(member.name):
            return
        path = place(member.name, to)
        top = path.relative_to(to).parts[:1]
        if path.name == OPAQUE:
            self._clear(path.parent)
        elif path.name.startswith(WHITEOUT):
            _remove(_hidden(path))
        elif (
            top
            and self._only in (None, *top)
            and (top[0] == IMAGE_FOLDER or member.isreg() or member.isdir())
        ):
            self._entry(archive, member, path, to)

    def _is_elsewhere(self, name: str) -> bool:
        """Whether an entry lies outside the folder that is kept, where its name does not matter.

        Files of systemd have backslashes in their names.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        return self._only is not None and not "".join(parts[:1]).startswith((self._only, WHITEOUT))

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, to: Path) -> None:
        """Keep one entry, in the place of what lower layers have there."""
        if path not in self._of_this_layer and not (member.isdir() and path.is_dir()):
            _remove(path)
        self._of_this_layer.update((path, *path.parents))
        super()._member(archive, member, to)

    def _clear(self, folder: Path) -> None:
        """Remove what lower layers have in `folder`."""
        for path in folder.iterdir() if folder.is_dir() else ():
            if path not in self._of_this_layer:
                _remove(path)


def _hidden(mark: Path) -> Path:
    """Return what an entry of the name ``.wh.NAME`` removes."""
    name = mark.name.removeprefix(WHITEOUT)
    if name in ("", ".", ".."):
        raise rejected(f"{shown(mark.name)} hides no file")
    return mark.with_name(name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
