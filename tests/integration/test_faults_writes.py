"""The operator stopped after each single write that it does, in turn; answers lost, refused and late."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import kubelet as states
from support import whole
from support.cluster import Cluster
from support.kubelet import Kubelet
from support.meddler import Fault, Meddler, Request
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

NAME = "watched"
KINDS = ("Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ControllerRevision")
CHANGED = 42
Made = Callable[..., OperatorProcess]
SAMPLE = 5
"""Writes after which the operator is stopped in a run that is not whole."""
LONGEST_STORY = 40
"""Writes that the story may take at most; it takes about half."""


@pytest.fixture
def meddler(operator_identity: Path, tmp_path: Path) -> Iterator[Meddler]:
    with Meddler(operator_identity, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def made(meddler: Meddler, tmp_path: Path) -> Iterator[Made]:
    """Operators that reach the API server through the proxy."""
    processes: list[OperatorProcess] = []

    def make(name: str, **environment: str) -> OperatorProcess:
        processes.append(OperatorProcess(meddler.kubeconfig, tmp_path / name, **environment))
        return processes[-1]

    yield make
    for process in processes:
        process.kill()


def spec(period: int) -> dict[str, Any]:
    return {
        "replicas": 2,
        "probes": {"readiness": {"periodSeconds": period}},
        "resources": {"requests": {"cpu": "1"}},
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    }


def children(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """What the operator made, without what the API server counts and dates."""
    kept: dict[str, Any] = {}
    for kind in KINDS:
        for obj in cluster.list(kind, namespace, selector="app.kubernetes.io/managed-by=serval-operator"):
            body = {key: obj[key] for key in ("spec", "data") if key in obj}
            body.get("spec", {}).pop("clusterIP", None)
            body.get("spec", {}).pop("clusterIPs", None)
            kept[f"{kind}/{obj['metadata']['name']}"] = body
    return kept


def play(cluster: Cluster, kubelet: Kubelet, namespace: str, alive: Callable[[], object]) -> None:
    """The story: created, serving, changed, serving again. ``alive`` brings a dead operator back."""
    cluster.apply(model_deployment(NAME, namespace, **spec(1)))
    until("serving", lambda: alive() and _serves(cluster, kubelet, namespace), limit=90)
    cluster.apply(model_deployment(NAME, namespace, **spec(CHANGED)))
    until("serving anew", lambda: alive() and _serves(cluster, kubelet, namespace), limit=90)


def _serves(cluster: Cluster, kubelet: Kubelet, namespace: str) -> bool:
    for pod in kubelet.pods(NAME):
        if pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending":
            kubelet.write(pod, states.ready())
    for pod in cluster.list("Pod", namespace):
        if pod["metadata"].get("deletionTimestamp"):
            kubelet.remove(pod)
    found = cluster.get("ModelDeployment", namespace, NAME)
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    ready = next((one for one in conditions if one["type"] == "Ready"), {})
    current = found is not None and ready.get("observedGeneration") == found["metadata"]["generation"]
    return current and ready.get("status") == "True"


def end_state(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Children and conditions, free of names that the API server chose."""
    found = cluster.get("ModelDeployment", namespace, NAME)
    assert found is not None
    status = found["status"]
    told = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    # The object's uid, and names that contain a part of it, differ in each round.
    uid = found["metadata"]["uid"]
    made = json.dumps(children(cluster, namespace)).replace(uid, "uid").replace(uid[:8], "uid")
    return {"children": json.loads(made), "told": told, "replicas": status["replicasSummary"]}


