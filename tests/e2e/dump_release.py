"""Writes what the operator of a release leaves in a cluster. Run it by name once a release:

SERVAL_RELEASE=0.2.0 .venv/bin/python -m pytest tests/e2e/dump_release.py

`tests/integration/test_releases.py` puts it back under every later operator.
"""

from __future__ import annotations

import os

from e2e.stand import LIKE_OFFICIAL, Stand
from support.chart import NAMESPACE
from support.cluster import condition
from support.release import RELEASES, dump

SMALL = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"memory": "1Gi"}}


def test_what_a_release_leaves(stand: Stand) -> None:
    stand.create("plain", resources=SMALL)
    stand.create("many", replicas=2, resources=SMALL, disruption={"maxUnavailable": 1})
    scaling = {"minReplicas": 1, "maxReplicas": 3, "targetUtilization": 60}
    stand.create("elastic", resources=SMALL, autoscaling=scaling)
    official = {"runtime": {"name": LIKE_OFFICIAL}, "model": stand.tensorflow()}
    stand.create("fronted", resources=SMALL, endpoint={"rawBytes": "Enabled"}, **official)
    stand.create("accelerated", resources=SMALL, accelerator={"profile": "nvidia-gpu"})
    stand.create("suspended", resources=SMALL, suspend=True)
    stand.create("absent", model={**stand.model, "uri": stand.uri("absent.tar.gz")})
    for name in ("plain", "many", "elastic", "fronted", "accelerated"):
        stand.serving(name)
    stand.patch("many", podMetadata={"annotations": {"example.com/roll": "1"}})
    stand.serving("many")
    stand.cluster.until_condition(stand.namespace, "suspended", "Ready", "True", "Suspended")
    stand.failing("absent", "ModelNotFound")
    (configuration,) = (
        one["data"]["config.yaml"]
        for one in stand.cluster.list("ConfigMap", NAMESPACE)
        if "config.yaml" in one["data"]
    )
    release = dump(stand.cluster, stand.namespace, configuration)
    assert all(condition(model, "Ready") for model in release.models)
    release.save(RELEASES / f"release-{os.environ['SERVAL_RELEASE']}")
