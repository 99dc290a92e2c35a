"""The command line: TensorFlow Serving's flags, and a few of our own.

Flags are written `--name=value` or `--name value`; a bool may stand alone. As with TensorFlow Serving an
unknown argument prints the usage, and the server starts all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from serval_serving.server.flag_values import Parse, boolean
from serval_serving.server.settings import DEFAULTS, FLAGS, Settings


class FlagError(ValueError):
    """A flag has a value that cannot be used, or asks for what this server cannot do."""


def parsing_error(message: Any, path: Path, error: Exception) -> FlagError:
    """Make the error for a file that is not a text proto of a message, in the words of protobuf in C++."""
    return FlagError(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {path}: {error}")


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


IGNORED: Final[Mapping[str, Parse]] = MappingProxyType(
    {
        "enable_grpc_healthcheck_service": boolean,
        "enable_profiler": boolean,
        "flush_filesystem_caches": boolean,
        "num_load_threads": int,
        "num_unload_threads": int,
        "platform_config_file": str,
        "prefer_tflite_model": boolean,
        "remove_unused_fields_from_bundle_metagraph": boolean,
        "resolve_tf_run_options": boolean,
        "response_tensors_serialization_option": str,
        "skip_initialize_tpu": boolean,
        "tensorflow_session_config_file": str,
        "thread_pool_factory_config_file": str,
        "use_alts_credentials": boolean,
        "xla_gpu_jit_level": int,
    }
)
"""Flags of TensorFlow Serving that are accepted and have no effect."""

REFUSED: Final = frozenset({"use_tflite_model"})
"""Flags of TensorFlow Serving that end the start: ignoring them would serve a different model."""


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
        if name in FLAGS:
            values[name] = _value(name, text, FLAGS[name].parse)
        elif name in IGNORED:
            _value(name, text, IGNORED[name])
            ignored.append(name)
        elif name in REFUSED:
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
    lines = [
        "usage: serval-model-server --model_base_path=<folder> [--flag=value ...]",
        "       serval-model-server --upstream=<host:port> [--flag=value ...]",
    ]
    for name, flag in sorted(FLAGS.items()):
        note = "" if flag.tf_serving else " (not of tensorflow_model_server)"
        lines.append(f"  --{name}={spelled_default(name)}{note}")
    return "\n".join(lines)


def _split(argument: str, rest: list[str]) -> tuple[str, str | None]:
    """Split an argument into a flag's name and value; the value may be the next argument."""
    if not argument.startswith("--"):
        return "", None
    name, equals, text = argument[2:].partition("=")
    if equals:
        return name, text
    parse_value = FLAGS[name].parse if name in FLAGS else IGNORED.get(name)
    needs_value = name in REFUSED or (parse_value is not None and parse_value is not boolean)
    if needs_value and rest and not rest[0].startswith("--"):
        return name, rest.pop(0)
    return name, None


def _value(name: str, text: str | None, parse_value: Parse) -> Any:
    """Parse one flag's value."""
    if text is None:
        if parse_value is boolean:
            return True
        raise FlagError(f"--{name} needs a value")
    try:
        return parse_value(text)
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
    for name, flag in FLAGS.items():
        if not flag.with_upstream and getattr(settings, name) != getattr(DEFAULTS, name):
            raise FlagError(
                f"--{name} cannot be given together with --upstream: the server at {settings.upstream} has "
                "the models and decides this"
            )


def spelled_default(name: str) -> str:
    """Return the default of a flag as its value is written."""
    value = getattr(DEFAULTS, name)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, tuple) else str(value)
