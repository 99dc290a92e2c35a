"""Azure's own client, unmodified, before a server as strict as TensorFlow Serving: a front makes them fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serval_serving.wire import rpc
from unit.serving.fetch.tls import make_pki
from unit.serving.proxy.recorder import OUTPUTS, TENSOR, Recorder
from unit.serving.server.processes import Server
from unit.serving.server.test_azure import azure
from unit.serving.server.test_tls import inline


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"12345678")
    return path


def test_names_of_tensors_and_no_model(recorder: Recorder, front: Server, image: Path) -> None:
    def score(name: str | None, output: str) -> dict[str, object]:
        given = {} if name is None else {"input_name": name}
        return {"score_file": {"path": str(image), "outputs": output, **given}}

    found = azure(
        front.grpc_port,
        score(TENSOR, OUTPUTS["probabilities"]),
        score(TENSOR, "probabilities"),
        score(None, "classes"),
        {"score_numpy_arrays": {"input_map": {TENSOR: ["abcd", ""]}, "outputs": OUTPUTS["classes"]}},
        score("nope:0", "classes"),
        service_name="resnet",
    )
    assert found[:4] == [4.0, 4.0, 8.0, [4.0, 0.0]]
    assert "StatusCode.INVALID_ARGUMENT" in found[4]
    assert "x-ms-aml-grpc-service-route" in recorder.last(rpc.PREDICT.path).metadata


def test_tls_and_a_key(
    recorder: Recorder,
    start: Callable[..., Server],
    tmp_path: Path,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "pki"
    folder.mkdir()
    pki = make_pki(folder)
    config, keys = tmp_path / "ssl.config", tmp_path / "keys"
    config.write_text(inline(pki))
    keys.write_text("secret\n")
    flags = (f"--ssl_config_file={config}", "--rest_api_tls", f"--auth_keys={keys}")
    front = start(f"--upstream={recorder.address}", *flags).wait_ready()
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(pki.ca))
    call = {"score_file": {"path": str(image), "input_name": TENSOR, "outputs": "classes"}}
    assert azure(front.grpc_port, call, access_token="secret", use_ssl=True) == [8.0]
    with pytest.raises(Exception, match="Connection"):
        front.get("/healthz")
