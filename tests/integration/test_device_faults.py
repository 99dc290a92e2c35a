"""Devices of no use on a real control plane: what an AcceleratedModel says, and which pod is replaced.

There are no nodes: the tests write what the kubelet would write, and serve what a pod's server would say at
an address of loopback.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest

from serval_contract.devices import EMULATOR
from serval_contract.metrics import (
    ACCELERATOR_GAUGE,
    DEVICE_HEALTHY_GAUGE,
    DEVICE_PROGRAMMED_GAUGE,
    EMULATED_DEVICE,
)
from serval_contract.ports import PORT_HTTP
from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import NODE, Kubelet
from support.wait import until

pytestmark = pytest.mark.usefixtures("operator")

KIND = "AcceleratedModel"
NAME = "eyes"
ARTIFACT = "oci://registry.example/serval/vision/eyes@sha256:" + "a" * 64
RESOURCE = "emulated.serval.dev/u250"
"""The node has two of these."""
LABELS = f'device="{EMULATED_DEVICE}",emulated="true",engine="{EMULATOR}",version="1"'
HELD = "Failed to start server. Error: Unavailable: DeviceHeld: unit fpga-0 is held by net-7c9f"
HOSTS = count(1)
LONG = 60.0
"""Seconds: a device that is of no use for so long is left, if another one is free."""


class Server:
    """The server of a pod.

    Attributes
    ----------
    fault:
        What is wrong with its device; empty while it is healthy.
    """

    def __init__(self) -> None:
        self.ip = f"127.78.0.{next(HOSTS)}"
        self.fault = ""

    def answer(self, path: str) -> str:
        """A page of metrics, or the status of the model."""
        if path == f"/v1/models/{NAME}":
            words = f"the device is unhealthy: {self.fault}" if self.fault else ""
            status = {"error_code": "UNAVAILABLE" if words else "OK", "error_message": words}
            version = {"version": "1", "state": "LOADING" if words else "AVAILABLE", "status": status}
            return json.dumps({"model_version_status": [version]})
        return (
            f'{ACCELERATOR_GAUGE}{{model_name="{NAME}",version="1",device="{EMULATED_DEVICE}"}} 0\n'
            f"{DEVICE_PROGRAMMED_GAUGE}{{{LABELS}}} 1\n"
            f"{DEVICE_HEALTHY_GAUGE}{{{LABELS}}} {int(not self.fault)}\n"
        )

    def listen(self, stack: ExitStack) -> None:
        """Serve until the end of the test."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = server.answer(self.path).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        listening = ThreadingHTTPServer((self.ip, PORT_HTTP), Handler)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(listening.server_close)
        stack.callback(listening.shutdown)


class Stage:
    """One AcceleratedModel, and what is done to its pod."""

    def __init__(self, cluster: Cluster, namespace: str, kubelet: Kubelet, stack: ExitStack) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kubelet = kubelet
        self.stack = stack

    def create(self) -> None:
        """Create it. Its artifact is there."""
        spec = {"artifact": {"uri": ARTIFACT}, "runtime": {"name": "telling"}}
        metadata = {"name": NAME, "namespace": self.namespace}
        body = {"apiVersion": "serval.dev/v1alpha1", "kind": KIND, "metadata": metadata, "spec": spec}
        self.cluster.create(body)

    def pod(self, besides: Object | None = None) -> Object:
        """Its pod, once it has a node; another one than this."""
        uid = besides["metadata"]["uid"] if besides else ""

        def placed() -> Object | None:
            pods = self.kubelet.pods(NAME, KIND)
            found = (pod for pod in pods if pod["spec"].get("nodeName") and pod["metadata"]["uid"] != uid)
            return next(found, None)

        return until("a pod on a node", placed)

    def serve(self, pod: Object) -> Server:
        """The pod's model answers."""
        server = Server()
        server.listen(self.stack)
        self.kubelet.write(pod, states.at(server.ip, states.ready()))
        return server

    def break_down(self, pod: Object, server: Server, fault: str, *, since: float = 0.0) -> None:
        """The pod's device is unhealthy, since so many seconds before now."""
        server.fault = fault
        self.kubelet.write(pod, _since(since, states.at(server.ip, states.stopped_answering())))

    def until(self, kind: str, reason: str, *words: str) -> Object:
        """Wait until a condition has this reason and these words."""

        def holds(model: Object) -> bool:
            found = condition(model, kind)
            return found.get("reason") == reason and all(one in found.get("message", "") for one in words)

        return self.cluster.until(f"{kind} {reason} {words}", KIND, self.namespace, NAME, holds)

    def occupy(self) -> Object:
        """A stranger's pod takes the other device."""
        container = {"name": "x", "image": "x", "resources": {"limits": {RESOURCE: "1"}}}
        metadata = {"name": "stranger", "namespace": self.namespace}
        made = self.cluster.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        )
        self.cluster.until(
            "the stranger on a node",
            "Pod",
            self.namespace,
            "stranger",
            lambda pod: bool(pod["spec"].get("nodeName")),
        )
        return made

    def stop(self) -> None:
        """Suspend it, and end all pods."""
        self.cluster.patch(KIND, self.namespace, NAME, {"spec": {"suspend": True}})
        self.until("Ready", "Suspended")

        def ended() -> bool:
            pods = self.cluster.list("Pod", self.namespace)
            for pod in pods:
                self.kubelet.remove(pod)
            return not pods

        until("no pod", ended)

    def events(self, reason: str) -> list[Object]:
        """Events about the model."""
        events = self.cluster.list("Event", self.namespace, fields=f"involvedObject.name={NAME}")
        return [one for one in events if one["reason"] == reason]


