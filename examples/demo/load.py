"""A steady load of requests, each kind from a thread of its own, that counts what fails.

`plain` clients show what a server does; `retrying` ones, Serval's own, show what their users see of it. The
tests of the whole put the same load on the operator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

import grpc
import numpy as np
import urllib3
from examples.demo.errors import DemoError
from examples.demo.scoring import INPUT

from serval_serving.client import GrpcClient, HttpClient
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array

PAUSE_S = 0.05
CALL_LIMIT_S = 10.0
ANSWERS_LIMIT_S = 60.0
GRPC = "gRPC"
HTTP = "HTTP"

Ask = Callable[[], object]
Open = Callable[[], AbstractContextManager[Ask]]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked again and again.

    Attributes
    ----------
    grpc_address:
        ``host:port`` of the gRPC port.
    base_url:
        ``http://host:port`` of the scoring port.
    model:
        Name of the served model.
    image:
        What it is to score.
    """

    grpc_address: str
    base_url: str
    model: str
    image: bytes


@dataclass(slots=True)
class Tally:
    """What became of the requests of one kind.

    Attributes
    ----------
    requests:
        How many were sent, those that failed included.
    failures:
        What went wrong, in words, one for each request that failed.
    """

    requests: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many were answered."""
        return self.requests - len(self.failures)


class SteadyLoad:
    """Asks again and again for as long as the block runs; a context manager.

    Parameters
    ----------
    callers:
        By kind, what opens a connection, which is held throughout, and gives what sends one request over it.
    pause_s:
        Seconds between an answer and the next request.
    """

    def __init__(self, callers: Mapping[str, Open], pause_s: float = PAUSE_S) -> None:
        self.tallies = {kind: Tally() for kind in callers}
        self._pause_s = pause_s
        self._over = threading.Event()
        self._counted = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(open_, self.tallies[kind]), name=f"load-{kind}")
            for kind, open_ in callers.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def failures(self) -> list[str]:
        """What went wrong, in words, of all kinds."""
        return [f"{kind}: {words}" for kind, tally in self.tallies.items() for words in tally.failures]

    @property
    def answered(self) -> int:
        """How many requests were answered of the kind that got the fewest answers."""
        return min(tally.answered for tally in self.tallies.values())

    def until_answers(self, more: int, limit_s: float = ANSWERS_LIMIT_S) -> None:
        """Wait until each kind was answered so many times more.

        Raises
        ------
        DemoError
            ``limit_s`` seconds are over.
        """
        goals = {kind: tally.answered + more for kind, tally in self.tallies.items()}
        with self._counted:
            reached = self._counted.wait_for(
                lambda: all(self.tallies[kind].answered >= goal for kind, goal in goals.items()), limit_s
            )
        if not reached:
            failures = [words for tally in self.tallies.values() for words in tally.failures[-1:]]
            words = f": {'; '.join(failures)}" if failures else ""
            raise DemoError(f"the load did not get {more} more answers within {limit_s:.0f} s{words}")

    def _run(self, open_: Open, tally: Tally) -> None:
        with open_() as ask:
            while not self._over.is_set():
                failure = _failure(ask)
                with self._counted:
                    tally.requests += 1
                    tally.failures += [failure] if failure else []
                    self._counted.notify_all()
                self._over.wait(self._pause_s)


def plain(question: Question) -> dict[str, Open]:
    """Return what asks by plain clients, which never send a request twice: every failure is seen."""
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=question.model))
    request.inputs[INPUT].CopyFrom(from_array(np.array([question.image], dtype=object)))

    @contextmanager
    def by_grpc() -> Iterator[Ask]:
        with grpc.insecure_channel(question.grpc_address) as channel:
            predict = rpc.multicallable(channel, rpc.PREDICT)
            yield lambda: predict(request, timeout=CALL_LIMIT_S)

    @contextmanager
    def by_http() -> Iterator[Ask]:
        with urllib3.PoolManager(maxsize=1, retries=False, timeout=CALL_LIMIT_S) as pool:
            yield lambda: _post(pool, f"{question.base_url}/score", question.image)

    return {GRPC: by_grpc, HTTP: by_http}


def retrying(question: Question) -> dict[str, Open]:
    """Return what asks by Serval's clients, which send a request again that no server took."""

    @contextmanager
    def by_grpc() -> Iterator[Ask]:
        with GrpcClient(question.grpc_address, timeout=CALL_LIMIT_S) as client:
            yield lambda: client.predict({INPUT: [question.image]}, question.model)

    @contextmanager
    def by_http() -> Iterator[Ask]:
        with HttpClient(question.base_url, timeout=CALL_LIMIT_S) as client:
            yield lambda: client.score(question.image)

    return {GRPC: by_grpc, HTTP: by_http}


def _post(pool: urllib3.PoolManager, url: str, body: bytes) -> None:
    answer = pool.request("POST", url, body=body)
    if answer.status != HTTPStatus.OK:
        raise DemoError(f"HTTP status {answer.status}: {answer.data[:200].decode(errors='replace')}")


def _failure(ask: Ask) -> str:
    """Send one request; return what went wrong, or nothing."""
    try:
        ask()
    except Exception as error:  # noqa: BLE001 a failure of whatever kind is what is counted
        return f"{type(error).__name__}: {error}"
    return ""
