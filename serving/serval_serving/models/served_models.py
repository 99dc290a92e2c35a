"""All models of a server: what is configured serves, until another configuration takes its place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from enum import Enum

import grpc

from serval_contract.startup import NOT_AVAILABLE
from serval_serving.models.config import ModelConfig, check_platforms
from serval_serving.models.manager import ModelManager
from serval_serving.wire.status import StatusError

LABEL_REFUSED = (
    "Request to assign label to version {version} of model {name}, "
    "which is not currently available for inference"
)
GAVE_UP = "The caller left before the configuration was put into effect."
NOT_AVAILABLE_AT_START = f"%d servable(s) {NOT_AVAILABLE}: {{%s}}"
NOT_AVAILABLE_AFTER = f"%d model(s) {NOT_AVAILABLE}: {{%s}}"

_STEP_SECONDS = 0.1
_log = logging.getLogger(__name__)


class EarlyLabels(Enum):
    """Labels that a version may get before it serves."""

    NONE = "none"
    NEW = "new"
    """Those that there were not before, or that name this version already."""
    ALL = "all"


class ServedModels(Mapping[str, ModelManager]):
    """The models by name. Reading it is safe at any time.

    Parameters
    ----------
    make:
        Makes the manager of a model, not started.
    early_labels:
        Which labels may be given to a version that does not serve yet.
    """

    def __init__(
        self, make: Callable[[ModelConfig], ModelManager], early_labels: EarlyLabels = EarlyLabels.NONE
    ) -> None:
        self._make = make
        self._early_labels = early_labels
        self._changing = threading.Lock()
        self._configs: tuple[ModelConfig, ...] = ()
        self._managers: dict[str, ModelManager] = {}

    def __getitem__(self, name: str) -> ModelManager:
        return self._managers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._managers)

    def __len__(self) -> int:
        return len(self._managers)

    def items(self) -> ItemsView[str, ModelManager]:
        """Return the models of one configuration, though another takes its place meanwhile."""
        return self._managers.items()

    def start(
        self,
        configs: Sequence[ModelConfig],
        gave_up: Callable[[], bool],
        opening: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve the first configuration, and wait until every model has a version that serves.

        Parameters
        ----------
        configs:
            The models.
        gave_up:
            Whether to wait no longer.
        opening:
            Called once when the models that do not serve yet wait for devices that are being programmed:
            callers can be told how far that is.

        Raises
        ------
        StatusError
            UNKNOWN: a model failed for good; FAILED_PRECONDITION: a label's version does not serve.
        """
        with self._changing:
            self._change(configs)
            self._wait(configs, gave_up, NOT_AVAILABLE_AT_START, opening)

    def reload(self, configs: Sequence[ModelConfig], gave_up: Callable[[], bool]) -> None:
        """Serve another configuration: new models load, those that are gone unload, others change.

        Returns once every new model has a version that serves.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT or FAILED_PRECONDITION: the configuration cannot be served, and nothing changed;
            UNKNOWN: a new model failed for good; CANCELLED: the caller has gone.
        """
        with self._changing:
            if gave_up():
                raise StatusError(grpc.StatusCode.CANCELLED, GAVE_UP)
            check_platforms(self._configs, configs)
            new = [config for config in configs if config.name not in self._managers]
            self._change(configs)
            self._wait(new, gave_up, NOT_AVAILABLE_AFTER)

    def stop(self) -> None:
        """Stop looking for new versions. What is loaded stays usable."""
        for manager in self._managers.values():
            manager.stop()

    def _change(self, configs: Sequence[ModelConfig]) -> None:
        """Put a configuration into effect, without waiting for anything to load."""
        self._check_labels(configs)
        managers: dict[str, ModelManager] = {}
        for config in configs:
            manager = self._managers.get(config.name)
            if manager is None:
                _log.info("adding model=%s base_path=%s", config.name, config.base_path)
                manager = self._make(config)
                manager.start()
            else:
                manager.configure(config.base_path, config.policy)
            manager.set_labels(config.labels)
            managers[config.name] = manager
        gone = [manager for name, manager in self._managers.items() if name not in managers]
        self._configs, self._managers = tuple(configs), managers
        for manager in gone:
            _log.info("removing model=%s", manager.name)
            manager.retire()

    def _check_labels(self, configs: Sequence[ModelConfig]) -> None:
        """Check that labels name versions that serve, or may name others."""
        for config in configs:
            manager = self._managers.get(config.name)
            available = manager.available() if manager else []
            known: Mapping[str, int] = manager.labels if manager else {}
            for label, version in config.labels.items():
                allowed = self._early_labels is EarlyLabels.ALL or (
                    self._early_labels is EarlyLabels.NEW and known.get(label, version) == version
                )
                if version not in available and not allowed:
                    message = LABEL_REFUSED.format(version=version, name=config.name)
                    raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, message)

    def _wait(
        self,
        configs: Sequence[ModelConfig],
        gave_up: Callable[[], bool],
        text: str,
        opening: Callable[[], None] | None = None,
    ) -> None:
        """Wait for the first version of each model; all that failed are named."""
        waiting = [self._managers[config.name] for config in configs]
        while waiting and not gave_up():
            waiting = [manager for manager in waiting if not manager.available()]
            if opening is not None and waiting and all(manager.opening for manager in waiting):
                opening()
                opening = None
            failures = [manager.failures() for manager in waiting]
            if waiting and all(failures):
                failed = [failure for one in failures for failure in one]
                message = text % (len(failed), ", ".join(failed))
                raise StatusError(grpc.StatusCode.UNKNOWN, message)
            if waiting:
                waiting[0].wait(_STEP_SECONDS)
