"""The same client for asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc.aio
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


class AsyncGrpcClient:
    """Calls a model server over gRPC, as `GrpcClient` does; its methods are awaited.

    Make it inside the running loop, and close it, or use it in an ``async with`` statement. A call that is
    cancelled is cancelled at the server too.

    Parameters
    ----------
    address, tls, key, timeout, clock:
        As `GrpcClient`.
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
        self._connection = Connection(address, tls, key, timeout, clock, grpc.aio)

    async def predict(
        self,
        inputs: Mapping[str, Value],
        model: str = "",
        version: int | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109  it travels to the server as the call's deadline
        on_timing: OnTiming | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Run the model; see `GrpcClient.predict`."""
        request = predict_request(inputs, model, version, signature, outputs)
        return predict_outputs(await self._call(self._connection.predict, request, timeout, on_timing))

    async def metadata(
        self,
        model: str = "",
        version: int | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as above
    ) -> ModelMetadata:
        """Ask for the model's signatures. Raises `ServingError`."""
        request = metadata_request(model, version)
        return metadata_of_message(await self._call(self._connection.metadata, request, timeout))

    async def status(
        self,
        model: str = "",
        version: int | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as above
    ) -> list[VersionStatus]:
        """Ask for the states of one or all versions. Raises `ServingError`."""
        request = status_request(model, version)
        return status_of_message(await self._call(self._connection.status, request, timeout))

    async def close(self) -> None:
        """Close the connections; calls in progress are cancelled."""
        await self._connection.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self, method: Any, request: Any, seconds: float | None, on_timing: OnTiming | None = None
    ) -> Any:
        connection = self._connection
        started = connection.now()
        with typed_errors():
            call = method(request, **connection.arguments(seconds, timed=on_timing is not None))
            reply = await call
        if on_timing is not None:
            on_timing(connection.timing(started, await call.trailing_metadata()))
        return reply
