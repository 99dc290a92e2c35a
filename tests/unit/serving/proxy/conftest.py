from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from unit.serving.proxy.recorder import Recorder
from unit.serving.server.processes import REAL, Server, running


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """A server that notes what reaches it."""
    server = Recorder()
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take back what a test told the recorder to answer."""
    yield
    if "recorder" in request.fixturenames:
        request.getfixturevalue("recorder").answers.clear()


@pytest.fixture(scope="module")
def front(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A front before the recorder, of gRPC only."""
    log = tmp_path_factory.mktemp("front") / "log"
    flags = ("--model_name=m", f"--upstream={recorder.address}", "--access_log")
    with running(Server(REAL, log, *flags)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def channel(front: Server) -> Iterator[grpc.Channel]:
    with front.channel() as channel:
        yield channel


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start fronts of the model `m`."""
    with ExitStack() as stack:

        def started(*flags: str, grpc_port: int = 0) -> Server:
            log = tmp_path / f"front-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(
                running(Server(REAL, log, "--model_name=m", *flags, grpc_port=grpc_port))
            )

        yield started