def test_stopped_after_each_write_it_always_reaches_the_same_end(
    cluster: Cluster,
    namespace: str,
    meddler: Meddler,
    made: Made,
    record_property: Callable[[str, object], None],
    sampled: Callable[[int, int, str], None],
) -> None:
    kubelet = Kubelet(cluster, namespace)
    operator = made("peace").start()
    play(cluster, kubelet, namespace, lambda: True)
    wanted = end_state(cluster, namespace)
    total = len(_writes(meddler, namespace))
    record_property("writes", total)
    assert 8 <= total <= LONGEST_STORY, [one.path for one in _writes(meddler, namespace)]
    operator.stop()
    _clear(cluster, namespace)
    chosen = whole.sample(range(1, total + 1), SAMPLE)
    sampled(len(chosen), total, f"writes: {chosen}, {whole.SEED_VARIABLE}={whole.seed()}")
    for number in chosen:
        process = made(f"stopped-{number}")
        meddler.writes.clear()
        meddler.after_write = _stop_at(number, meddler, namespace, process)
        process.start(wait=False)
        play(cluster, kubelet, namespace, lambda process=process: _alive(process))  # type: ignore[misc]
        assert end_state(cluster, namespace) == wanted, f"stopped after write {number}"
        meddler.after_write = lambda _: None
        process.stop()
        _clear(cluster, namespace)


def _writes(meddler: Meddler, namespace: str) -> list[Request]:
    """Writes of this test's namespace: what is left of another test's may be at its end beside it."""
    return [one for one in meddler.writes if f"/namespaces/{namespace}/" in one.path]


def _stop_at(
    number: int, meddler: Meddler, namespace: str, process: OperatorProcess
) -> Callable[[Request], None]:
    """Kill the operator once so many writes are stored, before it hears of the last."""

    def check(_: Request) -> None:
        if len(_writes(meddler, namespace)) == number:
            os.kill(process.pid, signal.SIGKILL)

    return check


def _alive(process: OperatorProcess) -> bool:
    if not process.running():
        process.start(wait=False)
    return True


def _clear(cluster: Cluster, namespace: str) -> None:
    """Remove everything, as garbage collection does once the owner is gone."""
    cluster.delete("ModelDeployment", namespace, NAME)
    kubelet = Kubelet(cluster, namespace)

    def gone() -> bool:
        for pod in cluster.list("Pod", namespace):
            kubelet.remove(pod)
        return not children(cluster, namespace) and not cluster.list("Pod", namespace)

    until("everything gone", gone, limit=60)


FAULTS = {
    "conflict": Fault(409, "Conflict"),
    "too-many": Fault(429, "TooManyRequests", {"Retry-After": "1"}),
    "internal": Fault(500, "InternalError"),
    "unavailable": Fault(503, "ServiceUnavailable"),
    "slow": Fault(delay=2.0),
    "answer-lost": Fault(lose=True),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_third_write_goes_wrong_and_nothing_is_lost(
    cluster: Cluster, namespace: str, meddler: Meddler, made: Made, fault: Fault
) -> None:
    seen = [0]

    def rule(request: Request) -> Fault | None:
        if not request.is_write:
            return None
        seen[0] += 1
        return fault if seen[0] % 3 == 1 else None

    meddler.rule = rule
    operator = made("harassed").start()
    play(cluster, Kubelet(cluster, namespace), namespace, lambda: operator.ready() or True)
    assert seen[0] >= 8
    assert operator.stop() == 0
    assert "Traceback" not in operator.log.read_text()


def test_expired_watches_and_refused_lists_leave_no_gap(
    cluster: Cluster, namespace: str, meddler: Meddler, made: Made
) -> None:
    seen = {"watch": 0, "list": 0}

    def rule(request: Request) -> Fault | None:
        if request.method != "GET":
            return None
        kind = "watch" if request.is_watch else "list"
        seen[kind] += 1
        if kind == "watch" and seen[kind] % 2 == 0:
            return Fault(410, "Expired")
        return Fault(429, "TooManyRequests", {"Retry-After": "1"}) if seen[kind] % 4 == 0 else None

    meddler.rule = rule
    operator = made("gapped").start()
    play(cluster, Kubelet(cluster, namespace), namespace, lambda: True)
    assert seen["watch"] >= 4
    assert operator.stop() == 0
