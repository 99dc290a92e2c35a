"""The load that the demo puts on a model, put on a ModelDeployment of a test by Serval's own clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
from examples.demo.load import GRPC, Ask, Question, SteadyLoad, retrying
from examples.demo.model import TrainedModel
from examples.demo.scoring import INPUT, SIDE

from e2e.stand import Stand
from serval_serving.client import GrpcClient

PAUSE = 0.02
LIMIT = 10.0


def steady_load(stand: Stand, name: str, model: TrainedModel) -> SteadyLoad:
    """Ask a ModelDeployment by both protocols, through its Service.

    Parameters
    ----------
    model:
        What it serves. The pixels of an ONNX model go to `/score` as they are, and into a tensor for gRPC.
    """
    service = stand.cluster.get("Service", stand.namespace, name)
    assert service is not None
    host = service["spec"]["clusterIP"]
    image = model.images[0]
    callers = retrying(Question(f"{host}:8500", f"http://{host}", name, image.data))
    if image.name.endswith(".raw"):
        callers[GRPC] = pixels_by_grpc(f"{host}:8500", name, image.data)
    return SteadyLoad(callers, PAUSE)


def pixels_by_grpc(address: str, name: str, image: bytes) -> Callable[[], AbstractContextManager[Ask]]:
    """Return what asks a model that takes pixels."""
    pixels = np.frombuffer(image, dtype=np.uint8).reshape(1, SIDE, SIDE)

    @contextmanager
    def by_grpc() -> Iterator[Ask]:
        with GrpcClient(address, timeout=LIMIT) as client:
            yield lambda: client.predict({INPUT: pixels}, name)

    return by_grpc
