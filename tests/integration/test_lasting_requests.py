"""Requests that fail for long: a proxy between the operator and the API server refuses or holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from support import kubelet as states
from support import whole
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet
from support.ledger import LastingFault, lasts
from support.models import model_deployment
from support.operator import OperatorProcess
from support.reverse_proxy import ReverseProxy, Rule, reverse_proxy
from support.wait import until

Sampled = Callable[[int, int, str], None]
Broken = Callable[..., AbstractContextManager[tuple[LastingFault, Rule]]]
REQUEST_SECONDS = "3"
"""How long the operator waits for an answer."""
FEW_TRIES, TRIES = 2, 8
"""Requests that fail before the fault ends; the pauses between them grow."""
TRIES_WITHIN = 180.0
HEALED_WITHIN = 90.0
"""Seconds: the longest pause before what failed is tried again, and what a reconcile takes."""
VOLUME = 'MountVolume.SetUp failed for volume "ca" : configmap "later" not found'
MOST_DEVICES = {"profile": "nvidia-gpu", "count": 64}
"""More than half of what the node has."""


@pytest.fixture(scope="module")
def proxy(operator_identity: Path) -> Iterator[ReverseProxy]:
    with reverse_proxy(operator_identity) as proxy:
        yield proxy


@pytest.fixture(scope="module", autouse=True)
def operator(proxy: ReverseProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator behind the proxy, for all tests of this module."""
    folder = tmp_path_factory.mktemp("operator")
    kubeconfig = proxy.kubeconfig(folder / "kubeconfig")
    process = OperatorProcess(kubeconfig, folder, SERVAL_REQUEST_TIMEOUT_SECONDS=REQUEST_SECONDS)
    try:
        yield process.start()
        assert process.stop() == 0
    finally:
        process.kill()
    assert "Traceback" not in process.log.read_text(), process.log.read_text()[-4000:]


@pytest.fixture
def broken(proxy: ReverseProxy, sampled: Sampled) -> Broken:
    """Lets requests fail until the operator has sent some; parameters as of `Rule`."""
    tries = whole.amount(FEW_TRIES, TRIES)
    sampled(tries, TRIES, "tries")

    @contextmanager
    def make(method: str, part: str, code: int = 0) -> Iterator[tuple[LastingFault, Rule]]:
        rule = proxy.rule(method, part, code)
        fault = LastingFault()
        try:
            yield fault, rule
            until(f"{tries} tries", lambda: rule.count >= tries, TRIES_WITHIN)
        finally:
            proxy.rules.remove(rule)
        fault.end()

    return make


def placed(kubelet: Kubelet, name: str) -> Object:
    """The first pod of a ModelDeployment that has a node."""
    return until(
        "a pod on a node",
        lambda: next((one for one in kubelet.pods(name) if one["spec"].get("nodeName")), None),
    )


def edit(cluster: Cluster, namespace: str, name: str, replicas: int) -> int:
    """Ask for other replicas, and wait until the Deployment has them; the new generation."""
    edited = cluster.patch("ModelDeployment", namespace, name, {"spec": {"replicas": replicas}})
    cluster.until(
        "the edit in the Deployment",
        "Deployment",
        namespace,
        name,
        lambda one: one["spec"]["replicas"] == replicas,
    )
    return int(edited["metadata"]["generation"])


def warn(cluster: Cluster, pod: Object, reason: str, message: str) -> None:
    """Make an event about a pod as the kubelet does."""
    meta = pod["metadata"]
    about = {"kind": "Pod", "apiVersion": "v1", **{key: meta[key] for key in ("name", "namespace", "uid")}}
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "firstTimestamp": states.now(),
            "lastTimestamp": states.now(),
            "source": {"component": "kubelet"},
        }
    )


@lasts("events cannot be read (403), and only they tell what holds up a pod")
def test_events_that_cannot_be_read_silence_nothing_else(
    cluster: Cluster, namespace: str, kubelet: Kubelet, broken: Broken
) -> None:
    with broken("GET", "/events?", 403) as (fault, rule):
        cluster.create(model_deployment("silent", namespace))
        pod = placed(kubelet, "silent")
        kubelet.write(pod, states.starting())
        warn(cluster, pod, "FailedMount", VOLUME)
        until("a look at the events", rule.came.is_set)
        found = cluster.until_condition(namespace, "silent", "ModelFetched", "Unknown", "Progressing")
        fault.told_by(found)
        generation = edit(cluster, namespace, "silent", 2)
        cluster.until_condition(namespace, "silent", "Ready", "False", "Progressing")
    found = cluster.until_condition(namespace, "silent", "Ready", "False", "VolumeFailed", HEALED_WITHIN)
    fault.overcome()
    assert VOLUME in condition(found, "Ready")["message"]
    assert found["status"]["observedGeneration"] == generation


@lasts("the list of all pods with devices times out, while a pod waits for one")
def test_a_list_that_times_out_leaves_the_words_of_the_scheduler(
    cluster: Cluster, namespace: str, kubelet: Kubelet, broken: Broken
) -> None:
    cluster.create(model_deployment("first", namespace, accelerator=MOST_DEVICES))
    kubelet.write(placed(kubelet, "first"), states.ready())
    cluster.until_condition(namespace, "first", "Ready", "True", "Serving")
    with broken("GET", "/api/v1/pods?fieldSelector=") as (fault, rule):
        cluster.create(model_deployment("second", namespace, accelerator=MOST_DEVICES))
        found = cluster.until_condition(namespace, "second", "Ready", "False", "Unschedulable")
        fault.told_by(found)
        until("a list that timed out", rule.closed.is_set)
        edit(cluster, namespace, "second", 2)
        edit(cluster, namespace, "second", 1)
    found = cluster.until_condition(namespace, "second", "Ready", "False", "AcceleratorBusy", HEALED_WITHIN)
    fault.overcome()
    assert f"held by {namespace}/first" in condition(found, "Ready")["message"]


@lasts("the API server refuses each write of a status (403)")
def test_a_status_that_is_refused_does_not_keep_the_edit_away(
    cluster: Cluster, namespace: str, kubelet: Kubelet, broken: Broken
) -> None:
    cluster.create(model_deployment("refused", namespace))
    kubelet.write(placed(kubelet, "refused"), states.ready())
    cluster.until_condition(namespace, "refused", "Ready", "True", "Serving")
    with broken("PATCH", "/modeldeployments/refused/status", 403) as (fault, _):
        generation = edit(cluster, namespace, "refused", 2)
        fields = "reason=StatusRefused,involvedObject.name=refused"
        (event,) = until("an Event", lambda: cluster.list("Event", namespace, fields=fields))
        fault.told("Event `StatusRefused`", event["message"])
        stale = cluster.get("ModelDeployment", namespace, "refused")
        assert stale is not None
        assert stale["status"]["observedGeneration"] < generation
    cluster.until_condition(namespace, "refused", "Ready", "False", "Progressing", HEALED_WITHIN)
    fault.overcome()
