"""A client of the predict API over gRPC."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from serval_serving.client.errors import INTERNAL, ServingError, error_of
from serval_serving.client.replies import (
    SIGNATURE_DEF,
    ModelMetadata,
    VersionStatus,
    metadata_of_message,
    status_of_message,
)
from serval_serving.client.values import Value, as_array
from serval_serving.wire import messages, rpc
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


class GrpcClient:
    """Calls a model server over gRPC. Threads may share one; close it, or use it in a ``with`` statement.

    Requests that end with UNAVAILABLE are sent again, up to five times in all and within the time limit.

    Parameters
    ----------
    address:
        ``host:port``, ``host`` (port 8500), or any address that gRPC knows, such as ``unix:/path``. The name
        of a headless Service spreads the calls over its pods.
    tls:
        How the connection is secured; None for not at all.
    key:
        Sent as ``authorization: Bearer <key>``.
    timeout:
        Seconds that a call may take, unless it says otherwise.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        target = grpc_target(address)
        options = list(_OPTIONS)
        if tls is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            self._channel = grpc.secure_channel(target, _credentials(tls), options)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._timeout = timeout
        self._predict = rpc.multicallable(self._channel, rpc.PREDICT)
        self._get_metadata = rpc.multicallable(self._channel, rpc.GET_MODEL_METADATA)
        self._get_status = rpc.multicallable(self._channel, rpc.GET_MODEL_STATUS)

    def predict(
        self,
        inputs: Mapping[str, Value],
        model: str = "",
        version: int | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        *,
        timeout: float | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Run the model.

        Parameters
        ----------
        inputs:
            The values by input name; see `serval_serving.client.values.as_array` for what lists become.
        model:
            Name of the model; empty for the only one, where the server allows that.
        version:
            Its version; None for the newest.
        signature:
            Name of the signature; empty for ``serving_default``.
        outputs:
            The outputs wanted; empty for all.
        timeout:
            Seconds for this call; None for the client's.

        Returns
        -------
        dict
            The arrays by output name; strings are arrays of `bytes`. They may be read-only.

        Raises
        ------
        ServingError
            What the server, or the way to it, says.
        ValueError
            If an input cannot be sent.
        """
        request = messages.PredictRequest(model_spec=_spec(model, version, signature), output_filter=outputs)
        for name, value in inputs.items():
            write_array(request.inputs[name], as_array(value), typed=False)
        reply: messages.PredictResponse = self._call(self._predict, request, timeout)
        try:
            return {name: to_array(reply.outputs[name]) for name in sorted(reply.outputs)}
        except TensorError as error:
            raise ServingError(INTERNAL, f"the reply cannot be read: {error}") from error

    def metadata(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Ask for the model's signatures. Raises `ServingError`."""
        request = messages.GetModelMetadataRequest(
            model_spec=_spec(model, version), metadata_field=[SIGNATURE_DEF]
        )
        reply: messages.GetModelMetadataResponse = self._call(self._get_metadata, request, timeout)
        try:
            return metadata_of_message(reply)
        except DecodeError as error:
            raise ServingError(INTERNAL, "the metadata cannot be read") from error

    def status(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> list[VersionStatus]:
        """Ask for the states of one or all versions. Raises `ServingError`."""
        request = messages.GetModelStatusRequest(model_spec=_spec(model, version))
        reply: messages.GetModelStatusResponse = self._call(self._get_status, request, timeout)
        return status_of_message(reply)

    def close(self) -> None:
        """Close the connections; calls in progress are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        try:
            return method(
                request, timeout=self._timeout if timeout is None else timeout, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise error_of(error.code().name, error.details() or "") from error


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
