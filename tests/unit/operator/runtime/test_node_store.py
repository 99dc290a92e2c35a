from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.resources import NODES
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.node_store import SWEEP_SECONDS, NodeStore, Sweep
from support.clock import FakeClock
from support.watched import OWNERS


def node(name: str = "gpu-0", version: int = 1, gpus: int = 2, heartbeat: str = "10:00:00") -> dict[str, Any]:
    resources = {"cpu": "8", "nvidia.com/gpu": str(gpus)}
    time = f"2026-01-02T{heartbeat}Z"
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": time}
    return {
        "metadata": {"name": name, "resourceVersion": str(version), "labels": {"pool": "gpu"}},
        "status": {"allocatable": resources, "capacity": resources, "conditions": [ready]},
    }


@pytest.fixture
def news() -> list[str]:
    return []


@pytest.fixture
def store(news: list[str]) -> NodeStore:
    return NodeStore(lambda: news.append("changed"))


def test_a_new_node_and_one_that_offers_something_else_are_news(store: NodeStore, news: list[str]) -> None:
    assert store.observe("ADDED", node(version=1)) == ()
    assert len(news) == 1
    store.observe("MODIFIED", node(version=2, gpus=1))
    assert len(news) == 2
    store.observe("DELETED", node(version=3))
    assert len(news) == 3
    assert store.views() == ()


def test_a_heartbeat_is_no_news(store: NodeStore, news: list[str]) -> None:
    store.observe("ADDED", node(version=1))
    news.clear()
    store.observe("MODIFIED", node(version=2, heartbeat="10:05:00"))
    store.replace([store.parse(node(version=2))], "5")
    assert news == []
    assert len(store.views()) == 1


def test_an_older_event_is_no_news(store: NodeStore, news: list[str]) -> None:
    store.observe("ADDED", node(version=9))
    news.clear()
    store.observe("MODIFIED", node(version=8, gpus=7))
    assert news == []


def test_a_listing_that_lacks_a_node_is_news(store: NodeStore, news: list[str]) -> None:
    store.observe("ADDED", node("gpu-0", 1))
    store.observe("ADDED", node("gpu-1", 2))
    news.clear()
    assert store.replace([store.parse(node("gpu-1", 2))], "5") == set()
    assert len(news) == 1
    assert [view.name for view in store.views()] == ["gpu-1"]


def test_nodes_in_the_cache() -> None:
    cache = Cache(OWNERS)
    assert cache.nodes() == ()
    cache.store(NODES).observe("ADDED", node())
    assert [view.name for view in cache.nodes()] == ["gpu-0"]
    assert cache.remember(NODES, node(version=2)) is None


async def test_many_changes_are_one_sweep() -> None:
    clock, sweeps = FakeClock(), []
    sweep = Sweep(lambda: sweeps.append(clock.now), clock)
    for _ in range(100):
        sweep.ask()
    assert sweeps == [], "not at once: the next change may follow"
    await clock.advance(SWEEP_SECONDS)
    assert len(sweeps) == 1
    await clock.advance(10 * SWEEP_SECONDS)
    assert len(sweeps) == 1
    sweep.ask()
    await clock.advance(SWEEP_SECONDS)
    assert len(sweeps) == 2


async def test_changes_all_the_time_are_two_sweeps_a_second() -> None:
    clock, sweeps = FakeClock(), []
    sweep = Sweep(lambda: sweeps.append(clock.now), clock)
    start = clock.now
    while clock.now < start + 10:
        sweep.ask()
        await clock.advance(0.01)
    assert 18 <= len(sweeps) <= 20
