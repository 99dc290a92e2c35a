from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.naming import Key, Place
from serval_operator.api.resources import (
    AUTOSCALERS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    JOBS,
    MODEL_DEPLOYMENTS,
    NODES,
    PODS,
    SERVICES,
)
from serval_operator.constants import LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY
from serval_operator.runtime.cache import CHILDREN, Cache, selector, watched
from serval_operator.runtime.store import Store
from support import gen
from support.clock import FakeClock
from support.watched import OWNERS, WATCHED, pods


def owner(name: str) -> Key:
    return Key("ModelDeployment", "vision", name)


OWNER = owner("resnet")


def pod(
    name: str = "a", version: int | str = 1, owner: str = "resnet", namespace: str = "vision"
) -> dict[str, Any]:
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_KIND: "ModelDeployment", LABEL_NAME: owner}
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "labels": labels,
        }
    }


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> Store[Any]:
    return Cache(OWNERS, clock=clock).store(PODS)


def version(store: Store[Any], name: str = "a") -> str | None:
    view = store.get(("vision", name))
    return view.resource_version if view else None


def listed(store: Store[Any], at: int, *objects: dict[str, Any], namespace: str | None = None) -> set[Any]:
    return store.replace([store.parse(obj) for obj in objects], str(at), namespace)


# --- events ---------------------------------------------------------------------------------------------


def test_an_event_is_kept_and_names_the_owner(store: Store[Any]) -> None:
    assert store.observe("ADDED", pod(version=5)) == (OWNER,)
    assert version(store) == "5"
    assert [view.name for view in store.by_owner(OWNER)] == ["a"]


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED"])
@pytest.mark.parametrize("older", [9, 10])
def test_what_is_not_newer_tells_nothing(store: Store[Any], kind: str | None, older: int) -> None:
    store.observe("ADDED", pod(version=10))
    assert store.observe(kind, pod(version=older)) == ()
    assert version(store) == "10"


def test_versions_compare_as_numbers_not_as_texts(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=99))
    assert store.observe("MODIFIED", pod(version=100)) == (OWNER,)
    assert store.observe("MODIFIED", pod(version=99)) == ()
    assert version(store) == "100"


def test_versions_that_are_no_numbers_count_in_order_of_arrival(store: Store[Any]) -> None:
    assert store.observe("ADDED", pod(version="x7")) == (OWNER,)
    assert store.observe("MODIFIED", pod(version="x6")) == (OWNER,)
    assert version(store) == "x6"
    store.observe("DELETED", pod(version="x8"))
    assert version(store) is None
    assert store.observe("ADDED", pod(version="x9")) == (OWNER,)


def test_a_deletion_names_the_owner_and_removes(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=5))
    assert store.observe("DELETED", pod(version=6)) == (OWNER,)
    assert version(store) is None
    assert store.by_owner(OWNER) == ()
    assert len(store) == 0


def test_the_deletion_of_a_predecessor_does_not_remove_its_successor(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=8))
    assert store.observe("DELETED", pod(version=6)) == ()
    assert version(store) == "8"


def test_what_is_older_than_the_deletion_does_not_come_back(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=5))
    store.observe("DELETED", pod(version=9))
    assert store.observe("MODIFIED", pod(version=8)) == ()
    store.remember(pod(version=8))
    assert listed(store, 8, pod(version=8)) == set()
    assert version(store) is None
    assert store.observe("ADDED", pod(version=10)) == (OWNER,)


def test_deletions_are_forgotten_in_time(store: Store[Any], clock: FakeClock) -> None:
    store.observe("DELETED", pod(version=9))
    clock.now += 1000
    listed(store, 20)
    assert store._tombstones == {}


def test_a_changed_owner_tells_both(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=5))
    assert store.observe("MODIFIED", pod(version=6, owner="vgg")) == (OWNER, owner("vgg"))
    assert store.by_owner(OWNER) == ()
    assert len(store.by_owner(owner("vgg"))) == 1


def test_an_object_without_owner_is_kept_and_tells_nobody(store: Store[Any]) -> None:
    stray = pod(version=5)
    del stray["metadata"]["labels"][LABEL_NAME]
    assert store.observe("ADDED", stray) == ()
    assert version(store) == "5"


# --- what our own writes returned -----------------------------------------------------------------------


