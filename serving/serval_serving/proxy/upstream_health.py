"""Polls whether the upstream server serves the model, for the probes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from serval_serving.proxy.upstream import Upstream
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError

POLL_SECONDS: Final = 1.0
ASK_SECONDS: Final = 5.0
"""Longest time that the server may take to say what it serves."""

NONE_AVAILABLE: Final = "no version of model {name} is AVAILABLE{why}"

_AVAILABLE: Final = 30
_log = logging.getLogger(__name__)


class UpstreamHealth:
    """Asks for the states of one model.

    Parameters
    ----------
    upstream:
        The server.
    name:
        The model.
    report:
        Is told whether a version serves, each time when that changed.
    poll_seconds:
        Seconds between two questions.
    """

    def __init__(
        self,
        upstream: Upstream,
        name: str,
        report: Callable[[bool], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.model = name
        self._upstream = upstream
        self._spec = messages.ModelSpec(name=name)
        self._report = report
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._versions: tuple[int, ...] = ()
        self._why = ""

    @property
    def latest(self) -> int | None:
        """The highest version that serves; None where none does."""
        return max(self._versions, default=None)

    def wait(self, stopped: threading.Event) -> bool:
        """Wait until a version serves; the answer is whether one does, or False once it is to stop."""
        while not stopped.is_set():
            self.look()
            if self._versions:
                return True
            stopped.wait(self._poll_seconds)
        return False

    def start(self) -> None:
        """Go on asking."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def look(self) -> None:
        """Ask now."""
        with self._lock:
            try:
                found = self._upstream.status(self._spec, ASK_SECONDS).model_version_status
            except StatusError as error:
                self._note((), str(error))
                return
            versions = tuple(status.version for status in found if status.state == _AVAILABLE)
            whys = [f": {status.status.error_message}" for status in found if status.status.error_message]
            why = NONE_AVAILABLE.format(name=self._spec.name, why=whys[-1] if whys else "")
            self._note(versions, "" if versions else why)

    def _run(self) -> None:
        """Ask until stopped."""
        while not self._stopped.wait(self._poll_seconds):
            self.look()

    def _note(self, versions: tuple[int, ...], why: str) -> None:
        """Take an answer, and say what changed."""
        changed = (versions, why) != (self._versions, self._why)
        turned = bool(versions) != bool(self._versions)
        self._versions, self._why = versions, why
        if not changed:
            return
        if versions:
            _log.info("the server behind serves model=%s versions=%s", self._spec.name, versions)
        else:
            _log.warning("the server behind does not serve model=%s: %s", self._spec.name, why)
        if turned:
            self._report(bool(versions))
