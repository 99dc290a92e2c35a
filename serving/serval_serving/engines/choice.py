"""Chooses the engine by the files of a version, so that a server pays only for the one that it needs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from serval_serving.engines.base import Engine, LoadedModel, ModelLoadError
from serval_serving.engines.tensorflow import NO_SAVED_MODEL

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """One engine.

    Attributes
    ----------
    models:
        What it loads, in the plural, for error texts.
    fits:
        Whether the folder of a version holds such a model.
    make:
        Makes the engine. It may take seconds and much memory, and is called when the first such model comes.
    """

    models: str
    fits: Callable[[Path], bool]
    make: Callable[[], Engine]


class EngineChoice:
    """Loads every version with the engine that its files are for.

    Parameters
    ----------
    choices:
        The engines; the first that fits is taken.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._choices = tuple(choices)
        self._engines: dict[str, Engine] = {}
        # Models load in threads of their own; two of them must not make the same engine.
        self._making = threading.Lock()

    def load(self, path: Path) -> LoadedModel:
        """Load one version's folder.

        Raises
        ------
        ModelLoadError
            The folder holds no model, its engine is not installed, or refuses it.
        """
        for choice in self._choices:
            if choice.fits(path):
                return self._engine(choice).load(path)
        raise ModelLoadError(grpc.StatusCode.NOT_FOUND, NO_SAVED_MODEL.format(path=path), permanent=True)

    def _engine(self, choice: Choice) -> Engine:
        """Make an engine once."""
        with self._making:
            engine = self._engines.get(choice.models)
            if engine is None:
                try:
                    engine = choice.make()
                except ImportError as error:
                    message = f"this server cannot load {choice.models}: {error}"
                    raise ModelLoadError(grpc.StatusCode.UNIMPLEMENTED, message, permanent=True) from error
                _log.info("engine=%s devices=%s", engine.name, ",".join(engine.devices()))
                self._engines[choice.models] = engine
            return engine
