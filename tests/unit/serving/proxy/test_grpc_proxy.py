"""What passes through a front by gRPC, and what it changes on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_serving.server.grpc_calls import MAX_KEYLESS_BYTES
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array, to_array
from serval_serving.wire.tracing import REQUEST_ID
from unit.serving.proxy.recorder import OUTPUTS, TENSOR, Recorder
from unit.serving.server.grpc_calls import LIMIT, in_flight, refused
from unit.serving.server.processes import Server, wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN = "/some.other.Service/Do"


def predict_request(name: str = "m", alias: str = "images", outputs: tuple[str, ...] = ()) -> Any:
    request = messages.PredictRequest(output_filter=outputs)
    if name:
        request.model_spec.name = name
    request.inputs[alias].CopyFrom(from_array(np.array([b"abcd", b"ab"], dtype=object)))
    return request


def call(channel: grpc.Channel, request: Any, method: rpc.Method = rpc.PREDICT, **kwargs: Any) -> Any:
    return rpc.multicallable(channel, method)(request, timeout=LIMIT, **kwargs)


def values(reply: messages.PredictResponse) -> dict[str, list[float]]:
    return {name: to_array(reply.outputs[name]).tolist() for name in sorted(reply.outputs)}


def test_bytes_pass_unchanged(recorder: Recorder, channel: grpc.Channel) -> None:
    # Field 9 is nobody's; the map's entries are in an order that no library would choose.
    data = b"\x0a\x03\x0a\x01m" + b"\x4a\x02\xff\x00" + predict_request().SerializeToString()
    replied = b"\x0a\x00whatever this is\xff"
    recorder.answers[rpc.PREDICT.path] = lambda _data, _context: replied
    assert channel.unary_unary(rpc.PREDICT.path)(data, timeout=LIMIT) == replied
    assert recorder.last(rpc.PREDICT.path).data == data


@pytest.mark.parametrize("path", [rpc.PREDICT.path, rpc.CLASSIFY.path, rpc.GET_MODEL_STATUS.path, UNKNOWN])
@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff", bytes(2_000_000)])
def test_what_is_no_message_passes_too(
    recorder: Recorder, channel: grpc.Channel, path: str, data: bytes
) -> None:
    if path == rpc.GET_MODEL_STATUS.path:
        data = data[:MAX_KEYLESS_BYTES]
    recorder.answers[path] = lambda data, _context: data[:10]
    reply = channel.unary_unary(path)(data, timeout=LIMIT)
    sent = recorder.last(path).data
    if not data and path in {rpc.PREDICT.path, rpc.CLASSIFY.path}:
        # An empty message is one that names no model.
        assert (sent, reply) == (b"\x0a\x03\x0a\x01m", b"\x0a\x03\x0a\x01m")
    else:
        assert (sent, reply) == (data, data[:10])


def test_metadata_pass_both_ways(recorder: Recorder, channel: grpc.Channel) -> None:
    def answer(data: bytes, context: Any) -> bytes:
        context.send_initial_metadata((("begun", "yes"),))
        context.set_trailing_metadata((("ended", "yes"), ("raw-bin", b"\xff")))
        return data

    recorder.answers[UNKNOWN] = answer
    sent = (("x-one", "1"), ("x-raw-bin", b"\0\xff"), ("authorization", "Bearer somebody's"))
    reply, ended = channel.unary_unary(UNKNOWN).with_call(b"x", timeout=LIMIT, metadata=sent)
    assert reply == b"x"
    assert dict(ended.initial_metadata()) == {"begun": "yes"}
    found = dict(ended.trailing_metadata())
    del found[REQUEST_ID]
    assert found == {"ended": "yes", "raw-bin": b"\xff"}
    seen = recorder.last(UNKNOWN).metadata
    assert {key: seen[key] for key, _ in sent} == dict(sent)
    assert set(seen) == {key for key, _ in sent} | {"user-agent", REQUEST_ID}


@pytest.mark.parametrize("path", [rpc.PREDICT.path, UNKNOWN])
def test_the_deadline_passes(recorder: Recorder, channel: grpc.Channel, path: str) -> None:
    recorder.answers[path] = lambda data, _context: data
    channel.unary_unary(path)(b"", timeout=1234)
    # gRPC sends few digits: each hop rounds up by at most a hundredth.
    assert 1200 < recorder.last(path).seconds < 1234 * 1.03
    channel.unary_unary(path).future(b"").result(LIMIT)
    assert recorder.last(path).seconds > 1e6


def test_a_deadline_that_passes_ends_the_call_behind(recorder: Recorder, channel: grpc.Channel) -> None:
    recorder.answers[UNKNOWN] = _until_it_ends
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(UNKNOWN)(b"", timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert recorder.last(UNKNOWN).ended.wait(LIMIT)


def test_a_caller_who_goes_ends_the_call_behind(
    recorder: Recorder, front: Server, channel: grpc.Channel
) -> None:
    recorder.answers[rpc.PREDICT.path] = _until_it_ends
    before = recorder.count(rpc.PREDICT.path)
    future = channel.unary_unary(rpc.PREDICT.path).future(b"", timeout=10 * LIMIT)
    wait_until("it arrived", lambda: recorder.count(rpc.PREDICT.path) > before, LIMIT)
    future.cancel()
    # Long before its deadline, and before the recorder gives up.
    assert recorder.last(rpc.PREDICT.path).ended.wait(LIMIT / 3)
    wait_until("the front forgot it", lambda: in_flight(front) == 0, LIMIT)


def _until_it_ends(data: bytes, context: Any) -> bytes:
    wait_until("the call ends", lambda: not context.is_active(), LIMIT)
    return data


@pytest.mark.parametrize("path", [rpc.PREDICT.path, rpc.GET_MODEL_METADATA.path, UNKNOWN])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, INVALID, grpc.StatusCode.DATA_LOSS])
def test_a_status_passes_unchanged(
    recorder: Recorder, channel: grpc.Channel, path: str, code: grpc.StatusCode
) -> None:
    details = "é" * 400 + "x" * 1000 + " / queue full"

    def answer(_data: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("why", "so"), ("grpc-status-details-bin", b"\x08\x0e")))
        context.abort(code, details)
        raise AssertionError("abort returns never")

    recorder.answers[path] = answer
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"", timeout=LIMIT)
    assert (caught.value.code(), caught.value.details()) == (code, details)
    found = dict(caught.value.trailing_metadata())
    del found[REQUEST_ID]
    assert found == {"why": "so", "grpc-status-details-bin": b"\x08\x0e"}


def test_a_stream_of_replies_is_refused(recorder: Recorder, channel: grpc.Channel) -> None:
    recorder.answers[UNKNOWN] = lambda _data, _context: [b"one", b"two"]
    code, text = refused(lambda: channel.unary_unary(UNKNOWN)(b"", timeout=LIMIT))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert UNKNOWN in text


def test_health_is_the_fronts_own(recorder: Recorder, channel: grpc.Channel) -> None:
    reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LIMIT)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    assert not any(made.path.startswith("/grpc.") for made in recorder.calls)


# Requests without a model's name.


@pytest.mark.parametrize("empty", [True, False])
def test_predict_without_a_name_is_for_the_model(
    recorder: Recorder, channel: grpc.Channel, empty: bool
) -> None:
    request = predict_request("")
    if empty:
        request.model_spec.SetInParent()
    reply = call(channel, request)
    assert values(reply) == {"classes": [4.0, 2.0], "probabilities": [2.0, 1.0]}
    request.model_spec.name = "m"
    assert messages.PredictRequest.FromString(recorder.last(rpc.PREDICT.path).data) == request


@pytest.mark.parametrize("method", [rpc.CLASSIFY, rpc.REGRESS], ids=lambda method: method.name)
def test_what_else_our_own_server_fills_in(
    recorder: Recorder, channel: grpc.Channel, method: rpc.Method
) -> None:
    recorder.answers[method.path] = lambda _data, _context: b""
    request = method.request()
    request.model_spec.version.value = 3
    request.model_spec.signature_name = "s"
    request.input.SetInParent()
    call(channel, request, method)
    request.model_spec.name = "m"
    assert method.request.FromString(recorder.last(method.path).data) == request


def test_what_our_own_server_does_not_fill_in(recorder: Recorder, channel: grpc.Channel) -> None:
    def metadata(**spec: str) -> Any:
        given = {"model_spec": messages.ModelSpec(**spec)} if spec else {}
        return messages.GetModelMetadataRequest(metadata_field=["signature_def"], **given)

    assert call(channel, metadata(signature_name="s"), rpc.GET_MODEL_METADATA).model_spec.name == "m"
    missing = (INVALID, "ModelSpec has no name specified.")
    assert refused(lambda: call(channel, metadata(), rpc.GET_MODEL_METADATA)) == missing
    request = messages.MultiInferenceRequest(tasks=[messages.InferenceTask(method_name="x")])
    recorder.answers[rpc.MULTI_INFERENCE.path] = lambda _data, _context: b""
    call(channel, request, rpc.MULTI_INFERENCE)
    assert recorder.last(rpc.MULTI_INFERENCE.path).data == request.SerializeToString()


# Names of tensors.


def test_inputs_by_tensor_give_outputs_under_both_names(channel: grpc.Channel) -> None:
    reply = call(channel, predict_request("", TENSOR))
    classes, halves = [4.0, 2.0], [2.0, 1.0]
    both = {"classes": classes, "probabilities": halves}
    assert values(reply) == both | {OUTPUTS["classes"]: classes, OUTPUTS["probabilities"]: halves}
    assert reply.model_spec.name == "m"


@pytest.mark.parametrize("alias", ["images", TENSOR])
def test_an_output_filter_chooses_the_names(channel: grpc.Channel, alias: str) -> None:
    wanted = (OUTPUTS["probabilities"],)
    assert values(call(channel, predict_request("m", alias, wanted))) == {wanted[0]: [2.0, 1.0]}
    both = ("classes", OUTPUTS["classes"])
    assert set(values(call(channel, predict_request("m", alias, both)))) == set(both)


def test_names_that_nobody_knows_are_refused_behind(channel: grpc.Channel) -> None:
    assert refused(lambda: call(channel, predict_request("m", "nope:0"))) == (
        INVALID,
        "unknown inputs: ['nope:0']",
    )
    assert refused(lambda: call(channel, predict_request("m", TENSOR, ("nope:0",)))) == (
        INVALID,
        "output tensor alias not found: nope:0",
    )
    unknown = predict_request("q", TENSOR)
    assert refused(lambda: call(channel, unknown))[0] is grpc.StatusCode.NOT_FOUND


def test_signatures_are_asked_for_once_per_version(recorder: Recorder, channel: grpc.Channel) -> None:
    call(channel, predict_request("", TENSOR))
    before = recorder.count(rpc.GET_MODEL_METADATA.path)
    for _ in range(3):
        call(channel, predict_request("", TENSOR))
    assert recorder.count(rpc.GET_MODEL_METADATA.path) == before


# Keys, and the limit on requests in progress.


def test_keys_are_checked_and_not_passed_on(
    recorder: Recorder, start: Callable[..., Server], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    front = start(f"--upstream={recorder.address}", f"--auth_keys={keys}").wait_ready()
    recorder.answers[UNKNOWN] = lambda data, _context: data
    key = (("authorization", "Bearer secret"), ("x-other", "1"))
    with front.channel() as channel:
        for path in (rpc.PREDICT.path, rpc.HANDLE_RELOAD_CONFIG.path, UNKNOWN):
            before = recorder.count(path)
            raw = channel.unary_unary(path)
            for metadata in ((), (("authorization", "Bearer wrong"),)):
                code, _ = refused(lambda raw=raw, sent=metadata: raw(b"", timeout=LIMIT, metadata=sent))
                assert code is grpc.StatusCode.UNAUTHENTICATED
            assert recorder.count(path) == before
        call(channel, predict_request(), metadata=key)
        seen = recorder.last(rpc.PREDICT.path).metadata
        assert seen["x-other"] == "1"
        assert "authorization" not in seen
        status = messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name="m"))
        assert call(channel, status, rpc.GET_MODEL_STATUS).model_version_status[0].version == 3
    assert front.post("/score", b"abc").status == 401
    assert front.post("/score", b"abc", Authorization="Bearer secret").status == 200
    assert front.get("/v1/models/m/metadata").status == 200


def test_the_limit_on_requests_in_progress(recorder: Recorder, start: Callable[..., Server]) -> None:
    front = start(f"--upstream={recorder.address}", "--max_concurrent_requests=1").wait_ready()
    recorder.answers[rpc.PREDICT.path] = _until_it_ends
    with front.channel() as channel:
        future = channel.unary_unary(rpc.PREDICT.path).future(b"", timeout=LIMIT)
        wait_until("it is in progress", lambda: in_flight(front) == 1, LIMIT)
        code, text = refused(lambda: call(channel, predict_request()))
        assert front.post("/score", b"abc").status == 429
        future.cancel()
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert text == "Too many concurrent requests: the limit is 1."


def test_the_access_log_names_model_and_status(front: Server, channel: grpc.Channel) -> None:
    call(channel, predict_request(""))
    refused(lambda: call(channel, predict_request("q")))
    assert "call=Predict model=m status=OK" in front.log
    assert "call=Predict model=q status=NOT_FOUND" in front.log
    assert "abcd" not in front.log


SENT_OFF = "Stream removed (recvmsg:Connection reset by peer (104) (GOAWAY received; Debug Text: max_age))"
HALF_SENT = "Stream removed (sendmsg: Broken pipe (32))"


@pytest.mark.parametrize(
    ("path", "words", "failures", "tries"),
    [
        (UNKNOWN, SENT_OFF, 1, 2),  # the server never took it
        (UNKNOWN, SENT_OFF, 2, 3),
        (UNKNOWN, SENT_OFF, 3, 3),  # but that is enough
        (UNKNOWN, "Stream removed", 1, 1),  # perhaps the server took it
        (UNKNOWN, "GOAWAY received", 1, 1),  # its own words
        (UNKNOWN, HALF_SENT, 1, 1),  # it may do harm to run it twice
        (rpc.PREDICT.path, HALF_SENT, 1, 2),
        (rpc.PREDICT.path, "Stream removed (recvmsg:Connection reset by peer (104))", 1, 2),
        (rpc.PREDICT.path, "Stream removed (Socket closed)", 1, 1),  # the server died of it, perhaps
        (rpc.HANDLE_RELOAD_CONFIG.path, HALF_SENT, 1, 1),
    ],
)
def test_a_call_that_was_never_taken_is_sent_once_more(
    recorder: Recorder, start: Callable[..., Server], path: str, words: str, failures: int, tries: int
) -> None:
    tried = 0

    def answer(_data: bytes, context: Any) -> bytes:
        nonlocal tried
        tried += 1
        if tried <= failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, words)
        return b"answered"

    recorder.answers[path] = answer
    front = start(f"--upstream={recorder.address}", "--enable_config_reload").wait_ready()
    with front.channel() as channel:
        method = channel.unary_unary(path)
        if tries > failures:
            assert method(b"", timeout=LIMIT) == b"answered"
        else:
            code, _ = refused(lambda: method(b"", timeout=LIMIT))
            assert code is grpc.StatusCode.UNAVAILABLE
    assert tried == tries