def test_the_echo_of_our_own_write_tells_nothing(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=5))
    assert store.remember(pod(version=6)).resource_version == "6"
    assert version(store) == "6"
    assert store.observe("MODIFIED", pod(version=6)) == ()
    assert store._echoes == {}


def test_a_change_by_somebody_else_just_before_our_write_is_told(store: Store[Any]) -> None:
    """Our write's answer at 7 holds what was changed at 6, but nobody has looked for that."""
    store.observe("ADDED", pod(version=5))
    store.remember(pod(version=7))
    assert store.observe("MODIFIED", pod(version=6)) == (OWNER,)
    assert version(store) == "7"
    assert store.observe("MODIFIED", pod(version=7)) == ()


def test_a_listing_of_the_watcher_may_hide_such_a_change(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=5))
    store.remember(pod(version=7))
    assert store.observe(None, pod(version=7)) == (OWNER,)
    assert store.observe(None, pod(version=7)) == ()


def test_two_writes_have_two_echoes(store: Store[Any]) -> None:
    store.remember(pod(version=6))
    store.remember(pod(version=8))
    assert store.observe("ADDED", pod(version=6)) == ()
    assert store.observe("MODIFIED", pod(version=7)) == (OWNER,)
    assert store.observe("MODIFIED", pod(version=8)) == ()
    assert store._echoes == {}


def test_an_answer_that_comes_after_newer_events_changes_nothing(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=9))
    assert store.remember(pod(version=8)).resource_version == "8"
    assert version(store) == "9"
    assert store.observe("MODIFIED", pod(version=10)) == (OWNER,)


def test_an_object_that_the_watch_does_not_report_is_not_kept(store: Store[Any]) -> None:
    stranger = pod(version=5)
    stranger["metadata"]["labels"] = {}
    assert store.remember(stranger).uid == "uid-a"
    assert version(store) is None


def test_models_need_no_label() -> None:
    cache = Cache(OWNERS)
    model = {"metadata": {"namespace": "vision", "name": "resnet", "uid": "u", "resourceVersion": "3"}}
    cache.remember(MODEL_DEPLOYMENTS, model)
    found = cache.owner(OWNER)
    assert found is not None
    assert found.owner == OWNER


# --- listings -------------------------------------------------------------------------------------------


def test_a_listing_brings_drops_and_tells_what_differs(store: Store[Any]) -> None:
    store.observe("ADDED", pod("gone", 3, "one"))
    store.observe("ADDED", pod("same", 4, "two"))
    store.observe("ADDED", pod("old", 5, "three"))
    changed = listed(store, 20, pod("same", 4, "two"), pod("old", 15, "three"), pod("new", 16, "four"))
    assert changed == {owner("one"), owner("three"), owner("four")}
    assert {one.name for one in store.owners()} == {"two", "three", "four"}
    assert [version(store, name) for name in ("gone", "same", "old", "new")] == [None, "4", "15", "16"]


def test_what_changed_since_the_listing_stays(store: Store[Any]) -> None:
    store.observe("ADDED", pod("created-since", 30))
    store.observe("ADDED", pod("changed-since", 31))
    assert listed(store, 20, pod("changed-since", 7)) == set()
    assert version(store, "created-since") == "30"
    assert version(store, "changed-since") == "31"


def test_what_was_deleted_since_the_listing_stays_away(store: Store[Any]) -> None:
    store.observe("ADDED", pod(version=7))
    store.observe("DELETED", pod(version=25))
    assert listed(store, 20, pod(version=7)) == set()
    assert version(store) is None


def test_what_a_listing_lacked_does_not_come_back_by_what_is_older(store: Store[Any]) -> None:
    listed(store, 20)
    store.remember(pod(version=19))
    assert store.observe("MODIFIED", pod(version=20)) == ()
    assert version(store) is None
    assert store.observe("ADDED", pod(version=21)) == (OWNER,)
    listed(store, 30, namespace="speech")
    assert store.observe("ADDED", pod("b", version=29)) == (OWNER,)


def test_a_listing_of_one_namespace_leaves_the_others_alone(store: Store[Any]) -> None:
    store.observe("ADDED", pod("a", 3))
    store.observe("ADDED", pod("b", 4, namespace="speech"))
    assert listed(store, 20, namespace="vision") == {OWNER}
    assert store.owners() == (Key("ModelDeployment", "speech", "resnet"),)


