from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from serval_serving import client
from serval_serving.client import AsyncGrpcClient, ServingError, Tls
from unit.serving.client.servers import Model, grpc_server
from unit.serving.fetch.tls import HOST, make_pki


async def test_predict(address: str, model: Model) -> None:
    async with AsyncGrpcClient(address, key="secret") as served:
        outputs = await served.predict(
            {"images": [b"one\0", b"three"]}, "digits", 3, "serving_default", ["classes"]
        )
    assert outputs["classes"].tolist() == [4, 5]
    assert outputs["echo"].tolist() == [b"one\0", b"three"]
    asked = model.requests[0]
    assert (asked.model_spec.name, asked.model_spec.version.value) == ("digits", 3)
    assert list(asked.output_filter) == ["classes"]
    assert model.headers[0]["authorization"] == "Bearer secret"


async def test_calls_run_beside_each_other(address: str) -> None:
    async with AsyncGrpcClient(address) as served:
        found = await asyncio.gather(*(served.predict({"images": b"x" * size}) for size in range(20)))
    assert [outputs["classes"].tolist() for outputs in found] == [[size] for size in range(20)]


async def test_metadata_and_status(address: str) -> None:
    async with AsyncGrpcClient(address) as served:
        metadata = await served.metadata()
        assert (metadata.name, metadata.version) == ("digits", 3)
        assert [status.state for status in await served.status()] == ["AVAILABLE", "END"]
        with pytest.raises(client.NotFoundError, match="Could not find any versions"):
            await served.status("absent")


async def test_errors_are_typed_and_only_unavailable_is_tried_again(address: str, model: Model) -> None:
    async with AsyncGrpcClient(address) as served:
        model.refusals = [(grpc.StatusCode.UNAUTHENTICATED, "words of the server")]
        with pytest.raises(client.AccessDeniedError) as caught:
            await served.predict({"images": b"x"})
        assert (caught.value.code, caught.value.text) == ("UNAUTHENTICATED", "words of the server")
        assert len(model.requests) == 1
        model.refusals = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 2
        assert (await served.predict({"images": b"xy"}))["classes"].tolist() == [2]
        assert len(model.requests) == 4


async def test_time_is_limited(address: str, model: Model) -> None:
    model.refusals = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 9
    async with AsyncGrpcClient(address, timeout=0.05) as served:
        with pytest.raises(client.DeadlineExceededError):
            await served.predict({"images": b"x"})


class Waiting(Model):
    """Answers only when the call is over, and notes that it is."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def predict(self, _request: Any, context: Any) -> Any:
        context.add_callback(self.over.set)
        self.over.wait(20)


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server() -> None:
    model = Waiting()
    with grpc_server(model) as port:
        async with AsyncGrpcClient(f"127.0.0.1:{port}") as served:
            call = asyncio.create_task(served.predict({"images": b"x"}))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.3)
            assert await asyncio.to_thread(model.over.wait, 20)


async def test_tls(model: Model, tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    credentials = grpc.ssl_server_credentials([(pki.key.read_bytes(), pki.certificate.read_bytes())])
    with grpc_server(model, credentials=credentials) as port:
        address = f"127.0.0.1:{port}"
        async with AsyncGrpcClient(address, tls=Tls(pki.ca, server_name=HOST)) as trusted:
            assert (await trusted.predict({"images": b"x"}))["classes"].tolist() == [1]
        async with AsyncGrpcClient(address, tls=Tls(), timeout=3) as other:
            with pytest.raises(ServingError):
                await other.predict({"images": b"x"})
