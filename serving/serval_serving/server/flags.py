"""The command line: TensorFlow Serving's flags, and a few of our own.

Flags are written `--name=value` or `--name value`; a bool may stand alone. As with TensorFlow Serving an
unknown argument prints the usage, and the server starts all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serval_contract import server_flags as operator_flags
from serval_serving.server.settings import Settings

_TRUE = frozenset({"true", "1", "t", "yes"})
_FALSE = frozenset({"false", "0", "f", "no"})


class FlagError(ValueError):
    """A flag has a value that cannot be used, or asks for what this server cannot do."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the arguments say.

    Attributes
    ----------
    settings:
        The flags in effect.
    ignored:
        Flags of TensorFlow Serving that have no effect here.
    unknown:
        Arguments that are no flags of either server.
    version:
        Whether only the version was asked for.
    """

    settings: Settings
    ignored: tuple[str, ...] = field(default=())
    unknown: tuple[str, ...] = field(default=())
    version: bool = False


def _bool(text: str) -> bool:
    value = text.lower()
    if value not in _TRUE | _FALSE:
        raise ValueError(text)
    return value in _TRUE


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise ValueError(text)
    return value


def _address(text: str) -> str:
    """Check a `host:port`."""
    host, colon, port = text.rpartition(":")
    if text and not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(text)
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """Read `k=v,k=v`; numbers become integers, as gRPC wants them."""
    arguments: list[tuple[str, int | str]] = []
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(item)
        arguments.append((key, int(value) if value.lstrip("-").isdecimal() else value))
    return tuple(arguments)


_PARSERS: dict[str, Callable[[str], Any]] = {
    operator_flags.PORT.name: _port,
    operator_flags.REST_API_PORT.name: _port,
    "rest_api_num_threads": _natural,
    operator_flags.REST_API_TIMEOUT_IN_MS.name: _natural,
    "rest_api_max_body_bytes": _natural,
    operator_flags.MODEL_NAME.name: str,
    operator_flags.MODEL_BASE_PATH.name: _path,
    operator_flags.UPSTREAM.name: _address,
    operator_flags.UPSTREAM_REST.name: _address,
    "model_config_file": _path,
    "model_config_file_poll_wait_seconds": _natural,
    "allow_version_labels_for_unavailable_models": _bool,
    "force_allow_any_version_labels_for_unavailable_models": _bool,
    # Negative numbers look once too, as TensorFlow Serving's source does with anything below 1.
    "file_system_poll_wait_seconds": int,
    "max_num_load_retries": _natural,
    "load_retry_interval_micros": _natural,
    "enable_model_warmup": _bool,
    "num_request_iterations_for_warmup": _positive,
    "saved_model_tags": _names,
    "tensorflow_session_parallelism": _natural,
    "tensorflow_intra_op_parallelism": _natural,
    "tensorflow_inter_op_parallelism": _natural,
    "per_process_gpu_memory_fraction": _fraction,
    "onnx_providers": _names,
    "grpc_max_threads": _natural,
    "grpc_channel_arguments": _channel_arguments,
    "grpc_socket_path": str,
    "enable_reflection": _bool,
    "ssl_config_file": _path,
    "rest_api_tls": _bool,
    "rest_api_enable_cors_support": _bool,
    "enable_cors_support": _bool,
    "access_log": _bool,
    operator_flags.MONITORING_CONFIG_FILE.name: _path,
    "enable_serialization_as_tensor_content": _bool,
    "enable_signature_method_name_check": _bool,
    operator_flags.ENABLE_SCORING.name: _bool,
    operator_flags.SCORING_OUTPUT.name: str,
    "enable_batching": _bool,
    "batching_parameters_file": _path,
    "enable_per_model_batching_parameters": _bool,
    "auth_keys": _path,
    operator_flags.DRAIN_SECONDS.name: _seconds,
    "max_connection_age_seconds": _seconds,
    operator_flags.MAX_CONCURRENT_REQUESTS.name: _natural,
    "engine_threads": _natural,
}

_IGNORED: dict[str, Callable[[str], Any]] = {
    "enable_grpc_healthcheck_service": _bool,
    "enable_profiler": _bool,
    "flush_filesystem_caches": _bool,
    "num_load_threads": int,
    "num_unload_threads": int,
    "platform_config_file": str,
    "prefer_tflite_model": _bool,
    "remove_unused_fields_from_bundle_metagraph": _bool,
    "resolve_tf_run_options": _bool,
    "response_tensors_serialization_option": str,
    "skip_initialize_tpu": _bool,
    "tensorflow_session_config_file": str,
    "thread_pool_factory_config_file": str,
    "use_alts_credentials": _bool,
    "xla_gpu_jit_level": int,
}

# What the server behind a front decides; a front that took them would not do what they say.
_NOT_IN_FRONT = (
    "model_base_path",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "force_allow_any_version_labels_for_unavailable_models",
    "file_system_poll_wait_seconds",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "enable_model_warmup",
    "num_request_iterations_for_warmup",
    "saved_model_tags",
    "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "per_process_gpu_memory_fraction",
    "onnx_providers",
    "enable_serialization_as_tensor_content",
    "enable_signature_method_name_check",
    "enable_batching",
    "batching_parameters_file",
    "enable_per_model_batching_parameters",
    "engine_threads",
)

# To start without these would serve something else than what was asked for.
_REFUSED = frozenset({"use_tflite_model"})

_OWN = frozenset(
    {
        "upstream",
        "upstream_rest",
        "rest_api_max_body_bytes",
        "enable_scoring",
        "scoring_output",
        "onnx_providers",
        "auth_keys",
        "access_log",
        "enable_reflection",
        "rest_api_tls",
        "drain_seconds",
        "max_connection_age_seconds",
        "max_concurrent_requests",
        "engine_threads",
    }
)


def parse(arguments: Sequence[str]) -> CommandLine:
    """Read the arguments, without the program's name.

    Raises
    ------
    FlagError
        A value cannot be used, flags contradict each other, or one asks for what is not supported.
    """
    values: dict[str, Any] = {}
    ignored: list[str] = []
    unknown: list[str] = []
    version = False
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, text = _split(argument, rest)
        if name in _PARSERS:
            values[name] = _value(name, text, _PARSERS[name])
        elif name in _IGNORED:
            _value(name, text, _IGNORED[name])
            ignored.append(name)
        elif name in _REFUSED:
            if text not in {"", "false"}:
                raise FlagError(f"--{name} is not supported by this server")
        elif name == "version":
            version = True
        else:
            unknown.append(argument)
    settings = Settings(**values)
    if not version:
        _check(settings)
    return CommandLine(settings, tuple(ignored), tuple(unknown), version)


def usage() -> str:
    """List the flags that have an effect, with their defaults."""
    defaults = Settings()
    lines = [
        "usage: serval-model-server --model_base_path=<folder> [--flag=value ...]",
        "       serval-model-server --upstream=<host:port> [--flag=value ...]",
    ]
    for name in sorted(_PARSERS):
        note = " (not of tensorflow_model_server)" if name in _OWN else ""
        lines.append(f"  --{name}={_spelled(getattr(defaults, name))}{note}")
    return "\n".join(lines)


def _split(argument: str, rest: list[str]) -> tuple[str, str | None]:
    """Split an argument into a flag's name and value; the value may be the next argument."""
    if not argument.startswith("--"):
        return "", None
    name, equals, text = argument[2:].partition("=")
    if equals:
        return name, text
    parser = _PARSERS.get(name) or _IGNORED.get(name)
    needs_value = name in _REFUSED or (parser is not None and parser is not _bool)
    if needs_value and rest and not rest[0].startswith("--"):
        return name, rest.pop(0)
    return name, None


