from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from serval_serving import client
from serval_serving.client import GrpcClient, ServingError, Tls
from serval_serving.client.calls import grpc_target
from serval_serving.models.savedmodel import TensorInfo
from support.ports import free_port
from support.wait import until
from unit.serving.client.servers import Model, grpc_server
from unit.serving.fetch.tls import HOST, make_pki


@pytest.fixture
def served(model: Model) -> Iterator[GrpcClient]:
    with grpc_server(model) as port, GrpcClient(f"127.0.0.1:{port}", key="secret") as found:
        yield found


def test_predict(served: GrpcClient, model: Model) -> None:
    outputs = served.predict({"images": [b"one\0", b"three"]}, "digits", 3, "serving_default", ["classes"])
    assert list(outputs) == ["classes", "echo", "probabilities"]
    assert outputs["classes"].tolist() == [4, 5]
    assert outputs["classes"].dtype == np.int64
    assert outputs["probabilities"].shape == (2, 10)
    assert outputs["echo"].tolist() == [b"one\0", b"three"]
    asked = model.requests[0]
    assert (asked.model_spec.name, asked.model_spec.version.value) == ("digits", 3)
    assert asked.model_spec.signature_name == "serving_default"
    assert list(asked.output_filter) == ["classes"]
    assert model.headers[0]["authorization"] == "Bearer secret"


def test_version_zero_is_sent_and_none_is_not(served: GrpcClient, model: Model) -> None:
    served.predict({"images": b"x"}, version=0)
    served.predict({"images": b"x"})
    assert [request.model_spec.HasField("version") for request in model.requests] == [True, False]


def test_messages_have_no_limit(served: GrpcClient) -> None:
    large = bytes(9 << 20)
    assert served.predict({"images": large})["echo"].tolist() == [large]


def test_metadata_and_status(served: GrpcClient) -> None:
    metadata = served.metadata()
    assert (metadata.name, metadata.version) == ("digits", 3)
    signature = metadata.signatures["serving_default"]
    assert signature.inputs == {"images": TensorInfo("images:0", "DT_STRING", (-1,))}
    assert signature.outputs == {"probabilities": TensorInfo("p:0", "DT_FLOAT", None)}
    assert served.status() == [
        client.VersionStatus(3, "AVAILABLE", "OK", ""),
        client.VersionStatus(2, "END", "INVALID_ARGUMENT", "broken"),
    ]
    with pytest.raises(client.NotFoundError, match="Could not find any versions"):
        served.status("absent")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, client.InvalidRequestError),
        (grpc.StatusCode.FAILED_PRECONDITION, client.InvalidRequestError),
        (grpc.StatusCode.NOT_FOUND, client.NotFoundError),
        (grpc.StatusCode.UNAUTHENTICATED, client.AccessDeniedError),
        (grpc.StatusCode.PERMISSION_DENIED, client.AccessDeniedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, client.OverloadedError),
        (grpc.StatusCode.INTERNAL, client.ServingError),
    ],
)
def test_errors_are_typed_and_not_tried_again(
    served: GrpcClient, model: Model, code: grpc.StatusCode, kind: type[ServingError]
) -> None:
    model.refusals = [(code, "words of the server")]
    with pytest.raises(ServingError) as caught:
        served.predict({"images": b"x"})
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.text) == (code.name, "words of the server")
    assert len(model.requests) == 1


def test_unavailable_is_tried_again(served: GrpcClient, model: Model) -> None:
    model.refusals = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 2
    large = bytes(1 << 20)
    assert served.predict({"images": large})["classes"].tolist() == [1 << 20]
    assert len(model.requests) == 3


def test_trying_again_ends(served: GrpcClient, model: Model) -> None:
    model.refusals = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 9
    with pytest.raises(client.UnavailableError, match="draining"):
        served.predict({"images": b"x"})
    assert len(model.requests) == 5


