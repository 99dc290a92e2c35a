"""Clumsy and unfriendly HTTP clients: bodies, codings, methods and keys."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest

from serval_serving.models.handle import ServableHandle
from serval_serving.server import json_tensors, rest_api
from serval_serving.server.flags import FlagError
from serval_serving.server.http_body import Body, BodyBudget
from serval_serving.server.http_errors import BodyTooLargeError
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.server.json_predict import read_inputs
from serval_serving.server.keys import Keys
from serval_serving.server.metrics import Metrics
from serval_serving.server.receipts import Receipts
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError
from support.clock import FakeClock
from unit.serving.server.fake_engine import FakeModel, write_version
from unit.serving.server.grpc_calls import in_flight
from unit.serving.server.processes import Server, wait_until
from unit.serving.server.rest_calls import METRICS
from unit.serving.server.test_json import signature

Start = Callable[..., Server]
PATH = "/v1/models/m:predict"
LIMIT = 30.0
DOCUMENT = json.dumps({"instances": [1.0]}).encode()
PACKED = gzip.compress(DOCUMENT)


@contextmanager
def sending(server: Server, length: int, part: bytes = b"") -> Iterator[socket.socket]:
    """A client that sends the head of a request and a part of its body."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: m\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=LIMIT) as client:
        client.sendall(head.encode() + part)
        yield client


def status(client: socket.socket) -> int:
    """The status of the reply that a client gets."""
    return int(client.recv(20).split()[1])


@pytest.fixture
def server(start_fake: Start, tmp_path: Path) -> Server:
    write_version(tmp_path / "m", 1, factor=3)
    return start_fake().wait_ready()


BAD_BODIES = {
    "no gzip": (DOCUMENT, "gzip", "one complete gzip member"),
    "something like gzip": (PACKED[:2] + DOCUMENT + bytes(4), "gzip", "one complete gzip member"),
    "bytes behind gzip": (PACKED + b"xx", "gzip", "one complete gzip member"),
    "half of gzip": (PACKED[:-9], "gzip", "one complete gzip member"),
    "gzip with another size": (PACKED[:-4] + b"\x01\x00\x00\x00", "gzip", "one complete gzip member"),
    "gzip that says it is larger than it can be": (
        PACKED[:-4] + b"\xff" * 4,
        "gzip",
        "one complete gzip member",
    ),
    "nothing": (b"", "gzip", "one complete gzip member"),
    "no zstd": (DOCUMENT, "zstd", "Content-Encoding zstd is not supported"),
    "br": (DOCUMENT, "br", "Content-Encoding br is not supported"),
    "two codings": (DOCUMENT, "gzip, gzip", "is not supported"),
}


def test_codings(server: Server) -> None:
    for case, (body, coding, words) in BAD_BODIES.items():
        for path in (PATH, "/score"):
            reply = server.post(path, body, **{"Content-Encoding": coding})
            assert reply.status == 400, case
            assert words in json.loads(reply.data)["error"], case
    for coding in ("gzip", "x-gzip", "GZIP", "identity"):
        body = DOCUMENT if coding == "identity" else PACKED
        reply = server.post(PATH, body, **{"Content-Encoding": coding})
        assert json.loads(reply.data) == {"predictions": [3.0]}
    page = server.get(METRICS).data.decode()
    assert f'request_count{{model_name="m",status="INVALID_ARGUMENT"}} {2 * len(BAD_BODIES)}' in page
    assert "Traceback" not in server.log


def test_a_request_is_admitted_before_its_body_comes(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1, factor=3)
    server = start_fake("--max_concurrent_requests=1").wait_ready()
    with sending(server, 1000, b"{") as client:
        wait_until("the first is in progress", lambda: in_flight(server) == 1, LIMIT)
        assert server.post(PATH, DOCUMENT).status == 429
        wait_until("it lost its place", lambda: server.post(PATH, DOCUMENT).status == 200, LIMIT)
        assert status(client) == 504