def _value(name: str, text: str | None, parser: Callable[[str], Any]) -> Any:
    """Read one flag's value."""
    if text is None:
        if parser is _bool:
            return True
        raise FlagError(f"--{name} needs a value")
    try:
        return parser(text)
    except ValueError:
        raise FlagError(f"--{name} cannot be {text!r}") from None


def _check(settings: Settings) -> None:
    """Check what flags must hold together."""
    if settings.upstream:
        _check_front(settings)
    elif settings.upstream_rest:
        raise FlagError("--upstream_rest needs --upstream")
    elif settings.model_base_path is None and settings.model_config_file is None:
        raise FlagError("--model_base_path or --model_config_file is required")
    if not settings.model_name:
        raise FlagError("--model_name must not be empty")
    if settings.port == 0 and settings.rest_api_port == 0 and not settings.grpc_socket_path:
        raise FlagError("--port and --rest_api_port are both 0: there is nothing to serve on")
    if settings.rest_api_tls and settings.ssl_config_file is None:
        raise FlagError("--rest_api_tls needs --ssl_config_file")
    if settings.port and settings.port == settings.rest_api_port:
        raise FlagError("--rest_api_port cannot be same as --port")
    if settings.batching_parameters_file is not None and not settings.enable_batching:
        raise FlagError("--batching_parameters_file is set without setting --enable_batching to true")
    both = settings.tensorflow_session_parallelism
    if both and (settings.tensorflow_intra_op_parallelism or settings.tensorflow_inter_op_parallelism):
        raise FlagError(
            "either --tensorflow_session_parallelism or --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism can be set, not both"
        )


def _check_front(settings: Settings) -> None:
    """Refuse what a server without models cannot do."""
    defaults = Settings()
    for name in _NOT_IN_FRONT:
        if getattr(settings, name) != getattr(defaults, name):
            raise FlagError(
                f"--{name} cannot be given together with --upstream: the server at {settings.upstream} has "
                "the models and decides this"
            )


def _spelled(value: Any) -> str:
    """Spell a default as a flag's value."""
    if value is None:
        return ""
    return ",".join(value) if isinstance(value, tuple) else str(value)
