"""What pods run on, asked of real servers: each pod has an address of loopback, and a server at its port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest

from serval_contract.metrics import METRICS_PATH
from serval_contract.ports import PORT_HTTP
from serval_serving.server.metrics import Metrics
from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

pytestmark = pytest.mark.usefixtures("operator")

TELLING = {"name": "telling"}
GPU = {"resourceName": "nvidia.com/gpu", "count": 1}
HOSTS = count(1)
"""Each pod has an address of its own, in all tests of this module."""


class Pod:
    """A pod's server.

    Attributes
    ----------
    device:
        What its model runs on.
    asked:
        Paths that it was asked for.
    """

    def __init__(self, device: str) -> None:
        self.ip = f"127.77.0.{next(HOSTS)}"
        self.device = device
        self.asked: list[str] = []

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the metrics that our model server would."""
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pod.asked.append(self.path)
                page = Metrics(lambda: {("m", "1"): pod.device}).page().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer((self.ip, PORT_HTTP), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture
def serve(cluster: Cluster, namespace: str, kubelet: Kubelet) -> Iterator[Callable[..., list[Pod]]]:
    """Makes a ModelDeployment with a pod for each device named, ready at its address."""
    with ExitStack() as stack:

        def make(name: str, *devices: str, **spec: object) -> list[Pod]:
            fields = {"runtime": TELLING, "accelerator": GPU, "replicas": len(devices), **spec}
            cluster.create(model_deployment(name, namespace, **fields))

            def placed() -> list[Object] | None:
                found = [pod for pod in kubelet.pods(name) if pod["spec"].get("nodeName")]
                return found if len(found) == len(devices) else None

            pods = [Pod(device) for device in devices]
            for pod, stored in zip(pods, until(f"the pods of {name}", placed), strict=True):
                stack.enter_context(pod.serving())
                kubelet.write(stored, states.at(pod.ip, states.ready()))
            return pods

        yield make


def test_tells_that_all_run_on_their_devices(cluster: Cluster, namespace: str, serve: Callable) -> None:
    pods = serve("fast", "GPU", "GPU")
    cr = cluster.until_condition(namespace, "fast", "AcceleratorInUse", "True", "Done")
    assert condition(cr, "AcceleratorInUse")["message"] == "2 of 2 pods run the model on GPU"
    cluster.until_condition(namespace, "fast", "Ready", "True", "Serving")
    assert [pod.asked for pod in pods] == [[METRICS_PATH]] * 2


def test_tells_of_one_that_fell_back(cluster: Cluster, namespace: str, serve: Callable) -> None:
    serve("slow", "GPU", "CPU")
    cr = cluster.until_condition(namespace, "slow", "AcceleratorInUse", "False", "EngineOnCpu")
    assert condition(cr, "AcceleratorInUse")["message"].startswith("1 of 2 pods: the model runs on the CPU")
    cluster.until_condition(namespace, "slow", "Ready", "True", "Serving")

    def warned() -> list[Object]:
        events = cluster.list("Event", namespace, fields="involvedObject.name=slow")
        return [one for one in events if one["reason"] == "EngineOnCpu"]

    (event,) = until("the event", warned)
    assert event["type"] == "Warning"


def test_asks_nobody_without_a_device(cluster: Cluster, namespace: str, serve: Callable) -> None:
    (pod,) = serve("plain", "CPU", accelerator={"profile": "cpu"})
    cluster.until_condition(namespace, "plain", "Ready", "True", "Serving")
    # Whoever is asked is asked at once: the next one's answer would come after this one's.
    (other,) = serve("next", "GPU")
    cluster.until_condition(namespace, "next", "AcceleratorInUse", "True")
    assert (pod.asked, other.asked) == ([], [METRICS_PATH])


def test_a_pod_that_does_not_answer_holds_nothing_up(
    cluster: Cluster, namespace: str, kubelet: Kubelet
) -> None:
    cluster.create(model_deployment("deaf", namespace, runtime=TELLING, accelerator=GPU))
    (stored,) = until("its pod", lambda: [one for one in kubelet.pods("deaf") if one["spec"].get("nodeName")])
    kubelet.write(stored, states.at(Pod("GPU").ip, states.ready()))
    cr = cluster.until_condition(namespace, "deaf", "AcceleratorInUse", "Unknown", "DeviceUnknown")
    assert condition(cr, "Ready")["status"] == "True"


def test_a_new_operator_asks_once_and_writes_nothing(
    cluster: Cluster, namespace: str, serve: Callable, operator_factory: Callable[..., OperatorProcess]
) -> None:
    (pod,) = serve("kept", "CPU")
    cluster.until_condition(namespace, "kept", "AcceleratorInUse", "False")
    before = cluster.until_condition(namespace, "kept", "Ready", "True", "Serving")
    second = operator_factory("second").start()
    until("its question", lambda: len(pod.asked) == 2)
    assert second.stop() == 0
    after = cluster.get("ModelDeployment", namespace, "kept")
    assert after == before
