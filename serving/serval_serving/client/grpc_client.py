"""A client of the predict API over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from serval_serving.client.calls import (
    DEFAULT_TIMEOUT,
    Tls,
    key_metadata,
    metadata_request,
    open_channel,
    predict_outputs,
    predict_request,
    status_request,
)
from serval_serving.client.errors import error_of
from serval_serving.client.replies import (
    ModelMetadata,
    VersionStatus,
    metadata_of_message,
    status_of_message,
)
from serval_serving.client.values import Value
from serval_serving.wire import rpc


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
        self._channel = open_channel(address, tls)
        self._metadata = key_metadata(key)
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
        request = predict_request(inputs, model, version, signature, outputs)
        return predict_outputs(self._call(self._predict, request, timeout))

    def metadata(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Ask for the model's signatures. Raises `ServingError`."""
        return metadata_of_message(self._call(self._get_metadata, metadata_request(model, version), timeout))

    def status(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> list[VersionStatus]:
        """Ask for the states of one or all versions. Raises `ServingError`."""
        return status_of_message(self._call(self._get_status, status_request(model, version), timeout))

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
