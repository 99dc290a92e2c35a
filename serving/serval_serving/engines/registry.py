"""The engines of a server, and which of them loads a version.

An engine is opened when its first model comes, so a server pays only for the engines that it needs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc

from serval_serving.engines.base import Engine, LoadedModel, ModelLoadError
from serval_serving.engines.tensorflow import NO_SAVED_MODEL
from serval_serving.models.formats import foreign

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One engine.

    Attributes
    ----------
    models:
        The models that it loads, in the plural, for error texts. Unique in a registry.
    priority:
        Entries with a higher priority are tried first. An engine for a more specific format has the higher
        priority: a folder with the files of two formats is loaded as the more specific one.
    fits:
        Whether the folder of a version holds such a model. Must be cheap: it runs for every load.
    open:
        Makes the engine. May take seconds and much memory.
    """

    models: str
    priority: int
    fits: Callable[[Path], bool]
    open: Callable[[], Engine]


class EngineRegistry:
    """Loads every version with the most specific engine that fits its files.

    Parameters
    ----------
    entries:
        The engines, in any order.

    Raises
    ------
    ValueError
        Two entries have the same priority or the same models.
    """

    def __init__(self, entries: Iterable[EngineEntry]) -> None:
        self._entries = sorted(entries, key=lambda entry: entry.priority, reverse=True)
        for field in ("priority", "models"):
            if len({getattr(entry, field) for entry in self._entries}) < len(self._entries):
                raise ValueError(f"two engines have the same {field}")
        self._engines: dict[str, Engine] = {}
        # Models load in threads of their own; two of them must not open the same engine.
        self._opening = threading.Lock()

    def load(self, path: Path) -> LoadedModel:
        """Load one version's folder.

        Raises
        ------
        ModelLoadError
            The folder holds no model, or its engine is not installed or refuses the model.
        """
        for entry in self._entries:
            if entry.fits(path):
                return self._engine(entry).load(path)
        words = _foreign(path)
        message = NO_SAVED_MODEL.format(path=path) + (f"; {words}" if words else "")
        raise ModelLoadError(grpc.StatusCode.NOT_FOUND, message, permanent=True)

    def _engine(self, entry: EngineEntry) -> Engine:
        """Return the engine of an entry; open it at the first call."""
        with self._opening:
            engine = self._engines.get(entry.models)
            if engine is None:
                try:
                    engine = entry.open()
                except ImportError as error:
                    message = f"this server cannot load {entry.models}: {error}"
                    raise ModelLoadError(grpc.StatusCode.UNIMPLEMENTED, message, permanent=True) from error
                _log.info("engine=%s devices=%s", engine.name, ",".join(engine.devices()))
                self._engines[entry.models] = engine
            return engine


def _foreign(path: Path) -> str:
    """Name a file in a version's folder that no engine serves, with the cure; empty if there is none."""
    try:
        return foreign(file.name for file in path.iterdir() if file.is_file())
    except OSError:
        return ""
