"""What a front passes on of a request's id and trace, and what it reads of a server that names neither."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from serval_serving.wire import messages, rpc
from serval_serving.wire.tracing import (
    CLIENT_REQUEST_ID,
    MODEL_VERSION,
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
)
from unit.serving.proxy.recorder import Recorder
from unit.serving.server.processes import Server

LIMIT = 30.0
PARENT = f"00-{'1' * 32}-{'2' * 16}-01"
SENT = {REQUEST_ID: "i", CLIENT_REQUEST_ID: "c", TRACEPARENT: PARENT, TRACESTATE: "a=1"}
PATH = "/v1/models/m:predict"
BODY = '{"instances": ["abcd"]}'
OTHER = "/some.other.Service/Do"


def sent(recorder: Recorder, path: str = rpc.PREDICT.path) -> dict[str, Any]:
    metadata = recorder.last(path).metadata
    return {name: metadata[name] for name in SENT if name in metadata}


@pytest.mark.parametrize("path", [rpc.PREDICT.path, OTHER])
def test_the_server_behind_gets_id_and_trace(recorder: Recorder, channel: grpc.Channel, path: str) -> None:
    recorder.answers[path] = lambda data, _: data
    call = channel.unary_unary(path)
    call(b"", timeout=LIMIT, metadata=tuple(SENT.items()))
    assert sent(recorder, path) == SENT


def test_the_server_behind_gets_the_id_that_was_made(recorder: Recorder, channel: grpc.Channel) -> None:
    recorder.answers[OTHER] = lambda data, _: data
    _, ended = channel.unary_unary(OTHER).with_call(b"", timeout=LIMIT, metadata=((REQUEST_ID, "no id"),))
    assert sent(recorder, OTHER) == {REQUEST_ID: dict(ended.trailing_metadata())[REQUEST_ID]}
    assert sent(recorder, OTHER)[REQUEST_ID] != "no id"


def test_rest_passes_id_and_trace_on(front: Server, recorder: Recorder) -> None:
    assert front.post(PATH, BODY, **SENT).status == 200
    assert sent(recorder) == SENT
    reply = front.post(PATH, BODY, **{TRACEPARENT: "00-bad", TRACESTATE: "a=1"})
    assert sent(recorder) == {REQUEST_ID: reply.headers[REQUEST_ID]}


def test_a_reply_has_one_id(recorder: Recorder, channel: grpc.Channel) -> None:
    def answer(data: bytes, context: Any) -> bytes:
        context.send_initial_metadata(((REQUEST_ID, "theirs"),))
        context.set_trailing_metadata(((REQUEST_ID, "theirs"), (MODEL_VERSION, "8")))
        return data

    recorder.answers[rpc.PREDICT.path] = answer
    call = channel.unary_unary(rpc.PREDICT.path)
    _, ended = call.with_call(b"", timeout=LIMIT, metadata=((REQUEST_ID, "mine"),))
    assert list(ended.trailing_metadata()) == [(REQUEST_ID, "mine"), (MODEL_VERSION, "8")]
    assert list(ended.initial_metadata()) == []


@pytest.mark.parametrize(
    ("method", "version"),
    [(rpc.PREDICT, "6"), (rpc.CLASSIFY, "6"), (rpc.REGRESS, "6"), (rpc.MULTI_INFERENCE, None)],
)
def test_the_version_is_read_from_the_reply(
    recorder: Recorder, channel: grpc.Channel, method: rpc.Method, version: str | None
) -> None:
    def answer(_data: bytes, _context: Any) -> bytes:
        reply = method.response()
        spec = reply.results.add().model_spec if version is None else reply.model_spec
        spec.version.value = 6
        return bytes(reply.SerializeToString())

    recorder.answers[method.path] = answer
    _, ended = channel.unary_unary(method.path).with_call(b"", timeout=LIMIT)
    assert dict(ended.trailing_metadata()).get(MODEL_VERSION) == version


@pytest.mark.parametrize("reply", [b"\xff", messages.PredictResponse().SerializeToString()])
def test_a_reply_without_a_version_passes(recorder: Recorder, channel: grpc.Channel, reply: bytes) -> None:
    recorder.answers[rpc.PREDICT.path] = lambda _data, _context: reply
    found, ended = channel.unary_unary(rpc.PREDICT.path).with_call(b"", timeout=LIMIT)
    assert found == reply
    assert MODEL_VERSION not in dict(ended.trailing_metadata())


def test_rest_names_the_version(front: Server) -> None:
    assert front.post(PATH, BODY).headers[MODEL_VERSION] == "3"
    assert front.get("/v1/models/m/metadata").headers[MODEL_VERSION] == "3"
