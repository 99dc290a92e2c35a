"""What every reply says of its request and of what answered it, and what of it goes to a server behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.models.recorded_digest import digest_file, record_digest, recorded_digest
from serval_serving.server.keys import Keys
from serval_serving.server.tracing import Trace
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array
from serval_serving.wire.tracing import (
    CLIENT_REQUEST_ID,
    MODEL_DIGEST,
    MODEL_VERSION,
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
    trace_context,
)
from unit.serving.server.fake_engine import write_version
from unit.serving.server.processes import FAKE, Server, front_of, running

LIMIT = 30.0
DIGEST = f"sha256:{'ab' * 32}"
BODY = '{"instances": [1.0]}'
PATH = "/v1/models/m:predict"
PARENT = f"00-{'1' * 32}-{'2' * 16}-01"


class Asking:
    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def header(self, name: str) -> str | None:
        return self._headers.get(name)


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ({REQUEST_ID: "a-1"}, {REQUEST_ID: "a-1"}),
        ({CLIENT_REQUEST_ID: "c/2"}, {REQUEST_ID: "c/2", CLIENT_REQUEST_ID: "c/2"}),
        ({REQUEST_ID: "a", CLIENT_REQUEST_ID: "c"}, {REQUEST_ID: "a", CLIENT_REQUEST_ID: "c"}),
        ({REQUEST_ID: "x" * 100}, {REQUEST_ID: "x" * 100}),
        ({REQUEST_ID: "bad id", CLIENT_REQUEST_ID: "c"}, {REQUEST_ID: "c", CLIENT_REQUEST_ID: "c"}),
    ],
)
def test_an_id_is_that_of_the_caller(sent: dict[str, str], found: dict[str, str]) -> None:
    assert dict(Trace(Asking(sent)).reply_headers()) == found


@pytest.mark.parametrize("text", ["", "x" * 101, "a b", "a\n", "é", 'a"', "a;b"])
def test_an_id_is_made_where_the_caller_has_none_of_that_form(text: str) -> None:
    made = [Trace(Asking({REQUEST_ID: text, CLIENT_REQUEST_ID: text})).reply_headers() for _ in range(2)]
    assert [[name for name, _ in headers] for headers in made] == [[REQUEST_ID]] * 2
    ids = {headers[0][1] for headers in made}
    assert len(ids) == 2
    assert {len(one) for one in ids} == {32}


@pytest.mark.parametrize(
    ("parent", "state", "passed"),
    [
        (PARENT, None, [(TRACEPARENT, PARENT)]),
        (PARENT, "a=1", [(TRACEPARENT, PARENT), (TRACESTATE, "a=1")]),
        (PARENT, "a" * 513, [(TRACEPARENT, PARENT)]),
        (PARENT, "a\tb", [(TRACEPARENT, PARENT)]),
        (f"01{PARENT[2:]}-more", None, [(TRACEPARENT, f"01{PARENT[2:]}-more")]),
        (f"{PARENT}-more", "a=1", []),
        (f"ff{PARENT[2:]}", "a=1", []),
        (PARENT.upper().replace("1", "A"), "a=1", []),
        (f"00-{'0' * 32}-{'2' * 16}-01", None, []),
        (f"00-{'1' * 32}-{'0' * 16}-01", None, []),
        (f"01{PARENT[2:]}-{'x' * 201}", None, []),
        (None, "a=1", []),
    ],
)
def test_a_trace_goes_on_if_it_is_well_formed(
    parent: str | None, state: str | None, passed: list[tuple[str, str]]
) -> None:
    assert trace_context(parent, state) == passed


def test_a_key_has_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "primary").write_text("one\n")
    (tmp_path / "team").write_text("\ntwo\nthree\none\n")
    keys = Keys(tmp_path)
    assert [keys.check(f"Bearer {key}") for key in ("one", "two", "three")] == ["primary", "team", "team:2"]


@pytest.mark.parametrize("text", [DIGEST, f"{DIGEST}\n", f"{DIGEST}{'a' * 1000}"])
def test_a_digest_is_read_from_beside_the_version(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "7"
    assert recorded_digest(folder) == ""
    record_digest(folder, DIGEST)
    digest_file(folder).write_text(text)
    assert recorded_digest(folder) == DIGEST


@pytest.mark.parametrize("content", [b"", b"sha256:abc", DIGEST.upper().encode(), b"\xff" * 80])
def test_what_is_no_digest_is_none(tmp_path: Path, content: bytes) -> None:
    digest_file(tmp_path / "7").write_bytes(content)
    assert recorded_digest(tmp_path / "7") == ""


@contextmanager
def served(tmp_path: Path, way: str, *flags: str) -> Iterator[Server]:
    """Run a server of version 3, or a front before it."""
    base = tmp_path / "m"
    record_digest(write_version(base, 3), DIGEST)
    behind = Server(FAKE, tmp_path / "log", "--model_name=m", f"--model_base_path={base}")
    with running(behind):
        behind.wait_ready()
        if way == "direct":
            yield behind
            return
        with running(front_of(behind, tmp_path / "front", "--model_name=m", *flags)) as front:
            yield front.wait_ready()


def predict(x: list[float], version: int | None = None) -> bytes:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    if version is not None:
        request.model_spec.version.value = version
    request.inputs["x"].CopyFrom(from_array(np.array(x, np.float32)))
    return request.SerializeToString()


def ended(call: Callable[..., Any], data: bytes, **headers: str) -> dict[str, Any]:
    """Make a call that succeeds or fails, and return its trailing metadata."""
    metadata = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    try:
        return dict(call.with_call(data, timeout=LIMIT, metadata=metadata)[1].trailing_metadata())
    except grpc.RpcError as error:
        return dict(error.trailing_metadata())


ANSWERED = {MODEL_VERSION: "3", MODEL_DIGEST: DIGEST}


@pytest.mark.parametrize("way", ["direct", "front"])
def test_every_reply_says_what_answered(tmp_path: Path, way: str) -> None:
    with served(tmp_path, way) as server, server.channel() as channel:
        call = channel.unary_unary(rpc.PREDICT.path)
        chosen = {REQUEST_ID: "i"}
        assert ended(call, predict([1.0]), x_request_id="i") == chosen | ANSWERED
        assert ended(call, predict([]), x_request_id="i") == chosen | ANSWERED
        assert ended(call, b"\xff", x_request_id="i") == chosen
        assert ended(call, predict([1.0], version=4), x_request_id="i") == chosen
        assert len(ended(call, predict([1.0]))[REQUEST_ID]) == 32
        wrong = messages.PredictRequest(model_spec=messages.ModelSpec(name="m")).SerializeToString()
        assert ended(call, wrong, x_request_id="i") == chosen | ANSWERED
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert ended(check, b"", x_request_id="h") == {REQUEST_ID: "h"}
        for path, body, status, answered in (
            (PATH, BODY, 200, True),
            (PATH, '{"instances": ["x"]}', 400, True),
            (PATH, "{", 400, True),
            ("/v1/models/other:predict", BODY, 404, False),
            ("/nowhere", BODY, 404, False),
        ):
            reply = server.post(path, body, **{CLIENT_REQUEST_ID: "c"})
            assert reply.status == status, reply.data
            assert reply.headers[REQUEST_ID] == reply.headers[CLIENT_REQUEST_ID] == "c"
            said = {name: reply.headers[name] for name in ANSWERED if name in reply.headers}
            assert said == (ANSWERED if answered else {}), path
        for path in ("/healthz", "/v1/models/m", "/v1/models/m/metadata"):
            assert len(server.get(path).headers[REQUEST_ID]) == 32
