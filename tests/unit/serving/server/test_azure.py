"""Azure's contract: its own client against a live server, and what other clients of it send."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import support.azure
from serval_serving.server.azure import ROUTE_HEADER, routed_name
from unit.serving.server.fake_engine import write_version
from unit.serving.server.grpc_calls import floats, predictor, refused, signatures
from unit.serving.server.processes import FAKE, Server, running, wait_until
from unit.serving.wire.official import stubs

LIMIT = 30.0
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def azure(port: int, *calls: dict[str, Any], **told: Any) -> list[Any]:
    """Let the client make calls of a server on this machine."""
    return support.azure.azure(*calls, address="127.0.0.1", port=port, **told)


def test_the_client_unmodified(zoo: Server, zoo_channel: grpc.Channel, tmp_path: Path) -> None:
    service = stubs().prediction_service.PredictionServiceStub(zoo_channel)
    signature = signatures(service)["serving_default"]
    tensor, output = signature.inputs["images"].name, signature.outputs["probabilities"].name
    image = tmp_path / "cat.jpg"
    image.write_bytes(b"12345678")
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(5_000_000))
    expected = [8.0, 4.0, 2.0]
    found = azure(
        zoo.grpc_port,
        {"score_file": {"path": str(image), "input_name": tensor, "outputs": output}},
        {"score_file": {"path": str(image), "input_name": tensor, "outputs": "probabilities"}},
        {"score_file": {"path": str(image), "outputs": "probabilities"}},
        {"score_file": {"path": str(large), "outputs": "classes"}},
        {"score_numpy_arrays": {"input_map": {"images": ["abcd", ""]}, "outputs": "classes"}},
        {"score_file": {"path": str(image), "input_name": "nope:0", "outputs": output}},
        {"score_numpy_arrays": {"input_map": {"images": [1.0]}, "outputs": "classes"}},
        service_name="resnet",
        access_token="any key",
    )
    assert found[:5] == [expected, expected, expected, 5_000_000, [4, 0]]
    # These are refused at once: the client tries nothing again that is INVALID_ARGUMENT.
    assert "StatusCode.INVALID_ARGUMENT" in found[5]
    assert "nope:0" in found[5]
    assert "StatusCode.INVALID_ARGUMENT" in found[6]
    assert "Type mismatch" in found[6]


def test_numbers_and_the_only_output(tmp_path: Path) -> None:
    """Floats in tensor_content, an output that is not named, and a server that is still loading."""
    base = tmp_path / "m"
    write_version(base, 1, load_seconds=2, factor=3)
    flags = ("--model_name=m", f"--model_base_path={base}")
    with running(Server(FAKE, tmp_path / "log", *flags)) as server:
        call = {"score_numpy_arrays": {"input_map": {"x:0": [1.0, 2.0]}, "outputs": "y:0"}}
        alias = {"score_numpy_arrays": {"input_map": {"x": [1.0, 2.0]}}}
        assert azure(server.grpc_port, call, alias) == [[3.0, 6.0], [3.0, 6.0]]


@contextmanager
def guarded(tmp_path: Path, keys: Path) -> Iterator[Server]:
    """A server that wants a key."""
    write_version(tmp_path / "m", 1, factor=3)
    flags = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", f"--auth_keys={keys}")
    with running(Server(FAKE, tmp_path / "log", *flags)) as server:
        yield server


Ask = Callable[..., Any]


@contextmanager
def asking(server: Server) -> Iterator[Ask]:
    """Predict with some metadata and some model spec."""
    with server.channel() as channel:
        stub = stubs().prediction_service.PredictionServiceStub(channel)

        def ask(*metadata: tuple[str, str], name: str | None = None) -> Any:
            return predictor(_WithMetadata(stub, metadata))({"x": floats(1)}, "", name)

        yield ask


class _WithMetadata:
    """A stub whose calls carry metadata."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def Predict(self, request: Any, timeout: float) -> Any:  # noqa: N802  the stub's name
        return self._stub.Predict(request, timeout=timeout, metadata=self._metadata)