def test_time_is_limited(served: GrpcClient, model: Model) -> None:
    model.refusals = [(grpc.StatusCode.UNAVAILABLE, "draining")] * 9
    with pytest.raises(client.DeadlineExceededError):
        served.predict({"images": b"x"}, timeout=0.05)


def test_nobody_there() -> None:
    port = free_port()
    with GrpcClient(f"127.0.0.1:{port}", timeout=5) as absent, pytest.raises(client.UnavailableError):
        absent.predict({"images": b"x"})


def test_server_that_comes_late_is_found(model: Model) -> None:
    port = free_port()
    started = threading.Event()
    with ExitStack() as stack:

        def start() -> None:
            stack.enter_context(grpc_server(model, f"127.0.0.1:{port}"))
            started.set()

        timer = threading.Timer(0.15, start)
        timer.start()
        late = stack.enter_context(GrpcClient(f"127.0.0.1:{port}", timeout=20))
        assert late.predict({"images": b"xyz"})["classes"].tolist() == [3]
        assert started.wait(10)


def test_calls_go_round() -> None:
    models = [Model(), Model()]
    with ExitStack() as stack:
        ports = [stack.enter_context(grpc_server(model)) for model in models]
        address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        balanced = stack.enter_context(GrpcClient(address))
        for _ in range(200):
            balanced.predict({"images": b"x"})
            if all(model.requests for model in models):
                break
        else:
            pytest.fail("one server got everything")


def test_a_server_that_goes_fails_no_call_and_is_found_when_it_comes_back() -> None:
    going, staying = Model(), Model()
    with ExitStack() as stack:
        other = stack.enter_context(grpc_server(staying))
        with grpc_server(going) as port:
            balanced = stack.enter_context(GrpcClient(f"ipv4:127.0.0.1:{port},127.0.0.1:{other}", timeout=20))
            until("both got calls", lambda: balanced.predict({"images": b"x"}) and _all(going, staying))
        for _ in range(50):
            balanced.predict({"images": b"x"})
        gone = len(going.requests)
        stack.enter_context(grpc_server(going, f"127.0.0.1:{port}"))
        until("it got calls again", lambda: balanced.predict({"images": b"x"}) and len(going.requests) > gone)


def _all(*models: Model) -> bool:
    return all(model.requests for model in models)


def test_tls(model: Model, tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    credentials = grpc.ssl_server_credentials([(pki.key.read_bytes(), pki.certificate.read_bytes())])
    with grpc_server(model, credentials=credentials) as port:
        with GrpcClient(f"127.0.0.1:{port}", tls=Tls(pki.ca, server_name=HOST)) as trusted:
            assert trusted.predict({"images": b"x"})["classes"].tolist() == [1]
        with GrpcClient(f"127.0.0.1:{port}", tls=Tls(), timeout=3) as other, pytest.raises(ServingError):
            other.predict({"images": b"x"})


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("digits-headless.vision", "dns:///digits-headless.vision:8500"),
        ("digits.vision:9000", "dns:///digits.vision:9000"),
        ("[::1]", "dns:///[::1]:8500"),
        ("[::1]:9000", "dns:///[::1]:9000"),
        ("dns:///a:1", "dns:///a:1"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("ipv4:127.0.0.1:1", "ipv4:127.0.0.1:1"),
    ],
)
def test_addresses(address: str, target: str) -> None:
    assert grpc_target(address) == target


def test_inputs_that_cannot_be_sent(served: GrpcClient) -> None:
    with pytest.raises(ValueError, match="datetime64"):
        served.predict({"images": np.zeros(1, "datetime64[s]")})


def test_client_is_light() -> None:
    code = (
        "import sys, serval_serving.client;"
        "print(sorted(set(sys.modules) & {'tensorflow', 'aiohttp', 'pykube', 'kopf', 'requests'}),"
        "[m for m in sys.modules if m.split('.')[:2] in"
        " (['serval_serving', 'server'], ['serval_serving', 'engines'], ['serval_serving', 'cli'])])"
    )
    serving = str(Path(__file__).parents[4] / "serving")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([serving, *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[] []"
