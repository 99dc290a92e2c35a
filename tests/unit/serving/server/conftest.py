from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from serval_lab.locks import lock
from unit.serving.server.grpc_calls import Predict, predictor
from unit.serving.server.processes import DIRECT, FAKE, FRONT, REAL, Server, reached, running
from unit.serving.wire.official import stubs

MAKE_SECONDS = 120

ZOO_TIMEOUT = "--rest_api_timeout_in_ms=3000"
CONTRACTS = frozenset(
    {
        "test_azure",
        "test_grpc_models",
        "test_grpc_predict",
        "test_grpc_refused",
        "test_rest_models",
        "test_rest_predict",
        "test_rest_refused",
        "test_score",
    }
)
"""Modules whose tests of `zoo` hold for the server, and for a front that stands before it."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the contract twice."""
    if "zoo" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in CONTRACTS:
        metafunc.parametrize("zoo", [DIRECT, FRONT], indirect=True, scope="session")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base paths of small SavedModels: zoo, pair, tf1, broken, absent. Made once for all workers."""
    own = tmp_path_factory.getbasetemp()
    base = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "models"
    with lock(base.with_suffix(".lock"), "the worker that makes the models", MAKE_SECONDS):
        if not base.is_dir():
            _make_models(base)
    return base


def _make_models(base: Path) -> None:
    """Make them; the folder has its name once it is complete."""
    partial = base.with_suffix(".partial")
    partial.mkdir()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("make_models.py")), str(partial)],
        capture_output=True,
        text=True,
        timeout=MAKE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    partial.rename(base)


@pytest.fixture(scope="session")
def zoo_itself(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the model with many signatures, named `zoo`, version 7."""
    log = tmp_path_factory.mktemp("zoo") / "log"
    flags = ("--model_name=zoo", f"--model_base_path={models / 'zoo'}", ZOO_TIMEOUT)
    with running(Server(REAL, log, *flags)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="session")
def zoo(
    request: pytest.FixtureRequest, zoo_itself: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """That server, or a front before it."""
    way = getattr(request, "param", DIRECT)
    log = tmp_path_factory.mktemp("front") / "log"
    with reached(way, zoo_itself, log, "--model_name=zoo", ZOO_TIMEOUT) as server:
        yield server


@pytest.fixture(scope="session")
def zoo_channel(zoo: Server) -> Iterator[grpc.Channel]:
    with zoo.channel() as channel:
        yield channel


@pytest.fixture
def service(zoo_channel: grpc.Channel) -> Any:
    """The official stub of PredictionService."""
    return stubs().prediction_service.PredictionServiceStub(zoo_channel)


@pytest.fixture
def predict(service: Any) -> Predict:
    return predictor(service)


@pytest.fixture
def start_fake(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers without TensorFlow, of the model `m` at tmp_path / "m"."""
    with ExitStack() as stack:
        count = 0

        def start(*flags: str, grpc_port: int = 0, http_port: int = 0) -> Server:
            nonlocal count
            count += 1
            log = tmp_path / f"log-{count}"
            own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
            server = Server(FAKE, log, *own, *flags, grpc_port=grpc_port, http_port=http_port)
            return stack.enter_context(running(server))

        yield start