def test_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    with guarded(tmp_path, keys) as server, asking(server.wait_ready()) as ask:
        for spelled in ("Bearer first", "bearer second", "BEARER  first ", "second"):
            assert list(ask(("authorization", spelled)).outputs["y"].float_val) == [3.0]
        wrong = (UNAUTHENTICATED, "The key is not one of this service's.")
        assert refused(lambda: ask(("authorization", "Bearer third"))) == wrong
        missing = (
            UNAUTHENTICATED,
            "This service wants a key: send it as 'authorization: Bearer <key>'.",
        )
        assert refused(ask) == missing
        assert refused(lambda: ask(("authorization", "Bearer "))) == missing
        reload = stubs().model_service.ModelServiceStub
        with server.channel() as channel:
            request = stubs().management.ReloadConfigRequest()
            assert (
                refused(lambda: reload(channel).HandleReloadConfigRequest(request, timeout=LIMIT)) == missing
            )
        body = json.dumps({"instances": [1.0]})
        assert server.post("/v1/models/m:predict", body).status == 401
        assert server.post("/score", body).status == 401
        reply = server.post("/v1/models/m:predict", body, Authorization="Bearer first")
        assert (reply.status, json.loads(reply.data)) == (200, {"predictions": [3.0]})
        # Probes and scrapers have no key.
        for path in ("/v1/models/m", "/v1/models/m/metadata", "/healthz", "/monitoring/prometheus/metrics"):
            assert server.get(path).status == 200
        keys.write_text("third\n")

        def rotated() -> bool:
            return server.post("/v1/models/m:predict", body, Authorization="Bearer third").status == 200

        wait_until("the new key is taken", rotated, LIMIT)
        assert refused(lambda: ask(("authorization", "Bearer first"))) == wrong
        call = {"score_numpy_arrays": {"input_map": {"x": [1.0]}}}
        assert azure(server.grpc_port, call, access_token="third") == [[3.0]]
        assert "third" not in server.log


def test_a_mounted_secret_has_a_file_for_each_key(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "..data").mkdir(parents=True)
    (secret / "primary").write_text("one")
    (secret / "secondary").write_text("two\n")
    with guarded(tmp_path, secret) as server, asking(server.wait_ready()) as ask:
        for key in ("one", "two"):
            assert ask(("authorization", f"Bearer {key}"))


@pytest.mark.parametrize("content", ["", "\n  \n", None])
def test_no_key_ends_the_start(tmp_path: Path, content: str | None) -> None:
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_text(content)
    with guarded(tmp_path, keys) as server:
        assert server.wait(60) == 255
        assert "--auth_keys" in server.log.splitlines()[-1]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("/api/v1/service/resnet", "resnet"),
        ("/api/v1/service/resnet/", "resnet"),
        ("/api/v1/service/", ""),
        ("resnet", "resnet"),
        ("/resnet", "resnet"),
        ("", ""),
    ],
)
def test_routes(value: str, name: str) -> None:
    assert routed_name([("user-agent", "x"), (ROUTE_HEADER, value)]) == name
    assert routed_name([]) == ""


def test_the_route_chooses_among_several_models(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    entries = []
    for name, factor in (("a", 2), ("b", 5)):
        write_version(tmp_path / name, 1, factor=factor)
        entries.append(
            f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
        )
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    several = Server(FAKE, tmp_path / "log", f"--model_config_file={config}")
    with running(several) as server, asking(server.wait_ready()) as ask:
        for name, y in (("a", 2.0), ("b", 5.0)):
            for route in (f"/api/v1/service/{name}", name):
                for spec in (None, ""):
                    reply = ask((ROUTE_HEADER, route), name=spec)
                    assert list(reply.outputs["y"].float_val) == [y]
                    assert reply.model_spec.name == name
        # What the message says goes before what the header says.
        assert list(ask((ROUTE_HEADER, "a"), name="b").outputs["y"].float_val) == [5.0]
        assert refused(lambda: ask((ROUTE_HEADER, "/api/v1/service/c"))) == (
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(c)",
        )
        assert refused(lambda: ask((ROUTE_HEADER, "/api/v1/service/"))) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "Missing ModelSpec",
        )
