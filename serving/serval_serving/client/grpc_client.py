"""A client of the predict API over gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from serval_serving.client.calls import (
    DEFAULT_TIMEOUT,
    Connection,
    Tls,
    metadata_request,
    predict_outputs,
    predict_request,
    status_request,
    typed_errors,
)
from serval_serving.client.replies import (
    ModelMetadata,
    VersionStatus,
    metadata_of_message,
    status_of_message,
)
from serval_serving.client.timing import OnTiming
from serval_serving.client.values import Value


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
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = Connection(address, tls, key, timeout, clock)

    def predict(
        self,
        inputs: Mapping[str, Value],
        model: str = "",
        version: int | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        *,
        timeout: float | None = None,
        on_timing: OnTiming | None = None,
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
        on_timing:
            Called with where the time went, once the reply is there.

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
        return predict_outputs(self._call(self._connection.predict, request, timeout, on_timing))

    def metadata(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Ask for the model's signatures. Raises `ServingError`."""
        request = metadata_request(model, version)
        return metadata_of_message(self._call(self._connection.metadata, request, timeout))

    def status(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> list[VersionStatus]:
        """Ask for the states of one or all versions. Raises `ServingError`."""
        request = status_request(model, version)
        return status_of_message(self._call(self._connection.status, request, timeout))

    def close(self) -> None:
        """Close the connections; calls in progress are cancelled."""
        self._connection.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self, method: Any, request: Any, timeout: float | None, on_timing: OnTiming | None = None
    ) -> Any:
        connection = self._connection
        started = connection.now()
        with typed_errors():
            arguments = connection.arguments(timeout, timed=on_timing is not None)
            reply, call = method.with_call(request, **arguments)
        if on_timing is not None:
            on_timing(connection.timing(started, call.trailing_metadata()))
        return reply
