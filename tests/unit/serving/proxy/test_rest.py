"""What a front answers over HTTP: the REST API and /score over calls of the server behind, and metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from serval_serving.proxy.metrics_merge import joined
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import to_array
from support.ports import free_port
from unit.serving.proxy.pages_server import PagesServer, Told
from unit.serving.proxy.recorder import AVAILABLE, Recorder
from unit.serving.server.processes import REAL, Server, running
from unit.serving.server.rest_calls import METRICS

PATH = "/v1/models/m:predict"


@pytest.fixture(scope="module")
def pages() -> Iterator[PagesServer]:
    server = PagesServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def rest(
    recorder: Recorder, pages: PagesServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A front with a server of pages as the HTTP port of what is behind."""
    log = tmp_path_factory.mktemp("rest") / "log"
    flags = (
        "--model_name=m",
        f"--upstream={recorder.address}",
        f"--upstream_rest={pages.address}",
        "--rest_api_max_body_bytes=2000000",
    )
    with running(Server(REAL, log, *flags)) as server:
        yield server.wait_ready()


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest) -> None:
    """Every test begins with an ordinary page."""
    if "pages" in request.fixturenames:
        server = request.getfixturevalue("pages")
        server.told = Told()
        server.seen.clear()


# Predictions go to the server behind by gRPC.


BODY = '{"instances": ["abcd", "ab"]}'


@pytest.mark.parametrize(
    "path", [PATH, "/v1/models/m/versions/3:predict", "/V1/models/m/labels/stable:PREDICT"]
)
def test_a_prediction_is_a_call_of_one_version(front: Server, recorder: Recorder, path: str) -> None:
    reply = front.post(path, BODY)
    assert (reply.status, json.loads(reply.data)) == (
        200,
        {"predictions": [{"classes": 4.0, "probabilities": 2.0}, {"classes": 2.0, "probabilities": 1.0}]},
    )
    assert reply.headers["Content-Type"] == "application/json"
    sent = messages.PredictRequest.FromString(recorder.last(rpc.PREDICT.path).data)
    assert (sent.model_spec.name, sent.model_spec.version.value) == ("m", 3)
    assert sent.model_spec.signature_name == "serving_default"
    assert to_array(sent.inputs["images"]).tolist() == [b"abcd", b"ab"]
    assert list(sent.output_filter) == ["classes", "probabilities"]


def test_signatures_are_asked_for_once(front: Server, recorder: Recorder) -> None:
    assert front.post(PATH, BODY).status == 200
    before = recorder.count(rpc.GET_MODEL_METADATA.path)
    assert [front.post(PATH, BODY).status for _ in range(3)] == [200] * 3
    assert recorder.count(rpc.GET_MODEL_METADATA.path) == before


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (PATH, "{", 400, "JSON Parse error"),
        (PATH, "{}", 400, "Missing 'inputs' or 'instances' key"),
        (PATH, '{"instances": [1]}', 400, "is not of expected type: string"),
        (PATH, '{"instances": ["a"], "signature_name": "other"}', 400, '"other" not found in signature def'),
        ("/v1/models/m/versions/9:predict", BODY, 404, "Servable not found for request"),
        ("/v1/models/n:predict", BODY, 404, "Servable not found for request"),
        ("/v1/models/m:classify", '{"examples": [{"x": 1}]}', 400, "No classification inputs found"),
        ("/v1/models/m:nonsense", BODY, 400, "Malformed request: POST /v1/models/m:nonsense"),
    ],
)
def test_what_cannot_be_answered_is_not_sent(
    front: Server, recorder: Recorder, path: str, body: str, status: int, words: str
) -> None:
    before = recorder.count(rpc.PREDICT.path)
    reply = front.post(path, body)
    assert reply.status == status
    assert words in json.loads(reply.data)["error"]
    assert recorder.count(rpc.PREDICT.path) == before


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNAVAILABLE, 503),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/score"])
def test_the_status_of_the_server_behind_is_the_answer(
    front: Server, recorder: Recorder, path: str, code: grpc.StatusCode, status: int
) -> None:
    recorder.answers[rpc.PREDICT.path] = lambda _data, context: context.abort(code, "its own words")
    reply = front.post(path, BODY)
    assert (reply.status, json.loads(reply.data)) == (status, {"error": "its own words"})


