"""Keeps the wanted versions of one model in memory.

A new version is loaded before an old one is unloaded, and an old one is unloaded only while another serves:
a version that cannot be loaded never interrupts the service. The memory of an old version is freed after its
last request has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from serval_serving.engines.base import LoadedModel, Loader, ModelLoadError
from serval_serving.models.recorded_digest import recorded_digest
from serval_serving.models.states import State, StateMonitor, VersionStatus
from serval_serving.models.versions import Latest, VersionPolicy, scan
from serval_serving.wire.status import StatusError, invalid

NO_VERSIONS = "No versions of servable %s found under base path %s. Waiting for one."
NO_LABEL = "Unrecognized servable version label: %s"

_log = logging.getLogger(__name__)
_WAIT_SLICE = 0.5
_MAY_PASS = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
    }
)


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How versions are found and loaded.

    Attributes
    ----------
    poll_seconds:
        Seconds between two scans of the base path. With 0 it is scanned once.
    max_retries:
        Further attempts after a load that failed for a cause that may pass.
    retry_seconds:
        Seconds between two attempts.
    """

    poll_seconds: float = 1.0
    max_retries: int = 5
    retry_seconds: float = 60.0


class RefCount:
    """Counts the users of a version, which is freed only at zero."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1

    @property
    def zero(self) -> bool:
        """Whether there are no users."""
        return self._count == 0


@dataclass(frozen=True, slots=True)
class ServableHandle:
    """A version that stays in memory while a request uses it.

    Attributes
    ----------
    name, version, model:
        Identify and hold the loaded version.
    path:
        The version's folder.
    digest:
        Digest of its files, if the fetcher recorded it; else empty.
    references:
        The holder of a handle may enter this again, for work that may last longer than the handle.
    """

    name: str
    version: int
    model: LoadedModel
    path: Path = field(default_factory=Path)
    digest: str = ""
    references: RefCount = field(default_factory=RefCount)


@dataclass(slots=True)
class _Retry:
    """The number of failed attempts, and the time of the next one."""

    failures: int
    at: float


class ModelManager:
    """One model: a thread that polls its base path, its versions in memory and their states.

    Parameters
    ----------
    name:
        The model's name in requests.
    base_path:
        The folder with the version folders.
    loader:
        Loads a version.
    settings:
        Intervals and retries.
    policy:
        Selects the versions to serve.
    prepare:
        Prepares a loaded version before it serves; a StatusError from it fails the load.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        loader: Loader,
        settings: LoadSettings,
        policy: VersionPolicy | None = None,
        *,
        prepare: Callable[[ServableHandle], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._base_path = base_path
        self._loader = loader
        self._settings = settings
        self._policy = policy or Latest()
        self._prepare = prepare
        self._labels: Mapping[str, int] = {}
        self._clock = clock
        self._states = StateMonitor()
        self._lock = threading.Lock()
        self._loaded: dict[int, ServableHandle] = {}
        self._retired: list[ServableHandle] = []
        self._retries: dict[int, _Retry] = {}
        self._wanted: list[int] = []
        self._said_empty = False
        self._gone = False
        self._stop = threading.Event()
        self._look = threading.Event()
        self._thread = threading.Thread(target=self._poll_forever, name=f"model-{name}", daemon=True)

    def start(self) -> None:
        """Start polling in a separate thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, without waiting for a load in progress. Loaded versions stay usable."""
        self._stop.set()
        self._look.set()
        self._states.wake()

    def configure(self, base_path: Path, policy: VersionPolicy) -> None:
        """Change the base path or the policy. The next scan uses them and starts immediately."""
        with self._lock:
            if (base_path, policy) == (self._base_path, self._policy):
                return
            self._base_path, self._policy = base_path, policy
        self._look.set()

    def retire(self) -> None:
        """Take all versions out of service, and free each after its last request has ended."""
        self._gone = True
        with self._lock:
            gone = list(self._loaded)
        for version in gone:
            self._retire(version)
        self._look.set()

    @property
    def labels(self) -> Mapping[str, int]:
        """Versions by label."""
        return self._labels

    def set_labels(self, labels: Mapping[str, int]) -> None:
        """Set the labels of versions."""
        self._labels = dict(labels)

    def version_of(self, label: str) -> int:
        """Find the version that a label names.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT: there is no such label.
        """
        version = self._labels.get(label)
        if version is None:
            raise invalid(NO_LABEL % label)
        return version

    def wait(self, seconds: float) -> None:
        """Wait until a state changes, for at most this number of seconds."""
        self._states.wait(seconds)

    def available(self) -> list[int]:
        """List the versions that serve now, in ascending order."""
        with self._lock:
            return sorted(self._loaded)

    def devices(self) -> dict[int, str]:
        """Return the device of each version that serves; empty where it is not known yet."""
        with self._lock:
            return {version: handle.model.device for version, handle in self._loaded.items()}

    def statuses(self) -> Sequence[VersionStatus]:
        """List the states of all versions ever seen, the highest first."""
        return self._states.all()

    def status(self, version: int) -> VersionStatus | None:
        """Read the state of one version; None if it was never seen."""
        return self._states.get(version)

    @contextmanager
    def acquire(self, version: int | None = None) -> Iterator[ServableHandle]:
        """Hold a version in memory: the given one, or the highest that serves.

        Raises
        ------
        StatusError
            It does not serve.
        """
        with self._lock:
            wanted = max(self._loaded, default=None) if version is None else version
            held = None if wanted is None else self._loaded.get(wanted)
            if held is None:
                which = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
            held.references.__enter__()
        try:
            yield held
        finally:
            held.references.__exit__()

    def poll(self) -> None:
        """Scan the base path once: load the wanted versions, then unload the others."""
        with self._lock:
            base_path, policy = self._base_path, self._policy
        found = {} if self._gone else scan(base_path)
        self._wanted = policy.select(found)
        if not self._wanted and not self._said_empty and not self._gone:
            _log.warning(NO_VERSIONS, self.name, base_path)
        self._said_empty = not self._wanted
        for version in self._wanted:
            if self._states.get(version) is None:
                self._states.set(VersionStatus(version, State.START))
            if self._due(version) and not (self._stop.is_set() or self._gone):
                self._load(version, found[version])
        self._forget_unwanted()
        # If the base path becomes empty or contains only broken versions, the old ones keep serving.
        if any(version in self._loaded for version in self._wanted):
            for version in [version for version in self._loaded if version not in self._wanted]:
                self._retire(version)
        self._close_retired()

    def _poll_forever(self) -> None:
        """Poll until stopped; without a poll period, scan again only after a change."""
        while not self._stop.is_set():
            # Cleared before the scan: a change from here on causes another scan.
            self._look.clear()
            try:
                self.poll()
            except Exception:  # noqa: BLE001  the thread must continue; the log has the cause
                _log.exception("polling model=%s failed", self.name)
            if self._gone and not self._retired:
                return
            self._look.wait(self._pause())

    def _pause(self) -> float | None:
        """Return the seconds until the next scan; None to wait for a change."""
        period = self._settings.poll_seconds
        if period > 0 and not self._gone:
            return period
        nothing_left = self._wanted and not self._retries and not self._retired
        return None if nothing_left else _WAIT_SLICE

    def _due(self, version: int) -> bool:
        """Whether a wanted version should be loaded now."""
        if version in self._loaded:
            return False
        retry = self._retries.get(version)
        if retry is not None:
            return self._clock() >= retry.at
        status = self._states.get(version)
        return status is None or not status.failed

    def _load(self, version: int, path: Path) -> None:
        """Load one version and publish it, or record the failure."""
        self._states.set(VersionStatus(version, State.LOADING))
        _log.info("loading model=%s version=%d path=%s", self.name, version, path)
        started = self._clock()
        try:
            handle = self._loaded_and_ready(version, path)
        except ModelLoadError as error:
            self._note_failure(version, error)
            return
        except Exception as error:  # noqa: BLE001  one bad version must not end the others
            _log.exception("the engine failed unexpectedly: model=%s version=%d", self.name, version)
            message = f"{type(error).__name__}: {error}"
            self._note_failure(version, ModelLoadError(grpc.StatusCode.INTERNAL, message, permanent=False))
            return
        self._retries.pop(version, None)
        with self._lock:
            self._loaded[version] = handle
        if self._gone:
            # Removed while it was loading.
            self._retire(version)
            return
        seconds = self._clock() - started
        _log.info("available model=%s version=%d seconds=%.3f", self.name, version, seconds)
        self._states.set(VersionStatus(version, State.AVAILABLE))

    def _loaded_and_ready(self, version: int, path: Path) -> ServableHandle:
        """Load a version and make it ready to serve."""
        handle = ServableHandle(self.name, version, self._loader.load(path), path, recorded_digest(path))
        if self._prepare is None:
            return handle
        try:
            self._prepare(handle)
        except StatusError as error:
            handle.model.close()
            permanent = error.code not in _MAY_PASS
            raise ModelLoadError(error.code, error.message, permanent=permanent) from error
        return handle

    def _note_failure(self, version: int, error: ModelLoadError) -> None:
        """Schedule another attempt, or end the version."""
        previous = self._retries.pop(version, None)
        failures = 1 + (previous.failures if previous else 0)
        final = error.permanent or failures > self._settings.max_retries
        _log.error(
            "load failed model=%s version=%d try=%d final=%s: %s", self.name, version, failures, final, error
        )
        if not final:
            self._retries[version] = _Retry(failures, self._clock() + self._settings.retry_seconds)
        state = State.END if final else State.LOADING
        self._states.set(VersionStatus(version, state, error.code, error.message))

    def _forget_unwanted(self) -> None:
        """Forget retries and failures of versions that are no longer wanted, so that they can come back."""
        for version in [version for version in self._retries if version not in self._wanted]:
            del self._retries[version]
        for status in self._states.all():
            if status.failed and status.version not in self._wanted:
                self._states.set(VersionStatus(status.version, State.END))

    def _retire(self, version: int) -> None:
        """Take a version out of service; requests that use it may end."""
        with self._lock:
            held = self._loaded.pop(version, None)
            if held is None:
                return
            self._retired.append(held)
        _log.info("unloading model=%s version=%d", self.name, version)
        self._states.set(VersionStatus(version, State.UNLOADING))

    def _close_retired(self) -> None:
        """Free the versions out of service that have no requests."""
        with self._lock:
            idle = [held for held in self._retired if held.references.zero]
            self._retired = [held for held in self._retired if held not in idle]
        for held in idle:
            held.model.close()
            _log.info("unloaded model=%s version=%d", self.name, held.version)
            self._states.set(VersionStatus(held.version, State.END))

    def failures(self) -> list[str]:
        """Describe the wanted versions if every one has failed finally; empty if one may still serve."""
        statuses = [self._states.get(version) for version in self._wanted]
        failed = [status for status in statuses if status is not None and status.failed]
        if not failed or len(failed) < len(statuses):
            return []
        return [
            f"{{name: {self.name} version: {status.version}}} due to error: "
            f"{StatusError(status.code, status.message)}"
            for status in failed
        ]
