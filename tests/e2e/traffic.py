"""A steady load of requests, by gRPC over one channel that is held, and by HTTP; it counts what fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from examples.demo.model import TrainedModel

from e2e.stand import Stand
from serval_serving.client import GrpcClient, HttpClient
from support.wait import until

PAUSE = 0.02
LIMIT = 10.0


class Traffic:
    """Asks a ModelDeployment from two threads; a context manager.

    Attributes
    ----------
    answered:
        Requests asked, by protocol, those that failed included.
    failed:
        What went wrong, in words.
    """

    def __init__(self, stand: Stand, name: str, model: TrainedModel) -> None:
        service = stand.cluster.get("Service", stand.namespace, name)
        assert service is not None
        self._host = str(service["spec"]["clusterIP"])
        self._name = name
        self._image = model.images[0].data
        self._stop = threading.Event()
        self.answered = {"grpc": 0, "http": 0}
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._grpc), threading.Thread(target=self._http)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=3 * LIMIT)

    def until_answers(self, more: int) -> None:
        """Wait until each protocol got so many answers more."""
        goal = {kind: count + more for kind, count in self.answered.items()}
        until(
            f"{more} more answers by each protocol",
            lambda: all(self.answered[kind] >= goal[kind] for kind in goal),
            limit=60,
        )

    def _grpc(self) -> None:
        with GrpcClient(f"{self._host}:8500", timeout=LIMIT) as client:
            self._ask("grpc", lambda: client.predict({"images": [self._image]}, self._name))

    def _http(self) -> None:
        with HttpClient(f"http://{self._host}", timeout=LIMIT) as client:
            self._ask("http", lambda: client.score(self._image))

    def _ask(self, kind: str, call: Callable[[], object]) -> None:
        while not self._stop.is_set():
            try:
                call()
            except Exception as error:  # noqa: BLE001 every failure of whatever kind is what is counted
                self.failed.append(f"{kind}: {error}")
            self.answered[kind] += 1
            self._stop.wait(PAUSE)
