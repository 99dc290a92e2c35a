"""TLS on both ports of a live server, with and without certificates of clients, and new certificates."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import urllib3

from serval_serving.server.flags import FlagError
from serval_serving.server.tls import Tls
from unit.serving.fetch.tls import Pki, make_pki
from unit.serving.server.fake_engine import write_version
from unit.serving.server.grpc_calls import floats, predictor
from unit.serving.server.processes import FAKE, Server, running, wait_until
from unit.serving.server.test_azure import azure
from unit.serving.wire.official import stubs

LIMIT = 30.0


def quoted(path: Path) -> str:
    return json.dumps(path.read_text())


def inline(pki: Pki, more: str = "") -> str:
    """A configuration as TensorFlow Serving takes it."""
    return f"server_key: {quoted(pki.key)} server_cert: {quoted(pki.certificate)} {more}"


def by_path(pki: Pki) -> str:
    return f'server_key: "{pki.key}" server_cert: "{pki.certificate}"'


def serve(tmp_path: Path, config: str, *flags: str) -> Server:
    write_version(tmp_path / "m", 1, factor=3)
    file = tmp_path / "ssl.config"
    file.write_text(config)
    own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", f"--ssl_config_file={file}")
    return Server(FAKE, tmp_path / "log", *own, *flags)


def channel(
    server: Server, ca: Path, key: Path | None = None, certificate: Path | None = None
) -> grpc.Channel:
    pair = {
        "private_key": key.read_bytes() if key else None,
        "certificate_chain": certificate.read_bytes() if certificate else None,
    }
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), **pair)
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials, options=options)


def y(found: grpc.Channel) -> list[float]:
    with found:
        predict = predictor(stubs().prediction_service.PredictionServiceStub(found))
        return list(predict({"x": floats(1)}, "", "m", seconds=5).outputs["y"].float_val)


def works(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except (grpc.RpcError, urllib3.exceptions.HTTPError):
        return False
    return True


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    folder = tmp_path / "pki"
    folder.mkdir()
    return make_pki(folder)


def test_grpc_is_encrypted_and_http_is_as_before(tmp_path: Path, pki: Pki) -> None:
    with running(serve(tmp_path, inline(pki))) as server:
        server.wait_ready()
        assert y(channel(server, pki.ca)) == [3.0]
        assert not works(lambda: y(server.channel())), "clear text is not served"
        assert server.get("/v1/models/m").status == 200


def test_azures_client(tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(pki.ca))
    with running(serve(tmp_path, inline(pki))) as server:
        server.wait_ready()
        call = {"score_numpy_arrays": {"input_map": {"x": [1.0]}}}
        assert azure(server.grpc_port, call, use_ssl=True) == [[3.0]]


def test_clients_are_verified(tmp_path: Path, pki: Pki) -> None:
    config = inline(pki, f"custom_ca: {quoted(pki.ca)} client_verify: true")
    with running(serve(tmp_path, config, "--rest_api_tls")) as server:
        server.wait_ready()
        assert y(channel(server, pki.ca, pki.key, pki.certificate)) == [3.0]
        assert not works(lambda: y(channel(server, pki.ca)))
        strange = tmp_path / "strange"
        strange.mkdir()
        other = make_pki(strange)
        assert not works(lambda: y(channel(server, pki.ca, other.key, other.certificate)))
        assert get(server, pki.ca, pki) == 200
        assert not works(lambda: get(server, pki.ca))


def get(server: Server, ca: Path, client: Pki | None = None) -> int:
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=5) as http:
        reply = http.request("GET", f"https://127.0.0.1:{server.http_port}/v1/models/m")
        return reply.status


@pytest.mark.parametrize("first", ["gRPC", "HTTP"])
def test_new_certificates_are_taken_and_bad_ones_are_not(tmp_path: Path, pki: Pki, first: str) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    with running(serve(tmp_path, by_path(pki), "--rest_api_tls")) as server:
        server.wait_ready()
        old_ca = tmp_path / "old-ca.pem"
        old_ca.write_bytes(pki.ca.read_bytes())
        assert y(channel(server, old_ca)) == [3.0]
        assert get(server, old_ca) == 200
        pki.certificate.write_text("no certificate")
        assert y(channel(server, old_ca)) == [3.0], "what cannot be used is not"
        new = make_pki(folder)
        pki.key.write_bytes(new.key.read_bytes())
        pki.certificate.write_bytes(new.certificate.read_bytes())
        asks: dict[str, Callable[[], object]] = {
            "gRPC": lambda: y(channel(server, new.ca)),
            "HTTP": lambda: get(server, new.ca),
        }
        for port in sorted(asks, key=lambda port: port != first):
            ask = asks[port]
            wait_until(f"{port} has the new one", lambda ask=ask: works(ask), LIMIT)  # type: ignore[misc]
        assert not works(lambda: y(channel(server, old_ca)))
        assert not works(lambda: get(server, old_ca))
        assert "new certificates cannot be used, the old ones stay" in server.log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server_key {", "Error parsing text-format tensorflow.serving.SSLConfig: "),
        ('server_key: "x"', "must have server_key and server_cert"),
        ('server_key: "x" server_cert: "y" client_verify: true', "must have custom_ca to verify clients"),
        ('server_key: "x" server_cert: "y"', "the key or the certificate cannot be used"),
        ('server_key: "/absent" server_cert: "y"', "--ssl_config_file cannot be read"),
    ],
)
def test_bad_configurations(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "ssl.config"
    file.write_text(text)
    with pytest.raises(FlagError, match=words):
        Tls(file)


def test_a_key_of_another_certificate(tmp_path: Path, pki: Pki) -> None:
    (tmp_path / "other").mkdir()
    other = make_pki(tmp_path / "other")
    file = tmp_path / "ssl.config"
    file.write_text(f'server_key: "{other.key}" server_cert: "{pki.certificate}"')
    with pytest.raises(FlagError, match="the key or the certificate cannot be used"):
        Tls(file)


def test_a_bad_file_ends_the_start(tmp_path: Path) -> None:
    with running(serve(tmp_path, "")) as server:
        assert server.wait(60) == 255
        assert "must have server_key and server_cert" in server.log.splitlines()[-1]
