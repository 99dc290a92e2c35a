"""The server with a device: programming, health, locks, and what it says of an emulated one."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_contract import devices
from serval_serving.accel.artifact import CONVERSION_FILE
from serval_serving.accel.preprocess import preprocess
from serval_serving.wire.tracing import DEVICE_ENGINE
from unit.serving.engines.artifacts import (
    MADE,
    PHOTOS,
    PREPROCESSING,
    SOFTMAX,
    offline,
    photo,
    write_artifact,
)
from unit.serving.engines.onnx_models import half_plus_two, write
from unit.serving.server.grpc_calls import predictor, refused
from unit.serving.server.processes import REAL, Server, running, wait_until
from unit.serving.wire.official import stubs

LIMIT = 30.0
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
METRICS = "/monitoring/prometheus/metrics"
FOREVER = 3600.0


def served(base: Path, log: Path, *flags: str, seconds: float = 0, **options: Any) -> Server:
    """A server of the artifacts in a base path, with the emulator."""
    told = json.dumps({"programming_seconds": seconds, **options})
    own = (
        "--model_name=net",
        f"--model_base_path={base}",
        devices.DEVICE_ENGINE(devices.EMULATOR),
        devices.DEVICE_OPTIONS(told),
        "--file_system_poll_wait_seconds=1",
    )
    return Server(REAL, log, *own, *flags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(served(folder.parent, tmp_path_factory.mktemp("log") / "log")) as one:
        one.wait_ready()
        wait_until("the device is programmed", lambda: ready(one))
        yield one


def ready(server: Server) -> bool:
    """Whether the readiness probe succeeds."""
    return server.get("/v1/models/net/metadata").status == 200


def ask(server: Server, data: bytes, **inputs: str) -> Any:
    with server.channel() as channel:
        call = predictor(stubs().prediction_service.PredictionServiceStub(channel))
        array = np.array([data], dtype=object)
        return call(dict.fromkeys(inputs.values() or ("images",), array), "", None)


def health(server: Server) -> int:
    with server.channel() as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        status: int = check(health_pb2.HealthCheckRequest(), timeout=LIMIT).status
        return status


def gauges(server: Server) -> dict[str, float]:
    page = server.get(METRICS).data.decode()
    lines = [line for line in page.splitlines() if line.startswith(("serval_device_", "serval_accelerator"))]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


LABELS = 'model_name="net",version="1",engine="emulator",device="emulated",emulated="true"'


def test_served_outputs_are_those_of_the_files_and_not_of_the_float_model(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    expected = offline(folder, preprocess([photo(3)], PREPROCESSING))
    by_alias = ask(server, photo(3)).outputs
    assert set(by_alias) == {"output_alias", "features"}
    assert by_alias["output_alias"].float_val == expected[SOFTMAX.name].ravel().tolist()
    assert by_alias["features"].float_val == expected[MADE.name].ravel().tolist()
    exact = offline(write_artifact(tmp_path, quantized=False), preprocess([photo(3)], PREPROCESSING))
    assert by_alias["features"].float_val != exact[MADE.name].ravel().tolist()
    by_tensor = ask(server, photo(3), name=PHOTOS.name).outputs
    assert set(by_tensor) == {"output_alias", "features", SOFTMAX.name, MADE.name}
    assert by_tensor[SOFTMAX.name].float_val == by_alias["output_alias"].float_val


def test_rest_and_scoring(server: Server, folder: Path) -> None:
    expected = offline(folder, preprocess([photo(3)], PREPROCESSING))[SOFTMAX.name].tolist()
    reply = server.post("/score", photo(3))
    assert np.allclose(json.loads(reply.data), expected, rtol=1e-6)
    assert reply.headers[DEVICE_ENGINE] == "emulator (emulated)"
    assert server.post("/score", b"no photo").status == 400


def test_everything_says_that_the_device_is_emulated(server: Server) -> None:
    ask(server, photo())
    told = {"engine": "emulator", "computesOn": "emulated", "emulated": True}
    reply = server.get("/v1/models/net/metadata")
    assert json.loads(reply.data)["metadata"]["device"] == told
    assert reply.headers[DEVICE_ENGINE] == "emulator (emulated)"
    with server.channel() as channel:
        service = stubs().prediction_service.PredictionServiceStub(channel)
        request = stubs().metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "net"
        response, call = service.GetModelMetadata.with_call(request, timeout=LIMIT)
        described = Struct()
        assert response.metadata["device"].Unpack(described)
        assert dict(described) == told
        assert dict(call.trailing_metadata())[DEVICE_ENGINE] == "emulator (emulated)"
    assert gauges(server) == {
        'serval_accelerator_in_use{model_name="net",version="1",device="emulated"}': 0,
        f"serval_device_programmed{{{LABELS}}}": 1,
        f"serval_device_healthy{{{LABELS}}}": 1,
    }
    page = server.get(METRICS).data.decode()
    assert 'runtime_latency_count{model_name="net",API="Predict",runtime="accelerated-emulator"}' in page
    assert "devices=emulator (emulated)" in server.log
    # Predictions are answered a moment before the server's start is over.
    wait_until("SERVING", lambda: health(server) == health_pb2.HealthCheckResponse.SERVING)


def test_while_the_device_is_programmed(folder: Path, tmp_path: Path) -> None:
    with running(served(folder.parent, tmp_path / "log", seconds=FOREVER)) as one:
        one.wait_ready()
        words = (UNAVAILABLE, "programming the device: 0 %")
        assert refused(lambda: ask(one, photo())) == words
        reply = one.get("/v1/models/net/metadata")
        assert (reply.status, json.loads(reply.data)) == (503, {"error": words[1]})
        state = json.loads(one.get("/v1/models/net").data)["model_version_status"]
        assert state == [
            {
                "version": "1",
                "state": "LOADING",
                "status": {"error_code": "UNAVAILABLE", "error_message": words[1]},
            }
        ]
        assert one.get("/healthz").status == 200
        assert health(one) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert gauges(one) == {
            f"serval_device_programmed{{{LABELS}}}": 0,
            f"serval_device_healthy{{{LABELS}}}": 1,
        }
        one.process.send_signal(signal.SIGTERM)
        assert one.wait(LIMIT) == 0


def test_an_unhealthy_device_is_no_ready_one(folder: Path, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    with running(served(folder.parent, tmp_path / "log", health_file=str(fault))) as one:
        one.wait_ready()
        wait_until("the device is programmed", lambda: ready(one))
        fault.write_text("bus error")
        wait_until("the fault is noticed", lambda: not ready(one))
        words = "the device is unhealthy: bus error"
        assert refused(lambda: ask(one, photo())) == (UNAVAILABLE, words)
        assert json.loads(one.get("/v1/models/net/metadata").data) == {"error": words}
        serving = health_pb2.HealthCheckResponse
        wait_until("health checks say it", lambda: health(one) == serving.NOT_SERVING)
        assert gauges(one)[f"serval_device_healthy{{{LABELS}}}"] == 0
        assert one.get("/healthz").status == 200
        fault.unlink()
        wait_until("the device is well again", lambda: ready(one))
        wait_until("health checks say it", lambda: health(one) == serving.SERVING)
        assert ask(one, photo()).outputs["output_alias"].float_val


def test_a_new_version_takes_the_device(tmp_path: Path) -> None:
    base = tmp_path / "base"
    first = write_artifact(base)
    with running(served(base, tmp_path / "log")) as one:
        one.wait_ready()
        wait_until("the device is programmed", lambda: ready(one))
        bad = write_artifact(tmp_path / "made", 3)
        (bad / CONVERSION_FILE).write_text("{}")
        bad.rename(base / "3")

        def version() -> int:
            return int(json.loads(one.get("/v1/models/net/metadata").data)["model_spec"]["version"])

        wait_until("version 3 was tried", lambda: "conversion.json has format" in one.log)
        # The damaged version 3 is the newest, and took nothing off the device.
        assert version() == 1
        made = ask(one, photo()).outputs["features"].float_val
        x = preprocess([photo()], PREPROCESSING)
        assert made == offline(first, x)[MADE.name].ravel().tolist()
        second = write_artifact(base, 2, scale=3.0)
        (base / "3").rename(bad)
        wait_until("version 2 has the device", lambda: ready(one) and version() == 2)
        made = ask(one, photo()).outputs["features"].float_val
        assert made == offline(second, x)[MADE.name].ravel().tolist()


def test_a_second_pod_with_the_same_unit_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a device plugin gives one card to two pods."""
    monkeypatch.setenv(devices.LOCK_DIR_VARIABLE, str(tmp_path))
    monkeypatch.setenv(devices.UNITS_VARIABLE, "fpga-0")
    monkeypatch.setenv("POD_NAME", "net-a")
    with running(served(folder.parent, tmp_path / "first.log")) as first:
        first.wait_ready()
        monkeypatch.setenv("POD_NAME", "net-b")
        with running(served(folder.parent, tmp_path / "second.log")) as second:
            assert second.wait(LIMIT) == 255
            assert "DeviceHeld: unit fpga-0 is held by net-a" in second.log.splitlines()[-1]
            assert "Failed to start server" in second.log.splitlines()[-1]
        # The kernel frees the lock of a process that is killed.
        first.process.kill()
        first.wait()
        with running(served(folder.parent, tmp_path / "third.log")) as third:
            third.wait_ready()
            assert (tmp_path / "unit-fpga-0.lock").read_text() == "net-b"


