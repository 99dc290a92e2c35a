"""Whatever the order in which events, listings and answers arrive: in the end the store is the cluster."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serval_operator.api.naming import Key
from serval_operator.api.resources import PODS
from serval_operator.api.snapshots import PodView, parse_pod
from serval_operator.constants import LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.store import Store
from support.watched import OWNERS

NAMES = st.sampled_from(["a", "b"])


OWNER = Key("ModelDeployment", "vision", "resnet")


class Deliveries(RuleBasedStateMachine):
    """A cluster with two names; what it tells is delivered late, one source beside the other.

    The watch delivers in order and loses nothing, except where a gap makes the watcher list anew. Listings
    and answers to writes are snapshots that arrive at any later time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = Cache(OWNERS).store(PODS)
        self.version = 10
        self.cluster: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str | None, dict[str, Any]]] = []
        self.answers: list[dict[str, Any]] = []
        self.listing: tuple[list[dict[str, Any]], int] | None = None
        self.dirty: set[Key] = set()
        self.foreign = 0

    @initialize()
    def start(self) -> None:
        self.store.replace([], str(self.version))

    def _written(self, name: str) -> dict[str, Any]:
        self.version += 1
        obj = {
            "metadata": {
                "namespace": "n",
                "name": name,
                "uid": name,
                "resourceVersion": str(self.version),
                "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_KIND: "ModelDeployment", LABEL_NAME: name},
            }
        }
        self.events.append(("MODIFIED" if name in self.cluster else "ADDED", obj))
        self.cluster[name] = obj
        return obj

    @rule(name=NAMES)
    def somebody_writes(self, name: str) -> None:
        self._written(name)
        self.foreign = self.version
        # From now on the owner has to be told, whatever else happens.
        self.dirty.add(Key("ModelDeployment", "n", name))

    @rule(name=NAMES)
    def we_write(self, name: str) -> None:
        self.answers.append(self._written(name))

    @rule(name=NAMES)
    def deleted(self, name: str) -> None:
        if name in self.cluster:
            self.version += 1
            last = self.cluster.pop(name)
            gone = {"metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
            self.events.append(("DELETED", gone))
            # What was written to an object that is gone needs no look any more.
            self.dirty.discard(Key("ModelDeployment", "n", name))

    @precondition(lambda self: self.events)
    @rule()
    def event_arrives(self) -> None:
        self.dirty.difference_update(self.store.observe(*self.events.pop(0)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_arrives(self, data: Any) -> None:
        self.store.remember(self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1))))

    @precondition(lambda self: self.listing is None)
    @rule()
    def listing_is_read(self) -> None:
        self.listing = (list(self.cluster.values()), self.version)

    @precondition(lambda self: self.listing is not None)
    @rule()
    def listing_arrives(self) -> None:
        assert self.listing is not None
        items, version = self.listing
        self.listing = None
        self.dirty -= self.store.replace([self.store.parse(item) for item in items], str(version))

    @rule()
    def watch_has_a_gap(self) -> None:
        """The watcher lists anew: what it had not delivered is replaced by what is there now."""
        self.events = [(None, obj) for obj in self.cluster.values()]
        # A gap asks for a listing of ours; one that was read before is of no use for that.
        self.listing = (list(self.cluster.values()), self.version)

    @invariant()
    def nothing_but_the_newest_in_the_end(self) -> None:
        if self.events or self.answers or self.listing:
            return
        views = [view for owner in self.store.owners() for view in self.store.by_owner(owner)]
        held = {view.name: view.resource_version for view in views}
        assert held == {name: obj["metadata"]["resourceVersion"] for name, obj in self.cluster.items()}

    @invariant()
    def every_owner_was_told(self) -> None:
        if self.events or self.listing:
            return
        assert self.dirty == set()


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=600, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_events_in_any_order_leave_the_highest(versions: list[int]) -> None:
    store = Cache(OWNERS).store(PODS)
    for version in versions:
        store.observe(
            "MODIFIED", {"metadata": {"namespace": "n", "name": "a", "resourceVersion": str(version)}}
        )
    view = store.get(("n", "a"))
    assert view is not None
    assert view.resource_version == str(max(versions))


class TestOlderStateRestored:
    """What a listing shows after the cluster was put back to an older state."""

    def store(self) -> Store[PodView]:
        """Pods `kept` and `changed` at 5 and 9, `gone` deleted at 8, and `new` made at 7."""
        store: Store[PodView] = Store(parse_pod)
        store.replace([self.pod("kept", 5), self.pod("changed", 4), self.pod("gone", 3)], "6")
        store.observe("ADDED", self.raw("new", 7))
        store.observe("DELETED", self.raw("gone", 8))
        store.observe("MODIFIED", self.raw("changed", 9))
        return store

    def raw(self, name: str, version: int) -> dict[str, Any]:
        labels = {"serval.dev/kind": "ModelDeployment", "serval.dev/name": "resnet"}
        meta = {"namespace": "vision", "name": name, "resourceVersion": str(version), "labels": labels}
        return {"metadata": meta}

    def pod(self, name: str, version: int) -> PodView:
        return parse_pod(self.raw(name, version))

    @pytest.mark.parametrize("listed_at", [7, 9, 50])
    def test_is_taken_whole_however_far_the_data_have_come_again(self, listed_at: int) -> None:
        store = self.store()
        before = store.newest
        assert before == 9
        older = [self.pod("kept", 5), self.pod("changed", 4), self.pod("gone", 3)]
        changed = store.replace(older, str(listed_at), before=before)
        versions = {one.name: one.resource_version for one in store.by_owner(OWNER)}
        assert versions == {"kept": "5", "changed": "4", "gone": "3"}
        assert changed == {OWNER}
        assert store.newest >= listed_at

    def test_events_of_the_new_time_count(self) -> None:
        store = self.store()
        store.replace([self.pod("changed", 4)], "7", before=store.newest)
        assert store.observe("MODIFIED", self.raw("changed", 8))
        assert store.get(("vision", "changed")) == self.pod("changed", 8)

    def test_an_event_that_overtakes_a_listing_is_no_restored_past(self) -> None:
        store = self.store()
        before = store.newest
        store.observe("MODIFIED", self.raw("kept", 12))
        store.replace([self.pod("kept", 5), self.pod("changed", 9), self.pod("new", 7)], "10", before=before)
        assert store.get(("vision", "kept")) == self.pod("kept", 12)
        assert store.get(("vision", "gone")) is None
