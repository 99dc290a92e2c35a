"""A front before a server that lacks what is asked for: it scores, drains in order, and comes and goes."""

from __future__ import annotations

import pytest
from examples.demo.model import TrainedModel
from examples.demo.scoring import by_grpc, by_http

from e2e.stand import LIKE_OFFICIAL, Stand
from e2e.traffic import steady_load
from serval_lab import Lab
from support.cluster import Object, condition
from support.wait import until

SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
RUNTIME = {"name": LIKE_OFFICIAL, "batching": {"maxBatchSize": 64, "timeoutMicros": 1000}}
SCORES = {"rawBytes": "Enabled"}


@pytest.fixture
def fronted(stand: Stand) -> Object:
    """The digits model in TensorFlow behind a front, Ready."""
    stand.create("fronted", runtime=RUNTIME, endpoint=SCORES, resources=SMALL, model=stand.tensorflow())
    return stand.serving("fronted")


def address(stand: Stand) -> str:
    """ClusterIP; the lab routes it from this machine."""
    service = stand.cluster.get("Service", stand.namespace, "fronted")
    assert service is not None
    return str(service["spec"]["clusterIP"])


def rolled(stand: Stand) -> Object:
    """Wait until the newest spec serves, and its pod alone: an old one may get requests to its last."""
    cr = stand.serving("fronted")
    selector = "serval.dev/name=fronted"
    until(
        "the old pod's end", lambda: len(stand.cluster.list("Pod", stand.namespace, selector)) == 1, limit=120
    )
    return cr


def test_adds_what_the_server_lacks(
    stand: Stand, fronted: Object, tensorflow_model: TrainedModel, cluster_lab: Lab
) -> None:
    assert fronted["status"]["endpoints"]["scoring"] == f"http://fronted.{stand.namespace}.svc/score"
    shown = cluster_lab.kubectl("-n", stand.namespace, "get", "pods", "--no-headers").stdout
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("fronted-")]
    assert row[1:3] == ["2/2", "Running"]
    images = tensorflow_model.images[:64]
    assert by_http(f"http://{address(stand)}", images).accuracy(images) >= 0.95
    assert by_grpc(f"{address(stand)}:8500", "fronted", images).accuracy(images) >= 0.95


def test_a_rollout_behind_a_front_loses_no_request(
    stand: Stand, fronted: Object, tensorflow_model: TrainedModel
) -> None:
    with steady_load(stand, "fronted", tensorflow_model) as load:
        load.until_answers(10)
        stand.patch("fronted", podMetadata={"annotations": {"example.com/roll": "1"}})
        rolled(stand)
        load.until_answers(10)
    assert load.failures == [], load.failures[:5]
    assert load.answered > 20


def test_comes_to_a_model_that_serves_and_goes_again(
    stand: Stand, tensorflow_model: TrainedModel, cluster_lab: Lab
) -> None:
    stand.create("fronted", runtime=RUNTIME, resources=SMALL, model=stand.tensorflow())
    before = stand.serving("fronted")
    assert "scoring" not in before["status"]["endpoints"]
    stand.patch("fronted", endpoint=SCORES)
    after = rolled(stand)
    assert after["status"]["revision"] != before["status"]["revision"]
    images = tensorflow_model.images[:8]
    assert by_http(f"http://{address(stand)}", images).accuracy(images) >= 0.5
    stand.patch("fronted", endpoint=None)
    again = rolled(stand)
    assert again["status"]["revision"] == before["status"]["revision"]
    (pod,) = stand.pods("fronted")
    assert [one["name"] for one in pod["spec"]["containers"]] == ["server"]


def test_a_server_behind_that_fails_is_named(stand: Stand) -> None:
    damaged = stand.tensorflow("damaged.tar.gz")
    stand.create("fronted", runtime=RUNTIME, endpoint=SCORES, model=damaged)
    cr = stand.cluster.until_condition(stand.namespace, "fronted", "Ready", "False", "ModelLoadFailed", 120)
    assert "did not become available" in condition(cr, "Ready")["message"]
