"""A server's image with a model on top, run by bare containerd, as on a machine without Kubernetes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from examples.demo.model import TrainedModel
from grpc_health.v1 import health_pb2, health_pb2_grpc

from e2e.accelerated import CALIBRATED
from serval_contract.accel_flags import CALIBRATION, CONVERT_PROGRAM, OUT, SAVED_MODEL
from serval_contract.ports import PORT_EDGE
from serval_lab import Lab
from serval_lab.images import Images
from serval_lab.node_config import CONTAINERD_SOCKET
from serval_lab.services import hosts_folder
from serval_serving.cli import main
from support.azure import azure
from support.wait import until

NODE = "cpu-0"
NAMESPACE = "edge"
"""Of containerd. The kubelet's containers are in another one, so it takes no notice."""
MODEL = "digits"
SCORED = 64
ACCURACY = 0.95
COMMAND_LIMIT = 120.0
CONVERT_LIMIT = 240.0
READY_LIMIT = 60.0
ANSWER_LIMIT = 2.0

pytestmark = pytest.mark.timeout(600)


class Containerd:
    """The containerd of a node, by its own client inside the node's namespaces."""

    def __init__(self, lab: Lab) -> None:
        node = lab.node(NODE)
        path = lab.environment()["PATH"]
        programs = [shutil.which(name, path=path) for name in ("ctr", "runc")]
        assert all(programs)
        ctr, self._runc = (str(program) for program in programs)
        self._hosts = hosts_folder(lab.context)
        # The first process made the node's namespace of processes, and is outside of it.
        inside = f"--pid=/proc/{node.pid}/ns/pid_for_children"
        self._enter = ["nsenter", f"--target={node.pid}", "--mount", "--net", inside, ctr]
        self._enter += [f"--address={CONTAINERD_SOCKET}", f"--namespace={NAMESPACE}"]

    def ctr(self, *arguments: str) -> None:
        """Run a command to its end."""
        command = [*self._enter, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def running(self, image: str) -> Iterator[None]:
        """Pull an image and run it, with the image's own command, as long as the block runs."""
        self.ctr("images", "pull", f"--hosts-dir={self._hosts}", image)
        self.ctr("run", "--detach", "--net-host", f"--runc-binary={self._runc}", image, MODEL)
        try:
            yield
        finally:
            self.ctr("tasks", "delete", "--force", MODEL)
            self.ctr("containers", "delete", MODEL)


def convert(model: TrainedModel, folder: Path) -> None:
    """Convert the digits on this machine, as a CI would."""
    flags = [
        SAVED_MODEL(str(model.folder.parent / "model" / "1")),
        OUT(str(folder)),
        CALIBRATION(str(model.folder)),
    ]
    command = [sys.executable, "-m", CONVERT_PROGRAM, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERT_LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def edge_image(images: Images, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Put a converted model on top of the server's image, as docs say, and return its name by digest."""
    arguments = ["images", "edge", images.server, str(folder), "--tag=edge", f"--model-name={MODEL}"]
    assert main([*arguments, "--plain-http"]) == 0
    return capsys.readouterr().out.strip()


def serves(address: str) -> bool:
    """Whether a server's model can be called."""
    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=ANSWER_LIMIT)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_an_edge_image_answers_azures_client(
    cluster_lab: Lab,
    images: Images,
    tensorflow_model: TrainedModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    convert(tensorflow_model, tmp_path / "artifact")
    image = edge_image(images, tmp_path / "artifact", capsys)
    address = cluster_lab.node(NODE).address
    scored = tensorflow_model.images[CALIBRATED : CALIBRATED + SCORED]
    calls = [
        {"score_file": {"path": str(tensorflow_model.folder / one.name), "outputs": "classes"}}
        for one in scored
    ]
    with Containerd(cluster_lab).running(image):
        # The port is open before the device is programmed.
        until("the server on the edge machine", lambda: serves(f"{address}:{PORT_EDGE}"), READY_LIMIT)
        answers = azure(*calls, address=address, port=PORT_EDGE)
    right = sum(answer == one.label for answer, one in zip(answers, scored, strict=True))
    assert right >= ACCURACY * SCORED, answers