@pytest.mark.parametrize(
    "reply", [b"\xff", b"", b"\x0a\x0b\x0a\x07classes\x12\x00"], ids=["no message", "no output", "no tensor"]
)
def test_a_reply_that_cannot_be_read_is_an_internal_error(
    front: Server, recorder: Recorder, reply: bytes
) -> None:
    recorder.answers[rpc.PREDICT.path] = lambda _data, _context: reply
    answer = front.post(PATH, BODY)
    assert answer.status == 500
    assert json.loads(answer.data) == {
        "error": "The server behind this front gave no output classes that can be read."
    }


def test_the_deadline_of_http_passes(recorder: Recorder, start: Callable[..., Server]) -> None:
    front = start(f"--upstream={recorder.address}", "--rest_api_timeout_in_ms=20000").wait_ready()
    assert front.post(PATH, BODY).status == 200
    assert 10 < recorder.last(rpc.PREDICT.path).seconds < 21


@pytest.mark.parametrize("path", [PATH, "/score"])
def test_the_newest_version_answers_when_the_old_one_is_gone(
    front: Server, recorder: Recorder, path: str
) -> None:
    assert front.post(path, BODY).status == 200
    recorder.states = {4: AVAILABLE}
    try:
        assert front.post(path, BODY).status == 200
        sent = messages.PredictRequest.FromString(recorder.last(rpc.PREDICT.path).data)
        assert sent.model_spec.version.value == 4
    finally:
        recorder.states = {3: AVAILABLE}


def test_a_version_that_the_request_names_has_no_successor(front: Server, recorder: Recorder) -> None:
    path = "/v1/models/m/versions/3:predict"
    assert front.post(path, BODY).status == 200
    recorder.states = {4: AVAILABLE}
    try:
        assert front.post(path, BODY).status == 404
    finally:
        recorder.states = {3: AVAILABLE}


def test_bodies_have_a_limit(rest: Server, recorder: Recorder) -> None:
    before = recorder.count(rpc.PREDICT.path)
    reply = rest.post(PATH, bytes(2_000_001))
    assert reply.status == 413
    assert json.loads(reply.data) == {"error": "The body is larger than 2000000 bytes."}
    assert recorder.count(rpc.PREDICT.path) == before


def test_metrics_are_counted_by_model_and_status(rest: Server) -> None:
    assert rest.post("/v1/models/counted:predict", BODY).status == 404
    assert rest.post(PATH, BODY).status == 200
    page = rest.get(METRICS).data.decode()
    count = ':tensorflow:serving:request_count{{model_name="{}",status="{}"}} 1'
    assert count.format("m", "OK") in page
    assert count.format("(other)", "NOT_FOUND") in page
    assert f'serval_request_bytes_total{{model_name="m",entrypoint="REST"}} {len(BODY)}' in page


def test_metrics_of_engines_are_those_of_the_server_behind(rest: Server, pages: PagesServer) -> None:
    pages.told = Told(body=b"# TYPE :tensorflow:serving:runtime_latency histogram\n")
    assert rest.post(PATH, BODY).status == 200
    assert rest.get(METRICS).data.decode().count(":tensorflow:serving:runtime_latency") == 1


