"""Azure's clients against an artifact: its Python client on its own ports, and the bytes of the others."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.accel.artifact import Host
from serval_serving.accel.preprocess import preprocess
from unit.serving.engines.artifacts import (
    CLASSES,
    MADE,
    PIXELS,
    PREPROCESSING,
    SIDE,
    SOFTMAX,
    offline,
    photo,
    write_artifact,
)
from unit.serving.server.grpc_calls import refused
from unit.serving.server.processes import REAL, Server, running, wait_until
from unit.serving.wire.official import stubs

PROGRAM = Path(__file__).with_name("azure_namespace.py")
PREDICT = "/tensorflow.serving.PredictionService/Predict"
ROUTE = ("x-ms-aml-grpc-service-route", "/api/v1/service/net")
SECONDS = 240
LIMIT = 30.0


def in_a_namespace() -> list[str]:
    """How a program gets an empty network namespace in which it may listen on any port."""
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


def test_the_client_and_client_from_service_unmodified(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "base")
    image = tmp_path / "cat.png"
    image.write_bytes(photo(11))
    done = subprocess.run(
        [*in_a_namespace(), sys.executable, str(PROGRAM), str(folder.parent), str(tmp_path), str(image)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    expected = offline(folder, preprocess([photo(11)], PREPROCESSING))[SOFTMAX.name].tolist()
    # The client drops the dimension of the batch.
    assert found == dict.fromkeys(("service", "edge"), expected + expected)


# --- bytes -------------------------------------------------------------------------------------------------


def field(number: int, data: bytes) -> bytes:
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes((number & 127 | 128,))
        number >>= 7
    return data + bytes((number,))


def shape(*sizes: int) -> bytes:
    """Field 2 of a TensorProto: dimensions without names."""
    return field(2, b"".join(field(2, b"\x08" + varint(size)) for size in sizes))


def request(name: str, tensor: bytes) -> bytes:
    """A PredictRequest as the C# clients write it: a model spec that is there and empty, and one input."""
    entry = field(1, name.encode()) + field(2, tensor)
    return field(1, b"") + field(2, entry)


def of_photo(name: str, data: bytes) -> bytes:
    """DT_STRING, shape [1], one string_val."""
    return request(name, b"\x08\x07" + shape(1) + field(8, data))


def of_floats(name: str, array: np.ndarray) -> bytes:
    """DT_FLOAT, its shape, and packed float_val."""
    packed = struct.pack(f"<{array.size}f", *array.ravel().tolist())
    return request(name, b"\x08\x01" + shape(*array.shape) + field(5, packed))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for photos, and beside it one for prepared photos."""
    folder = tmp_path_factory.mktemp("net")
    write_artifact(folder / "photos")
    write_artifact(folder / "numbers", host=Host("None"))
    (folder / "keys").write_text("first\nsecond\n")
    return folder


@pytest.fixture(scope="module", params=["photos", "numbers"])
def server(base: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    flags = (
        "--model_name=net",
        f"--model_base_path={base / request.param}",
        f"--auth_keys={base / 'keys'}",
        "--device_engine=emulator",
        '--device_options={"programming_seconds": 0}',
    )
    with running(Server(REAL, base / f"{request.param}.log", *flags)) as one:
        one.wait_ready()
        wait_until("the device is programmed", lambda: one.get("/v1/models/net/metadata").status == 200)
        yield request.param, one


def send(server: Server, data: bytes, *metadata: tuple[str, str]) -> Any:
    """Send bytes and read the reply."""
    with server.channel() as channel:
        reply: bytes = channel.unary_unary(PREDICT)(data, metadata=metadata, timeout=LIMIT)
    return stubs().predict.PredictResponse.FromString(reply)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param((("authorization", "bearer second"), ROUTE), id="Azure-Samples"),
        pytest.param((("authorization", "second"),), id="aml-real-time-ai"),
    ],
)
def test_the_bytes_of_the_other_clients(
    server: tuple[str, Server], base: Path, metadata: tuple[tuple[str, str], ...]
) -> None:
    """They read `output_alias` from float_val alone, want rank 2, and may name the input by its tensor."""
    kind, one = server
    x = preprocess([photo(5)], PREPROCESSING)
    expected = offline(base / kind / "1", x)
    names = {"photos": ("images", "Placeholder:0"), "numbers": ("images", PIXELS.name)}[kind]
    for name in names:
        data = of_photo(name, photo(5)) if kind == "photos" else of_floats(name, x)
        assert data.startswith(b"\x0a\x00\x12"), "an empty model spec, then the input"
        reply = send(one, data, *metadata)
        found = reply.outputs["output_alias"]
        assert (found.dtype, found.tensor_content) == (1, b"")
        assert [dim.size for dim in found.tensor_shape.dim] == [1, CLASSES]
        assert list(found.float_val) == expected[SOFTMAX.name].ravel().tolist()
        tensors = {SOFTMAX.name, MADE.name} if name != "images" else set()
        assert set(reply.outputs) == {"output_alias", "features", *tensors}


def test_what_they_are_told(server: tuple[str, Server]) -> None:
    """INVALID_ARGUMENT ends a client at once; anything else is tried again."""
    kind, one = server
    key = ("authorization", "bearer first")
    good = of_photo("images", photo())
    assert refused(lambda: send(one, good, ("authorization", "bearer third")))[0] is (
        grpc.StatusCode.UNAUTHENTICATED
    )
    assert refused(lambda: send(one, of_photo("nope:0", photo()), key))[0] is grpc.StatusCode.INVALID_ARGUMENT
    small = of_floats("images", np.zeros((1, SIDE, SIDE + 1, 3), np.float32))
    code, words = refused(lambda: send(one, small, key))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    told = {"photos": "Type mismatch", "numbers": "input images has shape [1, 8, 9, 3]"}[kind]
    assert words.startswith(told)
