from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from serval_serving import client
from serval_serving.client import HttpClient, ServingError
from serval_serving.client.calls import SILENCE_SECONDS
from serval_serving.models.savedmodel import TensorInfo
from support.ports import free_port
from unit.serving.client.servers import RestSite, rest_server
from unit.serving.fetch.clocks import Clock
from unit.serving.fetch.tls import Pki, Site, content, make_pki, serving

PREDICT = "/v1/models/digits:predict"


@pytest.fixture
def site() -> RestSite:
    return RestSite()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served(site: RestSite, clock: Clock) -> Iterator[HttpClient]:
    with (
        rest_server(site) as url,
        HttpClient(url, model="digits", key="secret", clock=clock, sleep=clock.sleep) as found,
    ):
        yield found


def test_score(served: HttpClient, site: RestSite) -> None:
    site.answer("/score", (200, [[0.25, 0.75]]))
    assert served.score(b"\x89PNG").tolist() == [[0.25, 0.75]]
    method, path, body, headers = site.requests[0]
    assert (method, path, body) == ("POST", "/score", b"\x89PNG")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Authorization"] == "Bearer secret"


def test_predict_one_output(served: HttpClient, site: RestSite) -> None:
    site.answer(PREDICT, (200, b'{"predictions": [[0.5, NaN], [Infinity, 1.0]]}'))
    got = served.predict([b"a", b"b"], signature="other")
    assert isinstance(got, np.ndarray)
    assert got.shape == (2, 2)
    assert math.isnan(got[0, 1])
    assert json.loads(site.requests[0][2]) == {
        "instances": [{"b64": "YQ=="}, {"b64": "Yg=="}],
        "signature_name": "other",
    }


def test_predict_several_outputs(served: HttpClient, site: RestSite) -> None:
    rows = [{"p": [0.5], "n_bytes": {"b64": "YQ=="}}, {"p": [0.25], "n_bytes": {"b64": "Yg=="}}]
    site.answer("/v1/models/my%20model/versions/3:predict", (200, {"predictions": rows}))
    got = served.predict(np.ones((2, 1)), model="my model", version=3)
    assert isinstance(got, dict)
    assert got["p"].tolist() == [[0.5], [0.25]]
    assert got["n_bytes"].tolist() == [b"a", b"b"]


def test_predict_strings(served: HttpClient, site: RestSite) -> None:
    site.answer(PREDICT, (200, {"predictions": [{"b64": "YQ=="}]}))
    got = served.predict([1])
    assert isinstance(got, np.ndarray)
    assert got.tolist() == [b"a"]


def test_metadata(served: HttpClient, site: RestSite) -> None:
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    signature = {
        "inputs": {"images": {"dtype": "DT_STRING", "tensor_shape": shape, "name": "images:0"}},
        "outputs": {
            "p": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [], "unknown_rank": True}, "name": "p:0"}
        },
        "method_name": "tensorflow/serving/predict",
    }
    reply = {
        "model_spec": {"name": "digits", "signature_name": "", "version": "3"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }
    site.answer("/v1/models/digits/metadata", (200, reply))
    metadata = served.metadata()
    assert (metadata.name, metadata.version) == ("digits", 3)
    assert metadata.signatures["serving_default"].inputs == {
        "images": TensorInfo("images:0", "DT_STRING", (-1,))
    }
    assert metadata.signatures["serving_default"].outputs == {"p": TensorInfo("p:0", "DT_FLOAT", None)}


def test_status(served: HttpClient, site: RestSite) -> None:
    entry = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    site.answer("/v1/models/digits/versions/3", (200, {"model_version_status": [entry]}))
    assert served.status(version=3) == [client.VersionStatus(3, "AVAILABLE", "OK", "")]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, client.InvalidRequestError, "INVALID_ARGUMENT"),
        (401, client.AccessDeniedError, "UNAUTHENTICATED"),
        (403, client.AccessDeniedError, "PERMISSION_DENIED"),
        (404, client.NotFoundError, "NOT_FOUND"),
        (405, client.InvalidRequestError, "UNIMPLEMENTED"),
        (429, client.OverloadedError, "RESOURCE_EXHAUSTED"),
        (500, client.ServingError, "INTERNAL"),
        (504, client.DeadlineExceededError, "DEADLINE_EXCEEDED"),
        (302, client.ServingError, "INTERNAL"),
    ],
)
def test_errors_are_typed_and_not_tried_again(
    served: HttpClient, site: RestSite, status: int, kind: type[ServingError], code: str
) -> None:
    site.answer("/score", (status, {"error": "words of the server"}))
    with pytest.raises(ServingError) as caught:
        served.score(b"x")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.text) == (code, "words of the server")
    assert len(site.requests) == 1


