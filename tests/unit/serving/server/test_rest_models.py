"""Status, metadata, metrics and what is no HTTP, from a live server of the model `zoo`."""

from __future__ import annotations

import json
import re
import socket

import pytest
import urllib3

from unit.serving.server.processes import Server
from unit.serving.server.rest_calls import METRICS, ask, half


@pytest.mark.parametrize("path", ["/v1/models/zoo", "/v1/models/zoo/versions/7", "/v1/models/zoo/labels/x"])
def test_status(zoo: Server, path: str) -> None:
    expected = {
        "version": "7",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert json.loads(zoo.get(path).data) == {"model_version_status": [expected]}


@pytest.mark.parametrize("path", ["/v1/models/zoo/metadata", "/v1/models/zoo/versions/7/metadata"])
def test_metadata(zoo: Server, path: str) -> None:
    document = json.loads(zoo.get(path).data)
    assert document["model_spec"] == {"name": "zoo", "signature_name": "", "version": "7"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert "__saved_model_init_op" in signatures
    signature = signatures["images"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["images"] == {
        "dtype": "DT_FLOAT",
        "name": signature["inputs"]["images"]["name"],
        "tensor_shape": {
            "unknown_rank": False,
            "dim": [{"size": size, "name": ""} for size in ("-1", "8", "8", "3")],
        },
    }
    assert re.fullmatch(r".*images.*:0", signature["inputs"]["images"]["name"])


SAMPLE = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.e]+$|^# (HELP|TYPE) .*$")


def metrics(server: Server) -> str:
    reply = server.get(METRICS)
    assert reply.headers["Content-Type"].startswith("text/plain")
    return reply.data.decode()


def test_metrics_have_tensorflow_servings_names(zoo: Server) -> None:
    ask(zoo, half(instances=[1.0]))
    ask(zoo, half(instances=["a"]))
    page = metrics(zoo)
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert re.search(r'^:tensorflow:serving:request_count\{model_name="zoo",status="OK"\} \d+$', page, re.M)
    assert '{model_name="zoo",status="INVALID_ARGUMENT"}' in page
    latency = ':tensorflow:serving:request_latency_{}{{model_name="zoo",API="Predict",entrypoint="REST"{}}} '
    assert latency.format("bucket", ',le="10"') in page
    assert latency.format("bucket", ',le="+Inf"') in page
    assert latency.format("count", "") in page
    assert ':tensorflow:serving:runtime_latency_sum{model_name="zoo",API="Predict",runtime="TF1"}' in page
    assert re.search(r"^serval_requests_in_flight 0$", page, re.M)


def test_metrics_can_be_scraped(zoo: Server) -> None:
    assert all(SAMPLE.match(line) for line in metrics(zoo).splitlines())


def test_liveness(zoo: Server) -> None:
    assert zoo.get("/healthz").status == 200


@pytest.mark.parametrize("junk", [b"\0\1\2\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST " + b"x" * 20_000])
def test_what_is_no_http_is_answered(zoo: Server, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", zoo.http_port), timeout=10) as connection:
        connection.sendall(junk + b"\r\n\r\n")
        reply = connection.recv(100)
    assert re.match(rb"HTTP/1\.\d 4", reply)
    assert "xxxx" not in zoo.log
    assert "Traceback" not in zoo.log
    assert zoo.get("/healthz").status == 200


def test_a_half_sent_body_holds_nobody_up(zoo: Server) -> None:
    with socket.create_connection(("127.0.0.1", zoo.http_port), timeout=10) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        assert zoo.get("/healthz").status == 200
        assert b" 504 " in connection.recv(100)


def test_keep_alive(zoo: Server) -> None:
    pool = urllib3.HTTPConnectionPool("127.0.0.1", zoo.http_port, maxsize=1, retries=False)
    for _ in range(3):
        assert pool.request("GET", "/healthz", timeout=10).status == 200
    assert pool.num_connections == 1
    pool.close()
