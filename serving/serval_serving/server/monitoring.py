"""Reads the monitoring configuration of TensorFlow Serving."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from serval_contract.metrics import METRICS_PATH
from serval_serving.server.flags import FlagError, parsing_error
from serval_serving.wire import messages


def metrics_path(config_file: Path | None) -> str:
    """Say where metrics are served: by default without a file, nowhere (empty) where it does not enable them.

    Raises
    ------
    FlagError
        The file cannot be read, is no such text proto, or names no absolute path.
    """
    if config_file is None:
        return METRICS_PATH
    config = messages.MonitoringConfig()
    try:
        # Fields that this server does not know must not keep it from starting.
        text_format.Parse(config_file.read_text(encoding="utf-8"), config, allow_unknown_field=True)
    except (OSError, UnicodeDecodeError) as error:
        raise FlagError(f"--monitoring_config_file cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise parsing_error(config, config_file, error) from error
    prometheus = config.prometheus_config
    if not prometheus.enable:
        return ""
    path = prometheus.path or METRICS_PATH
    if not path.startswith("/"):
        raise FlagError(f"the metrics path of {config_file} must begin with /: {path}")
    return path
