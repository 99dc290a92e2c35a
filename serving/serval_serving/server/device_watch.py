"""Tells gRPC's health checks whether the devices of models can run them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from serval_serving.models.manager import ModelManager

LOOK_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


class DeviceWatch:
    """A thread that looks at models with a device of their own. Without such a model it is never started.

    Parameters
    ----------
    models:
        The models by name.
    report:
        Called with whether predictions are answered, when that changes.
    """

    def __init__(self, models: Mapping[str, ModelManager], report: Callable[[bool], None]) -> None:
        self._models = models
        self._report = report
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = True
        self._looking = threading.Lock()

    def start(self) -> None:
        """Look from now on; further calls have no effect."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="device-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what was reported last stays."""
        self._stopped.set()

    def look(self, *, changed_only: bool = True) -> None:
        """Report whether predictions are answered, by default only if that has changed."""
        with self._looking:
            obstacles = {name: manager.obstacle for name, manager in self._models.items()}
            found = {name: words for name, words in obstacles.items() if words}
            if changed_only and bool(found) != self._said:
                return
            self._said = not found
            self._report(self._said)
            for name, words in found.items():
                _log.warning("model=%s does not answer: %s", name, words)

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            self.look()
