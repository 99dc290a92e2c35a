"""What a front answers over HTTP: REST as the server behind answers it, and /score and metrics of its own."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from serval_serving.proxy.metrics_merge import joined
from serval_serving.wire import rpc
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
    """A front with a server of pages as the REST side of what is behind."""
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
    """Every test begins with an ordinary answer."""
    if "pages" in request.fixturenames or "rest" in request.fixturenames:
        server = request.getfixturevalue("pages")
        server.told = Told()
        server.seen.clear()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("status", [200, 400, 404, 418, 503])
def test_requests_and_replies_pass_unchanged(
    rest: Server, pages: PagesServer, method: str, status: int
) -> None:
    body = bytes(range(256)) * 4000 if method != "GET" else None
    pages.told = Told(status, b"\0\xff" * 300_000, (("Content-Type", "weird/type; a=b"), ("X-Own", "1")))
    url = rest.url("/v1/models/m%20n:predict?a=%2F&b=%20")
    headers = {"Content-Type": "image/jpeg", "Authorization": "Bearer x", "X-Mine": "2", "TE": "trailers"}
    reply = rest.http.request(method, url, body=body, headers=headers)
    (seen,) = pages.seen
    assert (seen.method, seen.path, seen.body) == (
        method,
        "/v1/models/m%20n:predict?a=%2F&b=%20",
        body or b"",
    )
    kept = {name: value for name, value in headers.items() if name != "TE"}
    assert {name: seen.headers.get(name) for name in kept} == kept
    assert "TE" not in seen.headers
    assert seen.headers["Host"] == pages.address
    assert (reply.status, reply.data) == (status, pages.told.body)
    assert (reply.headers["Content-Type"], reply.headers["X-Own"]) == ("weird/type; a=b", "1")


def test_compressed_bodies_arrive_unpacked(rest: Server, pages: PagesServer) -> None:
    packed = gzip.compress(b'{"instances": [1]}')
    assert rest.http.request("POST", rest.url(PATH), body=packed, headers={"Content-Encoding": "gzip"})
    assert pages.seen[0].body == b'{"instances": [1]}'
    assert "Content-Encoding" not in pages.seen[0].headers


def test_compressed_replies_stay_so(rest: Server, pages: PagesServer) -> None:
    packed = gzip.compress(b"[1]")
    pages.told = Told(body=packed, headers=(("Content-Encoding", "gzip"),))
    reply = rest.http.request("GET", rest.url("/v1/models/m"), decode_content=False)
    assert (reply.headers["Content-Encoding"], reply.data) == ("gzip", packed)


def test_bodies_have_a_limit(rest: Server, pages: PagesServer) -> None:
    reply = rest.post(PATH, bytes(2_000_001))
    assert reply.status == 413
    assert json.loads(reply.data) == {"error": "The body is larger than 2000000 bytes."}
    assert pages.seen == []


def test_a_reply_that_breaks_off_is_not_taken_for_a_whole_one(rest: Server, pages: PagesServer) -> None:
    pages.told = Told(body=b"[1, 2", missing=10)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        rest.get("/v1/models/m")
    pages.told = Told(body=b"[1]")
    assert rest.get("/v1/models/m").data == b"[1]"


def test_a_connection_that_was_closed_meanwhile_costs_nobody_a_request(
    rest: Server, pages: PagesServer
) -> None:
    pages.told = Told(body=b"[1]", hangs_up=True)
    assert [rest.post(PATH, b"{}").status for _ in range(20)] == [200] * 20


def test_metrics_are_counted_by_model_and_status(rest: Server, pages: PagesServer) -> None:
    pages.told = Told(404, b"{}")
    rest.post("/v1/models/counted:predict", b"{}")
    pages.told = Told(200, b"{}")
    rest.post("/v1/models/counted:predict", b"abc")
    page = rest.get(METRICS).data.decode()
    count = ':tensorflow:serving:request_count{{model_name="counted",status="{}"}} 1'
    assert count.format("OK") in page
    assert count.format("NOT_FOUND") in page
    assert 'serval_request_bytes_total{model_name="counted",entrypoint="REST"} 3' in page


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
    assert pages.seen[0].path == METRICS


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


# Without an HTTP port behind.


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


@pytest.mark.parametrize("path", [PATH, "/v1/models/m:classify"])
def test_other_calls_say_what_is_missing(front: Server, path: str) -> None:
    reply = front.post(path, b"{}")
    assert reply.status == 501
    assert "--upstream_rest" in json.loads(reply.data)["error"]


def test_paths_that_are_none(front: Server) -> None:
    assert front.get("/v2/models/m").status == 404
    assert front.get("/v1/nonsense").status == 400


def test_a_server_behind_that_is_not_there(recorder: Recorder, start: Callable[..., Server]) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    front = start(f"--upstream={recorder.address}", f"--upstream_rest={nobody}").wait_ready()
    reply = front.post(PATH, b"{}")
    assert reply.status == 503
    assert json.loads(reply.data)["error"].startswith(
        f"The server behind this front, {nobody}, does not answer: "
    )
    assert front.get(METRICS).status == 200


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


def test_score_goes_to_the_newest_version_when_the_old_one_is_gone(front: Server, recorder: Recorder) -> None:
    assert front.post("/score", b"abcd").status == 200
    recorder.states = {4: AVAILABLE}
    try:
        assert front.post("/score", b"abcd").status == 200
        assert b"\x08\x04" in recorder.last(rpc.PREDICT.path).data
    finally:
        recorder.states = {3: AVAILABLE}


def test_score_can_be_turned_off(recorder: Recorder, start: Callable[..., Server], tmp_path: Path) -> None:
    monitoring = tmp_path / "monitoring"
    monitoring.write_text('prometheus_config { enable: true path: "/my/metrics" }')
    flags = ("--enable_scoring=false", f"--monitoring_config_file={monitoring}")
    front = start(f"--upstream={recorder.address}", *flags).wait_ready()
    assert front.post("/score", b"abcd").status == 404
    assert front.get("/my/metrics").status == 200
    assert front.get(METRICS).status == 404
