"""Flags of model servers and of the front that the operator or its configuration sets.

The first group is TensorFlow Serving's own: every runtime must take these. docs/serving.md explains all of
the flags.
"""

from __future__ import annotations

from typing import Final

from serval_contract.flags import Flag

PORT: Final[Flag[int]] = Flag("port")
REST_API_PORT: Final[Flag[int]] = Flag("rest_api_port")
REST_API_TIMEOUT_IN_MS: Final[Flag[int]] = Flag("rest_api_timeout_in_ms")
MODEL_NAME: Final[Flag[str]] = Flag("model_name")
MODEL_BASE_PATH: Final[Flag[str]] = Flag("model_base_path")
ENABLE_BATCHING: Final[Flag[bool]] = Flag("enable_batching")
BATCHING_PARAMETERS_FILE: Final[Flag[str]] = Flag("batching_parameters_file")
MONITORING_CONFIG_FILE: Final[Flag[str]] = Flag("monitoring_config_file")

# Flags of Serval's own server, alone or as a front.
MAX_CONCURRENT_REQUESTS: Final[Flag[int]] = Flag("max_concurrent_requests")
GRPC_MAX_MESSAGE_BYTES: Final[Flag[int]] = Flag("grpc_max_message_bytes")
ENABLE_SCORING: Final[Flag[bool]] = Flag("enable_scoring")
SCORING_OUTPUT: Final[Flag[str]] = Flag("scoring_output")
UPSTREAM: Final[Flag[str]] = Flag("upstream")
UPSTREAM_REST: Final[Flag[str]] = Flag("upstream_rest")
DRAIN_SECONDS: Final[Flag[int]] = Flag("drain_seconds")
