"""Where an object stands: its nodes, autoscalers, what is not known, and whose place it takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serval_operator.api.device_holders import PodHold
from serval_operator.api.naming import Key
from serval_operator.api.nodes import NodeView
from serval_operator.api.placement import Placement
from serval_operator.api.rivals import Claim, Priorities, Replacement, Rival, Rivals
from serval_operator.cluster.capacity import Growth, Supply
from serval_operator.turns.standing import PATIENCE, Standing, look, stand
from unit.operator.cluster.capacity_rows import BOARD, node
from unit.operator.turns.queueing import START, moment

pytestmark = pytest.mark.unit

FULL = (PodHold("other", "stranger", "n1", None, {BOARD: 1}),)


def rival(name: str, created: float = 0.0, **facts: Any) -> Rival:
    """An object that wants one pod with a board."""
    asked = {name: facts.pop(name) for name in ("when_busy", "priority_class", "together") if name in facts}
    placement = Placement(BOARD, facts.pop("count", 1), **facts.pop("placement", {"accelerator": BOARD}))
    known = {"uid": name, "generation": 1, "created": moment(created), **facts}
    claim = Claim(placement=placement, wanted=known.pop("wanted", 1), **asked)
    return Rival(key=Key("Model", known.pop("namespace", "ns"), name), claim=claim, **known)


def holds(name: str, created: float = 0.0, *, on: str = "n1", **facts: Any) -> Rival:
    """An object whose only pod has a board."""
    return rival(name, created, made=True, asked=1, placed=1, on_nodes=((f"{name}-0", on),), **facts)


def supply(*nodes: NodeView, holds: tuple[PodHold, ...] | None = (), **facts: Any) -> Supply:
    return Supply(nodes=nodes or (node("n1", 1),), holds=holds, **facts)


def place(
    own: Rival, *others: Rival, at: Supply | None = None, values: dict[str, int] | None = None
) -> Standing | None:
    rivals = Rivals((own, *others), Priorities(values or {}))
    return stand(own, rivals, at or supply(), START + timedelta(minutes=1))


def granted(standing: Standing | None) -> int | None:
    return standing.turn.granted if standing else None


@pytest.mark.parametrize(("seconds", "pods"), [(1, 1), (10, 0)])
def test_the_successor_of_a_pod_that_has_just_ended_keeps_its_place(seconds: int, pods: int) -> None:
    """Those that were listed as holders may have ended since."""
    ended = START + timedelta(minutes=1) - timedelta(seconds=seconds)
    facts: dict[str, Any] = {"made": True, "asked": 1, "homeless": 1, "lacks_device": True}
    own = rival("a", homeless_since=START + timedelta(minutes=1), freed=ended, **facts)
    assert granted(place(own, rival("b", 1), at=supply(holds=FULL))) == pods


class TestKnowledge:
    @pytest.mark.parametrize(
        "at",
        [
            Supply(nodes=None),
            supply(claimable=frozenset({BOARD})),
            supply(holds=None),
            supply(node("n1", None)),
        ],
        ids=["nodes", "claims", "holds", "no node"],
    )
    def test_without_it_there_is_no_order(self, at: Supply) -> None:
        assert place(rival("a"), rival("b"), at=at) is None

    def test_while_the_nodes_are_not_ready_nobody_gets_more_pods(self) -> None:
        """Else the pods of all that wait were made at once, and took the devices in any order later."""
        down = supply(node("n1", 1, ready=False))
        waits = rival("b", 1, made=True, asked=0)
        assert granted(place(waits, holds("a"), at=down)) == 0
        assert granted(place(rival("c", 2), waits, holds("a"), at=down)) == 0
        assert granted(place(holds("a"), waits, at=down)) == 1
        assert place(waits, at=down) is None, "it is alone: its pod may wait for the node"
        grows = {"accelerator": "spot", "scalable": True}
        assert place(rival("b", placement=grows), holds("a"), at=down) is None

    def test_a_count_that_is_late_changes_nothing(self) -> None:
        late = supply(holds=None, late=True)
        assert granted(place(rival("a", made=True, queued=True), at=late)) == 0
        assert place(rival("a", made=True, asked=1, wanted=2), at=late) is None

    def test_a_pod_of_ours_that_was_not_listed_yet_counts(self) -> None:
        assert granted(place(rival("b"), holds("a"))) == 0
        assert granted(place(rival("b"), holds("a", on="n2"))) == 1

    def test_a_pod_of_ours_that_was_listed_counts_once(self) -> None:
        listed = (PodHold("ns", "a-0", "n1", Key("Model", "ns", "a"), {BOARD: 1}),)
        at = supply(node("n1", 2), holds=listed)
        assert granted(place(rival("b"), holds("a"), at=at)) == 1

    def test_priority_is_the_value_of_the_class(self) -> None:
        first = rival("new", 9, priority_class="high")
        assert granted(place(first, rival("old"), values={"high": 1})) == 1
        assert granted(place(first, rival("old"))) == 0


class TestAutoscalers:
    def test_pods_stay_where_the_profile_may_grow(self) -> None:
        grows = {"accelerator": "spot", "scalable": True}
        assert granted(place(rival("a", placement=grows), at=supply(holds=FULL))) == 1

    def test_pods_stay_where_nobody_says_that_nodes_are_fixed(self) -> None:
        grown = supply(holds=FULL, growth=Growth(autoscaled=True))
        assert granted(place(rival("a"), at=grown)) == 1
        assert granted(place(rival("a", placement={"accelerator": "board"}), at=grown)) == 0
        assert granted(place(rival("a"), at=supply(holds=FULL))) == 0


class TestBlocked:
    def test_one_that_cannot_start_blocks_nobody(self) -> None:
        assert granted(place(rival("b", 1), rival("a", blocked=True))) == 1
        assert granted(place(rival("b", 1), rival("a", refused=True))) == 1

    def test_the_one_that_is_planned_anew_is_not_blocked(self) -> None:
        assert granted(place(rival("a", blocked=True), rival("b", 1))) == 1

    def test_one_that_cannot_use_the_device_lets_others_try_after_a_while(self) -> None:
        now = START + timedelta(minutes=1)
        for age, expected in ((PATIENCE, 1), (PATIENCE / 2, 0)):
            stuck = rival("a", made=True, asked=1, homeless=1, homeless_since=now - age)
            assert granted(place(rival("b", 1), stuck)) == expected

    def test_a_device_that_its_own_pod_left_is_its_own_for_a_while(self) -> None:
        now = START + timedelta(minutes=1)
        facts = {"made": True, "asked": 1, "homeless": 1, "homeless_since": START}
        assert granted(place(rival("b", 1), rival("a", **facts, freed=now))) == 0

    def test_words_that_miss_no_device_let_others_try_at_once(self) -> None:
        now = START + timedelta(minutes=1)
        stuck = rival("a", made=True, asked=1, homeless=1, homeless_since=now, lacks_device=False)
        assert granted(place(rival("b", 1), stuck)) == 1


class TestReplace:
    def taken(self, own: Rival, *others: Rival, **more: Any) -> str | None:
        standing = place(own, *others, **more)
        assert standing is not None
        return standing.takes.name if standing.takes else None

    TAKER = rival("taker", 9, when_busy="Replace")
    TWO = supply(node("n1", 2))

    def test_the_newest_goes_and_the_record_names_it(self) -> None:
        standing = place(self.TAKER, holds("old", 1), holds("new", 2), at=self.TWO)
        assert standing is not None
        assert standing.takes == Replacement(
            generation=1, kind="Model", name="new", uid="new", target_generation=1, replicas=1
        )

    def test_the_lowest_priority_goes_before_the_newest(self) -> None:
        others = holds("old", 1, priority_class="low"), holds("new", 2)
        assert self.taken(self.TAKER, *others, at=self.TWO, values={"low": -1}) == "old"

    @pytest.mark.parametrize(
        "other",
        [
            holds("b", namespace="other"),
            holds("b", priority_class="high"),
            rival("b", made=True, asked=1),
        ],
        ids=["namespace", "priority", "without a device"],
    )
    def test_these_are_left_alone(self, other: Rival) -> None:
        assert self.taken(self.TAKER, other, at=supply(holds=FULL), values={"high": 1}) is None

    def test_nobody_goes_for_a_device_that_is_free(self) -> None:
        ahead = rival("ahead", 1)
        assert self.taken(self.TAKER, holds("a"), ahead, at=self.TWO) is None

    def test_it_acts_once_for_a_generation_and_never_back(self) -> None:
        record = Replacement(generation=1, kind="Model", name="x", uid="x", target_generation=1)
        assert self.taken(replace(self.TAKER, record=record), holds("a")) is None
        assert self.taken(replace(self.TAKER, record=record, generation=2), holds("a")) == "a"
        assert self.taken(replace(self.TAKER, was_replaced=True), holds("a")) is None

    def test_nobody_goes_while_priorities_could_not_be_read(self) -> None:
        for known, expected in ((True, "a"), (False, None)):
            rivals = Rivals((self.TAKER, holds("a", priority_class="high")), Priorities(known=known))
            takes = look(rivals, supply(), BOARD, START).takes
            assert (takes["taker"].name if takes else None) == expected

    def test_two_never_take_the_same_one(self) -> None:
        second = rival("zweiter", 10, when_busy="Replace")
        assert self.taken(self.TAKER, second, holds("a")) == "a"
        assert self.taken(second, self.TAKER, holds("a")) is None
        assert self.taken(second, self.TAKER, holds("a"), holds("b", 1), at=self.TWO) == "a"

    def test_what_it_took_is_its_own_and_the_other_one_wants_nothing(self) -> None:
        record = Replacement(generation=1, kind="Model", name="a", uid="a", target_generation=1, replicas=1)
        taker = replace(self.TAKER, record=record)
        assert granted(place(taker, rival("a"), rival("older", 1))) == 1
        assert granted(place(rival("older", 1), taker, rival("a"))) == 0
        assert granted(place(rival("a"), taker)) == 0


def test_many_that_look_at_the_same_queue_compute_it_once_until_something_changes() -> None:
    rivals, now = Rivals((rival("a"), rival("b", 1))), START
    nodes, other = supply(), supply(node("n1", 0), node("n2", 1))
    first = look(rivals, nodes, BOARD, now)
    assert look(rivals, nodes, BOARD, now) is first
    assert look(rivals, replace(nodes, holds=FULL), BOARD, now).turns.granted == {"a": 0, "b": 0}
    assert look(rivals, other, BOARD, now).turns.granted == {"a": 1, "b": 0}
    assert look(rivals, nodes, BOARD, now + timedelta(seconds=1)) is not first
    assert look(Rivals((rival("b", 1),)), nodes, BOARD, now).turns.granted == {"b": 1}


def test_what_was_kept_for_others_does_not_count_for_one_that_is_planned_anew() -> None:
    rivals, now = Rivals((rival("a", blocked=True), rival("b", 1))), START
    assert granted(stand(rivals.rivals[1], rivals, supply(), now)) == 1
    assert granted(stand(rivals.rivals[0], rivals, supply(), now)) == 1
    assert granted(stand(rivals.rivals[1], rivals, supply(), now)) == 1
