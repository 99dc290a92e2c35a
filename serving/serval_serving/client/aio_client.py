"""The same client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
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


class AsyncGrpcClient:
    """Calls a model server over gRPC, as `GrpcClient` does; its methods are awaited.

    Make it inside the running loop, and close it, or use it in an ``async with`` statement. A call that is
    cancelled is cancelled at the server too.

    Parameters
    ----------
    address, tls, key, timeout:
        As `GrpcClient`.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._channel = open_channel(address, tls, grpc.aio)
        self._metadata = key_metadata(key)
        self._timeout = timeout
        self._predict = rpc.multicallable(self._channel, rpc.PREDICT)
        self._get_metadata = rpc.multicallable(self._channel, rpc.GET_MODEL_METADATA)
        self._get_status = rpc.multicallable(self._channel, rpc.GET_MODEL_STATUS)

    async def predict(
        self,
        inputs: Mapping[str, Value],
        model: str = "",
        version: int | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109  it travels to the server as the call's deadline
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Run the model; see `GrpcClient.predict`."""
        request = predict_request(inputs, model, version, signature, outputs)
        return predict_outputs(await self._call(self._predict, request, timeout))

    async def metadata(
        self,
        model: str = "",
        version: int | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as above
    ) -> ModelMetadata:
        """Ask for the model's signatures. Raises `ServingError`."""
        request = metadata_request(model, version)
        return metadata_of_message(await self._call(self._get_metadata, request, timeout))

    async def status(
        self,
        model: str = "",
        version: int | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as above
    ) -> list[VersionStatus]:
        """Ask for the states of one or all versions. Raises `ServingError`."""
        request = status_request(model, version)
        return status_of_message(await self._call(self._get_status, request, timeout))

    async def close(self) -> None:
        """Close the connections; calls in progress are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Any, request: Any, seconds: float | None) -> Any:
        limit = self._timeout if seconds is None else seconds
        try:
            return await method(request, timeout=limit, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error.code().name, error.details() or "") from error