def test_the_metrics_of_the_server_behind_follow_its_own(rest: Server, pages: PagesServer) -> None:
    pages.told = Told(
        body=b'# TYPE theirs gauge\ntheirs{a="b"} 1\n', headers=(("Content-Type", "text/plain"),)
    )
    page = rest.get(METRICS).data.decode()
    assert page.endswith(
        "process_cpu_seconds_total " + page.splitlines()[-3].split()[1] + "\n"
        '# TYPE theirs gauge\ntheirs{a="b"} 1\n'
    )
    pages.told = Told(500, b"theirs 2\n")
    assert "theirs" not in rest.get(METRICS).data.decode()
    assert pages.seen[0] == METRICS


def test_no_metric_stands_twice() -> None:
    own = "# HELP a A.\n# TYPE a counter\na 1\n# TYPE h histogram\nh_sum 1\n"
    other = (
        '# TYPE a counter\na{x="y"} 2\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 3\nh_count 1\n'
        "# TYPE :b:c counter\n:b:c 4\n\n# EOF\n# TYPE ab gauge\nab 1\n"
    )
    page = joined(own, other)
    assert page == own + "# TYPE :b:c counter\n:b:c 4\n# TYPE ab gauge\nab 1\n"
    names = re.findall(r"^# TYPE (\S+)", page, re.M)
    assert len(names) == len(set(names))
    assert joined(own, "") == own


# Questions about the model.


def test_probes_need_no_http_port_behind(front: Server) -> None:
    reply = front.get("/v1/models/m/metadata")
    document = json.loads(reply.data)
    assert reply.status == 200
    assert document["model_spec"] == {"name": "m", "signature_name": "", "version": "3"}
    assert set(document["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]) == {
        "images"
    }
    assert front.get("/v1/models/m/versions/3/metadata").status == 200
    assert front.get("/v1/models/m/versions/9/metadata").status == 404
    assert front.get("/v1/models/nope").status == 404
    states = json.loads(front.get("/v1/models/m").data)["model_version_status"]
    assert states == [
        {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
    assert front.get("/healthz").data == b"ok"


def test_paths_that_are_none(front: Server) -> None:
    assert front.get("/v2/models/m").status == 404
    assert front.get("/v1/nonsense").status == 400


def test_the_metrics_are_there_without_those_of_the_server_behind(
    recorder: Recorder, start: Callable[..., Server]
) -> None:
    front = start(f"--upstream={recorder.address}", f"--upstream_rest=127.0.0.1:{free_port()}").wait_ready()
    assert "serval_requests_in_flight 0" in front.get(METRICS).data.decode()
    assert front.post(PATH, BODY).status == 200


# /score.


def test_score(front: Server) -> None:
    reply = front.post("/score", b"abcd")
    assert (reply.status, json.loads(reply.data)) == (200, [2.0])
    reply = front.get("/score")
    assert (reply.status, reply.data) == (405, b"GET is not supported")
    assert front.http.request("PUT", front.url("/score"), body=b"x").data == b"bad request"


def test_the_output_of_score_can_be_chosen(recorder: Recorder, start: Callable[..., Server]) -> None:
    chosen = start(f"--upstream={recorder.address}", "--scoring_output=classes").wait_ready()
    assert json.loads(chosen.post("/score", b"abcd").data) == [4.0]
    absent = start(f"--upstream={recorder.address}", "--scoring_output=q").wait_ready()
    reply = absent.post("/score", b"abcd")
    assert reply.status == 400
    assert json.loads(reply.data) == {"error": "the model has no output q; it has classes, probabilities"}


def test_score_can_be_turned_off(recorder: Recorder, start: Callable[..., Server], tmp_path: Path) -> None:
    monitoring = tmp_path / "monitoring"
    monitoring.write_text('prometheus_config { enable: true path: "/my/metrics" }')
    flags = ("--enable_scoring=false", f"--monitoring_config_file={monitoring}")
    front = start(f"--upstream={recorder.address}", *flags).wait_ready()
    assert front.post("/score", b"abcd").status == 404
    assert front.get("/my/metrics").status == 200
    assert front.get(METRICS).status == 404
