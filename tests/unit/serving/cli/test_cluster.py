from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serval_serving.cli import main
from serval_serving.cli.cluster import Cluster, Kube
from serval_serving.cli.errors import CliError
from serval_serving.cli.forward import Forward, port_forward
from support.ports import free_port
from unit.serving.client.servers import Model, RestSite, grpc_server, rest_server

Capture = pytest.CaptureFixture[str]
PREFIX = "/apis/serval.dev/v1alpha1/namespaces/vision/modeldeployments"


@pytest.fixture
def api() -> RestSite:
    return RestSite()


@pytest.fixture
def kubeconfig(api: RestSite, tmp_path: Path) -> Iterator[Path]:
    with rest_server(api) as url:
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [
                {"name": name, "context": {"cluster": "c", "user": "u", "namespace": name}}
                for name in ("vision", "other")
            ],
            "current-context": "vision",
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        yield path


def _kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """Put a program named kubectl on PATH, alone; it keeps its arguments in `arguments`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "kubectl"
    keep = f"import json, sys, time; json.dump(sys.argv[1:], open('{tmp_path}/arguments', 'w'))\n"
    program.write_text(f"#!{sys.executable}\n{keep}{body}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return tmp_path / "arguments"


def _serve(api: RestSite, host: str, port: int) -> None:
    api.answer(
        f"{PREFIX}/digits",
        (
            200,
            {
                "apiVersion": "serval.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": "digits", "namespace": "vision"},
                "spec": {"model": {"uri": "https://h/m.tgz", "name": "numbers"}},
            },
        ),
    )
    ports = [{"name": "grpc", "port": port}, {"name": "http", "port": port}]
    service = {"metadata": {"name": "digits"}, "spec": {"clusterIP": host, "ports": ports}}
    api.answer("/api/v1/namespaces/vision/services/digits", (200, service))


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "a.png").write_bytes(b"png")
    return str(tmp_path / "a.png")


def test_cluster_address_is_used_where_it_connects(
    api: RestSite, kubeconfig: Path, image: str, capsys: Capture
) -> None:
    model = Model()
    with grpc_server(model) as port:
        _serve(api, "127.0.0.1", port)
        assert main(["predict", "digits", image, "--kubeconfig", str(kubeconfig), "--top", "1"]) == 0
    assert "9.0000" in capsys.readouterr().out
    assert model.requests[0].model_spec.name == "numbers"


def test_else_a_port_is_forwarded(
    api: RestSite,
    kubeconfig: Path,
    image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    site = RestSite()
    site.answer("/score", (200, [[0.0, 1.0]]))
    closed = free_port()
    _serve(api, "127.0.0.1", closed)
    with rest_server(site) as url:
        port = url.rpartition(":")[2]
        body = f"print('Forwarding from 127.0.0.1:{port} -> 8501', flush=True); time.sleep(60)"
        arguments = _kubectl(tmp_path, monkeypatch, body)
        command = ["predict", "digits", image, "--http", "--kubeconfig", str(kubeconfig)]
        assert main([*command, "--context", "other", "-n", "vision"]) == 0
    assert "1.0000" in capsys.readouterr().out
    assert json.loads(arguments.read_text()) == [
        "port-forward",
        "--address=127.0.0.1",
        "--namespace=vision",
        f"--kubeconfig={kubeconfig}",
        "--context=other",
        "service/digits",
        f":{closed}",
    ]


def test_forward_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _kubectl(tmp_path, monkeypatch, "sys.exit('error: unable to forward port')")
    with pytest.raises(CliError, match="unable to forward port") as caught:
        port_forward(Kube(None, None, "vision"), "digits", 8500)
    assert caught.value.status == 3


def test_forward_that_hangs() -> None:
    started = time.monotonic()
    with pytest.raises(CliError, match="not ready in time"):
        Forward([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.2)
    assert time.monotonic() - started < 10


def test_no_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CliError, match="kubectl on PATH"):
        port_forward(Kube(None, None, "vision"), "digits", 8500)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (
            (404, {"kind": "Status", "code": 404, "message": "not found"}),
            4,
            "there is no ModelDeployment digits",
        ),
        ((403, {"kind": "Status", "code": 403, "message": "forbidden"}), 3, "forbidden"),
        ((500, b"oops"), 3, "500"),
    ],
)
def test_what_the_cluster_says(
    api: RestSite, kubeconfig: Path, capsys: Capture, answer: tuple[int, Any], status: int, words: str
) -> None:
    api.answer(f"{PREFIX}/digits", answer)
    assert main(["status", "digits", "--kubeconfig", str(kubeconfig)]) == status
    assert words in capsys.readouterr().err


def test_no_service_or_port(api: RestSite, kubeconfig: Path) -> None:
    cluster = Cluster.connect(kubeconfig, None, None)
    with (
        pytest.raises(CliError, match="no Service digits in namespace vision"),
        cluster.address("digits", "grpc"),
    ):
        pass
    _serve(api, "None", 1)
    with pytest.raises(CliError, match="no port other"), cluster.address("digits", "other"):
        pass


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_no_usable_kubeconfig(tmp_path: Path, capsys: Capture, text: str | None) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    assert main(["status", "digits", "--kubeconfig", str(path)]) == 3
    assert "kubeconfig" in capsys.readouterr().err


def test_cluster_that_is_gone(tmp_path: Path, kubeconfig: Path, capsys: Capture) -> None:
    content = yaml.safe_load(kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "gone").write_text(yaml.safe_dump(content))
    assert main(["status", "digits", "--kubeconfig", str(tmp_path / "gone")]) == 3
    assert "does not answer" in capsys.readouterr().err


def test_status(api: RestSite, kubeconfig: Path, capsys: Capture) -> None:
    ready = {"type": "Ready", "status": "False", "reason": "AcceleratorBusy", "message": "1 of 2 pods"}
    found = {
        "metadata": {"name": "digits", "namespace": "vision"},
        "spec": {},
        "status": {
            "modelSummary": "digits/3",
            "model": {"digest": "sha256:ab"},
            "replicasSummary": "1/2",
            "endpoints": {"grpc": "digits.vision:8500"},
            "conditions": [ready],
        },
    }
    api.answer(f"{PREFIX}/digits", (200, found))
    assert main(["status", "digits", "--kubeconfig", str(kubeconfig)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ModelDeployment vision/digits",
        "  model: digits/3",
        "  digest: sha256:ab",
        "  replicas: 1/2",
        "  grpc endpoint: digits.vision:8500",
        "",
        "CONDITION   STATUS   REASON            MESSAGE",
        "Ready       False    AcceleratorBusy   1 of 2 pods",
    ]
    assert main(["status", "digits", "--kubeconfig", str(kubeconfig), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replicasSummary"] == "1/2"


def test_status_of_something_new(api: RestSite, kubeconfig: Path, capsys: Capture) -> None:
    api.answer(f"{PREFIX}/digits", (200, {"metadata": {"name": "digits", "namespace": "vision"}, "spec": {}}))
    assert main(["status", "digits", "--kubeconfig", str(kubeconfig)]) == 0
    assert "no conditions yet" in capsys.readouterr().out


def test_names_need_the_extra(monkeypatch: pytest.MonkeyPatch, image: str, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "serval_serving.cli.cluster", None)
    monkeypatch.delattr("serval_serving.cli.cluster", raising=False)
    assert main(["predict", "digits", image]) == 2
    assert "serval[cli]" in capsys.readouterr().err
