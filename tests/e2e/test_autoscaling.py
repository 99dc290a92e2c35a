"""Replicas that follow the load: on the CPU, and on requests in flight; up under load, down without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from examples.demo.model import TrainedModel

from e2e.stand import Stand
from serval_lab import Lab
from serval_serving.client import HttpClient
from support.cluster import Object, condition
from support.wait import until

pytestmark = pytest.mark.timeout(600)

CALLERS = 4
LIMIT = 20.0
RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}


@pytest.fixture(scope="module", autouse=True)
def measured(cluster_lab: Lab) -> Lab:
    """The lab with metrics-server, Prometheus and its adapter."""
    return Lab(cluster_lab.name, metrics=True, prometheus=True).up(print)


@contextmanager
def load(stand: Stand, name: str, model: TrainedModel) -> Iterator[None]:
    """Ask a model from several threads without a pause."""
    service = stand.cluster.get("Service", stand.namespace, name)
    assert service is not None
    over = threading.Event()

    def ask() -> int:
        asked = 0
        with HttpClient(f"http://{service['spec']['clusterIP']}", timeout=LIMIT) as client:
            while not over.is_set():
                client.score(model.images[0].data)
                asked += 1
        return asked

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(ask) for _ in range(CALLERS)]
        try:
            yield
        finally:
            over.set()
    assert all(caller.result() > 0 for caller in callers)


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("CPU", {}),
        # Below one request for each replica, so that the load of the callers is above it.
        ("RequestsInFlight", {"endpoint": {"maxConcurrentRequests": 8}}),
    ],
)
def test_more_replicas_under_load_and_fewer_without(
    stand: Stand, model: TrainedModel, metric: str, more: dict[str, Any]
) -> None:
    metrics = [{"type": metric, "targetUtilization": 10}]
    scaling = {"minReplicas": 1, "maxReplicas": 2, "metrics": metrics}
    stand.create("elastic", resources=RESOURCES, autoscaling=scaling, **more)
    stand.serving("elastic")
    with load(stand, "elastic", model):
        autoscaler(stand, "a metric", lambda status: status.get("currentMetrics"))
        stand.cluster.until(
            "two replicas wanted",
            "ModelDeployment",
            stand.namespace,
            "elastic",
            lambda one: one["spec"]["replicas"] == 2,
            limit=120,
        )
        stand.serving("elastic")
        assert len(stand.pods("elastic")) == 2
    # It would take one away now, and does so after the ten minutes that our budget for changes of mind is.
    autoscaler(stand, "the wish for fewer", lambda _: reason(stand) == "ScaleDownStabilized")
    stand.patch("elastic", autoscaling={**scaling, "maxReplicas": 1})
    stand.cluster.until(
        "one replica wanted",
        "ModelDeployment",
        stand.namespace,
        "elastic",
        lambda one: one["spec"]["replicas"] == 1,
        limit=60,
    )
    stand.serving("elastic")
    until("one pod", lambda: len(stand.pods("elastic")) == 1)


def autoscaler(stand: Stand, what: str, check: Any) -> Object:
    """Wait until the status of the autoscaler holds this."""
    return stand.cluster.until(
        what,
        "HorizontalPodAutoscaler",
        stand.namespace,
        "elastic",
        lambda one: check(one.get("status") or {}),
        limit=120,
    )


def reason(stand: Stand) -> str:
    """Why the autoscaler does not scale, or that it can."""
    found = stand.cluster.get("HorizontalPodAutoscaler", stand.namespace, "elastic")
    assert found is not None
    return str(condition(found, "AbleToScale").get("reason", ""))