def test_plain_error_text(served: HttpClient, site: RestSite) -> None:
    site.answer("/score", (405, b"GET is not supported"))
    with pytest.raises(client.InvalidRequestError, match="GET is not supported"):
        served.score(b"x")
    site.answer("/score", (500, b""))
    with pytest.raises(ServingError, match="HTTP status 500"):
        served.score(b"x")


def test_503_is_tried_again_on_one_connection(served: HttpClient, site: RestSite, clock: Clock) -> None:
    site.answer("/score", (503, b"loading"), (503, b"loading"), (200, [1.0]))
    assert served.score(b"x").tolist() == [1.0]
    assert clock.slept == [0.1, 0.2]
    assert len(site.peers) == 1


def test_time_is_limited(served: HttpClient, site: RestSite, clock: Clock) -> None:
    site.answer("/score", (503, b"loading"))
    with pytest.raises(client.UnavailableError, match="loading"):
        served.score(b"x", timeout=9)
    assert sum(clock.slept) < 9
    assert max(clock.slept) == 2.0


def test_slow_server(site: RestSite) -> None:
    done = threading.Event()
    site.wait = lambda: done.wait(10)
    with rest_server(site) as url, HttpClient(url, timeout=0.1) as slow:
        with pytest.raises(client.DeadlineExceededError):
            slow.score(b"x")
        done.set()


def test_nobody_there(clock: Clock) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        HttpClient(url, clock=clock, sleep=clock.sleep) as absent,
        pytest.raises(client.UnavailableError, match="refused"),
    ):
        absent.score(b"x")
    assert len(clock.slept) > 3


@pytest.mark.parametrize("body", [b"", b"<html>", b"[[1, 2], [3]]", b'{"predictions": 1'])
def test_replies_that_cannot_be_read(served: HttpClient, site: RestSite, body: bytes) -> None:
    site.answer("/score", (200, body))
    with pytest.raises(ServingError, match="cannot be read"):
        served.score(b"x")


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"metadata": {}}', b'{"model_version_status": [{}]}'])
def test_metadata_that_cannot_be_read(served: HttpClient, site: RestSite, body: bytes) -> None:
    site.answer("/v1/models/digits/metadata", (200, body))
    site.answer("/v1/models/digits", (200, body))
    with pytest.raises(ServingError, match="cannot be read"):
        served.metadata()
    with pytest.raises(ServingError, match="cannot be read"):
        served.status()


def test_a_connection_does_not_wait_for_a_pod_that_is_gone(served: HttpClient, site: RestSite) -> None:
    site.answer("/score", (200, [[0.5]]))
    served.score(b"x")
    connection = served._pool.connection_from_url(served._base)._get_conn()
    assert connection.sock is not None, "the one that was used"
    limit = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert limit == SILENCE_SECONDS * 1000
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


def test_model_must_be_named(site: RestSite) -> None:
    with rest_server(site) as url, HttpClient(url) as nameless, pytest.raises(client.InvalidRequestError):
        nameless.predict([1])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


def test_tls(pki: Pki, clock: Clock) -> None:
    with serving(Site(), pki) as secure:
        secure.serve("/v1/models/digits", content(b'{"model_version_status": []}'))
        url = secure.uri("", host="127.0.0.1")
        with HttpClient(url, ca_file=pki.ca, model="digits") as trusted:
            assert trusted.status() == []
        with HttpClient(url, model="digits", clock=clock, sleep=clock.sleep) as other:
            with pytest.raises(client.UnavailableError, match="certificate"):
                other.status()
            assert not clock.slept, "the same certificate would be refused again"
