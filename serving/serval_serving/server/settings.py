"""Settings of the model server. Every field is one flag; see `flags`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serval_contract.ports import PORT_GRPC


@dataclass(frozen=True, slots=True)
class Settings:
    """What the flags say.

    Attributes
    ----------
    port:
        TCP port of gRPC; 0 for none.
    rest_api_port:
        TCP port of HTTP; 0 for none.
    rest_api_num_threads:
        Threads that run HTTP requests; 0 for four per CPU.
    rest_api_timeout_in_ms:
        Milliseconds until an HTTP request is answered with 504; 0 for never.
    rest_api_max_body_bytes:
        Largest body of an HTTP request.
    model_name, model_base_path:
        The model's name in requests, and the folder of its version folders.
    upstream, upstream_rest:
        Front mode: `host:port` of the gRPC and of the HTTP port of the server that this one stands before.
        That one has the models; `model_name` says which of them /score and readiness are about.
    model_config_file, model_config_file_poll_wait_seconds:
        Text proto ModelServerConfig that names the models instead, and the seconds between two looks at it;
        0 looks once.
    allow_version_labels_for_unavailable_models, force_allow_any_version_labels_for_unavailable_models:
        Whether a new label, or any label, may name a version that does not serve yet.
    file_system_poll_wait_seconds:
        Seconds between two looks at the base path; 0 looks once.
    max_num_load_retries, load_retry_interval_micros:
        Further tries of a load that failed in a way that may pass, and the time between two.
    enable_model_warmup, num_request_iterations_for_warmup:
        Whether a version runs the requests that it brings before it serves, and how often each.
    saved_model_tags:
        Tags of the meta graph to load.
    tensorflow_session_parallelism:
        Threads of both pools of the engine; 0 for one per CPU.
    tensorflow_intra_op_parallelism, tensorflow_inter_op_parallelism:
        The same, each pool by itself.
    per_process_gpu_memory_fraction:
        The most to take of a GPU's memory; 0 for no limit.
    onnx_providers:
        What runs ONNX models, the preferred one first; empty for CUDA where there is one, else the CPU.
    grpc_max_threads:
        Threads that handle RPCs; 0 for four per CPU.
    grpc_channel_arguments:
        Further arguments of the gRPC server.
    grpc_socket_path:
        Unix socket that gRPC listens on too; empty for none.
    enable_reflection:
        Whether gRPC tells callers its API.
    ssl_config_file, rest_api_tls:
        Text proto SSLConfig with the certificates of gRPC's port, and whether HTTP uses them too.
    rest_api_enable_cors_support, enable_cors_support:
        Whether scripts of other sites' pages may call; the second is the old name.
    access_log:
        Whether each request is logged.
    monitoring_config_file:
        Text proto MonitoringConfig; without it metrics are served at the default path.
    enable_serialization_as_tensor_content:
        Whether outputs of Predict come as `tensor_content` instead of typed fields.
    enable_signature_method_name_check:
        Whether signatures are only for what their method names say.
    enable_scoring:
        Whether /score answers.
    scoring_output:
        The output that /score answers; without it the second in alphabetical order, or the only one.
    auth_keys:
        File or folder of the keys of which callers must show one to predict; without it nobody need.
    enable_batching, batching_parameters_file, enable_per_model_batching_parameters:
        Whether requests are run in batches; a text proto of how, without it the defaults hold; and whether a
        version's folder may hold its own.
    drain_seconds:
        Seconds that clients have to leave, and requests in progress to finish, after SIGTERM.
    max_connection_age_seconds:
        Seconds after which a client is asked to connect anew, so that load spreads over new pods, and so
        that clients leave a pod that ends without a lost call; 0 for never.
    max_concurrent_requests:
        Predictions in progress at once, waiting ones included; more are refused. 0 for no limit.
    engine_threads:
        Predictions inside one engine at once; 0 for one per CPU.
    """

    port: int = PORT_GRPC
    rest_api_port: int = 0
    rest_api_num_threads: int = 0
    rest_api_timeout_in_ms: int = 30000
    rest_api_max_body_bytes: int = 128 * 1024 * 1024
    model_name: str = "default"
    model_base_path: Path | None = None
    upstream: str = ""
    upstream_rest: str = ""
    model_config_file: Path | None = None
    model_config_file_poll_wait_seconds: int = 0
    allow_version_labels_for_unavailable_models: bool = False
    force_allow_any_version_labels_for_unavailable_models: bool = False
    file_system_poll_wait_seconds: int = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60 * 1000 * 1000
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    saved_model_tags: tuple[str, ...] = ("serve",)
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    per_process_gpu_memory_fraction: float = 0.0
    onnx_providers: tuple[str, ...] = ()
    grpc_max_threads: int = 0
    grpc_channel_arguments: tuple[tuple[str, int | str], ...] = field(default=())
    grpc_socket_path: str = ""
    enable_reflection: bool = False
    ssl_config_file: Path | None = None
    rest_api_tls: bool = False
    rest_api_enable_cors_support: bool = False
    enable_cors_support: bool = False
    access_log: bool = False
    monitoring_config_file: Path | None = None
    enable_serialization_as_tensor_content: bool = False
    enable_signature_method_name_check: bool = False
    enable_scoring: bool = True
    scoring_output: str = ""
    auth_keys: Path | None = None
    enable_batching: bool = False
    batching_parameters_file: Path | None = None
    enable_per_model_batching_parameters: bool = False
    drain_seconds: float = 30.0
    max_connection_age_seconds: float = 10.0
    max_concurrent_requests: int = 0
    engine_threads: int = 0
