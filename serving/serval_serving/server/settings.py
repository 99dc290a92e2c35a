"""Settings of the model server: the table of its flags.

Every field is one flag. The parser, the usage and the tables of docs/serving.md are derived from the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from serval_contract.devices import EMULATED_DOMAIN, LOCK_DIR_VARIABLE
from serval_contract.ports import PORT_GRPC
from serval_serving.devices.choice import engine_name, engine_options
from serval_serving.server import flag_values as values
from serval_serving.server.flag_values import Parse

_FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Flag:
    """What the operator knows of a flag besides its name, type and default.

    Attributes
    ----------
    parse:
        Parses its value.
    help:
        What it does, in one sentence of Markdown.
    tf_serving:
        Whether TensorFlow Serving has it.
    with_upstream:
        Whether it has an effect with `--upstream`. Without: the server behind decides it.
    """

    parse: Parse
    help: str
    tf_serving: bool
    with_upstream: bool


def _shared(default: Any, parse: Parse, text: str) -> Any:
    """Declare a flag of TensorFlow Serving that concerns ports and requests."""
    return field(default=default, metadata={_FLAG: Flag(parse, text, tf_serving=True, with_upstream=True)})


def _model(default: Any, parse: Parse, text: str) -> Any:
    """Declare a flag of TensorFlow Serving that concerns models."""
    return field(default=default, metadata={_FLAG: Flag(parse, text, tf_serving=True, with_upstream=False)})


def _own(default: Any, parse: Parse, text: str, *, with_upstream: bool = True) -> Any:
    """Declare a flag that TensorFlow Serving does not have."""
    flag = Flag(parse, text, tf_serving=False, with_upstream=with_upstream)
    return field(default=default, metadata={_FLAG: flag})


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the flags. The help of each field's flag documents it."""

    port: int = _shared(PORT_GRPC, values.port, "TCP port of gRPC; 0 for none")
    grpc_socket_path: str = _shared("", str, "Unix socket on which gRPC listens too")
    grpc_max_threads: int = _shared(
        0,
        values.natural,
        "RPCs that are handled at once; 0 for 64, and with batching for enough to fill the batches",
    )
    grpc_channel_arguments: tuple[tuple[str, int | str], ...] = _shared(
        (), values.channel_arguments, "further arguments of the gRPC server, as `key=value,key=value`"
    )
    ssl_config_file: Path | None = _shared(
        None, values.path, "text proto SSLConfig with the certificates of the gRPC port"
    )
    rest_api_port: int = _shared(0, values.port, "TCP port of HTTP; 0 for none")
    rest_api_num_threads: int = _shared(
        0,
        values.natural,
        "threads that run HTTP requests; 0 for four per CPU, with batching for enough to fill the batches",
    )
    rest_api_timeout_in_ms: int = _shared(
        30000, values.natural, "time after which an HTTP request is answered with 504; 0 for no limit"
    )
    rest_api_enable_cors_support: bool = _shared(
        False, values.boolean, "whether scripts on pages of other sites may call"
    )
    enable_cors_support: bool = _shared(False, values.boolean, "old name of `--rest_api_enable_cors_support`")
    monitoring_config_file: Path | None = _shared(
        None, values.path, "text proto MonitoringConfig; without it, metrics are at the default path"
    )
    model_name: str = _shared("default", str, "the name of the model in requests")
    model_base_path: Path | None = _model(None, values.path, "folder with a folder for each version")
    model_config_file: Path | None = _model(
        None, values.path, "text proto ModelServerConfig with the models, in place of a base path"
    )
    model_config_file_poll_wait_seconds: int = _model(
        0, values.natural, "time between two reads of that file; 0 for one read"
    )
    allow_version_labels_for_unavailable_models: bool = _model(
        False, values.boolean, "whether a new label may be given to a version that does not serve yet"
    )
    force_allow_any_version_labels_for_unavailable_models: bool = _model(
        False, values.boolean, "the same for any label"
    )
    # Negative numbers read once too, as TensorFlow Serving's source does with anything below 1.
    file_system_poll_wait_seconds: int = _model(
        1, int, "time between two reads of the base path; 0 for one read"
    )
    max_num_load_retries: int = _model(
        5, values.natural, "further attempts after a load that failed in a way that may pass"
    )
    load_retry_interval_micros: int = _model(60_000_000, values.natural, "time between two attempts")
    enable_model_warmup: bool = _model(
        True, values.boolean, "whether a version runs the warm-up requests in its folder before it serves"
    )
    num_request_iterations_for_warmup: int = _model(1, values.positive, "how often each warm-up request runs")
    saved_model_tags: tuple[str, ...] = _model(("serve",), values.names, "tags of the meta graph to load")
    enable_batching: bool = _model(False, values.boolean, "whether requests run in batches")
    batching_parameters_file: Path | None = _model(
        None, values.path, "text proto BatchingParameters; without it, the defaults apply"
    )
    enable_per_model_batching_parameters: bool = _model(
        False, values.boolean, "whether the folder of a version may contain its own parameters"
    )
    tensorflow_session_parallelism: int = _model(
        0, values.natural, "threads of both pools of an engine; 0 for one per CPU"
    )
    tensorflow_intra_op_parallelism: int = _model(
        0, values.natural, "threads within an operator; 0 for one per CPU"
    )
    tensorflow_inter_op_parallelism: int = _model(
        0, values.natural, "operators that run at once; 0 for one per CPU with TensorFlow, one with ONNX"
    )
    per_process_gpu_memory_fraction: float = _model(
        0.0, values.fraction, "largest part of the memory of a GPU to allocate; 0 for no limit"
    )
    enable_serialization_as_tensor_content: bool = _model(
        False, values.boolean, "whether outputs of Predict are `tensor_content` in place of typed fields"
    )
    enable_signature_method_name_check: bool = _model(
        False, values.boolean, "whether Predict refuses signatures with another method name"
    )
    upstream: str = _own(
        "",
        values.address,
        "`host:port` of the gRPC port of another server that has the models, in place of a base path;"
        " `--model_name` is the one that `/score` and readiness are about",
    )
    upstream_rest: str = _own(
        "", values.address, "`host:port` of its HTTP port, whose metrics are added to the page"
    )
    drain_seconds: float = _own(
        30.0, values.seconds, "time for clients to leave and requests to end after SIGTERM"
    )
    max_connection_age_seconds: float = _own(
        10.0,
        values.seconds,
        "a client is asked to reconnect after this time, so that load reaches new pods; 0 for never",
    )
    max_concurrent_requests: int = _own(
        0,
        values.natural,
        "largest number of predictions in progress, including waiting ones; more get RESOURCE_EXHAUSTED"
        " (429); 0 for no limit",
    )
    engine_threads: int = _own(
        0,
        values.natural,
        "largest number of predictions inside one engine (TensorFlow and ONNX Runtime each have their own);"
        " 0 for one per CPU",
        with_upstream=False,
    )
    onnx_providers: tuple[str, ...] = _own(
        (),
        values.names,
        "the providers that run ONNX models, the preferred one first, such as `CUDA,CPU` or `OpenVINO`;"
        " empty for CUDA if there is one, else the CPU",
        with_upstream=False,
    )
    device_engine: str = _own(
        "",
        engine_name,
        "what programs and runs the device of an accelerated model: `emulator`, `vart` or `onnxruntime-ep`;"
        " only artifacts are served then",
        with_upstream=False,
    )
    device_options: str = _own(
        "",
        engine_options,
        'options of that engine as a JSON object, such as `{"programming_seconds": 0}`',
        with_upstream=False,
    )
    device_lock_dir: Path | None = _own(
        None,
        values.path,
        "folder that all containers of the node share, for locks of devices; empty for that of the variable"
        f" `{LOCK_DIR_VARIABLE}`",
        with_upstream=False,
    )
    device_resource: str = _own(
        "",
        str,
        "extended resource that the pod holds; the emulator refuses one that does not begin with"
        f" `{EMULATED_DOMAIN}`",
        with_upstream=False,
    )
    device_allow_emulation: bool = _own(
        False, values.boolean, "whether the emulator may hold any resource", with_upstream=False
    )
    enable_scoring: bool = _own(True, values.boolean, "whether `/score` answers; if not, 404")
    scoring_output: str = _own(
        "", str, "the output of `/score`; empty for the second in alphabetical order, or the only one"
    )
    grpc_max_message_bytes: int = _own(
        128 * 1024 * 1024,
        values.message_bytes,
        "largest request over gRPC; larger ones get RESOURCE_EXHAUSTED; 0 for no limit",
    )
    memory_limit_bytes: int = _own(
        0,
        values.natural,
        "memory that the server may use: when it is short, requests that take long to arrive are refused with"
        " RESOURCE_EXHAUSTED (429); 0 for the limit of the container",
    )
    enable_config_reload: bool = _own(
        False,
        values.boolean,
        "whether `HandleReloadConfigRequest` is answered; anybody who reaches the port can then replace the"
        " models, unless keys are required",
    )
    rest_api_max_body_bytes: int = _own(128 * 1024 * 1024, values.natural, "largest HTTP body")
    auth_keys: Path | None = _own(None, values.path, "file or folder of keys; callers must send one of them")
    rest_api_tls: bool = _own(
        False, values.boolean, "whether HTTP uses the certificates of `--ssl_config_file`"
    )
    enable_reflection: bool = _own(
        False,
        values.boolean,
        "whether gRPC reflection is on, for tools such as grpcurl; without it, use `serval protoset`",
    )
    access_log: bool = _own(
        False,
        values.boolean,
        "one line per request: caller, method, model, status, milliseconds, bytes, id, pod, name of the key;"
        " never the content",
    )
    sample_folder: Path | None = _own(
        None,
        values.path,
        "folder for a sample of the requests and replies, with their content; without it, none is taken",
    )
    sample_rate: float = _own(0.01, values.fraction, "part of the predictions that are sampled")
    sample_max_per_second: int = _own(10, values.positive, "largest number of samples per second")
    sample_max_bytes: int = _own(
        64 * 1024 * 1024,
        values.positive,
        "bytes of the samples that this pod keeps in the folder; the oldest give way to new ones",
    )


FLAGS: Final[Mapping[str, Flag]] = MappingProxyType(
    {one.name: one.metadata[_FLAG] for one in fields(Settings)}
)
"""The flags by name, in the order of the table."""
DEFAULTS: Final = Settings()
