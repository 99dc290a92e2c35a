"""The folder that the model server reads. Nothing half made is ever seen in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serval_contract.metrics import METRICS_PATH
from serval_contract.paths import BATCHING_FILE, MONITORING_FILE
from serval_serving.models.recorded_digest import record_digest

STAGING: Final = ".staging"
MONITORING_TEXT: Final = f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n'
"""TensorFlow Serving's monitoring configuration, so that the official image serves metrics too."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How the model server shall batch requests; None leaves the server's default.

    Attributes
    ----------
    max_batch_size:
        Rows of the largest batch.
    timeout_micros:
        How long an incomplete batch waits for more requests, in microseconds.
    max_enqueued:
        Batches that may wait for a free thread.
    """

    max_batch_size: int
    timeout_micros: int | None = None
    max_enqueued: int | None = None

    def text(self) -> str:
        """Return TensorFlow Serving's BatchingParameters as a text proto."""
        fields = {
            "max_batch_size": self.max_batch_size,
            "batch_timeout_micros": self.timeout_micros,
            "max_enqueued_batches": self.max_enqueued,
        }
        return "".join(f"{name} {{ value: {one} }}\n" for name, one in fields.items() if one is not None)


class ModelsFolder:
    """What lies under ``--dest``.

    Parameters
    ----------
    path:
        The folder, which must exist.
    batching:
        Parameters to write beside the model; None for no such file.
    """

    def __init__(self, path: Path, batching: Batching | None = None) -> None:
        self.path = path
        self._staging = path / STAGING
        self._batching = batching

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty folder on the same file system, gone afterwards; clears what a killed run left."""
        self._clear()
        self._staging.mkdir()
        try:
            yield self._staging
        finally:
            self._clear()

    def publish(self, staged: Path, name: str, version: int, digest: str) -> None:
        """Make `staged`, a folder inside the staging folder, the only version of the model `name`.

        The server's configuration files are written beside it. `digest` is that of its files; the server
        names it in replies.
        """
        complete = self._staging / "complete"
        complete.mkdir()
        staged.rename(complete / str(version))
        record_digest(complete / str(version), digest)
        _make_readable(complete)
        target = self.path / name
        if target.exists():
            target.rename(self._staging / "previous")
        complete.rename(target)
        self._write(MONITORING_FILE, MONITORING_TEXT)
        if self._batching is not None:
            self._write(BATCHING_FILE, self._batching.text())

    def _write(self, name: str, text: str) -> None:
        config = self._staging / name
        config.write_text(text, encoding="utf-8")
        config.chmod(0o644)
        config.rename(self.path / name)

    def _clear(self) -> None:
        if self._staging.is_dir():
            shutil.rmtree(self._staging)


def _make_readable(folder: Path) -> None:
    """Let every user read: the server may run as another one than the fetcher. Links have no mode."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