def nothing(base: Path) -> None:
    (base / "1").mkdir(parents=True)


def another_model(base: Path) -> None:
    write(base, 1, half_plus_two())


@pytest.mark.parametrize(
    ("make", "flags", "words"),
    [
        (nothing, (), "ArtifactEmpty: {base}/1 is empty"),
        (another_model, (), "ArtifactInvalid: {base}/1: the artifact has no conversion.json"),
        (write_artifact, ("--device_engine=",), "name the engine of the device by --device_engine"),
        (write_artifact, ("--device_resource=amd.com/u250",), "EmulationRefused: amd.com/u250 is a resource"),
        (
            write_artifact,
            ("--device_engine=vart", "--device_options="),
            "DeviceUnusable: Vitis AI's run time",
        ),
    ],
)
def test_the_last_line_names_what_is_wrong(
    tmp_path: Path, make: Callable[[Path], object], flags: tuple[str, ...], words: str
) -> None:
    """The operator finds it in the termination message."""
    base = tmp_path / "base"
    make(base)
    with running(served(base, tmp_path / "log", *flags)) as one:
        assert one.wait(LIMIT) == 255
        assert words.format(base=base) in one.log.splitlines()[-1]


def test_emulation_of_a_real_card_can_be_allowed(folder: Path, tmp_path: Path) -> None:
    flags = (devices.DEVICE_RESOURCE("amd.com/u250"), devices.DEVICE_ALLOW_EMULATION(True))
    with running(served(folder.parent, tmp_path / "log", *flags)) as one:
        wait_until("the device is programmed", lambda: one.listens() and ready(one))


def test_bytes_that_are_no_photo(server: Server) -> None:
    code, words = refused(lambda: ask(server, b"GIF89a"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words.startswith("input Placeholder:0, photo 0: ")
    with io.BytesIO() as large:
        large.write(photo())
        large.write(os.urandom(5_000_000))
        assert ask(server, large.getvalue()).outputs["output_alias"].float_val