def test_a_cluster_put_back_to_an_older_state_is_believed(store: Store[Any]) -> None:
    listed(store, 1000, pod("a", 900), pod("b", 950))
    store.observe("DELETED", pod("c", 990))
    changed = listed(store, 500, pod("a", 400), pod("c", 450))
    assert changed == {OWNER}
    assert version(store, "a") == "400"
    assert version(store, "b") is None
    assert version(store, "c") == "450"
    assert store.observe("MODIFIED", pod("a", 501)) == (OWNER,)


# --- the cache of all kinds -----------------------------------------------------------------------------


def test_the_cache_answers_by_owner() -> None:
    cache = Cache(OWNERS)
    reference = gen.owner_reference("resnet", "u")
    child = pod("resnet")
    child["metadata"]["ownerReferences"] = [reference]
    for kind in (DEPLOYMENTS, SERVICES, AUTOSCALERS, DISRUPTION_BUDGETS):
        assert cache.store(kind).observe("ADDED", child) == (OWNER,)
    revision = pod("resnet-1")
    revision["metadata"]["ownerReferences"] = [reference]
    assert cache.store(CONTROLLER_REVISIONS).observe("ADDED", revision) == (OWNER,)
    cache.store(PODS).observe("ADDED", pod())
    for found in (
        cache.named(DEPLOYMENTS, OWNER),
        cache.named(AUTOSCALERS, OWNER),
        cache.named(DISRUPTION_BUDGETS, OWNER),
    ):
        assert found is not None
        assert found.owner_uid == "u"
    assert [service.name for service in cache.owned(SERVICES, OWNER)] == ["resnet"]
    assert [one.name for one in cache.owned(CONTROLLER_REVISIONS, OWNER)] == ["resnet-1"]
    assert [one.name for one in pods(cache, OWNER)] == ["a"]
    assert cache.owner(OWNER) is None


def test_children_are_watched_by_our_label_only() -> None:
    assert {kind for kind in WATCHED if not selector(kind)} == {MODEL_DEPLOYMENTS, NODES}
    assert {selector(kind) for kind in WATCHED} == {"", "app.kubernetes.io/managed-by=serval-operator"}


def test_nodes_are_watched_where_that_is_allowed() -> None:
    assert set(watched(OWNERS, [PODS], nodes=True)) - set(watched(OWNERS, [PODS], nodes=False)) == {NODES}


def test_kinds_of_children_that_no_kind_owns_are_not_watched() -> None:
    assert set(CHILDREN) - set(WATCHED) == {JOBS}


def test_finished_custom_resources_are_left_out_of_resyncs() -> None:
    cache = Cache(OWNERS, finished={MODEL_DEPLOYMENTS: lambda obj: obj["status"].get("done") is True})
    for name, status in (("runs", {}), ("done", {"done": True})):
        meta = {"namespace": "vision", "name": name, "uid": name, "resourceVersion": "3"}
        cache.remember(MODEL_DEPLOYMENTS, {"metadata": meta, "status": status})
    assert {key.name for key in cache.owners()} == {"runs", "done"}
    assert [key.name for key in cache.unfinished()] == ["runs"]


# --- devices ------------------------------------------------------------------


def test_a_pod_has_let_go_once_it_ended_or_its_deletion_was_reported() -> None:
    cache, place = Cache(OWNERS), Place("vision", "a")
    pods = cache.store(PODS)
    assert not cache.has_let_go(place), "what was never seen may be somebody else's"
    pods.observe("ADDED", pod(version=1))
    assert not cache.has_let_go(place)
    pods.observe("MODIFIED", {**pod(version=2), "status": {"phase": "Failed"}})
    assert cache.has_let_go(place)
    pods.observe("DELETED", pod(version=3))
    assert cache.has_let_go(place)


def test_objects_with_an_accelerator_are_told_from_others() -> None:
    cache = Cache(OWNERS)
    for name, asked in (("gpu", {"profile": "nvidia-gpu"}), ("plain", None)):
        cache.store(MODEL_DEPLOYMENTS).observe("ADDED", gen.model(name, accelerator=asked))
    asking = [name for name in ("gpu", "plain", "none") if cache.asks_for_devices(owner(name))]
    assert asking == ["gpu"]
