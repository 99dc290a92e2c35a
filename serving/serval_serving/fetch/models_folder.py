"""The folder that the model server reads. Nothing half made is ever seen in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from serval_contract.metrics import METRICS_PATH
from serval_contract.paths import MONITORING_FILE

STAGING: Final = ".staging"
MONITORING_TEXT: Final = f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n'
"""TensorFlow Serving's monitoring configuration, so that the official image serves metrics too."""


class ModelsFolder:
    """What lies under ``--dest``.

    Parameters
    ----------
    path:
        The folder, which must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._staging = path / STAGING

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty folder on the same file system, gone afterwards; clears what a killed run left."""
        self._clear()
        self._staging.mkdir()
        try:
            yield self._staging
        finally:
            self._clear()

    def publish(self, staged: Path, name: str, version: int) -> None:
        """Make `staged`, a folder inside the staging folder, the only version of the model `name`."""
        complete = self._staging / "complete"
        complete.mkdir()
        staged.rename(complete / str(version))
        _make_readable(complete)
        target = self.path / name
        if target.exists():
            target.rename(self._staging / "previous")
        complete.rename(target)
        config = self._staging / MONITORING_FILE
        config.write_text(MONITORING_TEXT, encoding="utf-8")
        config.chmod(0o644)
        config.rename(self.path / MONITORING_FILE)

    def _clear(self) -> None:
        if self._staging.is_dir():
            shutil.rmtree(self._staging)


def _make_readable(folder: Path) -> None:
    """Let every user read: the server may run as another one than the fetcher. Links have no mode."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
