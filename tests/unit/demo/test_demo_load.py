from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from examples.demo.errors import DemoError
from examples.demo.load import Ask, Question, SteadyLoad, Tally, plain, retrying

from serval_serving.wire import messages, rpc

LIMIT = 10.0
SCORES = b"[[0.1,0.9]]"


class Server:
    """What the requests of one kind meet: it fails the requests of these numbers."""

    def __init__(self, *failing: int) -> None:
        self.failing = failing
        self.opened = 0
        self.closed = threading.Event()
        self.asked = 0

    @contextmanager
    def open(self) -> Iterator[Ask]:
        self.opened += 1
        yield self.ask
        self.closed.set()

    def ask(self) -> None:
        self.asked += 1
        if self.asked in self.failing:
            raise ConnectionError("gone")


def test_each_kind_holds_one_connection_and_asks_until_the_end() -> None:
    servers = {"a": Server(), "b": Server()}
    with SteadyLoad({kind: server.open for kind, server in servers.items()}, pause_s=0.0) as load:
        load.until_answers(5, LIMIT)
        load.until_answers(5, LIMIT)
    for kind, server in servers.items():
        assert server.opened == 1
        assert server.closed.is_set()
        assert load.tallies[kind].requests == load.tallies[kind].answered == server.asked
        assert server.asked >= 10


def test_what_fails_is_counted_and_told_and_does_not_end_the_load() -> None:
    server = Server(2, 4)
    with SteadyLoad({"a": server.open}, pause_s=0.0) as load:
        load.until_answers(5, LIMIT)
    tally = load.tallies["a"]
    assert tally.failures == ["ConnectionError: gone"] * 2
    assert tally.answered == tally.requests - 2 == server.asked - 2


def test_answers_that_do_not_come_are_an_error_with_the_last_words() -> None:
    server = Server(*range(1, 1_000_000))
    with (
        pytest.raises(DemoError, match="5 more answers within 0 s: ConnectionError: gone"),
        SteadyLoad({"a": server.open, "b": Server().open}, pause_s=0.001) as load,
    ):
        load.until_answers(5, 0.2)
    assert server.closed.is_set()


def test_a_tally_counts_no_failure_as_an_answer() -> None:
    assert Tally(3, ["one"]).answered == 2


class Model:
    """Answers by both protocols over loopback; fails the second request of each and counts all of them."""

    def __init__(self) -> None:
        self.images: dict[str, list[bytes]] = {"gRPC": [], "HTTP": []}
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200 if model.note("HTTP", body) else 503)
                self.send_header("Content-Length", str(len(SCORES)))
                self.end_headers()
                self.wfile.write(SCORES)

            def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 the base class names it

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.grpc = grpc.server(ThreadPoolExecutor(2), handlers=rpc.handlers({rpc.PREDICT: self.predict}))
        self.grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")

    def note(self, kind: str, image: bytes) -> bool:
        self.images[kind].append(image)
        return len(self.images[kind]) != 2

    def predict(
        self, request: messages.PredictRequest, context: grpc.ServicerContext
    ) -> messages.PredictResponse:
        assert request.model_spec.name == "digits"
        (image,) = request.inputs["images"].string_val
        if not self.note("gRPC", image):
            context.abort(grpc.StatusCode.UNAVAILABLE, "going")
        return messages.PredictResponse()


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    thread = threading.Thread(target=model.http.serve_forever)
    thread.start()
    model.grpc.start()
    yield model
    model.http.shutdown()
    model.http.server_close()
    thread.join(LIMIT)
    model.grpc.stop(None).wait(LIMIT)


def about(model: Model) -> Question:
    http = f"http://127.0.0.1:{model.http.server_address[1]}"
    return Question(f"127.0.0.1:{model.grpc_port}", http, "digits", b"png")


def test_plain_clients_send_no_request_twice(model: Model) -> None:
    with SteadyLoad(plain(about(model)), pause_s=0.0) as load:
        load.until_answers(5, LIMIT)
    for kind, words in (("gRPC", "UNAVAILABLE"), ("HTTP", "status 503")):
        (failure,) = load.tallies[kind].failures
        assert words in failure
        assert model.images[kind] == [b"png"] * load.tallies[kind].requests
    assert [words.partition(":")[0] for words in load.failures] == ["gRPC", "HTTP"]


def test_retrying_clients_send_again_what_no_server_took(model: Model) -> None:
    with SteadyLoad(retrying(about(model)), pause_s=0.0) as load:
        load.until_answers(5, LIMIT)
    assert load.failures == []
    for kind, tally in load.tallies.items():
        assert model.images[kind] == [b"png"] * (tally.requests + 1)
    assert load.answered == min(tally.requests for tally in load.tallies.values())
