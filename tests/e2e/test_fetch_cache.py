"""The cache on every node, as the chart runs it: replicas on one node download once."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest

from e2e.stand import ARCHIVE, Stand
from serval_lab import Lab
from support.chart import CHART, NAMESPACE, RELEASE
from support.cluster import Cluster

NODE = "gpu-0"
DAEMONS = f"{RELEASE}-fetch-cache"


@pytest.fixture(scope="module")
def cache(installed: Lab, cluster: Cluster) -> Iterator[None]:
    """The chart upgraded with the cache, and back."""
    switch(installed, "true")
    yield
    switch(installed, "false")
    assert cluster.get("DaemonSet", NAMESPACE, DAEMONS) is None


def switch(lab: Lab, enabled: str) -> None:
    lab.helm(
        *("upgrade", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--reuse-values"),
        *(f"--set=fetch.cache.enabled={enabled}", "--wait", "--timeout=180s"),
    )


@pytest.mark.usefixtures("cache")
def test_replicas_of_a_node_download_once(stand: Stand) -> None:
    archive = stand.store.answers[ARCHIVE]
    assert isinstance(archive, bytes)
    model = {**stand.model, "sha256": sha256(archive).hexdigest()}
    stand.create("first", model=model, replicas=2, **stand.on_node(NODE))
    stand.serving("first")
    stand.create("second", model=model, **stand.on_node(NODE))
    stand.serving("second")
    assert stand.store.requests[ARCHIVE] == 1

    stand.create("unpinned", **stand.on_node(NODE))
    stand.serving("unpinned")
    assert stand.store.requests[ARCHIVE] == 2, "without a digest nothing says what the cache should have"


@pytest.mark.usefixtures("cache")
def test_node_without_a_cache_downloads_by_itself(stand: Stand, cluster: Cluster) -> None:
    archive = stand.store.answers[ARCHIVE]
    assert isinstance(archive, bytes)
    nowhere = {"spec": {"template": {"spec": {"nodeSelector": {"none": "such"}}}}}
    cluster.patch("DaemonSet", NAMESPACE, DAEMONS, nowhere)
    cluster.until(
        "the end of the caches",
        "DaemonSet",
        NAMESPACE,
        DAEMONS,
        lambda one: one["status"].get("currentNumberScheduled") == 0,
    )
    model = {**stand.model, "sha256": sha256(archive).hexdigest()}
    stand.create("alone", model=model, **stand.on_node(NODE))
    stand.serving("alone")
    assert stand.store.requests[ARCHIVE] == 1
