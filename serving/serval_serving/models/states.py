"""States of a model's versions, as GetModelStatus reports them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import IntEnum

import grpc


class State(IntEnum):
    """Values of `tensorflow.serving.ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """The state of one version and the last error of its loading, if any."""

    version: int
    state: State
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether the version ended without ever serving."""
        return self.state is State.END and self.code is not grpc.StatusCode.OK


class StateMonitor:
    """The states of one model's versions. Threads may set, read and wait."""

    def __init__(self) -> None:
        self._statuses: dict[int, VersionStatus] = {}
        self._changed = threading.Condition()

    def set(self, status: VersionStatus) -> None:
        """Publish a version's state."""
        with self._changed:
            self._statuses[status.version] = status
            self._changed.notify_all()

    def get(self, version: int) -> VersionStatus | None:
        """Read one version's state; None where it was never seen."""
        with self._changed:
            return self._statuses.get(version)

    def all(self) -> list[VersionStatus]:
        """Read all states, the highest version first."""
        with self._changed:
            return [self._statuses[version] for version in sorted(self._statuses, reverse=True)]

    def wake(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout: float) -> None:
        """Wait until a state changes, for at most so many seconds."""
        with self._changed:
            self._changed.wait(timeout)