def test_bodies_together_have_a_limit(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    server = start_fake("--rest_api_max_body_bytes=100000").wait_ready()
    with sending(server, 100_000, b" " * 90_000), sending(server, 100_000, b" " * 90_000):
        wait_until("two are in progress", lambda: in_flight(server) == 2, LIMIT)
        wait_until("a third finds no room", lambda: server.post(PATH, b" " * 90_000).status == 429, LIMIT)
    wait_until("both are given up", lambda: in_flight(server) == 0, LIMIT)
    assert server.post(PATH, b" " * 90_000 + DOCUMENT).status == 200


def test_a_body_that_says_it_is_too_large_is_not_read(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    server = start_fake("--rest_api_max_body_bytes=1000").wait_ready()
    with sending(server, 1001) as client:
        assert status(client) == 413
    packed = gzip.compress(b" " * 1001)
    assert server.post(PATH, packed, **{"Content-Encoding": "gzip"}).status == 413


class Content:
    """A body that comes in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class Request:
    content_length = None

    def __init__(self, *pieces: bytes) -> None:
        self.content = Content(*pieces)
        self.headers = {"Content-Encoding": "gzip"}


def test_unpacking_holds_the_bytes_that_a_body_says_it_has() -> None:
    budget = BodyBudget(3000)
    packed = gzip.compress(b"x" * 2000)
    requests: list[Any] = [Request(packed), Request(packed)]
    first, second = (Body(request, budget, 2500) for request in requests)
    for body in (first, second):
        asyncio.run(body.read(Receipts()))
    assert first.content() == b"x" * 2000
    with pytest.raises(StatusError) as caught:
        second.content()
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    first.free()
    assert second.content() == b"x" * 2000
    second.free()
    assert budget.held == 0
    with pytest.raises(StatusError, match="Deadline exceeded"):
        second.content()
    assert budget.held == 0, "a thread that goes on after the time-out holds nothing"


def test_unpacking_copies_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library copies what it is given and what it gives while no other thread runs."""
    sizes: list[int] = []
    make = zlib.decompressobj

    class Unpacker:
        def __init__(self, bits: int) -> None:
            self._inner = make(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            step = self._inner.decompress(data, most)
            sizes.extend((len(data), len(step)))
            return step

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Unpacker)
    for plain in (random.Random(3).randbytes(1_000_000), bytes(1_000_000)):
        body = Body(Request(gzip.compress(plain)), BodyBudget(1 << 30), 1 << 30)  # type: ignore[arg-type]
        asyncio.run(body.read(Receipts()))
        assert body.content() == plain
    assert 0 < max(sizes) <= 1 << 18


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    budget = BodyBudget(10_000)
    request: Any = Request(gzip.compress(b"\0" * 1_000_000))
    body = Body(request, budget, 5000)
    asyncio.run(body.read(Receipts()))
    with pytest.raises(BodyTooLargeError):
        body.content()
    assert budget.held == body.size


def test_a_lie_about_the_size_is_found_where_it_ends() -> None:
    budget = BodyBudget(1 << 30)
    request: Any = Request(gzip.compress(b"\0" * 50_000_000)[:-4] + b"\x10\0\0\0")
    body = Body(request, budget, 1 << 30)
    asyncio.run(body.read(Receipts()))
    tracemalloc.start()
    try:
        with pytest.raises(StatusError, match="one complete gzip member"):
            body.content()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000, "no more than it said"
    finally:
        tracemalloc.stop()
    assert budget.held == body.size + 16


def test_preflight_reaches_every_path(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    server = start_fake("--rest_api_enable_cors_support").wait_ready()
    for path in ("/score", PATH, "/v1/models/m"):
        reply = server.http.request("OPTIONS", server.url(path))
        assert reply.status == 200
        assert reply.headers["Access-Control-Allow-Origin"] == "*"


def test_head_is_answered_as_get_without_a_body(server: Server) -> None:
    for path in ("/v1/models/m", "/v1/models/m/metadata", "/v1/models/x"):
        asked, got = server.http.request("HEAD", server.url(path)), server.get(path)
        assert (asked.status, asked.data) == (got.status, b"")
        assert asked.headers["Content-Length"] == got.headers["Content-Length"]


def test_any_bytes_are_a_wrong_key(start_fake: Start, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    keys = tmp_path / "keys"
    keys.write_text("secret")
    server = start_fake(f"--auth_keys={keys}").wait_ready()
    head = f"POST {PATH} HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\nAuthorization: ".encode()
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=LIMIT) as client:
        client.sendall(head + b"Bearer \xff\xfe\r\n\r\n")
        assert status(client) == 401
    assert "Traceback" not in server.log


@pytest.mark.parametrize("emptied", ["file", "folder"])
def test_keys_that_are_taken_away_open_nothing(tmp_path: Path, emptied: str) -> None:
    clock = FakeClock()
    folder = tmp_path / "keys"
    folder.mkdir()
    file = folder / "first"
    file.write_text("secret")
    keys = Keys(file if emptied == "file" else folder, clock)
    keys.check("secret")
    if emptied == "file":
        file.write_text("\n")
    else:
        file.unlink()
    clock.now += 2
    with pytest.raises(StatusError) as caught:
        keys.check("secret")
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    file.write_text("new")
    clock.now += 2
    keys.check("new")


def test_keys_that_cannot_be_read_stay(tmp_path: Path) -> None:
    clock = FakeClock()
    file = tmp_path / "keys"
    file.write_text("secret")
    keys = Keys(file, clock)
    file.unlink()
    clock.now += 2
    keys.check("secret")
    with pytest.raises(FlagError):
        Keys(file, clock)


@pytest.mark.parametrize(
    ("document", "dtype", "words"),
    [
        ({"instances": [0] * 200_000 + ["x"]}, DataType.DT_FLOAT, "element: 200000 of"),
        ({"instances": [0] * 200_000 + [10**400]}, DataType.DT_FLOAT, "element: 200000 of"),
        ({"instances": [0] * 200_000 + [2**40]}, DataType.DT_INT32, "element: 200000 of"),
        ({"instances": [0] * 200_000 + [True]}, DataType.DT_INT32, "element: 200000 of"),
        ({"instances": [[0] * 20] * 10_000 + [[0]]}, DataType.DT_FLOAT, "element: 10000 of"),
        ({"instances": ["a"] * 200_000 + [1]}, DataType.DT_STRING, "element: 200000 of"),
        ({"inputs": [[0] * 200_000 + ["x"]]}, DataType.DT_FLOAT, '"x" Type: String'),
    ],
)
def test_only_what_is_wrong_is_looked_at_one_by_one(
    document: dict[str, Any], dtype: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    original = json_tensors._scalar

    def scalar(value: Any, dtype: int) -> Any:
        looked.append(value)
        return original(value, dtype)

    if dtype != DataType.DT_STRING:
        monkeypatch.setattr(json_tensors, "_scalar", scalar)
    with pytest.raises(StatusError, match=words):
        read_inputs(document, signature(dtype))
    assert len(looked) < 10


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([0.5] * 300_000, DataType.DT_FLOAT),
        ([0.5] * 300_000 + ["x"], DataType.DT_FLOAT),
        ([[0.5] * 10] * 30_000, DataType.DT_DOUBLE),
        ([[[0.5] * 300_000]], DataType.DT_DOUBLE),
        (["a"] * 300_000, DataType.DT_STRING),
    ],
)
def test_reading_stops_at_the_deadline(value: Any, dtype: int) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks > 3:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "late")

    with pytest.raises(StatusError, match="late"):
        read_inputs({"instances": value}, signature(dtype), check)


class Alone(Inference):
    """One model that is always there."""

    def acquire(self, target: Target) -> AbstractContextManager[ServableHandle]:
        return nullcontext(ServableHandle(target.name or "m", 1, FakeModel({"factor": 1})))


def test_a_request_whose_time_is_over_is_not_read_to_its_end() -> None:
    wrong = json.dumps({"instances": [0] * 10 + ["x"]}).encode()
    inference = Alone({}, Metrics(), clock=FakeClock(100.0))
    for at, code in ((101.0, "INVALID_ARGUMENT"), (99.0, "DEADLINE_EXCEEDED")):
        with pytest.raises(StatusError) as caught:
            rest_api.predict(inference, Target("m"), wrong, Deadline(at))
        assert caught.value.code.name == code


def test_large_arrays_are_joined_from_steps() -> None:
    rows = [[float(index), 0.5] for index in range(100_000)]
    array = json_tensors.to_array(rows, DataType.DT_FLOAT)
    assert (array.shape, array[99_999].tolist()) == ((100_000, 2), [99_999.0, 0.5])
    with pytest.raises(StatusError, match="unexpected size"):
        json_tensors.to_array([*rows, [1.0]], DataType.DT_FLOAT)
    mixed = json_tensors.to_array([1] * 100_000 + [0.5], DataType.DT_DOUBLE)
    assert mixed[-1] == 0.5
    with pytest.raises(StatusError, match="strings are more than"):
        json_tensors.to_array(["a"] * 1_000_001, DataType.DT_STRING)
