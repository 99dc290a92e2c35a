"""The rollout's tables: which revision, how many pods, in which way, and when a revision has failed."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pytest

from serval_operator.api.conditions import Blocked
from serval_operator.api.snapshots import RevisionView, parse_pod_warning
from serval_operator.cluster.room import Room
from serval_operator.pods.observation import Observed
from serval_operator.pods.refused_pod_backoff import Damping
from serval_operator.workload.rollout import (
    RESTARTS,
    SURGE_PATIENCE,
    Heading,
    Needs,
    Rollout,
    failed_now,
    heading,
    plan_rollout,
)
from support import gen
from unit.operator.workload.rolling import NEW, NO_DEVICE, OLD, record, workload
from unit.operator.workload.seeing import seeing

pytestmark = pytest.mark.unit

OLDER = "0000000000"
NO_CPU = "0/3 nodes are available: 3 Insufficient cpu."
READY_OLD = gen.pod("old", gen.ready(), revision=OLD)
READY_NEW = gen.pod("new", gen.ready(), revision=NEW)


def waiting(words: str = NO_DEVICE) -> gen.Object:
    return gen.pod("new", gen.unschedulable(words), revision=NEW)


def plan(
    seen: Observed,
    *,
    fits: int | None = None,
    known: bool = False,
    nodes: AbstractSet[str] | None = None,
    coming: bool = False,
    damping: Damping | None = None,
    refused: Blocked | None = None,
    **asked: Any,
) -> Rollout:
    return plan_rollout(
        seen,
        workload(**asked),
        head=heading(seen, workload(**asked)),
        room=Room(fits, nodes, coming) if known or fits is not None else None,
        damping=damping or Damping(),
        refused=refused,
        allowed=workload(**asked).wanted,
    )


class TestHeading:
    FAILED = record(NEW, 2, failed="ModelNotFound")
    SERVED = record(OLD, 1, served=True)

    @pytest.mark.parametrize(
        ("on_failure", "records", "serving", "revision"),
        [
            ("Revert", [], "", NEW),
            ("Revert", [SERVED], OLD, NEW),
            ("Revert", [record(NEW, 2), SERVED], OLD, NEW),
            ("Revert", [FAILED, SERVED], OLD, OLD),
            ("Revert", [FAILED, SERVED], "", OLD),
            ("Revert", [FAILED, record(OLD, 1)], OLD, OLD),
            ("Revert", [FAILED, record(OLD, 1)], "", NEW),
            ("Revert", [FAILED], OLD, NEW),
            ("Revert", [FAILED, record(OLD, 1, failed="CrashLoop", served=True)], OLD, NEW),
            ("Revert", [FAILED, SERVED, record(OLDER, 0, served=True)], OLDER, OLDER),
            ("Revert", [FAILED, SERVED, record(OLDER, 0, served=True)], "", OLD),
            # It serves after all, so it did not fail, whatever was written down.
            ("Revert", [FAILED, SERVED], NEW, NEW),
            ("Hold", [FAILED, SERVED], OLD, NEW),
        ],
    )
    def test_table(
        self, on_failure: str, records: Sequence[RevisionView], serving: str, revision: str
    ) -> None:
        seen = seeing(READY_OLD, carried=OLD, serving=serving, records=records)
        found = heading(seen, workload(on_failure=on_failure))
        assert found.revision == revision
        assert (found.blocked is not None) is (revision != NEW)

    def test_keeps_the_reason(self) -> None:
        seen = seeing(serving=OLD, records=[self.FAILED, self.SERVED])
        found = heading(seen, workload(on_failure="Revert"))
        text = (
            f"revision {NEW} failed and revision {OLD} serves again; to try again, change the spec or give "
            "`spec.rollout.trigger` a new value: its message"
        )
        assert found == Heading(OLD, Blocked("ModelNotFound", text, final=True))
        rollout = plan(
            seeing(READY_OLD, carried=NEW, serving=OLD, records=[self.FAILED, self.SERVED]),
            on_failure="Revert",
            fits=1,
            known=True,
        )
        assert (rollout.revision, rollout.blocked) == (OLD, found.blocked)


class TestStrategy:
    @pytest.mark.parametrize("asked", ["Surge", "InPlace"])
    @pytest.mark.parametrize("surge", [True, False])
    @pytest.mark.parametrize("devices", [True, False])
    def test_what_is_asked_for_is_done(self, asked: str, *, surge: bool, devices: bool) -> None:
        seen = seeing(READY_OLD, carried=OLD, surge=surge)
        rollout = plan(seen, asked=asked, devices=devices)
        assert (rollout.strategy, rollout.needs) == (asked, Needs())

    def test_without_devices_there_is_always_room(self) -> None:
        assert plan(seeing(), devices=False).strategy == "Surge"
        assert plan(seeing(READY_OLD, carried=OLD), devices=False).strategy == "Surge"

    def test_the_first_pod_has_no_predecessor(self) -> None:
        assert plan(seeing()).strategy == "InPlace"
        assert plan(seeing()).needs == Needs()

    @pytest.mark.parametrize(
        ("pods", "carried", "surge", "free", "strategy"),
        [
            # A rollout starts: free devices decide.
            ([READY_OLD], OLD, False, 1, "Surge"),
            ([READY_OLD], OLD, True, 1, "Surge"),
            ([READY_OLD], OLD, False, 0, "InPlace"),
            ([READY_OLD], OLD, True, 0, "InPlace"),
            ([READY_OLD], OLD, True, None, "Surge"),
            # It goes on: nothing is asked, nothing changes.
            ([READY_OLD, gen.pod("new", revision=NEW)], NEW, True, "not asked", "Surge"),
            ([READY_OLD, gen.pod("new", revision=NEW)], NEW, False, "not asked", "InPlace"),
            ([READY_OLD, READY_NEW], NEW, True, "not asked", "Surge"),
            ([READY_NEW], NEW, True, "not asked", "Surge"),
            ([READY_NEW], NEW, False, "not asked", "InPlace"),
            # Nothing else serves: there is nobody to surge beside, or to stop.
            ([], OLD, True, "not asked", "Surge"),
            ([gen.pod("old", gen.refused(), revision=OLD)], OLD, False, "not asked", "InPlace"),
            ([gen.pod("old", gen.ready(), gen.stopped(), revision=OLD)], OLD, False, "not asked", "InPlace"),
            ([gen.pod("old", gen.ready(), gen.deleting, revision=OLD)], OLD, True, "not asked", "Surge"),
            # The surge pod finds no device.
            ([READY_OLD, waiting()], NEW, True, 0, "InPlace"),
            ([READY_OLD, waiting()], NEW, True, 1, "Surge"),
            ([READY_OLD, waiting()], NEW, True, None, "InPlace"),
            ([READY_OLD, waiting()], NEW, False, "not asked", "InPlace"),
            # It waits for something else, and not for long yet.
            ([READY_OLD, waiting(NO_CPU)], NEW, True, "not asked", "Surge"),
            ([READY_OLD, waiting("0/1 nodes are available: 1 node(s) had untolerated taint")], NEW, True,
             "not asked", "Surge"),
        ],
    )  # fmt: skip
    def test_auto(
        self, pods: list[gen.Object], carried: str, surge: bool, free: int | str | None, strategy: str
    ) -> None:
        seen = seeing(*pods, carried=carried, surge=surge, now=20)
        first = plan(seen)
        assert first.needs == Needs(capacity=free != "not asked")
        if free != "not asked":
            assert not isinstance(free, str)
            asked = plan(seen, fits=free, known=True)
            assert (asked.strategy, asked.needs) == (strategy, Needs())
        else:
            assert first.strategy == strategy
            for fits in (0, 1, None):
                assert plan(seen, fits=fits, known=True).strategy == strategy

    def test_a_known_number_is_not_asked_for_again(self) -> None:
        seen = seeing(READY_OLD, carried=OLD)
        assert plan(seen, fits=0).needs == Needs()
        assert plan(seen, fits=2).needs == Needs()

    def test_a_device_that_comes_free_is_waited_for(self) -> None:
        seen = seeing(READY_OLD, waiting(), carried=NEW, surge=True, making_room=True)
        assert (plan(seen).strategy, plan(seen).needs) == ("Surge", Needs())

    @pytest.mark.parametrize(
        ("nodes", "strategy"),
        [(None, "InPlace"), ({"gpu-0"}, "InPlace"), ({"gpu-1"}, "Surge"), ((), "Surge")],
    )
    @pytest.mark.parametrize("carried", [OLD, NEW])
    def test_no_pod_is_stopped_for_a_place_that_its_successor_could_not_have(
        self, carried: str, nodes: Sequence[str] | None, strategy: str
    ) -> None:
        """The old pod stands on gpu-0, which may be cordoned, lost or selected no more."""
        seen = seeing(READY_OLD, waiting(), carried=carried, surge=True, now=20)
        usable = None if nodes is None else frozenset(nodes)
        assert plan(seen, fits=0, nodes=usable).strategy == strategy

    def test_an_old_pod_without_a_place_costs_nothing(self) -> None:
        old = gen.pod("old", gen.unschedulable(NO_DEVICE), revision=OLD)
        assert plan(seeing(old, carried=OLD), fits=0, nodes=frozenset()).strategy == "InPlace"

    @pytest.mark.parametrize(
        "trouble",
        [
            gen.placed(),
            gen.starting(),
            gen.fetch_running(),
            gen.fetch_failed(1, gen.fetch_failure("ModelNotFound", "x")),
            gen.fetch(gen.waiting("ImagePullBackOff", "x")),
            gen.loading(),
            gen.server_crashed(1, "x"),
            gen.refused(),
        ],
        ids=["placed", "starting", "fetching", "fetch", "image", "loading", "load", "refused"],
    )
    def test_never_flips_for_a_trouble_of_the_pod(self, trouble: gen.Option) -> None:
        seen = seeing(READY_OLD, gen.pod("new", trouble, revision=NEW), carried=NEW, surge=True)
        assert (plan(seen).strategy, plan(seen).needs) == ("Surge", Needs())
        assert plan(seen, fits=0, known=True).strategy == "Surge"


NO_MEMORY = "0/2 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s)."
TAINTED = "0/2 nodes are available: 2 node(s) had untolerated taint(s)."


class TestStuck:
    """A new pod beside the old ones stays without a place."""

    LONG = SURGE_PATIENCE.total_seconds()

    def seen(self, words: str = NO_MEMORY, *, now: float = LONG, **more: Any) -> Observed:
        return seeing(READY_OLD, waiting(words), carried=NEW, surge=True, now=now, **more)

    @pytest.mark.parametrize("devices", [True, False])
    @pytest.mark.parametrize("fits", [0, 1, None])
    def test_takes_the_place_of_an_old_one(self, fits: int | None, *, devices: bool) -> None:
        seen = self.seen()
        assert plan(seen, devices=devices).needs == Needs(capacity=True)
        found = plan(seen, devices=devices, fits=fits, known=True)
        assert (found.strategy, found.needs) == ("InPlace", Needs())

    @pytest.mark.parametrize("devices", [True, False])
    def test_but_not_at_once(self, *, devices: bool) -> None:
        found = plan(self.seen(now=self.LONG - 12), devices=devices)
        assert (found.strategy, found.needs, found.again) == ("Surge", Needs(), 12.0)

    def test_and_a_clock_that_was_moved_back_makes_no_longer_wait(self) -> None:
        assert plan(self.seen(now=-5000)).again == self.LONG

    def test_the_earlier_wish_wins(self) -> None:
        seen = self.seen(now=self.LONG - 12)
        assert plan(seen, damping=Damping(again=5.0)).again == 5.0
        assert plan(seen, damping=Damping(again=50.0)).again == 12.0

    @pytest.mark.parametrize("words", [TAINTED, "", "words of tomorrow"])
    @pytest.mark.parametrize("devices", [True, False])
    def test_what_no_leaving_cures_stops_no_pod(self, words: str, *, devices: bool) -> None:
        seen = self.seen(words, now=100_000)
        found = plan(seen, devices=devices)
        assert (found.strategy, found.needs, found.again) == ("Surge", Needs(), None)
        assert plan(seen, devices=devices, fits=0, known=True).strategy == "Surge"

    @pytest.mark.parametrize("devices", [True, False])
    def test_where_an_autoscaler_adds_a_node_it_is_waited_for(self, *, devices: bool) -> None:
        assert plan(self.seen(), devices=devices, known=True, coming=True).strategy == "Surge"

    @pytest.mark.parametrize("devices", [True, False])
    def test_where_the_old_pod_stands_on_a_node_that_takes_none_nothing_is_stopped(
        self, *, devices: bool
    ) -> None:
        assert plan(self.seen(), devices=devices, known=True, nodes=frozenset()).strategy == "Surge"

    def test_a_place_that_comes_free_is_waited_for(self) -> None:
        found = plan(self.seen(making_room=True))
        assert (found.strategy, found.needs) == ("Surge", Needs())

    def test_not_where_no_old_pod_is_left(self) -> None:
        seen = seeing(waiting(NO_MEMORY), carried=NEW, surge=True, now=100)
        assert (plan(seen).needs, plan(seen).again) == (Needs(), None)

    def test_not_where_surge_is_asked_for(self) -> None:
        found = plan(self.seen(now=self.LONG - 12), asked="Surge")
        assert (found.strategy, found.again) == ("Surge", None)

    def test_without_devices_it_goes_on_in_place_and_surges_the_next_time(self) -> None:
        goes_on = seeing(READY_OLD, waiting(NO_MEMORY), carried=NEW, surge=False, now=100)
        assert plan(goes_on, devices=False).strategy == "InPlace"
        assert plan(seeing(READY_NEW, carried=NEW), devices=False).strategy == "Surge"
        assert plan(seeing(READY_OLD, carried=OLD), devices=False).strategy == "Surge"


class TestAttached:
    """The new pod is on another node than the old one, and their volume can only be on one."""

    ERROR = 'Multi-Attach error for volume "pvc-1" Volume is already '

    @pytest.mark.parametrize("devices", [True, False])
    @pytest.mark.parametrize(
        ("words", "strategy"),
        [
            (ERROR + "used by pod(s) old", "InPlace"),
            (ERROR + "used by pod(s) old, older", "Surge"),
            (ERROR + "used by pod(s) stranger", "Surge"),
            (ERROR + "used by pod(s) new", "Surge"),
            (ERROR + "exclusively attached to one node and can't be attached to another", "Surge"),
            ("rpc error: no such volume", "Surge"),
        ],
    )
    def test_one_old_pod_gives_it_up(self, words: str, strategy: str, *, devices: bool) -> None:
        event = parse_pod_warning(gen.warning("FailedAttachVolume", words, of="new"))
        new = gen.pod("new", gen.starting("gpu-1"), revision=NEW)
        seen = seeing(READY_OLD, new, carried=NEW, surge=True, warnings={"uid-new": (event,)})
        found = plan(seen, devices=devices)
        assert (found.strategy, found.needs) == (strategy, Needs())


class TestNumber:
    def test_is_what_the_spec_wants(self) -> None:
        assert plan(seeing(READY_OLD, carried=OLD), wanted=4, fits=0).replicas == 4
        assert plan(seeing(), wanted=0).replicas == 0

    @pytest.mark.parametrize(("run", "wanted", "replicas"), [(0, 3, 0), (2, 3, 2), (3, 3, 3), (5, 3, 3)])
    def test_damping_takes_some_of_them(self, run: int, wanted: int, replicas: int) -> None:
        rollout = plan(seeing(READY_NEW, carried=NEW), wanted=wanted, damping=Damping(run=run))
        assert rollout.replicas == replicas

    def test_what_is_refused_altogether_is_not_made(self) -> None:
        why = Blocked("NoNodeOffersResource", "words")
        rollout = plan(seeing(), wanted=3, refused=why, damping=Damping(run=2, again=7.0))
        assert (rollout.replicas, rollout.blocked, rollout.needs) == (0, why, Needs())


class TestDamped:
    CAUSE = Blocked("DeviceAllocationFailed", "words")

    def test_is_told_and_tried_again(self) -> None:
        rollout = plan(
            seeing(READY_NEW, carried=NEW), wanted=2, damping=Damping(run=1, again=30.0, cause=self.CAUSE)
        )
        assert (rollout.blocked, rollout.again) == (self.CAUSE, 30.0)

    def test_carries_the_revision_that_serves_instead(self) -> None:
        seen = seeing(READY_OLD, carried=NEW, records=[record(OLD), record(NEW, 2)])
        rollout = plan(seen, wanted=2, damping=Damping(run=1, instead=OLD, beside=True))
        assert (rollout.revision, rollout.replicas, rollout.strategy) == (OLD, 1, "Surge")

    def test_whose_template_must_be_kept(self) -> None:
        seen = seeing(READY_OLD, carried=NEW, records=[record(NEW, 2)])
        rollout = plan(seen, wanted=2, damping=Damping(run=1, instead=OLD, cause=self.CAUSE))
        assert (rollout.revision, rollout.replicas, rollout.blocked) == (NEW, 2, self.CAUSE)

    def test_a_pod_beside_the_old_ones_needs_no_count_of_devices(self) -> None:
        seen = seeing(READY_OLD, carried=OLD)
        rollout = plan(seen, wanted=2, damping=Damping(run=1, beside=True))
        assert (rollout.strategy, rollout.needs) == ("Surge", Needs())

    def test_tells_more_than_that_a_revision_failed(self) -> None:
        records = [record(OLD, 1, served=True), record(NEW, 2, failed="CrashLoop")]
        seen = seeing(READY_OLD, carried=OLD, serving=OLD, records=records)
        rollout = plan(seen, on_failure="Revert", damping=Damping(cause=self.CAUSE))
        assert rollout.blocked == self.CAUSE


def kept(
    *options: gen.Option,
    now: float = 60.0,
    serving: str = OLD,
    records: Sequence[RevisionView] = (),
    **asked: Any,
) -> Blocked | None:
    """What is said of a new pod in a state, beside an old one that serves."""
    known = records or [record(OLD, 1), record(NEW, 2)]
    pod = gen.pod("new", *options, revision=NEW)
    seen = seeing(READY_OLD, pod, carried=NEW, serving=serving, records=known, now=now)
    return failed_now(seen, workload(on_failure=asked.pop("on_failure", "Revert"), **asked))


def restarted(option: gen.Option, times: int) -> gen.Option:
    """The state, after so many starts of its containers beyond the first."""

    def change(obj: gen.Object) -> None:
        option(obj)
        for field in ("initContainerStatuses", "containerStatuses"):
            for one in obj["status"].get(field, ()):
                one["restartCount"] = times

    return change


PERMANENT = gen.fetch_failed(1, gen.fetch_failure("ModelNotFound", "nothing is there"))
PASSING = gen.fetch_failed(1, gen.fetch_failure("ModelSourceUnavailable", "no answer", permanent=False))
MISMATCH = gen.fetch_failed(1, gen.fetch_failure("ModelDigestMismatch", "other files", permanent=False))
CRASHED = gen.server_crashed(1, "boom")
KILLED = gen.server_crashed(137, reason="OOMKilled")
FRONT = (
    gen.server(gen.running(12), answered=True, ready=True),
    gen.front(gen.back_off("front"), last=gen.ended(2)),
)
PULL = gen.fetch(gen.waiting("ImagePullBackOff", "no such image"))


def front_crashed(obj: gen.Object) -> None:
    """The front before a server that is well ended."""
    for option in FRONT:
        option(obj)


class TestFailed:
    @pytest.mark.parametrize(
        ("option", "reason"),
        [
            (gen.ready(), ""),
            (gen.unschedulable(NO_DEVICE), ""),
            (gen.placed(), ""),
            (gen.loading(), ""),
            (PERMANENT, "ModelNotFound"),
            (MISMATCH, "ModelDigestMismatch"),
            (PASSING, ""),
            (restarted(PASSING, 99), ""),
            (PULL, ""),
            (restarted(CRASHED, RESTARTS - 1), ""),
            (restarted(CRASHED, RESTARTS), "CrashLoop"),
            (restarted(front_crashed, RESTARTS - 1), ""),
            (restarted(front_crashed, RESTARTS), "CrashLoop"),
            (restarted(KILLED, RESTARTS - 1), ""),
            (restarted(KILLED, RESTARTS), "OutOfMemory"),
            (
                restarted(gen.server_crashed(1, "did not become available"), RESTARTS),
                "ModelLoadFailed",
            ),
        ],
    )
    def test_at_once(self, option: gen.Option, reason: str) -> None:
        found = kept(option)
        assert (found.reason if found else "") == reason

    @pytest.mark.parametrize(
        ("option", "reason"),
        [
            (gen.placed(after=10), "StartDeadlineExceeded"),
            (gen.loading(), "StartDeadlineExceeded"),
            (PASSING, "ModelSourceUnavailable"),
            (PULL, "ImagePullFailed"),
            (CRASHED, "CrashLoop"),
        ],
    )
    def test_after_the_deadline(self, option: gen.Option, reason: str) -> None:
        options = (gen.placed(after=10), option)
        assert kept(*options, now=69.0, deadline_seconds=60) is None
        found = kept(*options, now=70.0, deadline_seconds=60)
        assert found is not None
        assert found.reason == reason

    def test_the_deadline_is_told(self) -> None:
        found = kept(gen.placed(after=10), gen.loading(), now=70, deadline_seconds=60)
        text = "loading the model, for more than 60 s since a node took the pod"
        assert found == Blocked("StartDeadlineExceeded", text)

    @pytest.mark.parametrize(
        "options",
        [
            (gen.unschedulable(NO_DEVICE),),
            (gen.ready(), gen.node_lost),
            (gen.ready(), gen.unready),
            (gen.refused(),),
        ],
        ids=["no place", "node lost", "wavers", "refused"],
    )
    def test_never_for_what_another_revision_would_meet_too(self, options: tuple[gen.Option, ...]) -> None:
        assert kept(*options, now=10_000_000, deadline_seconds=60) is None

    def test_not_where_nobody_would_go_back(self) -> None:
        assert kept(PERMANENT, on_failure="Hold") is None

    def test_not_what_served_once(self) -> None:
        assert kept(PERMANENT, serving=NEW) is None
        assert kept(PERMANENT, records=[record(OLD), record(NEW, 2, served=True)]) is None

    def test_not_twice(self) -> None:
        assert kept(PERMANENT, records=[record(OLD), record(NEW, 2, failed="ModelNotFound")]) is None

    def test_pods_of_other_revisions_say_nothing(self) -> None:
        seen = seeing(gen.pod("old", PERMANENT, revision=OLD), READY_NEW, carried=NEW)
        assert failed_now(seen, workload(on_failure="Revert")) is None

    def test_the_earliest_step_of_several_pods_is_named(self) -> None:
        pods = [
            gen.pod("a", restarted(CRASHED, RESTARTS), revision=NEW),
            gen.pod("b", PERMANENT, revision=NEW),
            gen.pod("c", gen.loading(), revision=NEW),
        ]
        for order in (pods, pods[::-1]):
            found = failed_now(seeing(*order, carried=NEW), workload(on_failure="Revert", wanted=3))
            assert found == Blocked("ModelNotFound", "nothing is there")
