"""What both gRPC clients share: channels, requests and replies of the predict API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from serval_serving.client.errors import INTERNAL, ServingError
from serval_serving.client.replies import SIGNATURE_DEF
from serval_serving.client.values import Value, as_array
from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.tensors import to_array, write_array

DEFAULT_PORT: Final = 8500
DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that a call may take, all tries together."""

_SERVICE_CONFIG: Final = {
    # One connection to every address of a headless Service, and requests to all of them in turn.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A request that is longer than this is not kept, so it would not be sent again.
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
    # Only while calls are in progress, and seldom: servers hang up on clients that ping too often.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is secured.

    Attributes
    ----------
    ca_file:
        Authorities to trust; None for those that gRPC brings along.
    certificate_file, key_file:
        The client's own certificate and key, where the server asks for one.
    server_name:
        Name that the server's certificate must carry; empty for the one in the address.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""


def open_channel(address: str, tls: Tls | None, module: Any = grpc) -> Any:
    """Open a channel to `address`; `module` is ``grpc`` or ``grpc.aio``."""
    target = grpc_target(address)
    options = list(_OPTIONS)
    if tls is None:
        return module.insecure_channel(target, options=options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return module.secure_channel(target, _credentials(tls), options=options)


def key_metadata(key: str | None) -> tuple[tuple[str, str], ...]:
    """Return what a call carries beside its message."""
    return (("authorization", f"Bearer {key}"),) if key else ()


def predict_request(
    inputs: Mapping[str, Value], model: str, version: int | None, signature: str, outputs: Sequence[str]
) -> messages.PredictRequest:
    """Write a request. Raises `ValueError` if an input cannot be sent."""
    request = messages.PredictRequest(model_spec=_spec(model, version, signature), output_filter=outputs)
    for name, value in inputs.items():
        write_array(request.inputs[name], as_array(value), typed=False)
    return request


def predict_outputs(reply: messages.PredictResponse) -> dict[str, np.ndarray[Any, Any]]:
    """Read the arrays of a reply. Raises `ServingError` where one cannot be read."""
    try:
        return {name: to_array(reply.outputs[name]) for name in sorted(reply.outputs)}
    except TensorError as error:
        raise ServingError(INTERNAL, f"the reply cannot be read: {error}") from error


def metadata_request(model: str, version: int | None) -> messages.GetModelMetadataRequest:
    """Ask for signatures."""
    return messages.GetModelMetadataRequest(model_spec=_spec(model, version), metadata_field=[SIGNATURE_DEF])


def status_request(model: str, version: int | None) -> messages.GetModelStatusRequest:
    """Ask for states."""
    return messages.GetModelStatusRequest(model_spec=_spec(model, version))


def grpc_target(address: str) -> str:
    """Return `address` as gRPC wants it: ``dns:///host:port`` for a plain host."""
    if "://" in address or address.startswith(("unix:", "unix-abstract:", "ipv4:", "ipv6:", "dns:")):
        return address
    has_port = address.rpartition("]")[2].count(":") == 1
    return f"dns:///{address}" if has_port else f"dns:///{address}:{DEFAULT_PORT}"


def _spec(model: str, version: int | None, signature: str = "") -> messages.ModelSpec:
    spec = messages.ModelSpec(name=model, signature_name=signature)
    if version is not None:
        spec.version.value = version
    return spec


def _credentials(tls: Tls) -> Any:
    def content(path: Path | None) -> bytes | None:
        return None if path is None else path.read_bytes()

    return grpc.ssl_channel_credentials(
        content(tls.ca_file), content(tls.key_file), content(tls.certificate_file)
    )