def _since(seconds: float, status: Object) -> Object:
    """The same status, that is so for some time already."""
    then = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for one in status["conditions"]:
        one["lastTransitionTime"] = then
    for one in status["containerStatuses"]:
        if "running" in one["state"]:
            one["state"]["running"]["startedAt"] = then
    return status


@pytest.fixture
def stage(cluster: Cluster, namespace: str, kubelet: Kubelet) -> Iterator[Stage]:
    """An AcceleratedModel to be created. After the test it has no pods, and waits for no device."""
    with ExitStack() as stack:
        stage = Stage(cluster, namespace, kubelet, stack)
        yield stage
        stage.stop()


def test_an_unhealthy_device_is_said_with_the_servers_words_and_heals(stage: Stage) -> None:
    stage.create()
    pod = stage.pod()
    server = stage.serve(pod)
    stage.until("Ready", "Serving")
    stage.break_down(pod, server, "too hot")
    named = (f"pod {pod['metadata']['name']} on node {NODE}", "the device is unhealthy: too hot")
    stage.until("Ready", "DeviceUnhealthy", *named)
    model = stage.until("DeviceProgrammed", "DeviceUnhealthy", *named)
    assert condition(model, "Ready")["status"] == condition(model, "DeviceProgrammed")["status"] == "False"
    (event,) = until("the event", lambda: stage.events("DeviceUnhealthy"))
    assert event["type"] == "Warning"
    server.fault = ""
    stage.kubelet.write(pod, states.at(server.ip, states.ready()))
    stage.until("Ready", "Serving")
    stage.until("DeviceProgrammed", "Emulated")
    assert stage.pod()["metadata"]["uid"] == pod["metadata"]["uid"]


def test_the_pod_is_replaced_where_another_device_is_free_and_once_only(stage: Stage) -> None:
    stage.create()
    first = stage.pod()
    server = stage.serve(first)
    stage.until("Ready", "Serving")
    stage.break_down(first, server, "too hot", since=LONG)
    second = stage.pod(besides=first)
    (event,) = until("the event", lambda: stage.events("PodMoved"))
    assert first["metadata"]["name"] in event["message"]
    stage.kubelet.remove(first)
    # The plugin gave a device that is of no use either.
    other = stage.serve(second)
    stage.until("Ready", "Serving")
    stage.break_down(second, other, "it burns", since=LONG)
    model = stage.until("Ready", "DeviceUnhealthy", "it burns", "1 pod was replaced for a device already")
    moves = model["status"]["deviceMoves"]
    assert (moves["count"], moves["pod"], moves["node"]) == (1, first["metadata"]["name"], NODE)
    assert stage.pod()["metadata"]["uid"] == second["metadata"]["uid"]


def test_the_pod_stays_where_no_other_device_is_free(stage: Stage) -> None:
    stage.create()
    pod = stage.pod()
    server = stage.serve(pod)
    stranger = stage.occupy()
    stage.until("Ready", "Serving")
    stage.break_down(pod, server, "too hot", since=LONG)
    stage.until("Ready", "DeviceUnhealthy", "no other device is free")
    assert stage.pod()["metadata"]["uid"] == pod["metadata"]["uid"]
    # A pod's change makes the operator look again.
    stage.kubelet.remove(stranger)
    stage.break_down(pod, server, "too hot", since=2 * LONG)
    stage.pod(besides=pod)


def test_a_plugin_that_shares_a_card_is_named_with_the_cure(stage: Stage) -> None:
    stage.create()
    pod = stage.pod()
    stage.occupy()
    stage.kubelet.write(pod, _since(LONG, states.crashed(255, HELD)))
    named = (f"pod {pod['metadata']['name']} on node {NODE}", "unit fpga-0 is held by net-7c9f")
    cure = ("must give each to one", "no other device is free")
    stage.until("Ready", "DeviceHeld", *named, *cure)
    stage.until("DeviceProgrammed", "DeviceHeld", *named, *cure)
    assert stage.pod()["metadata"]["uid"] == pod["metadata"]["uid"]


def test_it_gets_another_device_when_one_is_free(stage: Stage) -> None:
    stage.create()
    pod = stage.pod()
    stage.kubelet.write(pod, _since(LONG, states.crashed(255, HELD, restarts=12)))
    stage.serve(stage.pod(besides=pod))
    stage.kubelet.remove(pod)
    model = stage.until("Ready", "Serving")
    assert model["status"]["deviceMoves"]["count"] == 1
