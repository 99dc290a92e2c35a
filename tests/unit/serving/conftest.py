"""A gRPC model that remembers what it was asked, for tests of clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from unit.serving.client.servers import Model, grpc_server


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def address(model: Model) -> Iterator[str]:
    with grpc_server(model) as port:
        yield f"127.0.0.1:{port}"
