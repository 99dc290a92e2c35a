"""What both gRPC clients share: connections, requests and replies of the predict API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from serval_contract.ports import PORT_GRPC
from serval_serving.client.errors import INTERNAL, ServingError, error_of
from serval_serving.client.replies import SIGNATURE_DEF
from serval_serving.client.timing import Timing, timing_of
from serval_serving.client.values import Value, as_array
from serval_serving.wire import messages, rpc
from serval_serving.wire.errors import TensorError
from serval_serving.wire.tensors import to_array, write_array
from serval_serving.wire.timing import REQUEST_HEADER, YES, reply_header

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that a call may take, all tries together."""
SILENCE_SECONDS: Final = 5
"""How long a connection may leave what was sent without an acknowledgement: then its pod or node is gone,
and a call still has time to be tried elsewhere."""
CONNECT_SECONDS: Final = 3
"""How long connecting may take: a try that goes to an address of a pod that is gone is never answered."""

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
    # gRPC makes it the kernel's limit too (TCP_USER_TIMEOUT), which needs no pings.
    ("grpc.keepalive_timeout_ms", SILENCE_SECONDS * 1000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Its name in gRPC; it is the limit of a try to connect.
    ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),
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


class Connection:
    """A channel, its methods, and what every call carries; both clients stand on one.

    Parameters
    ----------
    address, tls, key, timeout, clock:
        As `GrpcClient`.
    module:
        ``grpc`` or ``grpc.aio``: whose channel it is, and whether its methods are awaited.
    """

    def __init__(
        self,
        address: str,
        tls: Tls | None,
        key: str | None,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        module: Any = grpc,
    ) -> None:
        self.channel = _open_channel(address, tls, module)
        self.predict = rpc.multicallable(self.channel, rpc.PREDICT)
        self.metadata = rpc.multicallable(self.channel, rpc.GET_MODEL_METADATA)
        self.status = rpc.multicallable(self.channel, rpc.GET_MODEL_STATUS)
        self._key = (("authorization", f"Bearer {key}"),) if key else ()
        self._timeout = timeout
        self._clock = clock

    def arguments(self, timeout: float | None, *, timed: bool = False) -> dict[str, Any]:
        """Return what a call gets beside its message; `timed` asks for the server's times."""
        metadata = (*self._key, (REQUEST_HEADER, YES)) if timed else self._key
        return {"timeout": self._timeout if timeout is None else timeout, "metadata": metadata}

    def now(self) -> float:
        """Read the clock."""
        return self._clock()

    def timing(self, started: float, trailing: Any) -> Timing:
        """Say where the time since `started` went, by the metadata that came after the reply."""
        return timing_of(self._clock() - started, reply_header(trailing))


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turn gRPC's errors into those of the clients."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error.code().name, error.details() or "") from error


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
    return f"dns:///{address}" if has_port else f"dns:///{address}:{PORT_GRPC}"


def _open_channel(address: str, tls: Tls | None, module: Any) -> Any:
    """Open a channel to `address`."""
    target = grpc_target(address)
    options = list(_OPTIONS)
    if tls is None:
        return module.insecure_channel(target, options=options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return module.secure_channel(target, _credentials(tls), options=options)


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
