"""What the user reads, row by row: all conditions and counts for each situation of a ModelDeployment."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.conditions import Blocked, Condition
from serval_operator.reasons import STALLING_REASONS
from serval_operator.workload.readiness import WAIT_ROOM, Expected, Readiness, assess
from support import gen
from unit.operator.workload.observing import observed
from unit.operator.workload.readiness_rows import (
    CRASHES,
    MISMATCH,
    NOWHERE,
    OLD,
    READY,
    REFUSED,
    ROWS,
    Row,
    pods,
    refused_then,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
class TestRows:
    def test_conditions(self, row: Row) -> None:
        conditions = row.assess().conditions
        assert {one.type: (one.status, one.reason, one.message) for one in conditions} == row.told
        assert len(conditions) == len(row.told)

    def test_counts(self, row: Row) -> None:
        readiness = row.assess()
        assert (readiness.replicas, readiness.ready_replicas, readiness.updated_replicas) == row.counts

    def test_kstatus(self, row: Row) -> None:
        """Exactly one of Reconciling and Stalled unless Ready; neither when it is."""
        readiness = row.assess()
        kinds = {one.type for one in readiness.conditions} & {"Reconciling", "Stalled"}
        if readiness.ready.status == "True":
            assert not kinds
        else:
            assert kinds == {"Stalled" if readiness.ready.reason in STALLING_REASONS else "Reconciling"}

    def test_ready_comes_first(self, row: Row) -> None:
        assert row.assess().ready.type == "Ready"


class TestStability:
    STATES = (
        gen.placed(), NOWHERE, gen.unschedulable("0/3 nodes: taint"), gen.starting(), gen.fetch_running(),
        MISMATCH, gen.fetched(), gen.loading(), CRASHES, gen.server_crashed(2, "bang"), READY, REFUSED,
        gen.server(gen.waiting("ErrImagePull", gen.NOT_FOUND)),
    )  # fmt: skip

    @given(st.data())
    def test_which_pod_is_in_which_state_does_not_matter(self, data: st.DataObject) -> None:
        """Pods come and go with new names; as long as the same things are wrong, the status stays."""
        states = data.draw(st.lists(st.sampled_from(self.STATES), min_size=1, max_size=5))
        other = data.draw(st.permutations(states))
        wanted = data.draw(st.integers(1, 6))

        def judged(order: Sequence[gen.Option], first: int) -> Readiness:
            made = [gen.pod(f"digits-{first + place}", state) for place, state in enumerate(order)]
            return assess(
                observed(*made), Expected(wanted=wanted, revision=gen.REVISION, suspended=False, blocked=None)
            )

        one, two = judged(states, 1), judged(other, 100)
        assert one.conditions == two.conditions
        assert (one.replicas, one.ready_replicas, one.updated_replicas) == (
            two.replicas,
            two.ready_replicas,
            two.updated_replicas,
        )

    @given(st.permutations(range(4)))
    def test_the_order_of_the_list_does_not_matter(self, order: Sequence[int]) -> None:
        made = [*pods(READY), *pods(CRASHES, count=2, first=2), *pods(REFUSED, first=4)]
        expected = Row("", made, {}, wanted=4).assess()
        assert Row("", [made[place] for place in order], {}, wanted=4).assess() == expected


class TestPaused:
    """A user paused the Deployment: nothing is rolled out, and no apply of ours takes that back."""

    TOLD = (
        "Deployment/digits is paused, so nothing is rolled out; resume it: `kubectl -n vision rollout resume "
        "deployment/digits`"
    )

    @staticmethod
    def paused(obj: gen.Object) -> None:
        obj["spec"]["paused"] = True

    def ready(self, *made: gen.Object) -> tuple[str, str, str]:
        seen = observed(*made, deployment=gen.deployment(self.paused))
        found = assess(seen, Expected(wanted=1, revision=gen.REVISION, suspended=False, blocked=None)).ready
        return found.status, found.reason, found.message

    def test_is_named_while_new_pods_are_missing(self) -> None:
        assert self.ready(*pods(READY, revision=OLD)) == (
            "False",
            "RolloutPaused",
            f"1 of 1 pods: {self.TOLD}",
        )

    def test_is_named_while_old_pods_are_left(self) -> None:
        told = f"replacing 1 pod of older revisions: {self.TOLD}"
        assert self.ready(*pods(READY), *pods(READY, revision=OLD)) == ("False", "RolloutPaused", told)

    def test_is_not_named_where_nothing_is_to_be_rolled_out(self) -> None:
        assert self.ready(*pods(READY))[1] == "Serving"
        assert self.ready(*pods(CRASHES))[1] == "CrashLoop"


class TestRefusals:
    def test_the_newest_is_told(self) -> None:
        """Names say nothing about age."""
        made = [
            gen.pod("digits-1", gen.refused("OutOfnvidia.com/gpu", "new"), created=20),
            gen.pod("digits-2", gen.refused("Another", "old"), created=10),
        ]
        told = "1 of 1 pods: OutOfnvidia.com/gpu: Pod was rejected: new"
        assert Row("", made, {}).assess().ready.message == told


class TestFailure:
    """What `status.lastFailure` will say."""

    def test_none(self) -> None:
        assert Row("", pods(READY), {}).assess().failure is None

    def test_a_state_without_a_time_is_none(self) -> None:
        assert Row("", pods(NOWHERE), {}).assess().failure is None

    def test_the_newest(self) -> None:
        early = gen.server(gen.back_off("server"), last=gen.ended(1, "boom", finished=10))
        late = gen.server(gen.back_off("server"), last=gen.ended(2, "bang", finished=20))
        failure = Row("", [*pods(early), *pods(late, first=2), *pods(REFUSED, first=3)], {}).assess().failure
        assert failure is not None
        assert (failure.pod, failure.exit_code, failure.when) == ("digits-0-2", 2, gen.moment(20))

    def test_a_refusal(self) -> None:
        failure = Row("", refused_then(READY), {}).assess().failure
        assert failure is not None
        assert (failure.reason, failure.when) == ("DeviceAllocationFailed", gen.moment())


class TestInPlace:
    """A successor that has no place yet, while a pod of the old revision still runs that will be stopped."""

    def told(self, *, in_place: bool, wanted: int) -> tuple[str, str]:
        seen = observed(*pods(READY, revision=OLD), *pods(NOWHERE))
        ready = assess(
            seen,
            Expected(wanted=wanted, revision=gen.REVISION, suspended=False, blocked=None, in_place=in_place),
        ).ready
        return (ready.status, ready.reason)

    def test_waits(self) -> None:
        assert self.told(in_place=True, wanted=1) == ("False", "Progressing")

    def test_says_what_for_rather_than_that_it_has_no_device_yet(self) -> None:
        seen = observed(*pods(READY, revision=OLD), *pods(NOWHERE))
        device = Condition("AcceleratorAvailable", "Unknown", "Progressing", "0 of 1 pods have 1 GPU each")
        ready = assess(
            seen,
            Expected(
                wanted=1,
                revision=gen.REVISION,
                suspended=False,
                blocked=None,
                in_place=True,
                accelerator=device,
            ),
        ).ready
        assert ready.reason == "Progressing"
        assert WAIT_ROOM in ready.message

    def test_fails_where_no_pod_is_too_many(self) -> None:
        assert self.told(in_place=True, wanted=2) == ("False", "Unschedulable")

    def test_fails_where_it_should_start_beside_the_old_one(self) -> None:
        assert self.told(in_place=False, wanted=1) == ("False", "Unschedulable")


class TestInUse:
    """Whether the device is really used is said beside everything else."""

    FALLEN = Condition("AcceleratorInUse", "False", "EngineOnCpu", "1 of 1 pods: on the CPU")

    def assessed(self, *, wanted: int = 1, blocked: Blocked | None = None) -> Readiness:
        return assess(
            observed(*pods(READY)),
            Expected(
                wanted=wanted, revision=gen.REVISION, suspended=False, blocked=blocked, in_use=self.FALLEN
            ),
        )

    def test_takes_ready_from_nobody(self) -> None:
        readiness = self.assessed()
        assert (readiness.ready.status, readiness.ready.reason) == ("True", "Serving")
        assert readiness.in_use == self.FALLEN
        assert {one.type for one in readiness.conditions} & {"Reconciling", "Stalled"} == set()

    def test_is_not_said_of_what_is_blocked_or_stopped(self) -> None:
        assert self.assessed(blocked=Blocked("ResourceConflict", "x")).in_use is None
        assert self.assessed(wanted=0).in_use is None
