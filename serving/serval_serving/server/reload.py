"""Another configuration while the server runs: by RPC, or because the configuration file changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from google.protobuf import text_format

from serval_serving.models.config import ModelConfig, parse_config, read_models
from serval_serving.models.served_models import ServedModels
from serval_serving.server.flags import FlagError, parsing_error
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError, invalid

ONLY_LISTS = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest. "
    "Only ModelConfigList is currently supported"
)

NO_RELOAD = "This server does not change its models by request: --enable_config_reload is not set."

_log = logging.getLogger(__name__)


def reload(
    served: ServedModels, request: messages.ReloadConfigRequest, gave_up: Callable[[], bool]
) -> messages.ReloadConfigResponse:
    """Serve the models of a request instead.

    Raises
    ------
    StatusError
        As `ServedModels.reload`; INVALID_ARGUMENT where the request holds no list of models.
    """
    if not request.config.HasField("model_config_list"):
        raise invalid(ONLY_LISTS)
    served.reload(read_models(request.config.model_config_list.config), gave_up)
    return messages.ReloadConfigResponse(status=messages.StatusProto())


def read_file(path: Path) -> tuple[ModelConfig, ...]:
    """Read a configuration file.

    Raises
    ------
    FlagError
        It cannot be read, or is no text proto of a list of models.
    StatusError
        INVALID_ARGUMENT: a model in it cannot be served.
    """
    try:
        config = parse_config(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FlagError(f"--model_config_file cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise parsing_error(messages.ModelServerConfig(), path, error) from error
    if not config.HasField("model_config_list"):
        raise FlagError(f"{path} holds no model_config_list")
    return read_models(config.model_config_list.config)


class ConfigFileWatch:
    """Reads the configuration file again and again, in a thread of its own.

    What cannot be served is logged, and the models stay as they are. So does a file that was not changed,
    unless it could not be put into effect before: a label's version may serve by now.

    Parameters
    ----------
    path:
        The file.
    first:
        What was read of it at the start.
    served:
        The models.
    seconds:
        Time between two looks.
    """

    def __init__(
        self, path: Path, first: Sequence[ModelConfig], served: ServedModels, seconds: float
    ) -> None:
        self._path = path
        self._effective: tuple[ModelConfig, ...] | None = tuple(first)
        self._served = served
        self._seconds = seconds
        self._fault = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="config-file", daemon=True)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self) -> None:
        """Look once."""
        try:
            models = read_file(self._path)
            if models == self._effective:
                return
            self._effective = None
            self._served.reload(models, self._stopped.is_set)
        except (FlagError, StatusError) as error:
            # It is tried again and again; what is wrong is said once.
            if str(error) != self._fault:
                _log.error("the configuration file is not in effect: %s", error)
            self._fault = str(error)
            return
        self._effective, self._fault = models, ""
        _log.info("the configuration file is in effect: %s", self._path)

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.look()
            except Exception:  # noqa: BLE001  the thread must live on; the log says what failed
                _log.exception("reading %s failed", self._path)
