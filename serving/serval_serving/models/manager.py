"""Keeps the wanted versions of one model in memory.

A new version is loaded before an old one is unloaded, and an old one is unloaded only while another serves:
a version that cannot be loaded never interrupts the service. The memory of an old version is freed after its
last request has ended.

A device that holds one model allows no such change. There an old version ends before the device is programmed
with a new one; everything else of the new one is loaded and checked before that. While the device is
programmed, calls are answered UNAVAILABLE with the progress. If the device does not take the new version, the
old one is loaded again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grpc

from serval_serving.engines.base import DeviceReport, Loader, ModelLoadError
from serval_serving.models.handle import ServableHandle
from serval_serving.models.load_settings import LoadSettings, Retry
from serval_serving.models.recorded_digest import recorded_digest
from serval_serving.models.states import State, StateMonitor, VersionStatus
from serval_serving.models.versions import Latest, VersionPolicy, scan
from serval_serving.wire.held import Held
from serval_serving.wire.status import StatusError, invalid

NO_VERSIONS = "No versions of servable %s found under base path %s. Waiting for one."
NO_LABEL = "Unrecognized servable version label: %s"
WARMING_UP = "the device is programmed, and the model warms up"
NO_MODEL = "the device has no model: none of the versions could be put onto it"
ONE_MODEL = "the device holds one model, and version {held} of this one has it; serve one version"

_log = logging.getLogger(__name__)
_WAIT_SLICE = 0.5
_EMPTY_SECONDS = 60.0
_EMPTY_SLICE = 0.02
_MAY_PASS = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
    }
)


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
        self._programming: ServableHandle | None = None
        self._displaced: int | None = None
        self._needs_device = False
        self._retries: dict[int, Retry] = {}
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

    @property
    def opening(self) -> bool:
        """Whether a version has all but its device, which is being programmed."""
        return self._programming is not None

    @property
    def obstacle(self) -> str:
        """What is wrong with the device, so that no version answers; empty if nothing is known."""
        with self._lock:
            newest = self._loaded[max(self._loaded)] if self._loaded else self._programming
        if newest is not None:
            return newest.obstacle
        return NO_MODEL if self._needs_device and not self._gone else ""

    def device_reports(self) -> dict[int, DeviceReport]:
        """Return how the devices are of versions that have one for themselves."""
        with self._lock:
            handles = [*self._loaded.values(), *([self._programming] if self._programming else [])]
        reports = {handle.version: handle.device_report() for handle in handles}
        return {version: report for version, report in reports.items() if report is not None}

    def devices(self) -> dict[int, str]:
        """Return the device of each version that serves; empty where it is not known yet."""
        with self._lock:
            return {version: handle.model.device for version, handle in self._loaded.items()}

    def statuses(self) -> Sequence[VersionStatus]:
        """List the states of all versions ever seen, the highest first."""
        reports = self.device_reports()
        return [_with_device(status, reports.get(status.version)) for status in self._states.all()]

    def status(self, version: int) -> VersionStatus | None:
        """Read the state of one version; None if it was never seen."""
        status = self._states.get(version)
        return None if status is None else _with_device(status, self.device_reports().get(version))

    def acquire(self, version: int | None = None) -> Held[ServableHandle]:
        """Hold a version in memory: the given one, or the highest that serves.

        Raises
        ------
        StatusError
            It does not serve; UNAVAILABLE: its device is being programmed, or is unhealthy. Raised where
            the `with` statement begins.
        """
        return Held(lambda: self._take(version), _give)

    def _take(self, version: int | None) -> ServableHandle:
        """Refer to a version, see `acquire`."""
        with self._lock:
            wanted = max(self._loaded, default=None) if version is None else version
            held = None if wanted is None else self._loaded.get(wanted)
            if held is None:
                raise self._absent(version)
            if obstacle := held.obstacle:
                raise StatusError(grpc.StatusCode.UNAVAILABLE, obstacle)
            held.references.__enter__()
            return held

    def _absent(self, version: int | None) -> StatusError:
        """Say why there is no such version; the lock is held."""
        coming = self._programming
        if coming is not None and version in (None, coming.version):
            return StatusError(grpc.StatusCode.UNAVAILABLE, coming.obstacle or WARMING_UP)
        if self._needs_device and self._retries and version in (None, *self._retries):
            return StatusError(grpc.StatusCode.UNAVAILABLE, NO_MODEL)
        which = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
        return StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")

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
        self._put_back(found)
        self._forget_unwanted()
        # If the base path becomes empty or contains only broken versions, the old ones keep serving.
        if any(version in self._loaded for version in self._wanted):
            for version in [version for version in self._loaded if version not in self._wanted]:
                self._retire(version)
        self._close_retired()

    def _put_back(self, found: Mapping[int, Path]) -> None:
        """Load the version again that gave its device to versions that all failed finally."""
        version = self._displaced
        if version is None or self._stop.is_set() or self._gone or not self.failures():
            return
        if version in found and self._due(version):
            _log.warning("putting back model=%s version=%d", self.name, version)
            self._load(version, found[version])
        if version not in self._retries:
            self._displaced = None

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
        self._displaced = None
        with self._lock:
            self._loaded[version] = handle
            self._programming = None
        if self._gone:
            # Removed while it was loading.
            self._retire(version)
            return
        seconds = self._clock() - started
        _log.info("available model=%s version=%d seconds=%.3f", self.name, version, seconds)
        self._states.set(VersionStatus(version, State.AVAILABLE))

    def _loaded_and_ready(self, version: int, path: Path) -> ServableHandle:
        """Load a version and make it ready to serve."""
        model = self._loader.load(path)
        report = model.exclusive.report() if model.exclusive is not None else None
        digest, engine = recorded_digest(path), report.name if report is not None else ""
        handle = ServableHandle(self.name, version, model, path, digest, engine=engine)
        try:
            if model.exclusive is not None:
                self._announce(handle)
                self._make_room()
                model.exclusive.program()
            if self._prepare is not None:
                self._prepare(handle)
        except BaseException as error:
            self._programming = None
            model.close()
            if isinstance(error, ModelLoadError) or not isinstance(error, StatusError):
                raise
            permanent = error.code not in _MAY_PASS
            raise ModelLoadError(error.code, error.message, permanent=permanent) from error
        return handle

    def _announce(self, handle: ServableHandle) -> None:
        """Let callers know that a device is being programmed."""
        self._programming, self._needs_device = handle, True
        self._states.wake()

    def _make_room(self) -> None:
        """Take the versions that are no longer wanted off the device, and wait until their requests ended.

        A request that does not end keeps the device for a while only. After that its runs fail.

        Raises
        ------
        ModelLoadError
            A version that is wanted has the device.
        """
        with self._lock:
            held = list(self._loaded)
        for version in held:
            if version in self._wanted:
                words = ONE_MODEL.format(held=version)
                raise ModelLoadError(grpc.StatusCode.FAILED_PRECONDITION, words, permanent=True)
            self._displaced = version
            self._retire(version)
        end = time.monotonic() + _EMPTY_SECONDS
        self._close_retired()
        while self._retired and time.monotonic() < end and not self._stop.wait(_EMPTY_SLICE):
            self._close_retired()
        for left in self._retired:
            if left.model.exclusive is not None:
                left.model.exclusive.release()

    def _note_failure(self, version: int, error: ModelLoadError) -> None:
        """Schedule another attempt, or end the version."""
        previous = self._retries.pop(version, None)
        failures = 1 + (previous.failures if previous else 0)
        final = error.permanent or failures > self._settings.max_retries
        _log.error(
            "load failed model=%s version=%d try=%d final=%s: %s", self.name, version, failures, final, error
        )
        if not final:
            self._retries[version] = Retry(failures, self._clock() + self._settings.retry_seconds)
        state = State.END if final else State.LOADING
        self._states.set(VersionStatus(version, state, error.code, error.message))

    def _forget_unwanted(self) -> None:
        """Forget retries and failures of versions that are no longer wanted, so that they can come back."""
        kept = {*self._wanted, self._displaced}
        for version in [version for version in self._retries if version not in kept]:
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


def _with_device(status: VersionStatus, report: DeviceReport | None) -> VersionStatus:
    """Add what is in the way of a version that has a device for itself."""
    if report is None or not report.obstacle or status.state not in (State.LOADING, State.AVAILABLE):
        return status
    return VersionStatus(status.version, State.LOADING, grpc.StatusCode.UNAVAILABLE, report.obstacle)


def _give(handle: ServableHandle) -> None:
    """Refer to a version no more."""
    handle.references.__exit__()
